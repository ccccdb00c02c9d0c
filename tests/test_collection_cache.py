"""Batches are the same whether objects are decoded, kept or mapped; files are never half there."""

import errno
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import common.data.collection as collection_reader
from common.config import validate
from common.data.collection import CollectionFolders, ObjectEntry, read_views
from common.data.collection_cache import (
    ALIGNMENT,
    cached,
    fingerprint,
    views_from_arrays,
    views_to_arrays,
)
from common.data.views import SparseDepth, Views
from dvr.config import DVRConfig
from dvr.data import MAPPED_BYTES, Objects, StepBatches
from dvr.model import Batch
from tests.make_collection import write_tiny_collection
from tests.make_run import PICTURES, merged, run_script, tiny_settings, write_settings

ARRAYS = {
    "whole": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "flags": np.array([[True, False, True]]),
    "none": np.zeros((0, 3), dtype=np.float32),
    "bytes": np.arange(7, dtype=np.uint8),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six spheres from five sides, with smaller pictures for the encoder and a few known points."""
    root = write_tiny_collection(
        tmp_path_factory.mktemp("data") / "spheres", 3, 5, 16, ("chair", "lamp")
    )
    rng = np.random.default_rng(0)
    for folder in root.glob("*/sphere_*"):
        (folder / "img_choy2016").mkdir()
        for number, file in enumerate(sorted((folder / "image").iterdir())):
            small = Image.open(file).resize((12, 10))
            small.save(folder / "img_choy2016" / f"{number:02d}.png")
        visible = {f"visibility_{view:04d}": rng.random(9) < 0.7 for view in range(5)}
        np.savez(folder / "pcl.npz", points=rng.uniform(-0.3, 0.3, (9, 3)), **visible)
    return root


def configuration(path: Path, **changes) -> DVRConfig:
    base = merged(tiny_settings(path, Path("nowhere")), {"training": {"objects": 3}})
    return validate(DVRConfig, merged(base, changes), "test")


def batches(path: Path, settings: dict, **data) -> StepBatches:
    config = configuration(path, **merged(settings, {"data": data}))
    return StepBatches(Objects(config, "train"), config, 0, 1)


def equal(first: Batch, second: Batch) -> bool:
    """Bit for bit."""
    if (first.image is None) != (second.image is None):
        return False
    if first.image is not None and not torch.equal(first.image, second.image):
        return False
    return torch.equal(first.index, second.index) and all(
        torch.equal(value, vars(second.supervision)[name])
        for name, value in vars(first.supervision).items()
    )


SETTINGS = {
    "codes": {},
    "one view, depth": {"losses": {"depth": 1}, "supervision": {"views": 1}},
    "sparse points": {"losses": {"sparse_depth": 1}, "supervision": {"sparse_points": 4}},
    "pictures": merged(PICTURES, {"data": {"mirror": "x", "colour_jitter": 0.5}}),
    "the views' own pictures": merged(PICTURES, {"data": {"input": {"folder": "image"}}}),
    "chosen views": merged(
        PICTURES,
        {"data": {"views": [4, 0, 3], "ignore_views": [0], "input": {"views": [2, 1, 1, 0, 4]}}},
    ),
    "smaller": {"data": {"image_size": 9}, "supervision": {"patch": 2}},
    "hull": {
        "losses": {"hull": 1},
        "supervision": {"hull_points": 20, "occupancy_points": "hull", "views": 5},
    },
}


class TestBatches:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_they_are_the_same_wherever_they_come_from(self, data, tmp_path, name) -> None:
        folder = str(tmp_path / "decoded")
        whole = batches(data, SETTINGS[name])
        drawn = batches(data, SETTINGS[name], cache_gb=0)
        making = batches(data, SETTINGS[name], cache_dir=folder)
        made = batches(data, SETTINGS[name], cache_dir=folder)
        for step in range(4):  # two epochs
            expected = whole[step]
            assert equal(drawn[step], expected)
            assert equal(making[step], expected)
            assert equal(made[step], expected)
        assert len(whole.objects._cache) == 6 and len(drawn.objects._cache) == 1
        assert len(list(Path(folder).rglob("*.views"))) == 6

    def test_differences_would_be_seen(self, data) -> None:
        same = batches(data, SETTINGS["pictures"])
        assert not equal(same[0], same[1])
        assert not equal(same[0], batches(data, SETTINGS["codes"])[0])

    def test_where_memory_is_full_only_what_is_drawn_is_decoded(self, data, monkeypatch) -> None:
        read = count_reads(monkeypatch)
        drawn = batches(data, {"supervision": {"views": 2}}, cache_gb=0)
        drawn[0]
        read.clear()
        drawn[1]
        objects = {file.parent.parent for file in read}
        assert 2 <= len(objects) <= 3 and len(read) == 2 * len(objects)

    def test_what_was_decoded_once_is_not_decoded_again(self, data, tmp_path, monkeypatch) -> None:
        settings, folder = SETTINGS["one view, depth"], str(tmp_path / "decoded")
        first = batches(data, settings, cache_dir=folder)
        expected = [first[step] for step in range(2)]
        read = count_reads(monkeypatch)
        again = batches(data, settings, cache_dir=folder)
        assert all(equal(again[step], expected[step]) for step in range(2))
        assert not read

    def test_other_settings_have_their_own_files(self, data, tmp_path) -> None:
        folder = str(tmp_path / "decoded")
        for name in ("codes", "smaller", "codes"):
            batches(data, SETTINGS[name], cache_dir=folder)[0]
            assert equal(
                batches(data, SETTINGS[name], cache_dir=folder)[1],
                batches(data, SETTINGS[name])[1],
            )
        assert len(list(tmp_path.glob("decoded/*"))) == 2

    @pytest.mark.parametrize("part", ["image", "mask", "cameras.npz"])
    def test_changed_sources_are_decoded_anew(self, data, tmp_path, part) -> None:
        copy, folder = shutil.copytree(data, tmp_path / "copy"), str(tmp_path / "decoded")
        before = batches(copy, {}, cache_dir=folder)[0]
        for own in copy.glob("*/sphere_*"):
            change(own / part)
        after = batches(copy, {}, cache_dir=folder)[0]
        assert not equal(after, before)
        assert equal(after, batches(copy, {})[0])
        assert len(list(tmp_path.rglob("*.views"))) == 3  # one for each object: the old are gone

    def test_a_training_says_what_is_wrong_with_its_disk(self, data, tmp_path, monkeypatch) -> None:
        config = write_settings(
            tmp_path / "settings.yaml",
            merged(
                tiny_settings(data, tmp_path / "run"),
                {"data": {"cache_dir": str(tmp_path / "decoded")}},
            ),
        )
        real = os.replace

        def full(source, target):
            if str(target).endswith(".views"):
                raise OSError(errno.ENOSPC, "No space left on device", str(source))
            real(source, target)

        monkeypatch.setattr(os, "replace", full)
        outcome = run_script("train", config)
        assert outcome.code == 2 and "Traceback" not in outcome.err
        assert "no space left for decoded pictures" in outcome.err
        assert "data.cache_dir" in outcome.err
        assert not [path for path in (tmp_path / "decoded").rglob("*") if path.is_file()]


def count_reads(monkeypatch) -> list[Path]:
    """Every picture that is decoded from now on."""
    read, real = [], collection_reader.read_image

    def counted(path: Path):
        read.append(path)
        return real(path)

    monkeypatch.setattr(collection_reader, "read_image", counted)
    return read


def change(source: Path) -> None:
    """Other pictures, masks or cameras in place of these."""
    if source.suffix == ".npz":
        wider = np.diag([0.99, 0.99, 1, 1])
        with np.load(source) as archive:
            arrays = {k: a @ wider if k[:6] == "camera" else a for k, a in archive.items()}
        np.savez(source, **arrays)
        return
    for file in source.iterdir():
        pixels = np.asarray(Image.open(file))
        Image.fromarray(np.roll(pixels, 2, axis=1)).save(file)


class TestMemory:
    def test_who_is_kept_stays(self, data) -> None:
        """A third of each epoch comes from memory where a third fits; the newest gives way."""
        one = Objects(configuration(data), "train")[0].bytes
        objects = Objects(configuration(data, data={"cache_gb": 2.5 * one / 2**30}), "train")
        for index in (3, 1, 0, 4, 2, 5, 1):
            objects[index]
        assert list(objects._cache) == [3, 1]
        assert objects[1] is objects[1]

    def test_mapped_objects_take_little(self, data, tmp_path) -> None:
        settings = {"data": {"cache_dir": str(tmp_path), "cache_gb": 4.5 * MAPPED_BYTES / 2**30}}
        objects = Objects(configuration(data, **settings), "train")
        for index in range(6):
            assert objects[index].bytes == MAPPED_BYTES
        assert list(objects._cache) == [0, 1, 2, 5]


class TestFiles:
    def test_what_went_in_comes_out(self, tmp_path) -> None:
        for _ in range(2):
            out = cached(tmp_path / "a/b.views", "x", lambda: ARRAYS)
            assert list(out) == list(ARRAYS)
            for name, array in ARRAYS.items():
                assert out[name].dtype == array.dtype
                np.testing.assert_array_equal(out[name], array)
                assert out[name].ctypes.data % ALIGNMENT == 0 or not out[name].size

    def test_changes_stay_with_the_caller(self, tmp_path) -> None:
        cached(tmp_path / "a", "x", lambda: ARRAYS)["whole"][:] = -1
        np.testing.assert_array_equal(cached(tmp_path / "a", "x", never)["whole"], ARRAYS["whole"])

    def test_made_from_something_else_is_made_anew(self, tmp_path) -> None:
        cached(tmp_path / "a", "x", lambda: {"n": np.zeros(3)})
        assert cached(tmp_path / "a", "y", lambda: {"n": np.ones(3)})["n"].all()
        assert cached(tmp_path / "a", "y", never)["n"].all()

    @settings(max_examples=150, deadline=None)
    @given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
    def test_a_damaged_file_is_made_anew_or_as_long(self, where, byte, cut, tmp_path_factory):
        """Any cut is noticed; so is a wrong byte ahead of the arrays, if it means anything else."""
        path = tmp_path_factory.mktemp("damaged") / "a"
        cached(path, "x", lambda: ARRAYS)
        content = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        if cut:
            del content[int(where * len(content)) :]
        else:
            content[int(where * header)] = byte
        path.write_bytes(content)
        made = []
        out = cached(path, "x", lambda: made.append(1) or ARRAYS)
        assert made or not cut
        # Of what is taken as it is, nothing has another size.
        assert sorted(a.nbytes for a in out.values()) == sorted(a.nbytes for a in ARRAYS.values())

    @pytest.mark.parametrize(
        "content",
        [b"", b"\0" * 8, b"\xff" * 64, (2).to_bytes(8, "little") + b"{}", json.dumps({}).encode()],
    )
    def test_something_else_there_is_replaced(self, tmp_path, content) -> None:
        (tmp_path / "a").write_bytes(content)
        out = cached(tmp_path / "a", "x", lambda: ARRAYS)
        np.testing.assert_array_equal(out["bytes"], ARRAYS["bytes"])

    def test_two_may_make_it_at_once(self, tmp_path) -> None:
        """Both are in the middle of making the same file; what each gets is whole."""
        together, found = threading.Barrier(2), []

        def make():
            together.wait(timeout=10)
            return ARRAYS

        def one():
            found.append(cached(tmp_path / "a", "x", make))

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2
        for out in found:
            np.testing.assert_array_equal(out["whole"], ARRAYS["whole"])
        assert [file.name for file in tmp_path.iterdir()] == ["a"]

    def test_other_failures_keep_their_own_words(self, tmp_path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            cached(tmp_path / "file/a", "x", lambda: ARRAYS)


def never() -> dict[str, np.ndarray]:
    raise AssertionError("decoded again")


class TestFingerprint:
    def test_it_changes_with_settings_and_files(self, tmp_path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/one").write_text("1")
        sources = [tmp_path / "folder", tmp_path / "alone", tmp_path / "missing"]
        names = [fingerprint((1, "a"), sources)]
        assert fingerprint((1, "a"), sources) == names[0]
        names.append(fingerprint((1, "b"), sources))
        (tmp_path / "alone").write_text("12")
        names.append(fingerprint((1, "a"), sources))
        os.utime(tmp_path / "alone", ns=(0, 12345))
        names.append(fingerprint((1, "a"), sources))
        (tmp_path / "folder/one").rename(tmp_path / "folder/two")
        names.append(fingerprint((1, "a"), sources))
        (tmp_path / "folder/two").unlink()
        names.append(fingerprint((1, "a"), sources))
        assert len(set(names)) == len(names)


def test_views_come_back_whole(data) -> None:
    entry = ObjectEntry("c", "c", "s", data / "chair/sphere_0")
    views = read_views(entry, CollectionFolders(), with_depth=True)
    sparse = SparseDepth(torch.zeros(0, 3), torch.zeros(5, 0, dtype=torch.bool))
    for one in (views, read_views(entry, CollectionFolders(), with_hull_depth=True)):
        for known in (one, replace(one, sparse=sparse), replace(one, sparse=None)):
            same_views(views_from_arrays(views_to_arrays(known)), known)


def same_views(one: Views, other: Views) -> None:
    assert one.cameras.height == other.cameras.height and one.cameras.width == other.cameras.width
    assert torch.equal(one.cameras.intrinsics, other.cameras.intrinsics)
    assert torch.equal(one.cameras.object_from_camera, other.cameras.object_from_camera)
    assert (one.sparse is None) == (other.sparse is None)
    if one.sparse is not None:
        assert torch.equal(one.sparse.points, other.sparse.points)
        assert torch.equal(one.sparse.visibility, other.sparse.visibility)
    for name in ("images", "masks", "depth", "hull_depth", "world_from_object", "coverage"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None) and (first is None or torch.equal(first, second))

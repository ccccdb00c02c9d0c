"""Every parser of files: damaged, hostile and arbitrary ones end in a value or in one sentence.

`make torture` looks longer.
"""

import io
import json
import os
import pickle
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from common import plain_yaml
from common.data import camera_file, exr, images, mesh_files
from common.data.npz import open_npz
from common.errors import UserError
from common.plain_yaml import parse_yaml
from common.training.foreign_weights import read_foreign
from common.training.run_folder import load_checkpoint
from tests.fuzz_formats import checkpoint_state, members_of, npy_bytes, saved_bytes, zip_bytes
from tests.fuzz_targets import TARGETS
from tests.fuzzing import Crash, bounded, fuzz
from tests.make_collection import write_depth
from tests.torture.files import GROUPS, targets_of

MANY = 10**12
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="its bounds are Linux's")
FAST = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_end_in_a_value_or_a_sentence(tmp_path, name):
    target = TARGETS[name](tmp_path)
    inputs = len(target.seeds) + 8
    found = fuzz(
        target.read, target.seeds, target.modules, random.Random(1), inputs, folder=tmp_path
    )
    assert found.inputs == inputs and found.steps > 0
    assert found.refused < inputs  # what is whole is read


def test_every_target_is_tortured():
    assert sorted(name for group in GROUPS for name in targets_of(group)) == sorted(TARGETS)


# --- No file runs anything ------------------------------------------------------------------------


class Payload:
    """Asks its unpickler to make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


def payloads(mark: Path) -> dict[str, bytes]:
    """Pickles that run something in whoever loads them plainly, of each protocol."""
    found = {str(protocol): pickle.dumps(Payload(mark), protocol) for protocol in range(6)}
    found["eval"] = b"cbuiltins\neval\n(Vopen(%r, 'w')\ntR." % str(mark).encode()
    return found


@pytest.mark.parametrize("kind", ["0", "1", "2", "3", "4", "5", "eval"])
def test_no_pickle_runs_anything(tmp_path, kind):
    mark, path = tmp_path / "it ran", tmp_path / "a.pt"
    hostile = payloads(mark)[kind]
    members = members_of(saved_bytes(checkpoint_state()))
    (name,) = (name for name in members if name.endswith("data.pkl"))
    for content in (hostile, zip_bytes({**members, name: hostile})):
        for read in (load_checkpoint, read_foreign):
            path.write_bytes(content)
            with bounded(tmp_path), pytest.raises(UserError):
                read(path)
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, header)
    path.write_bytes(zip_bytes({"points.npy": array.getvalue() + hostile}))
    with bounded(tmp_path), pytest.raises(UserError), open_npz(path) as archive:
        archive["points"]
    assert not mark.exists()
    # The same pickles do run where they are loaded plainly.
    if kind == "2":
        pickle.loads(hostile)
        assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/new:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:os",
    ],
)
def test_no_yaml_runs_anything(tmp_path, text):
    with bounded(tmp_path), pytest.raises(yaml.YAMLError):
        parse_yaml(text.format(mark=tmp_path / "it ran"))
    assert not list(tmp_path.iterdir())


def test_the_watch_hears_of_programs_and_of_files_elsewhere(tmp_path):
    def runs(_: bytes) -> None:
        os.system("true")

    def writes(_: bytes) -> None:
        (tmp_path / "outside").write_bytes(b"")

    def hides(_: bytes) -> None:
        try:
            os.system("true")
        except BaseException:
            pass

    (tmp_path / "in").mkdir()
    for read in (runs, writes, hides):
        with pytest.raises(Crash, match="a file led to (os.system|open)"):
            fuzz(read, [b"1"], [], random.Random(0), inputs=1, folder=tmp_path / "in")


# --- No file fills the memory ---------------------------------------------------------------------


@LINUX
def test_memory_that_is_touched_is_seen():
    def greedy(_: bytes) -> None:
        np.ones(60_000_000)

    with pytest.raises(Crash, match="touched 4.. MB"):
        fuzz(greedy, [b"1"], [], random.Random(0), inputs=1)


def claiming_npz(path: Path) -> Callable[[], object]:
    array = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (MANY, 3)}
    np.lib.format.write_array_header_1_0(array, header)
    path.write_bytes(zip_bytes({"points.npy": array.getvalue()}))
    return lambda: _read_points(path)


def _read_points(path: Path) -> np.ndarray:
    with open_npz(path) as archive:
        return archive["points"]


def claiming_views(path: Path) -> Callable[[], object]:
    matrix = npy_bytes(np.eye(4))
    path.write_bytes(zip_bytes({"world_mat_0.npy": matrix, f"world_mat_{MANY}.npy": matrix}))
    return lambda: camera_file.read_matrices(path, ("world_mat",), count=2)


def claiming_ply(path: Path) -> Callable[[], object]:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {MANY}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {MANY}", "property list uchar int vertex_indices", "end_header", ""]
    return _mesh(path.with_suffix(".ply"), "\n".join(lines).encode() + bytes(36))


def claiming_stl(path: Path) -> Callable[[], object]:
    return _mesh(path.with_suffix(".stl"), bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(50))


def claiming_off(path: Path) -> Callable[[], object]:
    return _mesh(path.with_suffix(".off"), f"OFF\n{MANY} {MANY} 0\n0 0 0\n".encode())


def claiming_glb(path: Path) -> Callable[[], object]:
    accessor = {"componentType": 5126, "type": "VEC3", "count": 10**9}
    document = {
        "asset": {"version": "2.0"},
        "accessors": [accessor],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = b"glTF" + struct.pack("<II", 2, 20 + len(text)) + struct.pack("<I", len(text)) + b"JSON"
    return _mesh(path.with_suffix(".glb"), head + text)


def _mesh(path: Path, content: bytes) -> Callable[[], object]:
    path.write_bytes(content)
    return lambda: mesh_files.read_parts(path)


def claiming_exr(path: Path) -> Callable[[], object]:
    write_depth(path, np.ones((4, 5), np.float32))
    content, window = path.read_bytes(), struct.pack("<4i", 0, 0, 4, 3)
    assert content.count(window) == 2
    path.write_bytes(content.replace(window, struct.pack("<4i", 0, 0, 99_999, 99_999)))
    return lambda: exr.read_exr(path)


def claiming_picture(path: Path) -> Callable[[], object]:
    images.Image.new("RGB", (4, 4)).save(path, format="BMP")
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 1_000_000, 1_000_000)
    path.write_bytes(content)
    return lambda: images.read_image(path)


def claiming_yaml(path: Path) -> Callable[[], object]:
    """Each line ten times the one before."""
    lines = [
        "a0: &a0 [x]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 13)),
    ]

    def read() -> None:
        try:
            parse_yaml("\n".join(lines))
        except yaml.YAMLError as error:
            raise UserError(str(error)) from error

    return read


def claiming_pickle(path: Path) -> Callable[[], object]:
    """A hundred bytes that ask for ten thousand million."""
    members = members_of(saved_bytes(checkpoint_state()))
    (name,) = (name for name in members if name.endswith("data.pkl"))
    ask = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R."
    path.write_bytes(zip_bytes({**members, name: ask}))
    return lambda: load_checkpoint(path)


def claiming_weights(path: Path) -> Callable[[], object]:
    data = saved_bytes(torch.ones(70_000), legacy=True)
    count = b"J" + (70_000).to_bytes(4, "little")
    path.write_bytes(data.replace(count, b"J" + (2**31 - 1).to_bytes(4, "little")))
    return lambda: read_foreign(path)


@LINUX
@pytest.mark.parametrize(
    "claim",
    [
        claiming_npz, claiming_views, claiming_ply, claiming_stl, claiming_off, claiming_glb,
        claiming_exr, claiming_picture, claiming_yaml, claiming_pickle, claiming_weights,
    ],
)  # fmt: skip
def test_small_files_that_claim_much_are_refused_at_no_cost(tmp_path, claim):
    read = claim(tmp_path / "claims")
    with bounded(tmp_path), pytest.raises(UserError):
        read()


# --- Arbitrary content of the right form ----------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["frames", "file_path", "fl_x", "w", "h", "k4", "dir", "main",
                                       "transform_matrix", "mesh", "versions", "step", "seconds",
                                       "method", "training", "model", "inherit_from"])
                      | st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def refuses_or_reads(target, data: bytes) -> None:
    try:
        target.read(data)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["transforms.json", "mesh/manifest", "run/evaluation.json"])
def test_any_json(tmp_path, name):
    target = TARGETS[name](tmp_path)

    @FAST
    @given(VALUES)
    def check(content):
        refuses_or_reads(target, json.dumps(content).encode())

    check()


@pytest.mark.parametrize(
    "name", ["config", "run/config.yaml", "origin.yaml", "collection/metadata.yaml"]
)
def test_any_yaml(tmp_path, name):
    target = TARGETS[name](tmp_path)

    @FAST
    @given(VALUES)
    def check(content):
        refuses_or_reads(target, yaml.safe_dump(content).encode(errors="surrogatepass"))

    check()


@FAST
@given(VALUES)
def test_plain_yaml_keeps_every_value(content):
    text = yaml.safe_dump(content, allow_unicode=True)
    assert repr(parse_yaml(text)) == repr(yaml.safe_load(text))


def test_yaml_is_bounded_by_its_values(monkeypatch):
    monkeypatch.setattr(plain_yaml, "MOST_VALUES", 100)
    text = f"[{', '.join('1' * 99)}]"
    assert len(parse_yaml(text)) == 99
    with pytest.raises(yaml.YAMLError, match="too many values"):
        parse_yaml(text[:-1] + ", 1]")
    for hostile in ("&a [*a]", "[" * 2000, "9" * 4000, "2001-99-99", "!!timestamp x", "{? [a]: b}"):
        with pytest.raises(yaml.YAMLError):
            parse_yaml(hostile)


@pytest.mark.parametrize(
    "name",
    ["cameras.npz", "sparse.npz", "object/pcl.npz", "object/points.npz", "object/pointcloud.npz",
     "projections/npz", "projections/npy"],
)  # fmt: skip
def test_any_array(tmp_path, name):
    target = TARGETS[name](tmp_path)

    @FAST
    @given(arrays(scalar_dtypes(), array_shapes(min_dims=0, max_side=4)))
    def check(array):
        refuses_or_reads(target, npy_bytes(array))

    check()


@pytest.mark.parametrize(
    "name", ["middlebury", "mvsnet", "projections/txt", "projections/each", "colmap/cameras.txt",
             "colmap/images.txt", "colmap/points3D.txt"],
)  # fmt: skip
def test_any_numbers_in_place_of_those_of_a_text(tmp_path, name):
    target = TARGETS[name](tmp_path)
    words = target.seeds[0].decode().replace("\n", " \n ").split(" ")

    @FAST
    @given(st.data())
    def check(data):
        changed = list(words)
        numbers = st.floats() | st.integers() | st.sampled_from(["", "e", "1_0", "0x1", "٣"])
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(words) - 1))] = str(data.draw(numbers))
        refuses_or_reads(target, " ".join(changed).encode())

    check()


@pytest.mark.parametrize("name", ["names/masks", "names/views", "collection/train.lst"])
def test_any_names(tmp_path, name):
    target = TARGETS[name](tmp_path)
    letters = st.sampled_from("0123456789²٣.-_ mask\né")

    @FAST
    @given(st.lists(st.text(letters, max_size=6).map(lambda stem: stem + ".png"), max_size=5))
    def check(names):
        refuses_or_reads(target, "\n".join(names).encode())

    check()

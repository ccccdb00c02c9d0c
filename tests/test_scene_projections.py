"""Plain projections in each layout, and how they pair with pictures."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from common.errors import UserError
from common.scenes.formats.projections import holds_projections, read_projections

VIEWS = 3
K = np.array([[50.0, 2.0, 9.5], [0, 51.0, 5.5], [0, 0, 1]])


def projection(view: int) -> np.ndarray:
    rotation = Rotation.from_rotvec([0.1, 0.7 * view, 0.3]).as_matrix()
    return K @ np.column_stack([rotation, [view, 0.5, 4]])


MATRICES = np.stack([projection(view) for view in range(VIEWS)])
WITH_FOURTH_ROW = np.concatenate([MATRICES, np.tile([[[0, 0, 0, 1.0]]], (VIEWS, 1, 1))], axis=1)


def write_pictures(folder, pattern="{:03d}.png", views=range(VIEWS)):
    folder.mkdir(exist_ok=True)
    for view in views:
        Image.new("RGB", (20, 12)).save(folder / pattern.format(view))


def rows(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(repr(float(number)) for number in row) for row in matrix) + "\n"


def check(capture, views=range(VIEWS)):
    assert capture.projections == pytest.approx(MATRICES[list(views)], abs=1e-9)
    assert all(photograph.size == (20, 12) for photograph in capture.photographs)


class TestOneFile:
    @pytest.mark.parametrize("stack", [MATRICES, WITH_FOURTH_ROW, -2.5 * MATRICES])
    @pytest.mark.parametrize("suffix", ["npy", "npz", "txt", "line"])
    def test_in_the_order_of_the_pictures(self, tmp_path, stack, suffix):
        write_pictures(tmp_path / "images")
        assert not holds_projections(tmp_path)
        if suffix == "npy":
            np.save(tmp_path / "projections.npy", stack)
        elif suffix == "npz":
            np.savez_compressed(tmp_path / "projections.npz", P=stack, names=np.array(["a"]))
        elif suffix == "txt":
            text = "# P of each view\n\n" + "\n".join(map(rows, stack))
            (tmp_path / "projections.txt").write_text(text)
        else:
            (tmp_path / "projections.txt").write_text(rows(stack.reshape(VIEWS, -1)))
        assert holds_projections(tmp_path)
        capture = read_projections(tmp_path)
        check(capture)
        (note,) = capture.notes
        assert "by order" in note and "000.png" in note

    def test_named_itself_beside_the_pictures(self, tmp_path):
        write_pictures(tmp_path)
        np.save(tmp_path / "my_cameras.npy", MATRICES.astype(np.float32))
        assert not holds_projections(tmp_path)
        assert holds_projections(tmp_path / "my_cameras.npy")
        capture = read_projections(tmp_path / "my_cameras.npy")
        # float32.
        assert capture.projections == pytest.approx(MATRICES, rel=1e-6, abs=1e-5)

    def test_masks_beside_the_images(self, tmp_path):
        write_pictures(tmp_path / "image")
        write_pictures(tmp_path / "mask")
        np.save(tmp_path / "projections.npy", MATRICES)
        capture = read_projections(tmp_path)
        assert capture.photographs[2].mask == tmp_path / "mask" / "002.png"


class TestOneFileAView:
    @pytest.mark.parametrize("header", ["", "CONTOUR\n"])
    def test_of_the_same_name(self, tmp_path, header):
        """PMVS: txt/ beside visualize/; files of other views are not needed."""
        write_pictures(tmp_path / "visualize", "{:08d}.jpg", views=(0, 2))
        (tmp_path / "txt").mkdir()
        for view, matrix in enumerate(MATRICES):
            (tmp_path / "txt" / f"{view:08d}.txt").write_text(header + rows(matrix))
        assert holds_projections(tmp_path)
        capture = read_projections(tmp_path)
        check(capture, views=(0, 2))
        assert capture.notes == ()

    def test_of_the_same_number(self, tmp_path):
        """DTU: more positions than pictures of a scan."""
        write_pictures(tmp_path / "rectified", "rect_{:03d}_max.png", views=(1, 2))
        for view, matrix in enumerate(MATRICES):
            (tmp_path / f"pos_{view:03d}.txt").write_text(rows(matrix))
        (tmp_path / "readme.txt").write_text("not a camera")
        assert holds_projections(tmp_path)
        capture = read_projections(tmp_path)
        check(capture, views=(1, 2))
        assert capture.notes == ()

    def test_in_the_same_order_which_is_told(self, tmp_path):
        for view, letter in enumerate("abc"):
            write_pictures(tmp_path / "image", f"{letter}.png", views=[0])
            (tmp_path / "calib").mkdir(exist_ok=True)
            (tmp_path / "calib" / f"{view}.txt").write_text(rows(MATRICES[view]))
        capture = read_projections(tmp_path)
        check(capture)
        assert capture.notes == ("cameras are paired by order: 0.txt is of a.png, and so on",)

    def test_beside_the_pictures_other_text_may_lie(self, tmp_path):
        write_pictures(tmp_path, "x{:03d}.png", views=(7, 8, 9))
        for view, matrix in enumerate(MATRICES):
            (tmp_path / f"pos_{view + 8}.txt").write_text(rows(matrix))  # 10 sorts before 8
        (tmp_path / "readme.txt").write_text("not a camera")
        capture = read_projections(tmp_path)
        check(capture)
        assert capture.notes[0].startswith("cameras are paired by order: pos_8.txt is of x007.png")
        (tmp_path / "pos_9.txt").unlink()
        with pytest.raises(UserError, match="every view needs one of each"):
            read_projections(tmp_path)

    def test_numbers_that_are_not_unique_pair_by_order(self, tmp_path):
        write_pictures(tmp_path / "image", "scan65_{:03d}.png")
        (tmp_path / "txt").mkdir()
        for view, matrix in enumerate(MATRICES):
            (tmp_path / "txt" / f"{view}.txt").write_text(rows(matrix))
        capture = read_projections(tmp_path)
        check(capture)
        assert "by order" in capture.notes[0]


def save(name, array):
    return lambda root: np.save(root / name, array, allow_pickle=True)


def text(content, name="projections.txt"):
    return lambda root: (root / name).write_text(content)


def lying_header(root):
    """A header of 10^12 matrices, and a few bytes."""
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        data, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3, 4)}
    )
    (root / "projections.npy").write_bytes(data.getvalue() + b"\0" * 96)


def bomb(root):
    with zipfile.ZipFile(root / "projections.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("P.npy", b"\0" * (2**26 + 1))


def two_files(root):
    (root / "txt").mkdir()
    for view in range(2):
        (root / "txt" / f"c{view}.txt").write_text(rows(MATRICES[view]))


def nan(stack):
    return np.where(np.arange(VIEWS)[:, None, None] == 1, np.nan, stack)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda root: None, "no projections"),
        (save("projections.npy", MATRICES[:2]), "every view needs one of each"),
        (save("projections.npy", MATRICES[0]), "expected numbers of shape (V, 3, 4)"),
        (save("projections.npy", MATRICES.astype(str)), "expected numbers of shape (V, 3, 4)"),
        (save("projections.npy", MATRICES.astype(object)), "not a readable npy"),
        (save("projections.npy", nan(MATRICES)), "NaN, infinite or huge"),
        (save("projections.npy", 1e200 * MATRICES), "NaN, infinite or huge"),
        (save("projections.npy", WITH_FOURTH_ROW.swapaxes(1, 2)), "transposed?"),
        (save("projections.npy", 0 * MATRICES), "cannot be inverted"),
        (save("projections.npy", MATRICES * [[[1], [9], [1]]]), "no pinhole camera"),
        (lying_header, "not a readable npy"),
        (lambda root: (root / "projections.npy").write_bytes(b""), "not a readable npy"),
        (lambda root: (root / "projections.npy").write_bytes(b"\x93NUMPY"), "not a readable npy"),
        (lambda root: (root / "projections.npz").write_bytes(b"PK\3\4"), "not a readable npz"),
        (lambda root: np.savez(root / "projections.npz", a=MATRICES, b=MATRICES), "expected one"),
        (lambda root: np.savez(root / "projections.npz", a=1), "0 arrays of shape (V, 3, 4)"),
        (bomb, "too large"),
        (text(""), "0 rows of no numbers"),
        (text("1 2 3 4\n5 6 7 8\n"), "2 rows of 4 numbers; expected three rows"),
        (text("1 2 3\n5 6 7 8\n"), "2 rows of 3, 4 numbers"),
        (text("CONTOUR2\n1 2 3 4\n"), "could not convert"),
        (text("\x00" * 50), "could not convert"),
        (two_files, "every view needs one of each"),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(tmp_path, breaks, message):
    write_pictures(tmp_path / "image", "p{:03d}.png")
    breaks(tmp_path)
    with pytest.raises(UserError) as refused:
        read_projections(tmp_path)
    assert message in str(refused.value) and str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_matrices_in_the_file_of_one_view(tmp_path):
    write_pictures(tmp_path / "image")
    (tmp_path / "txt").mkdir()
    for view in range(VIEWS):
        (tmp_path / "txt" / f"{view:03d}.txt").write_text(rows(MATRICES[0]) * 2)
    with pytest.raises(UserError, match="000.txt: 2 matrices; expected one"):
        read_projections(tmp_path)


def test_no_pictures(tmp_path):
    np.save(tmp_path / "projections.npy", MATRICES)
    with pytest.raises(UserError, match="no pictures here or in image"):
        read_projections(tmp_path)


VALID = {}
for suffix, save_array in (("npy", np.save), ("npz", np.savez)):
    file = io.BytesIO()
    save_array(file, MATRICES)
    VALID[suffix] = file.getvalue()


@given(
    suffix=st.sampled_from(sorted(VALID)),
    start=st.integers(0, 400),
    noise=st.binary(max_size=12),
    cut=st.integers(0, 500),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_damage_is_a_sentence_or_no_matter(tmp_path_factory, suffix, start, noise, cut):
    root = tmp_path_factory.mktemp("damaged")
    write_pictures(root / "image")
    data = VALID[suffix]
    data = data[:start] + noise + data[start + len(noise) :]
    (root / f"projections.{suffix}").write_bytes(data[: len(data) - cut])
    try:
        assert len(read_projections(root).photographs) == VIEWS
    except UserError as error:
        assert "\n" not in str(error)

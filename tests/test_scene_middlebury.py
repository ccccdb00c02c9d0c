"""Middlebury folders, read by the format's definition, and the real temple's cameras."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from common.errors import UserError
from common.scenes.formats.middlebury import holds_middlebury, read_middlebury

TEMPLE = Path(__file__).parents[2] / "shared" / "data" / "middlebury_templeSparseRing_320x240"
INTRINSICS = np.array([[100.0, 0.4, 23.1], [0, 102.0, 24.2], [0, 0, 1]])  # skew, off centre
VIEWS = 4


def extrinsics(view: int) -> np.ndarray:
    rotation = Rotation.from_rotvec([0.2, view, -0.4]).as_matrix()
    return np.column_stack([rotation, [0.1, -0.2 * view, 0.6]])


def parameters(name: str, k: np.ndarray, camera_from_world: np.ndarray) -> str:
    rotation, shift = camera_from_world[:, :3], camera_from_world[:, 3]
    numbers = [*k.ravel(), *rotation.ravel(), *shift]
    return " ".join([name, *(f"{number:.12f}" for number in numbers)])


def write_folder(root: Path) -> Path:
    """Four black pictures of 20 x 10 pixels with cameras. Returns root."""
    lines = [str(VIEWS)]
    for view in range(VIEWS):
        Image.new("RGB", (20, 10)).save(root / f"ball{view}.png")
        lines.append(parameters(f"ball{view}.png", INTRINSICS, extrinsics(view)))
    (root / "ball_par.txt").write_text("\n".join(lines))
    return root


def write_masks(folder: Path, pattern: str) -> None:
    folder.mkdir()
    for view in range(VIEWS):
        Image.new("L", (20, 10)).save(folder / pattern.format(view))


def test_projections_are_k_r_t(tmp_path):
    assert not holds_middlebury(tmp_path)
    assert holds_middlebury(write_folder(tmp_path))
    capture = read_middlebury(tmp_path)
    assert capture.source == tmp_path / "ball_par.txt" and capture.notes == ()
    for view, (photograph, projection) in enumerate(
        zip(capture.photographs, capture.projections, strict=True)
    ):
        assert photograph.image == tmp_path / f"ball{view}.png" and photograph.size == (20, 10)
        assert photograph.mask is None and photograph.distortion is None
        # Twelve digits after the point.
        assert photograph.intrinsics == pytest.approx(INTRINSICS, abs=1e-9)
        assert projection == pytest.approx(INTRINSICS @ extrinsics(view), abs=1e-9)
        rotation = photograph.world_from_camera[:3, :3]
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-14)


def test_k_up_to_a_factor(tmp_path):
    lines = (write_folder(tmp_path) / "ball_par.txt").read_text().splitlines()
    lines[2] = parameters("ball1.png", 0.25 * INTRINSICS, extrinsics(1))
    (tmp_path / "ball_par.txt").write_text("\n".join(lines))
    again = read_middlebury(tmp_path).photographs[1]
    assert again.intrinsics == pytest.approx(INTRINSICS, abs=1e-8)


def test_masks_pair_by_name_whatever_the_order_of_the_lines(tmp_path):
    write_folder(tmp_path)
    write_masks(tmp_path / "masks", "ball{}.png")
    count, *lines = (tmp_path / "ball_par.txt").read_text().splitlines()
    (tmp_path / "ball_par.txt").write_text("\n".join([count, *reversed(lines)]))
    capture = read_middlebury(tmp_path)
    names = [photograph.image.name for photograph in capture.photographs]
    assert names == ["ball3.png", "ball2.png", "ball1.png", "ball0.png"]
    assert [photograph.mask.name for photograph in capture.photographs] == names
    assert capture.notes == ()


def test_masks_paired_by_order_are_told(tmp_path):
    write_folder(tmp_path)
    write_masks(tmp_path / "mask", "{:02d}.png")
    capture = read_middlebury(tmp_path)
    masks = [photograph.mask for photograph in capture.photographs]
    assert masks == [tmp_path / "mask" / f"{view:02d}.png" for view in range(VIEWS)]
    (note,) = capture.notes
    assert "by order" in note


def edit_line(number, edit):
    def breaks(scene):
        lines = (scene / "ball_par.txt").read_text().splitlines()
        lines[number] = edit(lines[number])
        (scene / "ball_par.txt").write_text("\n".join(lines))

    return breaks


def swap_word(index, word):
    def edit(line):
        words = line.split()
        words[index] = word
        return " ".join(words)

    return edit


def no_intrinsics(line):
    name, *words = line.split()
    return " ".join([name, *["0"] * 9, *words[9:]])


@pytest.mark.parametrize(
    ("breaks", "names", "remedy"),
    [
        (edit_line(0, lambda line: "8"), "ball_par.txt: the first line counts 8", "4 follow"),
        (edit_line(0, lambda line: "views"), "ball_par.txt: the first line", "copy the file"),
        (edit_line(0, lambda line: "²"), "ball_par.txt: the first line", "copy the file"),
        (edit_line(0, lambda line: "9" * 9999), "ball_par.txt: the first line", "copy the file"),
        (lambda scene: (scene / "ball_par.txt").write_text(""), "the first line", "copy the file"),
        (lambda scene: (scene / "ball_par.txt").write_text("0"), "counts 0 views", "correct"),
        (lambda scene: (scene / "ball_par.txt").write_bytes(b"\xff\x00\n\x80" * 9),
         "the first line", "copy the file"),
        (edit_line(3, lambda line: line.rsplit(" ", 1)[0]), "ball2.png: 20 numbers", "expected 21"),
        (edit_line(3, swap_word(0, "ball1.png")), "ball1.png has 2 lines", "but one"),
        (edit_line(3, swap_word(5, "x1")), "ball2.png: could not convert", "expected numbers"),
        (edit_line(3, swap_word(5, "nan")), "ball2.png: 21 numbers", "finite"),
        (edit_line(3, swap_word(10, "3.0")), "ball2.png: numbers 10 to 18", "not a rotation"),
        (edit_line(3, swap_word(10, "1e300")), "ball2.png: 21 numbers", "finite"),
        (edit_line(3, no_intrinsics), "ball2.png: numbers 1 to 9", "singular"),
        (lambda scene: (scene / "ball2.png").unlink(), "ball2.png", "check the path"),
        (lambda scene: (scene / "ball2.png").write_bytes(b"\x89PNG"), "ball2.png", "image"),
        (lambda scene: write_masks(scene / "mask", "m{}.png") or (scene / "mask" / "m2.png")
         .unlink(), "mask: 3", "every image needs one"),
        (lambda scene: (scene / "mask").mkdir(), "mask: no images", "put png"),
        (lambda scene: (scene / "other_par.txt").write_text(""), "ball_par.txt, other_par.txt",
         "remove the others"),
        (lambda scene: (scene / "ball_par.txt").unlink(), "found none", "expected one"),
    ],
)  # fmt: skip
def test_broken_folders_are_refused_with_a_remedy(tmp_path, breaks, names, remedy):
    breaks(write_folder(tmp_path))
    with pytest.raises(UserError) as refused:
        read_middlebury(tmp_path)
    assert names in str(refused.value) and remedy in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_temple_s_cameras_are_those_of_the_numbers_in_its_file(tmp_path):
    if not TEMPLE.is_dir():
        pytest.skip(f"needs the photographs in {TEMPLE}")
    with np.load(TEMPLE / "cameras.npz") as archive:
        expected = [archive[f"world_mat_{view}"][:3] for view in range(16)]
    images = sorted((TEMPLE / "image").iterdir())
    lines = ["16"]
    for image, projection in zip(images, expected, strict=True):
        (tmp_path / image.name).symlink_to(image)
        # K by Cholesky of M M^T from its last row up, another way than the reader's.
        matrix = projection[:, :3]
        square = np.linalg.inv(matrix @ matrix.T)
        k = np.linalg.inv(np.linalg.cholesky(square).T)
        camera_from_world = np.linalg.solve(k, projection)
        lines.append(parameters(image.name, k, camera_from_world))
    (tmp_path / "temple_par.txt").write_text("\n".join(lines))
    capture = read_middlebury(tmp_path)
    for photograph, projection, p in zip(
        capture.photographs, capture.projections, expected, strict=True
    ):
        assert photograph.size == (320, 240)
        # The same up to the projection's own factor, to the digits of float32.
        p = p / np.linalg.norm(p[2, :3])
        assert np.abs(projection - p).max() < 1e-6 * np.abs(p).max()

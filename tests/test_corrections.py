"""Every mistake, made on exact cameras by its own formula, and undone by its correction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.cameras import decompose_projection
from common.scenes.capture import Capture, Distortion, Photograph, SparsePoints
from common.scenes.checks.corrections import CORRECTIONS, chosen

WIDTH, HEIGHT = 64, 48
SHIFT = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # integers at corners, not at centres


def capture(seed: int = 0, count: int = 5) -> Capture:
    """Cameras anywhere, with skew and an off-centre principal point."""
    rng = np.random.default_rng(seed)
    photographs = []
    for index in range(count):
        k = np.array([[70, 0.4, 29], [0, 66, 26.5], [0, 0, 1]]) + np.diag([index, index, 0])
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
        pose[:3, 3] = rng.normal(size=3) * 3
        image, mask = Path(f"{index}.png"), Path(f"mask/{index}.png")
        lens = Distortion("brown", (0.1 * index,))
        photographs.append(Photograph(image, k, (WIDTH, HEIGHT), pose, mask, lens))
    points = SparsePoints(rng.normal(size=(7, 3)), np.ones((count, 7), dtype=bool))
    return Capture(Path("scene"), tuple(photographs), points, np.diag([2.0, 2, 2, 1]))


def with_poses(right: Capture, wrong) -> Capture:
    return replace(
        right,
        photographs=tuple(
            replace(one, world_from_camera=wrong(one.world_from_camera))
            for one in right.photographs
        ),
    )


def with_projections(right: Capture, wrong) -> Capture:
    """What a reader of projection matrices makes of wrong ones."""
    photographs = []
    for one, projection in zip(right.photographs, right.projections, strict=True):
        k, pose, _ = decompose_projection(wrong(projection))
        photographs.append(replace(one, intrinsics=k, world_from_camera=pose))
    return replace(right, photographs=tuple(photographs))


def with_intrinsics(right: Capture, wrong) -> Capture:
    return replace(
        right,
        photographs=tuple(
            replace(one, intrinsics=wrong(one.intrinsics)) for one in right.photographs
        ),
    )


def with_cameras_of(right: Capture, order: list[int]) -> Capture:
    cameras = [right.photographs[index] for index in order]
    return replace(
        right,
        photographs=tuple(
            replace(camera, image=one.image, mask=one.mask)
            for one, camera in zip(right.photographs, cameras, strict=True)
        ),
    )


def transposed(matrix: np.ndarray) -> np.ndarray:
    wrong = matrix.copy()
    wrong[:3, :3] = matrix[:3, :3].T
    return wrong


def rescaled(k: np.ndarray, scale: float) -> np.ndarray:
    """K of the same picture at another size, by what becomes of the corners of its pixels."""
    wrong = k * np.array([[scale], [scale], [1]])
    wrong[:2, 2] = (k[:2, 2] + 0.5) * scale - 0.5
    return wrong


MADE = {
    ("--reverse-order", None): lambda c: with_cameras_of(c, [4, 3, 2, 1, 0]),
    ("--shift-order", 1): lambda c: with_cameras_of(c, [4, 0, 1, 2, 3]),
    ("--shift-order", -1): lambda c: with_cameras_of(c, [1, 2, 3, 4, 0]),
    ("--transpose-rotations", None): lambda c: with_poses(c, transposed),
    ("--invert-poses", None): lambda c: with_poses(c, np.linalg.inv),
    ("--transpose-extrinsics", None): lambda c: with_poses(
        c, lambda pose: np.linalg.inv(transposed(np.linalg.inv(pose)))
    ),
    ("--negate-translations", None): lambda c: with_projections(c, lambda p: p * [-1, -1, -1, 1]),
    # OpenGL: y up, z backward.
    ("--turn-axes", "yz"): lambda c: with_poses(c, lambda pose: pose * [1, -1, -1, 1]),
    # PyTorch3D: x left, y up.
    ("--turn-axes", "xy"): lambda c: with_poses(c, lambda pose: pose * [-1, -1, 1, 1]),
    ("--turn-axes", "xz"): lambda c: with_poses(c, lambda pose: pose * [-1, 1, -1, 1]),
    # LLFF: columns are down, right, backward.
    ("--turn-axes", "llff"): lambda c: with_poses(
        c, lambda pose: np.stack([pose[:, 1], pose[:, 0], -pose[:, 2], pose[:, 3]], axis=1)
    ),
    # Unity: the world's y and the camera's are turned, so that both are left-handed.
    ("--mirror-world", None): lambda c: replace(
        with_poses(c, lambda pose: np.diag([1, -1, 1, 1]) @ pose @ np.diag([1, -1, 1, 1])),
        points=replace(c.points, points=c.points.points * [1, -1, 1]),
    ),
    ("--negate-pixels", None): lambda c: with_projections(
        c, lambda p: p * np.array([[1], [1], [-1]])
    ),
    ("--pixel-units", "unit"): lambda c: with_projections(
        c, lambda p: np.diag([1 / WIDTH, 1 / HEIGHT, 1]) @ SHIFT @ p
    ),
    ("--pixel-units", "ndc"): lambda c: with_projections(
        c,
        lambda p: np.array([[2 / WIDTH, 0, -1], [0, 2 / HEIGHT, -1], [0, 0, 1]]) @ SHIFT @ p,
    ),
    ("--swap-principal-point", None): lambda c: with_intrinsics(
        c,
        lambda k: np.array([[k[1, 1], k[0, 1], k[1, 2]], [0, k[0, 0], k[0, 2]], [0, 0, 1]]),
    ),
    **{
        ("--scale-intrinsics", scale): lambda c, s=scale: with_intrinsics(
            c, lambda k: rescaled(k, 1 / s)
        )
        for scale in (0.125, 0.25, 0.5, 2.0, 4.0, 8.0)
    },
    **{
        ("--scale-focal", scale): lambda c, s=scale: with_intrinsics(
            c, lambda k: k * np.array([[1 / s, 1 / s, 1], [1, 1 / s, 1], [1, 1, 1]])
        )
        for scale in (0.5, 2.0)
    },
    ("--swap-xy", None): lambda c: with_projections(c, lambda p: p[[1, 0, 2]]),
    ("--flip-x", None): lambda c: with_projections(
        c, lambda p: np.stack([(WIDTH - 1) * p[2] - p[0], p[1], p[2]])
    ),
    ("--flip-y", None): lambda c: with_projections(
        c, lambda p: np.stack([p[0], (HEIGHT - 1) * p[2] - p[1], p[2]])
    ),
    ("--shift-pixels", 0.5): lambda c: with_projections(c, lambda p: np.linalg.inv(SHIFT) @ p),
    ("--shift-pixels", -0.5): lambda c: with_projections(c, lambda p: SHIFT @ p),
}
NAMED = [(c.option, value) for c in CORRECTIONS for value in (c.values or (None,))]


def assert_same(found: Capture, right: Capture) -> None:
    for one, other in zip(found.photographs, right.photographs, strict=True):
        assert (one.image, one.mask, one.distortion) == (other.image, other.mask, other.distortion)
        np.testing.assert_allclose(one.intrinsics, other.intrinsics, atol=1e-9)
        np.testing.assert_allclose(one.world_from_camera, other.world_from_camera, atol=1e-9)


@pytest.mark.parametrize("option, value", [key for key in NAMED if key[0] != "--number-order"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_correction_undoes_its_mistake(option, value, seed):
    right = capture(seed)
    wrong = MADE[option, value](right)
    differences = [
        np.abs(a - b).max() for a, b in zip(wrong.projections, right.projections, strict=True)
    ]
    assert max(differences) > 1e-3  # it is a mistake
    assert_same(chosen({option: value}).apply(wrong), right)


def test_cameras_listed_by_number_find_their_photographs():
    right = capture(count=12)
    by_name = sorted(right.photographs, key=lambda one: one.image.name)  # 0 1 10 11 2 ...
    paired = [
        replace(camera, image=one.image, mask=one.mask)
        for one, camera in zip(by_name, right.photographs, strict=True)
    ]
    wrong = replace(right, photographs=tuple(paired))
    mended = chosen({"--number-order": None}).apply(wrong)
    assert_same(mended, replace(right, photographs=tuple(by_name)))


def test_names_with_and_without_numbers_can_be_ordered():
    given_names = ["a10.png", "a9.png", "cover.png", "7.png", "a9b.png"]
    photographs = capture().photographs
    named = [
        replace(one, image=Path(name)) for one, name in zip(photographs, given_names, strict=True)
    ]
    mended = chosen({"--number-order": None}).apply(replace(capture(), photographs=tuple(named)))
    listed = ["a9.png", "a9b.png", "a10.png", "cover.png", "7.png"]  # text before numbers
    lenses = {one.image.name: one.distortion for one in mended.photographs}
    assert [lenses[name] for name in listed] == [one.distortion for one in photographs]


def test_a_projection_times_minus_one_is_the_same_camera():
    right = capture()
    assert_same(with_projections(right, np.negative), right)


def test_the_world_is_mirrored_with_its_points_and_sphere():
    right = capture()
    mirrored = chosen({"--mirror-world": None}).apply(right)
    assert mirrored.points is not None and right.points is not None
    np.testing.assert_array_equal(mirrored.points.points, right.points.points * [1, -1, 1])
    moved = np.diag([2.0, 2, 2, 1])
    moved[:3, 3] = 1, 2, 3
    sphere = (
        chosen({"--mirror-world": None})
        .apply(replace(right, world_from_sphere=moved))
        .world_from_sphere
    )
    assert sphere is not None
    np.testing.assert_array_equal(sphere[:3, 3], [1, -2, 3])
    assert np.linalg.det(sphere[:3, :3]) == pytest.approx(8)


def test_several_corrections_are_applied_in_the_tables_order():
    right = capture()
    # World-to-camera matrices of OpenGL cameras: axes were turned first, then the matrix inverted.
    wrong = with_poses(right, lambda pose: np.linalg.inv(pose * [1, -1, -1, 1]))
    remedy = chosen({"--turn-axes": "yz", "--invert-poses": None})
    assert_same(remedy.apply(wrong), right)
    assert remedy.options == "--invert-poses --turn-axes yz"
    assert remedy.name == "poses inverted and camera axes turned round (yz)"


def test_numbers_are_written_as_they_are_typed():
    assert chosen({"--shift-pixels": -0.5}).options == "--shift-pixels -0.5"
    assert chosen({"--shift-order": 1}).options == "--shift-order 1"
    assert chosen({"--shift-order": 1}).name == "cameras +1 places on"


def test_options_are_unique_and_nothing_is_chosen_without_one():
    options = [correction.option for correction in CORRECTIONS]
    assert len(set(options)) == len(options)
    assert_same(chosen({}).apply(capture()), capture())


def test_given_cameras_are_left_alone():
    right = capture()
    before = [(one.intrinsics.copy(), one.world_from_camera.copy()) for one in right.photographs]
    for option, value in NAMED:
        chosen({option: value}).apply(right)
    for one, (intrinsics, pose) in zip(right.photographs, before, strict=True):
        np.testing.assert_array_equal(one.intrinsics, intrinsics)
        np.testing.assert_array_equal(one.world_from_camera, pose)

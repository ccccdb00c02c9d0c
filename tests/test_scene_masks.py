"""Masks from files, opacity, plain backgrounds, GrabCut and sparse points, against known ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.cameras import look_at
from common.errors import UserError
from common.scenes.capture import Capture, Photograph, SparsePoints
from common.scenes.masking.ground import compare_with_ground, find_ground, pixels_from_ground
from common.scenes.masking.masks import OPAQUE, coverage_from_file, find_masks, mask_of, pair_masks
from common.scenes.masking.plain_background import background_of, cleaned, mask_by_threshold, otsu

SIZE = 40


def disc(size: int = SIZE, radius: float = 12) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y) < radius


def picture(mask: np.ndarray, colour, background, noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    plain = np.where(mask[..., None], colour, background).astype(float)
    return (plain + noise * rng.normal(size=plain.shape)).clip(0, 255).round().astype(np.uint8)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def touch(folder: Path, names: list[str]) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def capture_of(images: list[Path], masks=None, points=None) -> Capture:
    masks = masks or [None] * len(images)
    photographs = tuple(
        Photograph(image, np.eye(3), (SIZE, SIZE), np.eye(4), mask)
        for image, mask in zip(images, masks, strict=True)
    )
    return Capture(images[0].parent.parent, photographs, points)


# --- mask files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["12.jpg", "7.jpg"], ["12.png", "7.png"]),
        (["12.jpg", "7.jpg"], ["12.jpg.png", "7.jpg.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["12.jpg", "7.jpg"], ["12_mask.png", "7-mask.png"]),
        (["12.jpg", "7.jpg"], ["mask_12.png", "7.alpha.png"]),
        (["12.jpg"], ["11.png", "12.png", "13.png"]),
        (["left/1.jpg", "right/1.jpg"], ["left/1.png", "right/1.png"]),
        (["left/1.jpg", "right/2.jpg"], ["1.png", "2.png"]),
        (["mask_of_gold.jpg"], ["mask_of_gold.png"]),
    ],
)
def test_masks_pair_by_name(tmp_path, images, masks):
    files = touch(tmp_path / "images", images)
    touch(tmp_path / "mask", masks)
    paired, notes = pair_masks(files, tmp_path / "mask")
    wanted = [mask for mask in masks if len(masks) == len(images) or "12" in mask]
    expected = [tmp_path / "mask" / name for name in wanted]
    assert paired == expected and notes == ()


def test_masks_may_lie_beside_their_images(tmp_path):
    images = touch(tmp_path, ["1.jpg", "2.jpg"])
    masks = touch(tmp_path, ["1_mask.png", "2_mask.png"])
    assert pair_masks(images, tmp_path) == (masks, ())


def test_masks_pair_by_order_and_say_so(tmp_path):
    """By number, in the images' own order: 10 after 9."""
    images = touch(tmp_path / "images", ["IMG_10.jpg", "IMG_9.jpg", "IMG_11.jpg"])
    one, two, three = touch(tmp_path / "mask", ["000.png", "001.png", "002.png"])
    paired, notes = pair_masks(images, tmp_path / "mask")
    assert paired == [two, one, three]
    assert len(notes) == 1
    assert "by order: 000.png with IMG_9.jpg, ..., 002.png with IMG_11.jpg" in notes[0]


@given(order=st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_pairing_does_not_depend_on_the_order_given(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("pairing")
    images = touch(root / "images", [f"view{index}.jpg" for index in range(12)])
    masks = touch(root / "mask", [f"{index:05d}.png" for index in range(12)])
    paired, _ = pair_masks([images[index] for index in order], root / "mask")
    assert paired == [masks[index] for index in order]


@pytest.mark.parametrize(
    ("images", "masks", "sentence"),
    [
        (["1.jpg", "2.jpg"], ["1.png"], "no mask for 2.jpg, though others have theirs by name"),
        (["1.jpg", "2.jpg"], ["x.png"], "1 masks for 2 images, and none named like its image"),
        (["1.jpg"], ["1.png", "1_mask.png"], "1.png and 1_mask.png are both the mask of 1.jpg"),
        (["1.jpg", "1.png"], ["1.png"], "named like two images"),
        (["1.jpg"], [], "no images in this folder"),
        ([f"{i}.jpg" for i in range(9)], ["0.png"], "1.jpg, 2.jpg, 3.jpg and 5 more"),
    ],
)
def test_masks_that_do_not_pair(tmp_path, images, masks, sentence):
    files = touch(tmp_path / "images", images)
    (tmp_path / "mask").mkdir()
    touch(tmp_path / "mask", masks)
    with pytest.raises(UserError, match=sentence):
        pair_masks(files, tmp_path / "mask")


@pytest.mark.parametrize("kind", ["white", "soft", "labels", "cut-out", "opaque", "sixteen bits"])
def test_mask_pictures_of_every_kind(tmp_path, kind):
    mask = disc()
    grey = mask.astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    pixels = {
        "white": grey * 255,
        "soft": np.where(mask, 128, 127).astype(np.uint8),
        "labels": grey * 3,
        "cut-out": np.dstack([colours, grey * 255]),
        "opaque": np.dstack([grey * 255] * 3 + [np.full_like(grey, 255)]),
        "sixteen bits": grey.astype(np.uint16) * 65_535,
    }[kind]
    assert np.array_equal(coverage_from_file(write(tmp_path / "a.png", pixels)) > OPAQUE, mask)


def test_a_dark_mask_with_noise_is_empty(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 9, (SIZE, SIZE), dtype=np.uint8)
    assert not (coverage_from_file(write(tmp_path / "a.png", pixels)) > OPAQUE).any()


# --- the automatic choice -----------------------------------------------------------------------


def scene(root: Path, pixels, count: int = 5) -> list[Path]:
    return [write(root / "images" / f"{index}.png", pixels) for index in range(count)]


def noise_picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def with_alpha(alpha: np.ndarray) -> np.ndarray:
    return np.dstack([noise_picture(), alpha.astype(np.uint8) * 255])


@pytest.mark.parametrize(
    ("pixels", "choice"),
    [
        (with_alpha(disc()), "alpha"),
        (picture(disc(), (200, 30, 30), (250, 250, 250), noise=2), "light"),
        (picture(disc(), (200, 30, 30), (12, 12, 20), noise=2), "dark"),
    ],
)
def test_auto_finds_what_is_there(tmp_path, pixels, choice):
    images = scene(tmp_path, pixels)
    capture, chosen = find_masks(capture_of(images))
    assert chosen == choice
    assert capture.notes[-1].startswith("masks: ")
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    mask = mask_of(chosen)(capture.photographs[0], pixels[..., :3], alpha)
    assert np.array_equal(mask > 0, disc())


def test_auto_takes_mask_files_first(tmp_path):
    images = scene(tmp_path, with_alpha(disc()))
    masks = [write(tmp_path / "mask" / image.name, ~disc()) for image in images]
    capture, chosen = find_masks(capture_of(images))
    assert chosen == "files"
    assert [photograph.mask for photograph in capture.photographs] == masks
    pixels = noise_picture()
    mask = mask_of(chosen)(capture.photographs[0], pixels, None)
    assert np.array_equal(mask > OPAQUE, ~disc())


def test_given_mask_files_are_kept(tmp_path):
    images = scene(tmp_path, noise_picture())
    given_masks = [tmp_path / "elsewhere.png"] * len(images)
    capture, chosen = find_masks(capture_of(images, given_masks))
    assert chosen == "files"
    assert [photograph.mask for photograph in capture.photographs] == given_masks


def test_auto_falls_back_on_sparse_points(tmp_path):
    images = scene(tmp_path, with_alpha(np.ones((SIZE, SIZE))))  # all opaque: says nothing
    points = SparsePoints(np.zeros((4, 3)), np.ones((5, 4), dtype=bool))
    assert find_masks(capture_of(images, points=points))[1] == "points"


def test_auto_looks_at_three_pictures_only(tmp_path):
    images = scene(tmp_path, with_alpha(disc()), count=9)
    for index in (1, 2, 3, 5, 6, 7):
        images[index].write_bytes(b"unread")
    assert find_masks(capture_of(images))[1] == "alpha"


def test_nothing_to_tell_the_object_by(tmp_path):
    with pytest.raises(UserError, match="nothing tells the object from its background.*--masks"):
        find_masks(capture_of(scene(tmp_path, noise_picture())))


def test_a_choice_drops_the_masks_it_does_not_use(tmp_path):
    images = scene(tmp_path, noise_picture())
    capture, chosen = find_masks(capture_of(images, [Path("m.png")] * len(images)), "none")
    assert chosen == "none" and all(one.mask is None for one in capture.photographs)
    assert mask_of("none")(capture.photographs[0], noise_picture(), None).all()


def test_choices_that_cannot_be(tmp_path):
    images = scene(tmp_path, noise_picture())
    capture = capture_of(images)
    with pytest.raises(UserError, match="no masks here; put one picture per view"):
        find_masks(capture, "files")
    with pytest.raises(UserError, match="of no use with --masks alpha"):
        find_masks(capture, "alpha", tmp_path)
    with pytest.raises(UserError, match="no mask for 1.png, 2.png, 3.png and 1 more"):
        find_masks(capture_of(images, [Path("m.png"), *[None] * 4]), "files")
    with pytest.raises(UserError, match="0.png: no alpha channel"):
        mask_of("alpha")(capture.photographs[0], noise_picture(), None)
    with pytest.raises(UserError, match="go together"):
        mask_of("box")
    with pytest.raises(UserError, match="go together"):
        mask_of("light", (1, 2, 3, 4))
    dark = picture(disc(), (200, 30, 30), (10, 10, 10))
    with pytest.raises(UserError, match="0.png: the border is not light; choose --masks dark"):
        mask_of("light")(capture.photographs[0], dark, None)


# --- plain backgrounds --------------------------------------------------------------------------


@pytest.mark.parametrize(("background", "level"), [("light", 245), ("dark", 15)])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_faint_and_strong_parts_stand_out(background, level, noise):
    """An object that is half faint and half in full contrast, before noise."""
    mask = disc(80, 24)
    faint = level + (-40 if background == "light" else 40)
    colour = np.where(np.arange(80)[:, None] < 40, faint, 255 - level)[None]
    image = picture(mask, colour, (level,) * 3, noise)
    assert background_of(image) == background
    assert overlap(mask_by_threshold(image, background), mask) > 0.995


def test_large_holes_stay_and_small_ones_are_filled():
    size = 120
    mask = disc(size, 50)
    ring = mask & ~disc(size, 15)
    speck = ring.copy()
    speck[20:22, 60:62] = False
    dust = speck.copy()
    dust[2:4, 2:4] = True
    assert np.array_equal(cleaned(dust), ring)
    assert not cleaned(np.zeros((4, 4), dtype=bool)).any()


@pytest.mark.parametrize("border", [(128, 128, 128), (255, 0, 0)])
def test_a_border_that_is_neither_light_nor_dark(border):
    assert background_of(picture(disc(), (0, 200, 30), border)) is None


def test_a_border_of_many_colours_is_not_plain():
    assert background_of(noise_picture()) is None


@given(
    low=st.floats(0, 50), gap=st.floats(20, 100), share=st.floats(0.1, 0.9), seed=st.integers(0, 99)
)
@settings(max_examples=50, deadline=None)
def test_otsu_parts_two_heaps(low, gap, share, seed):
    rng = np.random.default_rng(seed)
    heap = rng.random(500) < share
    heap[:2] = [True, False]
    values = low + rng.uniform(0, 4, 500) + gap * heap
    threshold = otsu(values)
    assert np.array_equal(values > threshold, heap)
    # Nothing between the heaps speaks for one of them.
    assert low + 4 < threshold + gap / 3 and threshold - gap / 3 < low + gap


# --- GrabCut ------------------------------------------------------------------------------------


def speckled(size: int, dark, light, seed: int) -> np.ndarray:
    shade = np.random.default_rng(seed).random((size, size, 1))
    return (np.array(dark) + shade * (np.array(light) - dark)).astype(np.uint8)


def before_speckles(mask: np.ndarray) -> np.ndarray:
    size = len(mask)
    thing = speckled(size, (150, 40, 20), (230, 90, 60), 1)
    return np.where(mask[..., None], thing, speckled(size, (10, 60, 40), (90, 160, 130), 2))


def test_grabcut_in_a_box_and_around_points():
    pytest.importorskip("cv2")
    from common.scenes.masking.grabcut import grabcut

    mask = disc(100, 30)
    image = before_speckles(mask)
    assert overlap(grabcut(image, box=(15, 15, 70, 70)), mask) > 0.98
    angle = np.linspace(0, 2 * np.pi, 9)
    points = 49.5 + 24 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert overlap(grabcut(image, points=points), mask) > 0.98
    photograph = Photograph(Path("a.png"), np.eye(3), (100, 100), np.eye(4))
    boxed = mask_of("box", (15, 15, 70, 70))(photograph, image, None)
    assert overlap(boxed, mask) > 0.98


def test_large_pictures_are_cut_at_a_smaller_size(monkeypatch):
    pytest.importorskip("cv2")
    from common.scenes.masking import grabcut

    monkeypatch.setattr(grabcut, "LARGEST", 60)
    mask = disc(150, 45)
    found = grabcut.grabcut(before_speckles(mask), box=(20, 20, 110, 110))
    assert found.shape == mask.shape
    # Pixels that both sides share are as wide as 2.5 of the picture's; the middle stays.
    assert overlap(found, mask) > 0.9
    assert np.abs(np.argwhere(found).mean(axis=0) - np.argwhere(mask).mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("box", [(0, 0, 40, 40), (50, 5, 10, 10), (5, 5, 1, 20), (-9, -9, 90, 90)])
def test_boxes_that_leave_nothing(box):
    pytest.importorskip("cv2")
    with pytest.raises(UserError, match="a.png: the box .* must lie in the picture of 40 x 40"):
        mask_of("box", box)(capture_of([Path("x/a.png")]).photographs[0], noise_picture(), None)


def test_too_few_points():
    from common.scenes.masking.grabcut import grabcut

    with pytest.raises(UserError, match="a box, or at least three points"):
        grabcut(noise_picture(), points=np.zeros((2, 2)))


def test_without_opencv(monkeypatch):
    from common.scenes.masking.grabcut import grabcut

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs OpenCV.*pip install -e '\.\[sfm\]'"):
        grabcut(noise_picture(), box=(5, 5, 30, 30))


# --- the ground ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), share=st.floats(0.4, 1.0))
@settings(max_examples=30, deadline=None)
def test_ground_is_found_among_other_points(seed, share):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = rng.uniform(-1, 1, (600, 3)) * [1, 1, 0.002]
    off = rng.random(600) > share
    points[off, 2] = rng.uniform(0.05, 1, off.sum())
    cameras = np.column_stack([rng.uniform(-2, 2, (10, 2)), rng.uniform(1.2, 2, 10)])
    shift = rng.uniform(-5, 5, 3)
    ground = find_ground(points @ turn.T + shift, cameras @ turn.T + shift, 0.01)
    assert ground is not None
    assert ground.normal @ turn[:, 2] > np.cos(np.radians(0.5))
    assert abs(ground.height(shift[None])[0]) < 0.003


def test_no_ground_between_the_cameras_or_in_a_cloud():
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1, 1, (500, 3)) * [1, 1, 0]
    around = rng.normal(size=(20, 3)) * 3
    assert find_ground(flat, around, 0.01) is None
    above = around * [1, 1, 0] + [0, 0, 4]
    assert find_ground(flat, above, 0.01) is not None
    assert find_ground(rng.uniform(-1, 1, (500, 3)), above, 0.01) is None
    assert find_ground(flat[:2], above, 0.01) is None


STUDIO = np.eye(4)  # a world of the studio's own


class Studio:
    """A ball of colour on a patterned floor under a white sky, or alone in a patterned night."""

    radius, size, views = 0.5, 120, 14

    def __init__(self, floor: bool, world_from_studio: np.ndarray = STUDIO):
        rng = np.random.default_rng(0)
        self.floor = floor
        self.tiles = rng.integers(20, 140, (64, 64, 1)) + rng.integers(0, 50, (64, 64, 3))
        turn = 2 * np.pi * np.arange(self.views) / self.views
        rise = np.radians(20 + 40 * (np.arange(self.views) % 3) / 2)
        eye = 3 * np.stack(
            [np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)], axis=1
        )
        centres = torch.from_numpy(eye)
        poses = look_at(centres, torch.zeros_like(centres), torch.tensor([0, 0, 1.0]).double())
        self.poses = poses.numpy()
        middle = (self.size - 1) / 2
        self.intrinsics = np.array([[170, 0, middle], [0, 170, middle], [0, 0, 1]])
        shown = [self._show(pose) for pose in self.poses]
        self.images = np.stack([image for image, _ in shown])
        self.masks = np.stack([mask for _, mask in shown])
        points = self._points(rng)
        self.points = points @ world_from_studio[:3, :3].T + world_from_studio[:3, 3]
        studio_from_world = np.linalg.inv(world_from_studio)
        self.projections = np.stack(
            [self.intrinsics @ (np.linalg.inv(p) @ studio_from_world)[:3] for p in self.poses]
        )

    @property
    def sparse(self) -> SparsePoints:
        return SparsePoints(self.points, np.ones((self.views, len(self.points)), dtype=bool))

    def _points(self, rng) -> np.ndarray:
        if self.floor:
            floor = np.column_stack([rng.uniform(-2, 2, (400, 2)), np.full(400, -self.radius)])
            return floor + rng.normal(size=floor.shape) * 0.003
        ball = rng.normal(size=(150, 3))
        return self.radius * ball / np.linalg.norm(ball, axis=1, keepdims=True)

    def _show(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[: self.size, : self.size]
        ray = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(self.intrinsics).T
        ray = ray @ pose[:3, :3].T
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        eye = pose[:3, 3]
        along = -ray @ eye
        inside = along**2 - eye @ eye + self.radius**2
        mask = inside > 0
        normal = eye + (along - np.sqrt(inside.clip(0)))[..., None] * ray
        light = 0.75 + 0.25 * normal[..., 2:] / self.radius
        if self.floor:
            reach = (-self.radius - eye[2]) / ray[..., 2]
            hit = eye + reach[..., None] * ray
            tile = np.floor(hit[..., :2] * 12).astype(int) % 64
            behind = self.tiles[tile[..., 0], tile[..., 1]]
            sky = (reach < 0) | (np.abs(hit[..., :2]).max(axis=-1) > 4)
            behind = np.where(sky[..., None], 255, behind)
        else:
            tile = np.floor(ray * 40).astype(int) % 64
            behind = self.tiles[tile[..., 0] ^ tile[..., 2], tile[..., 1]] // 2
        image = np.where(mask[..., None], light * [235, 150, 60], behind)
        return image.astype(np.uint8), mask


def similarity() -> np.ndarray:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = 7.0 * turn * np.sign(np.linalg.det(turn))
    matrix[:3, 3] = [40, -3, 11]
    return matrix


@pytest.fixture(scope="module")
def on_floor():
    pytest.importorskip("cv2")
    return Studio(floor=True)


def test_what_is_not_the_ground(on_floor):
    """The floor agrees with its other pictures, the ball does not; neither is ever mistaken."""
    centre = on_floor.poses[:, :3, 3]
    ground = find_ground(on_floor.points, centre, 0.015)
    homographies = pixels_from_ground(ground, np.zeros(3), 0.5, on_floor.projections)
    everywhere = np.ones_like(on_floor.masks[0])
    found = compare_with_ground(4, on_floor.images, on_floor.masks, homographies, everywhere)
    mask = on_floor.masks[4]
    assert found.differs[mask].mean() > 0.5 and found.differs[~mask].mean() < 0.002
    assert found.agrees[~mask].mean() > 0.4 and not found.agrees[mask].any()


def test_homographies_are_the_ground_s_projections(on_floor):
    ground = find_ground(on_floor.points, on_floor.poses[:, :3, 3], 0.015)
    homographies = pixels_from_ground(ground, np.zeros(3), 0.5, -2 * on_floor.projections)
    foot = -ground.normal * ground.height(np.zeros((1, 3)))[0]
    for homography, projection in zip(homographies, on_floor.projections, strict=True):
        expected = projection @ [*foot, 1]
        assert homography[2, 2] > 0
        assert np.allclose(homography[:, 2] / homography[2, 2], expected / expected[2])


@pytest.mark.parametrize("sign", [1, -1])
def test_masks_of_a_ball_without_points_of_its_own(sign):
    """Not one sparse point lies on it; the world is turned, shifted and scaled, P maybe negated."""
    pytest.importorskip("cv2")
    from common.scenes.masking.silhouettes import object_masks

    studio = Studio(floor=True, world_from_studio=similarity())
    masks = object_masks(studio.images, sign * studio.projections, studio.sparse)
    scores = [overlap(mask, true) for mask, true in zip(masks, studio.masks, strict=True)]
    assert np.mean(scores) > 0.98 and min(scores) > 0.95


def test_masks_from_points_without_ground():
    pytest.importorskip("cv2")
    from common.scenes.masking.silhouettes import object_masks

    studio = Studio(floor=False)
    masks = object_masks(studio.images, studio.projections, studio.sparse)
    scores = [overlap(mask, true) for mask, true in zip(masks, studio.masks, strict=True)]
    assert np.mean(scores) > 0.98 and min(scores) > 0.95


def test_an_empty_floor_has_no_object(monkeypatch):
    pytest.importorskip("cv2")
    from common.scenes.masking.silhouettes import object_masks

    monkeypatch.setattr(Studio, "radius", 1e-3)
    empty = Studio(floor=True)
    with pytest.raises(UserError, match="no object stands out.*--masks box"):
        object_masks(empty.images, empty.projections, empty.sparse)


def test_too_few_points_and_no_ground():
    pytest.importorskip("cv2")
    from common.scenes.masking.silhouettes import object_masks

    studio = Studio(floor=False)
    few = SparsePoints(studio.points[:5], np.ones((studio.views, 5), dtype=bool))
    with pytest.raises(UserError, match="only 5 sparse points"):
        object_masks(studio.images, studio.projections, few)

"""What a step compares: rays of true pixels, depths on the sphere, hull labels, mirror images."""

from dataclasses import replace

import pytest
import torch

from common.data.collection import CollectionFolders, ObjectEntry, read_views
from common.data.hull import on_masks
from common.data.supervision import (
    Draw,
    Supervision,
    draw_object,
    draw_pixels,
    draw_supervision,
    draw_views,
    supervision_of,
)
from common.data.views import SparseDepth, Views
from dvr.augmentation import augment
from dvr.config import DataConfig
from dvr.data import hold_out
from tests.make_collection import sphere_radius, write_tiny_object

RADIUS = sphere_radius(1)
# Depths are stored as float32 camera z near 2: an error of 2.4e-7, over the cosine of the most
# grazing ray that a pixel centre meets.
ON_SPHERE = 1e-5


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> Views:
    folder = tmp_path_factory.mktemp("object") / "sphere"
    write_tiny_object(folder, RADIUS, views=6, size=24, seed=0)
    entry = ObjectEntry("c", "c", "sphere", folder)
    return read_views(entry, CollectionFolders(), with_depth=True, with_hull_depth=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(data: Views, seed: int = 0, **changes) -> Supervision:
    return draw_supervision(data, Draw(**({"rays": 400, "views": 4} | changes)), seeded(seed))


YES = torch.tensor(True)


def augmented(
    image: torch.Tensor, supervision: Supervision, data: DataConfig, seed: int
) -> tuple[torch.Tensor, Supervision]:
    """What becomes of one object's."""
    one = Supervision(**{name: value[None] for name, value in vars(supervision).items()})
    seen, drawn = augment(image[None], one, data, [seeded(seed)])
    assert seen is not None
    return seen[0], drawn.of_object(0)


def to_sphere(supervision: Supervision) -> torch.Tensor:
    """Exact distance to the sphere along each ray, infinite where it misses."""
    origin, direction = supervision.origin.double(), supervision.direction.double()
    along = -(origin * direction).sum(-1)
    squared = RADIUS**2 - (origin.square().sum(-1) - along**2)
    return torch.where(squared > 0, along - squared.clamp_min(0).sqrt(), torch.inf)


def test_rays_hit_what_the_pixel_shows(views) -> None:
    supervision = draw(views)
    true = to_sphere(supervision)
    assert torch.equal(supervision.mask, torch.isfinite(true))
    assert 0 < supervision.mask.sum() < 400
    assert torch.equal(torch.isfinite(supervision.distance), supervision.mask)
    difference = (supervision.distance - true)[supervision.mask].abs()
    assert difference.max() < ON_SPHERE
    torch.testing.assert_close(supervision.direction.norm(dim=-1), torch.ones(400))


def test_hull_depth_is_a_distance_too(views) -> None:
    """The files' hull is 0.02 of camera z in front of the sphere."""
    supervision = draw(views)
    seen = supervision.mask
    gap = (supervision.distance - supervision.hull_distance)[seen]
    torch.testing.assert_close(gap, 0.02 * supervision.per_camera_z[seen], atol=1e-6, rtol=0)


def test_distance_and_camera_z_differ_by_the_ray(views) -> None:
    """per_camera_z is one over the cosine with the optical axis, so z * per_camera_z = distance."""
    generator = seeded()
    chosen = torch.tensor([3])
    view, pixel = draw_pixels(views, chosen, Draw(rays=50), generator)
    supervision = draw(views[[3]], rays=50, views=1)
    axis = views.cameras.object_from_camera[3, :3, 2]
    torch.testing.assert_close(
        supervision.per_camera_z, 1 / (supervision.direction @ axis), atol=1e-6, rtol=1e-6
    )
    assert supervision.per_camera_z.min() >= 1
    x, y = pixel.unbind(-1)
    assert (view == 3).all() and x.max() < 24 and y.max() < 24


def test_colours_are_the_pixels(views) -> None:
    supervision = draw(views)
    white = (supervision.colour == 1).all(dim=-1)
    assert torch.equal(white, ~supervision.mask)
    # tests/make_collection.py paints red as 255 (z - 1.4) / 0.8, cut to whole numbers.
    z = (supervision.distance / supervision.per_camera_z)[supervision.mask]
    red = supervision.colour[supervision.mask, 0]
    assert ((z - 1.4) / 0.8 - red).abs().max() < 1 / 255 + 1e-6


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_are_true_neighbours(views, patch) -> None:
    """Row by row, of one view, wholly on the picture; every corner that fits occurs."""
    many = Draw(rays=3000 * patch**2, patch=patch)
    view, pixel = draw_pixels(views, torch.arange(6), many, seeded())
    view, pixel = view.reshape(-1, patch, patch), pixel.reshape(-1, patch, patch, 2)
    assert (view == view[:, :1, :1]).all()
    assert (pixel[:, :, 1:] - pixel[:, :, :-1] == torch.tensor([1, 0])).all()
    assert (pixel[:, 1:] - pixel[:, :-1] == torch.tensor([0, 1])).all()
    assert pixel.min() == 0 and pixel.max() == 23
    assert len(torch.unique(pixel[:, 0, 0], dim=0)) > 0.9 * (25 - patch) ** 2
    assert set(view[:, 0, 0].tolist()) == set(range(6))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_pixels_shows_the_object(views, share) -> None:
    """Evenly over the object in the chosen views; the other pixels are drawn as without it."""
    generator, plan = seeded(), Draw(4000, object_share=share)
    view, pixel = draw_pixels(views, torch.tensor([1, 4]), plan, generator)
    x, y = pixel.unbind(-1)
    shown, count = views.masks[view, y, x], round(4000 * share)
    assert shown[:count].all() and set(view.tolist()) == {1, 4}
    if count < 4000:
        everywhere = views.masks[[1, 4]].float().mean()
        assert abs(shown[count:].float().mean() - everywhere) < 0.05
    if count:
        middle = views.masks[[1, 4]].nonzero()[:, [2, 1]].float().mean(dim=0)
        torch.testing.assert_close(pixel[:count].float().mean(dim=0), middle, atol=0.5, rtol=0)


def test_where_no_object_is_any_pixel_is_drawn(views) -> None:
    empty = replace(views, masks=torch.zeros_like(views.masks))
    for patch in (1, 4):
        plan = Draw(64, patch=patch, object_share=0.5)
        for one in (views, empty):
            _, pixel = draw_pixels(one, torch.arange(6), plan, seeded())
            assert len(pixel) == 64 and pixel.min() >= 0 and pixel.max() < 24


def test_only_the_chosen_number_of_views_is_used(views) -> None:
    centres = [len(torch.unique(draw(views, views=count).origin, dim=0)) for count in (1, 2, 6, 9)]
    assert centres == [1, 2, 6, 6]


@pytest.mark.parametrize("changes", [{"views": 1}, {"views": 3, "patch": 2}, {"sparse_points": 5}])
def test_the_chosen_views_are_enough(views, changes) -> None:
    """A step that compares no volume points draws the same from the views it looks at alone."""
    points = torch.randn(30, 3, generator=seeded())
    visibility = torch.rand(6, 30, generator=seeded()) < 0.5
    known = replace(views, sparse=SparseDepth(points, visibility))
    whole, generator = draw(known, 7, **changes), seeded(7)
    settings = Draw(**({"rays": 400, "views": 4} | changes))
    few = known[draw_views(6, settings, generator)]
    drawn = draw_object(few, torch.arange(len(few)), settings, generator)
    again = supervision_of([drawn]).of_object(0)
    assert len(few) == settings.views
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(whole).items())


def test_draws_depend_on_their_generator_alone(views) -> None:
    first, again, other = draw(views, 5), draw(views, 5), draw(views, 6)
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(first).items())
    assert not torch.equal(first.direction, other.direction)


def test_objects_of_several_kinds_are_drawn_as_each_alone(views) -> None:
    """Other numbers and sizes of pictures, with depth and without."""
    objects = [views, replace(views, depth=None, hull_depth=None)[:4], views.resized(18), views[1:]]
    plan = Draw(rays=40, views=3, hull_points=30, sparse_points=4)
    drawn, alone = [], []
    for seed, one in enumerate(objects):
        generator = seeded(seed)
        chosen = draw_views(len(one), plan, generator)
        drawn.append(draw_object(one, chosen, plan, generator))
        alone.append(draw_supervision(one, plan, seeded(seed)))
    together = supervision_of(drawn)
    assert together.hull_inside.any(dim=1).all() and not together.hull_inside.all()
    for index, expected in enumerate(alone):
        for name, value in vars(together.of_object(index)).items():
            torch.testing.assert_close(value, vars(expected)[name], rtol=0, atol=1e-6)


def test_what_is_unknown_is_infinite(views) -> None:
    bare = replace(views, depth=None, hull_depth=None)
    supervision = draw(bare, sparse_points=5, hull_points=10)
    for distance in (
        supervision.distance,
        supervision.hull_distance,
        supervision.sparse_distance,
    ):
        assert torch.isinf(distance).all()
    assert torch.isfinite(supervision.sparse_direction).all()
    assert supervision.hull_points.shape == (10, 3)


class TestHull:
    # A mask pixel is object where its centre is: the hull's outline is off by up to half a pixel's
    # diagonal, 0.71 * (2 * 2) / (23 * 2.1875) = 0.056 object units at the centre's distance of 2.
    PIXEL = 0.056

    def test_labels_are_those_of_the_sphere(self, views) -> None:
        """Empty is certain (but for the pixels); full may also be where no view looks past."""
        supervision = draw(views, hull_points=4000)
        radius, inside = supervision.hull_points.norm(dim=-1), supervision.hull_inside
        assert inside[radius < RADIUS - self.PIXEL].all()
        assert not inside[radius > 1.5 * RADIUS].any()
        assert 0.1 < inside.float().mean() < 0.9

    def test_a_point_outside_one_mask_is_outside(self, views) -> None:
        centre = views.cameras.centre[2]
        beside = torch.linalg.cross(centre, torch.tensor([0.0, 1, 0]))
        points = torch.stack([torch.zeros(3), 0.45 * beside / beside.norm()])
        assert on_masks(points, views.masks, views.cameras, 0.25).tolist() == [True, False]

    def test_beyond_the_picture_nothing_is_known(self, views) -> None:
        """One camera; a point far to its side and one behind it are not refuted."""
        one = views[[0]]
        pose = one.cameras.object_from_camera[0]
        aside, behind = pose[:3, 3] + 5 * pose[:3, 0] + pose[:3, 2], pose[:3, 3] - pose[:3, 2]
        assert on_masks(torch.stack([aside, behind]), one.masks, one.cameras, 0.0).tolist() == [
            True,
            True,
        ]
        assert not on_masks(torch.stack([aside, behind]), one.masks, one.cameras, 0.25).any()

    def test_points_gather_near_the_hull(self, views) -> None:
        """In the second half those on rays of object pixels, with a spread of 0.05: of them 95 %
        lie within 0.1 of it, against 28 % of the uniform ones."""
        points = draw(views, hull_points=40_000).hull_points
        assert points.abs().max() <= 0.5
        near = (points.norm(dim=-1) - RADIUS - 0.02).abs() < 0.1
        uniform, drawn = near[:20_000].float().mean(), near[20_000:].float().mean()
        assert drawn - uniform > 0.5 * views.masks.float().mean()


class TestMirror:
    def test_twice_is_once(self, views) -> None:
        supervision = draw(views, hull_points=20, sparse_points=3)
        twice = supervision.mirrored(YES).mirrored(YES)
        assert all(torch.equal(value, vars(twice)[name]) for name, value in vars(twice).items())
        assert torch.equal(twice.origin, supervision.origin)

    def test_the_mirror_image_of_a_sphere_is_that_sphere(self, views) -> None:
        supervision = draw(views, hull_points=500)
        mirrored = supervision.mirrored(YES)
        assert not torch.equal(mirrored.origin, supervision.origin)
        true = to_sphere(mirrored)
        assert torch.equal(mirrored.mask, torch.isfinite(true))
        assert (mirrored.distance - true)[mirrored.mask].abs().max() < ON_SPHERE
        assert torch.equal(mirrored.hull_points.norm(dim=-1), supervision.hull_points.norm(dim=-1))

    def test_rays_meet_mirrored_points(self, views) -> None:
        supervision = draw(views)
        mirrored = supervision.mirrored(YES)
        flip = torch.tensor([-1.0, 1, 1])
        depth = torch.linspace(1, 3, 400)
        assert torch.equal(mirrored.rays.at(depth), supervision.rays.at(depth) * flip)

    def test_picture_and_rays_are_mirrored_together(self, views) -> None:
        """Half of all draws, and never one without the other."""
        supervision, image = draw(views), torch.rand(3, 8, 8)
        mirrored = 0
        for seed in range(40):
            seen, drawn = augmented(image, supervision, DataConfig(mirror="x"), seed)
            turned = torch.equal(drawn.origin, supervision.mirrored(YES).origin)
            assert torch.equal(seen, image.flip(-1) if turned else image)
            mirrored += turned
        assert 8 < mirrored < 32  # 20 +- 3.2: outside is four standard deviations


class TestAugmentation:
    def test_colours_of_input_and_target_change_alike(self, views) -> None:
        supervision = draw(views)
        pixels = supervision.colour[:64]
        image = pixels.T.reshape(3, 8, 8)
        jitter = DataConfig(colour_jitter=1.0)
        seen, drawn = augmented(image, supervision, jitter, 3)
        torch.testing.assert_close(seen.reshape(3, 64).T, drawn.colour[:64])
        assert not torch.allclose(seen, image, atol=0.05)
        assert drawn.colour.min() >= 0 and drawn.colour.max() <= 1 + 1e-6

    def test_grey_and_white_stay(self, views) -> None:
        image = torch.tensor([0.2, 0.7, 1.0]).expand(3, 3)[:, None]
        seen, _ = augmented(image, draw(views), DataConfig(colour_jitter=1.0), 3)
        torch.testing.assert_close(seen, image)

    def test_a_moved_picture_is_still_white_around(self, views) -> None:
        image = torch.ones(3, 16, 16)
        image[:, 6:10, 6:10] = 0
        seen, drawn = augmented(image, draw(views), DataConfig(crop_jitter=0.5), 1)
        assert not torch.equal(seen, image)
        torch.testing.assert_close(seen[:, 0], torch.ones(3, 16))
        # The mean darkness is the object's area times the square of the zoom, 1.25 at most.
        assert 0.5 < (1 - seen).sum() / (1 - image).sum() < 2
        assert torch.equal(drawn.origin, draw(views).origin)

    def test_nothing_changes_unasked(self, views) -> None:
        supervision, images = draw(views), torch.rand(1, 3, 8, 8)
        seen, drawn = augment(images, supervision, DataConfig(), [seeded()])
        assert seen is images and drawn is supervision

    def test_each_object_has_its_own_luck(self, views) -> None:
        """And the same as alone."""
        data = DataConfig(mirror="x", colour_jitter=0.7, crop_jitter=0.3)
        images = torch.rand(6, 3, 8, 8)
        several = [draw(views, seed) for seed in range(6)]
        stacked = Supervision(
            **{name: torch.stack([vars(one)[name] for one in several]) for name in vars(several[0])}
        )
        seen, drawn = augment(images, stacked, data, [seeded(seed) for seed in range(6)])
        flipped = []
        for index, one in enumerate(several):
            image, alone = augmented(images[index], one, data, index)
            torch.testing.assert_close(seen[index], image)
            torch.testing.assert_close(drawn.colour[index], alone.colour)
            assert torch.equal(drawn.origin[index], alone.origin)
            flipped.append(not torch.equal(alone.origin, one.origin))
        assert 0 < sum(flipped) < 6


def test_sparse_points_are_met_by_their_rays(views) -> None:
    points = torch.nn.functional.normalize(torch.randn(30, 3, generator=seeded()), dim=-1)
    points = RADIUS * points
    visibility = torch.zeros(6, 30, dtype=torch.bool)
    visibility[:, :7] = True
    known = replace(views, sparse=SparseDepth(points, visibility))
    supervision = draw(known, views=1, sparse_points=10)
    assert torch.isfinite(supervision.sparse_distance).sum() == 7
    distance = supervision.sparse_distance[:7, None]
    met = supervision.sparse_origin[:7] + distance * supervision.sparse_direction[:7]
    # Some order of exactly the seven visible points, to the rounding of a distance of 2.
    assert torch.cdist(met, points[:7]).amin(dim=1).max() < 1e-5
    assert torch.cdist(met, points[:7]).amin(dim=0).max() < 1e-5
    axis = (supervision.sparse_direction[:7] / supervision.sparse_per_camera_z[:7, None]).norm(
        dim=-1
    )
    assert (axis <= 1 + 1e-6).all()


def test_held_out_views_are_every_nth(views) -> None:
    centre = views.cameras.centre
    assert torch.equal(hold_out(views, 3, True).cameras.centre, centre[[0, 3]])
    assert torch.equal(hold_out(views, 3, False).cameras.centre, centre[[1, 2, 4, 5]])
    assert len(hold_out(views, 0, True)) == len(hold_out(views, 0, False)) == 6

"""The sculpture: sound geometry with a handle, pictures and truth that agree, a scene made once."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.cameras import Rays, pixel_grid
from common.data.scene_writer import SceneRecord
from common.data.sculpture import make, make_sculpture, truth
from common.data.sculpture.form import (
    RADIUS,
    Sculpture,
    arc,
    around,
    sculpture,
    smooth_difference,
    smooth_union,
    tapered,
)
from common.data.sculpture.glaze import finish
from common.data.sculpture.make import GRID_HALF, WORLD_FROM_OBJECT, Origin, make_record
from common.data.sculpture.photograph import LAMP, cameras_around, shade
from common.data.shapes import box, capsule, sphere
from common.data.sphere_tracer import StepGrid, step_grid, surface_normals, trace
from common.errors import UserError
from common.meshes.extract import extract_mesh
from common.scenes.scene import read_scene

SMALL_NUMBERS = dict(seed=0, views=3, size=40, surface_points=3000)
SMALL = Origin(**SMALL_NUMBERS)
NUMBERS = dict(views=2, size=24, surface_points=200, workers=1)


@pytest.fixture(scope="module")
def form() -> Sculpture:
    return sculpture()


@pytest.fixture(scope="module")
def grid(form) -> StepGrid:
    return step_grid(form.distance, GRID_HALF, 96)


@pytest.fixture(scope="module")
def made() -> SceneRecord:
    return make_record(SMALL)


def cloud(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1


def object_points(record: SceneRecord) -> torch.Tensor:
    points = record.surface_points.astype(float) - WORLD_FROM_OBJECT[:3, 3]
    return torch.from_numpy(points @ np.linalg.inv(WORLD_FROM_OBJECT[:3, :3]).T)


def object_normals(record: SceneRecord) -> torch.Tensor:
    # The transpose of a similarity's linear part turns back and scales.
    turned = torch.from_numpy(record.surface_normals.astype(float) @ WORLD_FROM_OBJECT[:3, :3])
    return torch.nn.functional.normalize(turned, dim=-1)


BLENDS = {
    "arc": arc((0.1, -0.1), 0.4, -100, 60, 0.1),
    "long arc": arc((-0.1, 0.1), 0.5, 20, 330, 0.05),
    "tapered": tapered(arc((0, 0), 0.5, 10, 80, 0.0), (0.1, 0.2), (0.4, 0.05)),
    "around": around(capsule((0.5, -0.3, 0), (0.6, 0.3, 0), 0.1), 7),
    "smooth union": smooth_union(sphere((0.2, 0, 0), 0.3), box((-0.2, 0, 0), (0.3,) * 3), 0.2),
    "smooth difference": smooth_difference(
        box((0, 0, 0), (0.4,) * 3), sphere((0.4,) * 3, 0.4), 0.2
    ),
}


@pytest.mark.parametrize("name", [*BLENDS, "sculpture"])
def test_no_distance_grows_faster_than_the_way_between_two_points(name, form):
    distance = form.distance if name == "sculpture" else BLENDS[name].distance
    first = cloud(20_000)
    for reach in (0.1, 0.003):
        second = first + reach * cloud(20_000, seed=1)
        grown = (distance(first) - distance(second)).abs()
        # float64: rounding is far below 1e-9 of steps of a thousandth and more.
        assert (grown <= (first - second).norm(dim=-1) * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("name", BLENDS)
def test_the_box_contains_the_shape(name):
    shape, points = BLENDS[name], cloud(50_000)
    inside = points[shape.distance(points) < 0].numpy()
    assert len(inside) > 100
    assert (inside >= shape.lower).all() and (inside <= shape.upper).all()


def test_distance_to_an_arc_is_that_to_its_points():
    shape = arc((0.1, -0.1), 0.4, -100, 60, 0.07)
    angle = torch.deg2rad(torch.linspace(-100, 60, 4001, dtype=torch.float64))
    x, y = 0.1 + 0.4 * angle.cos(), -0.1 + 0.4 * angle.sin()
    curve = torch.stack([x, y, torch.zeros_like(x)], dim=-1)
    points = cloud(500)
    exact = torch.cdist(points, curve).amin(dim=1) - 0.07
    # Neighbours on the curve are 2.8e-4 apart: from 0.01 off it, that is an error below 1e-6.
    clear = exact + 0.07 > 0.01
    torch.testing.assert_close(shape.distance(points)[clear], exact[clear], atol=2e-6, rtol=0)


def test_copies_around_the_axis_are_the_union_of_turned_ones():
    bead, count = sphere((0.6, 0.1, 0), 0.1), 9
    points, exact = cloud(2000), []
    for angle in 2 * np.pi * np.arange(count) / count:
        middle = torch.tensor([0.6 * np.cos(angle), 0.1, 0.6 * np.sin(angle)])
        exact.append((points - middle).norm(dim=-1) - 0.1)
    torch.testing.assert_close(around(bead, count).distance(points), torch.stack(exact).amin(dim=0))


def test_a_fillet_adds_to_a_union_and_takes_from_a_difference_only_near_the_edge():
    first, second, width = sphere((-0.2, 0, 0), 0.3), sphere((0.2, 0, 0), 0.3), 0.1
    points = cloud(20_000)
    a, b = first.distance(points), second.distance(points)
    added = torch.minimum(a, b) - smooth_union(first, second, width).distance(points)
    taken = smooth_difference(first, second, width).distance(points) - torch.maximum(a, -b)
    for change, far in ((added, (a - b).abs() >= width), (taken, (a + b).abs() >= width)):
        assert (change >= 0).all() and change.max() <= width / 4 + 1e-12
        assert (change[far] == 0).all() and (change[~far] > 0).any()


def test_it_fills_the_sphere_it_is_placed_in(form):
    mesh = extract_mesh(form.distance, (-GRID_HALF,) * 3, (GRID_HALF,) * 3, 64).mesh
    radius = np.linalg.norm(mesh.vertices, axis=1).max()
    # Vertices of triangles 0.03 wide miss tips of radius 0.05 by a few thousandths.
    assert RADIUS - 0.01 < radius <= RADIUS


def test_one_closed_surface_with_one_handle(form):
    mesh = extract_mesh(form.distance, (-GRID_HALF,) * 3, (GRID_HALF,) * 3, 128).mesh
    edges = np.sort(np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).all()
    # V - E + F = 2 (pieces - handles): none left over is a torus, if it is one piece.
    assert len(mesh.vertices) - len(unique) + len(mesh.faces) == 0
    label = np.arange(len(mesh.vertices))
    while True:
        lowest = label.copy()
        np.minimum.at(lowest, unique[:, 0], label[unique[:, 1]])
        np.minimum.at(lowest, unique[:, 1], label[unique[:, 0]])
        if np.array_equal(lowest, label):
            break
        label = lowest[lowest]
    assert (label == 0).all()


def test_surface_points_lie_on_the_surface_with_outward_unit_normals(form, made):
    points, normals = object_points(made), object_normals(made)
    # World coordinates of about 0.8, in float32, are good to 6e-8: ten times that in the object's.
    assert form.distance(points).abs().max() < 2e-6
    np.testing.assert_allclose(np.linalg.norm(made.surface_normals, axis=1), 1, atol=1e-6)
    # Where parts meet in a sharp crease another one begins within 1e-3: a few.
    assert (form.distance(points + 1e-3 * normals) > 0).double().mean() > 0.99
    assert (form.distance(points - 1e-3 * normals) < 0).double().mean() > 0.99


def test_surface_points_are_uniform_by_area(form, made):
    mesh = extract_mesh(form.distance, (-GRID_HALF,) * 3, (GRID_HALF,) * 3, 128).mesh
    a, b, c = mesh.vertices[mesh.faces].astype(float).transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    points = object_points(made).numpy()
    for axis in range(3):
        share = area[(a + b + c)[:, axis] > 0].sum() / area.sum()
        # Three standard deviations of a share among 3,000 points.
        assert abs((points[:, axis] > 0).mean() - share) < 3 * np.sqrt(share * (1 - share) / 3000)


def test_masks_are_where_half_the_samples_hit(form, made):
    """Against inclusion of dense points along the rays, without the tracer."""
    view, size = 1, SMALL.size
    corners = torch.tensor([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])
    pixel = (pixel_grid(size, size)[:, None] + corners).view(-1, 2)
    rays = made.cameras.rays(torch.full((len(pixel),), view), pixel)
    nearest = torch.full((len(pixel),), torch.inf)
    closest = -(rays.origin * rays.direction).sum(dim=-1)  # depth nearest to the centre
    for reach in torch.linspace(-RADIUS, RADIUS, 400):
        nearest = torch.minimum(nearest, form.distance(rays.at(closest + reach)))
    # Samples 0.0045 apart see a sphere of half that depth below the surface; those that neither
    # enter that deep nor stay clear are left open.
    surely = (nearest < 0).view(-1, 4).sum(dim=1)
    possibly = (nearest < 0.0023).view(-1, 4).sum(dim=1)
    mask = torch.from_numpy(made.coverage[view] > 127).view(-1)
    assert mask[surely >= 2].all() and not mask[possibly < 2].any()
    assert ((surely < 2) & (possibly >= 2)).float().mean() < 0.01


def test_background_is_white_and_outlines_are_mixed_with_it(form, grid, made):
    pixel = pixel_grid(SMALL.size, SMALL.size)
    pixel = (pixel[:, None] + (pixel_grid(2, 2) / 2 - 0.25)).view(-1, 2)
    rays = made.cameras.rays(torch.zeros(len(pixel), dtype=torch.long), pixel)
    hits = trace(form.distance, grid, rays).isfinite().view(SMALL.size, SMALL.size, 4).sum(dim=-1)
    image, coverage = made.images[0], made.coverage[0]
    assert np.array_equal(coverage, np.round(hits.numpy() * 255 / 4))
    assert (image[hits.numpy() == 0] == 255).all()
    # A pixel with three of four samples white is at least that bright.
    assert (image[hits.numpy() == 1] >= 191).all() and (image[hits.numpy() == 3] >= 63).all()
    assert image[hits.numpy() == 1].mean() > image[hits.numpy() == 3].mean()
    assert 0.1 < (coverage > 127).mean() < 0.6


def test_colours_depend_on_the_viewer_where_the_lamp_is_mirrored(form, grid):
    generator = torch.Generator().manual_seed(0)
    top = torch.tensor([[-0.05, 0.5, 0.2]]) + 0.05 * torch.randn(200, 3, generator=generator)
    origin = top * 3
    towards = torch.nn.functional.normalize(-origin, dim=-1)
    points = Rays(origin, towards).at(trace(form.distance, grid, Rays(origin, towards)))
    normal = surface_normals(form.distance, points)
    lamp = torch.nn.functional.normalize(torch.tensor(LAMP), dim=0)
    mirrored = lamp - 2 * (normal @ lamp)[:, None] * normal  # the way light goes on
    aside = torch.linalg.cross(normal, mirrored)
    aside = torch.nn.functional.normalize(aside - normal, dim=-1)
    number = torch.zeros(len(points), dtype=torch.long)
    at_mirror = shade(form, grid, points, mirrored, number)
    beside = shade(form, grid, points, aside, number)
    assert (at_mirror.mean(dim=1) - beside.mean(dim=1)).median() > 0.1
    # Seen from the same side it is the same colour.
    torch.testing.assert_close(at_mirror, shade(form, grid, points, mirrored, number))


def test_every_part_has_its_own_finish_and_the_belly_is_painted(form, made):
    points = object_points(made).float()
    surface = finish(form, points)
    assert ((surface.diffuse > 0) & (surface.diffuse < 1)).all()
    assert len(surface.exponent.unique()) == 3  # glaze, stone, gold
    glazed = surface.diffuse[surface.exponent == surface.exponent.max()]
    red, green, blue = glazed.unbind(-1)
    assert (red > 1.5 * blue).any() and (blue > 1.5 * red).any() and (glazed.amin(1) > 0.4).any()


def test_cameras_are_spread_and_see_the_whole_sculpture(made):
    cameras = cameras_around(np.random.default_rng(0), views=48, size=200)
    height = (cameras.centre / cameras.centre.norm(dim=-1, keepdim=True))[:, 1].sort().values
    # Even steps of height are even shares of the sphere.
    torch.testing.assert_close(height.diff(), torch.full((47,), 1.4 / 48), atol=1e-5, rtol=0)
    assert height[0] > -0.4 and height[0] < -0.3
    points = object_points(made).float()
    pixel, depth = cameras.project(points)
    assert (depth > 0).all()
    assert pixel.min() > -0.5 and pixel.max() < 199.5
    unit = cameras.centre / cameras.centre.norm(dim=-1, keepdim=True)
    apart = torch.rad2deg(torch.acos((unit @ unit.T).clamp(-1, 1))).fill_diagonal_(torch.inf)
    # 48 equal discs on 70 % of the sphere are some 27 degrees wide.
    assert apart.amin(dim=1).min() > 15


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(monkeypatch):
    monkeypatch.setattr(truth, "RESOLUTION", 32)
    smaller = Origin(0, 1, 16, 300)
    made, again, other = map(make_record, (smaller, smaller, replace(smaller, seed=1)))
    for name in ("images", "coverage", "surface_points", "surface_normals"):
        assert getattr(made, name).tobytes() == getattr(again, name).tobytes()
    assert made.images[0].tobytes() != other.images[0].tobytes()
    assert made.surface_points.tobytes() != other.surface_points.tobytes()


def test_a_scene_is_made_once_and_is_the_same_by_any_number_of_workers(tmp_path, made):
    root, numbers = tmp_path / "out" / "sculpture", SMALL_NUMBERS | {"workers": 2}
    make_sculpture(root, **numbers)
    assert [path.name for path in root.parent.iterdir()] == ["sculpture"]
    views, _ = read_scene(root, frame="sphere")
    assert np.array_equal(views.images.numpy(), made.images)
    assert np.array_equal(views.coverage.numpy(), made.coverage)
    torch.testing.assert_close(
        views.cameras.object_from_camera, made.cameras.object_from_camera, atol=1e-5, rtol=1e-5
    )
    np.testing.assert_allclose(views.world_from_object, WORLD_FROM_OBJECT, atol=1e-6)
    with np.load(root / "pointcloud.npz") as truth:
        assert np.array_equal(truth["points"], made.surface_points)
        assert np.array_equal(truth["normals"], made.surface_normals)
    before = (root / "image" / "000.png").stat().st_mtime_ns
    make_sculpture(root, **numbers)
    assert (root / "image" / "000.png").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="seed 0 instead of 4, views 3 instead of 5"):
        make_sculpture(root, **numbers | {"seed": 4, "views": 5})


def test_an_interrupted_scene_is_not_there_and_is_made_again(tmp_path, monkeypatch, made):
    def stop(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "make_record", lambda *_arguments: made)
    with monkeypatch.context() as patch:
        patch.setattr(make, "write_scene_files", stop)
        with pytest.raises(KeyboardInterrupt):
            make_sculpture(tmp_path / "scene", **NUMBERS)
    assert not (tmp_path / "scene").exists()
    (tmp_path / "scene.partial" / "image").mkdir(parents=True)
    (tmp_path / "scene.partial" / "image" / "999.png").touch()
    make_sculpture(tmp_path / "scene", **NUMBERS)
    assert len(list((tmp_path / "scene" / "image").iterdir())) == SMALL.views


@pytest.mark.parametrize("origin", [None, "", "- 1\n", "{"])
def test_a_folder_with_other_things_is_left_alone(tmp_path, origin):
    (tmp_path / "thesis.tex").write_text("all my work")
    if origin is not None:
        (tmp_path / "origin.yaml").write_text(origin)
    with pytest.raises(UserError, match="not made by this program.*choose another folder"):
        make_sculpture(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"


@pytest.mark.parametrize("name", ["views", "size", "surface_points"])
def test_numbers_below_one_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} of the sculpture is 0; choose a positive number"):
        make_sculpture(tmp_path / "scene", **NUMBERS | {name: 0})
    assert not list(tmp_path.iterdir())


def die(*_arguments):
    os._exit(9)


def test_a_killed_worker_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "_surface", die)
    monkeypatch.setattr(make, "_photograph", die)
    with pytest.raises(UserError, match="scene: a process.*killed.*run the same command again"):
        make_sculpture(tmp_path / "scene", **NUMBERS | {"workers": 2})
    assert not list(tmp_path.iterdir())

"""The furniture set: sound geometry, pictures that agree with it, and a set made once."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.collection import CollectionFolders, list_objects, read_views
from common.data.furniture import make, make_furniture
from common.data.furniture.make import GRID_HALF, KINDS, Origin, make_piece, make_record
from common.data.furniture.materials import Material
from common.data.furniture.photograph import cameras_around, shade
from common.data.furniture.piece import Part, Piece
from common.data.furniture.truth import surface_samples
from common.data.hull import inside_masks
from common.data.shapes import box
from common.data.sphere_tracer import step_grid
from common.errors import UserError

SMALL = Origin(
    seed=0,
    train=4,
    held_out=2,
    validation=1,
    views=6,
    size=32,
    points=2000,
    surface_points=500,
    kinds=("chair", "table"),
)
pieces = st.tuples(st.integers(0, 2**16), st.sampled_from(list(KINDS)), st.integers(0, 2**16))


@given(pieces)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_piece_is_lipschitz_and_stands_in_the_cube(which):
    piece = make_piece(*which)
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2000, 3, generator=generator) * 1.2 - 0.6
    way = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=-1)
    length = 0.003 + 0.1 * torch.rand(2000, 1, generator=generator)
    second = first + way * length
    grown = (piece.distance(first) - piece.distance(second)).abs()
    # float32 distances are good to 1e-6, which is 3e-4 of the shortest steps.
    assert (grown <= (first - second).norm(dim=-1) + 1e-6).all()
    distance = piece.distance(first)
    assert (first[distance < 0].abs() < 0.5 + 1e-6).all()


@given(pieces)
@settings(max_examples=5, deadline=None, derandomize=True)
def test_any_piece_has_its_longest_side_and_is_centred(which):
    piece = make_piece(*which)
    grid = step_grid(piece.distance, GRID_HALF)
    points, _ = surface_samples(piece, grid, np.random.default_rng(0), 4_000)
    lower, upper = points.amin(0), points.amax(0)
    # Turned boxes are bounded by their corners, which rounding takes away: up to a few per cent.
    assert 0.85 <= (upper - lower).max() <= 1.0 + 1e-4
    assert ((lower + upper) / 2).abs().max() < 0.06


@pytest.fixture(scope="module", params=list(KINDS))
def made(request):
    return make_piece(0, request.param, 3), make_record(SMALL, request.param, 3)


def test_mask_is_where_depth_is_finite(made):
    _, record = made
    assert np.array_equal(record.masks, np.isfinite(record.depth))
    assert 0.02 < record.masks.mean() < 0.8
    assert (record.images[~record.masks] == 255).all()


def test_depth_agrees_with_occupancy(made):
    piece, record = made
    view, row, column = np.nonzero(record.masks)
    pixel = torch.from_numpy(np.stack([column, row], axis=1)).float()
    view = torch.from_numpy(view)
    direction = record.cameras.unit_z_directions(view, pixel)
    length = direction.norm(dim=-1, keepdim=True)
    z = torch.from_numpy(record.depth[record.masks])[:, None]
    surface = record.cameras.centre[view] + z * direction
    assert piece.distance(surface).abs().max() < 2e-5  # the tracer's 1e-5 and float32
    before = surface - 1e-3 * direction / length
    behind = surface + 1e-3 * direction / length
    # Between the tracer's stop and the surface a grazing ray may run on for longer than 1e-3.
    assert (piece.distance(before) > 0).float().mean() > 0.995
    assert (piece.distance(behind) < 0).float().mean() > 0.97
    points = torch.from_numpy(record.points).float()
    assert torch.equal(piece.distance(points) < 0, torch.from_numpy(record.occupancies))


def test_no_occupied_point_lies_in_front_of_the_depth(made):
    _, record = made
    points = torch.from_numpy(record.points[record.occupancies]).float()
    pixel, z = record.cameras.project(points)
    size = record.cameras.height
    column, row = pixel.round().long().clamp(0, size - 1).unbind(-1)
    view = torch.arange(len(z))[:, None].expand_as(z)
    depth = torch.from_numpy(record.depth)[view, row, column]
    # Only where the point projects onto the pixel's centre is the ray through it the same: a tenth
    # of a pixel is a few thousandths of the cube, far less than the 0.02 allowed below.
    same_ray = (pixel - pixel.round()).abs().amax(dim=-1) < 0.1
    assert same_ray.any()
    assert ((z > depth - 0.02) | ~same_ray).float().mean() > 0.999


def test_hull_contains_the_object(made):
    _, record = made
    masks = torch.from_numpy(record.masks)
    points = torch.from_numpy(record.points).float()[torch.from_numpy(record.occupancies)]
    # Sharp tips thinner than a pixel may fall between pixel centres.
    assert inside_masks(points, masks, record.cameras).float().mean() > 0.98
    excess = record.hull_depth[record.masks] - record.depth[record.masks]
    assert (excess > 0.005).mean() < 0.02


def test_surface_points_lie_on_the_surface_with_outward_unit_normals(made):
    piece, record = made
    points = torch.from_numpy(record.surface_points)
    normals = torch.from_numpy(record.surface_normals)
    assert piece.distance(points).abs().max() <= 1e-5
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(points)))
    # In an inner corner another part begins, and at an edge the face ends, within 1e-3: a few.
    assert (piece.distance(points + 1e-3 * normals) > 0).float().mean() > 0.98
    assert (piece.distance(points - 1e-3 * normals) < 0).float().mean() > 0.98


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others():
    first, again = make_record(SMALL, "chair", 1), make_record(SMALL, "chair", 1)
    for name in ("images", "masks", "depth", "hull_depth", "surface_points", "points"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    other = make_record(Origin(**{**vars(SMALL), "seed": 1}), "chair", 1)
    assert first.depth.tobytes() != other.depth.tobytes()


def test_no_two_pieces_are_alike():
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    for kind in KINDS:
        distances = torch.stack([make_piece(0, kind, i).distance(points) for i in range(12)])
        apart = torch.cdist(distances, distances, p=1) / len(points)
        apart.fill_diagonal_(torch.inf)
        assert apart.min() > 0.003, kind


def test_every_camera_sees_the_whole_cube():
    cameras = cameras_around(np.random.default_rng(0), views=24, size=64)
    corners = torch.tensor(
        [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    )
    pixel, z = cameras.project(corners)
    assert (z > 0).all()
    assert pixel.min() > -1e-3 and pixel.max() < 63 + 1e-3
    elevation = torch.rad2deg(torch.asin(cameras.centre[:, 1] / cameras.centre.norm(dim=-1)))
    assert (elevation > 5).sum() == 22 and (elevation < 0).sum() == 2
    azimuth = torch.atan2(cameras.centre[:, 0], cameras.centre[:, 2]) % (2 * torch.pi)
    assert torch.equal((azimuth * 24 / (2 * torch.pi)).long().sort().values, torch.arange(24))


def test_the_front_faces_plus_z():
    # Down the middle, the highest thing is the back of a chair or sofa, or the head of a bed.
    for kind in ("chair", "sofa", "bed"):
        for index in range(5):
            piece = make_piece(0, kind, index)
            y, z = torch.meshgrid(
                torch.linspace(0.5, -0.5, 101), torch.linspace(-0.5, 0.5, 101), indexing="ij"
            )
            points = torch.stack([torch.zeros_like(y), y, z], dim=-1).view(-1, 3)
            occupied = (piece.distance(points) < 0).view(101, 101)
            top = occupied[occupied.any(dim=1).int().argmax()]
            assert z[0][top].mean() < 0, (kind, index)


def test_light_falls_from_above_and_a_lid_casts_a_shadow():
    grey = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), lambda points: torch.zeros(len(points)))
    floor, lid = box((0, -0.3, 0), (0.4, 0.02, 0.4)), box((0, 0.3, 0), (0.4, 0.02, 0.4))
    points = torch.tensor([[0.0, -0.28, 0.0], [0.0, -0.32, 0.0]])
    colours = []
    for shapes in ((floor,), (floor, lid)):
        piece = Piece(tuple(Part(shape, grey) for shape in shapes), 1.0, (0.0, 0.0, 0.0))
        colours.append(shade(piece, step_grid(piece.distance, GRID_HALF), points).mean(dim=1))
    alone, covered = colours
    assert alone[0] > 1.3 * alone[1]
    assert covered[0] < 0.8 * alone[0]
    torch.testing.assert_close(covered[1], alone[1])


def test_a_set_is_made_once_and_readable(tmp_path):
    numbers = dict(
        train=4,
        held_out=2,
        validation=2,
        views=3,
        size=16,
        points=300,
        surface_points=200,
        kinds=("chair", "lamp"),
        workers=1,
    )
    root = tmp_path / "furniture"
    make_furniture(root, seed=3, **numbers)
    assert not (tmp_path / "furniture.partial").exists()
    members = {split: list_objects(root, split, None) for split in ("train", "val", "test")}
    assert {split: len(entries) for split, entries in members.items()} == {
        "train": 4,
        "val": 2,
        "test": 2,
    }
    assert len({e.name for entries in members.values() for e in entries}) == 8
    views = read_views(
        members["test"][0], CollectionFolders(), with_depth=True, with_hull_depth=True
    )
    assert views.images.shape == (3, 16, 16, 3)
    marker = root / "chair" / "chair_0000" / "image" / "0000.png"
    before = marker.stat().st_mtime_ns
    make_furniture(root, seed=3, **numbers)
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="seed 3 instead of 4"):
        make_furniture(root, seed=4, **numbers)


def test_an_interrupted_set_is_taken_up_again(tmp_path, monkeypatch):
    numbers = dict(
        train=2,
        held_out=1,
        validation=0,
        views=2,
        size=16,
        points=100,
        surface_points=100,
        kinds=("chair",),
        workers=1,
    )
    real, calls = make._make_object, []

    def twice(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(make, "_make_object", twice)
    with pytest.raises(KeyboardInterrupt):
        make_furniture(tmp_path / "set", **numbers)
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(make, "_make_object", lambda *a: (calls.append(a), real(*a)))
    make_furniture(tmp_path / "set", **numbers)
    assert len(calls) == 3
    assert len(list_objects(tmp_path / "set", "train", None)) == 2


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="not made by this program"):
        make_furniture(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"


def test_kinds_that_cannot_be_made_are_named(tmp_path):
    with pytest.raises(UserError, match="no furniture is called piano"):
        make_furniture(tmp_path / "set", kinds=("piano",))
    with pytest.raises(UserError, match="held_out of 3 objects cannot show all"):
        make_furniture(tmp_path / "set", held_out=3)
    assert not list(tmp_path.iterdir())


def die(*_arguments):
    os._exit(9)


def test_a_killed_worker_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "_make_object", die)
    with pytest.raises(UserError, match="killed.*run the same command again"):
        make_furniture(tmp_path / "set", train=2, held_out=1, validation=0, kinds=("lamp",))

"""Collections made from mesh files: finding, reading, truth, pictures and the command line."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from common.cameras import Cameras, look_at, pixel_grid
from common.data import mesh_collection, mesh_rendering, mesh_truth
from common.data.collection import (
    CollectionFolders,
    list_objects,
    read_occupancy_points,
    read_surface_points,
    read_views,
)
from common.data.mesh_collection import split_names
from common.data.mesh_files import find_objects, missing_files, normalise, read_parts
from common.data.mesh_rendering import cameras_around, render_images, smooth_normals
from common.data.mesh_truth import (
    depth_maps,
    occupancy,
    outside,
    silhouettes,
    solid,
    visible_surface,
)
from common.errors import UserError

SCRIPT = Path(__file__).parents[1] / "scripts" / "render_dataset.py"

needs_embree = pytest.mark.skipif(
    importlib.util.find_spec("embreex") is None, reason="embreex is not installed ([render])"
)
needs_mitsuba = pytest.mark.skipif(
    importlib.util.find_spec("mitsuba") is None, reason="mitsuba is not installed ([render])"
)


# Finding and reading meshes


def write_mesh(path: Path, subdivisions: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.icosphere(subdivisions, 3.0).export(path)
    return path


def test_a_flat_folder_is_one_category_of_single_files(tmp_path):
    write_mesh(tmp_path / "balls" / "b.ply")
    write_mesh(tmp_path / "balls" / "a.obj")
    found = find_objects(tmp_path / "balls")
    assert [(s.category, s.name) for s in found] == [("balls", "a"), ("balls", "b")]


def test_object_folders_and_category_folders_are_told_apart(tmp_path):
    write_mesh(tmp_path / "all" / "cup" / "x.stl")
    write_mesh(tmp_path / "all" / "chairs" / "one" / "x.ply")
    write_mesh(tmp_path / "all" / "03001627" / "1a04" / "models" / "model_normalized.obj")
    found = {(s.category, s.name) for s in find_objects(tmp_path / "all")}
    assert found == {("all", "cup"), ("chairs", "one"), ("03001627", "1a04")}


def test_the_largest_mesh_is_taken_unless_a_manifest_names_another(tmp_path):
    write_mesh(tmp_path / "set" / "one" / "small.ply", 1)
    write_mesh(tmp_path / "set" / "one" / "large.ply", 2)
    (source,) = find_objects(tmp_path / "set")
    assert (source.path.name, source.passed_over) == ("large.ply", 1)
    entry = {"dir": "one", "main": ["small.ply"], "creator": "A. Maker", "licence": "CC0"}
    (tmp_path / "set" / "manifest.json").write_text(json.dumps([entry]))
    (source,) = find_objects(tmp_path / "set", category="renamed")
    assert (source.path.name, source.category) == ("small.ply", "renamed")
    assert source.credit["creator"] == "A. Maker"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [("{", "expected a JSON list"), ('[{"main": "x"}]', "expected a JSON list"),
     ('[{"dir": "one", "main": "gone.ply"}]', "names gone.ply")],
)  # fmt: skip
def test_a_bad_manifest_is_refused(tmp_path, manifest, message):
    write_mesh(tmp_path / "one" / "x.ply")
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=message):
        find_objects(tmp_path)


def test_a_missing_folder_and_one_without_meshes_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_objects(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no meshes found; expected files ending in .obj"):
        find_objects(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ply", "not a mesh", "cannot be read as a mesh"),
        ("a.obj", "# nothing\n", "cannot be read as a mesh|no triangle"),
        ("a.obj", "v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no triangle with an area"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 nan 0\nf 1 2 3\n", "not finite"),
    ],
)
def test_broken_meshes_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_parts(tmp_path / name)


def test_triangles_without_area_are_left_out(tmp_path):
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0.5 1e-14 0\nf 1 2 3\nf 1 2 4\nf 1 1 3\n"
    )
    (part,) = read_parts(tmp_path / "a.obj")
    assert len(part.corners) == 1


def test_scene_transforms_are_applied_and_the_object_fills_the_cube(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 2, 3))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([10, 0, 0]))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([13, 0, 0]))
    scene.export(tmp_path / "two.glb")
    parts, object_from_file = normalise(read_parts(tmp_path / "two.glb"), "y")
    corners = np.concatenate([part.corners.reshape(-1, 3) for part in parts])
    # The two boxes span 4 x 2 x 3 around (11.5, 0, 0); 4 becomes 0.9. Float32 file.
    np.testing.assert_allclose(corners.max(axis=0), [0.45, 0.225, 0.3375], atol=1e-6)
    np.testing.assert_allclose(corners.min(axis=0), [-0.45, -0.225, -0.3375], atol=1e-6)
    centre = object_from_file @ [11.5, 0, 0, 1]
    np.testing.assert_allclose(centre, [0, 0, 0, 1], atol=1e-6)


def test_z_up_becomes_y_up_without_mirroring(tmp_path):
    trimesh.creation.box((1, 2, 4)).export(tmp_path / "tall.ply")
    _, object_from_file = normalise(read_parts(tmp_path / "tall.ply"), "z")
    np.testing.assert_allclose(object_from_file[:3, :3] @ [0, 0, 4], [0, 0.9, 0], atol=1e-6)
    assert np.linalg.det(object_from_file[:3, :3]) > 0


def textured_quad(folder: Path) -> Path:
    """A square facing +z whose picture is red, green over blue, white."""
    picture = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(picture).resize((64, 64), Image.Resampling.NEAREST).save(folder / "four.png")
    (folder / "quad.mtl").write_text("newmtl m\nKd 0.1 0.1 0.1\nmap_Kd four.png\n")
    (folder / "quad.obj").write_text(
        "mtllib quad.mtl\nv -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    return folder / "quad.obj"


def test_missing_textures_are_named(tmp_path):
    path = textured_quad(tmp_path)
    assert missing_files(path) == []
    (tmp_path / "four.png").unlink()
    assert missing_files(path) == ["four.png"]
    (tmp_path / "quad.mtl").unlink()
    assert missing_files(path) == ["quad.mtl"]


# Truth


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 3))


def in_box(points: np.ndarray, extents: list[float], centre: list[float]) -> np.ndarray:
    return (np.abs(points - centre) < np.array(extents) / 2).all(axis=1)


def box(extents: list[float], centre: list[float]) -> trimesh.Trimesh:
    return trimesh.creation.box(extents, trimesh.transformations.translation_matrix(centre))


@needs_embree
def test_overlapping_and_nested_boxes_are_one_solid(points):
    boxes = [([0.6, 0.4, 0.5], [-0.1, 0, 0]), ([0.3, 0.8, 0.3], [0.1, 0.05, 0]),
             ([0.1, 0.1, 0.1], [-0.2, 0, 0])]  # fmt: skip
    meshes = [box(*one) for one in boxes]
    meshes[1].invert()  # faces may be turned either way
    shape = solid(np.concatenate([mesh.triangles for mesh in meshes]))
    exact = np.any([in_box(points, *one) for one in boxes], axis=0)
    # Rays at planes are exact: a few points within a step of a face would be the only exceptions.
    assert (occupancy(shape, points) == exact).mean() > 0.9995


@needs_embree
def test_cracks_stay_shut(points):
    sphere = trimesh.creation.icosphere(3, 0.45)
    kept = np.random.default_rng(1).random(len(sphere.faces)) > 0.03
    exact = np.linalg.norm(points, axis=1) < 0.45
    agreement = (occupancy(solid(sphere.triangles[kept]), points) == exact).mean()
    # Bulges behind 39 missing triangles 0.06 wide, and the sphere's facets, account for 0.5 %.
    assert agreement > 0.993


@needs_embree
def test_a_deep_cup_stays_hollow(points):
    profile = np.array([[0, -0.45], [0.3, -0.45], [0.3, 0.45], [0.25, 0.45], [0.25, -0.4],
                        [0, -0.4]])  # fmt: skip
    cup = trimesh.creation.revolve(profile, sections=64)  # around z
    radius, height = np.hypot(points[:, 0], points[:, 1]), points[:, 2]
    exact = (radius < 0.3) & (np.abs(height) < 0.45) & ~((radius < 0.25) & (height > -0.4))
    # 64 sides cut off 0.12 % of the radius: some 0.05 % of the points.
    assert (occupancy(solid(cup.triangles), points) == exact).mean() > 0.998


@needs_embree
def test_a_box_without_a_side_is_hollow_and_its_sides_are_slabs(points):
    whole = box([0.8, 0.8, 0.8], [0, 0, 0])
    shape = solid(whole.triangles[whole.face_normals[:, 1] > -0.5])
    inside = occupancy(shape, points)
    core = in_box(points, [0.75] * 3, [0, 0, 0])
    assert inside[core].mean() < 0.02  # the far corners see the sky through little
    walls = np.abs(np.abs(points[:, 0]) - 0.4) < 0.9 * mesh_truth.SHEET
    walls &= (np.abs(points[:, 1:]) < 0.35).all(axis=1) & (points[:, 1] < 0)
    assert walls.sum() > 30 and inside[walls].all()


@needs_embree
def test_a_sheet_gets_thickness_and_a_thin_plate_keeps_its_own(points):
    points = points * [1, 0.05, 1]  # dense near the plane y = 0
    plate = box([0.8, 0.004, 0.8], [0, 0, 0])
    exact = in_box(points, [0.8, 0.004, 0.8], [0, 0, 0])
    assert (occupancy(solid(plate.triangles), points) == exact).mean() > 0.9995
    top = plate.triangles[plate.face_normals[:, 1] > 0.5] - [0, 0.002, 0]
    exact = in_box(points, [0.8, 2 * mesh_truth.SHEET, 0.8], [0, 0, 0])
    # 256 directions find the nearest surface at up to 1 / cos(9 degrees) of its distance, and the
    # rim is round where the box is square: 1.2 % + 1 % of these points.
    assert (occupancy(solid(top), points) == exact).mean() > 0.975


@needs_embree
def test_visible_surface_leaves_out_what_is_hidden_and_faces_outwards():
    outer, inner = box([0.8, 0.8, 0.8], [0, 0, 0]), box([0.5, 0.5, 0.5], [0, 0, 0])
    outer.invert()
    shape = solid(np.concatenate([outer.triangles, inner.triangles]))
    points, normals = visible_surface(shape, 1000, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.4, atol=1e-6)
    assert ((points * normals).sum(axis=1) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


@needs_embree
def test_outside_of_no_points_is_empty():
    assert outside(solid(box([1, 1, 1], [0, 0, 0]).triangles), np.empty((0, 3))).shape == (0,)


def four_sides(size: int) -> Cameras:
    """Cameras at +z, +x, -z, -x of the object, looking at it."""
    centre = 1.7 * torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    pose = look_at(centre, torch.zeros(4, 3), torch.tensor([0.0, 1.0, 0.0]))
    half = (size - 1) / 2
    intrinsics = torch.tensor([[2 * half, 0, half], [0, 2 * half, half], [0, 0, 1.0]])
    return Cameras(intrinsics.repeat(4, 1, 1), pose, size, size)


@needs_embree
def test_unprojected_depth_lies_on_the_surface():
    cameras = cameras_around(3, 24, 1.7, 2.0, (-40.0, 60.0), np.random.default_rng(0))
    shape = solid(box([0.7, 0.7, 0.7], [0, 0, 0]).triangles)
    depth = torch.from_numpy(depth_maps(shape, cameras)).reshape(3, -1)
    for view in range(3):
        hit = depth[view].isfinite()
        index = torch.full((int(hit.sum()),), view)
        pixel = pixel_grid(24, 24)[hit]
        points = cameras.centre[view] + (
            depth[view][hit, None] * cameras.unit_z_directions(index, pixel)
        )
        assert 100 < len(points) < 400
        # Float32 through poses and distances near 2.
        np.testing.assert_allclose(points.abs().amax(dim=1), 0.35, atol=2e-6)


@needs_embree
def test_silhouettes_hold_what_falls_between_pixel_centres():
    cameras = four_sides(16)
    # Edge-on it is half a pixel thick, between the two middle rows of centres.
    shape = solid(box([0.6, 0.06, 0.6], [0, 0, 0]).triangles)
    assert not np.isfinite(depth_maps(shape, cameras)).any()
    rows = silhouettes(shape, cameras).any(axis=2)
    assert (np.flatnonzero(rows.all(axis=0)) == [7, 8]).all() and rows.sum() == 2 * 4


# Cameras and pictures


def test_cameras_cover_the_sphere_between_the_elevations():
    cameras = cameras_around(12, 16, 1.7, 2.1875, (10.0, 50.0), np.random.default_rng(3))
    centre = cameras.centre.double()
    np.testing.assert_allclose(centre.norm(dim=1), 1.7, atol=1e-6)
    elevation = torch.rad2deg(torch.asin(centre[:, 1] / 1.7))
    assert 10 <= elevation.min() and elevation.max() <= 50
    azimuth = torch.atan2(centre[:, 0], centre[:, 2]) % (2 * torch.pi)
    assert sorted((azimuth // (2 * torch.pi / 12)).int().tolist()) == list(range(12))
    pixel, z = cameras.project(torch.zeros(1, 3))
    np.testing.assert_allclose(pixel, 7.5, atol=1e-4)
    assert (z > 0).all()
    higher, _ = cameras.project(torch.tensor([[0.0, 0.1, 0.0]]))
    assert (higher[..., 1] < pixel[..., 1]).all()  # y is up in the pictures


def test_normals_are_smooth_on_a_sphere_and_sharp_on_a_box():
    sphere = trimesh.creation.icosphere(2, 1.0)
    unit = sphere.triangles / np.linalg.norm(sphere.triangles, axis=2, keepdims=True)
    cosine = (smooth_normals(sphere.triangles) * unit).sum(axis=2)
    assert cosine.min() > np.cos(np.radians(3))  # its faces are up to 11 degrees off
    cube = trimesh.creation.box((1, 1, 1))
    flat = np.repeat(cube.face_normals[:, None], 3, axis=1)
    np.testing.assert_allclose(smooth_normals(cube.triangles), flat, atol=1e-12)


@needs_mitsuba
def test_textures_are_upright_and_seen_from_both_sides(tmp_path):
    parts, _ = normalise(read_parts(textured_quad(tmp_path)), "y")
    front, _, back, _ = render_images(parts, four_sides(32), 16, 0.0, 0)
    # The square's corners are at 0.45 / 1.7 * 31 = 8 pixels from the middle.
    quarters = {"red": (12, 12), "green": (12, 20), "blue": (20, 12), "white": (20, 20)}
    for name, (row, column) in quarters.items():
        dominant = {"red": 0, "green": 1, "blue": 2}.get(name)
        for colour in (front[row, column].astype(int), back[row, 31 - column].astype(int)):
            if dominant is None:
                assert colour.min() > 120 and np.ptp(colour) < 12
            else:
                assert colour[dominant] > 100 and np.delete(colour, dominant).max() < 40
    assert (front[2, 2] == 255).all()


@needs_mitsuba
def test_vertex_colours_are_kept(tmp_path):
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual.vertex_colors = np.tile([200, 20, 20, 255], (8, 1))
    mesh.export(tmp_path / "red.ply")
    parts, _ = normalise(read_parts(tmp_path / "red.ply"), "y")
    for gloss in (0.0, 0.5):
        pixel = render_images(parts, four_sides(16), 16, gloss, 0)[0, 8, 8].astype(int)
        assert pixel[0] > 2 * pixel[1:].max()


@needs_mitsuba
@needs_embree
def test_pictures_and_masks_are_of_the_same_camera(tmp_path):
    scene = trimesh.Scene(
        [box([0.9, 0.2, 0.1], [0, 0, 0]), box([0.1, 0.6, 0.3], [0.2, 0.3, 0.1])]
    )  # without any symmetry, so that a flipped axis shows
    scene.export(tmp_path / "l.glb")
    parts, _ = normalise(read_parts(tmp_path / "l.glb"), "y")
    cameras = cameras_around(4, 48, 1.7, 2.1875, (-30.0, 60.0), np.random.default_rng(0))
    # Grey, so every pixel that the object covers wholly is well below white.
    covered = render_images(parts, cameras, 16, 0.0, 0).max(axis=3) < 255
    mask = np.isfinite(depth_maps(solid(np.concatenate([p.corners for p in parts])), cameras))
    # A pixel whose centre hits is covered at least in part; the reverse fails only at outlines,
    # by about half a pixel: so does a shift by one.
    assert covered[mask].mean() > 0.99
    grown = mask | np.roll(mask, 1, 1) | np.roll(mask, -1, 1)
    grown |= np.roll(grown, 1, 2) | np.roll(grown, -1, 2)
    assert grown[covered].all()
    for axis in (1, 2):
        for shift in (-1, 1):
            shifted = np.roll(covered, shift, axis)
            assert (shifted != mask).sum() > 1.2 * (covered != mask).sum()


# The command


def test_every_nth_is_held_out_and_no_object_is_in_two_splits():
    names = [f"{i:02d}" for i in range(32)]
    splits = split_names(names, 5)
    assert splits["test"] == ["04", "09", "14", "19", "24", "29"]
    assert len(splits["val"]) == 3
    assert sorted(sum(splits.values(), [])) == names
    assert split_names(names, 0)["test"] == []


def run(monkeypatch, *arguments) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "argv", ["render_dataset.py", *map(str, arguments)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    return 0


QUICK = ("--views", 2, "--size", 16, "--samples", 2, "--workers", 1, "--holdout-every", 2)


@pytest.fixture
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_collection, "SURFACE_POINTS", 300)
    monkeypatch.setattr(mesh_collection, "VOLUME_POINTS", 400)


@needs_mitsuba
@needs_embree
@pytest.mark.usefixtures("few_points")
def test_a_folder_of_meshes_becomes_a_collection(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        write_mesh(tmp_path / "balls" / name / "ball.obj", 3)
    (tmp_path / "balls" / "c").mkdir()
    (tmp_path / "balls" / "c" / "broken.ply").write_text("not a mesh")
    credit = {"dir": "a", "creator": "A. Maker", "licence": "CC-BY-3.0"}
    (tmp_path / "balls" / "manifest.json").write_text(json.dumps([credit]))
    out = tmp_path / "out"
    assert run(monkeypatch, tmp_path / "balls", out, *QUICK) == 0
    printed = capsys.readouterr()
    assert "2 rendered, 1 skipped (skipped: balls/c)" in printed.out
    assert "skipped balls/c" in printed.err and "cannot be read as a mesh" in printed.err
    assert "rendering: object 3 of 3 (100%)" in printed.err and "\r" not in printed.err
    assert json.loads((out / "credits.json").read_text()) == {"balls/a": credit}

    (train,) = list_objects(out, "train", None)
    (test,) = list_objects(out, "test", None)
    assert (train.name, test.name) == ("a", "b")
    views = read_views(train, CollectionFolders(), with_depth=True, with_hull_depth=True)
    assert views.depth is not None and views.hull_depth is not None
    assert views.images.shape == (2, 16, 16, 3)
    assert torch.equal(views.masks, views.depth.isfinite())
    assert torch.equal(views.masks, views.hull_depth.isfinite())
    # The hull contains the object: its first point is no farther, but for the last bisection.
    assert (views.hull_depth <= views.depth + 1e-3)[views.masks].all()
    points, inside = read_occupancy_points(train)
    radius = np.linalg.norm(points, axis=1)
    # A ball of radius 0.45 with facets, whose middles are 0.7 % nearer.
    assert (inside == (radius < 0.45))[np.abs(radius - 0.45) > 0.004].all()
    surface, normals = read_surface_points(train)
    assert np.abs(np.linalg.norm(surface, axis=1) - 0.45).max() < 0.004
    assert ((surface * normals).sum(axis=1) > 0.44).all()

    # The same command keeps what is there, and other settings are refused.
    stamp = (out / "balls" / "a" / "source.json").stat().st_mtime_ns
    (tmp_path / "balls" / "c" / "broken.ply").unlink()
    write_mesh(tmp_path / "balls" / "c" / "mended.ply")
    assert run(monkeypatch, tmp_path / "balls", out, *QUICK) == 0
    assert "1 rendered, 0 skipped, 2 were there already" in capsys.readouterr().out
    assert (out / "balls" / "a" / "source.json").stat().st_mtime_ns == stamp
    assert run(monkeypatch, tmp_path / "balls", out, *QUICK, "--seed", 1) == 2
    assert "other settings: seed 0 (now 1)" in capsys.readouterr().err


@needs_mitsuba
@needs_embree
@pytest.mark.usefixtures("few_points")
def test_an_object_is_the_same_whatever_else_is_rendered(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_mesh(tmp_path / "balls" / f"{name}.obj")
    assert run(monkeypatch, tmp_path / "balls", tmp_path / "both", *QUICK) == 0
    (tmp_path / "balls" / "a.obj").unlink()
    assert run(monkeypatch, tmp_path / "balls", tmp_path / "one", *QUICK) == 0
    first, second = (tmp_path / out / "balls" / "b" for out in ("both", "one"))
    files = sorted(path.relative_to(first) for path in first.rglob("*.*") if path.suffix != ".npz")
    assert len(files) == 2 * 4 + 1
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    for name in ("cameras.npz", "points.npz", "pointcloud.npz"):
        with np.load(first / name) as one, np.load(second / name) as other:
            assert all(np.array_equal(one[key], other[key]) for key in one)


@needs_mitsuba
@needs_embree
def test_no_object_at_all_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.obj").write_text("nothing\n")
    assert run(monkeypatch, tmp_path / "set", tmp_path / "out", *QUICK) == 2
    assert "no object could be rendered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere", "{tmp}/out"], "nowhere: no such folder"),
        (["{tmp}/set", "{tmp}/out", "--views", "0"], "--views: expected at least 1"),
        (["{tmp}/set", "{tmp}/out", "--elevation", "50", "10"], "LOW HIGH in order"),
        (["{tmp}/set", "{tmp}/set", "{tmp}/out"], "the same object: set/a"),
        (["{tmp}/set", "{tmp}/set", "{tmp}/out", "--category", "x"], "one MESH_DIR"),
        (["{tmp}/set", "{tmp}/out", "--gloss", "2"], "--gloss: expected 0 to 1"),
        (["{tmp}/set", "{tmp}/out", "--texture", "a.png"], "--texture: is for a scene"),
        (["{tmp}/set", "{tmp}/out", "--ground"], "--ground: is for a scene"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    write_mesh(tmp_path / "set" / "a.ply")
    assert run(monkeypatch, *(text.format(tmp=tmp_path) for text in arguments)) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@needs_mitsuba
@needs_embree
def test_a_folder_of_something_else_is_not_written_to(tmp_path, monkeypatch, capsys):
    write_mesh(tmp_path / "set" / "a.ply")
    assert run(monkeypatch, tmp_path / "set", tmp_path / "set") == 2
    assert "was not made by this command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "load"),
    [("mitsuba", mesh_rendering.load_mitsuba), ("embreex.rtcore_scene", mesh_truth.load_embree)],
)  # fmt: skip
def test_a_missing_renderer_says_how_to_install_it(monkeypatch, module, load):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[render\]'"):
        load()

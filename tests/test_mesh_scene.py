"""Scenes rendered from one mesh: frames, cameras, light, texture, resuming and the command line."""

import importlib.util
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from common.cameras import pixel_grid
from common.data import mesh_scene
from common.data.mesh_files import Part, read_parts
from common.data.mesh_rendering import KEY_TOWARDS, cameras_all_around, lit_scene, photograph
from common.data.mesh_scene import (
    ABOVE_GROUND,
    RADIUS,
    SceneSettings,
    find_mesh,
    find_texture,
    fit_to_ball,
    read_textured,
    render_scene,
)
from common.data.textured_ground import COVER, PIXELS, SIDE, dead_leaves, textured_ground
from common.errors import UserError
from common.scenes.scene import read_scene, read_scene_truth

SCRIPT = Path(__file__).parents[1] / "scripts" / "render_dataset.py"
SPOT = Path(__file__).parents[2] / "shared" / "data" / "spot"
CENTRE, SIZE = np.array([10.0, -4.0, 2.0]), 3.0  # of the ball, in its file
QUICK = SceneSettings(
    views=4, size=24, samples=2, seed=0, up="y", distance=3.0, focal=3.1, gloss=0.5, ground=False
)

needs_renderers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mitsuba", "embreex"))),
    reason="mitsuba and embreex are not installed ([render])",
)


@pytest.fixture
def ball(tmp_path) -> Path:
    path = tmp_path / "meshes" / "ball.ply"
    path.parent.mkdir()
    trimesh.creation.icosphere(3, SIZE).apply_translation(CENTRE).export(path)
    return path


@pytest.fixture
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_scene, "SURFACE_POINTS", 500)


# Frames and cameras


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_farthest_corner_touches_the_ball_and_the_world_is_the_files(tmp_path, up):
    box = trimesh.creation.box((1, 2, 4)).apply_translation([5, 6, 7])
    box.export(tmp_path / "box.ply")
    parts = read_parts(tmp_path / "box.ply")
    (moved,), world_from_object = fit_to_ball(parts, up)
    distance = np.linalg.norm(moved.corners, axis=-1)
    # A box is symmetric about its centre: all corners are equally far. Float32 file.
    np.testing.assert_allclose(distance, RADIUS, atol=1e-6)
    back = moved.corners @ world_from_object[:3, :3].T + world_from_object[:3, 3]
    np.testing.assert_allclose(back, parts[0].corners, atol=1e-6)
    tallest = np.ptp(moved.corners.reshape(-1, 3), axis=0).argmax()
    assert tallest == (2 if up == "y" else 1)


@pytest.mark.parametrize("views", [10, 60])
def test_cameras_are_spread_evenly_all_around(views):
    cameras = cameras_all_around(views, 50, 3.0, 3.1, np.random.default_rng(views))
    towards = cameras.centre.double() / 3
    np.testing.assert_allclose(towards.norm(dim=1), 1, atol=1e-6)
    cosine = (towards @ towards.T).clamp(-1, 1) - 2 * torch.eye(views)
    nearest = torch.arccos(cosine.max(dim=1).values)
    # The best packing of n discs has their centres sqrt(8 pi / sqrt(3) / n) apart (hexagons); a
    # Fibonacci lattice comes within two thirds of it everywhere but at its poles.
    ideal = np.sqrt(8 * np.pi / np.sqrt(3) / views)
    assert nearest.min() > 0.6 * ideal and nearest.max() < 1.1 * ideal
    assert towards.mean(dim=0).norm() < 0.1
    assert (towards[:, 1] < -0.5).sum() >= views / 5  # a quarter of a sphere is below that
    pixel, z = cameras.project(torch.zeros(1, 3))
    np.testing.assert_allclose(pixel, 24.5, atol=1e-4)
    assert (z > 0).all()


def test_neighbours_on_the_sphere_have_unrelated_numbers():
    heights = cameras_all_around(60, 50, 3.0, 3.1, np.random.default_rng(0)).centre[:, 1]
    # In the lattice's own order this is -1, and every eighth view lies on one strip.
    assert abs(np.corrcoef(np.arange(60), heights)[0, 1]) < 0.3


@pytest.mark.parametrize("views", [10, 60])
def test_cameras_of_a_zone_are_spread_evenly_within_it(views):
    cameras = cameras_all_around(views, 50, 3.0, 3.1, np.random.default_rng(0), ABOVE_GROUND)
    towards = cameras.centre.double() / 3
    low, high = np.sin(np.radians(ABOVE_GROUND))
    # A zone's area grows with the sine of the elevation.
    share = (towards[:, 1].sort().values - low) / (high - low)
    np.testing.assert_allclose(share, (np.arange(views) + 0.5) / views, atol=1e-6)
    cosine = (towards @ towards.T).clamp(-1, 1) - 2 * torch.eye(views)
    nearest = torch.arccos(cosine.max(dim=1).values)
    ideal = np.sqrt(8 * np.pi / np.sqrt(3) / views * (high - low) / 2)  # as for a whole sphere
    assert nearest.min() > 0.5 * ideal and nearest.max() < 1.3 * ideal


# Ground


def test_the_ground_is_level_and_its_picture_covers_it_once():
    ground = textured_ground(-0.7, 0)
    assert (ground.corners[..., 1] == -0.7).all()
    edges = np.diff(ground.corners, axis=1)
    normal = np.cross(edges[:, 0], edges[:, 1]) / 2
    np.testing.assert_allclose(normal, [[0, SIDE**2 / 2, 0]] * 2)
    # East is to the right in the picture and north at its top.
    east_north = ground.corners[..., [0, 2]] * [1, -1]
    np.testing.assert_allclose(ground.uv, east_north / SIDE + 0.5)
    assert ground.texture.shape == (PIXELS, PIXELS, 3)


def test_dead_leaves_have_detail_at_every_scale_and_never_repeat():
    grey = dead_leaves(1024, np.random.default_rng(0)).mean(axis=2)
    np.testing.assert_array_equal(grey, dead_leaves(1024, np.random.default_rng(0)).mean(axis=2))
    assert not np.array_equal(grey, dead_leaves(1024, np.random.default_rng(1)).mean(axis=2))
    spread = []
    for side in (4, 16, 64):
        blocks = grey.reshape(1024 // side, side, -1, side).mean(axis=(1, 3))
        spread.append(np.abs(np.diff(blocks, axis=0)).mean())
    # Neighbouring blocks of every size differ by much more than noise.
    assert min(spread) > 10
    power = np.abs(np.fft.rfft2(grey - grey.mean())) ** 2
    likeness = np.fft.irfft2(power)
    likeness /= likeness[0, 0]
    rows, columns = np.indices(likeness.shape)
    far = np.hypot(np.minimum(rows, 1024 - rows), np.minimum(columns, 1024 - columns)) > 300
    assert likeness[far].max() < 0.3  # a repeated tile would have 1
    bare = (dead_leaves(1024, np.random.default_rng(2)) == [85, 127, 107]).all(axis=2).mean()
    assert bare < 2 * np.exp(-COVER)


@needs_renderers
@pytest.mark.usefixtures("few_points")
def test_on_the_ground_masks_are_of_the_object_and_pictures_of_both(tmp_path, ball):
    settings = replace(QUICK, size=48, focal=2.0, samples=4)
    for name, ground in (("plain", False), ("ground", True)):
        list(render_scene(ball, None, tmp_path / name, replace(settings, ground=ground)))
    views, _ = read_scene(tmp_path / "ground", frame="sphere")
    height = views.cameras.centre[:, 1] / 3
    low, high = np.sin(np.radians(ABOVE_GROUND))
    assert (height > low).all() and (height < high).all()
    share = views.masks.float().mean()
    # The same disc as without ground: pi (tan(asin(0.3)) * 2 / 2)^2 of the picture's square / 4.
    plain, _ = read_scene(tmp_path / "plain", frame="sphere")
    assert abs(share / plain.masks.float().mean() - 1) < 0.03
    view = torch.arange(4).repeat_interleave(48 * 48)
    rays = views.cameras.rays(view, pixel_grid(48, 48).repeat(4, 1))
    down = rays.at((-RADIUS - rays.origin[:, 1]) / rays.direction[:, 1])
    on_ground = (rays.direction[:, 1] < 0) & (down.abs().amax(dim=1) < 0.9 * SIDE / 2)
    beside = ~views.masks.flatten() & on_ground
    sky = rays.direction[:, 1] > 0.1
    colours = views.images.flatten(0, 2).float()
    away = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1) > 1.1 * RADIUS
    assert (colours[sky & away] == 255).all()
    seen = colours[beside & away]
    assert (seen.mean(dim=1) < 240).float().mean() > 0.99
    assert seen[:, 1].mean() > 1.2 * seen[:, 0].mean()  # greenish
    assert seen.std(dim=0).min() > 15  # with a texture


# Light


def seen_on_ball(light: str, gloss: float) -> tuple[np.ndarray, np.ndarray]:
    """Normals of a grey ball and the linear grey seen there."""
    ball = trimesh.creation.icosphere(4, RADIUS)
    cameras = cameras_all_around(6, 32, 3.0, 3.1, np.random.default_rng(0))
    scene = lit_scene([Part(ball.triangles, None, None, None, (0.6, 0.6, 0.6))], gloss, light)
    normals, greys = [], []
    for view in range(6):
        rays = cameras.rays(torch.full((32 * 32,), view), pixel_grid(32, 32))
        along = -(rays.origin * rays.direction).sum(-1)
        nearest = rays.at(along)
        hit = nearest.norm(dim=-1) < 0.95 * RADIUS  # clear of the outline
        back = (RADIUS**2 - nearest.square().sum(-1).clamp(max=RADIUS**2)).sqrt()
        normals.append((rays.at(along - back) / RADIUS)[hit].numpy())
        picture = photograph(scene, cameras, view, 64, 0).reshape(-1, 3)[hit.numpy()]
        greys.append(((picture.mean(-1) / 255 + 0.055) / 1.055) ** 2.4)
    return np.concatenate(normals), np.concatenate(greys)


@needs_renderers
def test_the_soft_light_shines_from_where_the_sun_does():
    sun = -np.array(KEY_TOWARDS) / np.linalg.norm(KEY_TOWARDS)
    normals, soft = seen_on_ball("soft", 0.0)
    _, hard = seen_on_ball("sun", 0.0)
    lit = normals @ sun > 0.3  # where all of the soft patch is above the horizon
    along, *_ = np.linalg.lstsq(np.c_[normals, np.ones(len(normals))][lit], soft[lit], rcond=None)
    # The sky fades along y, which adds to the lamp's share and turns the gradient by some degrees.
    assert along[:3] @ sun > 0.97 * np.linalg.norm(along[:3])
    # Both bring the same light, but for the brighter ground of the soft one.
    assert np.abs(soft[lit] - hard[lit]).max() < 0.05
    # Past the sun's horizon its light ends; the soft one's fades over its width.
    twilight = (normals @ sun < -0.02) & (normals @ sun > -0.1)
    assert (soft - hard)[twilight].min() > 0


@needs_renderers
def test_gloss_adds_a_highlight_and_changes_little_elsewhere():
    matt, glossy, glossier = (seen_on_ball("soft", gloss)[1] for gloss in (0.0, 0.5, 1.0))
    # A highlight covers some hundredths of the ball; a single pixel may be noise.
    peak, glossy_peak, glossier_peak = (np.percentile(x, 99) for x in (matt, glossy, glossier))
    assert peak + 0.1 < glossy_peak < glossier_peak - 0.1
    assert abs(np.median(glossy) - np.median(matt)) < 0.06


# Meshes and textures


def textured_quad(folder: Path, material: bool) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "red.png")
    (folder / "quad.mtl").write_text("newmtl m\nKd 0.1 0.1 0.1\nmap_Kd red.png\n")
    use = "mtllib quad.mtl\nusemtl m\n" if material else ""
    (folder / "quad.obj").write_text(
        use + "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    return folder / "quad.obj"


def test_the_only_picture_beside_a_mesh_without_material_is_its_texture(tmp_path):
    mesh = textured_quad(tmp_path, material=False)
    texture = find_texture(mesh)
    assert texture == tmp_path / "red.png"
    (part,) = read_textured(mesh, texture)
    assert part.texture.shape == (8, 8, 3) and (part.texture == [200, 30, 30]).all()
    np.testing.assert_array_equal(part.uv[0], [[0, 0], [1, 0], [1, 1]])
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    assert find_texture(mesh) is None


def test_a_mesh_with_a_material_or_without_coordinates_keeps_what_it_has(tmp_path, ball):
    mesh = textured_quad(tmp_path / "quad", material=True)
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "quad" / "red.png")
    (part,) = read_textured(mesh, find_texture(mesh))
    assert (part.texture == [0, 0, 255]).all()
    Image.new("RGB", (8, 8)).save(ball.parent / "only.png")
    assert find_texture(ball) is None
    with pytest.raises(UserError, match=r"no texture coordinates.* leave out .*only\.png"):
        read_textured(ball, ball.parent / "only.png")


def test_a_picture_of_one_colour_in_a_material_is_no_missing_one(tmp_path):
    mesh = textured_quad(tmp_path, material=True)
    (part,) = read_textured(mesh, find_texture(mesh))
    assert (part.texture == [200, 30, 30]).all()


def test_one_mesh_is_found_and_more_or_none_are_refused(ball):
    assert find_mesh(ball) == find_mesh(ball.parent) == ball
    other = ball.with_name("other.obj")
    other.write_bytes(b"")
    with pytest.raises(UserError, match="more than one mesh; .* name its file"):
        find_mesh(ball.parent)
    with pytest.raises(UserError, match=r"more than one mesh"):
        find_mesh(ball.parent.parent)  # the folder of one object with two meshes
    text = ball.with_suffix(".txt")
    text.write_text("hello")
    with pytest.raises(UserError, match="not a mesh; expected a file ending in .obj"):
        find_mesh(text)
    with pytest.raises(UserError, match="no such folder"):
        find_mesh(ball.parent / "nothing.obj")


# Whole scenes


@needs_renderers
@pytest.mark.usefixtures("few_points")
def test_pictures_masks_cameras_and_truth_are_of_one_ball(tmp_path, ball):
    assert list(render_scene(ball, None, tmp_path / "out", QUICK)) == [1, 2, 3, 4]
    views, names = read_scene(tmp_path / "out", frame="sphere")
    assert names == ["000.png", "001.png", "002.png", "003.png"]
    scale = SIZE / RADIUS
    world_from_object = np.diag([scale, scale, scale, 1.0])
    world_from_object[:3, 3] = CENTRE
    np.testing.assert_allclose(views.world_from_object, world_from_object, atol=1e-5)
    # Masks are the silhouettes of a ball of RADIUS, whose facets are 0.4 % nearer in the middle.
    view = torch.arange(4).repeat_interleave(24 * 24)
    rays = views.cameras.rays(view, pixel_grid(24, 24).repeat(4, 1))
    off_axis = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
    clear = (off_axis - RADIUS).abs() > 0.01 * RADIUS
    assert torch.equal((off_axis < RADIUS)[clear], views.masks.flatten()[clear])
    assert clear.float().mean() > 0.9
    # White beside the object, but for pixels that its outline crosses, and darker on it.
    assert (views.images.flatten(0, 2)[off_axis > 1.15 * RADIUS] == 255).all()
    assert views.images[views.masks].float().mean() < 220
    points, normals = read_scene_truth(tmp_path / "out")
    radius = np.linalg.norm(points - CENTRE, axis=1)
    assert len(points) == 500 and (0.99 * SIZE < radius).all() and (radius < 1.0001 * SIZE).all()
    outwards = ((points - CENTRE) / radius[:, None] * normals).sum(axis=1)
    assert outwards.min() > 0.99
    assert not (tmp_path / "out.unfinished").exists()


@needs_renderers
@pytest.mark.usefixtures("few_points")
def test_an_interrupted_scene_goes_on_where_it_was(tmp_path, ball, monkeypatch):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    list(render_scene(ball, None, whole, QUICK))
    begun = render_scene(ball, None, parted, QUICK)
    assert [next(begun), next(begun)] == [1, 2]
    begun.close()
    assert not parted.exists()
    taken = []

    def counting(scene, cameras, view, samples, seed):
        taken.append(view)
        return photograph(scene, cameras, view, samples, seed)

    monkeypatch.setattr(mesh_scene, "photograph", counting)
    list(render_scene(ball, None, parted, QUICK))
    assert taken == [2, 3]
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.png"))
    assert len(files) == 8
    assert all((whole / file).read_bytes() == (parted / file).read_bytes() for file in files)
    for name in ("cameras.npz", "pointcloud.npz"):
        with np.load(whole / name) as one, np.load(parted / name) as other:
            assert sorted(one) == sorted(other)
            assert all(np.array_equal(one[key], other[key]) for key in one)


def run(monkeypatch, *arguments) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "argv", ["render_dataset.py", *map(str, arguments)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    return 0


SMALL = ("--scene", "--views", 3, "--size", 16, "--samples", 1, "--workers", 1)


@needs_renderers
@pytest.mark.usefixtures("few_points")
def test_the_command_renders_once_and_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    mesh, out = textured_quad(tmp_path / "quad", material=False), tmp_path / "out"
    assert run(monkeypatch, mesh.parent, out, *SMALL) == 0
    printed = capsys.readouterr().out
    assert "quad.obj with red.png around it" in printed
    assert "3 views of 16 x 16 pixels" in printed
    views, _ = read_scene(out, frame="cube")
    seen = views.images[views.masks].float().mean(dim=0)
    assert seen[0] > 1.5 * seen[1:].max()  # the picture's red
    stamp = (out / "cameras.npz").stat().st_mtime_ns
    assert run(monkeypatch, mesh, out, *SMALL) == 0
    assert "was there already" in capsys.readouterr().out
    assert (out / "cameras.npz").stat().st_mtime_ns == stamp
    assert run(monkeypatch, mesh, out, *SMALL, "--gloss", 0) == 2
    assert "other settings: gloss 0.5 (now 0.0)" in capsys.readouterr().err
    assert run(monkeypatch, mesh, out, *SMALL, "--ground") == 2
    assert "focal 3.1 (now 2.8), ground False (now True)" in capsys.readouterr().err
    assert run(monkeypatch, mesh, mesh.parent, *SMALL) == 2
    assert "was not made by this command" in capsys.readouterr().err


@needs_renderers
def test_broken_meshes_and_invisible_ones_are_refused(tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken.ply"
    broken.write_text("not a mesh")
    assert run(monkeypatch, broken, tmp_path / "out", *SMALL) == 2
    assert "broken.ply: cannot be read as a mesh" in capsys.readouterr().err
    needle = tmp_path / "needle.ply"
    trimesh.creation.box((1, 1e-4, 1e-4)).export(needle)
    assert run(monkeypatch, needle, tmp_path / "out", *SMALL) == 2
    message = capsys.readouterr().err
    assert "needle.ply: falls between the pixels" in message and "raise --size" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--limit", "3"], "--limit: is for a collection"),
        (["--holdout-every", "4"], "--holdout-every: is for a collection"),
        (["--elevation", "0", "10"], "--elevation: is for a collection"),
        (["--views", "0"], "--views: expected at least 1"),
        (["--ground", "--views", "0"], "--views: expected at least 1"),
        (["--gloss", "-1"], "--gloss: expected 0 to 1"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    tmp_path, ball, monkeypatch, capsys, extra, message
):
    assert run(monkeypatch, ball, tmp_path / "out", "--scene", *extra) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_a_scene_of_two_meshes_is_refused(tmp_path, ball, monkeypatch, capsys):
    assert run(monkeypatch, ball, ball, tmp_path / "out", "--scene") == 2
    assert "a scene is of one mesh" in capsys.readouterr().err


@pytest.mark.skipif(not SPOT.is_dir(), reason=f"needs the mesh in {SPOT}")
def test_spots_texture_is_found_and_covers_it():
    mesh = find_mesh(SPOT)
    (part,) = read_textured(mesh, find_texture(mesh))
    assert part.texture.shape == (1024, 1024, 3)
    assert (np.abs(part.uv - 0.5) < 0.6).all()

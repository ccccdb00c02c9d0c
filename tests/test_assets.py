"""Textured meshes: painted from fields that are known, written, read and drawn again."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from common.cameras import Cameras, look_at
from common.errors import UserError
from common.meshes.bake import TextureSettings, bake, settle
from common.meshes.draw import draw_textured, sampled
from common.meshes.files import load_mesh, load_textured, save_mesh, save_textured
from common.meshes.gloss import (
    Observations,
    fit_environment,
    fresnel,
    mirror,
    to_linear,
    to_srgb,
    visible,
)
from common.meshes.mesh import Mesh, transform_mesh
from common.meshes.radiance import hdr_bytes, read_hdr
from common.meshes.rasterise import rasterise
from common.meshes.textured import TexturedMesh, tangents
from common.meshes.unwrap import unwrap
from common.meshes.visibility import see
from common.rendering.view_scores import view_scores
from idr import texture
from idr.config import GenerationConfig
from idr.generation import save_scene_mesh
from tests.make_collection import SCENE_SCALE, SCENE_SHIFT, write_tiny_collection, write_tiny_scene
from tests.make_idr import ViewColour, known_experiment, sphere, tiny_idr_settings
from tests.make_run import run_script, tiny_settings, write_settings

RADIUS = 0.5


def ball(subdivisions: int = 3, radius: float = RADIUS, centre=(0.0, 0.0, 0.0)) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    vertices = np.asarray(solid.vertices, np.float32)
    normals = vertices / np.float32(radius)
    return Mesh(vertices + np.float32(centre), np.asarray(solid.faces, np.int64), normals=normals)


def exact_surface(points):
    length = points.norm(dim=-1)
    return length - RADIUS, points / length[:, None]


def by_direction(points):
    """Colours that tell the direction from the middle, and the sphere's normals."""
    normal = normalize(points, dim=-1)
    return (normal + 1) / 2, normal


def painted(size: int = 128, normal_map: bool = False, mesh: Mesh | None = None) -> TexturedMesh:
    options = TextureSettings(size, normal_map=normal_map)
    return bake(mesh or ball(), exact_surface, by_direction, options)


def ring(views: int = 4, distance: float = 2.0, size: int = 48) -> Cameras:
    """Cameras around the origin, from above and below in turn."""
    angle = 2 * torch.pi * torch.arange(views) / views
    height = torch.tensor([0.4, -0.4]).repeat(views)[:views]
    centre = distance * normalize(torch.stack([angle.cos(), height, angle.sin()], dim=-1), dim=-1)
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1.0, 0.0]))
    middle = (size - 1) / 2
    focal = size * 1.2
    matrix = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    return Cameras(matrix.expand(views, 3, 3), pose, size, size)


class TestRasterise:
    @given(st.integers(0, 2**32 - 1))
    def test_a_split_square_is_covered_once(self, seed) -> None:
        """Every centre within belongs to one face, whose weights give its place back."""
        rng = np.random.default_rng(seed)
        square = np.array([[1.3, 0.7], [14.6, 0.7], [14.6, 9.4], [1.3, 9.4]])
        middle = rng.uniform([2, 2], [13, 8])
        corners = np.stack([np.stack([square[i], square[(i + 1) % 4], middle]) for i in range(4)])[
            :, :: rng.choice([-1, 1])
        ]
        seen = rasterise(corners, np.ones((4, 3)), 12, 16)
        expected = np.zeros((12, 16), bool)
        expected[1:10, 2:15] = True
        assert np.array_equal(seen.covered, expected)
        place = (seen.weight[..., None] * corners[seen.face]).sum(axis=2)[seen.covered]
        y, x = np.nonzero(expected)
        np.testing.assert_allclose(place, np.column_stack([x, y]), atol=1e-9)

    def test_the_nearest_face_wins_whatever_the_order(self) -> None:
        far = np.array([[-9.0, -9.0], [30.0, -9.0], [-9.0, 30.0]])
        corners = np.stack([far, far, far])
        for depths in ([3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]):
            depth = np.repeat(np.array(depths)[:, None], 3, axis=1)
            seen = rasterise(corners, depth, 4, 4)
            assert (seen.face == np.argmin(depths)).all()
            np.testing.assert_allclose(seen.depth, 1.0)

    def test_weights_are_right_in_perspective(self) -> None:
        """The pixels' points of an inclined triangle, against the intersection with its plane."""
        camera = ring(views=1, size=32)
        points = np.array([[-0.6, -0.5, 0.7], [0.5, -0.4, -0.8], [0.1, 0.6, 0.2]])
        pixel, z = camera.project(torch.from_numpy(points).float())
        seen = rasterise(pixel.double().numpy(), z.double().numpy(), 32, 32)
        y, x = np.nonzero(seen.covered)
        assert len(x) > 50
        at = torch.from_numpy(np.column_stack([x, y])).float()
        rays = camera.rays(torch.zeros(len(x), dtype=torch.long), at)
        plane = np.cross(points[1] - points[0], points[2] - points[0])
        origin, direction = rays.origin.numpy(), rays.direction.numpy()
        depth = ((points[0] - origin) @ plane) / (direction @ plane)
        expected = origin + depth[:, None] * direction
        found = seen.interpolate(np.array([[0, 1, 2]]), points)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_what_is_behind_the_camera_or_beside_the_picture_is_not_drawn(self) -> None:
        corners = np.array([[[0, 0], [9, 0], [0, 9]], [[-9, -9], [-2, -9], [-9, -2]]], float)
        depth = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
        assert not rasterise(corners, depth, 8, 8).covered.any()


class TestUnwrap:
    def test_charts_do_not_overlap_and_keep_the_surface(self) -> None:
        mesh = ball()
        split, uv = unwrap(mesh, 256)
        assert uv.min() >= 0 and uv.max() <= 1
        corners = (mesh.vertices[mesh.faces], split.vertices[split.faces])
        assert np.array_equal(*corners)  # the same triangles in the same order
        texels = rasterise(uv[split.faces] * 256 - 0.5, np.ones(split.faces.shape), 256, 256)
        sides = np.diff(uv[split.faces] * 256, axis=1)
        area = np.abs(np.linalg.det(sides)).sum() / 2
        # Were charts to lie on each other, fewer texels than their area would be covered.
        assert texels.covered.sum() == pytest.approx(area, rel=0.02)
        assert area > 0.4 * 256**2


class TestTangents:
    def test_they_are_known_on_a_cylinder(self) -> None:
        """u runs around it, v down it: the tangent is the circle's, the bitangent points up."""
        angle, height = np.meshgrid(np.linspace(0, 3, 30), [1.0, 0.0])
        shape = [np.cos(angle), np.sin(angle), height]
        vertices = np.stack(shape, axis=-1).reshape(-1, 3)
        uv = np.stack([angle / 3, 1 - height], axis=-1).reshape(-1, 2)
        i = np.arange(29)
        faces = np.concatenate(
            [np.stack([i, i + 30, i + 31], axis=1), np.stack([i, i + 31, i + 1], axis=1)]
        )
        normals = vertices * [1, 1, 0]
        tangent, sign = tangents(Mesh(vertices, faces, normals=normals), uv)
        expected = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=-1).reshape(-1, 3)
        # At both ends of the strip a vertex has faces on one side only; still they lie along it.
        np.testing.assert_allclose(tangent, expected, atol=0.06)
        bitangent = sign[:, None] * np.cross(normals, tangent)
        np.testing.assert_allclose(bitangent, np.tile([0.0, 0.0, 1.0], (60, 1)), atol=1e-6)
        mirrored = tangents(Mesh(vertices, faces, normals=normals), uv * [-1, 1])
        np.testing.assert_allclose(mirrored[0], -tangent, atol=1e-9)
        assert np.array_equal(mirrored[1], -sign)

    @settings(max_examples=20)
    @given(st.integers(0, 2**32 - 1))
    def test_they_turn_with_the_mesh(self, seed) -> None:
        rng = np.random.default_rng(seed)
        split, uv = unwrap(ball(1), 64)
        matrix = np.eye(4)
        matrix[:3, :3] = 3.0 * np.linalg.qr(rng.normal(size=(3, 3)))[0]  # may mirror too
        matrix[:3, 3] = rng.normal(size=3)
        tangent, sign = tangents(split, uv)
        turned, turned_sign = tangents(transform_mesh(split, matrix), uv)
        np.testing.assert_allclose(turned, tangent @ matrix[:3, :3].T / 3, atol=1e-4)
        assert np.array_equal(turned_sign, sign * np.sign(np.linalg.det(matrix[:3, :3])))


class TestBake:
    def test_texels_have_the_colour_of_the_exact_surface(self) -> None:
        """Even on a coarse mesh: a texel's point is moved from its face onto the sphere."""
        textured = painted(mesh=ball(2))
        mesh = textured.mesh
        corners = textured.uv[mesh.faces] * 128 - 0.5
        texels = rasterise(corners, np.ones(mesh.faces.shape), 128, 128)
        on_faces = texels.interpolate(mesh.faces, mesh.vertices)
        direction = on_faces / np.linalg.norm(on_faces, axis=1, keepdims=True)
        expected = (direction + 1) / 2 * 255
        assert np.abs(textured.texture[texels.covered] - expected).max() < 0.51

    def test_no_seam_shows_when_texels_are_mixed(self) -> None:
        """Points all over the faces, borders included, looked up between texels."""
        textured = painted()
        mesh = textured.mesh
        rng = np.random.default_rng(0)
        weight = rng.dirichlet([0.3, 0.3, 0.3], size=len(mesh.faces))[:, :, None]
        points = (weight * mesh.vertices[mesh.faces]).sum(axis=1)
        uv = (weight * textured.uv[mesh.faces]).sum(axis=1)
        direction = points / np.linalg.norm(points, axis=1, keepdims=True)
        # From texel to texel colours change by up to 0.02; those of another chart differ by more.
        assert np.abs(sampled(textured.texture, uv) - (direction + 1) / 2).max() < 0.04

    def test_newton_steps_stay_near(self) -> None:
        points = torch.tensor([[0.52, 0.0, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 0.0]])
        settled = settle(exact_surface, points, reach=0.1)
        expected = torch.tensor([[0.5, 0.0, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 0.0]])
        torch.testing.assert_close(settled, expected)

    def test_the_normal_map_gives_back_the_fields_normals(self) -> None:
        """Decoded as a viewer does, with axes interpolated and of length one again."""

        def dented(points):
            colour, normal = by_direction(points)
            return colour, normalize(normal + 0.3 * (20 * points).sin(), dim=-1)

        options = TextureSettings(128, normal_map=True)
        textured = bake(ball(1), exact_surface, dented, options)
        mesh, uv = textured.mesh, textured.uv
        texels = rasterise(uv[mesh.faces] * 128 - 0.5, np.ones(mesh.faces.shape), 128, 128)
        tangent, sign = tangents(mesh, uv)
        axes = [tangent, sign[:, None] * np.cross(mesh.normals, tangent), mesh.normals]
        code = textured.normal_map[texels.covered] / 127.5 - 1
        seen = np.zeros((len(code), 3))
        for axis, share in zip(axes, code.T, strict=True):
            here = texels.interpolate(mesh.faces, axis)
            seen += share[:, None] * here / np.linalg.norm(here, axis=1, keepdims=True)
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        on_faces = torch.from_numpy(texels.interpolate(mesh.faces, mesh.vertices))
        true = dented(RADIUS * normalize(on_faces, dim=-1))[1].numpy()
        assert (seen * true).sum(axis=1).min() > np.cos(np.radians(1.0))
        assert (textured.normal_map[..., 2] > 127).all()  # outwards everywhere

    def test_progress_counts_every_covered_texel(self) -> None:
        told = []
        textured = bake(
            ball(1), exact_surface, by_direction, TextureSettings(64), chunk=100,
            progress=told.append,
        )  # fmt: skip
        corners = textured.uv[textured.mesh.faces] * 64 - 0.5
        covered = rasterise(corners, np.ones(corners.shape[:2]), 64, 64).covered
        assert sum(told) == covered.sum() and max(told) == 100


class TestFiles:
    @pytest.mark.parametrize("name", ["a ball.glb", "a ball.obj"])
    def test_round_trip(self, tmp_path, name) -> None:
        textured = painted(64, normal_map=name.endswith("glb"))
        path = tmp_path / "new folder" / name
        save_textured(path, textured)
        read = load_textured(path)
        np.testing.assert_allclose(read.mesh.vertices, textured.mesh.vertices, atol=1e-9)
        np.testing.assert_allclose(read.mesh.normals, textured.mesh.normals, atol=1e-6)
        np.testing.assert_allclose(read.uv, textured.uv, atol=1e-7)
        assert np.array_equal(read.mesh.faces, textured.mesh.faces)
        assert np.array_equal(read.texture, textured.texture)
        if textured.normal_map is not None:
            assert np.array_equal(read.normal_map, textured.normal_map)
        names = sorted(file.name for file in path.parent.iterdir())
        beside = ["a_ball.mtl", "a_ball.png"] if name.endswith("obj") else []
        assert names == sorted([name, *beside])
        assert np.array_equal(load_mesh(path).faces, textured.mesh.faces)

    def test_an_obj_names_its_pictures(self, tmp_path) -> None:
        save_textured(tmp_path / "b.obj", painted(64, normal_map=True))
        material = (tmp_path / "b.mtl").read_text().split()
        assert material[material.index("map_Kd") + 1] == "b.png"
        assert material[material.index("norm") + 1] == "b_normals.png"
        assert (tmp_path / "b_normals.png").is_file()

    def test_a_glb_says_how_it_is_lit(self, tmp_path) -> None:
        """Colours that hold their light are unlit; a normal map asks for light and for tangents."""
        for normal_map in (False, True):
            save_textured(tmp_path / "b.glb", painted(64, normal_map=normal_map))
            content = gltf_of(tmp_path / "b.glb")
            material = content["materials"][0]
            attributes = content["meshes"][0]["primitives"][0]["attributes"]
            assert ("KHR_materials_unlit" in content.get("extensionsUsed", [])) != normal_map
            assert ("extensions" in material) != normal_map
            assert ("normalTexture" in material) == ("TANGENT" in attributes) == normal_map

    def test_accessors_lie_within_the_file(self, tmp_path) -> None:
        """Aligned, of the right size, and with the bounds of what they hold."""
        textured = painted(64, normal_map=True)
        save_textured(tmp_path / "b.glb", textured)
        content = gltf_of(tmp_path / "b.glb")
        length = content["buffers"][0]["byteLength"]
        sizes = {"VEC2": 8, "VEC3": 12, "VEC4": 16, "SCALAR": 2}
        for view in content["bufferViews"]:
            assert view["byteOffset"] % 4 == 0
            assert view["byteOffset"] + view["byteLength"] <= length
        for accessor in content["accessors"]:
            view = content["bufferViews"][accessor["bufferView"]]
            assert view["byteLength"] == accessor["count"] * sizes[accessor["type"]]
        position = content["accessors"][0]
        assert position["min"] == textured.mesh.vertices.min(axis=0).tolist()
        assert position["max"] == textured.mesh.vertices.max(axis=0).tolist()

    def test_the_environment_lies_beside(self, tmp_path) -> None:
        light = np.random.default_rng(0).gamma(0.5, 2.0, (4, 8, 3)).astype(np.float32)
        glossy = replace(painted(64), environment=light)
        save_textured(tmp_path / "b.glb", glossy)
        assert (tmp_path / "b_environment.hdr").is_file()
        read = load_textured(tmp_path / "b.glb")
        # One exponent for three colours: a 256th of the brightest.
        tolerance = light.max(axis=2, keepdims=True) / 255
        assert (np.abs(read.environment - light) <= tolerance).all()
        assert np.array_equal(read.texture, glossy.texture)
        with pytest.raises(UserError, match="know no mirrored surroundings; use .glb"):
            save_textured(tmp_path / "b.obj", glossy)

    def test_what_holds_no_texture_is_refused(self, tmp_path) -> None:
        with pytest.raises(UserError, match="with a texture of type '.ply' are not supported"):
            save_textured(tmp_path / "b.ply", painted(64))
        save_mesh(tmp_path / "plain.glb", ball())
        with pytest.raises(UserError, match="no texture; make one with generate_mesh.py"):
            load_textured(tmp_path / "plain.glb")


class TestRadiance:
    def test_black_and_bright_survive(self, tmp_path) -> None:
        picture = np.zeros((2, 3, 3), np.float32)
        picture[0, 1] = [3000.0, 1.0, 0.25]
        picture[1, 2] = 1e-6
        (tmp_path / "x.hdr").write_bytes(hdr_bytes(picture))
        read = read_hdr(tmp_path / "x.hdr")
        assert (read[picture.max(axis=2) == 0] == 0).all()
        np.testing.assert_allclose(read[0, 1, 0], 3000, rtol=1 / 128)
        np.testing.assert_allclose(read[1, 2], 1e-6, rtol=1 / 128)

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"P6" + b, lambda b: b + b"x"])
    def test_damage_is_told(self, tmp_path, damage) -> None:
        (tmp_path / "x.hdr").write_bytes(damage(hdr_bytes(np.ones((2, 4, 3)))))
        with pytest.raises(UserError, match="x.hdr: not an uncompressed Radiance picture"):
            read_hdr(tmp_path / "x.hdr")


class TestVisibility:
    def test_a_sphere_hides_its_own_back(self) -> None:
        cameras = ring(distance=2.0)
        points = torch.from_numpy(ball().vertices)
        normals = points / RADIUS
        weight = see(ball(), cameras).weights(points, normals)
        towards = normalize(cameras.centre[:, None] - points, dim=-1)
        cosine = (towards * normals).sum(dim=-1)
        assert torch.equal(weight > 0, cosine > 0.1)
        torch.testing.assert_close(weight[weight > 0], cosine[weight > 0])

    def test_one_thing_hides_another(self) -> None:
        """A small ball behind a large one, on the line of sight of the first camera alone."""
        cameras = ring(distance=2.0, size=96)
        behind = -normalize(cameras.centre[0], dim=-1)
        small = ball(2, 0.1, tuple((0.8 * behind).tolist()))
        large = ball()
        both = Mesh(
            np.concatenate([large.vertices, small.vertices]),
            np.concatenate([large.faces, small.faces + len(large.vertices)]),
        )
        points, normals = torch.from_numpy(small.vertices), torch.from_numpy(small.normals)
        alone, hidden = (see(mesh, cameras).weights(points, normals) for mesh in (small, both))
        assert (alone[0] > 0).any() and not hidden[0].any()
        assert torch.equal(alone[1], hidden[1])

    def test_beside_the_picture_nothing_is_seen(self) -> None:
        away = ball(1, 0.1, (0.0, 3.0, 0.0))
        points, normals = torch.from_numpy(away.vertices), torch.from_numpy(away.normals)
        assert not see(away, ring()).weights(points, normals).any()


class TestGloss:
    def test_srgb_and_back(self) -> None:
        colour = torch.linspace(0, 1, 256)
        torch.testing.assert_close(to_srgb(to_linear(colour)), colour, atol=1e-5, rtol=0)
        assert float(to_linear(torch.tensor(0.5))) == pytest.approx(0.2140, abs=1e-4)

    def test_an_error_shows_as_much_as_srgb_changes(self) -> None:
        colour = torch.tensor([0.0, 0.02, 0.05, 0.3, 0.99], dtype=torch.float64)
        light = to_linear(colour).requires_grad_()
        (slope,) = torch.autograd.grad(to_srgb(light).sum(), light)
        slope[0] = 12.92  # the clip's own derivative at its end is PyTorch's choice
        torch.testing.assert_close(visible(colour), slope, atol=1e-4, rtol=1e-4)

    def test_a_known_environment_is_found(self) -> None:
        """Coloured points under a sky with a sun, seen from many sides."""
        generator = torch.Generator().manual_seed(0)
        directions = normalize(torch.randn(3000, 3, generator=generator), dim=-1)
        own = torch.rand(3000, 3, generator=generator) * 0.5
        sun = normalize(torch.tensor([0.3, 0.8, -0.5]), dim=0)

        def sky(direction):
            glow = torch.exp(-6 * (1 - direction @ sun))
            return glow[:, None] * torch.tensor([3.0, 2.0, 1.0])

        parts = []
        for view in normalize(torch.randn(40, 3, generator=generator), dim=-1):
            cosine = directions @ view
            seen = (cosine > 0.1).nonzero()[:, 0]
            mirrored = 2 * cosine[seen, None] * directions[seen] - view
            light = own[seen] + fresnel(cosine[seen])[:, None] * sky(mirrored)
            weight = cosine[seen, None].expand(-1, 3)
            parts.append((seen, mirrored, cosine[seen], light, weight))
        seen = Observations(*(torch.cat(column) for column in zip(*parts, strict=True)))
        environment = fit_environment(seen)
        looked = normalize(torch.randn(500, 3, generator=generator), dim=-1)
        head_on = torch.ones(500)
        found = mirror(environment, looked, head_on) / 0.04
        # Up to a constant, which the points' own colours can hold as well.
        difference = found - sky(looked)
        assert float((difference - difference.median(dim=0).values).abs().mean()) < 0.1
        assert float(sky(looked).std()) > 0.35

    def test_reflectance_is_schlicks(self) -> None:
        found = fresnel(torch.tensor([1.0, 0.0, 0.5]))
        torch.testing.assert_close(found, torch.tensor([0.04, 1.0, 0.07]))

    def test_directions_are_where_viewers_look_for_them(self) -> None:
        """y up; +x in the middle, +z a quarter to its right; the back is one seam."""
        environment = torch.zeros(8, 16, 3)
        environment[0, :, 0] = 1
        environment[3:5, 7:9, 1] = 1
        environment[3:5, 11:13, 2] = 1
        directions = torch.eye(3)[[1, 0, 2]]
        found = mirror(environment, directions, torch.ones(3)) / 0.04
        torch.testing.assert_close(found, torch.eye(3), atol=1e-4, rtol=0)
        environment[3:5, [0, 15]] = 1
        around = torch.tensor([[-1.0, 0.0, 1e-4], [-1.0, 0.0, -1e-4]])
        found = mirror(environment, normalize(around, dim=-1), torch.ones(2)) / 0.04
        torch.testing.assert_close(found, torch.ones(2, 3), atol=1e-3, rtol=0)


class TestDraw:
    def test_a_painted_ball_looks_as_its_field_does(self) -> None:
        cameras = ring(size=64)
        textured = painted(256, mesh=ball(4))
        picture = draw_textured(textured, cameras, 1)
        middle = cameras.centre[1]
        distance, depth = 2.0, picture.depth[picture.mask]
        # Only the near half is seen; the outline is the cone's that touches the sphere.
        share = np.pi * (1.2 * 64 * np.tan(np.arcsin(RADIUS / distance))) ** 2 / 64**2
        assert float(picture.mask.float().mean()) == pytest.approx(share, rel=0.02)
        assert depth.min() == pytest.approx(distance - RADIUS, abs=2e-3)
        expected = (picture.normal[picture.mask] + 1) / 2
        assert float((picture.colour[picture.mask] - expected).abs().max()) < 0.02
        assert (picture.colour[~picture.mask] == 1).all()
        assert (picture.normal[picture.mask] @ middle > 0).all()

    def test_samples_are_averaged(self) -> None:
        cameras, textured = ring(size=32), painted(64)
        fine = draw_textured(textured, cameras.resized(64, 64), 0)
        picture = draw_textured(textured, cameras, 0, samples=2)
        torch.testing.assert_close(
            picture.colour, fine.colour.view(32, 2, 32, 2, 3).mean(dim=(1, 3))
        )

    def test_a_coat_mirrors_its_surroundings(self) -> None:
        """Under light from everywhere alike only the angle counts."""
        black = replace(
            painted(64, mesh=ball(4)),
            texture=np.zeros((64, 64, 3), np.uint8),
            environment=np.ones((8, 16, 3), np.float32),
        )
        cameras = ring(size=64)
        picture = draw_textured(black, cameras, 0)
        normal, depth = picture.normal[picture.mask], picture.depth[picture.mask]
        y, x = np.nonzero(picture.mask.numpy())
        pixel = torch.from_numpy(np.column_stack([x, y])).float()
        index = torch.zeros(len(x), dtype=torch.long)
        points = cameras.centre[0] + depth[:, None] * cameras.unit_z_directions(index, pixel)
        cosine = (normalize(cameras.centre[0] - points, dim=-1) * normal).sum(dim=-1)
        light = to_linear(picture.colour[picture.mask])
        torch.testing.assert_close(light, fresnel(cosine)[:, None].expand(-1, 3), atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_scene(tmp_path_factory.mktemp("assets") / "a ball", views=8, size=16)


class TestOfAScene:
    CONFIG = GenerationConfig(resolution=32, faces=600, extension="glb")

    def asset(self, data, folder, **options):
        experiment = known_experiment(data, sphere(0.5), ViewColour())
        wanted = TextureSettings(64, **options)
        path = save_scene_mesh(folder, experiment, self.CONFIG, texture=wanted)
        return experiment, load_textured(path)

    def test_it_is_in_world_units_and_seen_from_above(self, data, tmp_path) -> None:
        _, textured = self.asset(data, tmp_path)
        from_middle = (textured.mesh.vertices - SCENE_SHIFT) / (0.5 * SCENE_SCALE)
        np.testing.assert_allclose(np.linalg.norm(from_middle, axis=1), 1, atol=0.02)
        colour = sampled(textured.texture, textured.uv)
        assert np.abs(colour - (textured.mesh.normals + 1) / 2).mean() < 0.03

    def test_views_are_averaged(self, data, tmp_path) -> None:
        """Where one camera sees a point its colour is that camera's; by more it lies between."""
        experiment, textured = self.asset(data, tmp_path, colours="views")
        points = torch.from_numpy((textured.mesh.vertices - SCENE_SHIFT) / SCENE_SCALE).float()
        towards = normalize(experiment.cameras.centre[:, None] - points, dim=-1)
        cosine = (towards * torch.from_numpy(textured.mesh.normals).float()).sum(dim=-1)
        weight = cosine.where(cosine > 0.1, 0.0)
        mean = (weight[..., None] * towards).sum(0) / weight.sum(0)[:, None]
        colour = 2 * sampled(textured.texture, textured.uv) - 1
        clear = ((cosine - 0.1).abs() > 0.1).all(dim=0) & (weight.sum(dim=0) > 0)
        assert clear.sum() > 50
        assert np.abs(colour - mean.numpy())[clear.numpy()].mean() < 0.03

    def test_scores_are_those_of_its_pictures(self, data, tmp_path) -> None:
        """Drawn in the world from cameras moved there as in the frame where it was learnt."""
        experiment, textured = self.asset(data, tmp_path, colours="views")
        path = tmp_path / "a ball.glb"
        views = experiment.scene.held_out
        object_from_world = np.linalg.inv(views.world_from_object.double().numpy())
        moved = replace(textured, mesh=transform_mesh(textured.mesh, object_from_world))
        pictures = [draw_textured(moved, views.cameras, view) for view in range(len(views))]
        scores = [
            view_scores(*row) for row in zip(pictures, views.images, views.masks, strict=True)
        ]
        expected = np.mean([row["psnr"] for row in scores])
        assert texture.textured_scores(experiment, path, range(len(views)))[
            "psnr"
        ] == pytest.approx(expected, abs=0.05)

    def test_gloss_moves_light_from_the_texture_to_the_surroundings(self, data, tmp_path) -> None:
        _, textured = self.asset(data, tmp_path, colours="gloss")
        assert textured.environment.shape == (32, 64, 3)
        assert textured.environment.max() > 0.1


@pytest.fixture(scope="module")
def idr_run(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("run")
    config = write_settings(root / "c.yaml", tiny_idr_settings(data, root / "run"))
    assert run_script("train", config).code == 0
    return root / "run"


class TestCommand:
    OPTIONS = ["--textured", "--texture-size", "64", "--faces", "500"]

    def test_json_and_nothing_else_on_standard_output(self, idr_run) -> None:
        outcome = run_script("generate_mesh", idr_run, *self.OPTIONS, "--json")
        assert outcome.code == 0, outcome.err
        content = json.loads(outcome.out)
        (item,) = content["meshes"]
        assert item["name"] == "a ball" and item["watertight"] and item["genus"] == 0
        assert item["faces"] <= 500 and item["held_out"]["mask_iou"] > 0.9
        assert item["volume"] == pytest.approx(4 / 3 * np.pi * (0.6 * SCENE_SCALE) ** 3, rel=0.1)
        assert load_textured(idr_run / "meshes/a ball.glb").texture.shape == (64, 64, 3)

    def test_a_person_is_told_too(self, idr_run) -> None:
        outcome = run_script("generate_mesh", idr_run, *self.OPTIONS, "--extension", "obj")
        assert outcome.code == 0, outcome.err
        assert "a ball.obj: " in outcome.out and "watertight, volume" in outcome.out
        assert "drawn from the held-out cameras: PSNR" in outcome.out
        assert (idr_run / "meshes/a_ball.mtl").is_file()

    def test_gloss_and_normals(self, idr_run) -> None:
        options = [*self.OPTIONS, "--bake", "gloss", "--normal-map"]
        outcome = run_script("generate_mesh", idr_run, *options)
        assert outcome.code == 0, outcome.err
        textured = load_textured(idr_run / "meshes/a ball.glb")
        assert textured.environment is not None and textured.normal_map is not None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--bake", "views"], "--bake: this is about textures; add --textured"),
            (["--texture-size", "64"], "--texture-size: this is about textures"),
            (["--textured", "--extension", "ply"], "--extension ply: the format holds no texture"),
            (["--textured", "--extension", "obj", "--bake", "gloss"], "--bake gloss: .obj files"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, idr_run, options, message) -> None:
        outcome = run_script("generate_mesh", idr_run, *options)
        assert outcome.code == 2
        assert message in outcome.err

    def test_dvr_paints_its_texture_field(self, tmp_path) -> None:
        data = write_tiny_collection(tmp_path / "data")
        config = write_settings(tmp_path / "c.yaml", tiny_settings(data, tmp_path / "run"))
        assert run_script("train", config).code == 0
        options = ["--textured", "--texture-size", "32", "--faces", "100", "--json"]
        outcome = run_script("generate_mesh", tmp_path / "run", *options)
        assert outcome.code == 0, outcome.err
        content = json.loads(outcome.out)
        assert len(content["meshes"]) + len(content["empty"]) == 3
        for item in content["meshes"]:
            load_textured(Path(item["file"]))
        refused = run_script("generate_mesh", tmp_path / "run", "--textured", "--bake", "views")
        assert refused.code == 2
        assert "--bake: DVR's colours do not depend on the view" in refused.err


def gltf_of(path) -> dict:
    """The JSON of a .glb."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON" and size % 4 == 0
    return json.loads(data[20 : 20 + size])

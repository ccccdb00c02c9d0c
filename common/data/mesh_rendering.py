"""Photographs of a textured mesh, path traced by Mitsuba 3 (Jakob et al. 2022; an optional extra).

The light does not move with the camera: a sky that fades towards the ground, and a key light from
above, either a sun that casts sharp shadows or a soft box. Surfaces are opaque, alike from both
sides, diffuse or with a rough gloss, and lit with up to MAX_DEPTH - 1 bounces. The background is
white.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from common.cameras import Cameras, look_at
from common.data.mesh_files import Part
from common.errors import UserError

MAX_DEPTH = 4
SKY, GROUND = 0.6, 0.3  # radiance overhead and underfoot; a white background has 1
KEY_IRRADIANCE = 1.2
KEY_TOWARDS = (-0.45, -1.0, -0.7)  # from above, in front and to the side of the object
SOFT_WIDTH = np.radians(8.0)  # of the soft light's lobe, one standard deviation
SOFT_GROUND = 0.4  # nothing is to be so dark from below that its texture drowns in noise
# No real surface swallows or returns all light, but CAD files have both blacks and whites.
DARKEST, LIGHTEST = 0.02, 0.9
CREASE = np.radians(35.0)  # edges bent less than this look smooth
CROWDED = 64  # a point shared by more corners than this, a fan's centre, is shaded flat
MAX_ELEVATION = 85.0  # degrees; a camera straight above has no upright picture


def load_mitsuba():
    """Mitsuba in its portable variant; raises UserError with the remedy where it is missing."""
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise UserError(
            f"rendering needs Mitsuba 3, which is not installed ({error}); "
            "install it with: pip install -e '.[render]'"
        ) from error
    if mitsuba.variant() is None:
        mitsuba.set_variant("scalar_rgb")
        drjit.set_thread_count(1)  # objects are rendered in parallel instead
        mitsuba.set_log_level(mitsuba.LogLevel.Error)
    return mitsuba


def use_threads(count: int) -> None:
    """Let Mitsuba take each picture with this many threads."""
    load_mitsuba()
    import drjit

    drjit.set_thread_count(count)


def cameras_around(
    views: int,
    size: int,
    distance: float,
    focal: float,
    elevation: tuple[float, float],
    rng: np.random.Generator,
) -> Cameras:
    """Cameras on a sphere that look at the origin, y up.

    Azimuth and elevation (degrees; even in area) are each cut into as many strata as there are
    views, paired at random, and jittered within. ``focal`` is in units where the first and last
    pixel centre are at -1 and 1, as in DVR.
    """
    low, high = np.sin(np.radians(elevation))
    azimuth = 2 * np.pi * (rng.permutation(views) + rng.random(views)) / views
    height = low + (high - low) * (rng.permutation(views) + rng.random(views)) / views
    return _looking_at_origin(azimuth, height, size, distance, focal)


def cameras_all_around(
    views: int,
    size: int,
    distance: float,
    focal: float,
    rng: np.random.Generator,
    elevation: tuple[float, float] = (-90.0, 90.0),
) -> Cameras:
    """Cameras spread evenly over a sphere's zone, by default all of it, looking at the origin.

    They are the points of a Fibonacci lattice in random order: in its own, every eighth view, say,
    lies on one strip. y is up; ``elevation`` is in degrees; ``focal`` as in cameras_around.
    """
    low, high = np.sin(np.radians(elevation))
    index = rng.permutation(views)
    height = high - (high - low) * (2 * index + 1) / (2 * views)
    azimuth = np.pi * (1 + 5**0.5) * index + 2 * np.pi * rng.random()
    return _looking_at_origin(azimuth, height, size, distance, focal)


def render_images(
    parts: list[Part], cameras: Cameras, samples: int, gloss: float, seed: int
) -> UInt8[np.ndarray, "V H W 3"]:
    """Pictures of the parts in the sun; the other arguments as in photograph and lit_scene."""
    scene = lit_scene(parts, gloss, "sun")
    return np.stack(
        [photograph(scene, cameras, view, samples, seed) for view in range(len(cameras))]
    )


def lit_scene(
    parts: list[Part], gloss: float, light: Literal["sun", "soft"], ground: Part | None = None
) -> Any:
    """The parts under a light, on a diffuse ground if any, ready for photograph.

    ``gloss`` from 0 (diffuse) to 1 is how strongly surfaces mirror the light; plastic has 0.5.
    """
    mi = load_mitsuba()
    floor = {} if ground is None else {"ground": _mesh(ground, gloss=0.0)}
    return mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": MAX_DEPTH, "hide_emitters": True},
            **(_sunlight() if light == "sun" else _soft_light()),
            **{f"part_{index}": _mesh(part, gloss) for index, part in enumerate(parts)},
            **floor,
        }
    )


def photograph(
    scene: Any, cameras: Cameras, view: int, samples: int, seed: int
) -> UInt8[np.ndarray, "H W 3"]:
    """One view's picture, each pixel the mean of ``samples`` light paths through its area.

    ``seed`` is that of all the views; the light paths of each are its own.
    """
    mi = load_mitsuba()
    film = {
        "type": "hdrfilm",
        "width": cameras.width,
        "height": cameras.height,
        "pixel_format": "rgba",
        "rfilter": {"type": "box"},
    }
    # Mitsuba's camera has x to the left and y up; its field of view ends at the outer pixels' rims.
    mitsuba_from_opencv = np.diag([-1.0, -1.0, 1.0, 1.0])
    pose = cameras.object_from_camera[view].double().numpy() @ mitsuba_from_opencv
    focal = float(cameras.intrinsics[view, 0, 0])
    sensor = {
        "type": "perspective",
        "to_world": mi.ScalarTransform4f(pose),
        "fov": float(np.degrees(2 * np.arctan(cameras.width / 2 / focal))),
        "near_clip": 1e-3,
        "film": film,
        "sampler": {"type": "multijitter", "sample_count": samples},
    }
    rgba = np.array(
        mi.render(scene, sensor=mi.load_dict(sensor), seed=(seed * len(cameras) + view) % 2**32)
    )
    white = 1 - rgba[..., 3:].clip(0, 1)
    return _to_srgb(rgba[..., :3] + white)


def _looking_at_origin(
    azimuth: Float[np.ndarray, "V"],
    height: Float[np.ndarray, "V"],
    size: int,
    distance: float,
    focal: float,
) -> Cameras:
    """Cameras at these places of a sphere; ``height`` is the sine of the elevation."""
    views = len(azimuth)
    width = np.sqrt(1 - height**2)
    centre = distance * np.stack([width * np.sin(azimuth), height, width * np.cos(azimuth)], axis=1)
    half = (size - 1) / 2
    intrinsics = torch.tensor([[focal * half, 0, half], [0, focal * half, half], [0, 0, 1]])
    eye = torch.from_numpy(centre).float()
    pose = look_at(eye, torch.zeros_like(eye), torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(intrinsics.float().repeat(views, 1, 1), pose, size, size)


def _mesh(part: Part, gloss: float):
    mi = load_mitsuba()
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(_material(part, gloss))
    corners = part.corners.shape[0] * 3
    mesh = mi.Mesh(
        "part",
        corners,
        len(part.corners),
        has_vertex_normals=True,
        has_vertex_texcoords=part.uv is not None,
        props=properties,
    )
    if part.colours is not None:
        colours = _to_linear(part.colours).clip(DARKEST, LIGHTEST)
        mesh.add_attribute("vertex_color", 3, colours.astype(np.float32).ravel())
    buffers = mi.traverse(mesh)
    buffers["vertex_positions"] = part.corners.astype(np.float32).ravel()
    buffers["vertex_normals"] = smooth_normals(part.corners).astype(np.float32).ravel()
    buffers["faces"] = np.arange(corners, dtype=np.uint32)
    if part.uv is not None:
        # Mesh files count v from the bottom of the picture, Mitsuba from its top.
        buffers["vertex_texcoords"] = (part.uv * [1, -1] + [0, 1]).astype(np.float32).ravel()
    buffers.update()
    return mesh


def _material(part: Part, gloss: float) -> dict:
    mi = load_mitsuba()
    if part.texture is not None:
        colour = {"type": "bitmap", "bitmap": mi.Bitmap(part.texture)}
    elif part.colours is not None:
        colour = {"type": "mesh_attribute", "name": "vertex_color"}
    else:
        value = _to_linear(np.array(part.colour)).clip(DARKEST, LIGHTEST)
        colour = {"type": "rgb", "value": value.tolist()}
    if gloss:
        # Mitsuba's roughplastic would do, but cannot take its colour from vertices.
        surface = {"type": "principled", "base_color": colour, "roughness": 0.3, "specular": gloss}
    else:
        surface = {"type": "diffuse", "reflectance": colour}
    return {"type": "twosided", "surface": surface}


def smooth_normals(corners: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 3 3"]:
    """Shading normals: at each corner the mean of the faces that meet there within CREASE.

    Files' own normals are not used: CAD has them missing, or pointing either way.
    """
    edges = corners[:, 1:] - corners[:, :1]
    face_normal = np.cross(edges[:, 0], edges[:, 1])  # as long as twice the area, its weight
    flat = np.repeat(face_normal[:, None], 3, axis=1).reshape(-1, 3)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    _, place = np.unique(corners.reshape(-1, 3).round(6), axis=0, return_inverse=True)
    normals = unit.copy()
    for group in _corners_by_crowd(place.reshape(-1)):
        alike = np.einsum("gic,gjc->gij", unit[group], unit[group]) > np.cos(CREASE)
        normals[group] = np.einsum("gij,gjc->gic", alike.astype(float), flat[group])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals.reshape(corners.shape)


def _corners_by_crowd(place: np.ndarray) -> list[np.ndarray]:
    """Indices of corners that share a place: for each size of crowd a (places, crowd) table."""
    order = np.argsort(place, kind="stable")
    start = np.flatnonzero(np.diff(place[order], prepend=-1))
    crowd = np.diff(start, append=len(place))
    return [
        order[start[crowd == size][:, None] + np.arange(size)]
        for size in np.unique(crowd)
        if 1 < size <= CROWDED
    ]


def _sunlight() -> dict:
    mi = load_mitsuba()
    return {
        "sky": {"type": "envmap", "bitmap": mi.Bitmap(_sky(16, GROUND))},
        "key": {
            "type": "directional",
            "direction": list(KEY_TOWARDS),
            "irradiance": {"type": "rgb", "value": KEY_IRRADIANCE},
        },
    }


def _soft_light() -> dict:
    """A sky with one wide bright patch: shadows without edges and highlights that do not blind."""
    mi = load_mitsuba()
    sky = _sky(64, SOFT_GROUND)
    rows, columns = sky.shape[:2]
    polar = np.pi * (np.arange(rows)[:, None] + 0.5) / rows
    azimuth = 2 * np.pi * (np.arange(columns) + 0.5) / columns
    # Mitsuba's maps have -z at their left and right rims and +x a quarter from the left.
    across = np.sin(polar)
    direction = np.stack(
        np.broadcast_arrays(across * np.sin(azimuth), np.cos(polar), -across * np.cos(azimuth)),
        axis=-1,
    )
    key = -np.array(KEY_TOWARDS) / np.linalg.norm(KEY_TOWARDS)
    cosine = direction @ key
    patch = np.exp(-0.5 * (np.arccos(cosine.clip(-1, 1)) / SOFT_WIDTH) ** 2)
    # As much light falls on a surface that faces it as from the sun.
    solid_angle = (np.pi / rows) * (2 * np.pi / columns) * across
    patch *= KEY_IRRADIANCE / (patch * cosine.clip(0) * solid_angle).sum()
    light = (sky + patch[..., None]).astype(np.float32)
    return {"sky": {"type": "envmap", "bitmap": mi.Bitmap(light)}}


def _sky(rows: int, ground: float) -> Float[np.ndarray, "rows columns 3"]:
    """Radiance by direction, straight up in the first row."""
    height = np.cos(np.pi * (np.arange(rows) + 0.5) / rows)
    radiance = ground + (SKY - ground) * (height + 1) / 2
    return np.tile(radiance[:, None, None], (1, 2 * rows, 3)).astype(np.float32)


def _to_srgb(linear: Float[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """The sRGB transfer curve (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curve * 255).round().astype(np.uint8)


def _to_linear(srgb: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)

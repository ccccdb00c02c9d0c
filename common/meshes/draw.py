"""Draws a textured mesh as a viewer does that adds no light, to score it like other pictures."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn.functional import normalize

from common.cameras import Cameras
from common.meshes.gloss import mirror, to_linear, to_srgb
from common.meshes.textured import TexturedMesh
from common.meshes.visibility import fragments_of
from common.rendering.picture import Picture, pooled


def draw_textured(textured: TexturedMesh, cameras: Cameras, view: int, samples: int = 1) -> Picture:
    """What one camera, in the mesh's frame, sees of a textured mesh on white.

    ``samples`` x ``samples`` points of each pixel are drawn and averaged.
    """
    fine = cameras.to("cpu").resized(cameras.height * samples, cameras.width * samples)
    mesh = textured.mesh
    seen = fragments_of(mesh, fine, view)
    mask = torch.from_numpy(seen.covered)
    assert mesh.normals is not None, "a textured mesh has normals"
    slanted = torch.from_numpy(seen.interpolate(mesh.faces, mesh.normals)).float()
    normal, colour = torch.zeros(*mask.shape, 3), torch.ones(*mask.shape, 3)
    normal[mask] = normalize(slanted, dim=-1)
    place = seen.interpolate(mesh.faces, textured.uv)
    colour[mask] = torch.from_numpy(sampled(textured.texture, place)).float()
    if textured.environment is not None:
        points = torch.from_numpy(seen.interpolate(mesh.faces, mesh.vertices)).float()
        towards = normalize(fine.centre[view] - points, dim=-1)
        cosine = (towards * normal[mask]).sum(dim=-1)
        mirrored = 2 * cosine[:, None] * normal[mask] - towards
        environment = torch.from_numpy(textured.environment).float()
        coat = mirror(environment, mirrored, cosine)
        colour[mask] = to_srgb(to_linear(colour[mask]) + coat)
    picture = Picture(colour, normal, torch.from_numpy(seen.depth).float(), mask)
    return picture if samples == 1 else pooled(picture, samples)


def sampled(
    texture: UInt8[np.ndarray, "H W 3"], uv: Float[np.ndarray, "N 2"]
) -> Float[np.ndarray, "N 3"]:
    """Colours in [0, 1] at places of a texture, by bilinear interpolation; its border goes on."""
    height, width = texture.shape[:2]
    place = uv * [width, height] - 0.5
    low = np.floor(place).astype(np.int64)
    share = (place - low)[:, :, None]
    (x0, x1), (y0, y1) = (
        (low[:, axis].clip(0, size - 1), (low[:, axis] + 1).clip(0, size - 1))
        for axis, size in ((0, width), (1, height))
    )
    upper = texture[y0, x0] * (1 - share[:, 0]) + texture[y0, x1] * share[:, 0]
    lower = texture[y1, x0] * (1 - share[:, 0]) + texture[y1, x1] * share[:, 0]
    return (upper * (1 - share[:, 1]) + lower * share[:, 1]) / 255

"""Paints a mesh's texture from the field it was extracted from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from common.meshes.mesh import Mesh
from common.meshes.rasterise import rasterise
from common.meshes.textured import TexturedMesh, tangents
from common.meshes.unwrap import unwrap

Points = Float[Tensor, "N 3"]
Surface = Callable[[Points], tuple[Float[Tensor, "N"], Points]]  # level and its gradient
Shade = Callable[[Points], tuple[Points, Points]]  # colours in [0, 1] and unit normals

NEWTON_STEPS = 2


@dataclass(frozen=True)
class TextureSettings:
    """How a texture is made.

    ``colours`` says what is painted where they depend on the direction: those seen from straight
    above ("normal"), the mean over the training cameras that see the point ("views"), or that of
    what remains when a clear coat's mirroring is taken off ("gloss").
    """

    size: int = 1024
    colours: Literal["normal", "views", "gloss"] = "normal"
    normal_map: bool = False


def bake(
    mesh: Mesh,
    surface: Surface,
    shade: Shade,
    settings: TextureSettings,
    *,
    chunk: int = 2**13,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> TexturedMesh:
    """Unwrap a mesh with normals and give every texel the colour of its point of the surface.

    A texel's point is first moved from its face onto the exact surface. Texels beyond the charts
    repeat the nearest within, so that no filtering shows a seam. ``progress`` is told how many
    texels were done. ``surface`` and ``shade`` get at most ``chunk`` points of the mesh's frame.
    """
    split, uv = unwrap(replace(mesh, colours=None), settings.size)
    corners = uv[split.faces] * settings.size - 0.5
    texels = rasterise(corners, np.ones(corners.shape[:2]), settings.size, settings.size)
    on_faces = torch.from_numpy(texels.interpolate(split.faces, split.vertices)).float()
    reach = _mean_edge(split)
    colours, normals = [], []
    for part in on_faces.to(device).split(chunk):
        colour, normal = shade(settle(surface, part, reach))
        colours.append(colour.cpu())
        normals.append(normal.cpu())
        if progress is not None:
            progress(len(part))
    textured = TexturedMesh(split, uv, _filled(torch.cat(colours).numpy(), texels.covered))
    if not settings.normal_map:
        return textured
    frames = _frames(split, uv)
    here = np.stack([texels.interpolate(split.faces, axis) for axis in frames], axis=-1)
    seen = np.linalg.solve(_unit_columns(here), torch.cat(normals).double().numpy()[..., None])
    unit = seen[..., 0] / np.linalg.norm(seen[..., 0], axis=1, keepdims=True)
    return replace(textured, normal_map=_filled((unit + 1) / 2, texels.covered))


def settle(surface: Surface, points: Points, reach: float) -> Points:
    """Points moved onto the level set by Newton steps along the gradient.

    Those that would end further than ``reach`` away, or nowhere, stay where they are.
    """
    moved = points
    for _ in range(NEWTON_STEPS):
        level, gradient = surface(moved)
        square = gradient.square().sum(dim=-1, keepdim=True)
        moved = (moved - level[:, None] * gradient / square).detach()
    near = (moved - points).norm(dim=-1, keepdim=True) < reach  # false where it is no number
    return torch.where(near, moved, points)


def _mean_edge(mesh: Mesh) -> float:
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    return float(np.linalg.norm(np.roll(corners, 1, axis=1) - corners, axis=2).mean())


def _frames(mesh: Mesh, uv: Float[np.ndarray, "V 2"]) -> list[Float[np.ndarray, "V 3"]]:
    """Tangent, bitangent and normal of every vertex."""
    tangent, sign = tangents(mesh, uv)
    normal = np.asarray(mesh.normals, np.float64)
    return [tangent, sign[:, None] * np.cross(normal, tangent), normal]


def _unit_columns(matrices: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3 3"]:
    # Viewers interpolate the three axes and make each of length one again, which leaves them
    # slightly askew: solving rather than projecting gives back exactly the normal that was meant.
    return matrices / np.linalg.norm(matrices, axis=1, keepdims=True)


def _filled(
    values: Float[np.ndarray, "P 3"], covered: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of [0, 1] values at the covered texels; the others repeat the nearest of them."""
    picture = np.zeros((*covered.shape, 3), np.uint8)
    picture[covered] = (values * 255).round().clip(0, 255)
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return picture[tuple(nearest)]

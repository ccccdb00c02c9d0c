"""Which cameras see a point of a mesh."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras
from common.meshes.mesh import Mesh
from common.meshes.rasterise import Fragments, rasterise

LONGEST_SIDE = 512  # of the depth maps, in pixels
# Seen at more than 84 degrees from its normal a point's colour is hardly known, and a depth map
# is too steep to tell whether anything stands before it.
LEAST_COSINE = 0.1


@dataclass(frozen=True)
class Visibility:
    """Depth maps of a mesh in the cameras' own frame."""

    cameras: Cameras
    depth: Float[Tensor, "V H W"]

    def weights(
        self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]
    ) -> Float[Tensor, "V N"]:
        """For surface points with unit normals: how directly each camera sees them.

        The cosine between normal and line of sight; zero where a camera does not see the point.
        """
        pixel, z = self.cameras.project(points)
        towards = torch.nn.functional.normalize(self.cameras.centre[:, None] - points, dim=-1)
        cosine = (towards * normals).sum(dim=-1)
        x, y = pixel.round().long().unbind(dim=-1)
        height, width = self.depth.shape[1:]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 0)
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        before = self.depth.flatten(1).gather(1, y * width + x)
        seen = inside & (cosine > LEAST_COSINE) & (z < before + self._tolerance(z, cosine))
        return torch.where(seen, cosine, 0.0)

    def _tolerance(
        self, z: Float[Tensor, "V N"], cosine: Float[Tensor, "V N"]
    ) -> Float[Tensor, "V N"]:
        """By how much depth may differ within a pixel on a plane so inclined, and one pixel."""
        pixel = z / self.cameras.intrinsics[:, 0, 0, None].abs()
        safe = cosine.clamp(LEAST_COSINE, 1)
        return pixel * (1 + (1 - safe**2).sqrt() / safe)


def see(mesh: Mesh, cameras: Cameras) -> Visibility:
    """Draw the mesh's depth in every camera."""
    smaller = min(1.0, LONGEST_SIDE / max(cameras.height, cameras.width))
    small = cameras.resized(round(cameras.height * smaller), round(cameras.width * smaller))
    maps = [fragments_of(mesh, small, view).depth for view in range(len(small))]
    depth = torch.from_numpy(np.stack(maps)).to(small.intrinsics)
    return Visibility(small, depth)


def fragments_of(mesh: Mesh, cameras: Cameras, view: int) -> Fragments:
    """The faces that one camera sees; the mesh is in the cameras' frame."""
    points = torch.from_numpy(mesh.vertices).to(cameras.intrinsics)
    pixel, z = cameras[[view]].project(points)
    corners = pixel[0].double().cpu().numpy()[mesh.faces]
    depth = z[0].double().cpu().numpy()[mesh.faces]
    return rasterise(corners, depth, cameras.height, cameras.width)

"""Pinhole cameras and the rays through their pixels.

One convention everywhere: OpenCV axes (x right, y down, z forward); integer pixel coordinates are
pixel centres, so an image W wide spans x from -0.5 to W - 0.5. Each file format's own convention is
converted once, at its reader. Cameras live in the *object* frame, where a field is learnt:
readers fold the file's object-to-world similarity into the pose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.small_matrices import product


@dataclass(frozen=True)
class Rays:
    """Half-lines origin + depth * direction, depth >= 0, with unit directions."""

    origin: Float[Tensor, "*batch 3"]
    direction: Float[Tensor, "*batch 3"]

    def at(self, depth: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
        """The points at these distances along the rays."""
        return self.origin + depth[..., None] * self.direction


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras of one image size.

    ``intrinsics`` are in pixels and may have skew; ``object_from_camera`` is rigid.
    """

    intrinsics: Float[Tensor, "V 3 3"]
    object_from_camera: Float[Tensor, "V 4 4"]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.intrinsics)

    def __getitem__(self, views) -> "Cameras":
        """The cameras of a slice, list or tensor of view indices."""
        return Cameras(
            self.intrinsics[views], self.object_from_camera[views], self.height, self.width
        )

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return Cameras(
            self.intrinsics.to(device), self.object_from_camera.to(device), self.height, self.width
        )

    @property
    def centre(self) -> Float[Tensor, "V 3"]:
        """Camera centres in the object frame."""
        return self.object_from_camera[:, :3, 3]

    def resized(self, height: int, width: int) -> "Cameras":
        """The cameras of the same pictures resampled to another size: u' = (u + 0.5) s - 0.5."""
        scale_x, scale_y = width / self.width, height / self.height
        resize = torch.tensor(
            [
                [scale_x, 0, 0.5 * scale_x - 0.5],
                [0, scale_y, 0.5 * scale_y - 0.5],
                [0, 0, 1],
            ]
        ).to(self.intrinsics)
        return Cameras(product(resize, self.intrinsics), self.object_from_camera, height, width)

    def rays(self, view: Int[Tensor, "*n"], pixel: Float[Tensor, "*n 2"]) -> Rays:
        """Rays from the camera centres through pixels (x, y), in the object frame."""
        direction = self.unit_z_directions(view, pixel)
        return Rays(self.centre[view], torch.nn.functional.normalize(direction, dim=-1))

    def unit_z_directions(
        self, view: Int[Tensor, "*n"], pixel: Float[Tensor, "*n 2"]
    ) -> Float[Tensor, "*n 3"]:
        """Object-frame directions scaled to advance one unit of camera z.

        Their length turns a camera-z depth into a distance along the ray.
        """
        homogeneous = torch.cat([pixel, torch.ones_like(pixel[..., :1])], dim=-1)
        return product(self._unproject[view], homogeneous[..., None])[..., 0]

    @cached_property
    def _unproject(self) -> Float[Tensor, "V 3 3"]:
        """From homogeneous pixels to directions of unit camera z."""
        return product(self.object_from_camera[:, :3, :3], torch.linalg.inv(self.intrinsics))

    @cached_property
    def _to_pixels(self) -> Float[Tensor, "V 3 3"]:
        """What multiplies x - c, as a row, from the right: R K^T, whose last column gives z."""
        return product(self.object_from_camera[:, :3, :3], self.intrinsics.transpose(1, 2))

    def project(
        self, points: Float[Tensor, "*n 3"]
    ) -> tuple[Float[Tensor, "V *n 2"], Float[Tensor, "V *n"]]:
        """Pixel coordinates (x, y) and camera z of object-frame points in every view.

        Points with z <= 0 lie behind the camera; their pixel coordinates mean nothing.
        """
        pixel, z = self.project_own(points.reshape(-1, 3).expand(len(self), -1, 3))
        shape = points.shape[:-1]
        return pixel.reshape(len(self), *shape, 2), z.reshape(len(self), *shape)

    def project_own(
        self, points: Float[Tensor, "V N 3"]
    ) -> tuple[Float[Tensor, "V N 2"], Float[Tensor, "V N"]]:
        """The same of other points for every view."""
        in_pixels = product(points - self.centre[:, None], self._to_pixels)
        z = in_pixels[..., 2]
        safe = torch.where(z.abs() < 1e-9, torch.full_like(z, 1e-9), z)
        return in_pixels[..., :2] / safe[..., None], z


def joined(many: Sequence[Cameras]) -> Cameras:
    """The cameras of several objects, one object's after another's; the size is the first's.

    Matrices that theirs have computed are taken over.
    """
    whole = Cameras(
        torch.cat([cameras.intrinsics for cameras in many]),
        torch.cat([cameras.object_from_camera for cameras in many]),
        many[0].height,
        many[0].width,
    )
    for computed in ("_unproject", "_to_pixels"):
        vars(whole)[computed] = torch.cat([getattr(cameras, computed) for cameras in many])
    return whole


def pixel_grid(height: int, width: int) -> Float[Tensor, "HW 2"]:
    """Every pixel centre (x, y), row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).float()


def decompose_projection(projection: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Split a 3x4 projection into K, a rigid camera-to-frame pose and the frame's scale.

    ``projection`` ~ K [R | t] up to any non-zero factor, where R may carry an isotropic scale s
    (a similarity of the frame). Returns K with K[2, 2] = 1 and a positive diagonal, the 4x4 pose in
    the frame's own units, and s. A projection multiplied by -1 is the same camera and decomposes
    to the same answer. Raises ValueError where the left 3x3 block is singular.
    """
    projection = np.asarray(projection, dtype=np.float64)
    matrix = projection[:3, :3]
    determinant = np.linalg.det(matrix)
    if not np.isfinite(determinant) or abs(determinant) <= 1e-12 * np.abs(matrix).max() ** 3:
        raise ValueError("the left 3x3 block of the projection is singular")
    # det(K R) > 0 for a camera that looks along +z with right-handed axes.
    sign = np.sign(determinant)
    matrix = sign * matrix
    # RQ from the QR of the row-reversed transpose.
    q, r = np.linalg.qr(np.flipud(matrix).T)
    upper = np.fliplr(np.flipud(r.T))
    rotation = np.flipud(q.T)
    flip = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ flip, flip @ rotation
    scale = float(upper[2, 2])
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -np.linalg.solve(sign * matrix, projection[:3, 3])
    return upper / scale, pose, scale


def look_at(
    centre: Float[Tensor, "V 3"], target: Float[Tensor, "V 3"], up: Float[Tensor, "3"]
) -> Float[Tensor, "V 4 4"]:
    """Camera-to-frame poses at ``centre`` looking at ``target``; image y is away from ``up``."""
    forward = torch.nn.functional.normalize(target - centre, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, up.expand_as(forward)), dim=-1
    )
    down = torch.linalg.cross(forward, right)
    pose = torch.eye(4).repeat(len(centre), 1, 1).to(centre)
    pose[:, :3, :3] = torch.stack([right, down, forward], dim=-1)
    pose[:, :3, 3] = centre
    return pose

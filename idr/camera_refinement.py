"""Camera poses, and if asked their focal length, as residuals to learn beside the surface."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.cameras import Cameras
from common.small_matrices import product

_SERIES_BELOW = 1e-2  # of the squared angle: there the next term of the series is below 3e-18


class CameraRefinement(nn.Module):
    """Corrections of V cameras, all zero at the start.

    ``rotation`` (V, 3) is an axis times an angle in radians, in the camera's own axes, and turns a
    camera about its own centre. ``translation`` (V, 3) moves the centre along the object frame's
    axes, in units of its first distance from the origin, and turns the camera along, so that the
    origin stays where it was in the picture: R' = Q R exp(rotation), Q the least rotation from the
    old centre's direction to the new one's. Without Q both would above all shift the picture, each
    undoing the other, and an optimiser that scales every coordinate alone (Adam) creeps along that
    valley. ``log_focal`` (1,), None unless ``focal``, scales fx and fy of all views by its
    exponential. A similarity of all cameras and the surface together changes no picture, so errors
    must be measured after an alignment.
    """

    intrinsics: Tensor
    object_from_camera: Tensor

    def __init__(self, cameras: Cameras, focal: bool):
        super().__init__()
        self.height, self.width = cameras.height, cameras.width
        # Saved with the corrections, which mean nothing without what they correct.
        self.register_buffer("intrinsics", cameras.intrinsics.detach().clone())
        self.register_buffer("object_from_camera", cameras.object_from_camera.detach().clone())
        zeros = torch.zeros_like(cameras.centre)
        self.rotation = nn.Parameter(zeros.clone())
        self.translation = nn.Parameter(zeros.clone())
        self.log_focal = nn.Parameter(zeros.new_zeros(1)) if focal else None

    def forward(self) -> Cameras:
        """The corrected cameras, with gradients; ask anew after every step of the optimiser."""
        before = self.object_from_camera[:, :3, 3]
        centre = before + before.norm(dim=-1, keepdim=True) * self.translation
        turned = product(self.object_from_camera[:, :3, :3], so3_exp(self.rotation))
        rotation = product(least_rotation(before, centre), turned)
        top = torch.cat([rotation, centre[..., None]], dim=-1)
        pose = torch.cat([top, self.object_from_camera[:, 3:]], dim=1)
        intrinsics = self.intrinsics
        if self.log_focal is not None:
            stretch = self.log_focal.exp()
            # Skew is a share of fx, and scales with it.
            columns = torch.cat([stretch, stretch, torch.ones_like(stretch)])
            intrinsics = intrinsics * columns
        return Cameras(intrinsics, pose, self.height, self.width)


def least_rotation(
    start: Float[Tensor, "*n 3"], end: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n 3 3"]:
    """The rotation by the least angle that takes the direction of ``start`` to that of ``end``.

    I + [k]x + [k]x^2 / (1 + cos) with k the cross product of the unit vectors; undefined for
    opposite directions. A vector of length zero counts as parallel to anything.
    """
    first, second = (nn.functional.normalize(vector, dim=-1) for vector in (start, end))
    cross = _cross_matrix(torch.linalg.cross(first, second))
    cosine = (first * second).sum(dim=-1)[..., None, None]
    return torch.eye(3).to(start) + cross + product(cross, cross) / (1 + cosine)


def so3_exp(vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of axes times angles in radians, exp([vector]_x), by Rodrigues' formula.

    Smooth everywhere, with exact derivatives at zero and at half turns.
    """
    square = (vector * vector).sum(dim=-1)[..., None, None]
    small = square < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    # sin(angle) / angle and (1 - cos(angle)) / angle^2, the latter without its cancellation.
    first = torch.where(small, _series(square, start=1), angle.sin() / angle)
    second = torch.where(small, _series(square, start=2), 2 * (angle / 2).sin() ** 2 / safe)
    x, y, z = vector.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    cross = cross.reshape(*vector.shape[:-1], 3, 3)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + first * cross + second * product(cross, cross)


def _cross_matrix(vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """[v]x, so that [v]x w is the cross product of v and w."""
    x, y, z = vector.unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return rows.reshape(*vector.shape[:-1], 3, 3)


def _series(square: Tensor, start: int) -> Tensor:
    """1/start! - square/(start + 2)! + square^2/(start + 4)! - ..., five terms by Horner's rule."""
    total = torch.zeros_like(square)
    for power in range(4, -1, -1):
        total = 1 / math.factorial(start + 2 * power) - square * total
    return total


def perturb_cameras(
    cameras: Cameras, degrees: float, translation: float, generator: torch.Generator
) -> Cameras:
    """The cameras with errors of exactly these sizes, in directions uniform over the sphere.

    Every camera turns by ``degrees`` about an axis through its own centre, and its centre moves by
    ``translation`` times its distance from the origin. The two are independent: a turned camera
    does not keep looking at the object, so two degrees shift its whole picture by two degrees of
    its field of view.
    """

    def directions() -> Float[Tensor, "V 3"]:
        normal = torch.randn(len(cameras), 3, generator=generator, device=generator.device)
        return torch.nn.functional.normalize(normal, dim=-1).to(cameras.centre)

    pose = cameras.object_from_camera.clone()
    turn = so3_exp(math.radians(degrees) * directions())
    pose[:, :3, :3] = product(pose[:, :3, :3], turn)
    step = translation * cameras.centre.norm(dim=-1, keepdim=True)
    pose[:, :3, 3] = cameras.centre + step * directions()
    return Cameras(cameras.intrinsics, pose, cameras.height, cameras.width)

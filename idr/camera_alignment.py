"""How far estimated cameras are from the true ones, free of the frame they were estimated in."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras
from common.errors import UserError


@dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation x + translation, in float64."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    def apply(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """The points moved, in their own precision and on their own device."""
        rotation, translation = self.rotation.to(points), self.translation.to(points)
        return self.scale * (points @ rotation.T) + translation

    def as_matrix(self) -> Float[Tensor, "4 4"]:
        """The same map of homogeneous points."""
        matrix = torch.eye(4).to(self.rotation)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = self.translation
        return matrix


@dataclass(frozen=True)
class ViewErrors:
    """Errors of every camera after the alignment, in float64."""

    rotation_deg: Float[Tensor, "V"]
    centre: Float[Tensor, "V"]  # in the units of the true cameras' frame


def camera_errors(estimated: Cameras, truth: Cameras) -> dict[str, float]:
    """Mean and median errors after the alignment, centres in the units of ``truth``'s frame."""
    errors = view_errors(estimated, truth)
    return {
        "rotation_error_deg": float(errors.rotation_deg.mean()),
        "rotation_error_deg_median": float(errors.rotation_deg.quantile(0.5)),
        "centre_error": float(errors.centre.mean()),
        "centre_error_median": float(errors.centre.quantile(0.5)),
    }


def view_errors(estimated: Cameras, truth: Cameras) -> ViewErrors:
    """Angles and distances from each true camera to the aligned estimate of it."""
    alignment = align_cameras(estimated, truth)
    difference = _rotations(truth).mT @ alignment.rotation @ _rotations(estimated)
    distance = alignment.apply(_centres(estimated)) - _centres(truth)
    return ViewErrors(rotation_angle(difference).rad2deg(), distance.norm(dim=-1))


def align_cameras(estimated: Cameras, truth: Cameras) -> Similarity:
    """The similarity that brings the estimated cameras nearest to the true ones.

    As in the IDR paper's evaluation: the rotation nearest to all relative orientations, then the
    scale and translation that minimise the sum of distances (not squared: a few lost cameras do not
    drag the others along) between centres. Raises UserError where centres coincide, or where no
    positive scale brings them nearer than none.
    """
    rotation = _nearest_rotation((_rotations(truth) @ _rotations(estimated).mT).sum(dim=0))
    source, target = _centres(estimated) @ rotation.T, _centres(truth)
    for name, centres in (("estimated", source), ("true", target)):
        if _spread(centres) <= 1e-9 * centres.abs().max():
            raise UserError(
                f"the {name} cameras all stand at one place, so no scale aligns them with the "
                "others; at least two must have different centres"
            )
    scale, translation = _scale_and_shift(source, target)
    if scale <= 0:
        raise UserError(
            "no positive scale aligns the estimated camera centres with the true ones; the two "
            "sets have nothing in common, so check that they list the same views in one order"
        )
    return Similarity(scale, rotation, translation)


def rotation_angle(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n"]:
    """Angles in radians, 0 to pi, to full relative precision for tiny ones too.

    The antisymmetric part has 2 sin(angle) and the trace 1 + 2 cos(angle); the arc cosine of the
    latter alone loses half of the digits near 0 and pi.
    """
    twice_sine = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        dim=-1,
    ).norm(dim=-1)
    return torch.atan2(twice_sine, rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1)


def _nearest_rotation(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """The proper rotation nearest in Frobenius norm (Umeyama, PAMI 1991)."""
    left, _, right = torch.linalg.svd(matrix)
    mirror = torch.ones(3).to(matrix)
    mirror[2] = torch.linalg.det(left @ right)
    return left @ (mirror[:, None] * right)


def _scale_and_shift(
    source: Float[Tensor, "V 3"], target: Float[Tensor, "V 3"]
) -> tuple[float, Float[Tensor, "3"]]:
    """Minimise sum |scale * source + shift - target|, a convex problem.

    Iteratively reweighted least squares (Weiszfeld 1937) of the distances rounded off at zero,
    sqrt(d^2 + smoothing^2), while the smoothing shrinks away: without it the iteration stays, or
    all but stays, where it first touched a centre.
    """
    extent = float(_spread(target))
    smoothing, floor = extent, 1e-12 * extent
    weight = torch.ones_like(target[:, :1])
    before = torch.full((4,), torch.inf).to(target)
    for _ in range(2000):
        share = weight / weight.sum()
        source_mean, target_mean = (share * source).sum(dim=0), (share * target).sum(dim=0)
        a, b = source - source_mean, target - target_mean
        scale = (share * a * b).sum() / (share * a * a).sum()
        shift = target_mean - scale * source_mean
        now = torch.cat([scale[None] * extent, shift])
        if smoothing == floor and (now - before).abs().max() < 1e-13 * extent:
            break
        before = now
        smoothing = max(0.7 * smoothing, floor)
        weight = 1 / ((scale * a - b).square().sum(dim=-1, keepdim=True) + smoothing**2).sqrt()
    return float(scale), shift


def _spread(points: Float[Tensor, "V 3"]) -> Float[Tensor, ""]:
    """Root mean square distance from the mean."""
    return (points - points.mean(dim=0)).square().sum(dim=-1).mean().sqrt()


def _rotations(cameras: Cameras) -> Float[Tensor, "V 3 3"]:
    return cameras.object_from_camera[:, :3, :3].detach().cpu().double()


def _centres(cameras: Cameras) -> Float[Tensor, "V 3"]:
    return cameras.centre.detach().cpu().double()

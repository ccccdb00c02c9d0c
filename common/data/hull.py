"""The visual hull of masks, seen from their own cameras."""

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from common.cameras import Cameras, Rays
from common.data.sphere_tracer import StepGrid
from common.rendering.intervals import cube_intervals

HALF = 0.5  # the hull is sought in the cube [-HALF, HALF]^3
CHUNK = 1 << 16  # points tested at a time: bounds the memory to some tens of MB
GROUP = 6  # views tested between two looks at which points are still inside


def visual_hull_depth(
    masks: Bool[Tensor, "V H W"],
    cameras: Cameras,
    sample_step: float = 0.01,
    refinements: int = 4,
) -> Float[Tensor, "V H W"]:
    """Camera z, in object units, of the first point of each pixel's ray inside every mask.

    Infinity outside the pixel's own mask, and where the ray meets no such point in the cube. A
    point is inside a mask where any of the four pixel centres around its projection is; a view
    that does not see it has no say. So the hull contains every object that is nowhere thinner than
    a pixel. Samples are ``sample_step`` object units apart, and the first that is inside is refined
    by bisection.
    """
    hull = _Hull(masks, cameras)
    skip = _skip_grid(masks, cameras)
    depth = torch.full(masks.shape, torch.inf, device=masks.device)
    view, row, column = torch.nonzero(masks, as_tuple=True)
    pixel = torch.stack([column, row], dim=-1).float()
    for chunk in torch.arange(len(view), device=masks.device).split(CHUNK):
        rays = cameras.rays(view[chunk], pixel[chunk])
        along = _march(hull, skip, rays, sample_step, refinements)
        distance_per_z = cameras.unit_z_directions(view[chunk], pixel[chunk]).norm(dim=-1)
        depth[view[chunk], row[chunk], column[chunk]] = along / distance_per_z
    return depth


def inside_masks(
    points: Float[Tensor, "N 3"], masks: Bool[Tensor, "V H W"], cameras: Cameras
) -> Bool[Tensor, "N"]:
    """Whether points of the object frame are inside every mask that sees them (as above)."""
    hull = _Hull(masks, cameras)
    return torch.cat([hull.contains(chunk) for chunk in points.split(CHUNK)])


def on_masks(
    points: Float[Tensor, "N 3"],
    masks: Bool[Tensor, "V H W"],
    cameras: Cameras,
    least_witnesses: float,
) -> Bool[Tensor, "N"]:
    """Whether points fall on a mask's pixel in every view that sees them, and enough views do.

    A view does not see what is behind its camera or beyond its picture's border, which may cut the
    object off. But what fewer than the share ``least_witnesses`` of the views see is not taken for
    the object: it lies beside nearly all pictures. Sharper than ``inside_masks``, and unbiased: a
    part thinner than a pixel may be lost.
    """
    answers = [
        on_own_masks(some[None], masks[None], cameras, least_witnesses)[0]
        for some in points.split(max(CHUNK * GROUP // len(masks), 1))
    ]
    return torch.cat(answers)


def on_own_masks(
    points: Float[Tensor, "B N 3"],
    masks: Bool[Tensor, "B V H W"],
    cameras: Cameras,
    least_witnesses: float,
) -> Bool[Tensor, "B N"]:
    """``on_masks`` for points of several objects; ``cameras`` are those of one after another."""
    objects, views, height, width = masks.shape
    own = points[:, None].expand(-1, views, -1, -1).reshape(objects * views, -1, 3)
    pixel, z = (found.unflatten(0, (objects, views)) for found in cameras.project_own(own))
    x, y = pixel.round().long().unbind(-1)
    sees = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    of = torch.arange(objects, device=masks.device)[:, None, None]
    view = torch.arange(views, device=masks.device)[:, None]
    on_mask = masks[of, view, y.clamp(0, height - 1), x.clamp(0, width - 1)]
    witnessed = sees.float().mean(dim=1) >= least_witnesses
    return witnessed & (on_mask | ~sees).all(dim=1)


def near_masks(
    centres: Float[Tensor, "N 3"],
    radius: float,
    away: Float[Tensor, "V H W"],
    cameras: Cameras,
    least_witnesses: float,
) -> Bool[Tensor, "N"]:
    """Whether balls of this radius may hold a point that ``on_masks`` accepts.

    ``away`` is distance_to_mask of every view. Errs towards True, so that balls that cover space
    lose no part of the hull, however thin.
    """
    height, width = away.shape[1:]
    border = torch.tensor([width - 1, height - 1], device=away.device) / 2
    near = torch.arange(len(centres), device=away.device)
    witnesses = torch.zeros(len(centres), device=away.device)
    for view in range(len(away)):
        camera = cameras[[view]]
        pixel, z = (result[0] for result in camera.project(centres[near]))
        intrinsics = camera.intrinsics[0]
        # A shift of (dx, dz) moves f x / z by at most f (|dx| + |x / z| |dz|) / (z - |dz|).
        oblique = 1 + (pixel - intrinsics[:2, 2]).norm(dim=-1) / intrinsics[1, 1]
        # Rounding may hide a pixel's diagonal, half for the ball's centre and half for its point.
        focal = torch.linalg.matrix_norm(intrinsics[:2, :2], ord=2)
        reach = focal * oblique * radius / (z - radius) + 1.5
        column, row = pixel.round().long().unbind(-1)
        sees = (z > radius) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        distance = away[view, row.clamp(0, height - 1), column.clamp(0, width - 1)]
        beside = (pixel - border).abs() > border + reach[:, None]
        witnesses[near] += torch.where(z > radius, ~beside.any(dim=-1), z > -radius)
        near = near[~(sees & (distance > reach))]
    answer = torch.zeros(len(centres), dtype=torch.bool, device=away.device)
    answer[near] = witnesses[near] >= least_witnesses * len(away)
    return answer


def distance_to_mask(mask: Bool[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Pixels from each pixel to the nearest of the mask; infinite where it is empty."""
    if not mask.any():
        return torch.full(mask.shape, torch.inf, device=mask.device)
    distance = distance_transform_edt(~mask.cpu().numpy())
    return torch.from_numpy(distance).float().to(mask.device)


class _Hull:
    """Membership of points, prepared for many tests."""

    def __init__(self, masks: Bool[Tensor, "V H W"], cameras: Cameras):
        views, height, width = masks.shape
        # Cell (i, j) lies between pixel centres i - 2, i - 1 and j - 2, j - 1. Cells that touch no
        # pixel centre, and all beyond the frame (clamped to them), have no say: True.
        padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
        touches = padded[:, :-1, :-1] | padded[:, 1:, :-1] | padded[:, :-1, 1:] | padded[:, 1:, 1:]
        cells = torch.nn.functional.pad(touches, (1, 1, 1, 1), value=True)
        self.cells = cells.reshape(views, -1)
        self.limit = (width + 2, height + 2)
        self.order = _by_discrimination(masks)
        rotation = cameras.object_from_camera[:, :3, :3].transpose(1, 2)
        turn = cameras.intrinsics @ rotation
        self.turn, self.shift = turn, -turn @ cameras.centre[:, :, None]

    def contains(self, points: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        inside = torch.arange(len(points), device=points.device)
        columns, rows = self.limit
        for group in self.order.split(GROUP):
            # The two matrices of each camera in one, and in place: this is the innermost loop.
            projected = torch.baddbmm(
                self.shift[group], self.turn[group], points[inside].T.expand(len(group), -1, -1)
            )
            x, y, z = projected.unbind(1)
            column = x.div_(z).add_(2).clamp_(0, columns).long()
            row = y.div_(z).add_(2).clamp_(0, rows).long()
            cell = row.mul_(columns + 1).add_(column)
            says = self.cells[group].gather(1, cell)
            inside = inside[(says | (z <= 0)).all(dim=0)]
        answer = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        answer[inside] = True
        return answer


def _march(
    hull: _Hull, skip: StepGrid, rays: Rays, sample_step: float, refinements: int
) -> Float[Tensor, "R"]:
    """Distance along each ray to its first point inside the hull, infinity where there is none."""
    intervals = cube_intervals(rays, HALF)
    entry, exit_ = intervals.near, intervals.far
    depth = torch.full_like(entry, torch.inf)
    before = torch.full_like(entry, torch.inf)
    alive = torch.nonzero(entry < exit_)[:, 0]
    reached = entry[alive]
    while len(alive):
        ahead = Rays(rays.origin[alive], rays.direction[alive])
        points = ahead.at(reached)
        step = skip.at(points)
        near = torch.nonzero(step < sample_step)[:, 0]
        step[near] = sample_step
        hit = near[hull.contains(points[near])]
        depth[alive[hit]] = reached[hit]
        going = reached + step < exit_[alive]
        going[hit] = False
        # After a sample outside, the hull may begin anywhere up to the next sample.
        before[alive] = torch.where(going, reached, before[alive])
        alive, reached = alive[going], (reached + step)[going]
    found = torch.nonzero(depth.isfinite() & before.isfinite())[:, 0]
    crossing = Rays(rays.origin[found], rays.direction[found])
    outside, inside = before[found].clone(), depth[found]
    for _ in range(refinements):
        middle = (outside + inside) / 2
        holds = hull.contains(crossing.at(middle))
        inside, outside = torch.where(holds, middle, inside), torch.where(holds, outside, middle)
    depth[found] = inside
    return depth


def _skip_grid(masks: Bool[Tensor, "V H W"], cameras: Cameras, resolution: int = 24) -> StepGrid:
    """How far a ray may advance from each cell without entering the hull (0 near or inside it).

    A cell is kept where it may reach into the hull: where in every view the nearest mask pixel is
    as near as the cell's own radius in pixels. Elsewhere the distance to the kept cells counts.
    """
    device = masks.device
    grid = StepGrid(torch.zeros(resolution, resolution, resolution, device=device), HALF)
    kept = torch.arange(resolution**3, device=device)
    for view in _by_discrimination(masks).tolist():
        camera = cameras[[view]]
        _, height, width = masks.shape
        away = distance_to_mask(masks[view])
        survivors = []
        for chunk in kept.split(CHUNK):
            pixel, z = camera.project(grid.centres(chunk))
            # A pixel of slack for the four-neighbour test, and one for rounding to a pixel.
            focal = camera.intrinsics[0, :2, :2].norm()
            radius = focal * grid.slack / (z[0] - grid.slack) + 2.5
            column, row = pixel[0].round().unbind(-1)
            seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            column, row = column.clamp(0, width - 1).long(), row.clamp(0, height - 1).long()
            outside = (z[0] > grid.slack) & seen & (away[row, column] > radius)
            survivors.append(chunk[~outside])
        kept = torch.cat(survivors)
    empty = torch.ones(resolution**3, dtype=torch.bool, device=device)
    empty[kept] = False
    cells = distance_transform_edt(empty.view(resolution, resolution, resolution).cpu().numpy())
    distance = torch.from_numpy(cells).float().to(device) * grid.spacing - 2 * grid.slack
    return StepGrid(distance.contiguous(), HALF)


def _by_discrimination(masks: Bool[Tensor, "V H W"]) -> Tensor:
    """Views by the size of their masks: small ones rule out most points soonest."""
    return masks.flatten(1).sum(dim=1).argsort()

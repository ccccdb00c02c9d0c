"""Draw the pixels and points that one training step compares with an object's pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.cameras import Cameras, Rays, joined
from common.data.hull import on_own_masks
from common.data.views import Views

# Pictures may cut an object off; what fewer of the views than this share see is not the object.
LEAST_WITNESSES = 0.25


@dataclass(frozen=True)
class Supervision:
    """Rays of one object (or, with a leading axis B, of several) and what is known along them.

    All in the object frame. Distances are along the unit directions and infinite where unknown;
    ``per_camera_z`` turns a camera-z depth into such a distance.
    """

    origin: Float[Tensor, "*B R 3"]
    direction: Float[Tensor, "*B R 3"]
    colour: Float[Tensor, "*B R 3"]
    mask: Bool[Tensor, "*B R"]
    distance: Float[Tensor, "*B R"]
    hull_distance: Float[Tensor, "*B R"]
    per_camera_z: Float[Tensor, "*B R"]
    hull_points: Float[Tensor, "*B K 3"]
    hull_inside: Bool[Tensor, "*B K"]
    sparse_origin: Float[Tensor, "*B S 3"]
    sparse_direction: Float[Tensor, "*B S 3"]
    sparse_distance: Float[Tensor, "*B S"]
    sparse_per_camera_z: Float[Tensor, "*B S"]

    @property
    def rays(self) -> Rays:
        """The rays of all objects, flattened."""
        return Rays(self.origin.reshape(-1, 3), self.direction.reshape(-1, 3))

    def mirrored(self, which: Bool[Tensor, "*B"]) -> "Supervision":
        """The same supervision with these objects mirrored by x -> -x."""
        flip = torch.where(which[..., None, None], torch.tensor([-1.0, 1.0, 1.0]), 1.0)
        return replace(
            self,
            origin=self.origin * flip,
            direction=self.direction * flip,
            hull_points=self.hull_points * flip,
            sparse_origin=self.sparse_origin * flip,
            sparse_direction=self.sparse_direction * flip,
        )

    def with_colour(self, colour: Float[Tensor, "*B R 3"]) -> "Supervision":
        """The same supervision with other target colours."""
        return replace(self, colour=colour)

    def of_object(self, index: int) -> "Supervision":
        """That of one of the objects."""
        return Supervision(**{name: value[index] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> "Supervision":
        """The same supervision on another device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items()}
        return Supervision(**moved)


@dataclass(frozen=True)
class Draw:
    """How much of an object one step looks at."""

    rays: int
    views: int = 1
    patch: int = 1
    hull_points: int = 0
    sparse_points: int = 0
    object_share: float = 0.0  # of the rays, those through pixels of the object


@dataclass(frozen=True)
class NearHull:
    """Pixels of an object's views, and where points lie around the hull's depth there.

    ``z`` is infinite where there is no hull.
    """

    view: Int[Tensor, "N"]
    pixel: Int[Tensor, "N 2"]
    z: Float[Tensor, "N"]
    offset: Float[Tensor, "N 3"]


@dataclass(frozen=True)
class Drawn:
    """What chance has chosen of one object for a step."""

    views: Views
    view: Int[Tensor, "R"]
    pixel: Int[Tensor, "R 2"]
    points: Float[Tensor, "K 3"]  # uniform in the cube
    near: NearHull  # for the last of the points
    sparse: tuple[Tensor, Tensor, Tensor, Tensor]


def draw_supervision(views: Views, draw: Draw, generator: torch.Generator) -> Supervision:
    """Draw rays through random pixels of ``draw.views`` random views, and random volume points."""
    chosen = draw_views(len(views), draw, generator)
    return supervision_of([draw_object(views, chosen, draw, generator)]).of_object(0)


def draw_views(count: int, draw: Draw, generator: torch.Generator) -> Int[Tensor, "v"]:
    """The first of a step's choices: which of ``count`` views of an object it looks at."""
    return torch.randperm(count, generator=generator)[: draw.views]


def draw_object(
    views: Views, chosen: Int[Tensor, "v"], draw: Draw, generator: torch.Generator
) -> Drawn:
    """The rest of the choices.

    Without points of the volume, which are compared with every mask, they are the same of
    ``views[chosen]``, whose chosen views are all, in order.
    """
    view, pixel = draw_pixels(views, chosen, draw, generator)
    points = torch.rand(draw.hull_points, 3, generator=generator) - 0.5
    near = draw_near_hull(views, draw.hull_points - draw.hull_points // 2, generator)
    sparse = draw_sparse(views, int(chosen[0]), draw.sparse_points, generator)
    return Drawn(views, view, pixel, points, near, sparse)


def supervision_of(drawn: Sequence[Drawn]) -> Supervision:
    """What a step compares of some objects, as much of each.

    What can be computed is computed for all of them at once.
    """
    cameras = joined([one.views.cameras for one in drawn])
    first = torch.tensor([0, *(len(one.views) for one in drawn[:-1])]).cumsum(0)[:, None]
    view, pixel = (torch.stack([getattr(one, name) for one in drawn]) for name in ("view", "pixel"))
    unit_z = cameras.unit_z_directions(view + first, pixel.float())
    per_z = unit_z.norm(dim=-1)
    points = _volume_points(drawn, cameras, first)
    origin, direction, distance, per_camera_z = (
        torch.stack(part) for part in zip(*(one.sparse for one in drawn), strict=True)
    )
    return Supervision(
        origin=cameras.centre[view + first],
        direction=unit_z / per_z[..., None],
        colour=_at_pixels(drawn, "images").float() / 255,
        mask=_at_pixels(drawn, "masks"),
        distance=_at_pixels(drawn, "depth") * per_z,
        hull_distance=_at_pixels(drawn, "hull_depth") * per_z,
        per_camera_z=per_z,
        hull_points=points,
        hull_inside=_in_hull(drawn, points),
        sparse_origin=origin,
        sparse_direction=direction,
        sparse_distance=distance,
        sparse_per_camera_z=per_camera_z,
    )


def _at_pixels(drawn: Sequence[Drawn], name: str) -> Tensor:
    """The views' arrays of this name at the pixels; infinite where there is none."""
    found = []
    for one in drawn:
        array = getattr(one.views, name)
        x, y = one.pixel.unbind(-1)
        found.append(
            torch.full_like(x, torch.inf, dtype=torch.float32)
            if array is None
            else array[one.view, y, x]
        )
    return torch.stack(found)


def draw_pixels(
    views: Views, chosen: Tensor, draw: Draw, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """View index and integer pixel (x, y) of each ray; the pixels of a patch follow each other.

    Patches lie wholly on the image, on true neighbours. ``draw.object_share`` of them begin at a
    random pixel of the object in the chosen views, the others anywhere in a random one of these.
    """
    size, patches = draw.patch, draw.rays // draw.patch**2
    height, width = views.masks.shape[1:]
    last = torch.tensor([width - size, height - size])
    view = chosen[torch.randint(len(chosen), (patches,), generator=generator)]
    corner = torch.stack(
        [
            torch.randint(width - size + 1, (patches,), generator=generator),
            torch.randint(height - size + 1, (patches,), generator=generator),
        ],
        dim=-1,
    )
    if draw.object_share and len(shown := views.masks[chosen].nonzero()):
        count = round(patches * draw.object_share)
        some = shown[torch.randint(len(shown), (count,), generator=generator)]
        view[:count] = chosen[some[:, 0]]
        corner[:count] = torch.minimum(some[:, [2, 1]], last)
    step_y, step_x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    offset = torch.stack([step_x, step_y], dim=-1).reshape(-1, 2)
    pixel = (corner[:, None] + offset).reshape(-1, 2)
    return view.repeat_interleave(size * size), pixel


def draw_near_hull(views: Views, count: int, generator: torch.Generator) -> NearHull:
    """Random pixels of all views and offsets from the hull there; of none where it is not known."""
    if not count or views.hull_depth is None:
        nowhere = torch.zeros(count, dtype=torch.long)
        unknown = torch.full((count,), torch.inf)
        return NearHull(nowhere, nowhere[:, None].expand(-1, 2), unknown, torch.zeros(count, 3))
    height, width = views.masks.shape[1:]
    view, x, y = (
        torch.randint(size, (count,), generator=generator) for size in (len(views), width, height)
    )
    offset = 0.05 * torch.randn(count, 3, generator=generator)
    return NearHull(view, torch.stack([x, y], dim=-1), views.hull_depth[view, y, x], offset)


def _volume_points(
    drawn: Sequence[Drawn], cameras: Cameras, first: Int[Tensor, "B 1"]
) -> Float[Tensor, "B K 3"]:
    """Points of the volume: half are uniform. ``first`` is each object's first of the cameras.

    Of the others, those drawn for a pixel of the object lie near the visual hull's depth there,
    where a network learns most; those drawn for the background are uniform too.
    """
    points = torch.stack([one.points for one in drawn])
    view, pixel, z, offset = (
        torch.stack([getattr(one.near, name) for one in drawn])
        for name in ("view", "pixel", "z", "offset")
    )
    direction = cameras.unit_z_directions(view + first, pixel.float())
    near = cameras.centre[view + first] + z[..., None] * direction + offset
    half = points.shape[1] // 2
    near = torch.where(torch.isfinite(z)[..., None], near, points[:, half:]).clamp(-0.5, 0.5)
    return torch.cat([points[:, :half], near], dim=1)


def _in_hull(drawn: Sequence[Drawn], points: Float[Tensor, "B K 3"]) -> Bool[Tensor, "B K"]:
    """Whether every mask that sees a point contains it.

    A point outside one mask is certainly empty; inside all of them it is taken as occupied.
    """
    inside = torch.zeros(points.shape[:2], dtype=torch.bool)
    if not points.shape[1]:
        return inside
    shapes = [one.views.masks.shape for one in drawn]
    for shape in set(shapes):
        alike = [index for index, own in enumerate(shapes) if own == shape]
        masks = torch.stack([drawn[index].views.masks for index in alike])
        cameras = joined([drawn[index].views.cameras for index in alike])
        inside[alike] = on_own_masks(points[alike], masks, cameras, LEAST_WITNESSES)
    return inside


def draw_sparse(
    views: Views, view: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays of one view to random sparse points it sees; infinite distances fill up the count."""
    origin = views.cameras.centre[view].expand(count, 3)
    direction = torch.zeros(count, 3)
    direction[:, 2] = 1
    distance, per_z = torch.full((count,), torch.inf), torch.ones(count)
    if count and views.sparse is not None:
        visible = views.sparse.visibility[view].nonzero()[:, 0]
        visible = visible[torch.randperm(len(visible), generator=generator)[:count]]
        offset = views.sparse.points[visible] - views.cameras.centre[view]
        norm = offset.norm(dim=-1)
        _, z = views.cameras.project(views.sparse.points[visible])
        direction[: len(visible)] = offset / norm[:, None]
        distance[: len(visible)] = norm
        per_z[: len(visible)] = norm / z[view]
    return origin, direction, distance, per_z

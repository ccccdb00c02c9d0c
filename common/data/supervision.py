"""Draw the pixels and points that one training step compares with an object's pictures."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.cameras import Rays
from common.data.hull import on_masks
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

    def mirrored(self) -> "Supervision":
        """The same supervision of the object mirrored by x -> -x."""
        flip = torch.tensor([-1.0, 1.0, 1.0])
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


def draw_supervision(views: Views, draw: Draw, generator: torch.Generator) -> Supervision:
    """Draw rays through random pixels of ``draw.views`` random views, and random volume points."""
    chosen = draw_views(len(views), draw, generator)
    return supervision_of(views, chosen, draw, generator)


def draw_views(count: int, draw: Draw, generator: torch.Generator) -> Int[Tensor, "v"]:
    """The first of draw_supervision's choices: which of ``count`` views a step looks at."""
    return torch.randperm(count, generator=generator)[: draw.views]


def supervision_of(
    views: Views, chosen: Int[Tensor, "v"], draw: Draw, generator: torch.Generator
) -> Supervision:
    """The rest of draw_supervision.

    Without points of the volume, which are compared with every mask, it is the same of
    ``views[chosen]``, whose chosen views are all, in order.
    """
    view, pixel = draw_pixels(views, chosen, draw, generator)
    x, y = pixel.unbind(-1)
    unit_z = views.cameras.unit_z_directions(view, pixel.float())
    per_z = unit_z.norm(dim=-1)
    unknown = torch.full_like(per_z, torch.inf)
    points, inside = draw_hull_points(views, draw.hull_points, generator)
    sparse = draw_sparse(views, int(chosen[0]), draw.sparse_points, generator)
    return Supervision(
        origin=views.cameras.centre[view],
        direction=unit_z / per_z[:, None],
        colour=views.images[view, y, x].float() / 255,
        mask=views.masks[view, y, x],
        distance=unknown if views.depth is None else views.depth[view, y, x] * per_z,
        hull_distance=unknown if views.hull_depth is None else views.hull_depth[view, y, x] * per_z,
        per_camera_z=per_z,
        hull_points=points,
        hull_inside=inside,
        sparse_origin=sparse[0],
        sparse_direction=sparse[1],
        sparse_distance=sparse[2],
        sparse_per_camera_z=sparse[3],
    )


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


def draw_hull_points(
    views: Views, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "K 3"], Bool[Tensor, "K"]]:
    """Random points of the cube and whether every mask that sees them contains them.

    Half are uniform. Of the others, those drawn for a pixel of the object lie near the visual
    hull's depth there, where a network learns most; those drawn for the background are uniform too.
    A point outside one mask is certainly empty; inside all of them it is taken as occupied.
    """
    points = torch.rand(count, 3, generator=generator) - 0.5
    if count and views.hull_depth is not None:
        points[count // 2 :] = _near_hull(views, points[count // 2 :], generator)
    return points, on_masks(points, views.masks, views.cameras, LEAST_WITNESSES)


def _near_hull(views: Views, points: Tensor, generator: torch.Generator) -> Tensor:
    assert views.hull_depth is not None
    height, width = views.masks.shape[1:]
    count = len(points)
    view = torch.randint(len(views.cameras), (count,), generator=generator)
    x = torch.randint(width, (count,), generator=generator)
    y = torch.randint(height, (count,), generator=generator)
    z = views.hull_depth[view, y, x]
    direction = views.cameras.unit_z_directions(view, torch.stack([x, y], dim=-1).float())
    on_hull = views.cameras.centre[view] + z[:, None] * direction
    near = on_hull + 0.05 * torch.randn(count, 3, generator=generator)
    return torch.where(torch.isfinite(z)[:, None], near, points).clamp(-0.5, 0.5)


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

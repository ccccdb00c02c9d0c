"""The sphere around the object, which fixes the frame that it is learnt in."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from common.cameras import Cameras
from common.data.normalisation import hull_sphere, look_at_centre
from common.errors import UserError
from common.scenes.capture import Capture
from common.scenes.development import Pictures

Choice = Literal["auto", "given", "masks", "points", "cameras"]
OUTLYING = 0.02  # share of sparse points that may lie elsewhere
MARGIN = 1.1  # around sparse points, which rarely reach an object's outermost parts


def object_sphere(choice: Choice, capture: Capture, pictures: Pictures) -> Float[np.ndarray, "4 4"]:
    """The similarity from the unit sphere to one that contains the object, in world units.

    "given": the source's own; "masks": around the visual hull; "points": around the sparse points
    that most masks show; "cameras": the largest that every picture shows whole, about the point
    that all cameras look at. "auto": the first of these that can be had. Raises UserError where
    the choice cannot.
    """
    if choice == "auto":
        choice = _first_possible(capture, pictures)
    if choice == "given":
        if capture.world_from_sphere is None:
            raise UserError(
                f"{capture.source}: gives no sphere around the object (scale_mat); choose another "
                "--normalise"
            )
        return capture.world_from_sphere
    if choice == "points":
        return _similarity(*_around_points(capture, pictures))
    height, width = pictures.masks.shape[1:]
    cameras = Cameras(
        torch.tensor(pictures.intrinsics, dtype=torch.float32),
        torch.tensor(pictures.world_from_camera, dtype=torch.float32),
        height,
        width,
    )
    if choice == "masks":
        centre, radius = hull_sphere(torch.from_numpy(pictures.masks), cameras)
        return _similarity(centre.double().numpy(), radius)
    return _similarity(*_seen_whole(cameras))


def among_cameras(pictures: Pictures) -> Float[np.ndarray, "4 4"]:
    """A sphere amid the cameras, for a look at ones that do not see one object."""
    centres = pictures.world_from_camera[:, :3, 3]
    middle = centres.mean(axis=0)
    spread = np.linalg.norm(centres - middle, axis=1).mean()
    return _similarity(middle, 0.3 * float(spread) or 1.0)


def _first_possible(capture: Capture, pictures: Pictures) -> Choice:
    if capture.world_from_sphere is not None:
        return "given"
    if not pictures.masks.all():
        return "masks"
    return "cameras" if capture.points is None else "points"


def _around_points(capture: Capture, pictures: Pictures) -> tuple[np.ndarray, float]:
    if capture.points is None or len(capture.points.points) == 0:
        raise UserError(f"{capture.source}: has no sparse points; choose another --normalise")
    points = capture.points.points
    height, width = pictures.masks.shape[1:]
    on_object = np.zeros(len(points))
    for projection, mask in zip(pictures.projections, pictures.masks, strict=True):
        x, y, z = projection @ np.column_stack([points, np.ones(len(points))]).T
        column, row = np.rint(np.stack([x, y]) / np.where(np.abs(z) < 1e-12, 1e-12, z))
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        on_object[inside] += mask[row[inside].astype(int), column[inside].astype(int)]
    kept = points[on_object >= 0.5 * len(pictures)]
    if len(kept) < 4:
        raise UserError(
            f"{capture.source}: fewer than 4 of {len(points)} sparse points lie on the object in "
            "half of the masks; choose another --normalise"
        )
    centre = np.median(kept, axis=0)
    distance = np.linalg.norm(kept - centre, axis=1)
    return centre, MARGIN * float(np.quantile(distance, 1 - OUTLYING))


def _seen_whole(cameras: Cameras) -> tuple[np.ndarray, float]:
    centre = look_at_centre(cameras)
    view = torch.arange(len(cameras))
    x, y = cameras.width / 2 - 0.5, cameras.height / 2 - 0.5
    # Planes through the middles of the four edges of every picture bound what it shows.
    edges = torch.tensor(
        [[-0.5, y], [cameras.width - 0.5, y], [x, -0.5], [x, cameras.height - 0.5]]
    )
    radius = float("inf")
    for edge, along in zip(edges, ((0, 1), (0, 1), (1, 0), (1, 0)), strict=True):
        there = cameras.unit_z_directions(view, edge.expand(len(view), 2))
        beside = edge + torch.tensor(along, dtype=edge.dtype)
        across = cameras.unit_z_directions(view, beside.expand(len(view), 2)) - there
        normal = torch.nn.functional.normalize(torch.linalg.cross(there, across), dim=-1)
        distance = ((centre - cameras.centre) * normal).sum(dim=-1).abs()
        radius = min(radius, float(distance.min()))
    return centre.double().numpy(), radius


def _similarity(centre: np.ndarray, radius: float) -> Float[np.ndarray, "4 4"]:
    world_from_sphere = np.diag([radius, radius, radius, 1.0])
    world_from_sphere[:3, 3] = centre
    return world_from_sphere

"""From pictures, masks and projections in the world to views of an object in its own frame."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from common.data.camera_file import cameras_from_projections
from common.data.normalisation import check_object_in_ball, hull_sphere
from common.data.views import Views
from common.errors import UserError, naming

Frame = Literal["cube", "sphere"]


def frame_views(
    where: Path,
    images: UInt8[np.ndarray, "V H W 3"],
    masks: Bool[np.ndarray, "V H W"],
    projections: Float[np.ndarray, "V 3 4"],
    frame: Frame,
    world_from_sphere: Float[np.ndarray, "4 4"] | None = None,
) -> Views:
    """Views whose object is inside the unit sphere, or half that size for "cube".

    ``projections`` take the world to pixels. ``world_from_sphere`` places that sphere in the world;
    None: it is put around the masks' visual hull. ``where`` is the file to name in messages. Raises
    UserError where masks are empty or they, cameras and sphere do not fit together.
    """
    if not masks.any():
        raise UserError(
            f"{where}: no mask marks any object; it must be white (255), or opaque in alpha"
        )
    if world_from_sphere is None:
        world_from_sphere = _around_hull(where, masks, projections)
    height, width = masks.shape[1:]
    half_size = 0.5 if frame == "cube" else 1.0
    world_from_object = world_from_sphere @ np.diag([1 / half_size] * 3 + [1.0])
    cameras, _ = cameras_from_projections(
        where, range(len(masks)), projections @ world_from_object, height, width, half_size
    )
    views = Views(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(masks),
        cameras=cameras,
        depth=None,
        hull_depth=None,
        sparse=None,
        world_from_object=torch.tensor(world_from_object, dtype=torch.float32),
    )
    check_object_in_ball(where, views.masks, cameras, radius=half_size)
    return views


def _around_hull(
    where: Path, masks: Bool[np.ndarray, "V H W"], projections: Float[np.ndarray, "V 3 4"]
) -> Float[np.ndarray, "4 4"]:
    """The similarity from the unit sphere to one that contains the masks' visual hull."""
    # Any frame will do to find the object: here the file's own.
    height, width = masks.shape[1:]
    cameras, _ = cameras_from_projections(
        where, range(len(masks)), projections, height, width, None
    )
    with naming(where):
        centre, radius = hull_sphere(torch.from_numpy(masks), cameras)
    world_from_sphere = np.diag([radius, radius, radius, 1.0])
    world_from_sphere[:3, 3] = centre.numpy()
    return world_from_sphere

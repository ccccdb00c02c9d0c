"""Pictures of a trained run's objects, seen through chosen cameras."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from common.cameras import Cameras
from common.errors import UserError
from common.rendering.picture import Picture
from dvr.config import DVRConfig
from dvr.data import Objects
from dvr.model import DVRModel
from dvr.pictures import object_condition, render_view


def objects_to_draw(config: DVRConfig, training_views: bool) -> Objects:
    """The test objects; a single object's held-out views, or those that it was learnt from.

    Raises UserError where training views are asked of a collection.
    """
    if not training_views:
        return Objects(config, config.data.test_split, held_out=True)
    objects = Objects(config, config.data.train_split)
    if not objects.single:
        raise UserError(
            "--training-views: this run was learnt from a collection, whose objects are drawn from "
            "all their cameras; leave the option out"
        )
    return objects


def draw_objects(
    model: DVRModel,
    objects: Objects,
    count: int,
    choose: Callable[[Cameras], Cameras],
    device: torch.device,
) -> Iterator[tuple[Path, list[Picture]]]:
    """The folder and pictures of the first ``count`` objects; ``choose`` makes each one's cameras.

    ``choose`` is given the cameras of the object's data.
    """
    for index in range(min(count, len(objects))):
        entry = objects.entries[index]
        cameras = choose(objects[index].views.cameras)
        condition = object_condition(model, objects, index, device)
        pictures = [
            render_view(model, condition, cameras, view)
            for view in tqdm(range(len(cameras)), desc=entry.name, unit="view")
        ]
        yield Path(entry.category) / entry.name, pictures

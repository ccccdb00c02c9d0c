"""Pictures of a trained run's objects, seen through chosen cameras."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import torch

from common.cameras import Cameras
from common.errors import UserError
from common.progress import followed
from common.rendering.picture import Picture
from common.training.run_folder import load_checkpoint, load_model_state
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


def draw_object(
    model: DVRModel, objects: Objects, index: int, cameras: Cameras, device: torch.device
) -> Iterator[Picture]:
    """What each camera sees of an object, known from its first input picture."""
    condition = object_condition(model, objects, index, device)
    for view in followed(range(len(cameras)), objects.entries[index].name, "view"):
        yield render_view(model, condition, cameras, view)


def draw_time_lapse(
    model: DVRModel,
    objects: Objects,
    index: int,
    cameras: Cameras,
    checkpoints: Sequence[Path],
    device: torch.device,
) -> Iterator[Picture]:
    """What each camera sees of an object in the model as its checkpoint has it.

    Raises UserError where a checkpoint is of another model.
    """
    model = deepcopy(model)
    name = objects.entries[index].name
    for view, path in enumerate(followed(checkpoints, name, "view")):
        if view == 0 or path != checkpoints[view - 1]:
            load_model_state(model, load_checkpoint(path, device)["model"], path)
            condition = object_condition(model, objects, index, device)
        yield render_view(model, condition, cameras, view)

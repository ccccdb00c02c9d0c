"""Pictures of a trained scene, seen through chosen cameras."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from common.cameras import Cameras
from common.data.views import Views
from common.progress import followed
from common.rendering.picture import Picture, panels
from common.training.run_folder import load_checkpoint, load_model_state
from idr.experiment import Experiment
from idr.learnt_frame import held_out_cameras
from idr.pictures import render_view

SHEET_ROWS = 8
SHEET_HEIGHT = 200


def draw_views(
    experiment: Experiment, cameras: Cameras, appearance: Experiment | None = None
) -> Iterator[Picture]:
    """What each camera of the learnt frame sees; ``appearance`` lends another run's colours."""
    model = experiment.model
    cache, _ = model.cached(experiment.config.search.evaluation_resolution)
    colours = None if appearance is None else appearance.model
    for view in followed(range(len(cameras)), "drawing", "view"):
        yield render_view(model, cache, cameras, view, colours)


def draw_time_lapse(
    experiment: Experiment, cameras: Cameras, checkpoints: Sequence[Path]
) -> Iterator[Picture]:
    """What each camera sees of the model as its checkpoint has it, in the frame learnt last.

    Raises UserError where a checkpoint is of another model.
    """
    model = deepcopy(experiment.model)
    for view, path in enumerate(followed(checkpoints, "drawing", "view")):
        if view == 0 or path != checkpoints[view - 1]:
            load_model_state(model, load_checkpoint(path, model.cache.device)["model"], path)
            cache, _ = model.cached(experiment.config.search.evaluation_resolution)
        yield render_view(model, cache, cameras, view)


def views_of(experiment: Experiment, training_views: bool) -> tuple[Views, Cameras]:
    """Held-out views and their cameras in the learnt frame, or training views as learnt.

    The latter also where none is held out.
    """
    scene, learnt = experiment.scene, experiment.cameras
    if training_views or len(scene.held_out) == 0:
        return scene.training, learnt
    return scene.held_out, held_out_cameras(experiment.config.cameras, scene, learnt)


def contact_sheet(experiment: Experiment, training_views: bool) -> UInt8[np.ndarray, "H W 3"]:
    """A row per view, from all over them: photograph | colour | normal."""
    views, cameras = views_of(experiment, training_views)
    if views.masks.shape[1] > SHEET_HEIGHT:
        views = views.resized(SHEET_HEIGHT * min(views.masks.shape[1:]) // views.masks.shape[1])
        cameras = cameras.resized(*views.masks.shape[1:])
    picked = np.linspace(0, len(views) - 1, min(SHEET_ROWS, len(views))).round().astype(int)
    pictures = draw_views(experiment, cameras[picked.tolist()])
    rows = [
        np.concatenate([views.images[view].numpy(), *panels(picture)[:2]], axis=1)
        for view, picture in zip(picked.tolist(), pictures, strict=True)
    ]
    return np.concatenate(rows)

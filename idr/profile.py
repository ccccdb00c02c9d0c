"""Where the time of IDR's training step goes."""

from pathlib import Path

import torch

import idr.model
from common.data.sculpture import make_sculpture
from common.training.processes import Process, wait_for_all
from common.training.profile import Part, Share, parts_in, profile
from common.training.run_folder import RunFolder
from idr import losses
from idr.config import IDRConfig
from idr.data import load_scene
from idr.experiment import SCULPTURE, make_model, matmul_precision
from idr.model import IDRModel
from idr.task import IDRTask


def profile_experiment(
    config: IDRConfig, run: RunFolder | None, steps: int, process: Process
) -> list[Share]:
    """Time the parts of some training steps, anew or from a run's last checkpoint.

    Rounded up to whole turns of ``search.refresh_every``, so that the refresh of the cached grid
    has its share. Raises the UserError of a training that cannot start.
    """
    if Path(config.data.path) == SCULPTURE and process.leads:
        make_sculpture(SCULPTURE)
    wait_for_all(process)
    scene = load_scene(config)
    model = make_model(config, scene.rough_cameras).to(process.device)
    torch.set_float32_matmul_precision(matmul_precision(config, process))
    task = IDRTask(model, config, scene, process)
    turn = config.search.refresh_every
    steps = -(-steps // turn) * turn
    return profile(task, config.training, parts_of(model), steps, run, process)


def parts_of(model: IDRModel) -> list[Part]:
    """What the pass forward consists of."""
    cameras = [] if model.refinement is None else [Part("cameras", model.refinement, "forward")]
    return [
        *cameras,
        Part("cache refresh", model, "prepare_step"),
        Part("search", model, "find_surface"),
        Part("field value and gradient", model.geometry, "forward"),
        Part("field value and gradient", idr.model, "attach_evaluated"),
        Part("colour", model.appearance, "forward"),
        *parts_in("losses", losses),
    ]

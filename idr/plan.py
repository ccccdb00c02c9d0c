"""What training a scene by IDR would do."""

from pathlib import Path

import torch

from common.data.sculpture import make_sculpture
from common.training.plan import Plan
from common.training.processes import Process, wait_for_all
from common.training.rehearsal import rehearse
from common.training.run_folder import RunFolder
from idr.config import IDRConfig
from idr.data import load_scene
from idr.experiment import SCULPTURE, _matmul_precision, make_model
from idr.task import IDRTask


def plan_experiment(config: IDRConfig, process: Process, fresh: bool = False) -> Plan:
    """Take a few steps as configured, and write nothing to the run's folder.

    The embedded sculpture is made where it is asked for and not there. Raises the UserError of a
    training that cannot start.
    """
    if Path(config.data.path) == SCULPTURE and process.leads:
        make_sculpture(SCULPTURE)
    wait_for_all(process)
    scene = load_scene(config)
    model = make_model(config, scene.rough_cameras).to(process.device)
    torch.set_float32_matmul_precision(_matmul_precision(config, process))
    task = IDRTask(model, config, scene, process)
    run = None if fresh else RunFolder(Path(config.training.out_dir))
    height, width = scene.training.masks.shape[1:]
    return Plan(
        method="idr",
        data=config.data.path,
        found={
            "training views": len(scene.training),
            "held-out views": len(scene.held_out),
        },
        picture_size=(width, height),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        rays=config.training.rays,
        config=config.training,
        process=process,
        rehearsal=rehearse(task, config.training, run, process),
    )

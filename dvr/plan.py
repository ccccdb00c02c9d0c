"""What training a collection or a scene by DVR would do."""

from pathlib import Path

import torch

from common.training.plan import Plan
from common.training.processes import Process
from common.training.rehearsal import rehearse
from common.training.run_folder import RunFolder
from dvr.config import DVRConfig
from dvr.data import Objects
from dvr.experiment import make_model, with_data
from dvr.task import DVRTask


def plan_experiment(config: DVRConfig, process: Process, fresh: bool = False) -> Plan:
    """Take a few steps as configured, and write nothing to the run's folder.

    The embedded furniture is made where ShapeNet is asked for and not there. Raises the UserError
    of a training that cannot start.
    """
    config = with_data(config, process)
    objects = Objects(config, config.data.train_split)
    validation = Objects(config, config.data.val_split, held_out=True)
    model = make_model(config, len(objects)).to(process.device)
    torch.set_float32_matmul_precision("medium" if process.device.type == "cpu" else "high")
    task = DVRTask(model, config, objects, validation, process)
    run = None if fresh else RunFolder(Path(config.training.out_dir))
    views = objects[0].views
    found = {"training objects": len(objects), "validation objects": len(validation)}
    if objects.single:
        found = {"training views": len(views), "held-out views": len(validation[0].views)}
    height, width = views.masks.shape[1:]
    return Plan(
        method="dvr",
        data=config.data.path,
        found=found,
        picture_size=(width, height),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        rays=config.training.objects * config.training.rays,
        config=config.training,
        process=process,
        rehearsal=rehearse(task, config.training, run, process),
    )

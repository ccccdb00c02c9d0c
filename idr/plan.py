"""What training a scene by IDR would do."""

from pathlib import Path

from common.training.plan import Plan
from common.training.processes import Process
from common.training.rehearsal import rehearse
from common.training.run_folder import RunFolder
from idr.config import IDRConfig
from idr.experiment import make_task


def plan_experiment(config: IDRConfig, process: Process, fresh: bool = False) -> Plan:
    """Take a few steps as configured, and write nothing to the run's folder.

    Raises the UserError of a training that cannot start.
    """
    task = make_task(config, process)
    scene = task.scene
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
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        rays=config.training.rays,
        config=config.training,
        process=process,
        rehearsal=rehearse(task, config.training, run, process),
    )

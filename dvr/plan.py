"""What training a collection or a scene by DVR would do."""

from pathlib import Path

from common.training.plan import Plan
from common.training.processes import Process
from common.training.rehearsal import rehearse
from common.training.run_folder import RunFolder
from dvr.config import DVRConfig
from dvr.experiment import make_task


def plan_experiment(config: DVRConfig, process: Process, fresh: bool = False) -> Plan:
    """Take a few steps as configured, and write nothing to the run's folder.

    Raises the UserError of a training that cannot start.
    """
    task = make_task(config, process)
    config, objects, validation = task.config, task.batches.objects, task.validation
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
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        rays=config.training.objects * config.training.rays,
        config=config.training,
        process=process,
        rehearsal=rehearse(task, config.training, run, process),
    )

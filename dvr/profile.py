"""Where the time of DVR's training step goes."""

import dvr.model
from common.training.processes import Process
from common.training.profile import Part, Share, parts_in, profile
from common.training.run_folder import RunFolder
from dvr import losses
from dvr.config import DVRConfig
from dvr.experiment import make_task
from dvr.model import DVRModel


def profile_experiment(
    config: DVRConfig, run: RunFolder | None, steps: int, process: Process
) -> list[Share]:
    """Time the parts of some training steps, anew or from a run's last checkpoint.

    Raises the UserError of a training that cannot start.
    """
    task = make_task(config, process)
    objects = task.batches.objects
    if len(objects) * objects[0].bytes <= config.data.cache_gb * 2**30:
        for index in range(len(objects)):
            objects[index]  # what is read from the disk once is no part of a step
    return profile(task, config.training, parts_of(task.model), steps, run, process)


def parts_of(model: DVRModel) -> list[Part]:
    """What the pass forward consists of."""
    return [
        Part("encoder", model, "condition"),
        Part("search", model, "find_surface"),
        Part("field value and gradient", dvr.model, "attach"),
        Part("field value and gradient", model.decoder, "logits"),
        Part("colour", model.decoder, "colour"),
        *parts_in("losses", losses),
    ]

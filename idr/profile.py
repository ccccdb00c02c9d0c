"""Where the time of IDR's training step goes."""

import idr.model
from common.training.processes import Process
from common.training.profile import Part, Share, parts_in, profile
from common.training.run_folder import RunFolder
from idr import losses
from idr.config import IDRConfig
from idr.experiment import make_task
from idr.model import IDRModel


def profile_experiment(
    config: IDRConfig, run: RunFolder | None, steps: int, process: Process
) -> list[Share]:
    """Time the parts of some training steps, anew or from a run's last checkpoint.

    Rounded up to whole turns of ``search.refresh_every``, so that the refresh of the cached grid
    has its share. Raises the UserError of a training that cannot start.
    """
    task = make_task(config, process)
    turn = config.search.refresh_every
    steps = -(-steps // turn) * turn
    return profile(task, config.training, parts_of(task.model), steps, run, process)


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

"""An experiment from its configuration: check, prepare data and model, train, and load it again."""

from dataclasses import dataclass
from pathlib import Path

import torch

from common.cameras import Cameras
from common.config import validate
from common.data.sculpture import make_sculpture
from common.scenes.checks.first_look import first_look
from common.training.loop import train
from common.training.processes import Process, wait_for_all
from common.training.run_config import checkpoint_of, prepare_run, read_settings
from common.training.run_folder import RunFolder, load_checkpoint, load_model_state
from common.training.run_lock import only_training
from idr.config import IDRConfig, ModelConfig
from idr.data import Scene, load_scene
from idr.model import IDRModel
from idr.task import IDRTask

SCULPTURE = Path("data/sculpture")


@dataclass(frozen=True)
class Experiment:
    """A trained model in evaluation mode, what it was learnt from, and its run's numbers."""

    model: IDRModel
    config: IDRConfig
    scene: Scene
    cameras: Cameras  # of the training views, as learnt
    numbers: dict


def train_experiment(
    config: IDRConfig, process: Process, fresh: bool = False, exit_after: float | None = None
) -> None:
    """Train as configured, continuing a run that is there unless ``fresh``."""
    run, task = RunFolder(Path(config.training.out_dir)), make_task(config, process)
    with only_training(run, process):
        if process.leads:
            prepare_run(
                run, config, task.model, fresh, lambda old: _model_of(old, run) == config.model
            )
        wait_for_all(process)
        if process.leads:
            _announce(task, run)
        train(task, config.training, run, process, exit_after)


def make_task(config: IDRConfig, process: Process) -> IDRTask:
    """The scene and an untrained model, ready to train.

    The embedded sculpture is made where it is asked for and not there. Raises UserError where the
    scene cannot be read.
    """
    if Path(config.data.path) == SCULPTURE and process.leads:
        make_sculpture(SCULPTURE)
    wait_for_all(process)
    scene = load_scene(config)
    model = make_model(config, scene.rough_cameras).to(process.device)
    return IDRTask(model, config, scene, process)


def _announce(task: IDRTask, run: RunFolder) -> None:
    """Say what is going to be trained, and before the first step whether the cameras fit."""
    config, scene, model = task.config, task.scene, task.model
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{config.data.path}: {len(scene.training)} training, {len(scene.held_out)} held-out "
        f"views; {size:,} parameters on {model.cache.device}; run folder {run.path}"
    )
    if not run.latest.exists():
        views, names = scene.training, scene.training_names
        print(first_look(run.path / "scene.html", config.data.path, views, names))


def make_model(config: IDRConfig, cameras: Cameras) -> IDRModel:
    """An untrained model, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return IDRModel(config, cameras)


def load_experiment(run: RunFolder, device: torch.device, checkpoint: str = "best") -> Experiment:
    """What a run has learnt, with its data."""
    config = validate(IDRConfig, read_settings(run), str(run.config))
    scene = load_scene(config)
    path = checkpoint_of(run, checkpoint)
    state = load_checkpoint(path, device)
    model = make_model(config, scene.rough_cameras).to(device)
    load_model_state(model, state["model"], path)
    model.eval().requires_grad_(False)
    rough = scene.rough_cameras.to(device)
    learnt = rough if model.refinement is None else model.refinement()
    numbers = {key: state[key] for key in ("step", "seconds", "best")}
    return Experiment(model, config, scene, learnt, numbers)


def _model_of(settings: dict, run: RunFolder) -> ModelConfig:
    return validate(IDRConfig, settings, str(run.config)).model

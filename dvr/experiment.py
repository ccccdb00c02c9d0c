"""An experiment from its configuration: check, prepare data and model, train, and load it again."""

from pathlib import Path

import torch

from common.config import validate
from common.data.furniture import make_furniture
from common.scenes.checks.first_look import first_look
from common.training.batch_norm import share_groups
from common.training.loop import train
from common.training.processes import Process, wait_for_all
from common.training.run_config import checkpoint_of, prepare_run, read_settings
from common.training.run_folder import RunFolder, load_checkpoint, load_model_state
from common.training.run_lock import only_training
from dvr.config import DVRConfig, ModelConfig
from dvr.data import EMBEDDED, SHAPENET, Objects
from dvr.model import DVRModel
from dvr.task import DVRTask


def train_experiment(
    config: DVRConfig, process: Process, fresh: bool = False, exit_after: float | None = None
) -> None:
    """Train as configured, continuing a run that is there unless ``fresh``."""
    run, task = RunFolder(Path(config.training.out_dir)), make_task(config, process)
    with only_training(run, process):
        if process.leads:
            prepare_run(
                run, task.config, task.model, fresh,
                lambda old: _model_of(old, run) == config.model,
            )  # fmt: skip
        wait_for_all(process)
        if process.leads:
            _announce(task, run)
        train(task, config.training, run, process, exit_after)


def make_task(config: DVRConfig, process: Process) -> DVRTask:
    """The objects and an untrained model, ready to train.

    The embedded furniture is made where ShapeNet is asked for and not there. Raises UserError where
    the data cannot be read, or its objects cannot be shared out among the processes.
    """
    config = with_data(config, process)
    objects = Objects(config, config.data.train_split)
    validation = Objects(config, config.data.val_split, held_out=True)
    # What is wrong with the data should be known before the run folder changes.
    for split in (objects, validation):
        split[0]
    model = make_model(config, len(objects)).to(process.device)
    share_groups(model, process.share, "model.encoder.norm_groups")
    return DVRTask(model, config, objects, validation, process)


def _announce(task: DVRTask, run: RunFolder) -> None:
    """Say what is going to be trained; of a scene, before the first step, whether cameras fit."""
    config, objects = task.config, task.batches.objects
    size = sum(parameter.numel() for parameter in task.model.parameters())
    print(
        f"{config.data.path}: {len(objects)} training, {len(task.validation)} validation objects; "
        f"{size:,} parameters on {task.device}; run folder {run.path}"
    )
    if objects.of_scene and not run.latest.exists():
        views = objects[0].views
        names = [f"view {number}" for number in range(len(views))]
        print(first_look(run.path / "scene.html", config.data.path, views, names))


def _model_of(settings: dict, run: RunFolder) -> ModelConfig:
    return validate(DVRConfig, settings, str(run.config)).model


def make_model(config: DVRConfig, objects: int) -> DVRModel:
    """An untrained model, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = DVRModel(config, objects)
    model.start_as_sphere(torch.Generator().manual_seed(config.training.seed))
    return model


def with_data(config: DVRConfig, process: Process) -> DVRConfig:
    """The configuration with data that exists: the embedded set where ShapeNet is not there."""
    if Path(config.data.path) != SHAPENET or SHAPENET.exists():
        return config
    if process.leads:
        print(f"{SHAPENET} is not there: using the embedded furniture in {EMBEDDED}")
        make_furniture(EMBEDDED)
    wait_for_all(process)
    data = config.data.model_copy(update={"path": str(EMBEDDED)})
    return config.model_copy(update={"data": data})


def read_run_config(run: RunFolder) -> DVRConfig:
    """The resolved configuration that a run was trained with.

    But for where that training kept decoded objects, which may be another machine's disk.
    """
    config = validate(DVRConfig, read_settings(run), str(run.config))
    data = config.data.model_copy(update={"cache_dir": None})
    return config.model_copy(update={"data": data})


def load_run(
    run: RunFolder, device: torch.device, checkpoint: str = "best"
) -> tuple[DVRModel, DVRConfig, dict]:
    """A trained model in evaluation mode, its configuration, and the checkpoint's other numbers."""
    config = read_run_config(run)
    # The checkpoint has what became of the ImageNet weights; their file may be gone.
    encoder = config.model.encoder.model_copy(update={"weights": None})
    bare = config.model.model_copy(update={"encoder": encoder})
    path = checkpoint_of(run, checkpoint)
    state = load_checkpoint(path, device)
    embedding = state["model"].get("encoder.embedding.weight")
    objects = 1 if embedding is None else len(embedding)
    model = make_model(config.model_copy(update={"model": bare}), objects).to(device)
    load_model_state(model, state["model"], path)
    if config.generation.threshold is not None:
        model.set_threshold(config.generation.threshold)
    model.eval()
    numbers = {key: state[key] for key in ("step", "seconds", "best")}
    return model, config, numbers

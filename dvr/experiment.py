"""An experiment from its configuration: check, prepare data and model, train, and load it again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from common.config import apply_overrides, load_yaml, validate
from common.data.furniture import make_furniture
from common.errors import UserError
from common.training.loop import train
from common.training.processes import Process, wait_for_all
from common.training.run_folder import (
    RunFolder,
    load_checkpoint,
    load_model_state,
    newest_run,
    write_yaml,
)
from dvr.config import DVRConfig
from dvr.data import EMBEDDED, SHAPENET, Objects
from dvr.model import DVRModel
from dvr.task import DVRTask


def load_config(path: str, overrides: Sequence[str] = ()) -> DVRConfig:
    """Read a YAML configuration with its overrides; UserError lists every problem at once."""
    content = apply_overrides(load_yaml(Path(path)), overrides)
    return validate(DVRConfig, content, path)


def train_experiment(
    config: DVRConfig, process: Process, fresh: bool = False, exit_after: float | None = None
) -> None:
    """Train as configured, continuing a run that is there unless ``fresh``."""
    run = RunFolder(Path(config.training.out_dir))
    if config.training.objects % process.count:
        raise UserError(
            f"training.objects is {config.training.objects}, not a multiple of the {process.count} "
            "processes; choose one that is"
        )
    config = with_data(config, process)
    objects = Objects(config, config.data.train_split)
    validation = Objects(config, config.data.val_split, held_out=True)
    model = make_model(config, len(objects)).to(process.device)
    # What is wrong with the data should be known before the run folder changes.
    for split in (objects, validation):
        split[0]
    if process.leads:
        _prepare_run(run, config, model, fresh)
    wait_for_all(process)
    torch.set_float32_matmul_precision("medium" if process.device.type == "cpu" else "high")
    if process.leads:
        size = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"{config.data.path}: {len(objects)} training, {len(validation)} validation objects; "
            f"{size:,} parameters on {process.device}; run folder {run.path}"
        )
    task = DVRTask(model, config, objects, validation, process)
    train(task, config.training, run, process, exit_after)


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


def _prepare_run(run: RunFolder, config: DVRConfig, model: DVRModel, fresh: bool) -> None:
    if fresh and (aside := run.keep_aside()):
        print(f"the old run is kept as {aside}")
    if run.latest.exists():
        if run.config.exists() and read_run_config(run).model != config.model:
            raise UserError(
                f"{run.path}: holds a run with another model (its config.yaml differs in 'model'); "
                "choose another training.out_dir, or --fresh to keep it aside and start anew"
            )
        # A checkpoint that cannot be continued is refused before anything is written.
        load_model_state(model, load_checkpoint(run.latest)["model"], run.latest)
    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    write_yaml(run.config, {**config.model_dump(mode="json"), "versions": versions})


def read_run_config(run: RunFolder) -> DVRConfig:
    """The resolved configuration that a run was trained with."""
    try:
        content = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{run.path}: not a run folder (no config.yaml); name one made by scripts/train.py"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{run.config}: damaged; restore it or train again") from error
    if not isinstance(content, dict):
        raise UserError(f"{run.config}: holds no settings; restore it or train again")
    content.pop("versions", None)
    return validate(DVRConfig, content, str(run.config))


def find_run(name: str | None) -> RunFolder:
    """The run that a script's RUN argument means: a folder, a configuration, or the newest run."""
    if name is None:
        return newest_run()
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return RunFolder(Path(load_config(name).training.out_dir))
    if not path.is_dir():
        raise UserError(f"{path}: no such run folder; train one, or name a configuration")
    return RunFolder(path)


def load_run(
    run: RunFolder, device: torch.device, checkpoint: str = "best"
) -> tuple[DVRModel, DVRConfig, dict]:
    """A trained model in evaluation mode, its configuration, and the checkpoint's other numbers."""
    config = read_run_config(run)
    # The checkpoint has what became of the ImageNet weights; their file may be gone.
    encoder = config.model.encoder.model_copy(update={"weights": None})
    bare = config.model.model_copy(update={"encoder": encoder})
    path = run.best if checkpoint == "best" and run.best.exists() else run.latest
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

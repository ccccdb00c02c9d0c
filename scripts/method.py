"""Which of the two methods a configuration or a run is about, for the scripts beside this file."""

from collections.abc import Sequence
from pathlib import Path

import dvr.config
import idr.config
from common.config import apply_overrides, load_yaml, validate
from common.errors import UserError
from common.training.run_config import read_settings
from common.training.run_folder import RunFolder, newest_run

Config = dvr.config.DVRConfig | idr.config.IDRConfig
CONFIGS: dict[str, type[Config]] = {"dvr": dvr.config.DVRConfig, "idr": idr.config.IDRConfig}


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration with its overrides; UserError lists every problem at once."""
    content = apply_overrides(load_yaml(Path(path)), overrides)
    return validate(_config_class(content.get("method"), path), content, path)


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


def method_of(run: RunFolder) -> str:
    """The method that a run was trained with."""
    method = read_settings(run).get("method")
    _config_class(method, str(run.config))
    return str(method)


def _config_class(method: object, source: str) -> type[Config]:
    choices = " or ".join(CONFIGS)
    if method is None:
        raise UserError(f"{source}: 'method' is required and missing; set it to {choices}")
    if not isinstance(method, str) or method not in CONFIGS:
        raise UserError(f"{source}: 'method' is {method!r:.80}; expected {choices}")
    return CONFIGS[method]

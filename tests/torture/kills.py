"""A training that is killed again and again ends as if nothing had happened."""

import json
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.training.run_folder import RunFolder, load_checkpoint
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, tiny_settings, write_settings
from tests.torture.lives import Death, Life, live

KINDS = ("line", "bytes", "clock")
TRAINING = {
    "learning_rate": 1e-3,
    "log_every": 1,
    "checkpoint_every": 4,
    "validate_every": 6,
    "visualise_every": 12,
}
IDR = {
    "cameras": {"refine": True, "noise_deg": 0.5},
    "model": {"hash_grid": {"start_levels": 1}},
    "search": {"refresh_every": 5},
    "losses": {"smoothness": 0.01},
}


@dataclass
class Killed:
    """What became of a training that was killed."""

    method: str
    kills: Counter  # by kind
    lives: int
    runs: int
    differences: list[str]

    @property
    def sentence(self) -> str:
        """For the table."""
        kinds = ", ".join(f"{count} by {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{sum(self.kills.values())} kills ({kinds}) in {self.runs} runs of {self.lives} lives"
        )


def settings(method: str, folder: Path, iterations: int) -> dict:
    """A run of a tiny model, with everything that a run writes."""
    training = {**TRAINING, "iterations": iterations}
    data = folder / "data"
    if method == "idr":
        made = data if data.exists() else write_tiny_scene(data)
        return merged(tiny_idr_settings(made, folder / "run"), {**IDR, "training": training})
    made = data if data.exists() else write_tiny_collection(data, objects=4)
    return merged(tiny_settings(made, folder / "run"), {"training": training})


def kill_and_compare(
    method: str, folder: Path, kills: int, seed: int, iterations: int = 24
) -> Killed:
    """Kill runs at random instants until ``kills`` have died, let the last end, and compare all.

    After every death, whatever checkpoints there are must load.
    """
    chance = random.Random(seed)
    wanted = settings(method, folder, iterations)
    started = time.monotonic()
    whole = _start(folder, wanted, "whole", None)
    milliseconds = round(1000 * (time.monotonic() - started))
    size = RunFolder(folder / "whole").latest.stat().st_size
    longest = {"line": whole.lines, "clock": milliseconds, "bytes": size}
    result = Killed(method, Counter(), 0, 0, [] if whole.code == 0 else [whole.err])
    while sum(result.kills.values()) < kills:
        result.runs += 1
        name, done = f"killed_{result.runs}", False
        while not done:
            kind = KINDS[sum(result.kills.values()) % len(KINDS)]
            enough = sum(result.kills.values()) >= kills
            death = None if enough else Death(kind, chance.randint(1, longest[kind]))
            life = _start(folder, wanted, name, death)
            result.lives += 1
            done = life.code == 0
            if not done:
                result.kills[kind] += 1
                result.differences += _unreadable(folder / name, str(death))
            if life.code > 0:
                result.differences.append(f"{death}: code {life.code}: {life.err[-300:]}")
                return result
        result.differences += differences(folder / "whole", folder / name)
    return result


def _start(folder: Path, wanted: dict, name: str, death: Death | None) -> Life:
    own = merged(wanted, {"training": {"out_dir": str(folder / name)}})
    file = write_settings(folder / f"{name}.yaml", own)
    return live("train", file, "--device", "cpu", death=death)


def _unreadable(run: Path, when: str) -> list[str]:
    wrong = []
    for path in (run / "checkpoints").glob("*.pt"):
        try:
            load_checkpoint(path)
        except Exception as error:
            wrong.append(f"{when}: {path.name}: {error}")
    return wrong


def differences(first: Path, second: Path) -> list[str]:
    """What differs between two runs, but for the clock."""
    wrong = []
    runs = [RunFolder(first), RunFolder(second)]
    if runs[0].kept_steps() != runs[1].kept_steps():
        wrong.append(f"{second.name}: kept checkpoints {runs[1].kept_steps()}")
    for name in ("latest.pt", "best.pt"):
        states = [load_checkpoint(run.path / "checkpoints" / name) for run in runs]
        for state in states:
            state.pop("seconds")
        if not same(*states):
            wrong.append(f"{second.name}: {name}")
    if _metrics(first) != _metrics(second):
        wrong.append(f"{second.name}: metrics.jsonl")
    if _curve(first) != _curve(second):
        wrong.append(f"{second.name}: TensorBoard's curve")
    return wrong


def same(first: object, second: object) -> bool:
    """Equality of nested tensors and numbers, bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            same(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def _metrics(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    clock = ("seconds", "_per_second")
    return [
        {key: value for key, value in json.loads(line).items() if not key.endswith(clock)}
        for line in lines
    ]


def _curve(run: Path) -> list[tuple[int, float]]:
    # TensorBoard warns of every restart that it meets, which is what was asked for.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(run / "logs"), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("train/loss")]

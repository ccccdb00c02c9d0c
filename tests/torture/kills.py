"""A training that is killed or starved again and again ends as if nothing had happened."""

import json
import logging
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.training.curves import curve
from common.training.run_folder import RunFolder, load_checkpoint
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, tiny_settings, write_settings
from tests.torture.lives import Death, Life, live

KINDS = ("line", "bytes", "clock", "checkpoint", "logs")
# How a process may end, by what happened to it.
_CODES = {
    "bytes": (-signal.SIGXFSZ,),
    "clock": (-signal.SIGALRM,),
    "full": (2,),
    "term": (3, -signal.SIGTERM),  # before the training has begun there is nothing to save
}
_KILLED = (-signal.SIGKILL,)
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
            f"{sum(self.kills.values())} times ({kinds}) in {self.runs} runs of {self.lives} lives"
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
    method: str,
    folder: Path,
    kills: int,
    seed: int,
    iterations: int = 24,
    kinds: tuple[str, ...] = KINDS,
) -> Killed:
    """Kill runs at random instants until ``kills`` have died, let the last end, and compare all.

    After every death, whatever checkpoints there are must load. ``kinds`` are those of Death.
    """
    chance = random.Random(seed)
    wanted = settings(method, folder, iterations)
    started = time.monotonic()
    whole = _start(folder, wanted, "whole", None)
    milliseconds = round(1000 * (time.monotonic() - started))
    size = RunFolder(folder / "whole").latest.stat().st_size
    longest = {"clock": milliseconds, "term": milliseconds, "bytes": size, "full": size}
    longest |= whole.lines
    result = Killed(method, Counter(), 0, 0, [] if whole.code == 0 else [whole.err])
    while sum(result.kills.values()) < kills:
        result.runs += 1
        name, done = f"killed_{result.runs}", False
        while not done:
            kind = kinds[sum(result.kills.values()) % len(kinds)]
            enough = sum(result.kills.values()) >= kills
            death = None if enough else Death(kind, chance.randint(1, longest[kind]))
            life = _start(folder, wanted, name, death)
            result.lives += 1
            done = life.code == 0
            if not done:
                result.kills[kind] += 1
                result.differences += _unreadable(folder / name, str(death))
            if not done and (life.code not in _CODES.get(kind, _KILLED) or _is_rude(life)):
                result.differences.append(f"{death}: code {life.code}: {life.err[-300:]}")
                return result
        result.differences += differences(folder / "whole", folder / name)
    return result


def lose_workers_and_compare(folder: Path, times: int, seed: int) -> Killed:
    """Kill a process that loads data, at random instants of as many runs, and compare all."""
    chance = random.Random(seed)
    wanted = settings("dvr", folder, iterations=24)
    whole = _start(folder, wanted, "whole", None)
    result = Killed("dvr", Counter(), 0, 0, [] if whole.code == 0 else [whole.err])
    for number in range(times):
        name = f"lost_{number}"
        two = merged(wanted, {"data": {"workers": 2}})
        life = _start(folder, two, name, Death("worker", chance.randint(1, 9000)))
        result.runs, result.lives = result.runs + 1, result.lives + 1
        result.kills["worker"] += "a process that loads data was lost" in life.err
        if life.code != 0:
            result.differences.append(f"{name}: code {life.code}: {life.err[-300:]}")
        else:
            result.differences += differences(folder / "whole", folder / name)
    if not result.kills["worker"]:
        result.differences.append("no process was lost")
    return result


def kill_exports(folder: Path, kills: int, seed: int) -> Killed:
    """Kill the writing of a mesh; after each death it is not there, or whole."""
    chance = random.Random(seed)
    wanted = settings("idr", folder, iterations=4)
    result = Killed("idr", Counter(), 0, 0, [])
    if (trained := _start(folder, wanted, "run", None)).code != 0:
        result.differences.append(trained.err)
        return result
    export = "generate_mesh", folder / "run"
    first = live(*export)
    (mesh,) = (folder / "run/meshes").glob("*.ply")
    whole = mesh.read_bytes()
    for number in range(kills):
        mesh.unlink(missing_ok=True)
        kind = ("mesh", "bytes")[number % 2]
        last = first.lines["mesh"] if kind == "mesh" else len(whole) - 1
        life = live(*export, death=Death(kind, chance.randint(1, last)))
        result.runs, result.lives = result.runs + 1, result.lives + 1
        result.kills[kind] += life.code < 0
        if life.code >= 0 or (mesh.exists() and mesh.read_bytes() != whole):
            result.differences.append(f"{kind}: code {life.code}, mesh there: {mesh.exists()}")
    if live(*export).code != 0 or mesh.read_bytes() != whole:
        result.differences.append("another mesh after all")
    return result


def refuse_read_only(folder: Path) -> Killed:
    """Train into folders that cannot be written: a sentence, and no trace."""
    wanted = settings("idr", folder, iterations=4)
    shut = folder / "shut"
    shut.mkdir(mode=0o500)
    # The system's own folders refuse the administrator too.
    places = [Path("/proc/run"), *([] if os.geteuid() == 0 else [shut / "run"])]
    result = Killed("idr", Counter(), 0, 0, [])
    for place in places:
        own = merged(wanted, {"training": {"out_dir": str(place)}})
        life = live("train", write_settings(folder / "shut.yaml", own), "--device", "cpu")
        result.runs, result.lives = result.runs + 1, result.lives + 1
        result.kills["read-only"] += life.code == 2
        if life.code != 2 or _is_rude(life) or str(place) not in life.err:
            result.differences.append(f"{place}: code {life.code}: {life.err[-300:]}")
    return result


def _is_rude(life: Life) -> bool:
    """Whether more than one sentence was said of an error."""
    return "Traceback" in life.err or (life.code == 2 and life.err.count("error:") != 1)


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
    return [(event.step, event.value) for event in events.Scalars(curve("train", "loss"))]

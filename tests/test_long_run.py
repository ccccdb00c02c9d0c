"""What a training holds and leaves behind does not grow with its length, or only as it must."""

import gc
import os
import random
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import common.training.logs as logs
from common.config import TrainingConfig
from common.training.logs import Log
from common.training.loop import train
from common.training.processes import Process
from common.training.run_folder import RunFolder
from tests.make_task import SlopeTask
from tests.torture.long_run import SPARE, LongRun, Sample, quarters

ALONE = Process(0, 1, torch.device("cpu"))


class Watched(SlopeTask):
    """Notes what the process holds at some steps."""

    def __init__(self, at: tuple[int, ...]) -> None:
        super().__init__({"mask_iou": 0.5} for _ in iter(int, 1))
        self.at = at
        self.objects: list[int] = []
        self.files: list[int] = []
        self.threads: list[int] = []

    def step(self, model, batch, step):
        if step in self.at:
            gc.collect()
            self.objects.append(len(gc.get_objects()))
            self.threads.append(threading.active_count())
            if Path("/proc/self/fd").exists():
                self.files.append(len(os.listdir("/proc/self/fd")))
        return super().step(model, batch, step)


def run_for(path: Path, iterations: int, task: SlopeTask, **changes) -> RunFolder:
    settings = {"log_every": 1, "validate_every": 50, "checkpoint_every": 20} | changes
    run = RunFolder(path)
    train(task, TrainingConfig(iterations=iterations, **settings), run, ALONE)
    return run


def log_bytes(run: RunFolder) -> int:
    return sum(file.stat().st_size for file in run.logs.iterdir())


def test_memory_files_and_threads_are_flat(tmp_path) -> None:
    task = Watched((110, 150, 310))
    run = run_for(tmp_path, 311, task)
    assert len(set(task.files)) <= 1 and len(set(task.threads)) == 1
    # Were any object of a step kept, there would be 160 more of it.
    assert abs(task.objects[2] - task.objects[1]) < 100
    assert len(list((run.path / "checkpoints").iterdir())) == 4  # latest, best, two kept


def test_the_logs_grow_by_the_record(tmp_path) -> None:
    """A curve's point takes some 50 bytes, 9 of them a record."""
    sizes = [
        log_bytes(run_for(tmp_path / f"{n}", n, SlopeTask([{"mask_iou": 0.5}] * 9), log_every=10))
        for n in (100, 200, 300)
    ]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.1)
    assert (sizes[1] - sizes[0]) / 10 < 9 * 80


def test_pictures_end_where_the_logs_are_full(tmp_path, monkeypatch, capsys) -> None:
    run = RunFolder(tmp_path)
    log = Log(run, 0)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(logs, "MOST_BYTES", 30_000)
    for step in range(1, 21):
        log.image("noise", noise, step)
        log.mesh("mesh", np.zeros((3, 3)), np.zeros((1, 3), int), None, step)
        log.flush()
    log.scalars("train", {"loss": 1.0}, 20, 1.0)
    log.close()
    # The last picture that was begun below the bound takes 12 kB.
    assert 30_000 < log_bytes(run) < 45_000
    assert capsys.readouterr().out.count("no more pictures and meshes") == 1


def test_what_is_logged_can_be_read_by_tensorboard(tmp_path) -> None:
    """Also after interruptions: no step twice, whatever was written beyond the checkpoint."""
    run = RunFolder(tmp_path)
    for start, end in ((0, 5), (0, 4), (2, 6)):  # killed before, and after, a checkpoint
        log = Log(run, start)
        for step in range(start + 1, end + 1):
            log.scalars("train", {"loss": float(step + 10 * end)}, step, 1.0)
        log.text("words", "said", end)
        log.mesh("mesh", np.eye(3), np.array([[0, 1, 2]]), np.eye(3, dtype=np.uint8), end)
        log.image("grey", np.full((4, 4, 3), 128, np.uint8), end)
        log.close()
    events = EventAccumulator(str(run.logs), size_guidance={"scalars": 0})
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert found == [(1, 41), (2, 42), (3, 63), (4, 64), (5, 65), (6, 66)]
    assert [event.step for event in events.Images("grey")] == [6]
    assert "mesh_VERTEX" in events.Tags()["tensors"]


class TestJudgement:
    """Of readings like those of a real training: 500 MB, and now and then 20 that were freed."""

    def judged(self, bytes_a_step: float = 0, files: int = 6, spike: float = 20) -> LongRun:
        chance, steps = random.Random(0), 20_000
        samples = []
        for number in range(400):
            warm_up = 40 * min(1, number / 60)
            kept = number / 400 * steps * bytes_a_step / 1e6
            freed = spike * (chance.random() < 0.2) * (number / 400) + chance.uniform(0, 3)
            opened = 6 if number < 300 else files
            samples.append(Sample(500 + warm_up + kept + freed, opened))
        return LongRun(steps, *quarters(samples), 50, ["latest.pt"])

    def test_neither_the_start_nor_what_was_freed_counts(self) -> None:
        run = self.judged()
        assert run.flat and run.late.most - run.early.most > 5
        assert abs(run.growth) < 1

    def test_two_kilobytes_a_step_are_seen(self) -> None:
        run = self.judged(bytes_a_step=2000)
        assert not run.flat
        assert run.growth == pytest.approx(20, abs=1)
        assert re.search(r"\+(2,0|1,9)\d\d bytes a step", run.sentence)

    def test_a_file_left_open_is_seen(self) -> None:
        assert not self.judged(files=7).flat

    def test_memory_needed_for_a_moment_must_not_grow_either(self) -> None:
        run = self.judged(spike=2.5 * SPARE)
        assert run.growth < 5 and not run.flat

"""A run that is killed at any instant, starved of disk or of processes, goes on as if it had not.

`make torture` kills more often.
"""

import json
import os
import random
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from common.config import TrainingConfig
from common.errors import UserError
from common.training.batches import batches
from common.training.loop import train
from common.training.processes import Process
from common.training.run_config import checkpoint_of
from common.training.run_folder import (
    RunFolder,
    give_second_name,
    load_checkpoint,
    save_checkpoint,
)
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, run_script, write_settings
from tests.make_task import SlopeTask
from tests.torture.kills import kill_and_compare
from tests.torture.lives import Death, live

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("method", ["idr", "dvr"])
def test_a_killed_run_is_the_uninterrupted_one(tmp_path, method) -> None:
    """Killed between two lines, and in the middle of writing a checkpoint."""
    result = kill_and_compare(method, tmp_path, kills=2, seed=1, iterations=8)
    assert result.differences == []
    assert result.kills == {"line": 1, "bytes": 1}


class TestCheckpoints:
    def run(self, path: Path, iterations: int = 8) -> RunFolder:
        run = RunFolder(path)
        config = TrainingConfig(iterations=iterations, checkpoint_every=3, validate_every=100)
        train(SlopeTask([{"mask_iou": 0.5}]), config, run, ALONE)
        return run

    def test_the_newest_two_of_the_schedule_are_kept(self, tmp_path) -> None:
        run = self.run(tmp_path)
        names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
        assert names == {"latest.pt", "best.pt", "step_3.pt", "step_6.pt"}
        assert [load_checkpoint(run.kept(step))["step"] for step in run.kept_steps()] == [3, 6]
        assert load_checkpoint(run.latest)["step"] == 8

    @pytest.mark.parametrize("what", ["a key", "a weight"])
    def test_a_flipped_bit_is_noticed_and_the_one_before_is_used(
        self, tmp_path, capsys, what
    ) -> None:
        run = self.run(tmp_path)
        weight = load_checkpoint(run.latest)["model"]["weight"].numpy().tobytes()
        content = bytearray(run.latest.read_bytes())
        content[content.index(b"seconds" if what == "a key" else weight)] ^= 1
        run.latest.write_bytes(content)
        assert checkpoint_of(run, "latest") == run.kept(6)
        assert f"{run.latest}: damaged; step_6.pt is used instead" in capsys.readouterr().out
        run.kept(6).write_bytes(content[:100])
        assert checkpoint_of(run, "latest") == run.kept(3)
        run.kept(3).unlink()
        assert checkpoint_of(run, "latest") == run.latest
        with pytest.raises(UserError, match="not a readable checkpoint"):
            load_checkpoint(run.latest)

    def test_training_goes_on_from_it(self, tmp_path) -> None:
        settings = tiny_idr_settings(write_tiny_scene(tmp_path / "data"), tmp_path / "run")
        changes = {"training": {"iterations": 8, "checkpoint_every": 3}}
        file = write_settings(tmp_path / "config.yaml", merged(settings, changes))
        assert run_script("train", file).code == 0
        run = RunFolder(tmp_path / "run")
        whole, lines = load_checkpoint(run.latest), run.metrics.read_text().splitlines()
        run.latest.write_bytes(run.latest.read_bytes()[:-100])
        again = run_script("train", file)
        assert again.code == 0 and "resuming" in again.out and "at iteration 6" in again.out
        state = load_checkpoint(run.latest)["model"]
        assert all(torch.equal(value, whole["model"][name]) for name, value in state.items())
        steps = [json.loads(line)["step"] for line in lines]
        assert [json.loads(x)["step"] for x in run.metrics.read_text().splitlines()] == steps
        assert (run.path / "checkpoints/latest.pt.damaged").exists()

    def test_a_second_name_needs_no_links(self, tmp_path, monkeypatch) -> None:
        def refuse(*_):
            raise OSError("no links here")

        (tmp_path / "a").write_bytes(b"new")
        (tmp_path / "b").write_bytes(b"old")
        give_second_name(tmp_path / "a", tmp_path / "b")
        give_second_name(tmp_path / "a", tmp_path / "b")  # the same file already
        assert (tmp_path / "b").samefile(tmp_path / "a")
        monkeypatch.setattr(os, "link", refuse)
        give_second_name(tmp_path / "a", tmp_path / "c")
        assert (tmp_path / "c").read_bytes() == b"new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]

    def test_compressed_content_is_refused(self, tmp_path) -> None:
        """It could take a thousand times the memory that the file's size tells of."""
        path = tmp_path / "a.pt"
        save_checkpoint(path, {"model": {}, "optimiser": {}, "step": 1, "seconds": 1, "best": None})
        with zipfile.ZipFile(path) as plain:
            content = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in content.items():
                packed.writestr(name, data)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            load_checkpoint(path)


class TestMeshes:
    def test_an_export_that_is_killed_leaves_the_old_mesh_whole(self, tmp_path) -> None:
        """At every few lines of writing it."""
        settings = tiny_idr_settings(write_tiny_scene(tmp_path / "data"), tmp_path / "run")
        file = write_settings(tmp_path / "config.yaml", settings)
        assert run_script("train", file).code == 0
        life = live("generate_mesh", tmp_path / "run")
        assert life.code == 0, life.err
        (mesh,) = (tmp_path / "run/meshes").glob("*.ply")
        whole = mesh.read_bytes()
        mesh.unlink()
        chance = random.Random(0)
        for _ in range(2):
            at = chance.randint(1, life.lines["mesh"])
            killed = live("generate_mesh", tmp_path / "run", death=Death("mesh", at))
            assert killed.code == -signal.SIGKILL
            assert not mesh.exists() or mesh.read_bytes() == whole


class TestLittleRoom:
    def test_a_full_disk_ends_a_run_with_a_sentence_and_space_continues_it(self, tmp_path) -> None:
        """A real limit of the system: every write beyond so many bytes of a file fails."""
        settings = tiny_idr_settings(write_tiny_scene(tmp_path / "data"), tmp_path / "run")
        changes = {"training": {"iterations": 6, "checkpoint_every": 2}}
        file = write_settings(tmp_path / "config.yaml", merged(settings, changes))
        assert live("train", file, "training.iterations=3").code == 0
        for room in (20_000, 0):
            full = live("train", file, death=Death("full", room))
            assert full.code == 2, full.err
            assert full.err.count("error:") == 1 and "Traceback" not in full.err
            assert "run the same command again" in full.err
            assert load_checkpoint(RunFolder(tmp_path / "run").latest)["step"] == 3
        assert live("train", file).code == 0
        assert load_checkpoint(RunFolder(tmp_path / "run").latest)["step"] == 6

    @pytest.mark.skipif(not Path("/proc/version").exists(), reason="no read-only folder to try")
    def test_a_read_only_folder_is_refused_with_a_sentence(self, tmp_path) -> None:
        settings = tiny_idr_settings(write_tiny_scene(tmp_path / "data"), Path("/proc/run"))
        outcome = run_script("train", write_settings(tmp_path / "config.yaml", settings))
        assert outcome.code == 2 and "/proc/run" in outcome.err
        assert "Traceback" not in outcome.err


class Fragile(torch.utils.data.Dataset):
    """Batches whose maker is killed at a step, once."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at = folder, at

    def __getitem__(self, step: int) -> np.ndarray:
        mark = self.folder / "killed"
        if step == self.at and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([step])


def test_a_lost_worker_costs_no_batch(tmp_path, capsys) -> None:
    found = [int(batch[0]) for batch in batches(Fragile(tmp_path, 5), range(2, 9), workers=1)]
    assert found == list(range(2, 9))
    assert "a process that loads data was lost" in capsys.readouterr().err


def test_the_record_survives_without_its_last_line(tmp_path) -> None:
    """What was written beyond the checkpoint, whole or cut, comes again."""
    run = RunFolder(tmp_path)
    config = TrainingConfig(iterations=4, checkpoint_every=2, log_every=1, validate_every=100)
    train(SlopeTask([{"mask_iou": 0.5}]), config, run, ALONE)
    before = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    content = run.metrics.read_bytes()
    shutil.copy(run.kept(2), run.latest)
    run.metrics.write_bytes(content[:-7])
    train(SlopeTask([{"mask_iou": 0.5}]), config, run, ALONE)
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == before

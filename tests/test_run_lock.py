"""Two trainings never share a run folder; dead ones leave it free; readers need not wait."""

import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import common.training.run_lock as run_lock
from common.config import load_yaml
from common.errors import UserError
from common.training.process_birth import birth
from common.training.processes import Process
from common.training.run_folder import RunFolder, load_checkpoint
from common.training.run_lock import OLD, only_training
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, merged, run_script, tiny_settings, write_settings

ALONE = Process(0, 1, torch.device("cpu"))
SECOND = Process(1, 2, torch.device("cpu"))


def only_lock(run: RunFolder) -> Path:
    (lock,) = run.locks()
    return lock


def train_in(run: RunFolder) -> None:
    """A training that ends at once."""
    with only_training(run, ALONE):
        pass


def free(run: RunFolder) -> bool:
    """Whether a training may start there."""
    try:
        train_in(run)
    except UserError:
        return False
    return True


LEFT = "training-left.lock"


def leave_lock(run: RunFolder, **changes) -> None:
    """Leave a lock there like that of a training of this process, but for the changes."""
    with only_training(run, ALONE):
        content = json.loads(only_lock(run).read_text())
    (run.path / LEFT).write_text(json.dumps(content | changes))


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "out" / "my run")


@pytest.fixture
def neighbour():
    """A process that lives until its input is closed."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


class TestBirth:
    def test_every_process_has_its_own(self, neighbour) -> None:
        mine, other = birth(os.getpid()), birth(neighbour.pid)
        assert mine and other and mine != other
        assert (birth(os.getpid()), birth(neighbour.pid)) == (mine, other)

    def test_the_dead_have_none(self, neighbour) -> None:
        """Nor those that are listed still, since nobody has asked how they ended."""
        neighbour.kill()
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)
            assert birth(neighbour.pid) is None
        neighbour.wait()
        assert birth(neighbour.pid) is None

    @pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
    def test_systems_without_proc_are_asked_by_ps(self, neighbour, monkeypatch) -> None:
        monkeypatch.setattr("common.training.process_birth.BOOT", Path("not there"))
        assert birth(neighbour.pid) and birth(neighbour.pid) == birth(neighbour.pid)
        neighbour.kill()
        neighbour.wait()
        assert birth(neighbour.pid) is None


class TestLock:
    def test_the_second_is_refused_with_the_first_ones_name(self, run) -> None:
        with only_training(run, ALONE):
            since = json.loads(only_lock(run).read_text())["since"]
            with pytest.raises(UserError) as refusal, only_training(run, ALONE):
                pass
            assert only_lock(run).exists()  # being refused does not free the folder
        sentence = str(refusal.value)
        assert all(word in sentence for word in (f"process {os.getpid()}", platform.node(), since))
        assert str(run.path) in sentence and "choose another training.out_dir" in sentence

    def test_nothing_of_it_stays(self, run) -> None:
        with pytest.raises(RuntimeError, match="in training"), only_training(run, ALONE):
            assert list(run.path.iterdir()) == run.locks() != []
            raise RuntimeError("in training")
        assert list(run.path.iterdir()) == []
        assert free(run)

    def test_only_the_leading_process_locks(self, run) -> None:
        with only_training(run, ALONE), only_training(run, SECOND):
            assert only_lock(run).exists()
        with only_training(RunFolder(run.path / "other"), SECOND):
            assert not (run.path / "other").exists()

    def test_a_fresh_start_keeps_the_lock_with_the_name(self, run) -> None:
        run.path.mkdir(parents=True)
        run.config.write_text("old")
        with only_training(run, ALONE):
            aside = run.keep_aside()
            assert aside is not None and [p.name for p in aside.iterdir()] == ["config.yaml"]
            assert only_lock(run).exists() and not free(run)
            assert run.keep_aside() is None  # a lock alone is no run
        assert free(run) and free(RunFolder(aside))

    def test_a_folder_that_is_renamed_meanwhile_is_not_trained_in(self, run, monkeypatch) -> None:
        """A fresh start of another takes the folder away before this one looks around."""
        write = run_lock.write_atomically

        def late(lock, content) -> None:
            write(lock, content)
            run.path.rename(run.path.with_name("aside"))

        monkeypatch.setattr(run_lock, "write_atomically", late)
        with pytest.raises(UserError, match="has just renamed this folder"):
            train_in(run)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 9999])
    def test_a_damaged_lock_is_not_passed_over(self, run, content) -> None:
        run.path.mkdir(parents=True)
        (run.path / LEFT).write_bytes(content)
        with pytest.raises(UserError, match="damaged; if none trains here, delete the file"):
            train_in(run)
        assert (run.path / LEFT).read_bytes() == content

    @pytest.mark.parametrize(
        "changes", [{"pid": "1"}, {"pid": -1}, {"pid": True}, {"host": 5}, {"host": "a\x1b[2Jb"}]
    )
    def test_nor_one_with_other_things_in_it(self, run, changes) -> None:
        leave_lock(run, **changes)
        with pytest.raises(UserError, match="damaged"):
            train_in(run)


class TestStale:
    def test_of_a_process_that_died(self, run, neighbour, capsys) -> None:
        leave_lock(run, pid=neighbour.pid, birth=birth(neighbour.pid))
        assert not free(run)
        neighbour.kill()
        neighbour.wait()
        assert free(run)
        assert f"taken over, because process {neighbour.pid} on" in capsys.readouterr().out
        assert list(run.path.iterdir()) == []

    def test_of_one_whose_number_another_has_now(self, run, neighbour) -> None:
        leave_lock(run, pid=neighbour.pid, birth="earlier")
        assert free(run)

    def test_of_a_run_that_was_copied(self, run, tmp_path, capsys) -> None:
        """Links to the folder are the folder."""
        link = RunFolder(tmp_path / "link")
        with only_training(run, ALONE):
            copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
            assert free(copy) and "of which this is a copy" in capsys.readouterr().out
            try:
                link.path.symlink_to(run.path, target_is_directory=True)
            except OSError:
                pytest.skip("this system makes no symbolic links")
            assert not free(link)

    def test_another_hosts_holds_while_its_run_changes(self, run, capsys) -> None:
        """As told by the newest of lock, record and checkpoint."""
        leave_lock(run, host="far-away", birth="unknown here")
        with pytest.raises(UserError, match="far-away.*is no more, delete .*training-left.lock"):
            train_in(run)
        lock = only_lock(run)
        now = lock.stat().st_mtime
        os.utime(lock, (now, now - OLD - 3600))
        run.metrics.touch()
        assert not free(run)
        os.utime(run.metrics, (now, now - OLD - 60))
        assert free(run)
        assert "has changed nothing for 24 hours" in capsys.readouterr().out

    def test_never_two_of_many_at_once(self, run) -> None:
        """All meet the same stale lock. None may succeed, since each may see another's attempt."""
        leave_lock(run, birth="earlier")
        start, inside, seen = threading.Barrier(8), threading.Semaphore(1), queue.Queue()
        all_tried = threading.Barrier(8)

        def compete() -> None:
            start.wait()
            try:
                with only_training(run, ALONE):
                    seen.put(inside.acquire(blocking=False))
                    all_tried.wait()
            except UserError:
                all_tried.wait()

        threads = [threading.Thread(target=compete) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(seen.queue) in ([], [True])
        assert free(run)


@pytest.fixture(scope="class", params=["idr", "dvr"])
def training(request, tmp_path_factory):
    """A training that goes on and writes at every step, its configuration, and its process."""
    root = tmp_path_factory.mktemp("run with ü")
    if request.param == "idr":
        settings = tiny_idr_settings(write_tiny_scene(root / "data"), root / "run")
    else:
        settings = tiny_settings(write_tiny_collection(root / "data", objects=4), root / "run")
    often = {"checkpoint_every": 1, "validate_every": 1, "log_every": 1, "iterations": 1_000_000}
    file = write_settings(root / "config.yaml", merged(settings, {"training": often}))
    command = [sys.executable, "-u", str(ROOT / "scripts/train.py"), str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert any(line.startswith("step 2:") for line in process.stdout)  # it trains
        # What it prints from now on must not stop it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield file, process
        process.kill()


class TestTraining:
    def test_another_is_refused_and_changes_nothing(self, training) -> None:
        file, process = training
        run = RunFolder(Path(load_yaml(file)["training"]["out_dir"]))
        for options in ((), ("--fresh",)):
            second = run_script("train", file, *options)
            assert second.code == 2 and f"process {process.pid} on {platform.node()}" in second.err
            assert "Traceback" not in second.err
        assert process.poll() is None and not run.path.with_name("run.old-1").exists()

    def test_readers_find_a_whole_run_at_every_moment(self, training) -> None:
        file, process = training
        run = RunFolder(Path(load_yaml(file)["training"]["out_dir"]))
        before = first = load_checkpoint(run.latest)["step"]
        readers = (
            ("generate_mesh", "--resolution", 32, "--checkpoint", "latest"),
            ("evaluate", "--views", 1, "--checkpoint", "latest"),
            ("render", "--views", 1, "--size", 16),
            ("report",),
        )
        for name, *options in readers:
            outcome = run_script(name, run.path, *options)
            assert outcome.code == 0, (name, outcome.err)
        for _ in range(50):
            step = load_checkpoint(run.latest)["step"]
            assert step >= before
            before = step
        assert process.poll() is None
        assert before > first

    def test_killed_it_leaves_the_folder_to_the_next(self, training) -> None:
        file, process = training
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
        run = RunFolder(Path(load_yaml(file)["training"]["out_dir"]))
        assert only_lock(run).exists()
        done = load_checkpoint(run.latest)["step"]
        again = run_script("train", file, f"training.iterations={done + 2}")
        assert again.code == 0, again.err
        assert f"taken over, because process {process.pid} on" in again.out
        assert f"resuming {run.path}" in again.out and not run.locks()

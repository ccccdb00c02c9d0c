"""The training script under torchrun: files written once, all continue together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common.training.run_folder import load_checkpoint
from tests.make_collection import write_tiny_collection
from tests.make_run import ROOT, merged, run_script, tiny_settings, write_settings

CHANGES = {"training": {"iterations": 3, "objects": 4, "log_every": 1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("distributed")
    write_tiny_collection(root / "data", objects=4)
    settings = merged(tiny_settings(root / "data", root / "one"), CHANGES)
    write_settings(root / "config.yaml", settings)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def torchrun(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Two processes of the training script on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += [f"--master_port={free_port()}", str(ROOT / "scripts/train.py")]
    command += [str(folder / "config.yaml"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def both(folder) -> tuple[Path, Path, subprocess.CompletedProcess]:
    """The run of one process, that of two, and what the two said."""
    assert run_script("train", folder / "config.yaml").code == 0
    done = torchrun(folder, f"training.out_dir={folder / 'two'}")
    return folder / "one", folder / "two", done


def test_only_the_first_process_writes_and_speaks(both) -> None:
    one, two, done = both
    records = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, two)
    ]
    assert [record["step"] for record in records[1]] == [record["step"] for record in records[0]]
    assert done.stdout.count("run folder") == done.stdout.count("step 3: mask_iou") == 1
    assert len(list((two / "logs").iterdir())) == 1
    names = [
        sorted(
            str(path.relative_to(run))
            for path in run.rglob("*")
            if path.is_file() and "tfevents" not in path.name
        )
        for run in (one, two)
    ]
    assert names[0] == names[1]


def test_all_continue_together(both) -> None:
    """From the one checkpoint, to the same step; the processes would wait for ever otherwise."""
    _, two, _ = both
    again = torchrun(two.parent, f"training.out_dir={two}", "training.iterations=4")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("resuming") == 1
    assert load_checkpoint(two / "checkpoints/latest.pt")["step"] == 4

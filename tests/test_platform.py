"""Paths that are hard and systems that are other: blanks, letters of every script, no POSIX."""

import re
from pathlib import Path

import numpy as np
import pytest

import common.training.run_folder as run_folder
from common.meshes.files import load_mesh, save_mesh
from common.meshes.mesh import Mesh
from common.training.run_folder import RunFolder, write_atomically
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import run_script, write_settings

HARD = "blank ü 物 😀 'quoted' #1 [x] 100%"
WINDOWS_REFUSES = re.compile(r'[<>:"|?*\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.I)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run in a folder with a hard name, with all that the scripts write."""
    root = tmp_path_factory.mktemp("platform") / HARD
    root.mkdir()
    settings = tiny_idr_settings(write_tiny_scene(root / "the data"), root / "the run")
    file = write_settings(root / "config.yaml", settings)
    commands = (
        ("train", file), ("generate_mesh", root / "the run"),
        ("evaluate", root / "the run", "--views", 1), ("render", root / "the run", "--views", 1),
        ("report", root / "the run"),
    )  # fmt: skip
    for name, *arguments in commands:
        outcome = run_script(name, *arguments)
        assert outcome.code == 0, (name, outcome.err)
    return root / "the run"


def test_every_script_works_in_a_hard_path(run) -> None:
    for name in ("evaluation.json", "report.html", "metrics.jsonl", "checkpoints/latest.pt"):
        assert (run / name).stat().st_size > 0
    assert list((run / "meshes").glob("*.ply"))


def test_windows_accepts_the_name_of_every_file(run) -> None:
    names = [part for path in run.rglob("*") for part in path.relative_to(run).parts]
    assert len(set(names)) > 10
    assert [name for name in names if WINDOWS_REFUSES.search(name)] == []
    assert WINDOWS_REFUSES.search("12:30.png") and WINDOWS_REFUSES.search("aux.txt")


def test_no_two_names_differ_in_case_alone(run) -> None:
    paths = [str(path).lower() for path in run.rglob("*")]
    assert len(set(paths)) == len(paths)


class TestReplacing:
    def refuse(self, times: int, monkeypatch) -> list[int]:
        """As Windows does while another program reads the file; the waits that were asked for."""
        waits: list[int] = []
        replace = run_folder.os.replace

        def busy(source, target) -> None:
            if len(waits) < times:
                raise PermissionError(13, "another program reads it")
            replace(source, target)

        monkeypatch.setattr(run_folder.os, "replace", busy)
        monkeypatch.setattr(run_folder.time, "sleep", waits.append)
        return waits

    def test_windows_waits_for_the_readers_end(self, tmp_path, monkeypatch) -> None:
        waits = self.refuse(3, monkeypatch)
        monkeypatch.setattr(run_folder, "WINDOWS", True)
        write_atomically(tmp_path / "a", lambda file: file.write(b"new"))
        assert waits == [1, 1, 1] and (tmp_path / "a").read_bytes() == b"new"

    @pytest.mark.parametrize("windows", [True, False])
    def test_not_for_ever_and_elsewhere_not_at_all(self, tmp_path, monkeypatch, windows) -> None:
        waits = self.refuse(10_000, monkeypatch)
        monkeypatch.setattr(run_folder, "WINDOWS", windows)
        with pytest.raises(PermissionError):
            write_atomically(RunFolder(tmp_path).evaluation, lambda file: file.write(b"new"))
        assert len(waits) == (run_folder.READERS_TIME if windows else 0)
        assert list(tmp_path.iterdir()) == []


def test_a_mesh_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch) -> None:
    """Else a power cut could leave a name without content."""
    order: list[str] = []
    files = "common.meshes.files.os."
    fsync, replace = run_folder.os.fsync, run_folder.os.replace
    monkeypatch.setattr(files + "fsync", lambda fd: (order.append("sync"), fsync(fd)))
    monkeypatch.setattr(files + "replace", lambda a, b: (order.append("name"), replace(a, b)))
    corners, triangle = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]
    save_mesh(tmp_path / f"{HARD}.ply", Mesh(np.array(corners), np.array(triangle)))
    assert order == ["sync", "name"]
    assert len(load_mesh(tmp_path / f"{HARD}.ply").faces) == 1

"""Whatever a user gets wrong: exit code 2, one message with a remedy, and nothing lost."""

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from common.config import validate
from common.training.processes import Process
from dvr.config import DVRConfig
from dvr.experiment import train_experiment
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_run import (
    PICTURES,
    SCENE,
    Outcome,
    merged,
    run_script,
    tiny_settings,
    write_settings,
)

ALONE = Process(0, 1, torch.device("cpu"))
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Data, configurations and runs as they should be; paths are relative to this folder."""
    root = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_tiny_collection(root / "data", objects=2)
        write_tiny_scene(root / "scene")
        pictures = {"training": {"iterations": 1}}
        for name, data, changes in [
            ("codes", "data", {}),
            ("pictures", "data", merged(PICTURES, pictures)),
            ("scene", "scene", SCENE),
        ]:
            settings = tiny_settings(Path(data), Path("runs") / name)
            settings = merged(settings, merged(changes, {"training": {"learning_rate": 1e-6}}))
            write_settings(root / f"{name}.yaml", settings)
            train_experiment(validate(DVRConfig, settings, name), ALONE)
    return root


@pytest.fixture
def world(originals, tmp_path, monkeypatch) -> Path:
    """A copy to be broken, as the working directory."""
    copy = Path(shutil.copytree(originals, tmp_path / "world"))
    monkeypatch.chdir(copy)
    return copy


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def check_refusal(outcome: Outcome, names: str, remedy: str) -> None:
    """One message at the end of stderr, after progress bars at most."""
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error:") == 1
    message = outcome.err[outcome.err.index("error:") :]
    assert message.count("\n") == 1
    assert names in message
    assert remedy in message


# --- ways to break a file -----------------------------------------------------------------------


def nothing(path: Path) -> None:
    pass


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def scribble(path: Path) -> None:
    path.write_text("this is not what its name says: [\n" * 20)


def text(content: str) -> Change:
    return lambda path: path.write_text(content)


def make_folder(path: Path) -> None:
    if path.is_file():
        path.unlink()
    path.mkdir(parents=True)


def file_in_place(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")


def in_arrays(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def edit(path: Path) -> None:
        with np.load(path) as archive:
            arrays = dict(archive)
        np.savez(path, **(arrays | {key: change(arrays[key])}))

    return edit


def in_checkpoint(change: Callable[[dict], object]) -> Change:
    def edit(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return edit


class Evil:
    """Unpickling it would end the process."""

    def __reduce__(self):
        return (os._exit, (99,))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), protocol=2))


def pickled_inside(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "best": Evil()}, path)


def wrong_size(path: Path) -> None:
    from PIL import Image

    Image.new("L", (7, 9)).save(path)


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """``breaks(world / where)``, then the command: the message has ``names`` and ``remedy``."""

    name: str
    command: str
    names: str
    remedy: str
    where: str = ""
    breaks: Change = field(default=nothing)


OBJECT = "data/chair/sphere_0"
NEW = "training.out_dir=runs/new"
TRAIN = f"train codes.yaml {NEW}"
PICTURES_NEW = f"train pictures.yaml {NEW}"
SCENE_NEW = f"train scene.yaml {NEW}"
DEPTH = f"{TRAIN} losses.depth=1"
MESH = "generate_mesh runs/pictures"
SCORE = "evaluate runs/pictures"
DRAW = "render runs/pictures"
BEST = "runs/pictures/checkpoints/best.pt"
LATEST = "runs/codes/checkpoints/latest.pt"
RESUME = "train codes.yaml training.iterations=9"

CASES = [
    # The configuration
    Case("no such configuration", "train nowhere.yaml", "nowhere.yaml", "configs/"),
    Case("configuration is a folder", "train data", "data", "YAML file"),
    Case("configuration not YAML", "train codes.yaml", "codes.yaml, line", "mend", "codes.yaml",
         scribble),
    Case("configuration a list", "train codes.yaml", "codes.yaml", "'key: value'", "codes.yaml",
         text("- a\n- b\n")),
    Case("configuration binary", "train codes.yaml", "codes.yaml", "YAML file", "codes.yaml",
         lambda path: path.write_bytes(b"\xff\xfe\x00\x81")),
    Case("configuration empty", "train codes.yaml", "codes.yaml: 'method'", "required",
         "codes.yaml", empty),
    Case("parent missing", "train codes.yaml", "base.yaml", "configs/", "codes.yaml",
         text("inherit_from: base.yaml\n")),
    Case("parents in a circle", "train codes.yaml", "codes.yaml", "remove one", "codes.yaml",
         text("inherit_from: codes.yaml\n")),
    Case("misspelt key", f"{TRAIN} training.lerning_rate=1", "training.lerning_rate",
         "'training.learning_rate'"),
    Case("wrong type", f"{TRAIN} training.rays=many", "codes.yaml: 'training.rays'", "integer"),
    Case("out of range", f"{TRAIN} training.rays=-3", "'training.rays'", "greater than or equal"),
    Case("unknown choice", f"{TRAIN} training.decay=fast", "'training.decay'", "'cosine'"),
    Case("not a setting", f"{TRAIN} rays", "'rays'", "section.key=value"),
    Case("malformed value", f"{TRAIN} data.views=[1", "data.views=[1", "YAML"),
    Case("rule between keys", f"{TRAIN} model.code=0", "'model'", "goes with code: 0"),
    Case("pictures too small for the encoder", f"{PICTURES_NEW} data.input.size=32",
         "data.input.size", "at least 63"),
    Case("resolution of no grid", f"{TRAIN} generation.resolution=100", "'generation'",
         "power of two"),
    # The command line
    Case("no configuration", "train", "configuration file", "configs/"),
    Case("unknown device", f"{TRAIN} --device tpu", "--device", "choose from"),
    Case("no GPU", f"{TRAIN} --device cuda", "--device cuda", "--device cpu"),
    Case("exit after a word", f"{TRAIN} --exit-after soon", "--exit-after", "float"),
    # Where the data should be
    Case("no data", f"{TRAIN} data.path=elsewhere", "elsewhere", "data.path"),
    Case("data is a file", f"{TRAIN} data.path=codes.yaml", "codes.yaml", "data.path"),
    Case("data of no kind", f"{TRAIN} data.path=runs", "runs", "neither a scene"),
    Case("one object", f"{TRAIN} data.path={OBJECT}", OBJECT, "set data.path to"),
    Case("category unknown", f"{TRAIN} data.categories=[chiar]", "chiar", "chair"),
    Case("split missing", f"{TRAIN} data.train_split=trian", "trian.lst", "train"),
    Case("validation split missing", f"{PICTURES_NEW} data.val_split=vall", "vall.lst", "val"),
    Case("split empty", TRAIN, "train.lst", "one object per line", "data/chair/train.lst", empty),
    Case("listed object missing", TRAIN, "sphere_0", "remove them", OBJECT, remove),
    Case("codes of other objects", TRAIN, "data.train_split", "image encoder",
         "data/chair/val.lst", text("sphere_1\n")),
    # What an object's folder holds
    Case("image cut", TRAIN, "image/0001.png", "again", f"{OBJECT}/image/0001.png", cut),
    Case("image of a later object cut", TRAIN, "sphere_1/image/0001.png", "again",
         "data/chair/sphere_1/image/0001.png", cut),
    Case("image missing", TRAIN, "image: 3", "add or remove", f"{OBJECT}/image/0003.png", remove),
    Case("mask of another size", TRAIN, "mask/0002.png", "resize", f"{OBJECT}/mask/0002.png",
         wrong_size),
    Case("mask is text", TRAIN, "mask/0002.png", "convert", f"{OBJECT}/mask/0002.png", scribble),
    Case("no masks", TRAIN, "mask", "check the path", f"{OBJECT}/mask", remove),
    Case("camera NaN", TRAIN, "world_mat_1", "estimate", f"{OBJECT}/cameras.npz",
         in_arrays("world_mat_1", lambda matrix: matrix * np.nan)),
    Case("cameras cut", TRAIN, "cameras.npz", "again", f"{OBJECT}/cameras.npz", cut),
    Case("no cameras", TRAIN, "cameras.npz", "make it", f"{OBJECT}/cameras.npz", remove),
    Case("depth is text", DEPTH, "depth/0001.exr", "convert", f"{OBJECT}/depth/0001.exr",
         scribble),
    Case("no depth", DEPTH, "depth", "check the path", f"{OBJECT}/depth", remove),
    Case("view out of range", f"{TRAIN} data.views=[0,9]", "view 9", "0 to 3"),
    Case("all views ignored", f"{TRAIN} data.ignore_views=[0,1,2,3]", "sphere_", "ignore fewer"),
    Case("no input pictures", f"{PICTURES_NEW} data.input.folder=photos", "photos",
         "check the path"),
    Case("input view out of range", f"{PICTURES_NEW} data.input.views=[5]", "data.input.views",
         "0 to 3"),
    Case("patch wider than the picture",
         f"{TRAIN} data.image_size=8 supervision.patch=16 training.rays=256", "supervision.patch",
         "8 or less"),
    Case("weights missing", f"{TRAIN} model.encoder.kind=resnet18 model.encoder.weights=w.pth",
         "w.pth", "model.encoder.weights"),
    Case("weights are none", f"{TRAIN} model.encoder.kind=resnet18 model.encoder.weights=w.pth",
         "w.pth", "download torchvision's again", "w.pth", scribble),
    # A scene
    Case("a scene for an image encoder", f"{PICTURES_NEW} data.path=scene", "scene",
         "model.encoder.kind"),
    Case("every view held out", f"{SCENE_NEW} data.holdout_every=1", "data.holdout_every",
         "larger number"),
    Case("scene's mask cut", SCENE_NEW, "mask/003.png", "again", "scene/mask/003.png", cut),
    # The run folder
    Case("another model", "train codes.yaml model.hidden=8", "runs/codes", "--fresh"),
    Case("checkpoint cut", RESUME, "latest.pt", "--fresh", LATEST, cut),
    Case("checkpoint empty", RESUME, "latest.pt", "--fresh", LATEST, empty),
    Case("checkpoint is code", RESUME, "latest.pt", "--fresh", LATEST, pickled),
    Case("checkpoint with code", RESUME, "latest.pt", "--fresh", LATEST, pickled_inside),
    Case("checkpoint of another model", RESUME, "latest.pt", "--fresh", LATEST,
         in_checkpoint(lambda state: state["model"].pop("decoder.fc_p.bias"))),
    Case("checkpoint of another program", RESUME, "latest.pt", "scripts/train.py", LATEST,
         in_checkpoint(lambda state: state.pop("optimiser"))),
    Case("run's configuration damaged", RESUME, "runs/codes/config.yaml", "train again",
         "runs/codes/config.yaml", scribble),
    Case("run folder is a file", TRAIN, "runs/new", "check the path", "runs/new", file_in_place),
    # Meshes
    Case("no such run", "generate_mesh runs/nowhere", "runs/nowhere", "train one"),
    Case("folder of no run", "generate_mesh data", "data", "scripts/train.py"),
    Case("run not trained yet", "generate_mesh codes.yaml", "runs/codes", "scripts/train.py",
         "runs/codes", remove),
    Case("no checkpoint", MESH, "latest.pt", "train first", "runs/pictures/checkpoints", remove),
    Case("best checkpoint cut", MESH, "best.pt", "another checkpoint", BEST, cut),
    Case("best checkpoint is code", MESH, "best.pt", "another checkpoint", BEST, pickled_inside),
    Case("best checkpoint of another model", MESH, "best.pt", "configuration", BEST,
         in_checkpoint(lambda state: state["model"].update({"x": torch.zeros(1)}))),
    Case("configuration of the run empty", MESH, "config.yaml", "train again",
         "runs/pictures/config.yaml", empty),
    Case("configuration of the run misspelt", MESH, "config.yaml", "'training'",
         "runs/pictures/config.yaml", text("method: dvr\ntrainin: {}\n")),
    Case("resolution 100", f"{MESH} --resolution 100", "100", "power of two"),
    Case("resolution 0", f"{MESH} --resolution 0", "'resolution'", "greater than or equal"),
    Case("two faces", f"{MESH} --faces 2", "'faces'", "greater than or equal"),
    Case("unknown format", f"{MESH} --extension stl", "--extension", "choose from"),
    Case("no own pictures", f"{MESH} --images mine", "mine", "check the path"),
    Case("own folder without pictures", f"{MESH} --images runs", "runs", "png, jpg"),
    Case("own picture cut", f"{MESH} --images {OBJECT}/image", "0002.png", "again",
         f"{OBJECT}/image/0002.png", cut),
    Case("own pictures for codes", "generate_mesh runs/codes --images scene/image", "scene/image",
         "image encoder"),
    Case("meshes is a file", MESH, "meshes", "check the path", "runs/pictures/meshes",
         file_in_place),
    Case("data gone", MESH, "data", "data.path", "data", remove),
    Case("no run at all", "generate_mesh", "out", "name a run", "", nothing),
    # Scores
    Case("unknown split", f"{SCORE} --split exam", "exam.lst", "test"),
    Case("no views to score", f"{SCORE} --views 0", "--views", "at least 1"),
    Case("volume cut", SCORE, "points.npz", "again", f"{OBJECT}/points.npz", cut),
    Case("volume of two lengths", SCORE, "points.npz", "one per point", f"{OBJECT}/points.npz",
         in_arrays("occupancies", lambda inside: inside[1:])),
    Case("surface pickled", SCORE, "pointcloud.npz", "plain arrays", f"{OBJECT}/pointcloud.npz",
         lambda path: np.savez(path, points=np.array([None]), normals=np.array([None]))),
    Case("surface NaN", SCORE, "pointcloud.npz", "remove them", f"{OBJECT}/pointcloud.npz",
         in_arrays("points", lambda points: points * np.float32(np.nan))),
    Case("scores are a folder", SCORE, "evaluation.json", "check the path",
         "runs/pictures/evaluation.json", make_folder),
    Case("codes scored on others", "evaluate runs/codes --split one", "data.train_split", "--split",
         "data/chair/one.lst", text("sphere_1\n")),
    # Pictures
    Case("view beyond the last", f"{DRAW} --first-view 4", "--first-view 4", "0 to 3"),
    Case("negative view", f"{DRAW} --first-view -1", "--first-view -1", "0 to 3"),
    Case("no views to draw", f"{DRAW} --views 0", "--views", "at least 1"),
    Case("size of a word", f"{DRAW} --size big", "--size", "at least 1"),
    Case("unknown kind", f"{DRAW} --kinds shadow", "--kinds", "choose from"),
    Case("no such run to draw", "render runs/none", "runs/none", "train one"),
    Case("renders is a file", DRAW, "renders", "check the path", "runs/pictures/renders",
         file_in_place),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistakes_are_explained_and_nothing_is_lost(world, case, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    case.breaks(world / case.where)
    before = contents(world)
    outcome = run_script(*case.command.split())
    check_refusal(outcome, case.names, case.remedy)
    after = contents(world)
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after if "partial" in path]


def test_names_of_cases_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize(
    "command",
    [TRAIN, PICTURES_NEW, SCENE_NEW, DEPTH, RESUME, f"{MESH} --images {OBJECT}/image", SCORE,
     f"{DRAW} --views 1"],
)  # fmt: skip
def test_without_the_mistake_it_works(world, command) -> None:
    """Otherwise the cases above could be refused for a fault they share."""
    outcome = run_script(*command.split())
    assert outcome.code == 0, outcome.err
    assert "error:" not in outcome.err


def test_all_mistakes_of_a_configuration_come_at_once(world) -> None:
    outcome = run_script("train", "codes.yaml", "training.rays=x", "modle=1", "losses.rgb=-1")
    check_refusal(outcome, "'training.rays'", "did you mean 'model")
    assert "'losses.rgb'" in outcome.err


def test_a_mistake_is_told_alike_from_a_loading_process(world) -> None:
    """A worker's traceback would be part of the message."""
    cut(world / "data/chair/sphere_1/image/0001.png")
    outcome = run_script(*TRAIN.split(), "data.workers=1")
    check_refusal(outcome, "sphere_1/image/0001.png", "again")


class TestFullDisk:
    def fail(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @pytest.mark.parametrize(
        "command,names",
        [
            (TRAIN, "runs/new/training-"),  # the lock is the first file of a training
            (RESUME, "runs/codes/training-"),
            (SCORE, "evaluation.json"),
        ],
    )
    def test_files_are_whole_or_not_there(self, world, monkeypatch, command, names) -> None:
        before = contents(world)
        monkeypatch.setattr("common.training.run_folder.os.fsync", self.fail)
        check_refusal(run_script(*command.split()), names, "free some disk space")
        after = contents(world)
        assert {path: after.get(path) for path in before} == before
        assert not [path for path in after if "partial" in path]

    def test_a_checkpoint_that_does_not_fit_leaves_the_last(self, world, monkeypatch) -> None:
        old = (world / LATEST).read_bytes()
        monkeypatch.setattr("common.training.run_folder.torch.save", self.fail)
        outcome = run_script(*RESUME.split(), "training.checkpoint_every=6")
        check_refusal(outcome, "latest.pt", "free some disk space")
        assert (world / LATEST).read_bytes() == old
        assert not list(world.rglob("*.partial"))
        monkeypatch.undo()
        monkeypatch.chdir(world)
        again = run_script(*RESUME.split())
        assert again.code == 0 and "at iteration 4" in again.out

    def test_a_mesh_that_does_not_fit_is_not_there(self, world, monkeypatch) -> None:
        monkeypatch.setattr(os, "fsync", self.fail)
        outcome = run_script(*MESH.split())
        monkeypatch.undo()
        check_refusal(outcome, "sphere_0.ply", "free some disk space")
        assert not [path for path in (world / "runs/pictures/meshes").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "breaks,problem",
    [
        (remove, "there is no such mesh file"),
        (scribble, "not a readable .ply mesh"),
        (empty, "sphere_1.ply"),
        (cut, "sphere_1.ply"),
    ],
)
def test_a_broken_mesh_counts_as_a_failure_and_is_listed(world, breaks, problem) -> None:
    """One bad file of many must not cost the evaluation, nor be left out of its means."""
    assert run_script(*MESH.split()).code == 0
    breaks(world / "runs/pictures/meshes/chair/sphere_1.ply")
    outcome = run_script(*SCORE.split())
    assert outcome.code == 0 and "Traceback" not in outcome.err
    assert "1 meshes count as failures" in outcome.err and problem in outcome.err
    result = json.loads((world / "runs/pictures/evaluation.json").read_text())
    good, bad = result["items"]
    assert "mesh_problem" not in good and problem in bad["mesh_problem"]
    assert bad["chamfer_l1"] == pytest.approx(3**0.5) and bad["f_score"] == 0
    mean = (good["chamfer_l1"] + bad["chamfer_l1"]) / 2
    assert result["mesh"]["chamfer_l1"] == pytest.approx(mean)


def test_a_newer_key_in_a_runs_configuration_is_named(world) -> None:
    """A run of a later version says which of its keys is not known here."""
    path = world / "runs/pictures/config.yaml"
    content = yaml.safe_load(path.read_text())
    content["training"]["warmup_shape"] = "linear"
    path.write_text(yaml.safe_dump(content))
    check_refusal(run_script(*MESH.split()), "config.yaml", "'training.warmup'")


def test_weights_that_are_gone_are_not_needed_again(world) -> None:
    """A checkpoint has all the weights; the ImageNet file served the first step alone."""
    from common.fields.encoders import ResNetFeatures

    torch.save(ResNetFeatures("resnet18", 4).state_dict(), world / "w.pth")
    encoder = "model.encoder={kind: resnet18, weights: w.pth, width: 4}"
    assert run_script(*TRAIN.split(), encoder, "data.input.size=64").code == 0
    (world / "w.pth").unlink()
    outcome = run_script("render", "runs/new", "--objects", "1", "--views", "1")
    assert outcome.code == 0, outcome.err

"""The command lines from training to pictures, on spheres of which everything is known."""

import csv
import json
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
import yaml
from PIL import Image

from common.config import validate
from common.data.exr import read_exr
from common.training.processes import Process
from dvr.config import DVRConfig
from dvr.experiment import train_experiment
from tests.make_collection import (
    SCENE_RADIUS,
    SCENE_SCALE,
    SCENE_SHIFT,
    sphere_depth,
    write_tiny_collection,
    write_tiny_scene,
)
from tests.make_idr import tiny_idr_settings
from tests.make_run import PICTURES, SCENE, merged, run_script, tiny_settings, write_settings

ALONE = Process(0, 1, torch.device("cpu"))
# So slow that the field stays about the ball it starts as, of radius 0.3.
STILL = {"model": {"hidden": 64}, "training": {"learning_rate": 1e-6}}
KINDS = ("colour", "depth", "mask", "normal")


def trained(folder: Path, settings: dict) -> Path:
    train_experiment(validate(DVRConfig, merged(settings, STILL), "test"), ALONE)
    return folder


@pytest.fixture(scope="module")
def collection_run(tmp_path_factory) -> Path:
    """An image encoder's run, in a folder whose name is hard."""
    root = tmp_path_factory.mktemp("with space ü 物")
    data = write_tiny_collection(root / "the data")
    settings = merged(tiny_settings(data, root / "the run"), PICTURES)
    return trained(root / "the run", settings)


@pytest.fixture(scope="module")
def scene_run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scene")
    data = write_tiny_scene(root / "scene")
    settings = merged(tiny_settings(data, root / "run"), SCENE)
    return trained(root / "run", settings)


@pytest.fixture(scope="module")
def learnt_sphere(tmp_path_factory) -> Path:
    """An IDR run whose surface is still the first sphere, of 0.6 in the unit sphere."""
    root = tmp_path_factory.mktemp("idr with ü")
    data = write_tiny_scene(root / "the ball", views=8)
    config = write_settings(root / "c.yaml", tiny_idr_settings(data, root / "run"))
    outcome = run_script("train", config)
    assert outcome.code == 0, outcome.err
    return root / "run"


@pytest.fixture
def idr_run(learnt_sphere, tmp_path) -> Path:
    return Path(shutil.copytree(learnt_sphere, tmp_path / "idr run"))


@pytest.fixture
def run(collection_run, tmp_path) -> Path:
    """The same, to be written to."""
    return Path(shutil.copytree(collection_run, tmp_path / "a run ü"))


@pytest.fixture(scope="module")
def scored(collection_run, tmp_path_factory) -> Path:
    """With meshes and scores."""
    run = Path(shutil.copytree(collection_run, tmp_path_factory.mktemp("scored") / "run"))
    assert run_script("generate_mesh", run).code == 0
    assert run_script("evaluate", run, "--baselines").code == 0
    return run


@pytest.fixture
def scene(scene_run, tmp_path) -> Path:
    return Path(shutil.copytree(scene_run, tmp_path / "scene run"))


def read_evaluation(run: Path) -> dict:
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads((run / "evaluation.json").read_text(), parse_constant=refuse)


class TestWholeWay:
    def test_from_a_collection_to_pictures(self, tmp_path) -> None:
        """Every script finds what the one before left, and ends with 0."""
        root = tmp_path / "Möbel und mehr"
        root.mkdir()
        settings = tiny_settings(write_tiny_collection(root / "data"), root / "run")
        config = write_settings(root / "my config.yaml", merged(merged(settings, PICTURES), STILL))
        for name, *arguments in [
            ("train", config),
            ("generate_mesh", root / "run"),
            ("evaluate", root / "run", "--baselines"),
            ("render", root / "run", "--objects", "1", "--views", "1"),
        ]:
            outcome = run_script(name, *arguments)
            assert outcome.code == 0, outcome.err
            assert "Traceback" not in outcome.err
        result = read_evaluation(root / "run")
        assert result["mesh"]["chamfer_l1"] < 0.2  # meshes were found: a failure counts as 1.7
        assert len(list((root / "run/meshes").rglob("*.ply"))) == 3
        assert len(list((root / "run/renders").rglob("*.png"))) == 4

    def test_a_configuration_means_its_run(self, run, tmp_path) -> None:
        config = write_settings(
            tmp_path / "c.yaml", {"method": "dvr", "training": {"out_dir": str(run)}}
        )
        outcome = run_script("render", config, "--objects", "1", "--views", "1")
        assert outcome.code == 0
        assert outcome.out.startswith(f"run {run}\n")

    def test_left_out_it_is_the_newest_under_out(self, run, tmp_path, monkeypatch):
        shutil.copytree(run, tmp_path / "here/out/mine")
        monkeypatch.chdir(tmp_path / "here")
        outcome = run_script("render", "--objects", "1", "--views", "1")
        assert outcome.code == 0
        assert outcome.out.startswith("run out/mine\n")

    @pytest.mark.parametrize(
        "name", ["train", "generate_mesh", "evaluate", "render", "transfer_appearance"]
    )
    def test_help_explains(self, name) -> None:
        outcome = run_script(name, "--help")
        assert outcome.code == 0
        assert f"python scripts/{name}.py" in outcome.out


class TestMeshes:
    def test_they_are_closed_coloured_and_in_the_cube(self, scored) -> None:
        paths = sorted((scored / "meshes").rglob("*.*"))
        assert [path.relative_to(scored / "meshes").as_posix() for path in paths] == [
            f"chair/sphere_{i}.ply" for i in range(3)
        ]
        for path in paths:
            mesh = trimesh.load_mesh(path)
            assert mesh.is_watertight and mesh.volume > 0
            assert mesh.visual.kind == "vertex"
            assert np.abs(mesh.vertices).max() <= 0.5
            assert (mesh.volume * 3 / (4 * np.pi)) ** (1 / 3) == pytest.approx(0.3, rel=0.2)

    def test_a_scenes_is_in_the_units_of_its_cameras(self, scene) -> None:
        """The cube's ball of 0.3 has radius 0.6 in the unit sphere, 1.8 in the world."""
        assert run_script("generate_mesh", scene).code == 0
        mesh = trimesh.load_mesh(scene / "meshes/scene/scene.ply")
        assert mesh.is_watertight and mesh.volume > 0
        radius = (mesh.volume * 3 / (4 * np.pi)) ** (1 / 3)
        assert radius == pytest.approx(0.3 * 2 * SCENE_SCALE, rel=0.2)
        np.testing.assert_allclose(mesh.center_mass, SCENE_SHIFT, atol=0.2 * SCENE_SCALE)

    @pytest.mark.parametrize("extension", ["obj", "glb", "off"])
    def test_other_formats_hold_the_same(self, scene, extension) -> None:
        for kind in ("ply", extension):
            assert run_script("generate_mesh", scene, "--extension", kind).code == 0
        first, second = (
            trimesh.load_mesh(scene / f"meshes/scene/scene.{kind}") for kind in ("ply", extension)
        )
        assert second.volume == pytest.approx(first.volume, rel=1e-5)
        assert second.is_watertight

    def test_fewer_faces_and_finer_grids_as_asked(self, scene) -> None:
        path = scene / "meshes/scene/scene.ply"
        faces = []
        for options in (["--resolution", "16"], ["--resolution", "64"], ["--faces", "100"]):
            assert run_script("generate_mesh", scene, *options).code == 0
            faces.append(len(trimesh.load_mesh(path).faces))
        assert faces[1] > 8 * faces[0]
        assert faces[2] <= 100

    def test_own_pictures_of_any_shape_and_kind(self, run, tmp_path) -> None:
        own = tmp_path / "my pictures"
        own.mkdir()
        noise = np.random.default_rng(0).integers(0, 255, (40, 90, 4), dtype=np.uint8)
        Image.fromarray(noise).save(own / "wide see-through.png")
        Image.fromarray(noise[:, :30, :3]).save(own / "tall.JPG", format="JPEG")
        Image.fromarray(noise[..., 0]).save(own / "grey.png")
        (own / "notes.txt").write_text("not a picture")
        outcome = run_script("generate_mesh", run, "--images", own)
        assert outcome.code == 0
        names = {path.name for path in (run / "meshes/images").iterdir()}
        assert names == {"wide see-through.ply", "tall.ply", "grey.ply"}
        assert trimesh.load_mesh(run / "meshes/images/tall.ply").is_watertight

    def test_a_field_without_surface_leaves_no_mesh(self, scene) -> None:
        """Neither an empty file nor the one of an earlier state, and it says so."""
        assert run_script("generate_mesh", scene).code == 0
        path = scene / "checkpoints/best.pt"
        state = torch.load(path, weights_only=True)
        state["model"]["decoder.fc_out.weight"][0] = 0
        state["model"]["decoder.fc_out.bias"][0] = -1
        torch.save(state, path)
        outcome = run_script("generate_mesh", scene)
        assert outcome.code == 0
        assert "1 without a surface: scene/scene" in outcome.err
        assert not list((scene / "meshes").rglob("*.ply"))


class TestEvaluation:
    KEYS = ["method", "step", "seconds", "held_out", "training", "textured", "mesh",
            "categories", "baselines", "items"]  # fmt: skip

    def test_it_has_the_agreed_keys_and_names(self, scored) -> None:
        result = read_evaluation(scored)
        assert list(result) == self.KEYS
        assert result["method"] == "dvr" and result["step"] == 4 and result["seconds"] > 0
        assert set(result["held_out"]) == {"psnr", "psnr_whole", "ssim", "mask_iou"}
        assert {"volumetric_iou", "chamfer_l1", "accuracy", "completeness", "f_score",
                "normal_consistency"} <= set(result["mesh"])  # fmt: skip
        assert [item["name"] for item in result["items"]] == [f"sphere_{i}" for i in range(3)]
        # A collection's test pictures are of other objects than the training's.
        assert result["training"] == {}

    def test_means_are_those_of_the_items(self, scored) -> None:
        result = read_evaluation(scored)
        for name, value in (result["held_out"] | result["mesh"]).items():
            assert value == pytest.approx(np.mean([item[name] for item in result["items"]]))
        assert result["categories"]["chair"]["f_score"] == result["mesh"]["f_score"]

    def test_retrieval_finds_the_object_itself(self, scored) -> None:
        """Test and training objects are the same here, so it is exact; a mean shape is not."""
        baselines = read_evaluation(scored)["baselines"]
        assert set(baselines) == {"retrieval_silhouette", "retrieval_colour", "mean_shape"}
        for name in ("retrieval_silhouette", "retrieval_colour"):
            assert baselines[name]["volumetric_iou"] == 1
            assert baselines[name]["chamfer_l1"] < 1e-6
        # Balls of 0.25, 0.3 and 0.35 against that of 0.3: (0.25 / 0.3)^3, 1 and (0.3 / 0.35)^3.
        # Some 100 of 1000 random points lie inside each, so 0.736 is met to within 0.1.
        assert baselines["mean_shape"]["volumetric_iou"] == pytest.approx(0.736, abs=0.1)

    def test_twice_the_same_to_the_last_byte(self, scored) -> None:
        files = [scored / "evaluation.json", scored / "evaluation.csv"]
        first = [file.read_bytes() for file in files]
        outcome = run_script("evaluate", scored, "--baselines")
        assert outcome.code == 0
        assert [file.read_bytes() for file in files] == first

    def test_the_table_holds_the_same_numbers(self, scored) -> None:
        rows = list(csv.DictReader((scored / "evaluation.csv").open(encoding="utf-8")))
        items = read_evaluation(scored)["items"]
        assert [row["name"] for row in rows] == [item["name"] for item in items]
        assert [float(row["psnr"]) for row in rows] == [item["psnr"] for item in items]
        out = run_script("evaluate", scored).out
        head, ours, *_ = out.splitlines()[1:]
        place = head.split().index("volumetric_iou")
        assert ours.startswith("this run")
        mean = read_evaluation(scored)["mesh"]["volumetric_iou"]
        assert ours.removeprefix("this run").split()[place] == f"{mean:.4f}"

    def test_a_ball_is_scored_as_one(self, scored) -> None:
        """The model is about the ball of radius r it starts as: IoU min^3 / max^3 with truth."""
        mesh = trimesh.load_mesh(scored / "meshes/chair/sphere_1.ply")
        radius = (mesh.volume * 3 / (4 * np.pi)) ** (1 / 3)
        item = read_evaluation(scored)["items"][1]  # true radius 0.3
        iou = (min(radius, 0.3) / max(radius, 0.3)) ** 3
        # Its ball is uneven by a tenth, which costs three tenths of the volume at most.
        assert item["volumetric_iou"] == pytest.approx(iou, abs=0.25)
        assert item["chamfer_l1"] < 0.06

    def test_without_meshes_every_one_is_a_failure(self, run) -> None:
        outcome = run_script("evaluate", run)
        assert outcome.code == 0
        assert "3 meshes count as failures" in outcome.err
        assert "sphere_0.ply" in outcome.err
        result = read_evaluation(run)
        assert result["mesh"]["chamfer_l1"] == pytest.approx(3**0.5)
        assert result["mesh"]["f_score"] == 0
        assert all("sphere_" in item["mesh_problem"] for item in result["items"])

    def test_a_scenes_views_are_scored_apart(self, scene) -> None:
        """Views 0 and 3 of six are held out; what is trained on is reported by another name."""
        assert run_script("evaluate", scene).code == 0
        result = read_evaluation(scene)
        assert set(result["training"]) == set(result["held_out"]) == {
            "psnr", "psnr_whole", "ssim", "mask_iou",
        }  # fmt: skip
        assert result["training"] != result["held_out"]
        assert 0.5 < result["held_out"]["mask_iou"] <= 1

    def test_nothing_is_called_held_out_that_was_trained_on(self, scene) -> None:
        config = scene / "config.yaml"
        config.write_text(config.read_text().replace("holdout_every: 3", "holdout_every: 0"))
        assert run_script("evaluate", scene).code == 0
        result = read_evaluation(scene)
        assert result["held_out"] == {}
        assert result["training"]["psnr"] > 0


class TestPictures:
    def test_numbered_pictures_of_every_kind_in_the_datas_size(self, run) -> None:
        assert run_script("render", run, "--objects", "2", "--views", "3").code == 0
        folder = run / "renders/chair"
        assert sorted(path.name for path in folder.iterdir()) == ["sphere_0", "sphere_1"]
        for kind in KINDS:
            files = sorted((folder / "sphere_0" / kind).iterdir())
            assert [file.name for file in files] == ["0000.png", "0001.png", "0002.png"]
            assert all(imageio.imread(file).shape == (16, 16, 3) for file in files)
        mask = imageio.imread(folder / "sphere_0/mask/0000.png")
        assert set(np.unique(mask)) == {0, 255}
        # White around: what the mask leaves out has no colour.
        colour = imageio.imread(folder / "sphere_0/colour/0000.png")
        assert (colour[mask[..., 0] == 0] == 255).all()

    def test_depth_is_camera_z_of_the_ball(self, run) -> None:
        """About that of a ball of 0.3 from a camera at 2, in 64 pixels; infinite beside it."""
        options = ["--objects", "1", "--views", "1", "--size", "64", "--kinds", "mask"]
        assert run_script("render", run, *options, "--float-depth").code == 0
        depth = read_exr(run / "renders/chair/sphere_0/float_depth/0000.exr")
        assert depth.shape == (64, 64)
        mask = imageio.imread(run / "renders/chair/sphere_0/mask/0000.png")[..., 0] > 0
        assert np.array_equal(np.isfinite(depth), mask)
        # Pixels of 16 become 64: u' = 4 u + 1.5.
        focal = 2.1875 * 7.5 * 4
        intrinsics = np.array([[focal, 0, 31.5], [0, focal, 31.5], [0, 0, 1]])
        camera = np.eye(4)
        camera[2, 3] = 2
        true = sphere_depth(intrinsics, camera, 0.3, 64)
        middle = np.s_[28:36, 28:36]
        np.testing.assert_allclose(depth[middle], true[middle], atol=0.06)

    def test_an_orbit_is_a_film(self, run) -> None:
        options = ["--objects", "1", "--orbit", "5", "--format", "gif", "--kinds", "normal"]
        assert run_script("render", run, *options).code == 0
        film = run / "renders/chair/sphere_0/orbit_normal.gif"
        assert imageio.imread(film, index=None).shape[:3] == (5, 16, 16)
        assert [path.name for path in film.parent.iterdir()] == ["orbit_normal.gif"]

    def test_one_picture_of_many_objects(self, run) -> None:
        """Rows of: input, three times prediction and normals, three truths; all 16 x 16."""
        assert run_script("render", run, "--contact-sheet").code == 0
        sheet = imageio.imread(run / "contact_sheet.png")
        assert sheet.shape == (3 * 16, (1 + 2 * 3 + 3) * 16, 3)

    def test_a_scenes_held_out_views_are_drawn(self, scene) -> None:
        assert run_script("render", scene, "--views", "9").code == 0
        folder = scene / "renders/scene/scene"
        assert len(list((folder / "colour").iterdir())) == 2
        assert imageio.imread(folder / "colour/0000.png").shape == (16, 16, 3)
        # The whole object is in the picture, and the ball is where the photograph has it.
        mask = imageio.imread(folder / "mask/0000.png")[..., 0] > 0
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        area = mask.sum() * (24 / 16) ** 2
        expected = np.pi * (1.6 * 24 * SCENE_RADIUS / (16 - SCENE_RADIUS**2) ** 0.5) ** 2
        assert area == pytest.approx(expected, rel=0.35)

    def test_training_views_are_drawn_where_asked(self, scene) -> None:
        assert run_script("render", scene, "--views", "9", "--training-views").code == 0
        assert len(list((scene / "renders/scene/scene/training_colour").iterdir())) == 4

    def test_a_collection_has_no_training_views_to_draw(self, run) -> None:
        outcome = run_script("render", run, "--training-views")
        assert outcome.code == 2
        assert "--training-views" in outcome.err and "collection" in outcome.err

    def test_a_shorter_series_leaves_none_of_a_longer_one(self, run) -> None:
        for views in ("4", "2"):
            options = ["--objects", "1", "--views", views, "--kinds", "colour"]
            assert run_script("render", run, *options).code == 0
        folder = run / "renders/chair/sphere_0/colour"
        assert sorted(path.name for path in folder.iterdir()) == ["0000.png", "0001.png"]


class TestSceneByIDR:
    def test_the_mesh_is_the_sphere_in_the_units_of_its_cameras(self, idr_run) -> None:
        assert run_script("generate_mesh", idr_run).code == 0
        mesh = trimesh.load_mesh(idr_run / "meshes/the ball.ply")
        assert mesh.is_watertight and mesh.visual.kind == "vertex"
        radius = (mesh.volume * 3 / (4 * np.pi)) ** (1 / 3)
        # The first sphere is calibrated to 2 %; 32 cells across lose less than another.
        assert radius == pytest.approx(SCENE_RADIUS * SCENE_SCALE, rel=0.03)
        np.testing.assert_allclose(mesh.center_mass, SCENE_SHIFT, atol=0.03 * SCENE_SCALE)

    def test_it_can_be_finer_simpler_and_of_another_format(self, idr_run) -> None:
        options = ["--resolution", "64", "--faces", "500", "--extension", "obj"]
        assert run_script("generate_mesh", idr_run, *options).code == 0
        assert len(trimesh.load_mesh(idr_run / "meshes/the ball.obj").faces) <= 500

    def test_cameras_are_written_when_asked(self, idr_run) -> None:
        outcome = run_script("generate_mesh", idr_run, "--export-cameras")
        assert outcome.code == 0
        assert "5 training cameras" in outcome.out
        assert sorted(path.name for path in (idr_run / "cameras").iterdir()) == [
            "cameras.npz", "colmap", "the ball_par.txt", "transforms.json",
        ]  # fmt: skip

    def test_scores_and_their_table(self, idr_run) -> None:
        outcome = run_script("evaluate", idr_run)
        assert outcome.code == 0
        result = read_evaluation(idr_run)
        assert result["method"] == "idr" and result["step"] == 2
        # Within 2 % of the true radius, and pixels of a 16th of it.
        assert result["held_out"]["mask_iou"] > 0.9
        lines = outcome.out.splitlines()[1:]
        assert [line.split("  ")[0] for line in lines[1:3]] == ["this run", "training views"]
        assert f"{result['held_out']['psnr']:.4f}" in lines[1]
        rows = list(csv.DictReader((idr_run / "evaluation.csv").open(encoding="utf-8")))
        assert [row["set"] for row in rows] == 3 * ["held_out"] + 5 * ["training"]

    def test_a_mesh_of_another_format_than_configured_is_scored(self, idr_run, tmp_path) -> None:
        data = Path(shutil.copytree(scene_of(idr_run), tmp_path / "with truth"))
        normals = np.random.default_rng(0).normal(size=(5000, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        points = SCENE_RADIUS * SCENE_SCALE * normals + SCENE_SHIFT
        np.savez(data / "pointcloud.npz", points=points, normals=normals)
        config = idr_run / "config.yaml"
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        write_settings(config, merged(settings, {"data": {"path": str(data)}}))
        outcome = run_script("evaluate", idr_run, "--views", "1")
        assert "1 meshes count as failures" in outcome.err
        assert run_script("generate_mesh", idr_run, "--extension", "glb").code == 0
        assert run_script("evaluate", idr_run, "--views", "1").code == 0
        result = read_evaluation(idr_run)
        assert result["mesh"]["chamfer_l1_relative"] < 0.02

    def test_views_films_and_depth(self, idr_run) -> None:
        options = ["--views", "2", "--float-depth"]
        assert run_script("render", idr_run, *options).code == 0
        folder = idr_run / "renders/the ball"
        assert sorted(path.name for path in folder.iterdir()) == sorted([*KINDS, "float_depth"])
        depth = read_exr(folder / "float_depth/0001.exr")
        mask = imageio.imread(folder / "mask/0001.png")[..., 0] > 0
        assert np.array_equal(np.isfinite(depth), mask)
        # The sphere of 0.6 before a camera at 4, seen in its middle.
        assert depth.min() == pytest.approx(4 - SCENE_RADIUS, abs=0.03)
        options = ["--orbit", "3", "--format", "mp4", "--kinds", "colour", "--size", "32"]
        assert run_script("render", idr_run, *options).code == 0
        film = imageio.imread(folder / "orbit_colour.mp4", plugin="FFMPEG", index=None)
        assert film.shape == (3, 32, 32, 3)

    def test_one_picture_of_the_held_out_views(self, idr_run) -> None:
        assert run_script("render", idr_run, "--contact-sheet").code == 0
        assert imageio.imread(idr_run / "contact_sheet.png").shape == (3 * 24, 3 * 24, 3)

    def test_appearance_moves_to_another_shape(self, idr_run, learnt_sphere) -> None:
        options = ["--frames", "4", "--size", "16", "--format", "gif"]
        assert run_script("transfer_appearance", idr_run, learnt_sphere, *options).code == 0
        out = idr_run / "renders/appearance_of_run"
        assert imageio.imread(out / "cameras_colour.gif", index=None).shape[:3] == (4, 16, 16)
        assert len(list((out / "cameras_colour").iterdir())) == 4

    def test_appearance_goes_where_it_is_told_and_round_an_orbit(self, idr_run, tmp_path) -> None:
        options = [tmp_path / "out", "--frames", "2", "--orbit", "--format", "png"]
        assert run_script("transfer_appearance", idr_run, idr_run, *options).code == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["orbit_colour"]

    def test_a_dvr_run_has_no_appearance_to_lend(self, idr_run, scene) -> None:
        outcome = run_script("transfer_appearance", idr_run, scene)
        assert outcome.code == 2
        assert f"{scene}: was trained with DVR" in outcome.err

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("generate_mesh", ["--images", "x"]),
            ("generate_mesh", ["--refinement-steps", "0"]),
            ("evaluate", ["--baselines"]),
            ("evaluate", ["--split", "val"]),
            ("render", ["--objects", "2"]),
        ],
    )
    def test_what_makes_sense_for_dvr_alone_is_refused(self, idr_run, name, options) -> None:
        outcome = run_script(name, idr_run, *options)
        assert outcome.code == 2
        assert f"{options[0]}: this run learnt one scene by IDR" in outcome.err
        assert "leave the option out" in outcome.err

    def test_what_makes_sense_for_idr_alone_is_refused(self, scene) -> None:
        outcome = run_script("generate_mesh", scene, "--export-cameras")
        assert outcome.code == 2
        assert "--export-cameras: DVR takes cameras as they are" in outcome.err


def scene_of(run: Path) -> Path:
    """The data that a run was learnt from."""
    return Path(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["path"])

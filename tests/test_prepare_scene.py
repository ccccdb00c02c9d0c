"""From sources of every format to scenes, through the command that people type."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common.data.scene_writer import write_pictures
from common.errors import UserError
from common.scenes.capture import Capture, Photograph
from common.scenes.cropping import crop_to_object
from common.scenes.development import Pictures
from common.scenes.formats.camera_export import (
    write_colmap_text,
    write_middlebury,
    write_transforms,
)
from common.scenes.object_sphere import object_sphere
from common.scenes.preparation import Preparation, check_replaceable, prepare
from common.scenes.scene import read_scene
from tests.make_run import run_script
from tests.test_preflight import UNLIKE, rendered

REAL = Path(__file__).parents[2] / "shared" / "data"
VIEWS = 10


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return rendered(UNLIKE, VIEWS)


def write_source(folder: Path, pictures: Pictures, kind: str) -> Path:
    """The pictures with their masks, and their cameras in one of the formats."""
    names = write_pictures(folder, pictures.images, pictures.masks.astype(np.uint8) * 255)
    images = [f"image/{name}" for name in names]
    height, width = pictures.masks.shape[1:]
    photographs = tuple(
        Photograph(folder / image, k, (width, height), pose)
        for image, k, pose in zip(
            images, pictures.intrinsics, pictures.world_from_camera, strict=True
        )
    )
    capture = Capture(folder, photographs)
    match kind:
        case "transforms":
            masks = [f"mask/{name}" for name in names]
            write_transforms(folder / "transforms.json", capture, images, masks)
        case "colmap":
            (folder / "image").rename(folder / "images")
            write_colmap_text(folder / "sparse" / "0", capture, names)
        case "middlebury":
            write_middlebury(folder / "thing_par.txt", capture, images)
        case "idr":
            matrices = {f"world_mat_{view}": p for view, p in enumerate(capture.projections)}
            np.savez(folder / "cameras.npz", **matrices)
    return folder


def edit_frames(file: Path, edit) -> None:
    document = json.loads(file.read_text())
    for frame in document["frames"]:
        frame["transform_matrix"] = edit(np.array(frame["transform_matrix"])).tolist()
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("kind", ["idr", "transforms", "colmap", "middlebury"])
def test_every_format_becomes_the_same_scene(tmp_path, pictures, kind) -> None:
    source = write_source(tmp_path / "source", pictures, kind)
    said: list[str] = []
    prepared = prepare(source, tmp_path / "scene", Preparation(), said.append)
    assert prepared.written and prepared.findings.good
    assert "cameras and masks agree" in prepared.verdict and "<html" in prepared.report.read_text()
    views, names = read_scene(tmp_path / "scene", frame="sphere")
    assert np.array_equal(views.masks.numpy(), pictures.masks)
    assert np.array_equal(views.images.numpy(), pictures.images)
    world = views.world_from_object.double().numpy()
    expected = pictures.projections @ world
    found = (
        views.cameras.intrinsics.double().numpy()
        @ np.linalg.inv(views.cameras.object_from_camera.double().numpy())[:, :3]
    )
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    np.testing.assert_allclose(found, expected / scale, rtol=1e-4, atol=1e-4)
    origin = yaml.safe_load((tmp_path / "scene" / "origin.yaml").read_text())
    assert len(origin["views"]) == len(names) == VIEWS


def test_the_command_names_the_mistake_and_its_remedy_mends_it(tmp_path, pictures) -> None:
    """As the README promises: exit code 2, the option, a report, and no scene yet."""
    source = write_source(tmp_path / "my photos", pictures, "transforms")
    edit_frames(source / "transforms.json", np.linalg.inv)
    out = tmp_path / "scene"
    refused = run_script("prepare_scene", source, out)
    assert refused.code == 2 and "--invert-poses" in refused.err
    assert "Traceback" not in refused.err
    assert (out / "report.html").exists() and not (out / "cameras.npz").exists()
    advice = re.search(r"run again with ([^;\n]+)", refused.err)
    assert advice is not None
    mended = run_script("prepare_scene", source, out, *advice[1].split())
    assert mended.code == 0 and "agree" in mended.out and (out / "cameras.npz").exists()
    insisted = run_script("prepare_scene", source, out, "--accept")
    assert insisted.code in (0, 2)  # written if any method could read it, or a sentence why not
    assert "Traceback" not in insisted.err


def test_exported_cameras_are_read_back(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "idr")
    wanted = Preparation(exports=("transforms", "colmap", "middlebury"))
    prepare(source, tmp_path / "scene", wanted, print)
    for kind in wanted.exports:
        prepare(tmp_path / "scene", tmp_path / kind, Preparation(format=kind), print)
        views, _ = read_scene(tmp_path / kind, frame="sphere")
        assert np.array_equal(views.masks.numpy(), pictures.masks)


def test_shrinking_and_cropping_keep_every_point_on_its_pixel(pictures) -> None:
    points = np.random.default_rng(0).normal(scale=0.1, size=(20, 3))
    cropped = crop_to_object(pictures)
    assert cropped.masks.shape[1] < pictures.masks.shape[1]
    assert cropped.masks.sum() == pictures.masks.sum()
    for view in range(VIEWS):
        marks = []
        for some in (pictures, cropped):
            x, y, z = some.projections[view] @ np.column_stack([points, np.ones(20)]).T
            marks.append((x / z, y / z))
        left, top = (float((a - b).mean()) for a, b in zip(*marks, strict=True))
        assert left == pytest.approx(round(left), abs=1e-6)
        height, width = cropped.masks.shape[1:]
        window = slice(round(top), round(top) + height), slice(round(left), round(left) + width)
        assert np.array_equal(pictures.images[view][window], cropped.images[view])


def test_shrunken_masks_and_cameras_still_agree(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "transforms")
    prepared = prepare(source, tmp_path / "scene", Preparation(shorter_side=40), print)
    assert prepared.written and prepared.findings.hull_iou > 0.97
    views, _ = read_scene(tmp_path / "scene", frame="sphere")
    assert min(views.masks.shape[1:]) == 40
    # What the photographs show in part has grey borders now.
    assert views.coverage is not None and ((views.coverage > 0) & (views.coverage < 255)).any()


def test_every_nth_photograph(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "colmap")
    prepare(source, tmp_path / "scene", Preparation(every=2), print)
    views, _ = read_scene(tmp_path / "scene", frame="sphere")
    assert np.array_equal(views.images.numpy(), pictures.images[::2])


def test_the_sphere_that_cameras_show_is_whole_in_every_picture(pictures) -> None:
    world_from_sphere = object_sphere("cameras", Capture(Path("x"), ()), pictures)
    around = np.random.default_rng(0).normal(size=(500, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    points = np.column_stack([around, np.ones(500)]) @ world_from_sphere.T
    x, y, z = np.moveaxis(pictures.projections @ points.T, 1, 0)
    height, width = pictures.masks.shape[1:]
    assert (np.abs(x / z - (width - 1) / 2) <= width / 2).all()
    assert (np.abs(y / z - (height - 1) / 2) <= height / 2).all()


def test_the_sphere_around_masks_holds_the_object(pictures) -> None:
    capture = Capture(Path("x"), ())
    world_from_sphere = object_sphere("masks", capture, pictures)
    grid = torch.cartesian_prod(*[torch.linspace(-0.5, 0.5, 41)] * 3)
    inside = grid[UNLIKE.distance(grid) < 0].double().numpy()
    local = (inside - world_from_sphere[:3, 3]) / world_from_sphere[0, 0]
    assert np.linalg.norm(local, axis=1).max() < 1
    with pytest.raises(UserError, match="scale_mat"):
        object_sphere("given", capture, pictures)
    with pytest.raises(UserError, match="sparse points"):
        object_sphere("points", capture, pictures)


def test_what_others_made_is_not_replaced(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "idr")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="another folder"):
        prepare(source, precious, Preparation(), print)
    assert (precious / "thesis.txt").read_text() == "all of it"
    with pytest.raises(UserError, match="another folder"):
        check_replaceable(source, source)
    prepare(source, tmp_path / "scene", Preparation(), print)
    with pytest.raises(UserError, match="was not prepared from"):
        check_replaceable(tmp_path / "scene", tmp_path / "elsewhere")


def test_pictures_of_other_sizes_are_named(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "transforms")
    Image.new("RGB", (112, 84)).resize((56, 42)).save(source / "image" / "003.png")
    Image.new("L", (56, 42)).save(source / "mask" / "003.png")
    with pytest.raises(UserError, match=r"003.png: 56 x 42 .* first image has 112 x 84"):
        prepare(source, tmp_path / "scene", Preparation(), print)


def test_grey_borders_of_masks_are_kept(tmp_path, pictures) -> None:
    source = write_source(tmp_path / "source", pictures, "idr")
    grey = np.array(Image.open(source / "mask" / "000.png"))
    grey[40, 50] = 100
    Image.fromarray(grey).save(source / "mask" / "000.png")
    prepare(source, tmp_path / "scene", Preparation(), print)
    views, _ = read_scene(tmp_path / "scene", frame="sphere")
    assert views.coverage is not None and views.coverage[0, 40, 50] == 100
    assert not views.masks[0, 40, 50]


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared test data")
@pytest.mark.parametrize(
    "name,views",
    [
        ("dtu_scan65_400x300", 49),
        ("middlebury_templeSparseRing_320x240", 16),
        ("nerf_synthetic_lego_200", 50),
    ],
)
def test_real_scenes_are_prepared_with_one_command_and_no_options(tmp_path, name, views) -> None:
    prepared = prepare(REAL / name, tmp_path / "scene", Preparation(), print)
    assert prepared.written and prepared.findings.good, prepared.verdict
    assert prepared.findings.hull_iou >= 0.94 and len(prepared.findings.views) == views
    read_scene(tmp_path / "scene", frame="cube")

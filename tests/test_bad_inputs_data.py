"""Every way in which data on disk is wrong gets one sentence: what, which file, what to do."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.collection import (
    CollectionFolders,
    ObjectEntry,
    list_objects,
    read_input_images,
    read_occupancy_points,
    read_surface_points,
    read_views,
)
from common.data.exr import read_exr
from common.data.images import list_images, read_image, read_input_image
from common.errors import UserError
from common.scenes.scene import read_scene, scene_kind
from tests.make_collection import (
    write_depth,
    write_tiny_collection,
    write_tiny_scene,
    write_tiny_transforms,
)

FOLDERS = CollectionFolders()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    write_tiny_collection(root / "collection", objects=2)
    write_tiny_scene(root / "scene")
    write_tiny_transforms(root / "transforms")
    return root


@pytest.fixture
def data(originals, tmp_path):
    """A fresh copy of a collection, a scene and a transforms folder, to be broken."""
    return Path(shutil.copytree(originals, tmp_path / "data"))


# --- ways to break a file -----------------------------------------------------------------------


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path):
    if path.is_dir():
        shutil.rmtree(path)
        path.mkdir()
    else:
        path.write_bytes(b"")


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def scribble(path):
    path.write_text("this is not what its name says\n" * 20)


def flip_bytes(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 - value for value in content[middle : middle + 40])
    path.write_bytes(bytes(content))


def enlarge(path):
    with Image.open(path) as image:
        larger = image.resize((image.width + 3, image.height))
    larger.save(path)


def claim_size(path, side):
    """A PNG of one pixel whose header promises side x side."""
    Image.new("L", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(bytes(content))


def edit_npz(change: Callable[[dict], object]):
    def edit(path):
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(path, **arrays)

    return edit


def set_key(key, value):
    return edit_npz(lambda arrays: arrays.update({key: np.asarray(value)}))


def drop_keys(*keys):
    return edit_npz(lambda arrays: [arrays.pop(key) for key in keys])


def change_key(key, function):
    return edit_npz(lambda arrays: arrays.update({key: function(arrays[key].copy())}))


def put(position, value):
    def change(array):
        array[position] = value
        return array

    return change


def change_all(name, function):
    def change(arrays):
        for key in list(arrays):
            if key.startswith(name):
                arrays[key] = function(arrays[key])

    return edit_npz(change)


def pickled(path):
    np.savez(path, world_mat_0=np.array([{"an": "object"}], dtype=object))


def edit_json(change: Callable[[dict], object]):
    def edit(path):
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def set_json(**values):
    return edit_json(lambda document: document.update(values))


def set_frame(**values):
    return edit_json(lambda document: document["frames"][2].update(values))


def drop_json(key):
    return edit_json(lambda document: document.pop(key))


def rename_without_zeros(folder):
    for number in range(12):
        shutil.copy(folder / "0000.png", folder / f"{number + 1}.png")
    for file in folder.glob("0*.png"):
        file.unlink()


def duplicate_as_jpg(path):
    Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))


def no_alpha(path):
    Image.open(path).convert("RGB").save(path)


def blacken_all(folder):
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            black = Image.new(image.mode, image.size)
        black.save(file)


def mirror(matrix):
    return np.diag([-1.0, 1, 1, 1]) @ matrix


# --- ways to read -------------------------------------------------------------------------------


def entry(data):
    return ObjectEntry("chair", "chair", "sphere_0", data / "collection/chair/sphere_0")


def views(**options):
    everything = {"with_depth": True, "with_hull_depth": True} | options
    return lambda data: read_views(entry(data), FOLDERS, **everything)


def objects(split: str | None = "train", categories: list[str] | None = None):
    return lambda data: list_objects(data / "collection", split, categories)


def scene(data):
    return read_scene(data / "scene", frame="sphere")


def transforms(data):
    return read_scene(data / "transforms", frame="cube")


def kind_of(folder):
    return lambda data: scene_kind(data / folder)


@dataclass(frozen=True)
class Case:
    """``breaks(data / where)``, then ``read(data)``: the message has ``names`` and ``remedy``."""

    name: str
    where: str
    breaks: Callable[[Path], object]
    read: Callable[[Path], object]
    names: str
    remedy: str


OBJECT = "collection/chair/sphere_0"
CAMERAS = f"{OBJECT}/cameras.npz"
LIST = "collection/chair/train.lst"
JSON = "transforms/transforms_train.json"
NAN = float("nan")

CASES = [
    # Pictures of a collection
    Case("image empty", f"{OBJECT}/image/0001.png", empty, views(), "0001.png", "replace"),
    Case("image cut", f"{OBJECT}/image/0001.png", cut, views(), "0001.png", "again"),
    Case("image corrupt", f"{OBJECT}/image/0001.png", flip_bytes, views(), "0001.png", "again"),
    Case("image is text", f"{OBJECT}/image/0002.png", scribble, views(), "0002.png", "convert"),
    Case("image of another size", f"{OBJECT}/image/0002.png", enlarge, views(), "0002.png",
         "resize"),
    Case("image missing", f"{OBJECT}/image/0003.png", remove, views(), "image: 3", "add or remove"),
    Case("image folder missing", f"{OBJECT}/image", remove, views(), "image", "check the path"),
    Case("image folder empty", f"{OBJECT}/image", empty, views(), "image", "put one per view"),
    Case("one view twice", f"{OBJECT}/image/0001.png", duplicate_as_jpg, views(), "0001.jpg",
         "remove"),
    Case("1.png ... 12.png", f"{OBJECT}/image", rename_without_zeros, views(), "image", "zeros"),
    Case("mask cut", f"{OBJECT}/mask/0001.png", cut, views(), "mask/0001.png", "again"),
    Case("mask of another size", f"{OBJECT}/mask/0000.png", enlarge, views(), "mask/0000",
         "resize"),
    Case("mask missing", f"{OBJECT}/mask/0000.png", remove, views(), "mask: 3", "add or remove"),
    Case("mask folder missing", f"{OBJECT}/mask", remove, views(), "mask", "check the path"),
    Case("input is a folder", f"{OBJECT}/image/9.png", Path.mkdir,
         lambda data: read_input_images(entry(data), FOLDERS, 8), "9.png", "copy or make"),
    # Depth maps
    Case("depth is text", f"{OBJECT}/depth/0001.exr", scribble, views(), "0001.exr", "convert"),
    Case("depth empty", f"{OBJECT}/depth/0001.exr", empty, views(), "0001.exr", "make it again"),
    Case("depth cut", f"{OBJECT}/depth/0001.exr", cut, views(), "0001.exr", "make it again"),
    Case("depth of another size", f"{OBJECT}/depth/0002.exr",
         lambda path: write_depth(path, np.ones((5, 16), np.float32)), views(),
         "0002.exr", "resize"),
    Case("depth missing", f"{OBJECT}/depth/0002.exr", remove, views(), "depth: 3", "add or remove"),
    Case("no hull depth", f"{OBJECT}/visual_hull_depth", remove, views(), "visual_hull", "check"),
    Case("exr missing", "x", lambda path: None, lambda data: read_exr(data / "x.exr"), "x.exr",
         "path"),
    # Cameras of a collection
    Case("cameras missing", CAMERAS, remove, views(), "cameras.npz", "make it"),
    Case("cameras empty", CAMERAS, empty, views(), "cameras.npz", "make it again"),
    Case("cameras cut", CAMERAS, cut, views(), "cameras.npz", "make it again"),
    Case("cameras corrupt", CAMERAS, flip_bytes, views(), "cameras.npz", "make it again"),
    Case("cameras are text", CAMERAS, scribble, views(), "cameras.npz", "make it again"),
    Case("cameras pickled", CAMERAS, pickled, views(), "cameras.npz", "add camera_mat_0"),
    Case("a camera pickled", CAMERAS, set_key("world_mat_1", np.array([None])), views(),
         "cameras.npz", "plain arrays"),
    Case("no world_mat", CAMERAS, drop_keys(*(f"world_mat_{i}" for i in range(4))), views(),
         "world_mat_0", "add"),
    Case("a gap in the keys", CAMERAS, drop_keys("world_mat_2"), views(), "world_mat_2", "gaps"),
    Case("one camera too few", CAMERAS,
         drop_keys("world_mat_3", "camera_mat_3", "scale_mat_3"), views(),
         "cameras.npz: cameras of 3", "add"),
    Case("scale_mat for some", CAMERAS, drop_keys("scale_mat_3"), views(), "scale_mat_3", "gaps"),
    Case("NaN camera", CAMERAS, change_key("world_mat_1", put((0, 3), NAN)), views(),
         "world_mat_1", "estimate"),
    Case("singular camera", CAMERAS, set_key("camera_mat_1", np.diag([0.0, 1, 1, 1])), views(),
         "view 1", "estimate"),
    Case("zero camera", CAMERAS, set_key("camera_mat_1", np.diag([0.0, 0, 0, 1])), views(),
         "view 1", "estimate"),
    Case("3x3 camera", CAMERAS, set_key("camera_mat_1", np.eye(3)), views(), "camera_mat_1", "4x4"),
    Case("camera of text", CAMERAS, set_key("camera_mat_1", np.full((4, 4), "x")), views(),
         "camera_mat_1", "numbers"),
    Case("transposed", CAMERAS, change_all("world_mat", np.transpose), views(), "world_mat_0",
         "transposed"),
    Case("inverted", CAMERAS, change_all("world_mat", np.linalg.inv), views(), "view 0",
         "inverted"),
    Case("mirrored", CAMERAS, change_all("world_mat", mirror), views(), "view 0", "mirrored"),
    Case("looking away", CAMERAS,
         change_key("world_mat_2", lambda m: np.diag([-1.0, 1, -1, 1]) @ m), views(), "view 2",
         "inverted"),
    Case("object beside the image", CAMERAS, change_key("world_mat_2", put((0, 3), 5.0)), views(),
         "view 2", "scale_mat"),
    Case("rotation is none", CAMERAS,
         change_key("world_mat_2", lambda m: m @ np.diag([1.0, 8, 1, 1])), views(), "view 2",
         "rotation"),
    Case("frames differ", CAMERAS, set_key("scale_mat_2", np.diag([2.0, 2, 2, 1])), views(),
         "scale_mat", "same"),
    Case("stretched frame", CAMERAS, change_all("scale_mat", lambda m: m @ np.diag([1.0, 2, 1, 1])),
         views(), "scale_mat_0", "same scale"),
    Case("frame far too small", CAMERAS,
         change_all("scale_mat", lambda m: m @ np.diag([0.02, 0.02, 0.02, 1])), views(),
         "cameras.npz", "scale_mat"),
    # What is asked of it
    Case("view out of range", OBJECT, lambda path: None, views(views=[0, 4]), "view 4", "0 to 3"),
    Case("negative view", OBJECT, lambda path: None, views(views=[-1]), "view -1", "0 to 3"),
    Case("all views ignored", OBJECT, lambda path: None, views(ignore_views=[0, 1, 2, 3]),
         "sphere_0", "ignore fewer"),
    Case("size zero", OBJECT, lambda path: None, views(image_size=0), "size 0", "at least 1"),
    Case("size negative", OBJECT, lambda path: None, views(image_size=-8), "size -8", "at least 1"),
    Case("input size zero", OBJECT, lambda path: None,
         lambda data: read_input_image(data / OBJECT / "image/0000.png", 0), "size 0",
         "at least 1"),
    # Lists
    Case("no collection", "collection", remove, objects(), "collection", "data.path"),
    Case("collection empty", "collection", empty, objects(), "collection", "<category>"),
    Case("category unknown", "", lambda path: None, objects(categories=["chiar"]), "chiar",
         "chair"),
    Case("split missing", LIST, remove, objects(), "train.lst", "test, val"),
    Case("split empty", LIST, empty, objects(), "train.lst", "one object per line"),
    Case("listed object missing", f"{OBJECT}", remove, objects(), "sphere_0", "remove them"),
    Case("listed twice", LIST, lambda path: path.write_text("sphere_1\nsphere_1\n"), objects(),
         "sphere_1", "repetition"),
    Case("list is no text", LIST, lambda path: path.write_bytes(b"\xff\xfe\x80"), objects(),
         "train.lst", "plain text"),
    Case("no objects", "collection/lamp", Path.mkdir, objects(split=None), "lamp", "fill"),
    Case("metadata malformed", "collection/metadata.yaml", lambda path: path.write_text("{[:"),
         objects(), "metadata.yaml", "mend"),
    Case("metadata a list", "collection/metadata.yaml", lambda path: path.write_text("- a\n- b\n"),
         objects(), "metadata.yaml", "mend"),
    # Truth
    Case("points and occupancies", f"{OBJECT}/points.npz", change_key("occupancies",
         lambda o: o[:-1]),
         lambda data: read_occupancy_points(entry(data)), "points.npz", "one per point"),
    Case("NaN points", f"{OBJECT}/points.npz", change_key("points", put((3, 1), NAN)),
         lambda data: read_occupancy_points(entry(data)), "points.npz", "remove them"),
    Case("no occupancies", f"{OBJECT}/points.npz", drop_keys("occupancies"),
         lambda data: read_occupancy_points(entry(data)), "occupancies", "add"),
    Case("points cut", f"{OBJECT}/points.npz", cut,
         lambda data: read_occupancy_points(entry(data)), "points.npz", "again"),
    Case("points pickled", f"{OBJECT}/points.npz", set_key("points", np.array([None, "x"])),
         lambda data: read_occupancy_points(entry(data)), "points.npz", "plain arrays"),
    Case("flat points", f"{OBJECT}/points.npz", change_key("points", lambda p: p[:, :2]),
         lambda data: read_occupancy_points(entry(data)), "points.npz", "(N, 3)"),
    Case("normals too few", f"{OBJECT}/pointcloud.npz", change_key("normals", lambda n: n[1:]),
         lambda data: read_surface_points(entry(data)), "pointcloud.npz", "one per point"),
    Case("no surface points", f"{OBJECT}/pointcloud.npz",
         edit_npz(lambda a: a.update(points=a["points"][:0], normals=a["normals"][:0])),
         lambda data: read_surface_points(entry(data)), "pointcloud.npz", "(N, 3)"),
    Case("visibility of no point", f"{OBJECT}/pcl.npz",
         lambda path: np.savez(path, points=np.zeros((3, 3)),
                               **{f"visibility_{i:04d}": np.array([0, 7]) for i in range(4)}),
         views(), "pcl.npz", "again"),
    Case("visibility missing", f"{OBJECT}/pcl.npz",
         lambda path: np.savez(path, points=np.zeros((3, 3))), views(), "visibility_0000", "add"),
    # IDR scenes
    Case("no scene", "scene", remove, scene, "scene", "data.path"),
    Case("nothing in it", "scene", empty, scene, "scene", "prepare_scene.py"),
    Case("no pictures", "scene/image", remove, scene, "image, rgb", "add or rename"),
    Case("no masks", "scene/mask", remove, scene, "no mask", "prepare_scene.py"),
    Case("a mask too few", "scene/mask/002.png", remove, scene, "mask: 5", "add or remove"),
    Case("masks black", "scene/mask", blacken_all, scene, "mask", "white"),
    Case("scene image cut", "scene/image/000004.png", cut, scene, "000004.png", "again"),
    Case("scene camera NaN", "scene/cameras.npz", change_key("world_mat_3", put((1, 1), NAN)),
         scene, "world_mat_3", "estimate"),
    Case("sphere too small", "scene/cameras.npz",
         change_all("scale_mat", lambda m: m @ np.diag([0.05, 0.05, 0.05, 1])), scene,
         "cameras.npz", "scale_mat"),
    Case("a collection is no scene", "", lambda path: None,
         lambda data: read_scene(data / "collection", frame="cube"), "collection", "scene"),
    Case("one object of many", "", lambda path: None, kind_of(OBJECT), OBJECT, "data.path"),
    Case("a category", "", lambda path: None, kind_of("collection/chair"), "sphere_0", "above"),
    # transforms.json
    Case("json malformed", JSON, cut, transforms, "transforms_train.json", "export"),
    Case("json empty", JSON, empty, transforms, "transforms_train.json", "export"),
    Case("json a list", JSON, lambda path: path.write_text("[1]"), transforms, JSON, "expected"),
    Case("no frames", JSON, drop_json("frames"), transforms, JSON, "expected"),
    Case("frames empty", JSON, set_json(frames=[]), transforms, JSON, "add"),
    Case("frame without path", JSON, set_frame(file_path=None), transforms, JSON, "add"),
    Case("every frame's file missing", "transforms/train", empty, transforms, JSON, "images"),
    Case("frame cut", "transforms/train/r_3.png", cut, transforms, "r_3.png", "again"),
    Case("no alpha", "transforms/train/r_3.png", no_alpha, transforms, "r_3.png", "no alpha"),
    Case("no focal length", JSON, drop_json("camera_angle_x"), transforms, JSON, "fl_x"),
    Case("focal length zero", JSON, set_json(fl_x=0), transforms, JSON, "positive"),
    Case("focal length a word", JSON, set_json(fl_x="wide"), transforms, JSON, "number"),
    Case("another shape", JSON, set_json(w=96, h=48), transforms, JSON, "images these cameras"),
    Case("width zero", JSON, set_json(w=0, h=0), transforms, JSON, "positive"),
    Case("distorted by k4", JSON, set_json(k4=0.1), transforms, JSON, "undistort"),
    Case("unknown lens", JSON, set_json(camera_model="THIN_PRISM"), transforms, JSON, "pinhole"),
    Case("pose of 3x3", JSON, set_frame(transform_matrix=np.eye(3).tolist()), transforms,
         "frame 2", "4x4"),
    Case("pose ragged", JSON, set_frame(transform_matrix=[[1, 2], [3]]), transforms, "frame 2",
         "4x4"),
    Case("pose missing", JSON, set_frame(transform_matrix=None), transforms, "frame 2", "4x4"),
    Case("pose scaled", JSON, set_frame(transform_matrix=(2 * np.eye(4)).tolist()), transforms,
         "frame 2", "rigid"),
    Case("pose elsewhere", JSON,
         set_frame(transform_matrix=[[1, 0, 0, 9], [0, 1, 0, 9], [0, 0, 1, 9], [0, 0, 0, 1]]),
         transforms, "view 2", "check that camera"),
    # Own images
    Case("own folder missing", "", lambda path: None, lambda data: list_images(data / "own"), "own",
         "check the path"),
    Case("own folder empty", "own", Path.mkdir, lambda data: list_images(data / "own"), "own",
         "png, jpg"),
    Case("own image missing", "", lambda path: None, lambda data: read_image(data / "a.png"),
         "a.png", "check the path"),
    Case("own image is text", "a.jpg", scribble, lambda data: read_input_image(data / "a.jpg", 8),
         "a.jpg", "convert"),
    Case("own image immense", "a.png", lambda path: claim_size(path, 20_000),
         lambda data: read_image(data / "a.png"), "a.png", "shrink"),
    Case("own image large", "a.png", lambda path: claim_size(path, 8_500),
         lambda data: read_image(data / "a.png"), "a.png", "shrink"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_broken_data_is_refused_with_a_remedy(data, case):
    case.breaks(data / case.where)
    with pytest.raises(UserError) as refused:
        case.read(data)
    message = str(refused.value)
    assert case.names in message
    assert case.remedy in message
    assert "\n" not in message


def test_the_unbroken_data_are_read(data):
    """Otherwise the cases above could be refused for a fault they share."""
    assert len(objects()(data)) == 2
    assert len(views()(data)) == 4
    assert len(scene(data)[0]) == 6
    assert len(transforms(data)[0]) == 8
    assert read_occupancy_points(entry(data)) and read_surface_points(entry(data))

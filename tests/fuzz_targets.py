"""Every parser of files that may come from strangers, with small files to damage.

`python -m tests.fuzz_targets colmap/cameras.bin --seconds 600` for a long look; `make torture`
looks at all, `make test` for a moment.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from trimesh.exchange import gltf, obj, off, ply, stl

from common.config import apply_overrides
from common.data import archive, camera_file, collection, exr, images, mesh_files, npz, origin
from common.data.archive import unpack
from common.errors import UserError
from common.meshes import files as surface_files
from common.meshes import radiance
from common.reports import record
from common.scenes.formats import (
    colmap,
    colmap_binary,
    colmap_model,
    colmap_text,
    dvr_dtu,
    idr_folder,
    middlebury,
    mvsnet,
    projections,
    transforms,
)
from common.scenes.masking import masks
from common.training import foreign_weights, plain_pickle, run_config, run_folder
from common.training.run_folder import RunFolder
from tests.fuzz_formats import (
    MESHES,
    PICTURES,
    checkpoint_state,
    members_of,
    mesh_bytes,
    picture_bytes,
    saved_bytes,
    tar_bytes,
    with_right_headers,
    with_right_sums,
    zip_bytes,
)
from tests.fuzzing import Fuzzed, Read, fuzz
from tests.make_collection import write_depth, write_tiny_collection, write_tiny_scene
from tests.make_colmap import small_model, touch_images, write_model
from tests.make_run import ROOT

COLMAP_MODULES = (colmap, colmap_binary, colmap_model, colmap_text)
PICTURE_MODULES = (
    images, BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin,
)  # fmt: skip
MESH_MODULES = {".ply": ply, ".obj": obj, ".glb": gltf, ".off": off, ".stl": stl}


@dataclass(frozen=True)
class Target:
    """A reader of bytes, files that it reads, and the modules whose lines guide the damage."""

    read: Read
    seeds: Sequence[bytes]
    modules: Sequence[ModuleType]


def reading(path: Path, read: Callable[[], object]) -> Read:
    """A reader with the content of one of its files exchanged."""

    def read_with(data: bytes) -> None:
        path.unlink(missing_ok=True)  # a new file, since the old one may still be mapped
        path.write_bytes(data)
        read()

    return read_with


def _file(path: Path, read: Callable[[], object], *modules: ModuleType) -> Target:
    """The file as it is, to be damaged."""
    return Target(reading(path, read), [path.read_bytes()], modules)


# --- Settings and records ------------------------------------------------------------------------


def _config(folder: Path) -> Target:
    method = _script("method")
    path = folder / "config.yaml"
    content = "inherit_from: base.yaml\nmethod: dvr\ntraining: {rays: 8, milestones: [1, 0.5]}\n"
    (folder / "base.yaml").write_text("data: {path: there}\ntraining: {rays: 4}\n")
    anchors = "method: idr\na: &a [x, y]\nb: {<<: {c: *a}, d: 2001-01-01}\n"
    seeds = [content, anchors, "method: idr\ntraining:\n  iterations: 3\n  decay: cosine\n"]
    read = reading(path, lambda: method.load_config(str(path)))
    return Target(read, [seed.encode() for seed in seeds], [_module("common.config"), method])


def _override(folder: Path) -> Target:
    def read(data: bytes) -> None:
        apply_overrides({"training": {"rays": 1}}, [data.decode(errors="replace")])

    return Target(read, [b"training.rays=5", b"a.b={c: [1, 2]}"], [_module("common.config")])


def _run(folder: Path, name: str) -> Target:
    """One of a run's own files."""
    run = RunFolder(folder / "run")
    run.latest.parent.mkdir(parents=True)
    run.latest.write_bytes(saved_bytes(checkpoint_state()))
    run.config.write_text("method: idr\ndata: {path: there}\nversions: {torch: 2.13.0}\n")
    line = {"step": 2, "seconds": 0.5, "train/loss": 0.25, "train/rate": None}
    run.metrics.write_text(2 * (json.dumps(line) + "\n"))
    run.evaluation.write_text(json.dumps({"mesh": {"chamfer_l1": 0.5}, "items": [{"a": 1}]}))
    read = partial(record.read_record, run)
    return _file(run.path / name, read, record, run_config)


def _origin(folder: Path) -> Target:
    origin.write_origin(folder, {"objects": 3, "size": [1, 2]})

    def read() -> None:
        origin.read_origin(folder)
        origin.open_origin(folder, {"objects": 3, "size": [1, 2]})

    return _file(folder / origin.ORIGIN, read, origin)


# --- Weights --------------------------------------------------------------------------------------


def _checkpoint(folder: Path) -> Target:
    path = folder / "latest.pt"
    path.write_bytes(saved_bytes(checkpoint_state()))
    return _file(path, partial(run_folder.load_checkpoint, path), run_folder)


def _pickled(path: Path, read: Callable[[], object], *modules: ModuleType) -> Target:
    """The pickle in a file of torch.save, whose check sums are made right again."""
    members = members_of(saved_bytes(checkpoint_state()))
    (name,) = (name for name in members if name.endswith("data.pkl"))

    def read_with(data: bytes) -> None:
        path.write_bytes(zip_bytes({**members, name: data}))
        read()

    return Target(read_with, [members[name]], modules)


def _checkpoint_pickle(folder: Path) -> Target:
    path = folder / "latest.pt"
    return _pickled(path, partial(run_folder.load_checkpoint, path), run_folder)


def _foreign(folder: Path) -> Target:
    path = folder / "model.pt"
    seeds = [saved_bytes(checkpoint_state(), legacy) for legacy in (False, True)]
    read = reading(path, partial(_read_weights, path))
    return Target(read, seeds, [foreign_weights, plain_pickle])


def _foreign_pickle(folder: Path) -> Target:
    path = folder / "model.pt"
    return _pickled(path, partial(_read_weights, path), foreign_weights, plain_pickle)


def _read_weights(path: Path) -> None:
    content = foreign_weights.read_foreign(path)
    model = content.get("model", content) if isinstance(content, dict) else content
    foreign_weights.named_weights(path, model)


# --- Pictures -------------------------------------------------------------------------------------


def _picture(folder: Path, kind: str) -> Target:
    path = folder / "a.picture"
    modes = {"PNG": ("RGB", "RGBA", "P", "1", "I;16"), "TIFF": ("RGB", "LA", "P", "I;16", "CMYK")}
    seeds = [picture_bytes(kind, mode) for mode in modes.get(kind, ("RGB", "L"))]

    def read(data: bytes) -> None:
        path.write_bytes(with_right_sums(data) if kind == "PNG" else data)
        images.image_size(path)
        images.read_upright(path)
        images.read_image_with_alpha(path)
        masks.coverage_from_file(path)
        images.read_input_image(path, 8)

    return Target(read, seeds, [*PICTURE_MODULES, masks])


def _exr(folder: Path) -> Target:
    path = folder / "a.exr"
    depth = np.arange(20, dtype=np.float32).reshape(4, 5)
    write_depth(path, depth)
    return _file(path, partial(exr.read_exr, path), exr)


def _hdr(folder: Path) -> Target:
    path = folder / "a.hdr"
    path.write_bytes(radiance.hdr_bytes(np.ones((2, 3, 3), np.float32)))
    return _file(path, partial(radiance.read_hdr, path), radiance)


# --- Meshes ---------------------------------------------------------------------------------------


def _mesh(folder: Path, suffix: str) -> Target:
    path = folder / f"a{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        readers, refusals = _mesh_readers(path), []
        for reader in readers:
            try:
                reader(path)
            except UserError as error:
                refusals.append(error)
        if len(refusals) == len(readers):
            raise refusals[0]

    modules = [MESH_MODULES[suffix], mesh_files, surface_files]
    return Target(read, mesh_bytes(suffix), modules)


def _mesh_readers(path: Path) -> list[Callable[[Path], object]]:
    readers: list[Callable[[Path], object]] = [mesh_files.read_parts]
    if path.suffix in surface_files.SUFFIXES:
        readers.append(surface_files.load_mesh)
    if path.suffix in surface_files.TEXTURED_SUFFIXES:
        readers.append(surface_files.load_textured)
    return readers


def _material(folder: Path) -> Target:
    path = folder / "a.mtl"
    text = (
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nmtllib a.mtl\nusemtl m\nf 1/1 2/2 3/3"
    )
    (folder / "a.obj").write_text(text)
    (folder / "a.png").write_bytes(picture_bytes("PNG"))
    path.write_text("newmtl m\nKd 0.5 0.2 1\nd 0.5\nmap_Kd a.png\n")

    def read() -> None:
        mesh_files.missing_files(folder / "a.obj")
        mesh_files.read_parts(folder / "a.obj")

    return _file(path, read, obj, mesh_files)


def _manifest(folder: Path) -> Target:
    (folder / "chair").mkdir()
    (folder / "chair/a.obj").write_bytes(mesh_bytes(".obj")[0])
    path = folder / "manifest.json"
    path.write_text(json.dumps([{"dir": "chair", "main": "a.obj", "license": "CC0"}]))
    return _file(path, partial(mesh_files.find_objects, folder), mesh_files)


# --- Archives -------------------------------------------------------------------------------------


def _archive(folder: Path, seeds: Sequence[bytes]) -> Target:
    path, out = folder / "set", folder / "out"

    def read(data: bytes) -> None:
        path.write_bytes(with_right_headers(data))
        try:
            unpack(path, out)
        finally:
            shutil.rmtree(out, ignore_errors=True)

    return Target(read, seeds, [archive])


def _zip(folder: Path) -> Target:
    files = {"set/a": b"first", "set/deep/b": bytes(300), "set/é": b"1"}
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return _archive(folder, [zip_bytes(files, method) for method in methods])


def _tar(folder: Path) -> Target:
    files = {"a": b"1", "b/c": b"2" * 600}
    return _archive(folder, [tar_bytes(files, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")])


# --- Cameras --------------------------------------------------------------------------------------


def _npz(path: Path, key: str, read: Callable[[], object], *modules: ModuleType) -> Target:
    """The archive as it is, and one array of it in an archive whose check sums are right."""
    members = members_of(path.read_bytes())
    name = f"{key}.npy"

    def read_with(data: bytes) -> None:
        whole = data if data.startswith(b"PK") else zip_bytes({**members, name: data})
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        read()

    return Target(read_with, [members[name], path.read_bytes()], [npz, *modules])


def _cameras(folder: Path) -> Target:
    write_tiny_scene(folder / "scene", views=2, size=12)
    read = partial(idr_folder.read_idr_folder, folder / "scene")
    return _npz(folder / "scene/cameras.npz", "world_mat_1", read, camera_file, idr_folder)


def _sparse(folder: Path) -> Target:
    write_tiny_scene(folder / "scene", views=2, size=12)
    path = folder / "scene" / idr_folder.SPARSE
    np.savez(path, points=np.zeros((4, 3)), visibility=np.ones((2, 4), dtype=bool))
    read = partial(idr_folder.read_idr_folder, folder / "scene")
    return _npz(path, "visibility", read, idr_folder)


def _object(folder: Path, name: str, key: str) -> Target:
    """An archive of one object of a collection."""
    write_tiny_collection(folder, objects=1, views=2, size=8)
    source = folder / "chair/sphere_0"
    rng = np.random.default_rng(0)
    visible = {f"visibility_{view:04d}": np.array([0, 2]) for view in range(2)}
    np.savez(source / "pcl.npz", points=rng.normal(size=(4, 3)) / 9, **visible)
    for file in ("points", "pointcloud"):
        with np.load(source / f"{file}.npz") as arrays:
            np.savez(source / f"{file}.npz", **{one: arrays[one][:20] for one in arrays})
    entry = collection.ObjectEntry("chair", "chair", "sphere_0", source)

    def read() -> None:
        collection.read_views(entry, collection.CollectionFolders())
        collection.read_occupancy_points(entry)
        collection.read_surface_points(entry)
        if (source / "mask").exists():
            dvr_dtu.read_dvr_dtu(source)

    return _npz(source / name, key, read, camera_file, collection, dvr_dtu)


def _list(folder: Path, name: str) -> Target:
    write_tiny_collection(folder, objects=2, views=2, size=8)
    read = partial(collection.list_objects, folder, "train", ["chair"])
    return _file(folder / name, read, collection)


def _transforms(folder: Path) -> Target:
    _pictures(folder, 2)
    pose = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    frames = [{"file_path": f"{view}.png", "transform_matrix": pose} for view in range(2)]
    lens = {"fl_x": 9.0, "cx": 4.5, "w": 8, "h": 8, "k1": 0.1, "camera_model": "OPENCV"}
    seeds = [
        {"camera_angle_x": 0.7, "frames": [{**frames[0], "mask_path": "1.png"}, frames[1]]},
        {**lens, "frames": frames},
    ]
    path = folder / "transforms.json"
    read = reading(path, partial(transforms.read_transforms, folder))
    return Target(read, [json.dumps(seed).encode() for seed in seeds], [transforms])


def _middlebury(folder: Path) -> Target:
    _pictures(folder, 2)
    numbers = "9 0 4 0 9 4 0 0 1 1 0 0 0 1 0 0 0 1 0.5 0 3"
    path = folder / "a_par.txt"
    path.write_text(f"2\n0.png {numbers}\n1.png {numbers}\n")
    return _file(path, partial(middlebury.read_middlebury, folder), middlebury)


def _mvsnet(folder: Path) -> Target:
    _pictures(folder / "images", 1)
    (folder / "cams").mkdir()
    path = folder / "cams/0_cam.txt"
    rows = ["1 0 0 0.5", "0 1 0 0", "0 0 1 3", "0 0 0 1", "", "intrinsic", "9 0 4", "0 9 4"]
    path.write_text("\n".join(["extrinsic", *rows, "0 0 1", "", "1 0.1"]))
    return _file(path, partial(mvsnet.read_mvsnet, folder), mvsnet)


def _projections(folder: Path, suffix: str) -> Target:
    _pictures(folder / "image", 2)
    path = folder / f"projections{suffix}"
    matrices = np.array([[[9.0, 0, 4, 12], [0, 9, 4, 12], [0, 0, 1, 3]]] * 2)
    read = partial(projections.read_projections, folder)
    if suffix == ".txt":
        np.savetxt(path, matrices.reshape(-1, 4))
    elif suffix == ".npy":
        np.save(path, matrices)
    else:
        np.savez(path, projections=matrices)
        return _npz(path, "projections", read, projections)
    return _file(path, read, projections)


def _projection(folder: Path) -> Target:
    """One matrix in a file of its own, as DTU and PMVS have them."""
    _pictures(folder / "image", 1)
    (folder / "txt").mkdir()
    path = folder / "txt/0.txt"
    path.write_text("CONTOUR\n9 0 4 12\n0 9 4 12\n0 0 1 3\n")
    return _file(path, partial(projections.read_projections, folder), projections)


def _mask_names(folder: Path) -> Target:
    """A name a line, of the files in a folder of masks."""
    _pictures(folder / "image", 2)

    def read(data: bytes) -> None:
        shutil.rmtree(folder / "mask", ignore_errors=True)
        (folder / "mask").mkdir()
        for name in data.split(b"\n")[:20]:
            name = name.replace(b"/", b"").replace(b"\0", b"")[:200]
            if name not in (b"", b".", b".."):
                (folder / "mask" / os.fsdecode(name)).touch()
        masks.pair_masks(sorted((folder / "image").iterdir()), folder / "mask")

    return Target(read, [b"0.png\n1.png", b"mask_0.png\n1.jpg.png", b"a.png\nb2.png"], [masks])


def _view_names(folder: Path) -> Target:
    """A name a line, of the files in a folder of views."""
    from common.data import pairing

    def read(data: bytes) -> None:
        shutil.rmtree(folder / "image", ignore_errors=True)
        (folder / "image").mkdir()
        for name in data.split(b"\n")[:20]:
            name = name.replace(b"/", b"").replace(b"\0", b"")[:200]
            if name not in (b"", b".", b".."):
                (folder / "image" / os.fsdecode(name)).touch()
        pairing.view_files(folder / "image", images.SUFFIXES)

    return Target(read, [b"0.png\n1.png", b"v2.png\nv10.jpg\n\xc2\xb2.png"], [pairing])


def _colmap(folder: Path, name: str) -> Target:
    suffix = Path(name).suffix
    source = write_model(folder / suffix[1:], small_model(), suffix)
    touch_images(source / "images", small_model())
    return _file(source / name, partial(colmap.read_colmap, source), *COLMAP_MODULES)


def _pictures(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for view in range(count):
        Image.new("RGB", (8, 8)).save(folder / f"{view}.png")


def _script(name: str) -> ModuleType:
    """A script as a module."""
    return _module(name, ROOT / "scripts" / f"{name}.py")


def _module(name: str, path: Path | None = None) -> ModuleType:
    if path is None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COLMAP = [f"{name}{suffix}" for suffix in (".bin", ".txt") for name in
          ("cameras", "images", "points3D")]  # fmt: skip
TARGETS: dict[str, Callable[[Path], Target]] = {
    "config": _config,
    "override": _override,
    "run/config.yaml": partial(_run, name="config.yaml"),
    "run/metrics.jsonl": partial(_run, name="metrics.jsonl"),
    "run/evaluation.json": partial(_run, name="evaluation.json"),
    "origin.yaml": _origin,
    "checkpoint": _checkpoint,
    "checkpoint/pickle": _checkpoint_pickle,
    "weights": _foreign,
    "weights/pickle": _foreign_pickle,
    **{f"picture/{kind}": partial(_picture, kind=kind) for kind in PICTURES},
    "depth/exr": _exr,
    "environment/hdr": _hdr,
    **{f"mesh/{suffix[1:]}": partial(_mesh, suffix=suffix) for suffix in MESHES},
    "mesh/mtl": _material,
    "mesh/manifest": _manifest,
    "archive/zip": _zip,
    "archive/tar": _tar,
    "cameras.npz": _cameras,
    "sparse.npz": _sparse,
    "object/cameras.npz": partial(_object, name="cameras.npz", key="world_mat_0"),
    "object/pcl.npz": partial(_object, name="pcl.npz", key="points"),
    "object/points.npz": partial(_object, name="points.npz", key="occupancies"),
    "object/pointcloud.npz": partial(_object, name="pointcloud.npz", key="normals"),
    "collection/train.lst": partial(_list, name="chair/train.lst"),
    "collection/metadata.yaml": partial(_list, name="metadata.yaml"),
    "transforms.json": _transforms,
    "middlebury": _middlebury,
    "mvsnet": _mvsnet,
    "projections/txt": partial(_projections, suffix=".txt"),
    "projections/npy": partial(_projections, suffix=".npy"),
    "projections/npz": partial(_projections, suffix=".npz"),
    "projections/each": _projection,
    "names/masks": _mask_names,
    "names/views": _view_names,
    **{f"colmap/{name}": partial(_colmap, name=name) for name in COLMAP},
}


def run_target(
    name: str, folder: Path, seed: int, inputs: int | None = None, seconds: float = float("inf")
) -> Fuzzed:
    """Fuzz one target in a folder of its own; raises Crash as ``fuzz`` does."""
    target = TARGETS[name](folder)
    rng = random.Random(seed)
    return fuzz(target.read, target.seeds, target.modules, rng, inputs, seconds, folder)


def main() -> None:
    """Fuzz one target, or those whose names begin so, and print how far each went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help=f"one of {', '.join(TARGETS)}, or how some begin")
    parser.add_argument("--seconds", type=float, default=60, help="of the processor, for each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in (name for name in TARGETS if name.startswith(arguments.target)):
        with tempfile.TemporaryDirectory() as folder:
            found = run_target(name, Path(folder), arguments.seed, seconds=arguments.seconds)
        print(name, found, flush=True)


if __name__ == "__main__":
    main()

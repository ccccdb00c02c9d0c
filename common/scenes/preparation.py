"""From a source of any kind to a scene folder that both methods train on, looked at on the way."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.data.images import SUFFIXES
from common.data.origin import read_origin, write_origin
from common.data.scene_writer import write_pictures
from common.errors import UserError, naming
from common.scenes import object_sphere as sphere_choice
from common.scenes.capture import Capture, Photograph
from common.scenes.checks.corrections import Value, chosen
from common.scenes.checks.findings import Findings
from common.scenes.checks.preflight import examine, verdict
from common.scenes.checks.report import SceneFacts, ScenePicture, write_report
from common.scenes.cropping import crop_to_object
from common.scenes.development import Pictures, develop
from common.scenes.formats.camera_export import (
    write_colmap_text,
    write_idr_cameras,
    write_middlebury,
    write_transforms,
)
from common.scenes.formats.idr_folder import CAMERA_FILES, SPARSE
from common.scenes.masking import masks as mask_choice
from common.scenes.masking.silhouettes import object_masks
from common.scenes.object_frame import frame_views
from common.scenes.photographs.structure_from_motion import reconstruct
from common.scenes.photographs.video import SUFFIXES as VIDEOS
from common.scenes.photographs.video import extract_frames
from common.scenes.sources import detect, format_of

FRAMES = 60  # of a video
REPORT = "report.html"


@dataclass(frozen=True)
class Preparation:
    """What a person may decide; the defaults suit most sources."""

    format: str | None = None  # of the source; None: detected
    corrections: Mapping[str, Value] = field(default_factory=dict)  # options of corrections.py
    every: int = 1  # take every n-th photograph
    frames: int = FRAMES  # taken from a video
    masks: mask_choice.Choice = "auto"
    mask_folder: Path | None = None
    box: tuple[int, int, int, int] | None = None  # of the object in every picture, for GrabCut
    invert_masks: bool = False
    normalise: sphere_choice.Choice = "auto"
    shorter_side: int | None = None  # pixels, of the prepared pictures
    crop: bool = False
    exports: tuple[str, ...] = ()  # further formats of the cameras
    accept: bool = False  # write a scene although another reading of its cameras fits better


@dataclass(frozen=True)
class Prepared:
    """What was found, in words, and whether the scene was written."""

    findings: Findings
    verdict: str
    report: Path
    written: bool


def prepare(source: Path, out: Path, wanted: Preparation, say: Callable[[str], None]) -> Prepared:
    """Write the scene of a source to the folder ``out``, with a report of what was found.

    A scene that another reading of its cameras would fit clearly better is not written unless
    accepted: ``out`` then holds the report alone. ``out`` is replaced where this program made it
    from the same source. Raises UserError where anything is missing, damaged or does not fit.
    """
    check_replaceable(out, source)
    capture, kind = read_source(source, out, wanted)
    for note in capture.notes:
        say(note)
    capture, pictures, scale = develop_source(capture, wanted, say)
    findings = examine(pictures, scale=scale)
    written = wanted.accept or not findings.remedies
    if written:
        with naming(capture.source):
            world_from_sphere = sphere_choice.object_sphere(wanted.normalise, capture, pictures)
        _check_frame(capture, pictures, world_from_sphere)
    else:
        world_from_sphere = sphere_choice.among_cameras(pictures)
    said = verdict(findings)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if written:
        _write(partial, capture, pictures, world_from_sphere, wanted.exports)
    height, width = pictures.masks.shape[1:]
    facts = SceneFacts(str(source), kind, (width, height), "the source's", capture.notes)
    shown = _scene_picture(capture, pictures, world_from_sphere)
    write_report(partial / REPORT, findings, shown, facts, said)
    write_origin(partial, {"prepared_from": str(source.resolve()), "views": list(pictures.names)})
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
    return Prepared(findings, said, out / REPORT, written)


def check_replaceable(out: Path, source: Path) -> None:
    """UserError where ``out`` holds anything but what this program made from the same source."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    origin = read_origin(out) or {}
    if origin.get("prepared_from") != str(source.resolve()):
        raise UserError(
            f"{out}: exists and was not prepared from {source}; choose another folder, or remove it"
        )


def read_source(source: Path, out: Path, wanted: Preparation) -> tuple[Capture, str]:
    """The source's photographs with cameras, corrected and thinned out, and its format's name.

    Photographs or a video alone get their cameras by structure from motion, whose model stays in
    ``out``.sfm, so that another attempt with other masks is quick.
    """
    if wanted.format is not None or not source.exists() or detect(source) is not None:
        found = format_of(source, wanted.format)
        capture, kind = found.read(source), found.name
        capture = chosen(wanted.corrections).apply(capture)
        if wanted.every > 1:
            capture = capture.chosen(range(0, len(capture.photographs), wanted.every))
    else:
        workspace = out.with_name(out.name + ".sfm")
        photographs = _photographs(source, workspace, wanted.frames)[:: wanted.every]
        capture, kind = reconstruct(photographs, workspace), "photographs"
        capture = chosen(wanted.corrections).apply(capture)
    return capture, kind


def develop_source(
    capture: Capture, wanted: Preparation, say: Callable[[str], None]
) -> tuple[Capture, Pictures, float]:
    """The capture with what was said of masks, the pictures with them, and how far shrunk."""
    before = len(capture.notes)
    capture, choice = mask_choice.find_masks(capture, wanted.masks, wanted.mask_folder)
    for note in capture.notes[before:]:
        say(note)
    mask_of = mask_choice.mask_of(choice, wanted.box)
    pictures = develop(capture, mask_of, wanted.shorter_side)
    if choice == "points":
        if capture.points is None:
            raise UserError(f"{capture.source}: has no sparse points; choose other --masks")
        found = object_masks(pictures.images, pictures.projections, capture.points)
        pictures = replace(pictures, masks=found, coverage=None)
    if wanted.invert_masks:
        pictures = replace(pictures, masks=~pictures.masks, coverage=None)
    scale = pictures.masks.shape[2] / capture.photographs[0].size[0]
    return capture, crop_to_object(pictures) if wanted.crop else pictures, scale


def _photographs(source: Path, workspace: Path, frames: int) -> list[Path]:
    if source.is_file():
        if source.suffix.lower() not in VIDEOS:
            raise UserError(
                f"{source}: neither a folder nor a video; expected one of {', '.join(VIDEOS)}"
            )
        return extract_frames(source, workspace / "frames", frames)
    found = sorted(
        file
        for file in source.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not set(file.relative_to(source).parts[:-1]) & set(mask_choice.FOLDERS)
    )
    if not found:
        raise UserError(
            f"{source}: no cameras that scripts/prepare_scene.py knows, and no photographs "
            f"({', '.join(SUFFIXES)}); check the path"
        )
    return found


def _check_frame(capture: Capture, pictures: Pictures, world_from_sphere: np.ndarray) -> None:
    """UserError where no method could read the scene: the cameras do not see the sphere."""
    frame_views(
        capture.source,
        pictures.images,
        pictures.masks,
        pictures.projections,
        "sphere",
        world_from_sphere,
    )


def _write(
    folder: Path,
    capture: Capture,
    pictures: Pictures,
    world_from_sphere: np.ndarray,
    exports: Sequence[str],
) -> None:
    """An IDR folder, with its cameras also in the formats of ``exports``."""
    coverage = pictures.coverage
    if coverage is None:
        coverage = pictures.masks.astype(np.uint8) * 255
    names = write_pictures(folder, pictures.images, coverage)
    images = [f"image/{name}" for name in names]
    height, width = pictures.masks.shape[1:]
    written = Capture(
        folder,
        tuple(
            Photograph(folder / image, k, (width, height), pose)
            for image, k, pose in zip(
                images, pictures.intrinsics, pictures.world_from_camera, strict=True
            )
        ),
        capture.points,
        world_from_sphere,
    )
    write_idr_cameras(folder / CAMERA_FILES[0], written)
    if capture.points is not None:
        np.savez(folder / SPARSE, **vars(capture.points))
    if "transforms" in exports:
        write_transforms(folder / "transforms.json", written, images, [f"mask/{n}" for n in names])
    if "colmap" in exports:
        write_colmap_text(folder / "sparse" / "0", written, names)
    if "middlebury" in exports:
        write_middlebury(folder / "scene_par.txt", written, images)


def _scene_picture(
    capture: Capture, pictures: Pictures, world_from_sphere: np.ndarray
) -> ScenePicture:
    radius = float(np.cbrt(np.linalg.det(world_from_sphere[:3, :3])))
    return ScenePicture(
        pictures.images,
        pictures.masks,
        pictures.intrinsics,
        pictures.world_from_camera,
        world_from_sphere[:3, 3],
        radius,
        None if capture.points is None else capture.points.points,
    )

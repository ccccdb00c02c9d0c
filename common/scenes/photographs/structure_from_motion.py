"""Cameras and a sparse surface from photographs alone, by COLMAP (Schoenberger, Frahm, CVPR 2016).

Its Python package, pycolmap, is an optional extra. What it finds is kept as a COLMAP model, so that
other programs can open it too, and is read back like any other one.
"""

import hashlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from common.data.images import image_size, read_image, read_upright
from common.data.origin import ORIGIN, read_origin, write_origin
from common.errors import UserError
from common.progress import ProgressLine
from common.scenes.capture import Capture
from common.scenes.formats.colmap import read_colmap
from common.scenes.photographs.pair_selection import likely_pairs

FEWEST = 3  # photographs; two fix no scale between steps
LENS = "SIMPLE_RADIAL"  # a focal length and one radial coefficient, around the picture's middle
LONGEST_SIDE = 1600  # pixels; finding details in more takes gigabytes
ALL_PAIRS = 100  # of more photographs than this, only likely pairs are matched
PHOTOGRAPHS_AT_ONCE, PAIRS_AT_ONCE = 8, 64
SEED = 0
TURNED = range(2, 9)  # EXIF orientations that are not upright
FILM_WIDTH = 36.0  # mm, of the film that EXIF's equivalent focal length is for
USUAL_FOCAL = 1.2  # over the picture's longer side, where EXIF has none
REMEDY = (
    "neighbouring photographs must overlap: walk around the object in steps of 10 to 20 degrees, "
    "keep it sharp, leave everything where it is, and put something with texture under it, such "
    "as a newspaper"
)

_Item = TypeVar("_Item")


def reconstruct(photographs: Sequence[Path], workspace: Path, progress: bool = True) -> Capture:
    """The cameras of photographs, in a frame of their own, with the points that tie them together.

    The COLMAP model is written to ``workspace``/sparse/0, and only read where it was made from the
    same photographs before. What EXIF says lies on its side is turned in ``workspace``/upright.
    Photographs of one size and EXIF focal length share a camera. Those that could not be placed
    are left out and noted. Raises UserError where fewer than FEWEST can be placed, a photograph
    cannot be read, the workspace holds another model, or pycolmap is not installed.
    """
    photographs = list(dict.fromkeys(photographs))
    if len(photographs) < FEWEST:
        raise UserError(
            f"{len(photographs)} photographs: at least {FEWEST} are needed to find their cameras, "
            f"and 20 to 60 are usual; {REMEDY}"
        )
    root = Path(os.path.commonpath([photograph.parent for photograph in photographs]))
    names = [_name(photograph, root) for photograph in photographs]
    origin = {"photographs": dict(zip(names, map(_digest, photographs), strict=True))}
    known = _is_known(workspace / "sparse", origin)
    if not known:
        load_pycolmap()  # missed now, not after minutes of reading
    with _bar("reading", len(names), "photograph", progress and not known) as line:
        upright = {}
        for name in names:
            turned = workspace / "upright" / name
            upright[name] = _turned_upright(root / name, turned, anew=not known)
            line.advance()
    if not known:
        _make_model(workspace, root, upright, origin, progress)
    return _capture(workspace / "sparse" / "0", root, upright)


def load_pycolmap() -> Any:
    """COLMAP, silenced; raises UserError with the remedy where it is not installed."""
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(
            f"finding cameras needs pycolmap, which is not installed ({error}); "
            "install it with: pip install -e '.[sfm]'"
        ) from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


def _name(photograph: Path, root: Path) -> str:
    """How the model names it: where it is below the folder of all."""
    name = photograph.relative_to(root).as_posix()
    if re.search(r"[\x00-\x1f\ud800-\udfff]", name):
        raise UserError(f"{name!a}: a file name with control characters or not UTF-8; rename it")
    return name


def _digest(photograph: Path) -> str:
    return hashlib.blake2b(photograph.read_bytes(), digest_size=16).hexdigest()


def _is_known(sparse: Path, origin: dict[str, Any]) -> bool:
    """Whether a model of just these photographs is there; UserError where it is another's."""
    found = read_origin(sparse)
    if found is None and sparse.exists():
        raise UserError(
            f"{sparse}: exists but was not made by this program (no {ORIGIN} says so); choose "
            "another folder to work in, or give the folder of this COLMAP model instead"
        )
    return found == origin


def _turned_upright(photograph: Path, turned: Path, anew: bool) -> Path:
    """The photograph, or where its EXIF tag asks for a turn, a copy that needs none.

    UserError where it cannot be read, which is checked if it is ``anew``.
    """
    if anew:
        read_image(photograph)  # COLMAP would make do with half a picture
    if _exif_tags(photograph).get(ExifTags.Base.Orientation) not in TURNED:
        return photograph
    if anew or not turned.is_file():
        turned.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_upright(photograph)).save(turned, quality=95)
    return turned


def _exif_tags(photograph: Path) -> dict[int, Any]:
    """What the camera noted, by tag; nothing where that is damaged."""
    try:
        with Image.open(photograph) as image:
            tags = image.getexif()
            return {**tags, **tags.get_ifd(ExifTags.IFD.Exif)}
    except (SyntaxError, ValueError, LookupError, TypeError, struct.error):
        return {}


def _make_model(
    workspace: Path,
    root: Path,
    upright: dict[str, Path],
    origin: dict[str, Any],
    progress: bool,
) -> None:
    """Write the largest model that COLMAP finds, all of it or nothing."""
    workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace, prefix="unfinished-") as folder:
        work = Path(folder)
        names = _find_details(work, root, upright, progress)
        _match(work, progress)
        found = _place(work, len(upright), progress)
        for image_id, name in names.items():
            if found.exists_image(image_id):
                found.image(image_id).name = name
        (work / "sparse" / "0").mkdir(parents=True)
        found.write_binary(work / "sparse" / "0")
        write_origin(work / "sparse", origin)
        shutil.rmtree(workspace / "sparse", ignore_errors=True)
        (work / "sparse").rename(workspace / "sparse")


def _find_details(
    work: Path, root: Path, upright: dict[str, Path], progress: bool
) -> dict[int, str]:
    """Write SIFT details (Lowe, IJCV 2004) to a database; returns the photographs by number."""
    colmap = load_pycolmap()
    extraction = colmap.FeatureExtractionOptions()
    extraction.max_image_size = LONGEST_SIDE
    with _bar("finding details", len(upright), "photograph", progress) as line:
        for camera_id, folder, names in _by_camera(work, root, upright):
            reader = colmap.ImageReaderOptions()
            reader.camera_model, reader.existing_camera_id = LENS, camera_id
            # All at once, so that they get the same numbers however threads race.
            colmap.import_images(_database(work), folder, image_names=names, options=reader)
            for some in _batches(names, PHOTOGRAPHS_AT_ONCE):
                colmap.extract_features(
                    _database(work),
                    folder,
                    image_names=some,
                    camera_mode=colmap.CameraMode.SINGLE,
                    reader_options=reader,
                    extraction_options=extraction,
                    device=colmap.Device.cpu,
                )
                line.advance(len(some))
    return _numbered(work)


def _by_camera(
    work: Path, root: Path, upright: dict[str, Path]
) -> list[tuple[int, Path, list[str]]]:
    """Write cameras to the database: their numbers, with folders and names of photographs."""
    colmap = load_pycolmap()
    kinds: dict[tuple[tuple[int, int], float | None], int] = {}
    groups: dict[tuple[int, Path], list[str]] = {}
    with colmap.Database.open(_database(work)) as database:
        for name, path in upright.items():
            size, focal = image_size(path), _exif_focal(root / name)
            if (size, focal) not in kinds:
                guess = (focal or USUAL_FOCAL) * max(size)
                camera = colmap.Camera.create_from_model_name(0, LENS, guess, *size)
                camera.has_prior_focal_length = focal is not None
                kinds[size, focal] = database.write_camera(camera)
            folder = path.parents[name.count("/")]
            groups.setdefault((kinds[size, focal], folder), []).append(name)
    return [(camera_id, folder, names) for (camera_id, folder), names in groups.items()]


def _exif_focal(photograph: Path) -> float | None:
    """Focal length over the picture's longer side, where EXIF has a credible one."""
    length = _exif_tags(photograph).get(ExifTags.Base.FocalLengthIn35mmFilm)
    return length / FILM_WIDTH if isinstance(length, int) and 5 <= length <= 2000 else None


def _numbered(work: Path) -> dict[int, str]:
    """Photographs by number, which become their names: COLMAP's lists of pairs know no spaces."""
    names = {}
    with load_pycolmap().Database.open(_database(work)) as database:
        for image in database.read_all_images():
            names[image.image_id] = image.name
            image.name = str(image.image_id)
            database.update_image(image)
    return names


def _match(work: Path, progress: bool) -> None:
    """Find details that pairs of photographs share, and keep those that one motion explains."""
    colmap = load_pycolmap()
    geometry = colmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = SEED
    pairing = colmap.ImportedPairingOptions()
    pairing.match_list_path = work / "pairs.txt"
    pairs = _pairs(work)
    with _bar("matching", len(pairs), "pair", progress) as line:
        for some in _batches(pairs, PAIRS_AT_ONCE):
            (work / "pairs.txt").write_text("".join(f"{one} {other}\n" for one, other in some))
            colmap.match_image_pairs(
                _database(work),
                pairing_options=pairing,
                verification_options=geometry,
                device=colmap.Device.cpu,
            )
            line.advance(len(some))


def _pairs(work: Path) -> list[tuple[int, int]]:
    """The pairs of photographs to match, by number."""
    with load_pycolmap().Database.open(_database(work)) as database:
        numbers = sorted(image.image_id for image in database.read_all_images())
        if len(numbers) <= ALL_PAIRS:
            return list(combinations(numbers, 2))
        chosen = likely_pairs([_coarse_to_fine(database, number) for number in numbers])
    return [(numbers[one], numbers[other]) for one, other in chosen]


def _coarse_to_fine(database: Any, number: int) -> UInt8[np.ndarray, "n 128"]:
    """The details of a photograph, large ones first."""
    # After its place, a row has the 2 x 2 matrix from the unit circle to the detail's outline.
    area = np.linalg.det(database.read_keypoints(number)[:, 2:].reshape(-1, 2, 2))
    return database.read_descriptors(number).data[np.argsort(-area, kind="stable")]


def _place(work: Path, count: int, progress: bool) -> Any:
    """The largest of COLMAP's reconstructions; UserError where all are too small."""
    colmap = load_pycolmap()
    options = colmap.IncrementalPipelineOptions()
    options.min_model_size = FEWEST
    options.extract_colors = False
    options.num_threads = 1  # sums in a fixed order: the same photographs, the same cameras
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = SEED
    (work / "models").mkdir()
    with _bar("placing cameras", count, "photograph", progress) as line:
        found = colmap.incremental_mapping(
            _database(work),
            work,
            work / "models",
            options,
            initial_image_pair_callback=lambda: line.advance(2 - line.done),
            next_image_callback=line.advance,
        )
    largest = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    placed = 0 if largest is None else largest.num_reg_images()
    if placed < FEWEST:
        raise UserError(
            f"{placed} of {count} photographs could be placed, and at least {FEWEST} are needed; "
            f"{REMEDY}"
        )
    return largest


def _capture(model: Path, root: Path, upright: dict[str, Path]) -> Capture:
    """The model's photographs as they are upright, and a note of those it lacks."""
    capture = read_colmap(model, root)
    names = [photograph.image.relative_to(root).as_posix() for photograph in capture.photographs]
    lost = [name for name in upright if name not in set(names)]
    notes = capture.notes
    if lost:
        listed = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        notes += (
            f"{len(lost)} of {len(upright)} photographs could not be placed and are left out: "
            f"{listed}; {REMEDY}",
        )
    photographs = tuple(
        replace(photograph, image=upright[name])
        for photograph, name in zip(capture.photographs, names, strict=True)
    )
    return replace(capture, photographs=photographs, notes=notes)


def _database(work: Path) -> Path:
    return work / "database.db"


def _batches(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _bar(title: str, total: int, unit: str, progress: bool) -> ProgressLine:
    return ProgressLine(title, unit, total, shown=progress)

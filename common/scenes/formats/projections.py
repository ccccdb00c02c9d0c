"""Plain 3x4 projections P, from the world to pixels (centres at integers), beside pictures.

One text file per view, as DTU's ``pos_001.txt`` or PMVS's ``txt/00000000.txt`` (with a line
CONTOUR), or all views in one: ``projections.txt`` with three rows each, or ``projections.npy`` or
``.npz`` of shape (V, 3, 4). A fourth row 0 0 0 1 is welcome everywhere.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
from jaxtyping import Float

from common.data.images import SUFFIXES
from common.data.npz import open_npz
from common.data.pairing import check_counts, view_files
from common.errors import UserError, naming
from common.scenes.capture import Capture
from common.scenes.formats.idr_folder import IMAGE_FOLDERS
from common.scenes.formats.mask_folder import masks_beside
from common.scenes.formats.matrices import photograph_of, sane

_FILES = ("projections.npy", "projections.npz", "projections.txt")
_FOLDERS = ("projections", "txt", "calib", "pos")
_SHAPES = ((3, 4), (4, 4))
_LARGEST = 2**26  # bytes unpacked: half a million views
_IMAGES = (*IMAGE_FOLDERS, "visualize", "rectified", ".")


def holds_projections(path: Path) -> bool:
    """Whether this is a file of projections, or a folder with them."""
    if path.is_file():
        return path.suffix in (".npy", ".npz", ".txt")
    return _find(path) is not None


def read_projections(path: Path) -> Capture:
    """Pictures with projections: of the same name, else the same number, else in the same order.

    ``path`` is the folder with the pictures' folder, or the one file of all projections in it.
    Raises UserError where files do not pair, are damaged, or hold no pinhole camera.
    """
    found = path if path.is_file() else _find(path)
    if found is None:
        raise UserError(
            f"{path}: no projections; expected one of {', '.join(_FILES)}, or text files in one of "
            f"the folders {', '.join(_FOLDERS)}"
        )
    root = path.parent if path.is_file() else path
    images = _images(root)
    notes: tuple[str, ...] = ()
    if found.is_file():
        matrices = _read_file(found)
        check_counts({images[0].parent: len(images), found: len(matrices)})
        where = [f"{found}: view {view}" for view in range(len(images))]
        notes = (f"projections are paired with images by order; the first is {images[0].name}'s",)
    else:
        files, notes = _paired(images, sorted(found.glob(_pattern(found, root))))
        matrices = np.concatenate([_read_one(file) for file in files])
        where = [str(file) for file in files]
    masks, mask_notes = masks_beside(root, images)
    photographs = tuple(
        photograph_of(*parts) for parts in zip(where, matrices, images, masks, strict=True)
    )
    return Capture(found, photographs, notes=notes + mask_notes)


def _find(folder: Path) -> Path | None:
    """The one file, or the folder of several."""
    candidates = [folder / name for name in _FILES if (folder / name).is_file()]
    candidates += [folder / name for name in _FOLDERS if any((folder / name).glob("*.txt"))]
    if any(folder.glob(_pattern(folder, folder))):
        candidates.append(folder)
    return candidates[0] if candidates else None


def _pattern(folder: Path, root: Path) -> str:
    """Beside the pictures other text may lie, so there only DTU's names count."""
    return "pos_*.txt" if folder == root else "*.txt"


def _images(root: Path) -> list[Path]:
    for name in _IMAGES:
        folder = root / name
        if folder.is_dir() and any(file.suffix.lower() in SUFFIXES for file in folder.iterdir()):
            return view_files(folder, SUFFIXES)
    raise UserError(f"{root}: no pictures here or in {', '.join(_IMAGES[:-1])}; add them")


def _paired(images: Sequence[Path], files: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Each picture's file, and what to say of how they were paired."""
    for key in (lambda file: file.stem, _first_number):
        by_key = {key(file): file for file in files}
        wanted = [key(image) for image in images]
        unique = len(by_key) == len(files) and len(set(wanted)) == len(wanted)
        if unique and all(one in by_key for one in wanted):
            return [by_key[one] for one in wanted], ()
    check_counts({images[0].parent: len(images), files[0].parent / "*.txt": len(files)})
    in_order = sorted(files, key=lambda file: (_first_number(file) or 0, file.name))
    note = f"cameras are paired by order: {in_order[0].name} is of {images[0].name}, and so on"
    return in_order, (note,)


def _first_number(file: Path) -> int | None:
    number = re.search(r"\d{1,18}", file.stem)
    return int(number[0]) if number else None


def _read_one(file: Path) -> Float[np.ndarray, "1 3 4"]:
    with naming(file):
        matrices = _parse(file)
        if len(matrices) != 1:
            raise UserError(f"{len(matrices)} matrices; expected one, of the view it is named for")
        return matrices


def _read_file(file: Path) -> Float[np.ndarray, "V 3 4"]:
    if file.suffix == ".txt":
        with naming(file):
            return _parse(file)
    if file.suffix == ".npz":
        with open_npz(file) as archive:
            if archive.size > _LARGEST:
                raise UserError(f"{file}: too large for projections; save only these in it")
            arrays = {key: archive[key] for key in archive.files}
        stacks = {key: array for key, array in arrays.items() if array.shape[1:] in _SHAPES}
        if len(stacks) != 1:
            raise UserError(
                f"{file}: {len(stacks)} arrays of shape (V, 3, 4) among {', '.join(arrays)}; "
                "expected one"
            )
        return _checked(file, next(iter(stacks.values())))
    try:
        # Mapped, so that a header that lies about the shape costs no memory.
        return _checked(file, np.lib.format.open_memmap(file, mode="r"))
    except (ValueError, EOFError, SyntaxError, OverflowError, TokenError) as error:
        raise UserError(
            f"{file}: not a readable npy array of numbers ({str(error)[:80]!r}); "
            "make it again with numpy.save"
        ) from error


def _checked(file: Path, stack: np.ndarray) -> Float[np.ndarray, "V 3 4"]:
    if stack.shape[1:] not in _SHAPES or stack.dtype.kind not in "fiu" or len(stack) == 0:
        raise UserError(
            f"{file}: {stack.dtype} of shape {stack.shape}; expected numbers of shape (V, 3, 4)"
        )
    stack = np.array(stack, dtype=np.float64)
    if not sane(stack):
        raise UserError(f"{file}: NaN, infinite or huge entries; estimate these cameras again")
    # A projection of three rows has no scale of its own, but the fourth row tells a transpose.
    if stack.shape[1] == 4 and np.abs(stack[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise UserError(f"{file}: a last row is not 0 0 0 1; are the matrices transposed?")
    return stack[:, :3]


def _parse(file: Path) -> Float[np.ndarray, "V 3 4"]:
    """Matrices of a text, one row or one matrix a line."""
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines() if not line.lstrip().startswith("#")]
    lines = [line for line in lines if line and line != ["CONTOUR"]]
    try:
        rows = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise UserError(f"{error}; expected rows of four numbers") from error
    widths = {len(row) for row in rows}
    if widths in ({12}, {16}):
        return _checked(file, np.array(rows).reshape(len(rows), -1, 4))
    stack = np.array(rows) if widths == {4} else np.empty((0, 4))
    if len(stack) % 4 == 0 and len(stack) and (stack[3::4] == [0, 0, 0, 1]).all():
        return _checked(file, stack.reshape(-1, 4, 4))
    if len(stack) % 3 or len(stack) == 0:
        raise UserError(
            f"{len(rows)} rows of {', '.join(map(str, sorted(widths))) or 'no'} numbers; expected "
            "three rows of four for each view"
        )
    return _checked(file, stack.reshape(-1, 3, 4))

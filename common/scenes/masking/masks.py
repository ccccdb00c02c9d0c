"""Where each photograph's mask comes from: its opacity, a file, a plain background, or GrabCut."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from common.data.images import (
    has_alpha,
    list_images,
    read_coverage,
    read_image,
    read_image_with_alpha,
)
from common.errors import UserError, naming
from common.scenes.capture import Capture, Photograph
from common.scenes.masking.grabcut import Box, grabcut
from common.scenes.masking.plain_background import background_of, mask_by_threshold

Choice = Literal["auto", "alpha", "files", "light", "dark", "box", "points", "none"]
MaskOf = Callable[[Photograph, np.ndarray, np.ndarray | None], np.ndarray]

FOLDERS = ("mask", "masks")
OPAQUE = 127.5  # a pixel with more, of 255, is object
# What programs add to a picture's name for its mask: 12_mask.png, mask-12.png, 12.jpg.png.
_PICTURE_SUFFIX = re.compile(r"\.(png|jpe?g|webp|tiff?|bmp)$", re.IGNORECASE)
_AFFIX = re.compile(r"^(mask|alpha|matte)[_.-]|[_.-](mask|alpha|matte)$", re.IGNORECASE)


def find_masks(
    capture: Capture, choice: Choice = "auto", folder: Path | None = None
) -> tuple[Capture, Choice]:
    """The capture with its mask files found, and the choice made, never "auto".

    ``folder`` holds mask files; None: those the source names, or of a folder `mask` or `masks`
    beside the pictures. "auto" takes what is there, in this order: such files, opacity, a plain
    light or dark background, sparse points; it looks at three pictures at most. What a person
    should hear joins the capture's notes. Raises UserError where files and pictures do not pair,
    or nothing tells the object from its background.
    """
    if folder is not None and choice not in ("auto", "files"):
        raise UserError(f"{folder}: a folder of masks is of no use with --masks {choice}")
    files, notes = _mask_files(capture, folder) if choice in ("auto", "files") else (None, ())
    if choice == "files" and files is None:
        raise UserError(
            f"{capture.source}: no masks here; put one picture per view (object white) into a "
            "folder `mask` beside the images, or name their folder (--mask-folder)"
        )
    if choice == "auto":
        choice = "files" if files is not None else _choose(capture)
        notes = (*notes, f"masks: {_SAID[choice]}")
    masks = files if files is not None else [None] * len(capture.photographs)
    pairs = zip(capture.photographs, masks, strict=True)
    photographs = tuple(replace(photograph, mask=mask) for photograph, mask in pairs)
    return replace(capture, photographs=photographs, notes=(*capture.notes, *notes)), choice


_SAID = {
    "files": "taken from their files",
    "alpha": "the pictures' opacity",
    "light": "what stands out from the light background",
    "dark": "what stands out from the dark background",
    "points": "what differs from the ground that most sparse points lie on, by GrabCut",
}


def mask_of(choice: Choice, box: Box | None = None) -> MaskOf:
    """How a photograph's mask is made from it, its picture and its opacity, for find_masks' choice.

    ``box`` (x, y, width, height in the pictures' pixels) goes with "box". "points" needs all views
    at once (silhouettes.object_masks): until then all of the picture is object, as with "none".
    """
    if (choice == "box") != (box is not None):
        raise UserError("--masks box and --box X Y W H go together; give both or neither")
    match choice:
        case "files":
            return lambda photograph, image, alpha: _of_file(photograph)
        case "alpha":
            return lambda photograph, image, alpha: coverage_from_alpha(photograph.image, alpha)
        case "light" | "dark":
            return lambda photograph, image, alpha: _threshold(photograph, image, choice)
        case "box":
            return lambda photograph, image, alpha: _in_box(photograph, image, box)
        case "points" | "none":
            return lambda photograph, image, alpha: full_frame(image)
    raise ValueError(choice)


def full_frame(image: UInt8[np.ndarray, "H W 3"]) -> Bool[np.ndarray, "H W"]:
    """All of the picture."""
    return np.ones(image.shape[:2], dtype=bool)


def coverage_from_alpha(
    path: Path, alpha: UInt8[np.ndarray, "H W"] | None
) -> UInt8[np.ndarray, "H W"]:
    """The picture's opacity; UserError where it has none."""
    if alpha is None:
        raise UserError(
            f"{path}: no alpha channel to take its mask from; save it with one (png), or choose "
            "other masks (--masks)"
        )
    return alpha


def _of_file(photograph: Photograph) -> UInt8[np.ndarray, "H W"]:
    assert photograph.mask is not None  # find_masks saw to it
    return coverage_from_file(photograph.mask)


def coverage_from_file(path: Path) -> UInt8[np.ndarray, "H W"]:
    """How far each pixel of a mask picture is object: opaque in a cut-out, else bright.

    Two levels only, the lower of them 0, are labels, however dark. Raises UserError like
    read_image.
    """
    if has_alpha(path):
        _, alpha = read_image_with_alpha(path)
        if alpha is not None and alpha.min() <= OPAQUE < alpha.max():
            return alpha
    coverage = read_coverage(path)
    if (coverage > OPAQUE).any():
        return coverage
    levels = np.unique(read_image(path))
    if len(levels) == 2 and levels[0] == 0:
        return np.where(coverage > 0, np.uint8(255), np.uint8(0))
    return coverage


def pair_masks(images: Sequence[Path], folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The mask of each image from a folder, and what to say of it.

    By name: 12.png, 12_mask.png, mask_12.png or 12.jpg.png is of 12.jpg; images in subfolders have
    theirs in subfolders of the same names. Where no name fits, by order, which the note says.
    Raises UserError where only some images have a mask, one has two, or the counts differ.
    """
    top = Path(os.path.commonpath([image.parent for image in images]))
    parents = list(dict.fromkeys(image.parent for image in images))
    if not all((folder / parent.relative_to(top)).is_dir() for parent in parents):
        parents = [top]  # all masks in one folder
    masks: dict[Path, Path] = {}
    notes: list[str] = []
    for parent in parents:
        some = [image for image in images if image.is_relative_to(parent) and image not in masks]
        paired, said = _pair_flat(some, folder / parent.relative_to(top))
        masks.update(zip(some, paired, strict=True))
        notes += said
    return [masks[image] for image in images], tuple(notes)


def _pair_flat(images: list[Path], folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    files = [file for file in list_images(folder) if file not in images]
    by_name: dict[str, list[Path]] = {}
    for file in files:
        for name in {file.stem, _subject(file)}:
            by_name.setdefault(name, []).append(file)
    named = [by_name.get(image.name) or by_name.get(image.stem, []) for image in images]
    for image, own in zip(images, named, strict=True):
        if len(own) > 1:
            raise UserError(
                f"{folder}: {own[0].name} and {own[1].name} are both the mask of {image.name}; "
                "remove one"
            )
    _refuse_shared(images, named)
    if all(named):
        return [own[0] for own in named], ()
    if any(named):
        lacking = [image.name for image, own in zip(images, named, strict=True) if not own]
        raise UserError(
            f"{folder}: no mask for {_listed(lacking)}, though others have theirs by name; add "
            "them, or take those images away"
        )
    if len(files) != len(images):
        raise UserError(
            f"{folder}: {len(files)} masks for {len(images)} images, and none named like its image "
            f"({files[0].name if files else 'nothing'} beside {images[0].name}); "
            "every image needs one"
        )
    in_order = dict(zip(sorted(images, key=_natural), sorted(files, key=_natural), strict=True))
    pairs = [f"{mask.name} with {image.name}" for image, mask in in_order.items()]
    return [in_order[image] for image in images], (
        f"masks paired with images by order: {', ..., '.join(dict.fromkeys([pairs[0], pairs[-1]]))}"
        "; check that they belong together",
    )


def _refuse_shared(images: list[Path], named: list[list[Path]]) -> None:
    owner: dict[Path, Path] = {}
    for image, own in zip(images, named, strict=True):
        for mask in own:
            if (other := owner.setdefault(mask, image)) != image:
                raise UserError(
                    f"{mask}: named like two images, {other} and {image}; remove one of those, or "
                    "keep images and masks in subfolders of the same names"
                )


def _subject(mask: Path) -> str:
    """The stem of the image that a mask's name says it is of."""
    return _AFFIX.sub("", _PICTURE_SUFFIX.sub("", mask.stem))


def _natural(path: Path) -> list[tuple[int, str]]:
    # Numbers compare by value and before text, so "v2" < "v10".
    parts = re.split(r"([0-9]+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _mask_files(
    capture: Capture, folder: Path | None
) -> tuple[list[Path | None] | None, tuple[str, ...]]:
    """Every photograph's mask file and notes; None where the source has none."""
    images = [photograph.image for photograph in capture.photographs]
    if folder is None:
        given = [photograph.mask for photograph in capture.photographs]
        if all(given):
            return given, ()
        if any(given):
            lacking = [image.name for image, mask in zip(images, given, strict=True) if not mask]
            raise UserError(
                f"{capture.source}: no mask for {_listed(lacking)}, though others have theirs; add "
                "them, or choose other masks (--masks)"
            )
        folder = _folder_beside(capture)
    if folder is None:
        return None, ()
    files, notes = pair_masks(images, folder)
    return [*files], notes


def _folder_beside(capture: Capture) -> Path | None:
    source = capture.source if capture.source.is_dir() else capture.source.parent
    places = (source, capture.photographs[0].image.parent.parent)
    candidates = [place / name for place in places for name in FOLDERS]
    return next((folder for folder in candidates if folder.is_dir()), None)


def _choose(capture: Capture) -> Choice:
    """What a few pictures can be told from their background by."""
    count = len(capture.photographs)
    few = [capture.photographs[index].image for index in sorted({0, count // 2, count - 1})]
    pictures = [read_image_with_alpha(path) for path in few]
    if all(alpha is not None and (alpha <= OPAQUE).any() for _, alpha in pictures):
        return "alpha"
    backgrounds = {background_of(image) for image, _ in pictures}
    if len(backgrounds) == 1 and (background := backgrounds.pop()) is not None:
        return background
    if capture.points is not None:
        return "points"
    raise UserError(
        f"{capture.source}: nothing tells the object from its background: the pictures have no "
        "transparency, no folder `mask` is beside them, and their borders are not plain; make "
        "masks (object white), or choose --masks box, light, dark, or none for all of each picture"
    )


def _threshold(
    photograph: Photograph, image: np.ndarray, background: Literal["light", "dark"]
) -> Bool[np.ndarray, "H W"]:
    with naming(photograph.image):
        return mask_by_threshold(image, background)


def _in_box(photograph: Photograph, image: np.ndarray, box: Box | None) -> Bool[np.ndarray, "H W"]:
    with naming(photograph.image):
        return grabcut(image, box=box)

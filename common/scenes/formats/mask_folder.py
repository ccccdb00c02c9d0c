"""Masks in a folder beside a source's pictures, where its layout has none of its own."""

from collections.abc import Sequence
from pathlib import Path

from common.scenes.masking.masks import FOLDERS, pair_masks


def masks_beside(root: Path, images: Sequence[Path]) -> tuple[list[Path | None], tuple[str, ...]]:
    """Each picture's mask in ``root``'s folder `mask` or `masks`, and what to say of the pairing.

    None for every picture where there is no such folder. Raises UserError as pair_masks does.
    """
    folder = next((root / name for name in FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        return [None] * len(images), ()
    masks, notes = pair_masks(images, folder)
    return [*masks], notes

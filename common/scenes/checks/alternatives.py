"""Other readings of the same cameras, or masks, tried one by one: which would fit the masks?"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from common.scenes.capture import Capture, Photograph
from common.scenes.checks.carving import Hull, MaskTables, spread
from common.scenes.checks.corrections import CORRECTIONS, Remedy, chosen
from common.scenes.checks.findings import Alternative
from common.scenes.development import Pictures

LONGEST = 128  # pixels of the masks that are looked at; finer ones show mistakes no better
VIEWS, RAYS = 14, 150  # of each view
NEARLY_RIGHT = 0.97  # hull IoU of given cameras that cannot suffer from two mistakes at once
FITTING = 0.9  # hull IoU of what may be right
CLEARER = 0.4  # the share of what does not fit that an alternative must explain
ALMOST_ALL = 0.75  # that share for one that makes everything smaller
ALIKE = 0.003  # hull IoUs that differ by less are the same
FULL_BORDER = 0.5  # of the picture's border: masks that cover more may be inverted
INVERT_MASKS = "--invert-masks"


def alternatives(pictures: Pictures, views: Int[np.ndarray, "n"]) -> tuple[Alternative, ...]:
    """Readings of the cameras under which these views' masks agree clearly better, best first.

    Of those that do equally well the first in the table comes first. Pairs of mistakes are tried
    where no single one explains what is wrong.
    """
    views = spread(views, VIEWS)
    capture = _as_capture(pictures)
    tables = MaskTables(pictures.masks[views], LONGEST)

    def fit(remedy: Remedy) -> Float[np.ndarray, "n"]:
        photographs = remedy.apply(capture).photographs
        mended = [photographs[view] for view in views]
        intrinsics = np.stack([photograph.intrinsics for photograph in mended])
        poses = np.stack([photograph.world_from_camera for photograph in mended])
        return Hull(tables, intrinsics, poses).iou(RAYS)

    given = fit(Remedy(()))
    found: list[Alternative] = []
    # No two mistakes at once leave cameras that fit nearly right.
    for remedies in (_singles(), _pairs() if given.mean() < NEARLY_RIGHT else ()):
        for remedy in remedies:
            iou = fit(remedy)
            if _clearly_better(iou, given, remedy):
                found.append(Alternative(remedy.name, remedy.options, float(iou.mean())))
        if any(one.hull_iou >= FITTING for one in found):
            break
    best = max((one.hull_iou for one in found), default=0.0)
    # Steps of ALIKE, so that chance differences do not reorder the table.
    found = [one for one in found if one.hull_iou > best - 10 * ALIKE]
    found.sort(key=lambda one: int((best - one.hull_iou) / ALIKE))
    return tuple(found[:3])


def _singles() -> Iterator[Remedy]:
    for step in CORRECTIONS:
        if step.option != "--shift-pixels":  # pixel_shift.py sees those
            for value in step.values or (None,):
                yield Remedy(((step, value),))


_POSE_MISTAKES = (
    "--transpose-rotations",
    "--invert-poses",
    "--transpose-extrinsics",
    "--negate-translations",
)
_AXES_MISTAKES = ("--turn-axes", "--mirror-world", "--swap-xy", "--flip-x", "--flip-y")


def _pairs() -> Iterator[Remedy]:
    """Mistakes that come together: in the poses and in the axes, and pictures lying on one side."""
    table = {step.option: step.values or (None,) for step in CORRECTIONS}
    options = [
        ("--transpose-rotations", "--invert-poses"),
        *itertools.product(_POSE_MISTAKES, _AXES_MISTAKES),
        *itertools.combinations(("--swap-xy", "--flip-x", "--flip-y"), 2),
        ("--turn-axes", "--mirror-world"),
        ("--invert-poses", "--scale-intrinsics"),
        ("--turn-axes", "--scale-intrinsics"),
    ]
    for first, second in options:
        for one, other in itertools.product(table[first], table[second]):
            yield chosen({first: one, second: other})


def _clearly_better(
    iou: Float[np.ndarray, "n"], given: Float[np.ndarray, "n"], remedy: Remedy
) -> bool:
    """Whether it explains much of what does not fit, and not by chance.

    A longer focal length makes all things smaller and their errors with them, so what rescales has
    to explain nearly everything: cameras that are merely rough need no other focal length.
    """
    gain = iou - given
    error = gain.std() / np.sqrt(len(gain))
    rescales = any(
        step.option in ("--scale-focal", "--scale-intrinsics") for step, _ in remedy.steps
    )
    share = ALMOST_ALL if rescales else CLEARER
    needed = max(share * (1 - given.mean()), 3 * error, 2 * ALIKE)
    return bool(gain.mean() > needed)


def inverted_masks(pictures: Pictures, views: Int[np.ndarray, "n"]) -> Alternative | None:
    """Masks that cover most borders, and whose background is an object to all cameras."""
    views = spread(views, VIEWS)
    masks = pictures.masks[views]
    if np.median(border_share(masks)) < FULL_BORDER:
        return None
    cameras = pictures.intrinsics[views], pictures.world_from_camera[views]
    iou = Hull(MaskTables(~masks, LONGEST), *cameras).iou(RAYS).mean()
    if iou < FITTING:
        return None
    return Alternative("masks inverted", INVERT_MASKS, float(iou))


def border_share(masks: Bool[np.ndarray, "V H W"]) -> Float[np.ndarray, "V"]:
    """How much of the picture's border is object."""
    sides = (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])
    return np.concatenate(sides, axis=1).mean(axis=1)


def _as_capture(pictures: Pictures) -> Capture:
    height, width = pictures.masks.shape[1:]
    photographs = [
        Photograph(Path(name), k, (width, height), pose)
        for name, k, pose in zip(
            pictures.names, pictures.intrinsics, pictures.world_from_camera, strict=True
        )
    ]
    return Capture(Path(), tuple(photographs))

"""A look at pictures, masks and cameras before training: do they agree, and if not, what would?

The measure is the visual hull's silhouette (carving.py). Where it doubts the cameras, the usual
mistakes (corrections.py) are undone one by one; what then agrees clearly better is the remedy.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from common.scenes.checks.alternatives import (
    INVERT_MASKS,
    alternatives,
    border_share,
    inverted_masks,
)
from common.scenes.checks.carving import Hull, MaskTables
from common.scenes.checks.findings import Alternative, Findings, ViewFindings
from common.scenes.checks.picture_checks import check_pictures
from common.scenes.checks.pixel_shift import shifted_pixels
from common.scenes.development import Pictures

LONGEST = 128  # pixels of the masks that are looked at; finer ones show mistakes no better
RAYS = 200  # of each view, and fewer where there are many views
TRUSTED = 0.97  # hull IoU above which a quick look tries no alternatives
AGREEING = 0.9  # hull IoU below which cameras and masks do not fit together
STRANGE = 0.02  # of the other masks fits better without a view, or ...
APART = 0.1  # ... of its own mask lies off what nearly all others agree on
MOST_STRANGERS = 0.25  # of the views; where it were more, something is wrong with all
CUT_OFF = 0.3  # of the picture's border: masks that cover more show a part of the object
MOST_LINES = 8  # of a verdict, on single views


@dataclass(frozen=True)
class _Geometry:
    """What cameras and masks say."""

    iou: Float[np.ndarray, "V"]
    strangers: Bool[np.ndarray, "V"]
    coverage: float
    remedies: tuple[Alternative, ...]
    doubts: tuple[str, ...]


def examine(pictures: Pictures, thorough: bool = True, scale: float = 1.0) -> Findings:
    """What pictures, masks and cameras say of each other.

    A quick look (not ``thorough``) tries alternatives only where cameras and masks do not fit well,
    and does not look for half a pixel. It shrinks masks itself: their outlines are needed in full.
    ``scale`` is how many pixels of these pictures one of the camera files' has (1/4 where pictures
    were shrunk to a quarter).
    """
    geometry = _examine_geometry(pictures, thorough, scale)
    inverted = any(one.remedy == INVERT_MASKS for one in geometry.remedies)
    masks = ~pictures.masks if inverted else pictures.masks
    share, border = masks.mean(axis=(1, 2)), border_share(masks)
    shown, telling = share > 0, (share > 0) & (share < 1)
    looks = check_pictures(pictures.images, masks)
    if looks.pairing:
        # Masks of other pictures tell nothing of the cameras.
        geometry = replace(geometry, remedies=(), doubts=looks.pairing)
    views = [
        ViewFindings(
            name=pictures.names[view],
            hull_iou=float(geometry.iou[view]),
            mask_share=float(share[view]),
            sharpness=float(looks.sharpness[view]),
            brightness=float(looks.brightness[view]),
            doubts=(
                *(_mask_doubts(share[view], border[view]) if telling.any() else ()),
                *((_STRANGER,) if geometry.strangers[view] else ()),
                *looks.doubts[view],
            ),
        )
        for view in range(len(pictures))
    ]
    return Findings(
        hull_iou=float(geometry.iou[shown].mean()) if shown.any() else 0.0,
        coverage=geometry.coverage,
        views=tuple(views),
        remedies=geometry.remedies,
        doubts=geometry.doubts,
    )


def verdict(findings: Findings) -> str:
    """A few plain sentences: do they agree, what would mend them, what is doubtful."""
    lines = [_headline(findings)]
    lines += [
        f"nearly as well: {one.name}, {one.hull_iou:.2f} ({one.remedy})"
        for one in findings.remedies[1:]
    ]
    lines += findings.doubts
    doubted = [view for view in findings.views if view.doubts]
    lines += [f"{view.name}: {'; '.join(view.doubts)}" for view in doubted[:MOST_LINES]]
    if len(doubted) > MOST_LINES:
        lines.append(f"and {len(doubted) - MOST_LINES} more views with doubts")
    return "\n".join(lines)


def _headline(findings: Findings) -> str:
    iou, count = findings.hull_iou, len(findings.views)
    if findings.remedies:
        best = findings.remedies[0]
        # Half a pixel moves outlines, and hardly the hull.
        better = f"{best.hull_iou:.2f}" if best.hull_iou > iou + 0.01 else "outlines meet better"
        return (
            f"these cameras fit the masks with IoU {iou:.2f}; with {best.name} {better}: "
            f"run again with {best.remedy}"
        )
    agree = "cameras and masks agree: " if findings.good and iou >= AGREEING else ""
    return f"{agree}hull IoU {iou:.2f} over {count} views"


_STRANGER = "its camera or mask disagrees with the others"


def _examine_geometry(pictures: Pictures, thorough: bool, scale: float) -> _Geometry:
    share = pictures.masks.mean(axis=(1, 2))
    hull = _hull(pictures, np.arange(len(pictures)))
    coverage = _coverage(hull)
    telling = (share > 0) & (share < 1)  # an empty or a whole picture has no outline
    if telling.sum() < 3:
        iou, strangers = hull.iou(RAYS), np.zeros(len(share), dtype=bool)
        return _Geometry(iou, strangers, coverage, (), (_untold(share),))
    iou, strangers = _look(hull)
    strangers &= telling
    fair = np.flatnonzero(telling & ~strangers)
    agreed = float(iou[telling].mean())
    if strangers.any():
        agreed = float(_hull(pictures, fair).iou(RAYS).mean())
    remedies = _remedies(pictures, fair, agreed, thorough, scale)
    doubts: tuple[str, ...] = ()
    if remedies:
        strangers[:] = False  # whoever is strange with the mended cameras is told then
    if agreed < AGREEING and not remedies:
        doubts = (
            f"cameras and masks do not fit together (hull IoU {agreed:.2f}), and none of the usual "
            "mistakes explains it; check that pictures, masks and cameras are of one scene and in "
            "one order and that masks have no holes, or estimate the cameras again",
        )
    elif strangers.any():
        doubts = (
            f"{strangers.sum()} of {len(iou)} views disagree with the others, which agree among "
            f"themselves with hull IoU {agreed:.2f}; leave them out or mend them",
        )
    return _Geometry(iou, strangers, coverage, remedies, doubts)


def _look(hull: Hull) -> tuple[Float[np.ndarray, "V"], Bool[np.ndarray, "V"]]:
    """Hull IoU of each view, and which few views disagree with all others."""
    count = len(hull.masks)
    rays = int(np.clip(10_000 / count, 50, RAYS))
    few = max(1, count // 10)
    looks = [hull.agreement(view, rays, few) for view in range(count)]
    iou = np.array([look.iou for look in looks])
    apart = np.array([(look.fewest > few).mean() if len(look.fewest) else 0 for look in looks])
    # How much more of the other masks would the hull cover without this view?
    rescued = [look.rescuers.mean(axis=0) for look in looks if len(look.fewest)]
    strangers = (np.mean(rescued, axis=0) > STRANGE) | (apart > APART)
    if strangers.sum() > MOST_STRANGERS * count:
        strangers[:] = False
    return iou, strangers


def _remedies(
    pictures: Pictures, fair: Int[np.ndarray, "n"], agreed: float, thorough: bool, scale: float
) -> tuple[Alternative, ...]:
    """Alternatives that fit clearly better, best first."""
    inverted = inverted_masks(pictures, fair)
    if inverted is not None:
        return (inverted,)
    found: tuple[Alternative, ...] = ()
    if thorough or agreed < TRUSTED:
        found = alternatives(pictures, fair)
    if thorough and not found and agreed >= AGREEING:
        found = shifted_pixels(pictures, fair, scale)
    return found


def _hull(pictures: Pictures, views: Int[np.ndarray, "n"]) -> Hull:
    return Hull(
        MaskTables(pictures.masks[views], LONGEST),
        pictures.intrinsics[views],
        pictures.world_from_camera[views],
    )


def _mask_doubts(share: float, border: float) -> tuple[str, ...]:
    if share == 0:
        return ("its mask is empty",)
    if share == 1:
        return ("its mask is the whole picture",)
    if border > CUT_OFF:
        return (f"the object reaches beyond the picture (at {border:.0%} of its border)",)
    return ()


def _untold(share: Float[np.ndarray, "V"]) -> str:
    if (share == 1).all():
        return "there are no masks, so nothing tells whether the cameras are right"
    if (share == 0).all():
        return "all masks are empty; object must be white (255), or opaque in alpha"
    return "fewer than three masks show an outline, so nothing tells whether the cameras are right"


def _coverage(hull: Hull) -> float:
    """Share of directions around the object that are within 30 degrees of a camera's."""
    index = np.arange(1000) + 0.5
    z, turn = 1 - 2 * index / len(index), np.pi * (1 + 5**0.5) * index  # a Fibonacci sphere
    across = np.sqrt(1 - z**2)
    around = np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    cameras = hull.world_from_camera[:, :3, 3] - hull.ball[0]
    cameras /= np.maximum(np.linalg.norm(cameras, axis=1, keepdims=True), 1e-12)
    return float(((around @ cameras.T).max(axis=1) >= np.cos(np.pi / 6)).mean())

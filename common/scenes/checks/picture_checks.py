"""Pictures that are blurred or of another exposure, and masks that miss what they show."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_erosion, gaussian_gradient_magnitude, laplace

from common.data.images import resize_image, resize_mask

LONGEST = 512  # pixels; finer ones cost time
# Bounds far outside what well-made scenes show: a sharp picture of a plain side has a third of the
# median's sharpness, one of a shadowed side half its brightness.
BLURRED = 0.2
DARK, BRIGHT = 0.4, 2.2
ASIDE = 0.03  # of the picture's longer side: how far masks are moved to see whether they fit better
BETTER = 1.3  # times the contrast along the outline


@dataclass(frozen=True)
class PictureFindings:
    """One value a view; ``doubts`` are of single views, ``pairing`` of all masks together."""

    sharpness: Float[np.ndarray, "V"]  # against the median view's: 1 is usual
    brightness: Float[np.ndarray, "V"]  # mean of the object, 0 to 1
    doubts: tuple[tuple[str, ...], ...]
    pairing: tuple[str, ...]  # masks that are not of these pictures: they say nothing of cameras


def check_pictures(
    images: UInt8[np.ndarray, "V H W 3"], masks: Bool[np.ndarray, "V H W"]
) -> PictureFindings:
    """Sharpness, exposure, and whether masks follow the pictures' edges."""
    grey = [_shrunk(image).mean(axis=-1) / 255 for image in images]
    small = [resize_mask(mask, *one.shape) for mask, one in zip(masks, grey, strict=True)]
    brightness = np.array([_mean(one[m]) for one, m in zip(grey, small, strict=True)])
    detail = np.array([_detail(one, m) for one, m in zip(grey, small, strict=True)])
    # Only the object counts, unless no mask tells where it is.
    told = np.array([mask.any() and not mask.all() for mask in small])
    shown = told if told.any() else np.array([mask.any() for mask in small])
    usual = np.median(detail[shown]) if shown.any() else 0.0
    sharpness = detail / usual if usual > 0 else np.ones(len(detail))
    usual_brightness = np.median(brightness[shown]) if shown.any() else 1.0
    edges = [gaussian_gradient_magnitude(one, 1.0) for one in grey]
    outlines = [mask & ~binary_erosion(mask, border_value=1) for mask in small]
    pairing = _pairing(edges, outlines)
    moves = [_better_aside(*one) for one in zip(edges, outlines, strict=True)]
    if pairing:
        moves = [""] * len(moves)
    elif sum(map(bool, moves)) > len(moves) / 2:
        usual_move = max(set(moves) - {""}, key=moves.count)
        pairing = (f"most masks fit their pictures better moved {usual_move}",)
        moves = [""] * len(moves)
    doubts = [
        (
            *_sharpness_doubts(sharpness[view] if shown[view] else 1.0),
            *_exposure_doubts(brightness[view] / usual_brightness if shown[view] else 1.0),
            *((f"the mask fits the picture better moved {moves[view]}",) if moves[view] else ()),
        )
        for view in range(len(grey))
    ]
    return PictureFindings(sharpness, brightness, tuple(doubts), pairing)


def _sharpness_doubts(sharpness: float) -> tuple[str, ...]:
    if sharpness >= BLURRED:
        return ()
    return (f"blurred: {sharpness:.0%} of the usual sharpness",)


def _exposure_doubts(ratio: float) -> tuple[str, ...]:
    if DARK <= ratio <= BRIGHT:
        return ()
    return (f"much {'darker' if ratio < 1 else 'brighter'} than the others ({ratio:.2g} times)",)


def _better_aside(edges: Float[np.ndarray, "h w"], outline: Bool[np.ndarray, "h w"]) -> str:
    """Where the mask should move to lie on clearly stronger edges, "left and up"; else empty."""
    if not outline.any():
        return ""
    step = max(round(ASIDE * max(edges.shape)), 1)
    aside = {
        (x, y): _mean(edges[_moved(outline, x, y)])
        for x in (-step, 0, step)
        for y in (-step, 0, step)
    }
    x, y = max(aside, key=lambda move: aside[move])
    if aside[x, y] < BETTER * aside[0, 0]:
        return ""
    sides = {"left": x < 0, "right": x > 0, "up": y < 0, "down": y > 0}
    return " and ".join(side for side, chosen in sides.items() if chosen)


def _pairing(
    edges: list[Float[np.ndarray, "h w"]], outlines: list[Bool[np.ndarray, "h w"]]
) -> tuple[str, ...]:
    """Whether masks follow the edges of other views' pictures better than those of their own."""
    count = len(edges)
    own = _contrast(edges, outlines)
    others = {
        "in the opposite order": _contrast(edges, outlines[::-1]),
        "one place on": _contrast(edges, [outlines[i - 1] for i in range(count)]),
        "one place back": _contrast(edges, [outlines[(i + 1) % count] for i in range(count)]),
    }
    best = max(others, key=lambda name: others[name])
    if count < 3 or others[best] <= BETTER * own:
        return ()
    return (f"the masks fit the pictures better {best}; check which mask is whose",)


def _contrast(
    edges: list[Float[np.ndarray, "h w"]], outlines: list[Bool[np.ndarray, "h w"]]
) -> float:
    """Mean strength of edges along outlines against that of the whole pictures."""
    shares = [
        _mean(one[outline]) / max(_mean(one), 1e-9)
        for one, outline in zip(edges, outlines, strict=True)
        if outline.any()
    ]
    return float(np.mean(shares)) if shares else 0.0


def _detail(grey: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    """Variance of the Laplacian on the object (Pech-Pacheco et al. 2000), whatever the exposure."""
    if not mask.any():
        return 0.0
    return float(laplace(grey)[mask].var() / max(grey[mask].mean(), 1 / 255) ** 2)


def _moved(outline: Bool[np.ndarray, "h w"], x: int, y: int) -> Bool[np.ndarray, "h w"]:
    """What is left of it in the picture, x to the right and y down."""
    height, width = outline.shape
    moved = np.zeros_like(outline)
    moved[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = outline[
        max(-y, 0) : height + min(-y, 0), max(-x, 0) : width + min(-x, 0)
    ]
    return moved


def _shrunk(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    factor = min(LONGEST / max(height, width), 1.0)
    return resize_image(image, max(round(height * factor), 1), max(round(width * factor), 1))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0

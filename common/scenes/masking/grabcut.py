"""The object of one picture by GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004), of OpenCV."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from common.data.images import nearest_rows, resize_image, resize_mask
from common.errors import UserError
from common.scenes.masking.plain_background import cleaned

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

# What is known of a pixel beforehand, in OpenCV's numbers.
BACKGROUND, OBJECT, LIKELY_BACKGROUND, LIKELY_OBJECT = range(4)
ITERATIONS = 5
SAMPLE = 50_000  # pixels of either side to learn colours from
FEWEST = 50  # pixels that may be object, and that may not
LARGEST = 640  # pixels a side; on larger pictures time grows and outlines do not improve


def load_opencv():
    """OpenCV; raises UserError with the remedy where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"GrabCut needs OpenCV, which is not installed ({error}); "
            "install it with: pip install -e '.[sfm]'"
        ) from error
    return cv2


def grabcut(
    image: UInt8[np.ndarray, "H W 3"],
    box: Box | None = None,
    points: Float[np.ndarray, "N 2"] | None = None,
) -> Bool[np.ndarray, "H W"]:
    """The object inside a box, or around points known to be on it (x, y; at least three).

    Points alone bring their own box, half as large again. Raises UserError without OpenCV and for
    a box or points that leave no background or no object in the picture.
    """
    height, width = image.shape[:2]
    known = np.full((height, width), BACKGROUND, dtype=np.uint8)
    if box is None:
        box = _box_around(points)
    x, y, w, h = box
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if right - left < 2 or bottom - top < 2 or (right - left, bottom - top) == (width, height):
        raise UserError(
            f"the box {x},{y},{w},{h} (x,y,width,height) must lie in the picture of "
            f"{width} x {height} pixels and leave some background around it"
        )
    known[top:bottom, left:right] = LIKELY_OBJECT
    if points is not None:
        column, row = np.rint(points).astype(int).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        known[row[inside], column[inside]] = OBJECT
    return cleaned(cut(image, known))


@dataclass(frozen=True)
class Colours:
    """Of the object and of its background: mixtures of five Gaussians, as OpenCV keeps them."""

    background: Float[np.ndarray, "1 65"]
    object: Float[np.ndarray, "1 65"]


def learn_colours(
    object_pixels: UInt8[np.ndarray, "N 3"], background_pixels: UInt8[np.ndarray, "M 3"]
) -> Colours:
    """Fitted to pixels of either side, to be used in several pictures; SAMPLE of each at most."""
    cv2 = load_opencv()
    rng = np.random.default_rng(0)
    sides = [rng.permutation(side)[:SAMPLE] for side in (object_pixels, background_pixels)]
    # To OpenCV they are one picture, a pixel high, of which everything is known.
    picture = np.ascontiguousarray(np.concatenate(sides)[None, :, ::-1])
    known = np.repeat([[OBJECT, BACKGROUND]], [len(side) for side in sides], axis=1)
    background, object_ = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(
        picture, known.astype(np.uint8), None, background, object_, 3, cv2.GC_INIT_WITH_MASK
    )
    return Colours(background, object_)


def cut(
    image: UInt8[np.ndarray, "H W 3"],
    known: UInt8[np.ndarray, "H W"],
    colours: Colours | None = None,
) -> Bool[np.ndarray, "H W"]:
    """GrabCut from what is known of each pixel beforehand (BACKGROUND ... LIKELY_OBJECT).

    ``colours`` None: they are learnt from this picture alone. Pictures over LARGEST are cut at that
    size. Where too little may be object or background to tell, all that may be is object. Raises
    UserError without OpenCV.
    """
    cv2 = load_opencv()
    shape = known.shape
    scale = LARGEST / max(shape)
    if scale < 1:
        height, width = (max(round(side * scale), 1) for side in shape)
        image = resize_image(image, height, width)
        known = known[np.ix_(nearest_rows(shape[0], height), nearest_rows(shape[1], width))]
    known = known.copy()
    may_be_object = known != BACKGROUND
    # OpenCV cannot fit five colours to fewer pixels.
    if colours is None and min(may_be_object.sum(), (~may_be_object).sum()) < FEWEST:
        return resize_mask(may_be_object, *shape)
    cv2.setRNGSeed(0)
    picture = np.ascontiguousarray(image[..., ::-1])
    if colours is None:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(picture, known, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    else:
        models = colours.background.copy(), colours.object.copy()
        cv2.grabCut(picture, known, None, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    return resize_mask(np.isin(known, (OBJECT, LIKELY_OBJECT)), *shape)


def _box_around(points: Float[np.ndarray, "N 2"] | None) -> Box:
    """Around points, a quarter of their extent away from them."""
    if points is None or len(points) < 3:
        raise UserError("GrabCut needs a box, or at least three points on the object")
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - 0.25 * (high - low), high + 0.25 * (high - low)
    left, top, right, bottom = np.rint([*low, *high]).astype(int).tolist()
    return left, top, right - left, bottom - top

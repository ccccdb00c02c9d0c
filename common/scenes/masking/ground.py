"""The ground an object stands on, and where a picture shows something else than it.

The ground is a plane, so all pictures of it can be laid over one another; what stands on it falls
into another place in each. A picture's pixel that differs from what most others show at its point
of the plane is not ground.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter, uniform_filter

from common.scenes.masking.grabcut import load_opencv

TRIALS = 500  # planes through three points each
SAMPLE = 3000  # points that they are tried on
LEAST_SHARE = 0.2  # of the points that lie on the ground
ABOVE = 0.95  # share of the cameras that see it from above

OTHERS = 24  # pictures laid over each; more tell little more
WITNESSES = 4  # of them at least must show a point of the ground
UNSETTLED = 40.0  # levels between quartiles where what they show is not one thing
FARTHEST = 8.0  # of the ground from the object's foot, in the object's radii
DIFFERENT, ALIKE = 20.0, 15.0  # levels from the ground, at least and at most
MOSTLY_DIFFERENT, MOSTLY_ALIKE = (5, 0.75), (9, 0.93)  # window in pixels and share of it
TEXTURED = 12.0  # mean levels between neighbouring pixels that tell one place from another
BLUR = 3  # pixels around masks that are not trusted either


@dataclass(frozen=True)
class Ground:
    """The plane normal . x = offset, seen from its positive side."""

    normal: Float[np.ndarray, "3"]  # unit
    offset: float

    def height(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """Above the plane; negative below."""
        return points @ self.normal - self.offset


@dataclass(frozen=True)
class Comparison:
    """Of a picture with the ground; pixels in neither could be either."""

    differs: Bool[np.ndarray, "H W"]
    agrees: Bool[np.ndarray, "H W"]


def find_ground(
    points: Float[np.ndarray, "P 3"], cameras: Float[np.ndarray, "V 3"], tolerance: float
) -> Ground | None:
    """The plane that most points lie on, seen from one side by nearly all cameras.

    By random sampling (RANSAC, Fischler and Bolles 1981) and least squares. None where no such
    plane has LEAST_SHARE of the points.
    """
    rng = np.random.default_rng(0)
    sample = points[rng.permutation(len(points))[:SAMPLE]]
    if len(sample) < 3:
        return None
    first, second, third = sample[rng.integers(0, len(sample), (3, TRIALS))]
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1)
    proper = lengths > 1e-6 * lengths.max(initial=1e-300)
    normals = normals[proper] / lengths[proper, None]
    offsets = (normals * first[proper]).sum(axis=1)
    sides = np.where(np.median(cameras @ normals.T - offsets, axis=0) < 0, -1, 1)
    normals, offsets = normals * sides[:, None], offsets * sides
    from_above = (cameras @ normals.T - offsets > tolerance).mean(axis=0) >= ABOVE
    support = (np.abs(sample @ normals.T - offsets) < tolerance).mean(axis=0) * from_above
    if support.max(initial=0) < LEAST_SHARE:
        return None
    best = support.argmax()
    return _fitted(Ground(normals[best], float(offsets[best])), points, tolerance)


def _fitted(ground: Ground, points: Float[np.ndarray, "P 3"], tolerance: float) -> Ground:
    for _ in range(3):
        on_it = points[np.abs(ground.height(points)) < tolerance]
        middle = on_it.mean(axis=0)
        normal = np.linalg.svd(on_it - middle, full_matrices=False)[2][2]
        normal *= np.sign(normal @ ground.normal)
        ground = Ground(normal, float(normal @ middle))
    return ground


def pixels_from_ground(
    ground: Ground,
    below: Float[np.ndarray, "3"],
    unit: float,
    projections: Float[np.ndarray, "V 3 4"],
) -> Float[np.ndarray, "V 3 3"]:
    """Homographies from coordinates on the ground to pixels, the third one positive in front.

    The origin is where the plumb line from ``below`` meets the ground, ``unit`` their unit.
    """
    foot = below - ground.normal * ground.height(below[None])[0]
    along = np.linalg.svd(ground.normal[None])[2][1:] * unit
    plane = np.vstack([np.column_stack([*along, foot]), [0, 0, 1]])
    forward = np.sign(np.linalg.det(projections[:, :, :3]))
    return forward[:, None, None] * (projections @ plane)


def compare_with_ground(
    view: int,
    images: UInt8[np.ndarray, "V H W 3"],
    masks: Bool[np.ndarray, "V H W"],
    homographies: Float[np.ndarray, "V 3 3"],
    region: Bool[np.ndarray, "H W"],
) -> Comparison:
    """Where a picture, in a region of it, shows the ground that the other pictures show, and not.

    ``masks`` are what is known so far of the object: there the others do not show the ground.
    """
    differs, agrees = np.zeros((2, *region.shape), dtype=bool)
    if region.any():
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        found = _compare(view, images, masks, homographies, window)
        differs[window], agrees[window] = found.differs, found.agrees
    return Comparison(differs & region, agrees & region)


def _compare(
    view: int,
    images: UInt8[np.ndarray, "V H W 3"],
    masks: Bool[np.ndarray, "V H W"],
    homographies: Float[np.ndarray, "V 3 3"],
    window: tuple[slice, slice],
) -> Comparison:
    ground, spread, witnesses = _ground_seen_by_others(view, images, masks, homographies, window)
    near = _near_ground(homographies[view], window)
    known = near & (witnesses >= WITNESSES) & (spread < UNSETTLED)
    ground = np.where(known[..., None], ground, 0)
    # Cameras are known to about a pixel: whatever the ground shows next to this one will do.
    low, high = minimum_filter(ground, (3, 3, 1)), maximum_filter(ground, (3, 3, 1))
    picture = images[view][window].astype(np.float32)
    off = np.maximum(np.maximum(low - picture, picture - high), 0).max(axis=-1)
    textured = uniform_filter((high - low).max(axis=-1), MOSTLY_ALIKE[0]) > TEXTURED
    return Comparison(
        differs=known & _mostly(off > DIFFERENT, known, *MOSTLY_DIFFERENT),
        agrees=known & _mostly(off < ALIKE, known, *MOSTLY_ALIKE) & textured,
    )


def _ground_seen_by_others(
    view: int,
    images: UInt8[np.ndarray, "V H W 3"],
    masks: Bool[np.ndarray, "V H W"],
    homographies: Float[np.ndarray, "V 3 3"],
    window: tuple[slice, slice],
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """Median of what other pictures show of the ground, spread of the quartiles, their number."""
    cv2 = load_opencv()
    rows, columns = window
    size = columns.stop - columns.start, rows.stop - rows.start
    shift = np.array([[1, 0, -columns.start], [0, 1, -rows.start], [0, 0, 1.0]])
    others = np.delete(np.arange(len(images)), view)
    pictures = []
    for other in others[np.linspace(0, len(others) - 1, min(OTHERS, len(others))).astype(int)]:
        change = shift @ homographies[view] @ np.linalg.inv(homographies[other])
        picture = cv2.warpPerspective(images[other], change, size).astype(np.float32)
        free = (~binary_dilation(masks[other], iterations=BLUR)).astype(np.uint8)
        shown = cv2.warpPerspective(free, change, size, flags=cv2.INTER_NEAREST)
        pictures.append(np.where(shown[..., None] == 1, picture, np.float32(np.nan)))
    seen = np.sort(np.stack(pictures), axis=0)  # what is not shown comes last
    witnesses = np.isfinite(seen[..., 0]).sum(axis=0)

    def quantile(share: float) -> Float32[np.ndarray, "h w 3"]:
        index = np.maximum((witnesses - 1) * share, 0).astype(int)
        return np.take_along_axis(seen, index[None, ..., None], axis=0)[0]

    spread = (quantile(0.75) - quantile(0.25)).max(axis=-1)
    return quantile(0.5), spread, witnesses


def _near_ground(
    homography: Float[np.ndarray, "3 3"], window: tuple[slice, slice]
) -> Bool[np.ndarray, "h w"]:
    """Whether a pixel's ray meets the ground, before the camera and within FARTHEST."""
    y, x = np.mgrid[window]
    place = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(homography).T
    return np.linalg.norm(place[..., :2], axis=-1) < FARTHEST * place[..., 2]


def _mostly(
    what: Bool[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], window: int, share: float
) -> Bool[np.ndarray, "h w"]:
    """Where that share of what is known around a pixel is so."""
    part = uniform_filter((what & known).astype(np.float32), window)
    return part > share * np.maximum(uniform_filter(known.astype(np.float32), window), 1e-3)

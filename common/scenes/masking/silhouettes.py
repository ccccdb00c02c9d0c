"""Masks of one object from pictures, cameras and sparse points alone.

Structure from motion finds few points on a smooth object, but many on what it stands on. So the
object is first what does not look like the ground (ground.py), or, where no plane is found, what
lies among the points that the cameras look at. That gives its colours and its background's, and
with them GrabCut cuts it out of every picture. Then the visual hull of all masks says where it
cannot be, which corrects each of them, and the pictures are cut again.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from scipy.spatial import Delaunay

from common.data.images import resize_image, resize_mask
from common.errors import UserError
from common.scenes.capture import SparsePoints
from common.scenes.masking.grabcut import (
    BACKGROUND,
    LARGEST,
    LIKELY_BACKGROUND,
    OBJECT,
    cut,
    learn_colours,
)
from common.scenes.masking.ground import (
    Comparison,
    Ground,
    compare_with_ground,
    find_ground,
    pixels_from_ground,
)
from common.scenes.masking.plain_background import cleaned

ROUNDS = 3  # of GrabCut
ON_GROUND = 0.005  # tolerance of points on the ground, over the cameras' distance
FEWEST_POINTS = 20  # on an object without ground
GRID = 112  # voxels along the side of the ball's cube
MISSES = 0.15  # of the views that see a voxel of the hull, those whose masks may lack it
AROUND = 1.1  # radius of the ball around the hull, over the hull's
FEWEST_VOXELS = 10
SLACK = 6  # pixels around the hull in which the object's outline is sought
REMEDY = "choose --masks box, or make masks (object white)"
FEWEST_PIXELS = 200  # of either side, in all pictures, to learn its colours from


@dataclass(frozen=True)
class _Place:
    """A ball that holds the object, and the ground below it."""

    centre: Float[np.ndarray, "3"]
    radius: float
    ground: Ground | None


def object_masks(
    images: UInt8[np.ndarray, "V H W 3"],
    projections: Float[np.ndarray, "V 3 4"],
    points: SparsePoints,
) -> Bool[np.ndarray, "V H W"]:
    """Where each picture shows the object; large ones are judged at LARGEST pixels a side.

    ``projections`` take the points' world to pixels. Raises UserError where nothing stands out, and
    without OpenCV.
    """
    height, width = images.shape[1:3]
    scale = min(LARGEST / max(height, width), 1.0)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    small = np.stack([resize_image(image, *size) for image in images])
    x, y = size[1] / width, size[0] / height
    resize = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
    masks = _object_masks(small, resize @ projections, points.points)
    return np.stack([resize_mask(mask, height, width) for mask in masks])


def _object_masks(
    images: UInt8[np.ndarray, "V H W 3"],
    projections: Float[np.ndarray, "V 3 4"],
    points: Float[np.ndarray, "P 3"],
) -> Bool[np.ndarray, "V H W"]:
    size = images.shape[1:3]
    place = _first_place(projections, points, size)
    possible = np.stack([_ball(place, projection, size) for projection in projections])
    clues, inside = _first_clues(place, images, projections, points, possible)
    outside = ~possible | np.stack([clue.agrees for clue in clues])
    solid = np.zeros_like(possible)
    for _ in range(ROUNDS):
        if min(inside.sum(), outside.sum()) < FEWEST_PIXELS:
            raise UserError(f"no object stands out from the ground; {REMEDY}")
        colours = learn_colours(images[inside], images[outside])
        known = [_known(clue, where) for clue, where in zip(clues, possible, strict=True)]
        masks = np.stack(
            [cut(image, start, colours) for image, start in zip(images, known, strict=True)]
        )
        # A hole that all other views deny is a part that looks like the background.
        masks = np.stack([_filled(*each) for each in zip(masks, solid, clues, strict=True)])
        hull = _hull(place, masks, projections)
        place = _around(hull, place)
        possible = hull.seen_by(projections, size, slack=SLACK)
        solid = hull.certain.seen_by(projections, size, slack=0)
        clues, inside = _clues(place, images, masks, projections, possible)
        outside = ~masks
    return np.stack([cleaned(mask) for mask in masks & possible])


def _known(clue: Comparison, possible: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """What GrabCut is told of each pixel."""
    known = np.full(possible.shape, LIKELY_BACKGROUND, dtype=np.uint8)
    known[clue.differs] = OBJECT
    known[clue.agrees | ~possible] = BACKGROUND
    return known


def _filled(
    mask: Bool[np.ndarray, "H W"], solid: Bool[np.ndarray, "H W"], clue: Comparison
) -> Bool[np.ndarray, "H W"]:
    """The mask without holes that are mostly before something solid and not clearly the ground."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    if count == 0:
        return mask
    share = ndimage.mean(solid & ~clue.agrees, holes, np.arange(1, count + 1))
    return mask | np.append(False, share > 0.5)[holes]


def _first_place(
    projections: Float[np.ndarray, "V 3 4"],
    points: Float[np.ndarray, "P 3"],
    size: tuple[int, int],
) -> _Place:
    """As large a ball about what the cameras look at as the pictures show whole."""
    height, width = size
    centres, forward = _centres(projections), _forward(projections)
    matrices = projections[:, :, :3]
    middle = np.array([(width - 1) / 2, (height - 1) / 2, 1.0])
    axes = _unit(forward[:, None] * np.linalg.solve(matrices, middle[:, None])[..., 0])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    right = (across @ centres[..., None]).reshape(-1)
    target = np.linalg.lstsq(across.reshape(-1, 3), right, rcond=None)[0]
    # Lines of pixels along the picture's rims are planes through the camera.
    rims = np.array([[1, 0, 0.5], [-1, 0, width - 0.5], [0, 1, 0.5], [0, -1, height - 0.5]])
    planes = _unit(forward[:, None, None] * (rims @ matrices))
    room = (planes @ (target - centres)[..., None])[..., 0]
    # A wide picture may hold a wide object.
    radius = float(np.median(np.maximum(room[:, :2].min(axis=1), room[:, 2:].min(axis=1))))
    if not radius > 0:
        raise UserError(
            f"the cameras look at no common point, so the object cannot be found; {REMEDY}"
        )
    distance = float(np.median(np.linalg.norm(target - centres, axis=1)))
    return _Place(target, radius, find_ground(points, centres, ON_GROUND * distance))


def _first_clues(
    place: _Place,
    images: UInt8[np.ndarray, "V H W 3"],
    projections: Float[np.ndarray, "V 3 4"],
    points: Float[np.ndarray, "P 3"],
    possible: Bool[np.ndarray, "V H W"],
) -> tuple[list[Comparison], Bool[np.ndarray, "V H W"]]:
    """What is known of each picture before any mask is, and pixels to learn the object by."""
    if place.ground is None:
        return _clues_of_points(place, projections, points, possible)
    masks = np.zeros_like(possible)
    for _ in range(2):  # at first, the object itself is taken for the ground below it
        clues, differs = _clues(place, images, masks, projections, possible)
        masks = np.stack([ndimage.binary_opening(one, iterations=2) for one in differs])
    return clues, differs


def _clues(
    place: _Place,
    images: UInt8[np.ndarray, "V H W 3"],
    masks: Bool[np.ndarray, "V H W"],
    projections: Float[np.ndarray, "V 3 4"],
    possible: Bool[np.ndarray, "V H W"],
) -> tuple[list[Comparison], Bool[np.ndarray, "V H W"]]:
    """The same, where masks are roughly known.

    On the ground, colours are learnt from what certainly differs from it: learning from the masks
    themselves would make more of their mistakes every time.
    """
    if place.ground is None:
        nothing = np.zeros(possible.shape[1:], dtype=bool)
        return [Comparison(nothing, nothing)] * len(images), masks & possible
    homographies = pixels_from_ground(place.ground, place.centre, place.radius, projections)
    clues = [
        compare_with_ground(view, images, masks, homographies, possible[view])
        for view in range(len(images))
    ]
    return clues, np.stack([clue.differs for clue in clues])


def _clues_of_points(
    place: _Place,
    projections: Float[np.ndarray, "V 3 4"],
    points: Float[np.ndarray, "P 3"],
    possible: Bool[np.ndarray, "V H W"],
) -> tuple[list[Comparison], Bool[np.ndarray, "V H W"]]:
    """The object by the points in its ball: certain at them, likely between them."""
    own = points[np.linalg.norm(points - place.centre, axis=1) < place.radius]
    if len(own) < FEWEST_POINTS:
        raise UserError(
            f"only {len(own)} sparse points are where the cameras look, and they show no ground; "
            f"{REMEDY}"
        )
    certain, likely = np.zeros((2, *possible.shape), dtype=bool)
    y, x = np.mgrid[: possible.shape[1], : possible.shape[2]]
    for view, projection in enumerate(projections):
        pixel, depth = _project(projection, own)
        certain[view] = _painted(pixel[depth > 0], possible.shape[1:])
        likely[view] = Delaunay(pixel[depth > 0]).find_simplex(np.stack([x, y], axis=-1)) >= 0
    nothing = np.zeros(possible.shape[1:], dtype=bool)
    clues = [Comparison(one & where, nothing) for one, where in zip(certain, possible, strict=True)]
    return clues, likely & possible


@dataclass(frozen=True)
class _Hull:
    """Voxels that nearly all masks hold which see them."""

    voxels: Float[np.ndarray, "N 3"]
    dissent: Float[np.ndarray, "N"]  # share of those masks that do not hold them
    spacing: float

    @property
    def certain(self) -> "_Hull":
        """Those that all but at most one of 30 hold."""
        sure = self.dissent <= 1 / 30
        return _Hull(self.voxels[sure], self.dissent[sure], self.spacing)

    def seen_by(
        self, projections: Float[np.ndarray, "V 3 4"], size: tuple[int, int], slack: int
    ) -> Bool[np.ndarray, "V H W"]:
        """Pixels of each camera within ``slack`` of where it sees the voxels."""
        views = np.zeros((len(projections), *size), dtype=bool)
        for seen, projection in zip(views, projections, strict=True):
            pixel, depth = _project(projection, self.voxels)
            if (depth > 0).any():
                # Voxels are dots, about so many pixels apart; together they are a surface.
                focal = np.linalg.norm(projection[:2, :3]) / np.linalg.norm(projection[2, :3])
                gap = focal * self.spacing / np.median(depth[depth > 0])
                dots = _painted(pixel[depth > 0], size)
                seen |= ndimage.distance_transform_edt(~dots) <= slack + gap / 2
        return views


def _hull(
    place: _Place,
    masks: Bool[np.ndarray, "V H W"],
    projections: Float[np.ndarray, "V 3 4"],
) -> _Hull:
    """The hull of the masks inside the ball and above the ground."""
    side = np.linspace(-1, 1, GRID)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = place.centre + place.radius * grid[(grid**2).sum(axis=1) <= 1]
    if place.ground is not None:
        grid = grid[place.ground.height(grid) > 0]
    seen, missed = np.zeros((2, len(grid)), dtype=int)
    height, width = masks.shape[1:]
    for mask, projection in zip(masks, projections, strict=True):
        pixel, depth = _project(projection, grid)
        column, row = np.rint(pixel.clip(-1, max(height, width))).astype(int).T
        sees = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen += sees
        missed += sees & ~mask[row.clip(0, height - 1), column.clip(0, width - 1)]
    dissent = missed / np.maximum(seen, 1)
    held = (dissent <= MISSES) & (seen >= 0.5 * len(masks))
    if held.sum() < FEWEST_VOXELS:
        raise UserError(f"no object stands out in the same place of all pictures; {REMEDY}")
    return _Hull(grid[held], dissent[held], 2 * place.radius / (GRID - 1))


def _around(hull: _Hull, place: _Place) -> _Place:
    """The same place with a ball around the hull."""
    centre = (hull.voxels.min(axis=0) + hull.voxels.max(axis=0)) / 2
    radius = AROUND * float(np.linalg.norm(hull.voxels - centre, axis=1).max())
    return replace(place, centre=centre, radius=radius)


def _ball(
    place: _Place, projection: Float[np.ndarray, "3 4"], size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Pixels whose rays meet the ball."""
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
    rays = _unit(_forward(projection[None]) * (pixels @ np.linalg.inv(projection[:, :3]).T))
    towards = place.centre - _centres(projection[None])[0]
    along = rays @ towards
    return (along > 0) & (towards @ towards - along**2 < place.radius**2)


def _project(
    projection: Float[np.ndarray, "3 4"], points: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N"]]:
    """Pixels and camera z; where z is not positive, pixels mean nothing."""
    scale = _forward(projection[None])[0] / np.linalg.norm(projection[2, :3])
    x, y, z = (scale * (points @ projection[:, :3].T + projection[:, 3])).T
    safe = np.where(z > 0, z, 1)
    return np.stack([x / safe, y / safe], axis=1), z


def _painted(pixel: Float[np.ndarray, "N 2"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels nearest to these places."""
    painted = np.zeros(size, dtype=bool)
    column, row = np.rint(pixel.clip(-1, max(size))).astype(int).T
    inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    painted[row[inside], column[inside]] = True
    return painted


def _centres(projections: Float[np.ndarray, "V 3 4"]) -> Float[np.ndarray, "V 3"]:
    return -np.linalg.solve(projections[:, :, :3], projections[:, :, 3:])[..., 0]


def _forward(projections: Float[np.ndarray, "V 3 4"]) -> Float[np.ndarray, "V"]:
    """1, or -1 where a projection is negated."""
    return np.sign(np.linalg.det(projections[:, :, :3]))


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

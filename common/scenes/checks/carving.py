"""Do masks and cameras agree? The hull of all masks, seen along the rays of each.

A ray through a mask's pixel meets the visual hull where some point of it is inside the masks of all
other views (image-based visual hulls, Matusik et al. 2000). With the right cameras nearly all of
them do, because the object is there; so the share that does says how right the cameras are
(silhouette coherence, Hernandez, Schmitt and Cipolla 2007).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_erosion, distance_transform_edt

from common.data.images import resize_mask

DEPTHS = 64  # samples along a ray, across the object's ball: about one a pixel
LEAST_WITNESSES = 0.5  # what fewer of the views see is not taken for the object
MOST_WITNESSES = 48  # views asked about one ray: more tell little more
BEYOND = 4.0  # pixels outside a mask; how much further makes no difference


@dataclass(frozen=True)
class Agreement:
    """What the other views say of rays through a view's mask."""

    fewest: Int[np.ndarray, "R"]  # dissenters at the point of the ray that most views agree on
    rescuers: Bool[np.ndarray, "R V"]  # views without any one of which the ray would meet the hull

    @property
    def iou(self) -> float:
        """Of the mask and the hull's silhouette.

        The hull of all masks lies inside each: this is the share of the mask that it covers.
        """
        return float((self.fewest == 0).mean()) if len(self.fewest) else 0.0


class MaskTables:
    """Masks at no more than ``longest`` pixels a side, prepared for many questions."""

    def __init__(self, masks: Bool[np.ndarray, "V H W"], longest: int):
        self.small, self.shrinking = _shrunk(masks, longest)
        self.height, self.width = self.small.shape[1:]
        self.areas = self.small.sum(axis=(1, 2))  # 0 where a mask has no say

    def __len__(self) -> int:
        return len(self.small)

    @cached_property
    def pixels(self) -> list[Int[np.ndarray, "N 2"]]:
        """Of each mask, (x, y)."""
        return [np.argwhere(mask)[:, ::-1] for mask in self.small]

    @cached_property
    def outlines(self) -> list[Int[np.ndarray, "N 2"]]:
        """Of each mask the pixels (x, y) just inside its outline."""
        edges = [mask & ~binary_erosion(mask, border_value=1) for mask in self.small]
        return [np.argwhere(edge)[:, ::-1] for edge in edges]

    @cached_property
    def near(self) -> Bool[np.ndarray, "V h w"]:
        """By the pixel above and left of a point, from (-2, -2) on: is any around it object?

        The frame around them stands for points out of sight: it contradicts nothing.
        """
        padded = np.pad(self.small, ((0, 0), (1, 1), (1, 1)))
        rows = padded[:, :-1] | padded[:, 1:]
        return np.pad(
            rows[:, :, :-1] | rows[:, :, 1:], ((0, 0), (1, 1), (1, 1)), constant_values=True
        )

    @cached_property
    def framed(self) -> Bool[np.ndarray, "h w"]:
        """Whether those points are in sight."""
        return np.pad(np.ones((self.height + 1, self.width + 1), dtype=bool), 1)

    @cached_property
    def inside_by(self) -> Float[np.ndarray, "V h w"]:
        """Pixels from the outline, positive inside, from pixel (-1, -1) on; BEYOND out of sight."""
        distance = np.stack([_signed_distance(mask) for mask in self.small])
        return np.pad(distance, ((0, 0), (1, 2), (1, 2)), constant_values=BEYOND)


@dataclass(frozen=True)
class Hull:
    """What is inside all masks, with these cameras for the masks' original size."""

    masks: MaskTables
    intrinsics: Float[np.ndarray, "V 3 3"]
    world_from_camera: Float[np.ndarray, "V 4 4"]
    steps: int = DEPTHS  # samples along a ray

    def iou(self, rays: int) -> Float[np.ndarray, "V"]:
        """Of each mask and the hull's silhouette, by so many rays a view."""
        return np.array([self.agreement(view, rays).iou for view in range(len(self.masks))])

    def agreement(self, view: int, rays: int, most_dissenters: int = 0) -> Agreement:
        """How many views deny each of some rays through a view's mask, at best.

        Up to ``most_dissenters`` are counted; more are all the same. A point is in a mask where any
        of the four pixel centres around it is; a view that does not see it has no say, but what
        fewer than half of the views see does not count.
        """
        masks = self.masks
        pixels = spread(masks.pixels[view], rays)
        samples = _Samples(self, view, pixels)
        witnesses = self._witnesses(view)
        seen, dissent = np.zeros((2, len(samples)), dtype=np.uint8)
        last = np.zeros(len(samples), dtype=np.int32)
        for other, x, y in samples.seen_by(witnesses):
            cell = (y + 2).astype(np.int32) * (masks.width + 3) + (x + 2).astype(np.int32)
            inside = masks.near[other].take(cell)
            seen += masks.framed.take(cell)
            dissent += ~inside
            last[~inside] = other
            keep = dissent <= most_dissenters
            samples.ray, samples.depth = samples.ray[keep], samples.depth[keep]
            seen, dissent, last = seen[keep], dissent[keep], last[keep]
        witnessed = seen >= LEAST_WITNESSES * len(witnesses)
        ray, dissent, last = samples.ray[witnessed], dissent[witnessed], last[witnessed]
        fewest = np.full(len(pixels), most_dissenters + 1)
        np.minimum.at(fewest, ray, dissent)
        rescuers = np.zeros((len(pixels), len(masks)), dtype=bool)
        lone = (dissent == 1) & (fewest[ray] == 1)
        rescuers[ray[lone], last[lone]] = True
        return Agreement(fewest, rescuers)

    def margins(self, view: int, rays: int) -> Float[np.ndarray, "R"]:
        """Pixels by which rays along a view's outline stay inside all other masks, at best.

        Negative: by how much they miss one, down to -BEYOND.
        """
        masks = self.masks
        pixels = spread(masks.outlines[view], rays)
        samples = _Samples(self, view, pixels)
        margin = np.full(len(samples), BEYOND, dtype=np.float32)
        for other, x, y in samples.seen_by(self._witnesses(view)):
            margin = np.minimum(margin, _interpolate(masks.inside_by[other], x, y))
            keep = margin > -BEYOND
            samples.ray, samples.depth = samples.ray[keep], samples.depth[keep]
            margin = margin[keep]
        best = np.full(len(pixels), -BEYOND, dtype=np.float32)
        np.maximum.at(best, samples.ray, margin)
        return best

    @cached_property
    def pixels_from_camera(self) -> Float[np.ndarray, "V 3 3"]:
        """The intrinsics of the smaller masks."""
        return self.masks.shrinking @ self.intrinsics

    @cached_property
    def projections(self) -> Float[np.ndarray, "V 3 4"]:
        """From the world to the smaller masks."""
        return self.pixels_from_camera @ np.linalg.inv(self.world_from_camera)[:, :3]

    @cached_property
    def ball(self) -> tuple[Float[np.ndarray, "3"], float]:
        """Centre and radius about what the masks show."""
        return object_ball(self.masks.pixels, self.pixels_from_camera, self.world_from_camera)

    def _witnesses(self, view: int) -> list[int]:
        """Other views to ask, small masks first: they rule out most."""
        areas = self.masks.areas
        others = np.flatnonzero((areas > 0) & (np.arange(len(areas)) != view))
        if len(others) > MOST_WITNESSES:
            # By chance, since cameras of a rig repeat themselves regularly.
            others = np.random.default_rng(view).choice(others, MOST_WITNESSES, replace=False)
        return others[np.argsort(areas[others], kind="stable")].tolist()


class _Samples:
    """Points along the rays of one view, thinned out as other views rule them out."""

    def __init__(self, hull: Hull, view: int, pixels: Int[np.ndarray, "R 2"]):
        self.projections, self.size = hull.projections, (hull.masks.width, hull.masks.height)
        pose = hull.world_from_camera[view]
        homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1).T
        self.origin = pose[:, 3]
        self.unit_z = pose[:3, :3] @ np.linalg.solve(hull.pixels_from_camera[view], homogeneous)
        centre, radius = hull.ball
        middle = float(pose[:3, 2] @ (centre - pose[:3, 3]))
        # An object behind its camera has no samples.
        near, far = max(middle - radius, 0.01 * middle), middle + radius
        depths = np.linspace(near, far, hull.steps if middle > 0 else 0, dtype=np.float32)
        self.ray = np.repeat(np.arange(len(pixels)), len(depths))
        self.depth = np.tile(depths, len(pixels))

    def __len__(self) -> int:
        return len(self.ray)

    def seen_by(self, others: list[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each of the other views and the pixels x and y [N] there of the samples kept so far.

        Out of sight are -2, the width and the height.
        """
        width, height = self.size
        for other in others:
            start = (self.projections[other] @ self.origin).astype(np.float32)
            step = (self.projections[other][:, :3] @ self.unit_z).astype(np.float32)
            x, y, z = (start[axis] + step[axis][self.ray] * self.depth for axis in range(3))
            seen = z > 1e-9
            z[~seen] = 1
            x, y = np.clip(x / z, -2, width), np.clip(y / z, -2, height)
            x[~seen] = -2
            yield other, x, y


def spread(items: Int[np.ndarray, "N *rest"], most: int) -> Int[np.ndarray, "n *rest"]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]


def object_ball(
    pixels: list[Int[np.ndarray, "_ 2"]],
    intrinsics: Float[np.ndarray, "V 3 3"],
    world_from_camera: Float[np.ndarray, "V 4 4"],
) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and radius, in the world, of a ball about what all masks show by their pixels.

    The point nearest to the rays through the masks' centres: by least sum of distances (iteratively
    reweighted), so that a few wrong cameras do not move it. A generous radius.
    """
    views = [view for view in range(len(pixels)) if len(pixels[view])]
    if not views:
        return np.zeros(3), 1.0
    middle = np.array([[*pixels[view].mean(axis=0), 1] for view in views])
    middles = np.linalg.solve(intrinsics[views], middle[..., None])[..., 0]
    # How far a mask reaches from its middle, at camera z = 1.
    per_pixel = np.linalg.inv(intrinsics[views, :2, :2])
    reaches = [
        np.linalg.norm((pixels[view] - one[:2]) @ unit.T, axis=1).max()
        for view, one, unit in zip(views, middle, per_pixel, strict=True)
    ]
    pose = world_from_camera[views]
    origin, axis = pose[:, :3, 3], pose[:, :3, 2]
    direction = (pose[:, :3, :3] @ middles[..., None])[..., 0]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
    weight = np.ones(len(views))
    for _ in range(8):
        normal = (weight[:, None, None] * across).sum(axis=0)
        normal += 1e-9 * np.trace(normal) * np.eye(3)  # parallel rays meet anywhere
        right = (weight[:, None] * (across @ origin[..., None])[..., 0]).sum(axis=0)
        centre = np.linalg.solve(normal, right)
        missed = np.linalg.norm((across @ (centre - origin)[..., None])[..., 0], axis=1)
        range_ = np.median(np.linalg.norm(centre - origin, axis=1))
        weight = 1 / (missed + 1e-3 * range_ + 1e-12)
    depth = ((centre - origin) * axis).sum(axis=1)
    in_front = depth > 0
    if not in_front.any():
        return centre, 0.0
    return centre, float(1.3 * np.median((np.array(reaches) * depth)[in_front]))


def _signed_distance(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Pixels to the outline, which runs half-way between pixels; at most BEYOND to either side."""
    if mask.all():
        return np.full(mask.shape, BEYOND, dtype=np.float32)
    inside = distance_transform_edt(mask) - 0.5
    outside = distance_transform_edt(~mask) - 0.5
    return np.clip(np.where(mask, inside, -outside), -BEYOND, BEYOND).astype(np.float32)


def _interpolate(
    table: Float[np.ndarray, "h w"], x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Bilinear, at pixels counted from (-1, -1); beyond those it is the border's."""
    x, y = np.maximum(x, -1) + 1, np.maximum(y, -1) + 1
    left, top = x.astype(np.int32), y.astype(np.int32)
    across, down = x - left, y - top
    width = table.shape[1]
    flat, corner = table.reshape(-1), top * width + left
    upper = flat.take(corner) * (1 - across) + flat.take(corner + 1) * across
    lower = flat.take(corner + width) * (1 - across) + flat.take(corner + width + 1) * across
    return upper * (1 - down) + lower * down


def _shrunk(
    masks: Bool[np.ndarray, "V H W"], longest: int
) -> tuple[Bool[np.ndarray, "V h w"], Float[np.ndarray, "3 3"]]:
    """Smaller masks and the matrix from old to new pixels; nothing changes where they are small."""
    height, width = masks.shape[1:]
    factor = min(longest / max(height, width), 1.0)
    if factor == 1:
        return masks, np.eye(3)
    new_height, new_width = max(round(height * factor), 1), max(round(width * factor), 1)
    x, y = new_width / width, new_height / height
    shrinking = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
    return np.stack([resize_mask(mask, new_height, new_width) for mask in masks]), shrinking

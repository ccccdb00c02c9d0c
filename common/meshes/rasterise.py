"""Which triangle of a plane, or of a picture, covers each pixel: a z-buffer in numpy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CANDIDATES = 2**21  # pixels looked at together
# Pixel centres this close beyond an edge count as inside, so that no crack opens between faces.
EDGE = 1e-9


@dataclass(frozen=True)
class Fragments:
    """The foremost face of each pixel, and where on it the pixel's centre lies."""

    face: Int[np.ndarray, "H W"]  # -1 where there is none
    weight: Float[np.ndarray, "H W 3"]  # of the face's corners; sums to 1
    depth: Float[np.ndarray, "H W"]  # infinite where there is none

    @property
    def covered(self) -> Bool[np.ndarray, "H W"]:
        """Pixels with a face."""
        return self.face >= 0

    def interpolate(
        self, faces: Int[np.ndarray, "F 3"], values: Float[np.ndarray, "V C"]
    ) -> Float[np.ndarray, "P C"]:
        """Values given at vertices, at the covered pixels row by row."""
        corners = values[faces[self.face[self.covered]]]
        return (self.weight[self.covered][:, :, None] * corners).sum(axis=1)


def rasterise(
    corners: Float[np.ndarray, "F 3 2"], depth: Float[np.ndarray, "F 3"], height: int, width: int
) -> Fragments:
    """What covers the pixel centres of a picture; integer coordinates (x, y) are pixel centres.

    ``depth`` is the corners' camera z, and weights are right in perspective; with one depth
    everywhere they are plain barycentric coordinates. Both sides of a face are drawn. Faces with a
    corner at z <= 0 are left out.
    """
    face = np.full(height * width, -1)
    weight = np.zeros((height * width, 3))
    nearest = np.full(height * width, np.inf)
    for some, pixel, x, y in _candidates(corners, depth, height, width):
        plane, inside = _barycentric(corners[some], x, y)
        some, pixel, plane = some[inside], pixel[inside], plane[inside]
        # 1/z is linear in the picture, z is not.
        share = plane / depth[some]
        z = 1 / share.sum(axis=1)
        # Of several writes to one pixel the last stays: far ones go first.
        order = np.argsort(-z, kind="stable")
        order = order[z[order] < nearest[pixel[order]]]
        target = pixel[order]
        nearest[target], face[target] = z[order], some[order]
        weight[target] = share[order] * z[order, None]
    size = (height, width)
    return Fragments(face.reshape(size), weight.reshape(*size, 3), nearest.reshape(size))


def _candidates(
    corners: Float[np.ndarray, "F 3 2"], depth: Float[np.ndarray, "F 3"], height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels in the bounding boxes of faces: face, pixel's index, x and y, some faces at a time."""
    drawn = np.flatnonzero((depth > 0).all(axis=1) & np.isfinite(corners).all(axis=(1, 2)))
    edge = np.array([width - 1, height - 1])
    first = np.ceil(corners[drawn].min(axis=1)).clip(0, edge + 1).astype(np.int64)
    last = np.floor(corners[drawn].max(axis=1)).clip(-1, edge).astype(np.int64)
    span = (last - first + 1).clip(0)
    count = span.prod(axis=1)
    chunk = np.cumsum(count) // CANDIDATES
    for part in np.split(np.arange(len(drawn)), np.flatnonzero(np.diff(chunk)) + 1):
        index = np.repeat(part, count[part])
        place = np.arange(len(index)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        x = first[index, 0] + place % span[index, 0]
        y = first[index, 1] + place // span[index, 0]
        yield drawn[index], y * width + x, x, y


def _barycentric(
    corners: Float[np.ndarray, "N 3 2"], x: Int[np.ndarray, "N"], y: Int[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, "N"]]:
    """Barycentric coordinates of pixels in triangles, and whether they lie inside."""
    at = corners - np.stack([x, y], axis=1)[:, None]
    following = np.roll(at, -1, axis=1)
    # Twice the area that the pixel spans with each edge; that of a corner is its opposite edge's.
    edges = at[..., 0] * following[..., 1] - at[..., 1] * following[..., 0]
    opposite = np.roll(edges, -1, axis=1)
    total = edges.sum(axis=1)
    flat = np.abs(total) < np.finfo(np.float64).tiny
    weight = opposite / np.where(flat, 1, total)[:, None]
    return weight, ~flat & (weight >= -EDGE).all(axis=1)

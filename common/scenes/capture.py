"""What a source says of photographs of one object, in one convention: the readers' common answer.

Pictures stay in their files until they are needed. Cameras are in the source's own world and units,
with OpenCV axes (x right, y down, z forward) and integer pixel coordinates at pixel centres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Distortion:
    """How a lens bends the pinhole's picture, in OpenCV's models.

    "brown": radial and tangential, k1 k2 p1 p2 k3 k4 k5 k6 (k4 to k6 in the denominator);
    "fisheye": equidistant, k1 k2 k3 k4. Coefficients left out at the end are 0.
    """

    kind: Literal["brown", "fisheye"]
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class Photograph:
    """One picture and its camera."""

    image: Path
    intrinsics: Float[np.ndarray, "3 3"]  # pixels, of a picture of this size
    size: tuple[int, int]  # width, height; the file may be the same picture at another size
    world_from_camera: Float[np.ndarray, "4 4"]  # rigid
    mask: Path | None = None  # where the source names one
    distortion: Distortion | None = None


@dataclass(frozen=True)
class SparsePoints:
    """Surface points triangulated by structure from motion, and which photographs saw each."""

    points: Float[np.ndarray, "P 3"]  # world
    visibility: Bool[np.ndarray, "V P"]


@dataclass(frozen=True)
class Capture:
    """Photographs of one object, in the source's order."""

    source: Path  # the file or folder to name in messages
    photographs: tuple[Photograph, ...]
    points: SparsePoints | None = None
    world_from_sphere: Float[np.ndarray, "4 4"] | None = None  # the object's, where it is given
    notes: tuple[str, ...] = ()  # what a person should hear: views missing, masks paired by order

    @property
    def projections(self) -> Float[np.ndarray, "V 3 4"]:
        """P = K [R | t], from the world to pixels of each photograph's ``size``."""
        return np.stack(
            [
                photograph.intrinsics @ np.linalg.inv(photograph.world_from_camera)[:3]
                for photograph in self.photographs
            ]
        )

    def chosen(self, views: Sequence[int]) -> "Capture":
        """The same with these photographs alone."""
        points = self.points
        if points is not None:
            points = SparsePoints(points.points, points.visibility[list(views)])
        photographs = tuple(self.photographs[view] for view in views)
        return replace(self, photographs=photographs, points=points)

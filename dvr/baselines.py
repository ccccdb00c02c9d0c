"""What a reconstruction must beat: the most similar training object, and the mean training shape.

Retrieval is the classic hard baseline of the task (Tatarchenko et al., CVPR 2019).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from common.data.collection import ObjectEntry, read_occupancy_points
from common.meshes.extract import extract_mesh
from common.meshes.mesh import Mesh
from dvr.data import Objects

MEAN_RESOLUTION = 64


@dataclass(frozen=True)
class Volume:
    """Points of the cube and whether each is inside, as points.npz has them."""

    points: Float[np.ndarray, "M 3"]
    inside: Bool[np.ndarray, "M"]

    def at(self, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
        """Occupancy elsewhere: exact at the same points, that of the nearest one otherwise."""
        if points.shape == self.points.shape and np.array_equal(points, self.points):
            return self.inside
        return self.inside[cKDTree(self.points).query(points, workers=-1)[1]]


def read_volume(entry: ObjectEntry) -> Volume | None:
    """The true occupancies of an object, where its folder has them."""
    found = read_occupancy_points(entry)
    return None if found is None else Volume(*found)


def _silhouettes(pictures: Float[Tensor, "N s s 3"]) -> Float[Tensor, "N p"]:
    """A pixel is object where it is not white. Silhouettes find better shapes than colours do."""
    return (pictures.amin(dim=-1) < 0.999).float().flatten(1)


def _colours(pictures: Float[Tensor, "N s s 3"]) -> Float[Tensor, "N p"]:
    return pictures.flatten(1)


DESCRIPTIONS = {"retrieval_silhouette": _silhouettes, "retrieval_colour": _colours}


def nearest_objects(
    queries: Float[Tensor, "Q s s 3"], training: Objects
) -> dict[str, Int[np.ndarray, "Q"]]:
    """For each input picture the training object one of whose pictures is nearest to it.

    By silhouette and by RGB, each under its name in the scores.
    """
    asked = {name: describe(queries) for name, describe in DESCRIPTIONS.items()}
    best = {name: torch.full((len(queries),), torch.inf) for name in asked}
    found = {name: torch.zeros(len(queries), dtype=torch.long) for name in asked}
    for index in range(len(training)):
        inputs = training.inputs(index)
        assert inputs is not None, "retrieval compares input pictures"
        pictures = inputs.float() / 255
        for name, describe in DESCRIPTIONS.items():
            distance = torch.cdist(asked[name], describe(pictures)).amin(dim=1)
            found[name] = torch.where(distance < best[name], index, found[name])
            best[name] = torch.minimum(best[name], distance)
    return {name: indices.numpy() for name, indices in found.items()}


@dataclass(frozen=True)
class MeanShape:
    """The share of training objects that contain each point, cut where it fits them best."""

    share: Float[np.ndarray, "r r r"]
    threshold: float

    def at(self, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
        """Whether points of the cube are inside the mean shape."""
        return self._share_at(torch.from_numpy(points)).numpy() > self.threshold

    def mesh(self) -> Mesh:
        """Its surface."""
        return extract_mesh(
            lambda points: self.threshold - self._share_at(points),
            (-0.5, -0.5, -0.5),
            (0.5, 0.5, 0.5),
            MEAN_RESOLUTION,
            MEAN_RESOLUTION // 2,
        ).mesh

    def _share_at(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        volume = torch.from_numpy(self.share)[None, None]
        grid = (points.float() * 2).flip(-1)[None, None, None]
        return torch.nn.functional.grid_sample(
            volume, grid, padding_mode="border", align_corners=False
        )[0, 0, 0, 0]


def mean_shape(entries: list[ObjectEntry]) -> MeanShape:
    """The mean of these objects, with the threshold of highest mean IoU with them."""
    axis = (np.arange(MEAN_RESOLUTION) + 0.5) / MEAN_RESOLUTION - 0.5
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    volumes = [volume for entry in entries if (volume := read_volume(entry)) is not None]
    total = np.zeros(len(centres))
    tree, points = None, None
    for volume in volumes:
        # Collections made here share their points, and then one search serves all objects.
        if points is None or not np.array_equal(points, volume.points):
            tree, points = cKDTree(volume.points).query(centres, workers=-1)[1], volume.points
        total += volume.inside[tree]
    side = (MEAN_RESOLUTION,) * 3
    share = (total / len(volumes)).reshape(side).astype(np.float32)

    def fit(threshold: float) -> float:
        shape = MeanShape(share, threshold)
        return float(np.mean([_iou(shape.at(v.points), v.inside) for v in volumes[:64]]))

    return MeanShape(share, max(np.linspace(0.05, 0.5, 10), key=fit))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / max((first | second).sum(), 1)

"""How far a mesh is from the truth: surface distances, normals, F-scores and volumes.

The protocol is that of Mescheder et al. 2019, as DVR uses it: points sampled on the mesh against
points of the true surface, with Euclidean (not squared) distances, in the frame of both.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from common.meshes.mesh import Mesh, area_vectors

THRESHOLDS = (0.005, 0.01, 0.015, 0.02)
# The plain ``f_score`` is the one at 1 % of the object's size (Tatarchenko et al. 2019).
F_SCORE_THRESHOLD = 0.01
# What a missing surface counts as: the longest distance there is in a unit cube.
FAILED_DISTANCE = math.sqrt(3)


def compare_to_points(
    mesh: Mesh,
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    *,
    samples: int = 100_000,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of a mesh against points of the true surface with unit normals, in the same frame.

    ``accuracy`` is the mean distance from the mesh to the nearest true point, ``completeness``
    that from the true points to the mesh, ``chamfer_l1`` their mean (papers print it times 10).
    ``normal_consistency`` is the mean |cosine| of the normals of nearest neighbours, both ways.
    ``precision_t``, ``recall_t`` and their harmonic mean ``f_score_t`` are the shares within
    distance t. Samples depend on nothing but mesh and seed. A mesh without area gets
    ``failed_metrics``.
    """
    sampled = sample_mesh(mesh, samples=samples, seed=seed)
    if sampled is None:
        return failed_metrics(thresholds)
    return compare_points(*sampled, points, normals, thresholds=thresholds)


def sample_mesh(
    mesh: Mesh, *, samples: int = 100_000, seed: int = 0
) -> tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]] | None:
    """What ``compare_to_points`` compares: points of the mesh with normals; None without area."""
    if mesh.empty or not np.linalg.norm(area_vectors(mesh), axis=1).any():
        return None
    return sample_surface(mesh, samples, np.random.default_rng(seed))


def compare_points(
    sampled: Float[np.ndarray, "S 3"],
    sampled_normals: Float[np.ndarray, "S 3"],
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """The scores of ``compare_to_points`` for a surface that is itself given as points."""
    truth, reconstruction = _tree(points), _tree(sampled)
    to_truth, nearest_truth = _nearest(reconstruction, truth)
    to_mesh, nearest_sample = _nearest(truth, reconstruction)
    accuracy, completeness = float(to_truth.mean()), float(to_mesh.mean())
    consistency = [
        _mean_cosine(sampled_normals, normals[nearest_truth]),
        _mean_cosine(normals, sampled_normals[nearest_sample]),
    ]
    scores = _distance_scores(accuracy, completeness, sum(consistency) / 2)
    for threshold in _with_standard(thresholds):
        precision = float((to_truth <= threshold).mean())
        recall = float((to_mesh <= threshold).mean())
        scores |= _threshold_scores(threshold, precision, recall)
    return scores | {"f_score": scores[f"f_score_{F_SCORE_THRESHOLD:g}"]}


def failed_metrics(thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """The scores of a reconstruction that is missing or empty, so that failing never helps a mean.

    Distances count as the diagonal of the unit cube, sqrt(3), which no real surface in it exceeds;
    shares and normal consistency count as 0. Volumetric IoU of a missing mesh is likewise 0.
    """
    scores = _distance_scores(FAILED_DISTANCE, FAILED_DISTANCE, 0.0)
    for threshold in _with_standard(thresholds):
        scores |= _threshold_scores(threshold, 0.0, 0.0)
    return scores | {"f_score": 0.0}


def sample_surface(
    mesh: Mesh, count: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Points spread evenly over the faces' area, and the unit normals of their faces."""
    vectors = area_vectors(mesh)
    area = np.linalg.norm(vectors, axis=1)
    face = generator.choice(len(area), size=count, p=area / area.sum())
    # The square root makes points of a triangle uniform (Osada et al. 2002, equation 1).
    root, along = np.sqrt(generator.random(count)), generator.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    corners = mesh.vertices[mesh.faces[face]].astype(np.float64)
    return (weights[:, :, None] * corners).sum(axis=1), vectors[face] / area[face, None]


def volumetric_iou(predicted: Bool[np.ndarray, "N"], truth: Bool[np.ndarray, "N"]) -> float:
    """Share of the points inside either volume that are inside both; 1 where both are empty."""
    union = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / union if union else 1.0


def _tree(points: Float[np.ndarray, "N 3"]) -> cKDTree:
    """For one search of many points: half the time to build, and as fast to ask."""
    return cKDTree(points, compact_nodes=False, balanced_tree=False)


def _nearest(
    asking: cKDTree, known: cKDTree
) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """For each point of one tree the distance to the nearest of another, and its index.

    Points that follow each other in a tree lie near each other, and so do the nodes that they
    visit: asked in this order they take a quarter less time.
    """
    distance, index = np.empty(asking.n), np.empty(asking.n, dtype=np.intp)
    order = asking.indices
    distance[order], index[order] = known.query(asking.data[order], workers=-1)
    return distance, index


def _mean_cosine(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> float:
    return float(np.abs((first * second).sum(axis=1)).mean())


def _with_standard(thresholds: Sequence[float]) -> list[float]:
    return sorted({*thresholds, F_SCORE_THRESHOLD})


def _distance_scores(accuracy: float, completeness: float, consistency: float) -> dict[str, float]:
    chamfer = (accuracy + completeness) / 2
    return {
        "accuracy": accuracy,
        "completeness": completeness,
        "chamfer_l1": chamfer,
        "chamfer_l1_x10": 10 * chamfer,
        "normal_consistency": consistency,
    }


def _threshold_scores(threshold: float, precision: float, recall: float) -> dict[str, float]:
    both = precision + recall
    return {
        f"precision_{threshold:g}": precision,
        f"recall_{threshold:g}": recall,
        f"f_score_{threshold:g}": 2 * precision * recall / both if both else 0.0,
    }

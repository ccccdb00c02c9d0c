"""Scores of meshes and pictures against values that follow from geometry or by hand."""

import math

import numpy as np
import pytest
import torch
import trimesh

from common.meshes.mesh import Mesh, empty_mesh
from common.meshes.metrics import (
    compare_points,
    compare_to_points,
    failed_metrics,
    sample_surface,
    volumetric_iou,
)
from common.rendering.image_metrics import mask_iou, psnr, ssim


def square(height: float = 0.0) -> Mesh:
    """The unit square in the plane z = height, in two triangles that look up."""
    corners = np.array([[0, 0, height], [1, 0, height], [1, 1, height], [0, 1, height]], float)
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]))


def grid_points(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Dense points of the unit square z = 0 and their normals."""
    along = (np.arange(count) + 0.5) / count
    x, y = np.meshgrid(along, along)
    points = np.stack([x.ravel(), y.ravel(), np.zeros(count**2)], axis=1)
    return points, np.tile([0.0, 0.0, 1.0], (len(points), 1))


class TestCompareToPoints:
    def test_planes_at_a_known_distance(self):
        points, normals = grid_points()
        scores = compare_to_points(square(0.3), points, normals, thresholds=(0.1, 0.35))
        # Sideways the nearest of the points is at most 0.004 off (grid), or some 0.003 on average
        # (100 000 samples): that adds its square over 0.6.
        for name in ("accuracy", "completeness", "chamfer_l1"):
            assert scores[name] == pytest.approx(0.3, abs=1e-4)
        assert scores["chamfer_l1_x10"] == 10 * scores["chamfer_l1"]
        assert scores["normal_consistency"] == pytest.approx(1)
        assert scores["f_score_0.1"] == scores["f_score"] == 0
        assert scores["precision_0.35"] == scores["recall_0.35"] == scores["f_score_0.35"] == 1

    def test_concentric_spheres(self):
        ball = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
        mesh = Mesh(np.asarray(ball.vertices), np.asarray(ball.faces))
        normals = np.random.default_rng(0).normal(size=(50_000, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        scores = compare_to_points(mesh, 0.5 * normals, normals, samples=50_000)
        # Sideways distance of neighbours: 0.5 / sqrt(density) = 0.004, whose square over twice
        # the distance adds 8e-5; the icosphere's faces sag by 1e-4.
        assert scores["chamfer_l1"] == pytest.approx(0.1, abs=3e-4)
        # Neighbours are 0.004 / 0.4 rad apart, faces of the icosphere up to 0.02 rad tilted.
        assert scores["normal_consistency"] > math.cos(0.03)

    def test_half_of_the_truth(self):
        points, normals = grid_points()
        half = Mesh(square().vertices * [0.5, 1, 1], square().faces)
        scores = compare_to_points(half, points, normals, thresholds=(0.02,))
        # Missing points are 0 to 0.5 away, evenly: mean 0.25 on half of them.
        assert scores["completeness"] == pytest.approx(0.125, abs=2e-3)
        assert scores["precision_0.02"] == 1
        assert scores["recall_0.02"] == pytest.approx(0.52, abs=5e-3)
        recall = scores["recall_0.02"]
        assert scores["f_score_0.02"] == pytest.approx(2 * recall / (1 + recall))

    def test_normals_count_without_their_sign(self):
        points, _ = grid_points(50)
        tilted = np.tile([0.0, math.sin(0.5), -math.cos(0.5)], (len(points), 1))
        scores = compare_to_points(square(), points, tilted, samples=5000)
        assert scores["normal_consistency"] == pytest.approx(math.cos(0.5))

    def test_the_seed_alone_decides(self):
        points, normals = grid_points(50)
        first, again, other = (
            compare_to_points(square(), points, normals, samples=1000, seed=seed)
            for seed in (3, 3, 4)
        )
        assert first == again != other

    def test_unit_f_score_is_always_there(self):
        points, normals = grid_points(50)
        scores = compare_to_points(square(), points, normals, samples=1000, thresholds=(0.5,))
        assert scores["f_score"] == scores["f_score_0.01"]

    @pytest.mark.parametrize("mesh", [empty_mesh(), Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))])
    def test_no_surface_is_the_worst_score_and_never_missing(self, mesh):
        points, normals = grid_points(50)
        scores = compare_to_points(mesh, points, normals)
        assert scores == failed_metrics()
        assert scores.keys() == compare_to_points(square(), points, normals, samples=10).keys()
        assert scores["chamfer_l1"] == scores["accuracy"] == math.sqrt(3)
        assert scores["f_score"] == scores["recall_0.01"] == scores["normal_consistency"] == 0


@pytest.mark.parametrize(("count", "other"), [(1, 1), (1, 300), (700, 300)])
def test_points_are_compared_with_the_nearest(count, other):
    """Scores of unordered points, some of them twice, against all distances."""
    rng = np.random.default_rng(count)
    first, second = rng.random((count, 3)), rng.random((other, 3))
    first[: count // 3] = first[-1]
    normals = [trimesh.unitize(rng.normal(size=shape)) for shape in ((count, 3), (other, 3))]
    normals[0][: count // 3] = normals[0][-1]
    scores = compare_points(first, normals[0], second, normals[1], thresholds=(0.05,))
    distance = np.linalg.norm(first[:, None] - second, axis=-1)
    cosine = np.abs(normals[0] @ normals[1].T)
    ours, theirs = distance.argmin(axis=1), distance.argmin(axis=0)
    assert scores["accuracy"] == pytest.approx(distance.min(axis=1).mean())
    assert scores["completeness"] == pytest.approx(distance.min(axis=0).mean())
    assert scores["precision_0.05"] == pytest.approx((distance.min(axis=1) <= 0.05).mean())
    both = cosine[np.arange(count), ours].mean() + cosine[theirs, np.arange(other)].mean()
    assert scores["normal_consistency"] == pytest.approx(both / 2)


def test_samples_are_spread_by_area():
    # Beside the square a triangle of half its area.
    mesh = Mesh(
        np.concatenate([square().vertices, [[2, 0, 0], [3, 0, 0], [2, 1, 0]]]),
        np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]]),
    )
    points, normals = sample_surface(mesh, 60_000, np.random.default_rng(0))
    apart = points[:, 0] > 1.5
    # Standard deviations: sqrt(1/3 2/3 / 60 000) = 0.002 and at most 0.3 / sqrt(20 000) = 0.002.
    assert apart.mean() == pytest.approx(1 / 3, abs=0.008)
    np.testing.assert_allclose(points[~apart].mean(axis=0), [0.5, 0.5, 0], atol=0.008)
    np.testing.assert_allclose(points[apart].mean(axis=0), [7 / 3, 1 / 3, 0], atol=0.008)
    # Uniform, not merely centred: half of the triangle lies where x - 2 < 1 - sqrt(1/2).
    assert (points[apart, 0] - 2 < 1 - math.sqrt(0.5)).mean() == pytest.approx(0.5, abs=0.015)
    assert np.array_equal(normals, np.tile([0.0, 0.0, 1.0], (60_000, 1)))


def test_volumetric_iou():
    predicted = np.array([True, True, False, False])
    truth = np.array([True, False, True, False])
    assert volumetric_iou(predicted, truth) == 1 / 3
    assert volumetric_iou(predicted, predicted) == 1
    assert volumetric_iou(~predicted, predicted) == 0
    assert volumetric_iou(predicted & False, truth & False) == 1


class TestPsnr:
    def test_constant_error(self):
        picture = torch.full((2, 4, 5, 3), 0.5)
        # -10 log10(0.1^2) = 20 dB and -10 log10(0.01^2) = 40 dB
        shifted = picture + torch.tensor([0.1, 0.01])[:, None, None, None]
        torch.testing.assert_close(psnr(shifted, picture), torch.tensor([20.0, 40.0]))

    def test_only_the_mask_counts(self):
        truth, mask = torch.zeros(4, 4, 3), torch.zeros(4, 4, dtype=torch.bool)
        mask[0] = True
        prediction = torch.full((4, 4, 3), 0.9)
        prediction[0] = 0.1
        torch.testing.assert_close(psnr(prediction, truth, mask), torch.tensor(20.0))

    def test_extremes(self):
        picture = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0))
        assert psnr(picture, picture) == 100
        assert psnr(picture, picture, torch.zeros(4, 4, dtype=torch.bool)).isnan()


class TestSsim:
    def test_identical_pictures(self):
        picture = torch.rand(2, 20, 16, 3, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ssim(picture, picture), torch.ones(2))

    def test_two_constant_pictures(self):
        dark, bright = torch.full((12, 12, 3), 0.2), torch.full((12, 12, 3), 0.6)
        expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
        # Variances are differences of squares: float32 leaves 1e-8 beside the constant 9e-4.
        torch.testing.assert_close(ssim(dark, bright), torch.tensor(expected), atol=1e-4, rtol=0)

    def test_shifted_ramp(self):
        """Windows of a ramp have their middle pixel as mean; a shift leaves the structure alone."""
        ramp = torch.linspace(0.1, 0.7, 25, dtype=torch.float64).expand(15, 25)[..., None]
        mean = ramp[5:-5, 5:-5]
        expected = ((2 * mean * (mean + 0.2) + 1e-4) / (mean**2 + (mean + 0.2) ** 2 + 1e-4)).mean()
        torch.testing.assert_close(ssim(ramp, ramp + 0.2), expected)

    def test_one_window_by_hand(self):
        generator = torch.Generator().manual_seed(0)
        x, y = torch.rand(2, 11, 11, generator=generator, dtype=torch.float64)
        offsets = torch.arange(-5, 6, dtype=torch.float64)
        weight = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
        weight /= weight.sum()
        mx, my = (weight * x).sum(), (weight * y).sum()
        vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
        vxy = (weight * (x - mx) * (y - my)).sum()
        expected = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
        expected /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
        torch.testing.assert_close(ssim(x[..., None], y[..., None]), expected)

    def test_picture_smaller_than_the_window(self):
        with pytest.raises(ValueError, match="at least 11 pixels, not 10x30"):
            ssim(torch.zeros(10, 30, 3), torch.zeros(10, 30, 3))


def test_mask_iou():
    first = torch.tensor([[[True, True, False, False]], [[False] * 4]])
    second = torch.tensor([[[True, False, True, False]], [[False] * 4]])
    torch.testing.assert_close(mask_iou(first, second), torch.tensor([1 / 3, 1.0]))

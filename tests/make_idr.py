"""Trained IDR scenes of which everything is known: an analytic surface in the model's place."""

from pathlib import Path

import torch
from torch import Tensor, nn

from common.config import validate
from common.training.precision import Precision
from idr.config import IDRConfig
from idr.data import load_scene
from idr.experiment import Experiment, make_model
from idr.geometry import GeometryValues
from tests.make_run import merged


def tiny_idr_settings(data: Path, out: Path) -> dict:
    """Settings of a training that takes less than a second and hardly moves the first sphere."""
    return {
        "method": "idr",
        "data": {"path": str(data), "holdout_every": 3},
        "model": {
            "geometry": "hash_grid",
            "hash_grid": {"levels": 2, "features": 2, "coarsest": 4, "finest": 8, "log2_rows": 10},
            "feature": 4,
            "appearance": {"hidden": 16, "layers": 1, "weight_norm": False},
        },
        "search": {"resolution": 32, "evaluation_resolution": 32, "samples": 32},
        "training": {
            "out_dir": str(out),
            "iterations": 2,
            "rays": 64,
            "learning_rate": 1e-6,
            "log_every": 1,
            "select_by": "psnr",
        },
        "generation": {"resolution": 32},
    }


class Ellipsoids(nn.Module):
    """Several ellipsoids: |(x - centre) / radii| - 1 times the least radius, the least of all.

    Exact distances where they are spheres. The feature is zero.
    """

    feature_length = 0

    def __init__(self, *shapes: tuple[list[float], list[float]]) -> None:
        super().__init__()
        self.shapes = shapes

    def sdf(self, points: Tensor) -> Tensor:
        values = []
        for centre, radii in self.shapes:
            scaled = (points - torch.tensor(centre)) / torch.tensor(radii)
            values.append((scaled.norm(dim=-1) - 1) * min(radii))
        return torch.stack(values).amin(dim=0)

    def forward(self, points: Tensor, precision: Precision = "highest") -> GeometryValues:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = self.sdf(points)
            (gradient,) = torch.autograd.grad(value.sum(), points)
        return GeometryValues(
            value.detach(), gradient, torch.zeros(len(points), self.feature_length)
        )


def sphere(radius: float, centre: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Ellipsoids:
    """One sphere."""
    return Ellipsoids((list(centre), [radius] * 3))


def nothing() -> Ellipsoids:
    """No surface anywhere near."""
    return sphere(0.1, (9.0, 9.0, 9.0))


class ViewColour(nn.Module):
    """A colour that tells the direction it is seen from: (view + 1) / 2."""

    def forward(self, point, normal, feature, view, image) -> Tensor:
        return (view + 1) / 2


class OneColour(nn.Module):
    """The same colour everywhere."""

    def __init__(self, *colour: float) -> None:
        super().__init__()
        self.colour = torch.tensor(colour)

    def forward(self, point, normal, feature, view, image) -> Tensor:
        return self.colour.expand(len(point), 3)


def known_experiment(
    path: Path, geometry: Ellipsoids, appearance: nn.Module | None = None, **sections: dict
) -> Experiment:
    """A scene as if learnt: ``geometry`` is the surface, the cameras are those it starts from."""
    settings = merged(tiny_idr_settings(path, path.parent / "run"), sections)
    config = validate(IDRConfig, settings, "test")
    scene = load_scene(config)
    model = make_model(config, scene.rough_cameras)
    geometry.feature_length = model.geometry.feature_length
    model.geometry = geometry  # type: ignore[assignment]
    if appearance is not None:
        model.appearance = appearance  # type: ignore[assignment]
    model.eval().requires_grad_(False)
    numbers = {"step": 5, "seconds": 1.5, "best": 0.0}
    return Experiment(model, config, scene, scene.rough_cameras, numbers)

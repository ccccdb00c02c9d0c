"""Time to quality: who reached what when, examinations of known surfaces, the plain training."""

import math
from itertools import chain, count, repeat

import numpy as np
import pytest
import torch

import idr.quality as quality
from common.config import validate
from common.errors import UserError
from common.training.processes import Process
from idr.config import IDRConfig
from idr.data import load_scene
from idr.experiment import make_model
from idr.quality import (
    Examination,
    Examined,
    PhotographPixels,
    PlainTask,
    as_plain,
    best_of,
    quality_benchmark,
    quality_figures,
    trained,
)
from idr.task import IDRTask
from tests.make_collection import SCENE_RADIUS, SCENE_SCALE, SCENE_SHIFT, write_tiny_scene
from tests.make_idr import OneColour, known_experiment, sphere, tiny_idr_settings
from tests.make_run import merged

CPU = torch.device("cpu")
PAPER = {
    "method": "idr",
    "model": {"geometry": "mlp", "fade_in": 0, "feature": 4,
              "mlp": {"hidden": 48, "layers": 2, "skip": 0, "frequencies": 2},
              "appearance": {"hidden": 16, "layers": 1}},
    "training": {"rays": 40, "iterations": 100},
}  # fmt: skip


def write_scene(root, views: int = 6):
    """A ball of which the true surface is known, in world units."""
    write_tiny_scene(root, views=views)
    points = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    normals = torch.nn.functional.normalize(points, dim=1).numpy()
    world = SCENE_SCALE * SCENE_RADIUS * normals + np.asarray(SCENE_SHIFT)
    np.savez(root / "pointcloud.npz", points=world, normals=normals)
    return root


def config_of(scene, **sections) -> IDRConfig:
    return validate(IDRConfig, merged(tiny_idr_settings(scene, scene / "run"), sections), "test")


class TestFigures:
    PLAIN = [
        Examined(1, 60.0, 14.0, 0.030),
        Examined(2, 120.0, 16.0, 0.010),  # the best Chamfer distance
        Examined(3, 180.0, 17.0, 0.020),  # the best PSNR
        Examined(4, 240.0, 15.0, 0.025),
    ]

    def test_both_must_be_reached_at_one_examination(self) -> None:
        ours = [
            Examined(1, 1.0, 15.5, 0.050),  # colours alone
            Examined(2, 2.0, 14.0, 0.020),  # shape alone
            Examined(3, 3.0, 15.0, 0.025),  # exactly as good
            Examined(4, 4.0, 17.5, 0.011),
            Examined(5, 5.0, 17.5, 0.009),
        ]
        end, best = quality_figures(ours, self.PLAIN)
        assert (end.value, end.oracle, end.ratio, end.agreement) == (3.0, 240.0, 80.0, 1.0)
        assert (best.value, best.oracle, best.ratio, best.agreement) == (5.0, 180.0, 36.0, 1.0)
        assert best_of(self.PLAIN) == (17.0, 0.010)
        assert best.curves == () and len(end.curves) == 4
        of = {(curve.quantity, curve.name): curve for curve in end.curves}
        assert of[quality.PSNR, "plain"].seconds == (60.0, 120.0, 180.0, 240.0)
        assert of[quality.CHAMFER, "ours"].values == pytest.approx((5.0, 2.0, 2.5, 1.1, 0.9))

    def test_what_was_not_reached_does_not_agree(self) -> None:
        ours = [Examined(1, 100.0, 18.0, 0.05), Examined(2, 250.0, 10.0, 0.04)]
        for figure in quality_figures(ours, self.PLAIN):
            assert figure.agreement == 0.5 and figure.value == 250.0 and figure.ratio < 1
        never = [Examined(1, 300.0, 1.0, 0.5)]
        assert [figure.agreement for figure in quality_figures(never, self.PLAIN)] == [0, 0]


class TestExamination:
    def test_of_the_true_ball(self, tmp_path) -> None:
        """Cells of 1/32 put flat faces inside a ball of this radius, and points have gaps."""
        known = known_experiment(write_scene(tmp_path / "ball"), sphere(SCENE_RADIUS))
        examination = Examination(known.config, known.scene, CPU)
        diameter = 2 * SCENE_RADIUS * math.sqrt(3)
        assert examination.chamfer(known.model) < 0.03 / diameter
        larger = known_experiment(tmp_path / "ball", sphere(SCENE_RADIUS + 0.2))
        assert examination.chamfer(larger.model) == pytest.approx(0.2 / diameter, rel=0.1)

    def test_pixels_without_surface_count_as_white(self, tmp_path) -> None:
        known = known_experiment(
            write_scene(tmp_path / "ball"), sphere(0.01, (5.0, 5.0, 5.0)), OneColour(0.0, 0.0, 0.0)
        )
        held = known.scene.held_out
        colours = held.images[held.masks].float() / 255
        expected = -10 * math.log10(float((1 - colours).square().mean()))
        found = Examination(known.config, known.scene, CPU).psnr(known.model)
        assert found == pytest.approx(expected, rel=1e-4)

    def test_a_scene_without_truth_is_refused(self, tmp_path) -> None:
        config = config_of(write_tiny_scene(tmp_path / "ball"))
        with pytest.raises(UserError, match="no true surface"):
            Examination(config, load_scene(config), CPU)
        config = config_of(write_scene(tmp_path / "all"), data={"holdout_every": 0})
        with pytest.raises(UserError, match="no held-out view"):
            Examination(config, load_scene(config), CPU)


class TestPlain:
    @pytest.fixture
    def plain(self, tmp_path) -> tuple[IDRConfig, PlainTask]:
        ours = config_of(write_scene(tmp_path / "ball"), training={"seed": 5})
        config = as_plain(validate(IDRConfig, PAPER, "test"), ours)
        scene = load_scene(config)
        task = PlainTask(make_model(config, scene.rough_cameras), config, scene, Process(0, 1, CPU))
        return config, task

    def test_it_has_the_papers_settings_on_our_data(self, plain) -> None:
        config, _ = plain
        assert config.search.method == "reference" and config.model.geometry == "mlp"
        assert config.data.path.endswith("ball") and config.data.holdout_every == 3
        assert config.training.seed == 5 and config.training.learning_rate == 1e-4

    def test_a_batch_is_different_pixels_of_one_photograph(self, plain) -> None:
        config, task = plain
        batches = task.batches
        assert isinstance(batches, PhotographPixels) and len(batches) == 100
        seen = set()
        for step in range(20):
            batch = batches[step]
            assert batch.view.unique().numel() == 1 and len(batch.mask) == 40
            assert batch.pixel.unique(dim=0).shape == (40, 2)
            assert batch.pixel.equal(batches[step].pixel)
            seen.add(int(batch.view[0]))
        assert seen == set(range(len(batches.views)))

    def test_it_learns_by_the_reference_step(self, plain) -> None:
        _, task = plain
        batch = task.batches[0]
        result = task.step(task.model, batch, 0)
        assert set(result.terms) == set(task.weights) == {"rgb", "mask", "eikonal"}
        # Rays that miss are looked at 100 times, as in the paper.
        assert result.evaluations > 20 * result.rays == 800


class Told:
    """In an examination's place: better scores each time that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, model) -> tuple[float, float]:
        self.asked += 1
        return float(self.asked), 1.0 / self.asked


class TestTraining:
    def test_it_is_examined_when_due_and_ends_when_enough(self, tmp_path) -> None:
        config = config_of(write_scene(tmp_path / "ball"), training={"iterations": 50})
        scene = load_scene(config)
        made = []

        def make() -> IDRTask:
            model = make_model(config, scene.rough_cameras)
            made.append(IDRTask(model, config, scene, Process(0, 1, CPU)))
            return made[-1]

        always = (1e-6 * k for k in count(1))  # no step is as short
        found = trained("ours", make, Told(), always, lambda e: e[-1].psnr >= 4)
        assert [e.step for e in found] == [1, 2, 3, 4]
        assert [e.psnr for e in found] == [1, 2, 3, 4]
        assert all(a.seconds < b.seconds for a, b in zip(found, found[1:], strict=False))
        # One task warmed up and is not the one that was trained.
        assert len(made) == 2
        rarely = chain([0.0], repeat(math.inf))
        found = trained("ours", make, Told(), rarely, lambda e: False)
        assert [e.step for e in found] == [1, 50]

    def test_the_whole_benchmark_in_small(self, tmp_path, monkeypatch) -> None:
        for name, value in {"PIXELS": 50, "CELLS": 32, "POINTS": 500}.items():
            monkeypatch.setattr(quality, name, value)
        ours = config_of(
            write_scene(tmp_path / "ball"), training={"iterations": 40, "learning_rate": 1e-3}
        )
        paper = validate(IDRConfig, PAPER, "test")
        figures = quality_benchmark(ours, paper, 0.2 / 60, CPU)
        assert [f.name for f in figures] == [
            "idr/seconds_to_quality", "idr/seconds_to_best_quality"
        ]  # fmt: skip
        assert all(f.oracle >= 0.02 and f.value > 0 for f in figures)
        names = {curve.name for curve in figures[0].curves}
        assert names == {"ours", "plain"}

"""What TensorBoard is told of a run, read back as TensorBoard reads it."""

import json
import platform
import re

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata

from common.config import TrainingConfig
from common.training.curves import curve
from common.training.logs import Log
from common.training.loop import train
from common.training.processes import Process
from common.training.run_folder import RunFolder, write_yaml
from tests.make_task import SlopeTask

ALONE = Process(0, 1, torch.device("cpu"))
SETTINGS = {
    "method": "idr",
    "data": {"path": "data/a|b", "views": None},
    "march": {"samples": [[0, 16]]},
    "training": {"iterations": 4, "learning_rate": 1e-3, "decay": "cosine", "fused": True},
    "versions": {"torch": "2.13", "numpy": "2.1"},
}


def read(run: RunFolder) -> EventAccumulator:
    events = EventAccumulator(str(run.logs), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events: EventAccumulator, tag: str) -> list[str]:
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    run = RunFolder(tmp_path / "my run")
    write_yaml(run.config, SETTINGS)
    return run


class TestCurves:
    def test_a_training_has_them_grouped_by_meaning(self, tmp_path) -> None:
        task = SlopeTask([{"mask_iou": 0.5, "psnr": 20.0, "rotation_error_deg": 1.0}])
        train(task, TrainingConfig(iterations=2, log_every=1), RunFolder(tmp_path), ALONE)
        assert set(read(RunFolder(tmp_path)).Tags()["scalars"]) == {
            "loss/total", "loss/slope",
            "metric/mask_iou", "metric/psnr",
            "cameras/rotation_error_deg",
            "surface/surface_share",
            "optimiser/learning_rate", "optimiser/gradient_norm", "optimiser/left_out",
            "speed/steps_per_second", "speed/rays_per_second", "speed/evaluations_per_second",
        }  # fmt: skip

    def test_what_is_not_known_keeps_its_group(self) -> None:
        assert curve("train", "novelty") == "train/novelty"
        assert curve("validation", "ssim") == "metric/ssim"

    def test_the_record_keeps_the_names_it_has(self, run) -> None:
        log = Log(run, 0)
        log.scalars("train", {"loss_rgb": 2.0}, 1, 0.5)
        log.close()
        record = json.loads(run.metrics.read_text())
        assert record == {"step": 1, "seconds": 0.5, "train/loss_rgb": 2.0}
        assert [(e.step, e.value) for e in read(run).Scalars("loss/rgb")] == [(1, 2.0)]


class TestPage:
    def layout(self, run: RunFolder) -> Layout:
        Log(run, 0).close()
        (event,) = read(run).Tensors("custom_scalars__config__")
        return Layout.FromString(event.tensor_proto.string_val[0])

    def test_every_chart_has_a_curve_of_one_of_the_methods(self, run) -> None:
        terms = (
            "rgb", "mask", "outline", "eikonal", "smoothness",
            "freespace", "occupancy", "hull", "normal", "depth",
        )  # fmt: skip
        names = ["loss", *(f"loss_{term}" for term in terms), "learning_rate", "gradient_norm"]
        names += ["surface_share", "steps_per_second", "evaluations_per_second"]
        curves = {curve("train", name) for name in names}
        scores = ("mask_iou", "psnr", "rotation_error_deg", "centre_error")
        curves |= {curve("validation", name) for name in scores}
        shown = set()
        for category in self.layout(run).category:
            for chart in category.chart:
                found = {c for t in chart.multiline.tag for c in curves if re.fullmatch(t, c)}
                assert found, chart.title
                assert not found & shown  # once each
                shown |= found
        assert shown == curves

    def test_the_overview_comes_first(self, run) -> None:
        first = self.layout(run).category[0]
        assert first.title == "overview"
        assert [chart.multiline.tag[0] for chart in first.chart][:2] == [
            "loss/total", "metric/mask_iou",
        ]  # fmt: skip


class TestSettings:
    def test_a_text_has_all_of_them_and_the_versions(self, run) -> None:
        Log(run, 0).close()
        (text,) = texts(read(run), "run/text_summary")
        assert text.startswith("**my run**: idr on data/a|b")
        assert f"numpy 2.1, python {platform.python_version()}, torch 2.13" in text
        rows = text[text.index("|---|---|") :].splitlines()[1:]
        assert rows == [
            "| method | idr |",
            r"| data.path | data/a\|b |",
            "| data.views | none |",
            "| march.samples | [[0, 16]] |",
            "| training.iterations | 4 |",
            "| training.learning_rate | 0.001 |",
            "| training.decay | cosine |",
            "| training.fused | true |",
        ]

    def test_runs_are_compared_by_them(self, run) -> None:
        Log(run, 0).close()
        plugin = read(run).summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data
        values = metadata.parse_session_start_info_plugin_data(plugin.content).hparams
        assert values["training.learning_rate"].number_value == 1e-3
        assert values["training.fused"].string_value == "true"
        assert values["march.samples"].string_value == "[[0, 16]]"
        assert set(values) == {
            "method", "data.path", "data.views", "march.samples", "training.iterations",
            "training.learning_rate", "training.decay", "training.fused",
        }  # fmt: skip

    def test_tensorboard_finds_the_metrics_of_all_runs_itself(self, run) -> None:
        """A list of one run's metrics would be taken for that of all."""
        Log(run, 0).close()
        assert metadata.EXPERIMENT_TAG not in read(run).Tags()["tensors"]

    def test_a_folder_without_settings_has_curves_alone(self, tmp_path) -> None:
        Log(RunFolder(tmp_path), 0).close()
        assert read(RunFolder(tmp_path)).Tags()["tensors"] == ["custom_scalars__config__"]


class TestInterruptions:
    def test_a_run_that_never_gets_on_says_it_once(self, run) -> None:
        for _ in range(5):
            Log(run, 3).close()
        # The one that TensorBoard's pages are made from.
        events = plugin_event_accumulator.EventAccumulator(str(run.logs))
        events.Reload()
        for tag in ("run/text_summary", "custom_scalars__config__"):
            assert len(events.Tensors(tag)) == 1

    def test_a_run_that_goes_on_with_other_settings_says_so(self, run) -> None:
        Log(run, 0).close()
        write_yaml(run.config, SETTINGS | {"method": "dvr"})
        Log(run, 10).close()
        first, second = texts(read(run), "run/text_summary")
        assert "| method | idr |" in first and "| method | dvr |" in second

    def test_a_start_costs_some_kilobytes(self, run) -> None:
        Log(run, 0).close()
        before = sum(file.stat().st_size for file in run.logs.iterdir())
        assert before < 4000
        log = Log(run, 1)
        log.image("grey", np.full((4, 4, 3), 128, np.uint8), 1)
        log.close()
        assert sum(file.stat().st_size for file in run.logs.iterdir()) < 2 * before + 500

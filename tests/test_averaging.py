"""The average of the weights: what it is, that it is used, and that a resumed run has it."""

import json

import pytest
import torch
from torch import nn

from common.config import TrainingConfig
from common.errors import Stopped
from common.training.averaging import Average
from common.training.loop import train
from common.training.processes import Process
from common.training.run_folder import RunFolder, load_checkpoint
from tests.make_task import SlopeTask

ALONE = Process(0, 1, torch.device("cpu"))


class Normalised(nn.Module):
    """A weight, and a buffer that batches move."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(2))


class TestAverage:
    @pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
    def test_of_weights_that_move_evenly(self, decay) -> None:
        """Of w_i = i, i = 1 to n: the sum of d^(n-i) i over that of d^(n-i), in closed form
        n - d / (1 - d) + n d^n / (1 - d^n); for large n it lags d / (1 - d) steps behind."""
        model = Normalised()
        average = Average(model, decay)
        for n in range(1, 201):
            with torch.no_grad():
                model.weight.copy_(torch.tensor([1.0, -2.0, 0.0]) * n)
            average.update(n)
            expected = n - decay / (1 - decay) + n * decay**n / (1 - decay**n)
            assert average.values["weight"][0].item() == pytest.approx(expected, rel=1e-9)
        expected = expected * torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
        torch.testing.assert_close(average.values["weight"], expected)

    def test_the_first_step_forgets_the_untrained_weights(self) -> None:
        model = Normalised()
        average = Average(model, 0.999)
        nn.init.constant_(model.weight, 5.0)
        average.update(1)
        assert torch.equal(average.values["weight"], model.weight)

    def test_it_takes_the_models_place_and_gives_it_back(self) -> None:
        """The optimiser's parameters stay the same objects; buffers are the model's own."""
        model = Normalised()
        average, parameter = Average(model, 0.9), model.weight
        nn.init.constant_(model.weight, 5.0)
        model.seen += 1
        with pytest.raises(RuntimeError, match="while it is looked at"), average.in_place():
            assert model.weight is parameter and not model.weight.any()
            assert model.seen.tolist() == [1, 1]
            raise RuntimeError("while it is looked at")
        assert model.weight is parameter and model.weight.tolist() == [5] * 3
        state = average.state()
        assert not state["weight"].any() and state["seen"].tolist() == [1, 1]


class Validated(SlopeTask):
    """Validates with the weight it finds."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__([])
        self.stop_at = stop_at

    def step(self, model, batch, step):
        if step == self.stop_at:
            raise Stopped("here")
        return super().step(model, batch, step)

    def validate(self) -> dict[str, float]:
        return {"mask_iou": self.model.weight.item()}


def config(iterations: int, ema: float | None = 0.5) -> TrainingConfig:
    return TrainingConfig(
        iterations=iterations, learning_rate=0.1, validate_every=1, checkpoint_every=3, ema=ema
    )


def scores(run: RunFolder) -> list[float]:
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [record["validation/mask_iou"] for record in lines if "validation/mask_iou" in record]


class TestTraining:
    def test_what_is_validated_and_kept_is_the_average(self, tmp_path) -> None:
        """Adam goes down a constant slope by its rate: weights are 1 - 0.1 n."""
        run, task = RunFolder(tmp_path), Validated()
        train(task, config(4), run, ALONE)
        weights = [1 - 0.1 * n for n in range(1, 5)]
        assert task.model.weight.item() == pytest.approx(weights[-1], rel=1e-5)
        expected, average = [], 0.0
        for n, weight in enumerate(weights, 1):
            average += (weight - average) * 0.5 / (1 - 0.5**n)
            expected.append(average)
        assert scores(run) == pytest.approx(expected, rel=1e-5)
        latest, best = load_checkpoint(run.latest), load_checkpoint(run.best)
        assert latest["model"]["weight"].item() == scores(run)[-1]
        assert latest["trained"]["weight"] == task.model.weight
        assert best["step"] == 1 and best["model"]["weight"].item() == scores(run)[0]

    def test_a_resumed_run_is_the_uninterrupted_one(self, tmp_path) -> None:
        """Bit for bit, also where some steps are taken again."""
        whole, halting = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halting")
        train(Validated(), config(8), whole, ALONE)
        for stop in (5, 7, None):
            try:
                train(Validated(stop), config(8), halting, ALONE)
            except Stopped:
                assert stop is not None
        assert scores(halting) == scores(whole)
        first, second = load_checkpoint(whole.latest), load_checkpoint(halting.latest)
        for weights in ("model", "trained"):
            assert torch.equal(first[weights]["weight"], second[weights]["weight"])
        assert first["model"]["weight"] != first["trained"]["weight"]

    def test_it_can_be_turned_on_and_off_again(self, tmp_path) -> None:
        """On, it begins at the weights that are there; off, training goes on from its own."""
        run, plain = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "plain")
        train(Validated(), config(3, None), run, ALONE)
        without = load_checkpoint(run.latest)
        assert "trained" not in without
        train(Validated(), config(4), run, ALONE)
        share = 0.5 / (1 - 0.5**4)
        trained = load_checkpoint(run.latest)["trained"]["weight"].item()
        before = without["model"]["weight"].item()
        expected = before + share * (trained - before)
        assert load_checkpoint(run.latest)["model"]["weight"].item() == pytest.approx(expected)
        train(Validated(), config(6, None), run, ALONE)
        train(Validated(), config(6, None), plain, ALONE)
        first, second = load_checkpoint(run.latest), load_checkpoint(plain.latest)
        assert torch.equal(first["model"]["weight"], second["model"]["weight"])
        assert "trained" not in first

    def test_training_itself_does_not_see_it(self, tmp_path) -> None:
        with_it, without = Validated(), Validated()
        train(with_it, config(5), RunFolder(tmp_path / "with"), ALONE)
        train(without, config(5, None), RunFolder(tmp_path / "without"), ALONE)
        assert torch.equal(with_it.model.weight, without.model.weight)
        assert scores(RunFolder(tmp_path / "with")) != scores(RunFolder(tmp_path / "without"))


def test_a_state_shares_no_memory_with_the_model() -> None:
    """A checkpoint with an array twice is not read."""
    model = Normalised()
    average = Average(model, 0.9)
    addresses = {value.data_ptr() for value in model.state_dict().values()}
    assert not addresses & {value.data_ptr() for value in average.state().values()}

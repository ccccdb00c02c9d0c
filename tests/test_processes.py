"""However many processes share a training, also in turns, it is the same.

Gradients of one process and of two differ by the order of float32 sums, about 1e-7 of the largest
summand. Adam would make more of it: where a gradient's true value is zero, a step is the sign of
what remains times the whole learning rate. With an epsilon of 1, far above the gradients, its step
is that of plain momentum, and what differs stays as small as it is in the gradients.
"""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.training.batch_norm import GroupedBatchNorm, group_batch_norms, share_groups
from common.training.processes import WHOLE, Share
from common.training.randomness import Random
from common.training.run_folder import load_checkpoint
from idr.config import IDRConfig
from idr.data import check_shares
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, merged, run_script, tiny_settings, write_settings

HALF, ALL = 4, 8  # iterations
TOLERANCE = 1e-5
TRAINING = {
    "training": {
        "learning_rate": 1e-3, "decay": "none", "epsilon": 1.0, "clip_gradient": 10.0, "ema": 0.8,
        "log_every": 1, "validate_every": HALF, "checkpoint_every": HALF, "visualise_every": 100,
    }
}  # fmt: skip
# All that is random in a step, and batch normalisation.
DVR = {
    "data": {"mirror": "x", "colour_jitter": 0.5, "input": {"size": 32}},
    "model": {"encoder": {"kind": "resnet18", "width": 4, "norm_groups": 2}},
    "losses": {"hull": 1, "normal": 0.1},
    "supervision": {"hull_points": 16, "occupancy_points": "random_normal"},
    "training": {"objects": 8},
}
IDR = {
    "cameras": {"refine": True, "noise_deg": 0.5},
    "model": {"fade_in": 0},  # what fades in by a share of the run has not at half of it
    "search": {"refresh_every": 3},
    "losses": {"smoothness": 0.1, "alpha_milestones": [5]},
}


class TestShares:
    @pytest.mark.parametrize("count", [1, 2, 3, 6])
    def test_have_every_row_once(self, count) -> None:
        rows = torch.arange(12)
        parts = [Share(rank, count).of(rows) for rank in range(count)]
        assert [len(part) for part in parts] == [12 // count] * count
        assert torch.equal(torch.cat(parts).sort().values, rows)
        assert Share(0, count).size(12, "rays") == 12 // count

    def test_that_differ_in_size_are_refused(self) -> None:
        with pytest.raises(UserError, match="training.rays: 64 of a step cannot be shared equally"):
            Share(1, 3).size(64, "training.rays")
        config = IDRConfig.model_validate({"method": "idr", "data": {"path": "x"}})
        rays = config.training.rays
        check_shares(config, Share(0, 4))
        with pytest.raises(UserError, match=f"training.rays: {rays} .* by 3 processes"):
            check_shares(config, Share(0, 3))
        uneven = config.supervision.model_copy(update={"eikonal_points": 3 / rays})
        with pytest.raises(UserError, match="eikonal_points x rays: 3 of a step .* multiple of 2"):
            check_shares(config.model_copy(update={"supervision": uneven}), Share(0, 2))

    def test_of_random_numbers_are_those_of_one_process(self) -> None:
        def drawn(share: Share) -> list[torch.Tensor]:
            random = Random(torch.Generator().manual_seed(3), share)
            rows = 12 // share.count
            return [random.uniform(rows), random.normal(rows, 3), random.uniform(rows, 2)]

        for whole, *parts in zip(
            drawn(WHOLE), *(drawn(Share(i, 3)) for i in range(3)), strict=True
        ):
            assert len(whole) == 12
            assert all(torch.equal(part, whole[i::3]) for i, part in enumerate(parts))


class TestGroupedBatchNorm:
    """What processes share is tested by the trainings below."""

    @staticmethod
    def norm_and_pictures() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        image = torch.randn(6, 3, 5, 4, generator=generator, dtype=torch.float64) * 2 + 1
        target = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        plain = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3, momentum=0.2)).double()
        nn.init.uniform_(plain[0].weight, generator=generator)
        return plain, image, target

    @pytest.mark.parametrize("groups", [1, 2, 3])
    def test_it_is_batch_normalisation_of_every_group(self, groups) -> None:
        """Outputs, gradients, running statistics; in evaluation the same for all."""
        plain, image, target = self.norm_and_pictures()
        grouped = copy.deepcopy(plain)
        weight = grouped[0].weight
        group_batch_norms(grouped, groups)
        assert type(grouped[0]) is GroupedBatchNorm and grouped[0].weight is weight
        seen = image.clone().requires_grad_()
        (grouped(seen) - target).square().sum().backward()
        state, gradients = grouped.state_dict(), [p.grad for p in grouped.parameters()]
        states, totals = [], [torch.zeros_like(gradient) for gradient in gradients]
        for group in range(groups):
            alone, own = copy.deepcopy(plain), image[group::groups].clone().requires_grad_()
            (alone(own) - target[group::groups]).square().sum().backward()
            torch.testing.assert_close(seen.grad[group::groups], own.grad)
            states.append(alone.state_dict())
            for total, parameter in zip(totals, alone.parameters(), strict=True):
                total += parameter.grad
        torch.testing.assert_close(gradients, totals)
        for key in ("0.running_mean", "0.running_var"):
            mean = torch.stack([each[key] for each in states]).mean(dim=0)
            torch.testing.assert_close(state[key], mean)
        plain.load_state_dict(state)
        torch.testing.assert_close(grouped.eval()(image), plain.eval()(image))

    def test_processes_get_as_many_groups_each(self) -> None:
        module = self.norm_and_pictures()[0]
        group_batch_norms(module, 6)
        share_groups(module, Share(1, 3), "groups")
        assert module[0].groups == 2
        with pytest.raises(
            UserError, match="groups: 2 of a step cannot be shared .* multiple of 4"
        ):
            share_groups(module, Share(0, 4), "groups")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def in_two_processes(*files: Path) -> subprocess.CompletedProcess:
    """Train one configuration after the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += [f"--master_port={free_port()}", str(ROOT / "tests/trainings_in_turn.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, env=environment
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Each method's run of one process, of two, and of one and two in turns, both ways round."""
    root = tmp_path_factory.mktemp("runs")
    objects = write_tiny_collection(root / "objects", objects=4)
    scene = write_tiny_scene(root / "scene", 8, 40)

    def file(method: str, name: str, iterations: int) -> Path:
        out = root / method / name
        made = tiny_settings(objects, out) if method == "dvr" else tiny_idr_settings(scene, out)
        settings = merged(merged(made, TRAINING), DVR if method == "dvr" else IDR)
        settings = merged(settings, {"training": {"iterations": iterations}})
        return write_settings(root / f"{method}_{name}_{iterations}.yaml", settings)

    def alone(name: str, iterations: int) -> None:
        for method in ("dvr", "idr"):
            done = run_script("train", file(method, name, iterations))
            assert done.code == 0, done.err

    alone("one", ALL)
    alone("one, two", HALF)
    legs = [("two", ALL), ("one, two", ALL), ("two, one", HALF)]
    done = in_two_processes(*(file(method, *leg) for method in ("dvr", "idr") for leg in legs))
    assert done.returncode == 0, done.stderr
    alone("two, one", ALL)
    return root


@pytest.mark.parametrize("method", ["dvr", "idr"])
@pytest.mark.parametrize("name", ["two", "one, two", "two, one"])
class TestTrainings:
    def test_have_the_weights_of_one_process(self, runs, method, name) -> None:
        """And the averages, running statistics, cameras and caches."""
        one, other = (
            load_checkpoint(runs / method / run / "checkpoints/latest.pt") for run in ("one", name)
        )
        first = load_checkpoint(runs / method / "one/checkpoints/step_4.pt")
        assert one["step"] == other["step"] == ALL
        for weights in ("model", "trained"):
            assert one[weights].keys() == other[weights].keys()
            for key, value in one[weights].items():
                torch.testing.assert_close(
                    other[weights][key],
                    value,
                    atol=TOLERANCE,
                    rtol=1e-4,
                    msg=lambda m, k=key: k + m,
                )
        moved = [
            (value - first["trained"][key]).abs().max()
            for key, value in one["trained"].items()
            if value.is_floating_point()
        ]
        assert max(moved) > 100 * TOLERANCE

    def test_record_every_step_once(self, runs, method, name) -> None:
        one, other = (
            [json.loads(line) for line in (runs / method / run / "metrics.jsonl").open()]
            for run in ("one", name)
        )
        trained = [record["step"] for record in other if "train/loss" in record]
        assert trained == list(range(1, ALL + 1))
        assert [record["step"] for record in other] == [record["step"] for record in one]
        for first, second in zip(one, other, strict=True):
            for key in {"train/loss", "train/gradient_norm", "validation/mask_iou"} & set(first):
                assert second[key] == pytest.approx(first[key], rel=1e-3)

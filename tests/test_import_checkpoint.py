"""Checkpoints of the authors: the same function here, whatever the file is up to.

The oracles below say what the authors' networks compute, from the papers and the layers' names.
"""

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from PIL import Image
from torch import Tensor
from torch.nn import functional

from common.errors import UserError
from common.training import foreign_weights, plain_pickle
from common.training.foreign_weights import read_foreign
from common.training.run_folder import RunFolder, load_checkpoint
from dvr.experiment import load_run
from idr.experiment import Experiment, load_experiment
from tests.fuzzing import fuzz
from tests.make_collection import camera_from_object, write_tiny_collection, write_tiny_scene
from tests.make_run import Outcome, run_script

CPU = torch.device("cpu")
VIEWS = 6
Weights = dict[str, Tensor]

# float32 through some ten layers; the values themselves are about one.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Weights of the size that PyTorch's layers begin with."""
    generator = torch.Generator().manual_seed(seed)
    weights = OrderedDict()
    for name, shape in shapes.items():
        inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        weights[name] = torch.randn(shape, generator=generator) / inputs**0.5
    return weights


# DVR


def decoder_weights(hidden: int, code: int, outputs: int = 4) -> Weights:
    """An octahedron of radius 0.3 in the occupancy, disturbed a little; random colours.

    The first six units carry the rectified coordinates through all blocks.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, out: int) -> None:
        shapes.update({f"decoder.{name}.weight": (out, inputs), f"decoder.{name}.bias": (out,)})

    linear("fc_p", 3, hidden)
    linear("fc_out", hidden, outputs)
    for i in range(5):
        if code:
            linear(f"fc_c.{i}", code, hidden)
        linear(f"blocks.{i}.fc_0", hidden, hidden)
        linear(f"blocks.{i}.fc_1", hidden, hidden)
    weights = random_weights(shapes)
    for name, value in weights.items():
        if "fc_1" in name or "fc_c" in name:
            value[:6] = 0
    weights["decoder.fc_p.weight"][:6] = torch.cat([torch.eye(3), -torch.eye(3)])
    weights["decoder.fc_p.bias"][:6] = 0
    weights["decoder.fc_out.weight"][0] *= 0.05
    weights["decoder.fc_out.weight"][0, :6] = -10
    weights["decoder.fc_out.bias"][0] = 3
    return weights


def decoder(weights: Weights, points: Tensor, code: Tensor) -> Tensor:
    """Logit and colour before the sigmoid: five residual blocks, the code added before each."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"decoder.{name}.weight"].T + weights[f"decoder.{name}.bias"]

    h = linear("fc_p", points)
    for i in range(5):
        if code.shape[-1]:
            h = h + linear(f"fc_c.{i}", code)
        inner = linear(f"blocks.{i}.fc_0", h.clamp_min(0))
        h = h + linear(f"blocks.{i}.fc_1", inner.clamp_min(0))
    return linear("fc_out", h.clamp_min(0))


def resnet_weights(
    blocks: tuple[int, ...], code: int | None, bottleneck: bool, base: int
) -> Weights:
    """A ResNet under torchvision's names, with running statistics other than the initial ones."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, norm: str, inputs: int, out: int, size: int) -> None:
        shapes[f"{name}.weight"] = (out, inputs, size, size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (out,)

    convolution("conv1", "bn1", 3, base, 7)
    before = base
    for stage, count in enumerate(blocks):
        width = base * 2**stage
        after = width * (4 if bottleneck else 1)
        for i in range(count):
            name = f"layer{stage + 1}.{i}"
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            widths = (before, width, width, after) if bottleneck else (before, width, width)
            for j, size in enumerate(sizes):
                convolution(
                    f"{name}.conv{j + 1}", f"{name}.bn{j + 1}", widths[j], widths[j + 1], size
                )
            if i == 0 and (stage or bottleneck):
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", before, after, 1)
            before = after
    weights = random_weights(shapes, seed=1)
    named = OrderedDict()
    for name, value in weights.items():
        if "bn" in name or "downsample.1" in name:
            # Shrinking deviations keep the sum of a hundred branches near one.
            value = 2 + value.abs() if name.endswith("var") else 0.3 * value
            value = value + 1 if name.endswith("weight") else value
        named[f"encoder.features.{name}"] = value
    if code is not None:
        named["encoder.fc.weight"] = random_weights({"w": (code, before)}, 2)["w"]
        named["encoder.fc.bias"] = random_weights({"b": (code,)}, 3)["b"]
    return named


def resnet(weights: Weights, image: Tensor) -> Tensor:
    """The code of pictures in [0, 1]; blocks and shortcuts are those whose weights are there."""

    def convolution(name: str, norm: str, x: Tensor, stride: int, padding: int) -> Tensor:
        x = functional.conv2d(x, weights[f"encoder.features.{name}.weight"], None, stride, padding)
        scale, shift, mean, variance = (
            weights[f"encoder.features.{norm}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = convolution("conv1", "bn1", (image - mean) / deviation, 2, 3).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for i in range(100):
            name = f"layer{stage}.{i}"
            if f"encoder.features.{name}.conv1.weight" not in weights:
                break
            stride = 2 if stage > 1 and i == 0 else 1
            wide = f"encoder.features.{name}.conv3.weight" in weights
            # (stride, padding) of each; a bottleneck strides in its 3 x 3 one.
            steps = [(1, 0), (stride, 1), (1, 0)] if wide else [(stride, 1), (1, 1)]
            y = x
            for j, (step, padding) in enumerate(steps, start=1):
                y = convolution(f"{name}.conv{j}", f"{name}.bn{j}", y, step, padding)
                y = y.relu() if j < len(steps) else y
            if f"encoder.features.{name}.downsample.0.weight" in weights:
                x = convolution(f"{name}.downsample.0", f"{name}.downsample.1", x, stride, 0)
            x = (x + y).relu()
    features = x.mean(dim=(2, 3))
    if "encoder.fc.weight" not in weights:
        return features
    return features @ weights["encoder.fc.weight"].T + weights["encoder.fc.bias"]


def simple_weights(code: int) -> Weights:
    widths = (3, 32, 64, 128, 256, 512)
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(5):
        shapes[f"encoder.conv{i}.weight"] = (widths[i + 1], widths[i], 3, 3)
        shapes[f"encoder.conv{i}.bias"] = (widths[i + 1],)
    shapes |= {"encoder.fc_out.weight": (code, 512), "encoder.fc_out.bias": (code,)}
    return random_weights(shapes)


def simple(weights: Weights, image: Tensor) -> Tensor:
    """Convolutions of stride 2 with rectifiers between; the mean, rectified; a linear layer."""
    x = image
    for i in range(5):
        x = x.relu() if i else x
        x = functional.conv2d(
            x, weights[f"encoder.conv{i}.weight"], weights[f"encoder.conv{i}.bias"], 2
        )
    features = x.mean(dim=(2, 3)).relu()
    return features @ weights["encoder.fc_out.weight"].T + weights["encoder.fc_out.bias"]


ENCODERS: dict[str, tuple[Callable[[], Weights], Callable[[Weights, Tensor], Tensor], int]] = {
    "resnet18": (lambda: resnet_weights((2, 2, 2, 2), 256, False, 64), resnet, 256),
    "resnet34 of an eighth the width": (
        lambda: resnet_weights((3, 4, 6, 3), 8, False, 8),
        resnet,
        8,
    ),
    "resnet50 of a sixteenth the width": (
        lambda: resnet_weights((3, 4, 6, 3), 8, True, 4),
        resnet,
        8,
    ),
    "without last layer": (lambda: resnet_weights((2, 2, 2, 2), None, False, 4), resnet, 32),
    "simple": (lambda: simple_weights(16), simple, 16),
}


@pytest.mark.parametrize(
    "encoder,hidden,outputs,legacy",
    [
        ("resnet18", 512, 4, True),
        ("resnet18", 128, 4, False),
        ("resnet34 of an eighth the width", 32, 1, False),
        ("resnet50 of a sixteenth the width", 32, 1, True),
        ("without last layer", 32, 4, True),
        ("simple", 32, 1, False),
    ],
)
def test_dvr_is_the_same_function(encoder, hidden, outputs, legacy, tmp_path) -> None:
    make, encode, length = ENCODERS[encoder]
    weights = OrderedDict(decoder_weights(hidden, length, outputs) | make())
    torch.save(
        {"model": weights, "it": 123, "epoch_it": 4, "loss_val_best": np.float64(0.5)},
        tmp_path / "model.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    accepted("import_checkpoint", tmp_path / "model.pt", tmp_path / "run")
    model, config, numbers = load_run(RunFolder(tmp_path / "run"), CPU)
    assert numbers["step"] == 123
    assert config.data.input.size == 224
    assert (config.model.hidden, config.model.colour) == (hidden, outputs == 4)
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(2, 3, 64, 64, generator=generator)
    points = torch.rand(2, 50, 3, generator=generator) - 0.5
    with torch.no_grad():
        code = encode(weights, image)
        truth = decoder(weights, points, code[:, None])
        condition = model.condition(image, torch.zeros(2, dtype=torch.long))[:, :, None]
        torch.testing.assert_close(model.code(image, torch.zeros(2).long()), code, **CLOSE)
        ours = model.decoder.logits(points, condition)
        torch.testing.assert_close(ours, truth[..., 0], **CLOSE)
        if outputs == 4:
            colour = model.decoder.colour(points, condition)
            torch.testing.assert_close(colour, truth[..., 1:].sigmoid(), **CLOSE)
    # The code must matter, or a wrong one would go unnoticed.
    assert (decoder(weights, points, 0 * code[:, None]) - truth).abs().max() > 1e-3


def test_dvr_with_a_code_per_object(tmp_path) -> None:
    data = write_tiny_collection(tmp_path / "data", objects=3)
    weights = decoder_weights(32, 5) | random_weights({"encoder.weight": (3, 5)})
    torch.save({"model": weights}, tmp_path / "model.pt")
    accepted("import_checkpoint", tmp_path / "model.pt", tmp_path / "run", "--data", data)
    model, config, _ = load_run(RunFolder(tmp_path / "run"), CPU)
    assert config.data.test_split == config.data.train_split
    assert torch.equal(model.code(None, torch.tensor([2]))[0], weights["encoder.weight"][2])


@pytest.fixture(scope="module")
def imported(scene, tmp_path_factory) -> tuple[Path, Weights]:
    """A run of DVR on one scene, from a file with nothing but the state dict."""
    root = tmp_path_factory.mktemp("dvr")
    weights = decoder_weights(32, 0)
    torch.save(weights, root / "state.pt")
    accepted(
        "import_checkpoint", root / "state.pt", root / "run", "data.ignore_views=[]",
        "--data", scene,
    )  # fmt: skip
    return root / "run", weights


class TestDVRScene:
    def test_no_view_was_held_out(self, imported) -> None:
        model, config, numbers = load_run(RunFolder(imported[0]), CPU)
        assert config.data.holdout_every == 0 and numbers["step"] == 0
        points = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        with torch.no_grad():
            condition = model.condition(None, torch.tensor([0]))
            truth = decoder(imported[1], points, torch.zeros(100, 0))
            ours = model.decoder(points, condition)
        torch.testing.assert_close(ours, truth, **CLOSE)

    def test_scripts_take_it(self, imported) -> None:
        run, _ = imported
        options = ["--resolution", 32, "--refinement-steps", 0]
        accepted("generate_mesh", run, *options)
        assert (run / "meshes" / "scene" / "ball.ply").stat().st_size > 1000
        accepted("render", run, "--views", 1)
        assert shows_something(run / "renders" / "scene" / "ball", "")

    def test_training_continues_from_it(self, imported, tmp_path) -> None:
        run, weights = imported
        config = yaml.safe_load((run / "config.yaml").read_text())
        config.pop("versions")
        config["training"] |= {"iterations": 1, "objects": 1, "rays": 64, "learning_rate": 1e-7}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        assert "resuming" in accepted("train", path).out
        state = load_checkpoint(RunFolder(run).latest)
        name = "decoder.fc_p.weight"
        assert state["step"] == 1
        assert 0 < (state["model"][name] - weights[name]).abs().max() < 1e-6


# IDR


def idr_weights(
    hidden: int = 48, feature: int = 8, bands: int = 2, skip: int | None = 4, view: int | None = 27,
    normal: bool = True,
) -> Weights:  # fmt: skip
    """The SDF as it is initialised (about a ball of radius 0.5), lengths and biases disturbed."""
    encoded = 3 + 6 * bands
    widths = [encoded, *[hidden] * 8, 1 + feature]
    layers: dict[str, tuple[int, int]] = {}
    for i in range(9):
        out = widths[i + 1] - (encoded if i + 1 == skip else 0)
        layers[f"implicit_network.lin{i}"] = (out, widths[i])
    widths = [3 + (view or 0) + 3 * normal + feature, *[hidden] * 4, 3]
    for i in range(5):
        layers[f"rendering_network.lin{i}"] = (widths[i + 1], widths[i])
    generator = torch.Generator().manual_seed(0)
    weights = OrderedDict()
    for name, (out, inputs) in layers.items():
        values = torch.randn(out, inputs, generator=generator) * (2 / out) ** 0.5
        bias = 0.001 * torch.randn(out, generator=generator)
        if name == "implicit_network.lin0":
            values[:, 3:] *= 0.01
        elif name == f"implicit_network.lin{skip}":
            values[:, 3 - encoded :] *= 0.01
        elif name == "implicit_network.lin8":
            values = (torch.pi / inputs) ** 0.5 + 1e-3 * values
            bias[0] = -0.6
        elif name.startswith("rendering"):
            values *= (out / inputs) ** 0.5
        weights[f"{name}.bias"] = bias
        weights[f"{name}.weight_g"] = values.norm(dim=1, keepdim=True)
        # Directions of any length mean the same.
        weights[f"{name}.weight_v"] = values * (0.5 + torch.rand(out, 1, generator=generator))
    return weights


def normalised(weights: Weights, name: str, x: Tensor) -> Tensor:
    direction = weights[f"{name}.weight_v"]
    rows = weights[f"{name}.weight_g"] * direction / direction.norm(dim=1, keepdim=True)
    return x @ rows.T + weights[f"{name}.bias"]


def waves(x: Tensor, bands: int) -> Tensor:
    """x, then sine and cosine of each octave."""
    parts = [x]
    for k in range(bands):
        parts += [torch.sin(2**k * x), torch.cos(2**k * x)]
    return torch.cat(parts, dim=-1)


def implicit(weights: Weights, points: Tensor, bands: int, skip: int | None) -> Tensor:
    """Signed distance and feature."""
    encoded = h = waves(points, bands)
    for i in range(9):
        if i == skip:
            h = torch.cat([h, encoded], dim=-1) / 2**0.5
        h = normalised(weights, f"implicit_network.lin{i}", h)
        h = h if i == 8 else functional.softplus(h, beta=100)
    return h


def rendered(weights: Weights, seen: list[Tensor]) -> Tensor:
    """Colour in [0, 1] of what the network sees, in the authors' order."""
    h = torch.cat(seen, dim=-1)
    for i in range(5):
        h = normalised(weights, f"rendering_network.lin{i}", h)
        h = h.tanh() if i == 4 else h.relu()
    return (h + 1) / 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("data") / "ball", views=VIEWS)


def import_idr(scene: Path, folder: Path, weights: Weights, *options: object) -> Experiment:
    torch.save({"epoch": 3, "model_state_dict": weights}, folder / "2000.pth")
    accepted(
        "import_checkpoint", folder / "2000.pth", folder / "run", "--data", scene, *options
    )  # fmt: skip
    return load_experiment(RunFolder(folder / "run"), CPU)


# feature, bands, skip, bands of the view direction (None: not seen), normal
VARIANTS = {
    "as published": (256, 6, 4, 4, True),
    "no_feature_vector": (0, 6, 4, 4, True),
    "no_normal": (256, 6, 4, 4, False),
    "no_view_dir": (256, 6, 4, None, True),
    "no skip, other bands": (5, 3, None, 2, True),
    "plain points": (5, 0, 2, 0, True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_idr_is_the_same_function(variant, scene, tmp_path) -> None:
    feature, bands, skip, view_bands, normal = VARIANTS[variant]
    hidden = 512 if variant == "as published" else 64
    view = None if view_bands is None else 3 + 6 * view_bands
    weights = idr_weights(hidden, feature, bands, skip, view, normal)
    experiment = import_idr(scene, tmp_path, weights)
    assert experiment.numbers["step"] == 3 * VIEWS
    generator = torch.Generator().manual_seed(1)
    points = (2 * torch.rand(100, 3, generator=generator) - 1).requires_grad_()
    direction = functional.normalize(torch.randn(100, 3, generator=generator), dim=-1)
    truth = implicit(weights, points, bands, skip)
    (gradient,) = torch.autograd.grad(truth[:, 0].sum(), points)
    truth = truth.detach()
    values = experiment.model.geometry(points.detach())
    torch.testing.assert_close(experiment.model.geometry.sdf(points), truth[:, 0], **CLOSE)
    torch.testing.assert_close(values.sdf.detach(), truth[:, 0], **CLOSE)
    torch.testing.assert_close(values.feature.detach(), truth[:, 1:], **CLOSE)
    seen = [points.detach()]
    seen += [] if view_bands is None else [waves(direction, view_bands)]
    seen += [gradient] if normal else []
    colour = rendered(weights, [*seen, truth[:, 1:]])
    surface = experiment.model.surface(points.detach())
    ours = experiment.model.colour(surface, direction).detach()
    torch.testing.assert_close(ours, colour, **CLOSE)
    if normal:
        # Unit normals would be another function.
        seen[-1] = functional.normalize(gradient, dim=-1)
        assert (rendered(weights, [*seen, truth[:, 1:]]) - colour).abs().max() > 1e-4


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory) -> Path:
    """A run of IDR with a small network."""
    folder = tmp_path_factory.mktemp("idr")
    options = ["search.evaluation_resolution=32", "search.resolution=32"]
    import_idr(scene, folder, idr_weights(), *options)
    return folder / "run"


class TestIDRScene:
    def test_scripts_take_it(self, run) -> None:
        accepted("generate_mesh", run, "--resolution", 16)
        assert (run / "meshes" / "ball.ply").stat().st_size > 1000
        accepted("render", run, "--views", 1, "--training-views")
        assert shows_something(run / "renders" / "ball", "training_")
        accepted("evaluate", run, "--views", 1)
        assert (run / "evaluation.json").exists()
        options = ["--frames", 1, "--format", "gif", "--orbit", "--size", 8]
        accepted("transfer_appearance", run, run, run / "transfer", *options)

    def test_training_continues_from_it(self, run, tmp_path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text())
        config.pop("versions")
        config["training"] |= {"iterations": 3 * VIEWS + 1, "rays": 32, "learning_rate": 1e-7}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        assert "resuming" in accepted("train", path).out


def poses_of(scene: Path) -> Tensor:
    """The cameras of the tiny scene, turned about the origin by 90 degrees, as 7 numbers each."""
    half = 0.5**0.5
    turn = np.array([half, 0, 0, half])  # about z
    rows = []
    for view in range(VIEWS):
        camera = camera_from_object(view, VIEWS)
        camera[:3, 3] *= 2
        rotation = camera[:3, :3].T
        centre = -rotation @ camera[:3, 3]
        # The quaternion from the rotation's axis and angle.
        axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0],
                         rotation[1, 0] - rotation[0, 1]])  # fmt: skip
        angle = np.arctan2(np.linalg.norm(axis), np.trace(rotation) - 1)
        axis /= np.linalg.norm(axis)
        a, (b, c, d) = np.cos(angle / 2), np.sin(angle / 2) * axis
        w, _, _, z = turn
        product = np.array([w * a - z * d, w * b - z * c, w * c + z * b, w * d + z * a])
        turned = np.array([-centre[1], centre[0], centre[2]])
        rows.append(np.concatenate([1.02 * product, turned]))  # drifted lengths mean nothing
    return torch.tensor(np.stack(rows), dtype=torch.float32)


class TestCameras:
    def test_learnt_cameras_come_along(self, scene, tmp_path) -> None:
        """Turned with the scene, they leave pictures as they are and meshes where they belong."""
        poses = poses_of(scene)
        save_poses(tmp_path / "cameras.pth", poses)
        experiment = import_idr(
            scene, tmp_path, idr_weights(), "--cameras", tmp_path / "cameras.pth"
        )
        assert experiment.config.cameras.refine
        own, learnt = experiment.scene.training.cameras, experiment.cameras
        turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        rotations = turn @ own.object_from_camera[:, :3, :3]
        torch.testing.assert_close(
            learnt.object_from_camera[:, :3, :3], rotations, atol=2e-6, rtol=0
        )
        torch.testing.assert_close(learnt.centre, poses[:, 4:], atol=2e-6, rtol=0)
        torch.testing.assert_close(learnt.intrinsics, own.intrinsics)
        run = tmp_path / "run"
        accepted("generate_mesh", run, "--resolution", 16, "--export-cameras")
        exported, given = (np.load(folder / "cameras.npz") for folder in (run / "cameras", scene))
        for view in range(VIEWS):
            world = [one[f"world_mat_{view}"][:3] for one in (exported, given)]
            ours, truth = (matrix / np.linalg.norm(matrix[2, :3]) for matrix in world)
            np.testing.assert_allclose(ours, truth, atol=2e-3)  # pixels times world units

    @pytest.mark.parametrize(
        "change,words",
        [
            (lambda poses: poses[:4], "4 cameras were learnt"),
            (lambda poses: poses[:, :6], "7 numbers"),
            (lambda poses: poses * 0, "not zero"),
            (lambda poses: poses / 0, "not finite"),
            (lambda poses: {"a": 1}, "no array of numbers"),
        ],
    )
    def test_others_are_refused(self, change, words, scene, tmp_path) -> None:
        save_poses(tmp_path / "cameras.pth", change(poses_of(scene)))
        torch.save({"model_state_dict": idr_weights()}, tmp_path / "2000.pth")
        refused(
            words, tmp_path / "2000.pth", tmp_path / "run", "--data", scene,
            "--cameras", tmp_path / "cameras.pth",
        )  # fmt: skip


def save_poses(path: Path, poses: Any) -> None:
    torch.save({"epoch": 3, "pose_vecs_state_dict": {"weight": poses}}, path)


def shows_something(renders: Path, views: str) -> bool:
    """Whether the first mask is of an object smaller than the picture, and the colour is there."""
    mask = np.asarray(Image.open(renders / f"{views}mask" / "0000.png"))
    return mask.any() and not mask.all() and (renders / f"{views}colour" / "0000.png").exists()


# Files that are not what they should be


def accepted(name: str, *arguments: object) -> Outcome:
    outcome = run_script(name, *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def refused(words: str, file: Path, out: Path, *options: object) -> None:
    outcome = run_script("import_checkpoint", file, out, *options)
    assert outcome.code == 2, outcome.out
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome.err
    assert words in outcome.err
    assert not out.exists()


class Bomb:
    """Runs a command when an ordinary unpickler meets it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("place", ["model", "loss_val_best", "decoder.fc_p.weight"])
def test_nothing_in_a_file_is_run(place, legacy, tmp_path) -> None:
    content: dict[str, Any] = {"model": decoder_weights(32, 0)}
    bomb = Bomb(tmp_path / "exploded")
    (content["model"] if "." in place else content)[place] = bomb
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    refused("would run", tmp_path / "model.pt", tmp_path / "run", "--data", tmp_path)
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # it was a live one


def without(name: str) -> Callable[[Weights], None]:
    return lambda weights: weights.__delitem__(name)


def with_shape(name: str, *shape: int) -> Callable[[Weights], None]:
    return lambda weights: weights.update({name: torch.ones(shape)})


@pytest.mark.parametrize(
    "damage,words",
    [
        (without("decoder.fc_out.bias"), "decoder.fc_out.bias is missing"),
        (without("decoder.blocks.3.fc_1.weight"), "decoder.blocks.3.fc_1.weight is missing"),
        (without("decoder.blocks.0.fc_0.weight"), "decoder.blocks.0.fc_0.weight is missing"),
        (with_shape("decoder.fc_out.weight", 3, 32), "3 rows"),
        (with_shape("decoder.fc_out.weight", 4, 31), "[4, 31] where the other layers ask"),
        (with_shape("decoder.fc_p.weight", 32), "has the shape [32]"),
        (with_shape("decoder.fc_p.weight", 32, 0), "has the shape [32, 0]"),
        (with_shape("decoder.fc_p.weight", 32, 39), "[32, 39] where the other layers ask"),
        (with_shape("decoder.fc_p.weight", 2**13, 3), "has the shape [8192, 3]"),
        (with_shape("decoder.blocks.0.shortcut.weight", 32, 32), "'decoder.blocks.0.shortcut"),
        (with_shape("encoder.weight", 3, 5), "an encoder alone"),
        (with_shape("decoder.fc_c.0.weight", 32, 5), "a decoder alone"),
        (with_shape("encoder.tokens", 3, 5), "'encoder.tokens' belongs to no part"),
        (lambda w: w["decoder.fc_p.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.update({"decoder.fc_p.bias": [1.0]}), "no array of numbers"),
        (lambda w: w.update({"a": w["decoder.fc_p.bias"]}), "two names share one array"),
        (lambda w: w.update({"bad\nname": 1}), r"'bad\nname'"),
    ],
)
def test_weights_that_do_not_fit(damage, words, scene, tmp_path) -> None:
    weights = decoder_weights(32, 0)
    damage(weights)
    torch.save({"model": weights}, tmp_path / "model.pt")
    refused(words, tmp_path / "model.pt", tmp_path / "run", "--data", scene)


def test_a_decoder_without_its_first_layer_is_of_nobody(tmp_path) -> None:
    torch.save({"model": {"encoder.conv1": torch.ones(3)}}, tmp_path / "model.pt")
    refused("neither DVR", tmp_path / "model.pt", tmp_path / "run")


@pytest.mark.parametrize(
    "damage,words",
    [
        (without("implicit_network.lin3.weight_g"), "lin3.weight_g is missing"),
        (without("implicit_network.lin3.bias"), "'implicit_network.lin3.weight_g' belongs to no"),
        (without("rendering_network.lin0.weight_v"), "rendering_network.lin0.weight_v is missing"),
        (with_shape("implicit_network.lin0.bias", 47), "the file is damaged"),
        (with_shape("implicit_network.lin2.weight_v", 48, 40), "no network of ours"),
        (with_shape("implicit_network.lin0.weight_v", 48, 14), "no network of ours"),
        (with_shape("rendering_network.lin0.weight_v", 48, 10), "no network of ours"),
        (with_shape("rendering_network.lin2.weight_v", 48, 40), "no network of ours"),
        (lambda w: w["implicit_network.lin2.weight_v"][3].zero_(), "may be zero"),
        (with_shape("ray_tracer.x", 3), "'ray_tracer.x' belongs to no part"),
    ],
)
def test_idr_weights_that_do_not_fit(damage, words, scene, tmp_path) -> None:
    weights = idr_weights()
    damage(weights)
    torch.save({"model_state_dict": weights}, tmp_path / "2000.pth")
    refused(words, tmp_path / "2000.pth", tmp_path / "run", "--data", scene)


class TestCommandLine:
    @pytest.fixture
    def file(self, tmp_path) -> Path:
        torch.save({"model": decoder_weights(32, 0)}, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    def test_one_scene_must_be_named(self, file, tmp_path) -> None:
        refused("--data", file, tmp_path / "run")

    def test_cameras_are_idrs(self, file, scene, tmp_path) -> None:
        refused("--cameras", file, tmp_path / "run", "--data", scene, "--cameras", file)

    def test_configuration_of_the_other_method(self, file, scene, tmp_path) -> None:
        path = tmp_path / "other.yaml"
        path.write_text("method: idr\n")
        refused("is of method idr", file, tmp_path / "run", "--config", path, "--data", scene)

    def test_data_that_are_not_there(self, file, tmp_path) -> None:
        refused("no such folder", file, tmp_path / "run", "--data", tmp_path / "nowhere")

    def test_file_that_is_not_there(self, tmp_path) -> None:
        refused("No such file", tmp_path / "model.pt", tmp_path / "run")

    def test_nothing_is_overwritten(self, file, scene, tmp_path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine").touch()
        outcome = run_script("import_checkpoint", file, tmp_path / "run", "--data", scene)
        assert outcome.code == 2 and "exists" in outcome.err


# The reader itself


numbers = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
arrays = st.builds(
    lambda shape, kind, seed: torch.randint(
        -9, 9, shape, generator=torch.Generator().manual_seed(seed)
    ).to(kind),
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bfloat16]),
    st.integers(0, 100),
)
contents = st.recursive(
    numbers | st.text(max_size=9) | arrays | arrays.map(lambda a: a.mT if a.ndim > 1 else a),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 999), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        pairs = zip(first, second, strict=True)
        return type(first) is type(second) and all(same(a, b) for a, b in pairs)
    return type(first) is type(second) and first == second


@settings(deadline=None)
@given(contents, st.booleans())
def test_it_reads_what_torch_saved(tmp_path_factory, content, legacy) -> None:
    path = tmp_path_factory.mktemp("file") / "a.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert same(read_foreign(path), content)


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_scalars_of_old_and_new_numpy(module, tmp_path) -> None:
    path = tmp_path / "model.pt"
    content = {"best": np.float64(-1.25), "single": np.float32(0.5), "it": np.int64(7)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"numpy._core.multiarray", module).replace(
        b"numpy.core.multiarray", module))  # fmt: skip
    assert read_foreign(path) == {"best": -1.25, "single": 0.5, "it": 7}


def saved(path: Path, legacy: bool) -> bytes:
    content = {"model": {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(3)}, "it": 7}
    content["best"] = np.float64(0.5)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


def check_unreadable(path: Path) -> None:
    with pytest.raises(UserError, match="not a readable file of torch.save"):
        read_foreign(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_every_truncation_is_told(legacy, tmp_path) -> None:
    data = saved(tmp_path / "whole.pt", legacy)
    for length in range(0, len(data), 7):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        check_unreadable(tmp_path / "cut.pt")


@pytest.mark.parametrize("legacy", [True, False])
def test_arrays_claimed_larger_than_the_file(legacy, tmp_path) -> None:
    """Of numbers that all are one, of another array's numbers, and of none at all."""
    one, path = torch.ones(1), tmp_path / "a.pt"
    for content in (one.expand(2**50), [one, one.view(1, 1)], [one.view(1, 1).expand(5, 1)]):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        check_unreadable(path)


def test_an_array_whose_length_is_a_lie(tmp_path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.ones(70_000), path, _use_new_zipfile_serialization=False)
    count, lie = b"J" + (70_000).to_bytes(4, "little"), b"J" + (2**31 - 1).to_bytes(4, "little")
    assert path.read_bytes().count(count) >= 1
    path.write_bytes(path.read_bytes().replace(count, lie))
    with pytest.raises(UserError, match="longer than the file"):
        read_foreign(path)


def test_packed_members_are_refused(tmp_path) -> None:
    """A megabyte of zeros would fit in a kilobyte."""
    torch.save(torch.zeros(2**18), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as honest,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for info in honest.infolist():
            bomb.writestr(info.filename, honest.read(info))
    check_unreadable(tmp_path / "b.pt")


@pytest.mark.parametrize(
    "instructions",
    [
        b"(" + b")\x85" * 5000 + b"t.",
        b"}" + b")" + b"2\x86" * 70 + b"K\x01s.",  # a key that takes 2^70 steps to hash
        b"}" + b")" + b"q\x00h\x00\x86" * 70 + b"K\x01s.",
        b"r\xff\xff\xff\x7f.",  # a place far up in the memo
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.",  # text longer than memory
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"]q\x00h\x00a.",  # a list within itself is odd, but no torch file begins with one
        b"}K\x01.",
        b"t.", b"s.", b"R.", b"b.", b"Q.", b"h\x00.", b".", b"", b"\x00",
    ],
)  # fmt: skip
def test_hostile_instructions(instructions, tmp_path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(instructions)
    with pytest.raises(UserError):
        read_foreign(path)
    header = b"".join(
        pickle.dumps(one, 2)
        for one in (foreign_weights.LEGACY_MAGIC, 1001, {"little_endian": True})
    )
    path.write_bytes(header + instructions + pickle.dumps(["missing"], 2))
    with pytest.raises(UserError):
        read_foreign(path)


def test_instructions_without_end(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(plain_pickle, "MOST_STEPS", 100)
    (tmp_path / "a.pt").write_bytes(b"}" * 101 + b".")
    with pytest.raises(UserError, match="no end"):
        read_foreign(tmp_path / "a.pt")


@pytest.mark.parametrize("legacy", [True, False])
def test_random_damage_is_a_user_error(legacy, tmp_path) -> None:
    seed = saved(tmp_path / "whole.pt", legacy)
    path = tmp_path / "damaged.pt"

    def read(data: bytes) -> None:
        path.unlink(missing_ok=True)  # the old one may still be mapped
        path.write_bytes(data)
        read_foreign(path)

    outcome = fuzz(read, [seed], [foreign_weights, plain_pickle], random.Random(0), inputs=300)
    assert 0 < outcome.refused < outcome.inputs

"""A checkpoint of IDR's authors as a model of ours: the same function of points and views.

Layers and the order of their inputs are the same in both (Yariv et al. 2020, supplementary). Their
colours lie in [-1, 1] and come from a hyperbolic tangent: (tanh(y) + 1) / 2 = sigmoid(2 y), so the
last layer is doubled. Their normal is the gradient itself, which ours normalises by default
(``model.appearance.unit_normal: false``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.config import merge, validate
from common.errors import UserError
from common.training.foreign_weights import named_weights, refuse_others, shape_of
from idr.config import IDRConfig
from idr.data import load_scene
from idr.experiment import make_model
from idr.geometry import MLPGeometry
from idr.model import IDRModel

# Files that name the poses from which cameras were trained, the authors' first.
INITIAL_CAMERAS = ("cameras_linear_init.npz", "cameras.npz", "cameras_sphere.npz")


@dataclass(frozen=True)
class Layer:
    """A weight-normalised linear layer: weight = length * direction / |direction|, row by row."""

    length: Float[Tensor, "out 1"]
    direction: Float[Tensor, "out in"]
    bias: Float[Tensor, "out"]

    @property
    def out(self) -> int:
        """How many numbers it gives."""
        return len(self.bias)

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return self.direction.shape[1]


def is_idr(content: Any) -> bool:
    """Whether a file's content is of IDR's authors' program."""
    return "implicit_network.lin0.bias" in _state(content)


def read_idr(
    path: Path,
    content: Any,
    poses: Float[Tensor, "V 4 4"] | None,
    settings: dict[str, Any],
    source: str,
) -> tuple[IDRConfig, IDRModel, int]:
    """The configuration, the model and the iteration of a checkpoint's content.

    ``settings`` (of the file ``source``) give all but the network, whose sizes the weights tell;
    the scene that they name is read. ``poses`` are learnt cameras in the normalised frame, camera
    to object. Raises UserError where weights are missing or do not fit together, and where the
    scene cannot be read or has another number of views.
    """
    weights = named_weights(path, _state(content))
    geometry = _layers(path, weights, "implicit_network")
    appearance = _layers(path, weights, "rendering_network")
    refuse_others(path, list(weights))
    network = _geometry_settings(path, geometry)
    network["appearance"] = _appearance_settings(path, appearance, network["feature"])
    changes: dict[str, Any] = {"model": network, "data": {"holdout_every": 0}}
    config = validate(IDRConfig, merge(settings, changes), source)
    changes["cameras"] = _camera_settings(config, poses is not None)
    config = validate(IDRConfig, merge(settings, changes), source)
    scene = load_scene(config)
    if poses is not None and len(poses) != len(scene.training):
        raise UserError(
            f"{config.data.path}: has {len(scene.training)} views, but {len(poses)} cameras were "
            "learnt; name the scene that they were learnt from (--data)"
        )
    model = make_model(config, scene.rough_cameras)
    _fill(model, geometry, appearance, poses)
    return config, model, _epoch(content) * len(scene.training)


def read_poses(path: Path, content: Any) -> Float[Tensor, "V 4 4"]:
    """Camera-to-object poses of a CamParameters file's content, in the normalised frame.

    Each row is a quaternion w, x, y, z of any length, and a camera centre. Raises UserError where
    it holds something else.
    """
    state = content.get("pose_vecs_state_dict") if isinstance(content, dict) else None
    weights = named_weights(path, state)
    views, numbers = shape_of(path, weights, "weight", 2)
    length = weights["weight"][:, :4].norm(dim=1, keepdim=True)
    if numbers != 7 or not length.all():
        raise UserError(
            f"{path}: expected a quaternion (not zero) and a centre per camera, 7 numbers; name "
            "the file of CamParameters beside the ModelParameters of the same epoch"
        )
    vectors = weights["weight"].double()
    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    poses[:, :3, :3] = _rotations(vectors[:, :4])
    poses[:, :3, 3] = vectors[:, 4:]
    return poses.float()


def _rotations(quaternion: Float[Tensor, "V 4"]) -> Float[Tensor, "V 3 3"]:
    """Columns are q e q* for the axes e, of quaternions scaled to unit length."""
    unit = nn.functional.normalize(quaternion, dim=1)
    real, vector = unit[:, :1, None], unit[:, 1:]
    axes = torch.eye(3).to(unit).expand(len(unit), 3, 3)
    cross = torch.linalg.cross(vector[:, None].expand_as(axes), axes)
    turned = torch.linalg.cross(vector[:, None].expand_as(axes), cross)
    return (axes + 2 * (real * cross + turned)).mT


def _state(content: Any) -> dict[Any, Any]:
    """The named weights: under ``model_state_dict``, or at the top."""
    inner = content.get("model_state_dict", content) if isinstance(content, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _epoch(content: dict[Any, Any]) -> int:
    value = content.get("epoch", 0)
    return value if type(value) is int and value >= 0 else 0


def _layers(path: Path, weights: dict[str, Tensor], network: str) -> list[Layer]:
    """The layers of one of the two networks, taken out of the weights."""
    layers: list[Layer] = []
    while not layers or f"{network}.lin{len(layers)}.bias" in weights:
        name = f"{network}.lin{len(layers)}"
        out, _ = shape_of(path, weights, f"{name}.weight_v", 2)
        lengths = shape_of(path, weights, f"{name}.weight_g", 2)
        biases = shape_of(path, weights, f"{name}.bias", 1)
        parts = [weights.pop(f"{name}.{part}") for part in ("weight_g", "weight_v", "bias")]
        if lengths != (out, 1) or biases != (out,) or not parts[1].norm(dim=1).all():
            raise UserError(
                f"{path}: {name} has {out} rows, {list(lengths)} lengths of them (none may be "
                f"zero) and {list(biases)} biases; the file is damaged"
            )
        layers.append(Layer(*parts))
    return layers


def _geometry_settings(path: Path, layers: list[Layer]) -> dict[str, Any]:
    """What the configuration says of an SDF network of these sizes."""
    encoded, hidden, last = layers[0].inputs, layers[-1].inputs, len(layers) - 1
    frequencies, rest = divmod(encoded - 3, 6)
    skips = []
    for index in range(1, len(layers)):
        before, inputs = layers[index - 1].out, layers[index].inputs
        if before + encoded == inputs:
            skips.append(index)
        elif before != inputs:
            rest = 1
    uniform = all(layer.inputs == hidden for layer in layers[1:])
    if last < 1 or rest or not uniform or len(skips) > 1 or last in skips:
        sizes = ", ".join(f"{layer.inputs} to {layer.out}" for layer in layers)
        raise UserError(
            f"{path}: the layers of implicit_network ({sizes}) are no network of ours; expected "
            "3 + 6 L inputs, hidden layers of one width, and at most one that sees the input again"
        )
    return {
        "geometry": "mlp",
        "feature": layers[-1].out - 1,
        "fade_in": 0,
        "mlp": {
            "hidden": hidden,
            "layers": last,
            "skip": skips[0] if skips else 0,
            "frequencies": frequencies,
            "start_frequencies": frequencies,
        },
    }


def _appearance_settings(path: Path, layers: list[Layer], feature: int) -> dict[str, Any]:
    """What the configuration says of a colour network of these sizes.

    Beside the point and the feature it sees a view direction of 3 + 6 L numbers, or a normal of 3,
    or both, or neither. Three numbers alone are the normal, as in the authors' no_view_dir.
    """
    hidden, last = layers[-1].inputs, len(layers) - 1
    chain = all(
        after.inputs == before.out == hidden
        for before, after in zip(layers[:-1], layers[1:], strict=True)
    )
    rest = layers[0].inputs - 3 - feature
    if last < 1 or not chain or layers[-1].out != 3 or rest < 0 or rest % 3:
        sizes = ", ".join(f"{layer.inputs} to {layer.out}" for layer in layers)
        raise UserError(
            f"{path}: the layers of rendering_network ({sizes}) are no network of ours; expected "
            f"a point, a view, a normal and {feature} features, hidden layers of one width, 3 "
            "colours"
        )
    normal = rest == 3 or rest % 6 == 0 < rest
    bands = (rest - 3 * normal - 3) // 6
    return {
        "hidden": hidden,
        "layers": last,
        "view": "direct" if bands >= 0 else "none",
        "view_frequencies": max(bands, 0),
        "normal": normal,
        "unit_normal": False,
        "feature": feature > 0,
        "image_code": 0,
        "weight_norm": True,
    }


def _camera_settings(config: IDRConfig, learnt: bool) -> dict[str, Any]:
    """Learnt cameras live in the frame of the file they began from; the scene's are the truth."""
    if not learnt:
        return {"refine": False, "file": None, "noise_deg": 0, "noise_translation": 0}
    data = Path(config.data.path)
    there = [name for name in INITIAL_CAMERAS if (data / name).is_file()]
    if config.cameras.file is None and data.is_dir() and not there:
        raise UserError(
            f"{data}: learnt cameras need a scene in IDR's layout, with cameras.npz; let "
            "scripts/prepare_scene.py make one"
        )
    file = config.cameras.file or (there[0] if there else None)
    return {"refine": True, "file": file, "noise_deg": 0, "noise_translation": 0}


@torch.no_grad()
def _fill(
    model: IDRModel,
    geometry: list[Layer],
    appearance: list[Layer],
    poses: Float[Tensor, "V 4 4"] | None,
) -> None:
    """Put the layers, and the learnt cameras, in the place of a new model's own."""
    mlp = cast(MLPGeometry, model.geometry)
    for ours, theirs in zip([*mlp.hidden, mlp.last], geometry, strict=True):
        _assign(ours, theirs, 1)
    for ours, theirs in zip(model.appearance.layers, appearance, strict=True):
        _assign(ours, theirs, 2 if theirs is appearance[-1] else 1)
    if poses is not None and model.refinement is not None:
        # As the cameras that nothing has corrected yet.
        model.refinement.object_from_camera.copy_(poses)


def _assign(linear: nn.Module, layer: Layer, factor: int) -> None:
    weight = cast(Any, linear).parametrizations.weight
    weight.original0.copy_(factor * layer.length)
    weight.original1.copy_(layer.direction)
    cast(Any, linear).bias.copy_(factor * layer.bias)

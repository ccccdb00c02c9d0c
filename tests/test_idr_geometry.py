"""IDR's two networks: the first sphere, exact gradients, the paper's sizes, coarse to fine."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from common.config import validate
from idr.appearance import Appearance
from idr.config import AppearanceConfig, ModelConfig
from idr.geometry import BandEncoding, Geometry, HashGridGeometry, MLPGeometry, make_geometry

SMALL_GRID = {"hidden": 16, "levels": 4, "finest": 32, "log2_rows": 10}
SMALL_MLP = {"hidden": 64, "layers": 4, "skip": 2}
NETWORKS = {
    "hash grid": {"geometry": "hash_grid", "hash_grid": SMALL_GRID, "feature": 5},
    "MLP": {"geometry": "mlp", "mlp": SMALL_MLP, "feature": 5},
}


def make(seed: int = 0, **settings) -> Geometry:
    torch.manual_seed(seed)
    return make_geometry(validate(ModelConfig, settings, "test"))


def trained(name: str) -> Geometry:
    """In double precision, with weights as far from the first ones as after a training."""
    geometry = make(**NETWORKS[name]).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in geometry.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).double()
    return geometry


def points_in_cube(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(2), dtype=dtype) - 1


@torch.no_grad()
def radii(geometry: Geometry, direction: Tensor) -> Tensor:
    """Where rays from the origin leave the surface, to 1e-6 of it."""
    inner, outer = torch.zeros(len(direction)), torch.ones(len(direction))
    for _ in range(20):
        middle = (inner + outer) / 2
        inside = geometry.sdf(middle[:, None] * direction) < 0
        inner, outer = torch.where(inside, middle, inner), torch.where(inside, outer, middle)
    return middle


class TestFirstSphere:
    """The sizes that configurations use; IDR's own initialisation gives 0.41 to 0.48 for 0.6."""

    SIZES = {
        "hash grid": {"geometry": "hash_grid", "feature": 16},
        "hash grid, three layers": {"geometry": "hash_grid", "hash_grid": {"layers": 3}},
        "MLP": {"mlp": {"hidden": 128}, "feature": 16},
        "MLP without encoding": {"mlp": {"hidden": 128, "frequencies": 0}, "feature": 16},
        "MLP without skip": {"mlp": {"hidden": 128, "layers": 4, "skip": 0}, "feature": 16},
    }

    @pytest.mark.parametrize("radius", [0.3, 0.6, 0.8])
    @pytest.mark.parametrize("size", SIZES)
    def test_has_the_asked_radius_and_a_gradient_of_one(self, size, radius) -> None:
        direction = normalize(points_in_cube(500, torch.float32), dim=-1)
        for seed in range(2):
            geometry = make(seed, initial_radius=radius, **self.SIZES[size])
            found = radii(geometry, direction)
            assert found.mean().item() == pytest.approx(radius, rel=0.02)
            # A few hundred units make a polyhedron of the sphere.
            assert (found / radius - 1).abs().max() < 0.06
            gradient = geometry(found[:, None] * direction).gradient
            length = gradient.norm(dim=-1)
            assert length.mean().item() == pytest.approx(1, abs=0.06)
            assert 0.85 < length.min() and length.max() < 1.2
            assert (normalize(gradient, dim=-1) * direction).sum(dim=-1).min() > 0.9

    def test_of_the_papers_network_is_within_two_percent_all_around(self) -> None:
        direction = normalize(points_in_cube(300, torch.float32), dim=-1)
        found = radii(make(initial_radius=0.6), direction)
        assert (found / 0.6 - 1).abs().max() < 0.02

    def test_is_alone_in_the_unit_ball(self) -> None:
        """Outside it the field is positive, inside negative, and close to the distance."""
        points = points_in_cube(4000, torch.float32)
        points = points[points.norm(dim=-1) < 1]
        for settings in self.SIZES.values():
            with torch.no_grad():
                sdf = make(**settings).sdf(points)
            error = sdf - (points.norm(dim=-1) - 0.6)
            assert error.abs().max() < 0.12  # the network rounds the cone's tip at the origin
            near = (points.norm(dim=-1) - 0.6).abs() < 0.2
            assert error[near].abs().max() < 0.03

    def test_is_that_of_its_seed(self) -> None:
        first, same, other = (make(seed, **NETWORKS["MLP"]) for seed in (3, 3, 4))
        points = points_in_cube(10, torch.float32)
        assert torch.equal(first(points).feature, same(points).feature)
        assert not torch.equal(first(points).feature, other(points).feature)


@pytest.mark.parametrize("name", NETWORKS)
class TestValues:
    def test_value_alone_is_the_value(self, name) -> None:
        geometry, points = trained(name), points_in_cube(100)
        at = geometry(points)
        torch.testing.assert_close(geometry.sdf(points), at.sdf)
        assert at.sdf.shape == (100,) and at.feature.shape == (100, geometry.feature_length)

    def test_gradient_is_that_of_autograd(self, name) -> None:
        geometry, points = trained(name), points_in_cube(100).requires_grad_()
        (exact,) = torch.autograd.grad(geometry.sdf(points).sum(), points)
        torch.testing.assert_close(geometry(points).gradient, exact)

    def test_everything_is_differentiable_in_points_and_weights(self, name) -> None:
        """By finite differences; the second derivative of the SDF is the gradient's first."""
        geometry = trained(name)
        points = points_in_cube(3).requires_grad_()
        last = geometry.hidden[0].bias

        def values(points: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
            changed = {"hidden.0.bias": bias}
            at = torch.func.functional_call(geometry, changed, (points,))
            return at.sdf, at.gradient, at.feature

        # A softplus of sharpness 100 has third derivatives of some 1e4.
        assert torch.autograd.gradcheck(
            values, (points, last), fast_mode=True, eps=1e-7, atol=1e-4, rtol=1e-3
        )

    def test_a_loss_on_the_gradient_reaches_every_weight(self, name) -> None:
        geometry = trained(name)
        (geometry(points_in_cube(50)).gradient.norm(dim=-1) - 1).square().mean().backward()
        for parameter_name, parameter in geometry.named_parameters():
            # The last bias shifts the value alone.
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached == (parameter_name != "last.bias"), parameter_name

    def test_gradient_comes_without_a_graph_around_it(self, name) -> None:
        """Pictures are drawn and surfaces frozen where no gradient is recorded."""
        geometry, points = trained(name), points_in_cube(20)
        expected = geometry(points).gradient.detach()
        with torch.no_grad():
            torch.testing.assert_close(geometry(points).gradient.detach(), expected)
        geometry.requires_grad_(False)
        torch.testing.assert_close(geometry(points).gradient.detach(), expected)

    def test_precision_is_the_gradients_alone(self, name) -> None:
        """Products with a bias are the value's."""
        seen: set[tuple[str, str]] = set()

        class Watched(TorchDispatchMode):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                kind = operation.overloadpacket.__name__
                if kind in ("mm", "bmm", "addmm"):
                    seen.add((kind, torch.get_float32_matmul_precision()))
                return operation(*args, **(kwargs or {}))

        geometry, points = make(**NETWORKS[name]), points_in_cube(20, torch.float32)
        exact = geometry(points)
        with Watched():
            rounded = geometry(points, "medium")
        assert seen == {("addmm", "highest"), ("mm", "medium")}
        assert torch.equal(rounded.sdf, exact.sdf) and torch.equal(rounded.feature, exact.feature)
        torch.testing.assert_close(rounded.gradient, exact.gradient, rtol=0.05, atol=0.01)

    def test_no_points(self, name) -> None:
        at = trained(name)(torch.zeros(0, 3, dtype=torch.float64))
        assert at.sdf.shape == (0,) and at.gradient.shape == (0, 3) and len(at.feature) == 0
        (at.sdf.sum() + at.gradient.sum()).backward()


def test_a_grids_feature_ends_with_its_encoding() -> None:
    """Texture need not pass through the layers of the SDF."""
    geometry, points = trained("hash grid"), points_in_cube(20)
    assert isinstance(geometry, HashGridGeometry) and geometry.feature_length == 5 + 16
    torch.testing.assert_close(geometry(points).feature[:, 5:], geometry.grid(points))
    assert make(**NETWORKS["MLP"]).feature_length == 5


class TestMLP:
    def test_has_the_papers_size(self) -> None:
        """39-512-512-512-473 and, with the point again, 512-512-512-512-257, a length per row."""
        geometry = make()
        assert isinstance(geometry, MLPGeometry)
        assert sum(p.numel() for p in geometry.parameters()) == 1_975_220
        shapes = [tuple(layer.weight.shape) for layer in (*geometry.hidden, geometry.last)]
        wide = [(512, 512)] * 2
        assert shapes == [(512, 39), *wide, (473, 512), (512, 512), *wide, (512, 512), (257, 512)]

    def test_appearance_has_the_papers_size(self) -> None:
        network = Appearance(AppearanceConfig(), feature=256, images=49)
        assert sum(p.numel() for p in network.parameters()) == 940_038

    @pytest.mark.parametrize(
        "settings",
        [
            {"layers": 2, "skip": 4},
            {"layers": 4, "skip": 4},
            {"layers": 3, "skip": 0},
            {"layers": 5, "skip": 1},
            {"layers": 1, "skip": 0},
            {"layers": 5, "skip": 3, "frequencies": 0},
        ],
    )
    def test_any_skip_that_can_be_asked_for(self, settings) -> None:
        geometry = make(mlp={"hidden": 96, **settings}, feature=4, initial_radius=0.5)
        direction = normalize(points_in_cube(200, torch.float32), dim=-1)
        assert radii(geometry, direction).mean().item() == pytest.approx(0.5, rel=0.02)

    def test_the_skip_layer_sees_the_encoding(self) -> None:
        geometry = make(**NETWORKS["MLP"])
        seen = []
        geometry.hidden[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        points = points_in_cube(6, torch.float32)
        geometry.sdf(points)
        (inputs,) = seen
        torch.testing.assert_close(inputs[:, -39:], geometry.encoding(points) / math.sqrt(2))

    def test_the_first_sphere_sees_no_frequency(self) -> None:
        """However many bands there are: what is fine comes in by learning alone."""
        geometry, points = make(**NETWORKS["MLP"]), points_in_cube(50, torch.float32)
        full = geometry.sdf(points)
        geometry.encoding.fade_in(0.0)
        torch.testing.assert_close(geometry.sdf(points), full)


class TestBandEncoding:
    def test_by_hand(self) -> None:
        value = BandEncoding(2)(torch.tensor([[0.1, -0.2, 0.3]]))[0]
        x = [0.1, -0.2, 0.3]
        expected = x + [f(2**k * c) for k in (0, 1) for f in (math.sin, math.cos) for c in x]
        assert value.tolist() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        "bands,weights",
        [(0.0, [0, 0, 0]), (0.5, [0.5, 0, 0]), (1.0, [1, 0, 0]), (2.25, [1, 1, 0.1464466]),
         (3.0, [1, 1, 1]), (9.0, [1, 1, 1])],
    )  # fmt: skip
    def test_bands_fade_in_by_half_a_cosine(self, bands, weights) -> None:
        """(1 - cos(pi a)) / 2 at a = 1/4 is 0.1464."""
        encoding = BandEncoding(3)
        encoding.fade_in(bands)
        assert encoding.weight.tolist() == pytest.approx(weights, abs=1e-6)
        value = encoding(torch.full((1, 3), 0.7))[0, 3:].view(3, 6)
        full = BandEncoding(3)(torch.full((1, 3), 0.7))[0, 3:].view(3, 6)
        torch.testing.assert_close(value, full * encoding.weight[:, None])

    def test_without_bands_it_is_the_point(self) -> None:
        encoding, points = BandEncoding(0), points_in_cube(4, torch.float32)
        encoding.fade_in(0.0)
        assert torch.equal(encoding(points), points) and encoding.out_features == 3


class TestCoarseToFine:
    @pytest.mark.parametrize("share,levels", [(0.0, 2), (0.5, 3), (1.0, 4)])
    def test_levels_of_the_grid(self, share, levels) -> None:
        grid = SMALL_GRID | {"start_levels": 2}
        geometry = make(geometry="hash_grid", hash_grid=grid)
        assert isinstance(geometry, HashGridGeometry)
        geometry.fade_in(share)
        assert geometry.grid.level_weight.tolist() == [1.0] * levels + [0.0] * (4 - levels)

    @pytest.mark.parametrize("share,bands", [(0.0, 1), (0.4, 3), (1.0, 6)])
    def test_bands_of_the_encoding(self, share, bands) -> None:
        geometry = make(mlp=SMALL_MLP | {"start_frequencies": 1}, feature=4)
        geometry.fade_in(share)
        expected = [1.0] * bands + [0.0] * (6 - bands)
        assert geometry.encoding.weight.tolist() == pytest.approx(expected, abs=1e-6)

    def test_where_the_start_is_more_than_there_is_all_are_used(self) -> None:
        geometry = make(mlp=SMALL_MLP | {"frequencies": 2, "start_frequencies": 6}, feature=4)
        for share in (0.0, 0.5, 1.0):
            geometry.fade_in(share)
            assert geometry.encoding.weight.tolist() == [1, 1]


class TestAppearance:
    INPUTS = ("view", "normal", "feature")

    def colour(self, network: Appearance, image=None, **changed: Tensor) -> Tensor:
        direction = normalize(points_in_cube(9, torch.float32), dim=-1)
        inputs = {
            "point": points_in_cube(9, torch.float32),
            "normal": direction,
            "view": direction.roll(1, dims=0),
            "feature": torch.linspace(0, 1, 36).view(9, 4),
        }
        return network(image=image, **(inputs | changed))

    def network(self, **settings) -> Appearance:
        torch.manual_seed(0)
        return Appearance(AppearanceConfig(hidden=16, layers=2, **settings), feature=4, images=3)

    @pytest.mark.parametrize("left_out", [None, *INPUTS])
    def test_depends_on_what_it_is_told_to_and_on_nothing_else(self, left_out) -> None:
        without = {None: {}, "view": {"view": "none"}}.get(left_out, {left_out: False})
        network = self.network(**without)
        colour = self.colour(network)
        assert colour.shape == (9, 3) and (colour > 0).all() and (colour < 1).all()
        for name in self.INPUTS:
            size = 4 if name == "feature" else 3
            other = self.colour(network, **{name: torch.full((9, size), 0.3)})
            assert torch.equal(other, colour) == (name == left_out)

    def test_reflected_directions_are_mirrored_at_the_normal(self) -> None:
        """Seen from (0.6, 0, 0.8) over a floor, light comes from (-0.6, 0, 0.8); cosine 0.8."""
        network, seen = self.network(view="reflected", view_frequencies=1), []
        network.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        view, normal = torch.tensor([0.6, 0, 0.8]), torch.tensor([0.0, 0, 1])
        self.colour(network, view=view.expand(9, 3), normal=normal.expand(9, 3))
        inputs = seen[0][0, 3:]  # behind the point: the direction, its sine and cosine, the angle
        mirrored = torch.tensor([-0.6, 0, 0.8])
        expected = torch.cat([mirrored, mirrored.sin(), mirrored.cos(), torch.tensor([0.8])])
        torch.testing.assert_close(inputs[:10], expected)

    def test_light_of_a_photograph_is_its_code_and_without_one_the_mean(self) -> None:
        network = self.network(image_code=2)
        first = self.colour(network, torch.zeros(9, dtype=torch.long))
        # All lights are the same before training.
        assert torch.equal(first, self.colour(network))
        with torch.no_grad():
            network.codes.weight.copy_(torch.tensor([[1.0, 0], [0, 2], [2, 1]]))
        each = [self.colour(network, torch.full((9,), image)) for image in range(3)]
        mean = self.colour(network)
        with torch.no_grad():
            network.codes.weight[1] = torch.tensor([1.0, 1])
        torch.testing.assert_close(self.colour(network, torch.full((9,), 1)), mean)
        assert not torch.equal(each[0], each[2])

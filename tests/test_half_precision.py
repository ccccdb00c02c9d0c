"""Where bfloat16 is used, and that a search finds the same with it."""

import pytest
import torch

import dvr.model
from common.config import validate
from common.rendering.half_precision import LEAST_WIDTH, half_pays
from dvr.config import DVRConfig
from dvr.model import DVRModel
from tests.surfaces import rays_towards

CPU = torch.device("cpu")


@pytest.mark.parametrize("units", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_processor_with_units_for_it_uses_it_in_wide_layers(monkeypatch, units) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda has=name == units: has, raising=False)
    assert half_pays(CPU, LEAST_WIDTH) and not half_pays(CPU, LEAST_WIDTH - 1)


def test_another_processor_does_not(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert not half_pays(CPU, 512)


@pytest.mark.parametrize("objects", [1, 3])
def test_the_search_finds_the_same(monkeypatch, objects) -> None:
    """Balls with bumps, one code each, through blocks that matter."""
    settings = {"method": "dvr", "model": {"hidden": 64, "code": 8, "encoder": {"kind": "simple"}}}
    config = validate(DVRConfig, settings | {"data": {"input": {"size": 64}}}, "test")
    torch.manual_seed(0)
    model = DVRModel(config, objects)
    for block in model.decoder.blocks:
        torch.nn.init.normal_(block.fc_1.weight, std=0.02)
    for layer in model.decoder.fc_c:
        torch.nn.init.normal_(layer.weight, std=0.002)
    model.start_as_sphere(torch.Generator().manual_seed(0))
    condition = model.decoder.condition(torch.randn(objects, 8))
    generator = torch.Generator().manual_seed(1)
    rays = rays_towards(torch.rand(300 * objects, 3, generator=generator) - 0.5, 1.5, generator)
    of_ray = torch.arange(objects).repeat_interleave(300)
    found = []
    for half in (False, True):
        monkeypatch.setattr(dvr.model, "half_pays", lambda device, width, half=half: half)
        found.append(model.find_surface(condition, of_ray, rays, 64)[0])
    exact, rough = found
    assert exact.found.float().mean() > 0.2
    # A stretch is halved where slopes ask for it, and slopes of rough values are rough.
    equal = (exact.found == rough.found) & (
        ~exact.found | ((exact.depth - rough.depth).abs() < 1e-5)
    )
    assert equal.float().mean() > 0.99
    assert rough.evaluations > exact.evaluations

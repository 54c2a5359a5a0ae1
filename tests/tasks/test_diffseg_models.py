"""DiffSeg of every kind of model: UNets, DiTs, joint blocks of text and picture, windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import PIL.Image
import pytest
import torch

import tokenrank as tr
from tests.tasks import plain_diffseg
from tokenrank.tasks.cluster import cluster, joined_chain
from tokenrank.tasks.masks import grid_of

diffusers = pytest.importorskip("diffusers")
from tests.conformance import diffusers_models as tiny  # noqa: E402
from tests.models.windowed import hf_swin, large_enough  # noqa: E402

Grids = set[tuple[int, int]]
CASES: dict[str, tuple[Callable[[], torch.nn.Module], Callable[[], dict[str, Any]], Grids]] = {
    "SD1.5": (lambda: diffusers.UNet2DConditionModel(**tiny.SD15), tiny.unet, {(8, 12), (4, 6)}),
    "DiT": (
        lambda: diffusers.DiTTransformer2DModel(**tiny.DIT, num_embeds_ada_norm=20),
        lambda: tiny.dit() | {"hidden_states": torch.randn(2, 4, 8, 8)},  # it reads squares alone
        {(4, 4)},
    ),
    "SD3": (lambda: diffusers.SD3Transformer2DModel(**tiny.SD3), tiny.sd3, {(4, 6)}),
    "FLUX": (
        lambda: diffusers.FluxTransformer2DModel(**tiny.FLUX, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4)),
        tiny.flux,
        {(4, 6)},
    ),
    "Swin": (lambda: large_enough(hf_swin(32)), lambda: {"pixel_values": torch.randn(1, 3, 32, 32)}, set()),
}


def alone(inputs: dict[str, Any]) -> dict[str, Any]:
    """The first of two inputs."""
    return {
        name: value[:1] if isinstance(value, torch.Tensor) and value.ndim and len(value) == 2 else value
        for name, value in inputs.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_layers_of_any_grids_are_joined_and_divided(name: str):
    make, inputs, grids = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad(), tr.capture(model) as trace:
        model(**alone(inputs()))
    source = tr.observe(trace, image=PIL.Image.new("RGB", (96, 64)))
    chains = [source.head_chains(layer) for layer in source.layers]
    found_grids = {grid_of(chain) for chain in chains}
    assert found_grids == grids if grids else len(found_grids) > 1
    layers = [(chain.to_dense().double(), grid_of(chain)) for chain in chains]
    expected, finest = plain_diffseg.aggregated(layers)
    chain = joined_chain(source, source.layers, "uniform")
    assert grid_of(chain) == finest
    assert (chain.to_dense().double() - expected).abs().max() < 1e-6
    for grid in ("uniform", "tokenrank", "metastable"):
        found = cluster(source, layer="*", heads="uniform", k=3, grid=grid)
        assert found.size == (64, 96)
        assert 1 <= len(found.names) - 1 <= 4

"""Perturbed attention against the processors of diffusers that it restates, and against what each is by definition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("diffusers")

from diffusers.models import attention_processor as processors

from tokenrank.recording import acting
from tokenrank.tasks.guidance.layers import Place
from tokenrank.tasks.guidance.perturb import Perturbation

from .classic import denoiser_of, pipe_of

GRID = (4, 6)
COUNT = math.prod(GRID)
UNET_LAYER, SD3_LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1", "transformer_blocks.0.attn"


def unet() -> tuple[nn.Module, dict[str, Any]]:
    draw = torch.Generator().manual_seed(4)
    return denoiser_of(pipe_of("SD1.5")), {
        "sample": torch.randn(1, 4, 8, 12, generator=draw), "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(1, 8, 16, generator=draw),
    }  # fmt: skip


def sd3() -> tuple[nn.Module, dict[str, Any]]:
    draw = torch.Generator().manual_seed(4)
    return denoiser_of(pipe_of("SD3")), {
        "hidden_states": torch.randn(1, 4, 8, 12, generator=draw), "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 7, 32, generator=draw),
        "pooled_projections": torch.randn(1, 32, generator=draw),
    }  # fmt: skip


def twice(inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.cat([v, v]) if isinstance(v, Tensor) and v.ndim else v for k, v in inputs.items()}


def perturbed(module: nn.Module, inputs: dict[str, Any], layer: str, kind: str, **more: Any) -> Tensor:
    act = Perturbation(kind, lambda tokens: Place(0, GRID), 1, **more)
    attention, block = module.get_submodule(layer), ExitStack()
    before = attention.register_forward_pre_hook(lambda *_: block.enter_context(acting(attention, act)) and None)
    try:
        with hooked(attention, lambda *_: block.close()):
            out = plain(module, inputs)
    finally:
        before.remove()
    assert act.acted
    return out


def plain(module: nn.Module, inputs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        out: Tensor = module(**inputs, return_dict=False)[0]
    return out


@contextmanager
def processed(module: nn.Module, layer: str, processor: Any) -> Iterator[None]:
    attention: Any = module.get_submodule(layer)
    before = attention.processor
    attention.set_processor(processor)
    try:
        yield
    finally:
        attention.set_processor(before)


@contextmanager
def hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_identity_is_that_of_diffusers_for_a_unet() -> None:
    module, inputs = unet()
    ours = perturbed(module, inputs, UNET_LAYER, "identity")
    with processed(module, UNET_LAYER, processors.PAGIdentitySelfAttnProcessor2_0()):
        theirs = plain(module, twice(inputs)).chunk(2)
    assert torch.allclose(theirs[0], plain(module, inputs), atol=1e-5)
    assert torch.allclose(theirs[1], ours, atol=1e-5)
    assert float((ours - theirs[0]).abs().max()) > 1e-3


def test_identity_is_that_of_diffusers_for_joint_attention() -> None:
    module, inputs = sd3()
    ours = perturbed(module, inputs, SD3_LAYER, "identity")
    with processed(module, SD3_LAYER, processors.PAGJointAttnProcessor2_0()):
        theirs = plain(module, twice(inputs)).chunk(2)
    assert torch.allclose(theirs[0], plain(module, inputs), atol=1e-5)
    assert torch.allclose(theirs[1], ours, atol=1e-5)
    assert float((ours - theirs[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("sigma", [0.7, 2.0, math.inf])
def test_smooth_blurs_queries_before_they_are_used(sigma: float) -> None:
    module, inputs = unet()
    kernel = 1 if math.isinf(sigma) else math.ceil(6 * sigma) | 1

    def blurred(_: Any, __: Any, queries: Tensor) -> Tensor:
        cells = queries.mT.unflatten(-1, GRID)
        if math.isinf(sigma):
            return cells.mean((-2, -1), keepdim=True).expand(cells.shape).flatten(-2).mT
        x = torch.arange(kernel) - kernel // 2
        line = torch.exp(-0.5 * (x / sigma) ** 2)
        plane = torch.outer(line, line) / line.sum() ** 2
        for axis, sides in ((-1, [1, 1, 0, 0]), (-2, [0, 0, 1, 1])):
            pad = kernel // 2
            while pad:  # reflection of PyTorch reaches no farther than the picture
                step = min(pad, cells.shape[axis] - 1)
                cells, pad = functional.pad(cells, [step * side for side in sides], mode="reflect"), pad - step
        return (
            functional.conv2d(cells.flatten(0, 1)[:, None], plane[None, None])[:, 0]
            .unflatten(0, queries.mT.shape[:2])
            .flatten(-2)
            .mT
        )

    ours = perturbed(module, inputs, UNET_LAYER, "smooth", kernel_sigma=(kernel, sigma))
    with hooked(module.get_submodule(UNET_LAYER).to_q, blurred):
        theirs = plain(module, inputs)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float((ours - plain(module, inputs)).abs().max()) > 1e-4


def test_shuffle_gives_every_token_what_another_one_attended_to() -> None:
    module, inputs = unet()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    ours = perturbed(module, inputs, UNET_LAYER, "shuffle", order=lambda count: order)
    with hooked(module.get_submodule(UNET_LAYER), lambda _, __, out: out[:, order]):
        theirs = plain(module, inputs)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float((ours - plain(module, inputs)).abs().max()) > 1e-4


OPTIONS: dict[str, dict[str, Any]] = {
    "identity": {},
    "smooth": {"kernel_sigma": (1, math.inf)},
    "shuffle": {"order": lambda count: torch.arange(count).flip(0)},
}


@pytest.mark.parametrize("kind", list(OPTIONS))
@pytest.mark.parametrize("build", [unet, sd3])
def test_all_heads_by_number_are_all_heads(build: Any, kind: str) -> None:
    module, inputs = build()
    layer = UNET_LAYER if build is unet else SD3_LAYER
    every = perturbed(module, inputs, layer, kind, **OPTIONS[kind])
    assert torch.allclose(perturbed(module, inputs, layer, kind, heads=(0, 1, 2, 3), **OPTIONS[kind]), every, atol=1e-6)
    some = perturbed(module, inputs, layer, kind, heads=(1,), **OPTIONS[kind])
    for other in (every, plain(module, inputs), perturbed(module, inputs, layer, kind, heads=(2,), **OPTIONS[kind])):
        assert float((some - other).abs().max()) > 1e-5


@pytest.mark.parametrize("kind", list(OPTIONS))
@pytest.mark.parametrize("heads", [None, (1, 2)])
def test_attention_written_by_hand_is_perturbed_alike(kind: str, heads: tuple[int, ...] | None) -> None:
    module, inputs = unet()
    fused = perturbed(module, inputs, UNET_LAYER, kind, heads=heads, **OPTIONS[kind])
    with processed(module, UNET_LAYER, processors.AttnProcessor()):
        by_hand = perturbed(module, inputs, UNET_LAYER, kind, heads=heads, **OPTIONS[kind])
    assert torch.allclose(fused, by_hand, atol=1e-5)


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_rows_of_the_text_stay_as_they_are(kind: str) -> None:
    """What joint attention gives the text, whatever is done to the picture's rows."""
    module, inputs = sd3()
    layer, given = module.get_submodule(SD3_LAYER), list[Any]()
    with hooked(layer, lambda _, __, out: given.append(out)):
        plain(module, inputs)
        perturbed(module, inputs, SD3_LAYER, kind, **OPTIONS[kind])
    (picture, text), (other_picture, other_text) = given
    assert torch.allclose(text, other_text, atol=1e-6)
    assert float((picture - other_picture).abs().max()) > 1e-5

"""Both forms of guidance on every family: two aspect ratios, two precisions; finite, felt, and gone afterwards."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, texts  # noqa: E402

from .classic import FAMILIES, denoiser_of, hooks  # noqa: E402
from .test_guider import marks  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16]
KINDS: list[dict[str, Any]] = [{"mask": "tokenrank"}, {"kind": "smooth", "scale": 2.0}]
# both of each with both of the others: all pairs of the three
PAIRS = [(tall, dtype, KINDS[tall ^ (dtype == DTYPES[1])]) for tall in (False, True) for dtype in DTYPES]
STEPS = 2


@cache
def pipe_of(name: str, dtype: torch.dtype) -> Any:
    return FAMILIES[name].build().to(dtype)


def cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, list):
        return [cast(part, dtype) for part in value]
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def run(name: str, dtype: torch.dtype, size: dict[str, int]) -> Tensor:
    family = FAMILIES[name]
    first, second = family.texts()
    given = first | {f"negative_{key}": value for key, value in second.items() if key != "max_sequence_length"}
    if name == "PixArt":
        given |= {"negative_prompt": None}
    made: Tensor = pipe_of(name, dtype)(
        **{key: cast(value, dtype) for key, value in given.items()}, **family.on, **size, num_inference_steps=STEPS,
        output_type="latent", generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    return made


@pytest.mark.filterwarnings("ignore:guidance of QwenImagePipeline is inexact")
@pytest.mark.parametrize(("tall", "dtype", "options"), PAIRS, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_classic_pipelines(name: str, tall: bool, dtype: torch.dtype, options: dict[str, Any]) -> None:
    pipe, wide = pipe_of(name, dtype), dict(FAMILIES[name].size)
    size = {"width": wide["height"], "height": 2 * wide["width"]} if tall else wide
    module = denoiser_of(pipe)
    plain, before = run(name, dtype, size), marks(module)
    with tr.tasks.guide(pipe, **options):
        guided = run(name, dtype, size)
    assert guided.shape == plain.shape
    assert guided.dtype == plain.dtype
    assert bool(torch.isfinite(guided).all())
    assert not torch.equal(guided, plain)
    assert hooks(pipe) == 0
    assert marks(module) == before
    assert torch.equal(run(name, dtype, size), plain)


@pytest.mark.parametrize(("tall", "dtype", "options"), PAIRS, ids=str)
@pytest.mark.parametrize("name", DENOISERS)
def test_the_guider(name: str, tall: bool, dtype: torch.dtype, options: dict[str, Any]) -> None:
    denoiser = DENOISERS[name]
    module = denoiser.build().to(dtype)
    text = tuple(words.to(dtype) for words in texts())

    def made(guider: Any) -> Tensor:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(STEPS)
        guider.attach(scheduler)
        x = torch.randn(denoiser.tall if tall else denoiser.latents, generator=torch.Generator().manual_seed(1))
        x = x.to(dtype)
        for i, time in enumerate(scheduler.timesteps):
            guider.set_state(step=i, num_inference_steps=STEPS, timestep=time)
            passes = guider.prepare_inputs({"text": text})
            for one in passes:
                guider.prepare_models(module)
                with torch.no_grad():
                    one.noise_pred = denoiser.call(module, x, one.text)
                guider.cleanup_models(module)
            x = scheduler.step(guider(passes)[0], time, x).prev_sample
        return x

    plain, before = made(tr.tasks.Guider(scale=0.0)), marks(module)
    guided = made(tr.tasks.Guider(**options))
    assert guided.dtype == plain.dtype
    assert bool(torch.isfinite(guided).all())
    assert not torch.equal(guided, plain)
    assert marks(module) == before
    assert torch.equal(made(tr.tasks.Guider(scale=0.0)), plain)

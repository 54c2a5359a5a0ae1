"""Noise levels: a denoiser that knows the clean picture drives every sampler of diffusers to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

from tokenrank.denoisers.schedule import Level, level_of, mixed, parts, place_of, prediction_of  # noqa: E402
from tokenrank.errors import InputError  # noqa: E402

SAMPLERS: list[tuple[str, dict[str, Any], float]] = [
    # how far from the clean picture the sampler may end: those of no exact last step stop at its least noise
    ("DDIMScheduler", {"clip_sample": False}, 1e-5),
    ("DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, 1e-5),
    ("DDPMScheduler", {"clip_sample": False}, 1e-4),
    ("PNDMScheduler", {}, 0.05),
    ("DPMSolverMultistepScheduler", {}, 1e-5),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "prediction_type": "v_prediction"}, 1e-5),
    ("DPMSolverSinglestepScheduler", {}, 1e-5),
    ("UniPCMultistepScheduler", {}, 1e-5),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, 1e-5),
    ("DEISMultistepScheduler", {}, 0.05),
    ("EulerDiscreteScheduler", {}, 1e-5),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "prediction_type": "v_prediction"}, 1e-5),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}, 1e-5),
    ("EulerAncestralDiscreteScheduler", {}, 1e-5),
    ("LMSDiscreteScheduler", {}, 1e-5),
    ("HeunDiscreteScheduler", {}, 1e-5),
    ("KDPM2DiscreteScheduler", {}, 1e-5),
    ("KDPM2AncestralDiscreteScheduler", {}, 1e-5),
    ("LCMScheduler", {}, 1e-5),
    ("FlowMatchEulerDiscreteScheduler", {}, 1e-5),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, 1e-5),
    ("FlowMatchHeunDiscreteScheduler", {}, 1e-5),
]


def output_for(x: Tensor, clean: Tensor, level: Level, kind: str) -> Tensor:
    """What a perfect denoiser puts out, from the definitions."""
    noise = (x - level.signal * clean) / level.noise
    known = {
        "epsilon": noise,
        "v_prediction": level.signal * noise - level.noise * clean,
        "sample": clean,
        "flow": noise - clean,
    }
    return known[kind]


@pytest.mark.parametrize(("name", "config", "most"), SAMPLERS, ids=lambda value: str(value))
def test_a_perfect_denoiser_ends_at_the_clean_picture(name: str, config: dict[str, Any], most: float) -> None:
    sampler = getattr(diffusers, name)(**config)
    sampler.set_timesteps(6)
    draw = torch.Generator().manual_seed(0)
    clean = torch.randn(1, 2, 4, 4, generator=draw)
    x = torch.randn(1, 2, 4, 4, generator=draw) * getattr(sampler, "init_noise_sigma", 1.0)
    kind = prediction_of(sampler)
    for place, time in enumerate(sampler.timesteps):
        given = sampler.scale_model_input(x, time) if hasattr(sampler, "scale_model_input") else x
        level = level_of(sampler, time)
        if level.noise < 1e-6:
            continue
        output = output_for(given, clean, level, kind)
        told, noise = parts(given, output, level, kind)
        assert torch.allclose(mixed(told, noise, level), given, atol=1e-4 * float(given.abs().max()))
        assert torch.allclose(told, clean, atol=1e-4 / max(level.signal, 1e-2))
        if name not in ("PNDMScheduler",):  # which asks for its second timestep twice
            assert place_of(sampler, time)[1] == len(sampler.timesteps)
            assert sampler.timesteps[place_of(sampler, time)[0]] == sampler.timesteps[place]
        x = sampler.step(output, time, x).prev_sample
    assert float((x - clean).abs().max()) <= most


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_parts_are_what_was_mixed(kind: str) -> None:
    draw = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 3, 4, 5, generator=draw), torch.randn(2, 3, 4, 5, generator=draw)
    level = Level(0.7, 0.3) if kind == "flow" else Level(0.8, 0.6)
    x = mixed(clean, noise, level)
    found = parts(x, output_for(x, clean, level, kind), level, kind)  # type: ignore[arg-type]
    for got, expected in zip(found, (clean, noise), strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_half_precision_is_taken_apart_in_float32() -> None:
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2)).bfloat16()
    clean, noise = parts(x, x.flip(-1), Level(0.01, 0.99), "flow")
    assert clean.dtype == noise.dtype == torch.float32
    assert torch.allclose(mixed(clean, noise, Level(0.01, 0.99)), x.float(), atol=1e-5)


def test_a_timestep_rounded_to_bfloat16_is_the_step_that_runs() -> None:
    sampler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    sampler.set_timesteps(28)
    sampler.set_begin_index(0)
    x = torch.zeros(1, 1, 2, 2)
    for place, time in enumerate(sampler.timesteps):
        rounded = (time.to(torch.bfloat16) / 1000).float() * 1000
        assert level_of(sampler, rounded).noise == pytest.approx(float(sampler.sigmas[place]))
        assert place_of(sampler, rounded) == (place, 28)
        sampler.step(x, time, x)


def test_a_timestep_between_those_of_the_training_is_between_their_levels() -> None:
    sampler = diffusers.DDPMScheduler()
    low, high = level_of(sampler, 500), level_of(sampler, 501)
    assert low.noise < level_of(sampler, 500.5).noise < high.noise
    assert low == Level(float(sampler.alphas_cumprod[500]) ** 0.5, (1 - float(sampler.alphas_cumprod[500])) ** 0.5)


def test_samples_of_one_timestep_count_as_one() -> None:
    sampler = diffusers.DDIMScheduler()
    assert level_of(sampler, torch.tensor([7, 7])) == level_of(sampler, 7)
    with pytest.raises(InputError, match="expected one for all samples"):
        level_of(sampler, torch.tensor([7, 8]))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: diffusers.EDMEulerScheduler(), "EDMEulerScheduler"),
        (lambda: diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas"),
        (lambda: object(), "expected a scheduler with alphas_cumprod"),
    ],
)
def test_other_schedules_are_refused_by_name(made: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        level_of(made(), 1)


def test_timesteps_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="expected 0 … 999"):
        level_of(diffusers.DDIMScheduler(), 1200)
    with pytest.raises(InputError, match="no time of a flow"):
        level_of(diffusers.FlowMatchEulerDiscreteScheduler(), 1200)
    with pytest.raises(InputError, match="timesteps"):
        place_of(object(), 3)


def test_noise_alone_does_not_tell_the_picture_by_epsilon() -> None:
    x = torch.ones(1, 1, 2, 2)
    with pytest.raises(InputError, match="without any signal"):
        parts(x, x, Level(0.0, 1.0), "epsilon")

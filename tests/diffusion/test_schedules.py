"""The pass at a step of samplers of all kinds is the one that the pipeline makes with them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from tokenrank.denoisers.family import family_of  # noqa: E402
from tokenrank.denoisers.look import passes  # noqa: E402
from tokenrank.denoisers.pipeline import text_to_image  # noqa: E402

from . import pipelines  # noqa: E402
from .over_pictures import (  # noqa: E402
    SHORT,
    STEP,
    STEPS,
    arguments,
    copied,
    differences,
    in_the_samplers_scale,
    picture,
    run,
)

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM, v": ("DDIMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}),
    "DDIM, zero terminal SNR": (
        "DDIMScheduler", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
                          "prediction_type": "v_prediction"},
    ),
    "DDPM": ("DDPMScheduler", {}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "Euler": ("EulerDiscreteScheduler", {"steps_offset": 1}),
    "Euler, Karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "DPM++": ("DPMSolverMultistepScheduler", {}),
    "DPM++, Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
}  # fmt: skip
FLOWS: dict[str, dict[str, Any]] = {
    "shifted": {"shift": 3.0},
    "shifted by the size": {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
    "Karras": {"use_karras_sigmas": True},
}


def held(pipe: Any, call: dict[str, Any]) -> None:
    """Every argument of step STEP, made and seen."""
    made = passes(pipe, picture(), SHORT, noise=(STEP, STEPS), size=48, call=call)[0]
    latents = in_the_samplers_scale(pipe, made)
    with arguments(pipe) as seen:
        run(pipe, call | {"prompt": SHORT, "width": 48, "height": 32}, latents, STEP, output_type="latent",
            **dict(family_of(pipe).alone))  # fmt: skip
    assert not differences(copied(dict(made.inputs)), seen[STEP])


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_noise(name: str, tmp_path: Path):
    kind, config = SAMPLERS[name]
    pipe = pipelines.stable_diffusion(tmp_path)
    pipe.scheduler = getattr(diffusers, kind)(**config)
    held(pipe, {})


@pytest.mark.parametrize("name", FLOWS)
def test_flows(name: str, tmp_path: Path):
    pipe = pipelines.flux(tmp_path)
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**FLOWS[name])
    held(pipe, {"max_sequence_length": 16})
    ran = copy.copy(pipe.scheduler)  # its steps are set by the pipeline
    ran.set_begin_index(None)
    made = passes(pipe, picture(), SHORT, noise=(STEP, STEPS), size=48, call={"max_sequence_length": 16})[0]
    expected = ran.scale_noise(made.clean, torch.tensor([made.timestep]), made.noise)
    assert not differences(made.inputs["hidden_states"], expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["DDIM, v", "Euler", "DPM++", "PNDM"])
def test_a_share_of_noise_is_the_same_mixture_with_every_sampler(name: str, share: float, tmp_path: Path):
    kind, config = SAMPLERS[name]
    pipe = pipelines.stable_diffusion(tmp_path)
    pipe.scheduler = getattr(diffusers, kind)(**config)
    made = passes(pipe, picture(), SHORT, noise=share, size=48)[0]
    assert abs(made.level.noise / (made.level.signal + made.level.noise) - share) < 2e-3
    squares = text_to_image(pipe, family_of(pipe)).scheduler.alphas_cumprod
    assert made.level.signal**2 == pytest.approx(float(squares[int(made.timestep)]), rel=1e-6)
    expected = made.level.signal * made.clean + made.level.noise * made.noise
    assert not differences(made.inputs["sample"], expected)

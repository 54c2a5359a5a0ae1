"""Context and guider are the same guidance: same model, scheduler, text and noise, to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.conformance.transformers_shared import peaky  # noqa: E402
from tests.diffusion import pipelines  # noqa: E402

STEPS = 3
KINDS: list[dict[str, Any]] = [
    {"mask": "colsum"},
    {"mask": "tokenrank"},
    {"mask": "bounce"},
    {"mask": "all"},
    {"mask": "random", "seed": 3},
    {"mask": "word:cat"},
    {"mask": "tokenrank", "base": "conditional", "start": 0.4},
    {"kind": "identity", "scale": 2.0},
    {"kind": "identity", "heads": [1]},
    {"kind": "smooth", "sigma": 1.5},
    {"kind": "smooth", "heads": 0.5},
    {"kind": "shuffle", "seed": 5},
]


def loop(pipe: Any, guider: Any, noise: Tensor, conditions: dict[str, Any], tokens: tuple[int, ...]) -> Tensor:
    """Latents that the guider's passes make, in the place of a modular pipeline's loop."""
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    scheduler = pipe.scheduler
    scheduler.set_timesteps(STEPS)
    guider.attach(scheduler, tokens)
    x = noise * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else noise
    for i, time in enumerate(scheduler.timesteps):
        guider.set_state(step=i, num_inference_steps=STEPS, timestep=time)
        passes = guider.prepare_inputs(conditions)
        scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        for one in passes:
            guider.prepare_models(denoiser)
            given = {name: getattr(one, name) for name in conditions}
            told = time.expand(len(x)) if hasattr(pipe, "transformer") else time
            with torch.no_grad():
                one.noise_pred = denoiser(scaled, timestep=told, **given, return_dict=False)[0]
            guider.cleanup_models(denoiser)
        x = scheduler.step(guider(passes)[0], time, x, return_dict=False)[0]
    return x


CASES = ("SD1.5 ε", "SD1.5 v", "SD1.5 Euler", "SD3 flow")


# every kind in every case, and each of both with and without classifier-free guidance: all pairs of the three
@pytest.mark.parametrize(
    ("case", "options", "guidance_scale"),
    [(case, how, (4.0, 1.0)[(i + j) % 2]) for i, case in enumerate(CASES) for j, how in enumerate(KINDS)],
    ids=str,
)
def test_both_forms_are_the_same(case: str, options: dict[str, Any], guidance_scale: float, tmp_path: Path) -> None:
    if case == "SD3 flow":
        pipe = pipelines.stable_diffusion_3(tmp_path)
        peaky(pipe.transformer, 0.1)
        embedded = pipe.encode_prompt(
            "a cat", None, None, negative_prompt="blurry dog", max_sequence_length=8, do_classifier_free_guidance=True
        )
        conditions = {"encoder_hidden_states": embedded[:2], "pooled_projections": embedded[2:]}
        more = {"max_sequence_length": 8}
    else:
        pipe = pipelines.stable_diffusion(tmp_path)
        conditions = {"encoder_hidden_states": pipe.encode_prompt("a cat", "cpu", 1, True, "blurry dog")}
        kind = "EulerDiscreteScheduler" if "Euler" in case else "DDIMScheduler"
        prediction = "v_prediction" if case.endswith("v") else "epsilon"
        pipe.scheduler = getattr(diffusers, kind).from_config(
            {"beta_start": 0.0005, "prediction_type": prediction, "clip_sample": False}
        )
        more = {}
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {
        "prompt": "a cat", "negative_prompt": "blurry dog", "width": pipelines.WIDTH, "height": pipelines.HEIGHT,
        "num_inference_steps": STEPS, "guidance_scale": guidance_scale, "output_type": "latent", **more,
    }  # fmt: skip
    plain = pipe(latents=noise.clone(), **arguments).images
    with tr.tasks.guide(pipe, **options) as guidance:
        classic = pipe(latents=noise.clone(), **arguments).images
    guider = tr.tasks.Guider(guidance_scale=guidance_scale, **options)
    own = loop(pipe, guider, noise.clone(), conditions, (2,))  # <|startoftext|> a cat
    scale = float(plain.abs().max())
    assert (own - classic).abs().max() <= 1e-5 * max(1.0, scale)
    assert (classic - plain).abs().max() > 1e-4 * scale
    assert [mask.tolist() for mask in guider.masks] == [mask.tolist() for mask in guidance.masks]

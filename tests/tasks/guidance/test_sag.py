"""``colsum`` is Self-Attention Guidance as diffusers has it: latents of both pipelines agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers")
if not hasattr(diffusers, "StableDiffusionSAGPipeline"):
    pytest.skip(f"diffusers {diffusers.__version__} has no StableDiffusionSAGPipeline", allow_module_level=True)

from tokenrank.tasks import guide  # noqa: E402

from .classic import SIZES, stable_diffusion  # noqa: E402

CELL = 8  # pixels of a latent, so that any number of latents is a size that pipelines take


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = stable_diffusion()
    made.vae_scale_factor = CELL
    return made


def published(pipe: Any, **given: Any) -> Tensor:
    other = diffusers.StableDiffusionSAGPipeline(
        vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=pipe.unet,
        scheduler=type(pipe.scheduler).from_config(pipe.scheduler.config), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    other.vae_scale_factor = CELL
    other.set_progress_bar_config(disable=True)
    latents: Tensor = other(sag_scale=0.75, **given).images
    return latents


def given(size: tuple[int, int], scale: float, steps: int = 4) -> dict[str, Any]:
    rows, columns = size
    return {
        "prompt": "a cat", "negative_prompt": "blurry dog", "height": rows * CELL, "width": columns * CELL,
        "num_inference_steps": steps, "guidance_scale": scale, "output_type": "latent",
        "latents": torch.randn(1, 4, rows, columns, generator=torch.Generator().manual_seed(0)),
    }  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scale", [7.5, 1.0], ids=["guided", "alone"])
@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_it_is_the_published_pipeline(pipe: Any, size: tuple[int, int], scale: float, prediction: str) -> None:
    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False, prediction_type=prediction)
    inputs = given(size, scale)
    expected, plain = published(pipe, **inputs), pipe(**inputs).images
    with guide(pipe, mask="colsum") as guidance:
        ours = pipe(**inputs).images
    largest = float(expected.abs().max())
    assert float((ours - expected).abs().max()) <= 1e-3 * max(1.0, largest / 10)
    assert float((plain - expected).abs().max()) > 0.02 * largest
    assert len(guidance.masks) == 4


def test_it_is_with_attention_written_by_hand(pipe: Any) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False)
    inputs = given(SIZES["upright"], 7.5)
    expected = published(pipe, **inputs)
    before = pipe.unet.attn_processors
    pipe.unet.set_attn_processor(AttnProcessor())
    try:
        with guide(pipe, mask="colsum"):
            ours = pipe(**inputs).images
    finally:
        pipe.unet.set_attn_processor(before)
    assert float((ours - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("sampler", "config"),
    [
        ("DDIMScheduler", {}), ("PNDMScheduler", {"skip_prk_steps": True}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {}), ("EulerDiscreteScheduler", {}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}), ("EulerAncestralDiscreteScheduler", {}),
        ("HeunDiscreteScheduler", {}), ("KDPM2DiscreteScheduler", {}), ("LMSDiscreteScheduler", {}),
        ("DDPMScheduler", {"prediction_type": "v_prediction"}), ("LCMScheduler", {}),
    ],
    ids=str,
)  # fmt: skip
def test_the_degraded_input_is_as_noisy_as_the_input(pipe: Any, sampler: str, config: dict[str, Any]) -> None:
    """With a perfect denoiser a blurred clean picture stays as far from the input as the signal is large."""
    pipe.scheduler = getattr(diffusers, sampler)(**config)
    inputs = given(SIZES["upright"], 7.5, steps=3) | {"latents": None, "generator": torch.Generator().manual_seed(0)}
    seen: list[Tensor] = []
    forward = pipe.unet.forward

    def heard(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(sample)
        return forward(sample, *args, **kwargs)

    pipe.unet.forward = heard
    try:
        with guide(pipe, mask="all"):
            made = pipe(**inputs).images
    finally:
        del pipe.unet.forward
    assert torch.isfinite(made).all()
    pairs = [(a.chunk(2)[0], b) for a, b in zip(seen[::2], seen[1::2], strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    # what was taken out of an input is some detail of its clean picture, no noise: the scale of both is one
    assert all(0.2 < float(b.std() / a.std()) < 5 for a, b in pairs)
    assert all(not torch.equal(a, b) for a, b in pairs)

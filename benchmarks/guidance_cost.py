"""What guidance costs: a guided step against one of classifier-free guidance, and the mask's own share.

    python -m benchmarks.guidance_cost

A step of classifier-free guidance is two passes of the denoiser, a guided one three: 1.5 and what guidance adds to
that. The share of the mask is the time that the mask "tokenrank" takes beside the mask "all", which looks at nothing,
in parts of a guided step. Models are untrained: times do not depend on weights. Steps are taken in turns, so that a
machine that is busy slows all of them alike; figures are medians.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch

ROUNDS = 5
STEPS = 1


def unet() -> tuple[Any, dict[str, Any]]:
    """A UNet of the shape of Stable Diffusion 1.5, a quarter as wide: 32 × 32 latents, 4 × 4 in the mid block."""
    import diffusers

    denoiser = diffusers.UNet2DConditionModel(
        sample_size=32, block_out_channels=(80, 160, 320, 320), layers_per_block=2, cross_attention_dim=192,
        attention_head_dim=8, norm_num_groups=16,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae=_autoencoder(), text_encoder=None, tokenizer=None, unet=denoiser.eval(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    text = {name: torch.randn(1, 77, 192) for name in ("prompt_embeds", "negative_prompt_embeds")}
    size = 32 * pipe.vae_scale_factor
    return _quiet(pipe), {**text, "guidance_scale": 7.5, "height": size, "width": size}


def transformer() -> tuple[Any, dict[str, Any]]:
    """A FLUX of 4 + 8 blocks, 8 heads of 32 channels: 24 × 24 tokens of the picture and 64 of text."""
    import diffusers

    denoiser = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=4, num_single_layers=8, attention_head_dim=32, num_attention_heads=8,
        joint_attention_dim=256, pooled_projection_dim=64, axes_dims_rope=(8, 12, 12),
    )  # fmt: skip
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=_autoencoder(), transformer=denoiser.eval(),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    text = {name: torch.randn(1, 64, 256) for name in ("prompt_embeds", "negative_prompt_embeds")}
    pooled = {name: torch.randn(1, 64) for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")}
    size = 48 * pipe.vae_scale_factor
    return _quiet(pipe), {**text, **pooled, "true_cfg_scale": 4.0, "height": size, "width": size}


MODELS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {"unet": unet, "transformer": transformer}


def cost(rounds: int = ROUNDS, steps: int = STEPS, models: Any = None) -> dict[str, Any]:
    """Seconds a step, their ratio to classifier-free guidance, and the mask's share, by model.

    Args:
        rounds: how often each arm runs, after once to warm up.
        steps: of a run.
        models: name → what makes a pipeline and its arguments; ``MODELS`` by default.
    """
    return {name: _cost_of(*make(), rounds, steps) for name, make in (models or MODELS).items()}


def _cost_of(pipe: Any, given: dict[str, Any], rounds: int, steps: int) -> dict[str, Any]:
    from tokenrank.tasks import guide

    arms: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "cfg": nullcontext,
        "all": lambda: guide(pipe, mask="all"),
        "colsum": lambda: guide(pipe, mask="colsum"),
        "tokenrank": lambda: guide(pipe, mask="tokenrank"),
        "identity": lambda: guide(pipe, "identity"),
    }
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(rounds + 1):
        for arm, block in arms.items():
            with block():
                begun = time.process_time()
                pipe(**given, num_inference_steps=steps, output_type="latent")
                spent = (time.process_time() - begun) / steps
            if turn:
                seconds[arm].append(spent)
    step = {arm: median(times) for arm, times in seconds.items()}
    ratio = {arm: median(a / b for a, b in zip(seconds[arm], seconds["cfg"], strict=True)) for arm in arms}
    share = {
        arm: median((a - b) / a for a, b in zip(seconds[arm], seconds["all"], strict=True))
        for arm in ("colsum", "tokenrank")
    }
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    return {
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "cpu seconds a step": {arm: round(s, 4) for arm, s in step.items()},
        "ratio to a step of classifier-free guidance": {arm: round(r, 3) for arm, r in ratio.items()},
        "share of the mask in a guided step": {arm: round(s, 4) for arm, s in share.items()},
        "threads": torch.get_num_threads(),
    }


def _autoencoder() -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32), norm_num_groups=4, latent_channels=4, shift_factor=0.0, scaling_factor=1.0,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    print(json.dumps(cost(), indent=1))

"""Classic pipelines, tiny and random, of every family that guidance knows, and runs of them on the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from tests.conformance.diffusers_models import DIT, FLUX
from tests.diffusion import pipelines

STEPS = 3
SIZES = {"odd": (8, 65), "upright": (32, 24), "small": (8, 8)}
"""(rows, columns) of latents."""


@dataclass(frozen=True)
class Family:
    """A pipeline and two texts for it.

    Attributes:
        build: makes it.
        texts: arguments that give it either text as its prompt.
        on, off: arguments with and without classifier-free guidance.
        size: of the picture in pixels.
    """

    build: Callable[[], Any]
    texts: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
    on: Mapping[str, Any]
    off: Mapping[str, Any]
    size: Mapping[str, int] = field(default_factory=lambda: {"width": pipelines.WIDTH, "height": pipelines.HEIGHT})


def made(build: Callable[[Path], Any]) -> Callable[[], Any]:
    def build_there() -> Any:
        with TemporaryDirectory() as folder:
            return build(Path(folder))

    return build_there


def stable_diffusion() -> Any:
    pipe = made(pipelines.stable_diffusion)()
    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return pipe


def prompts() -> tuple[dict[str, Any], dict[str, Any]]:
    return {"prompt": pipelines.PROMPT}, {"prompt": pipelines.NEGATIVE}


def short() -> tuple[dict[str, Any], dict[str, Any]]:
    return {"prompt": pipelines.PROMPT, "max_sequence_length": 8}, {
        "prompt": pipelines.NEGATIVE,
        "max_sequence_length": 8,
    }


def embedded(**more: Callable[[], Any]) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    def texts() -> tuple[dict[str, Any], dict[str, Any]]:
        torch.manual_seed(3)
        first, second = (
            {"prompt_embeds": torch.randn(1, 7, 16)} | {name: made() for name, made in more.items()} for _ in range(2)
        )
        return first, second

    return texts


def listed() -> tuple[dict[str, Any], dict[str, Any]]:
    torch.manual_seed(3)
    return {"prompt_embeds": [torch.randn(5, 16)]}, {"prompt_embeds": [torch.randn(5, 16)]}


def flux2_klein() -> Any:
    if not hasattr(diffusers, "Flux2KleinPipeline"):
        pytest.skip(f"diffusers {diffusers.__version__} has no Flux2KleinPipeline")
    vae = pipelines.made(
        "AutoencoderKLFlux2", block_out_channels=(16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    denoiser = pipelines.made(
        "Flux2Transformer2DModel",
        **{k: v for k, v in FLUX.items() if k != "guidance_embeds"}
        | {"in_channels": 16, "axes_dims_rope": (2, 2, 2, 2)},
    )
    return pipelines.quiet(
        diffusers.Flux2KleinPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=None, tokenizer=None,
            transformer=denoiser,
        )
    )  # fmt: skip


def pixart() -> Any:
    return pipelines.quiet(
        diffusers.PixArtAlphaPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=pipelines.autoencoder(),
            transformer=pipelines.made(
                "PixArtTransformer2DModel",
                **DIT | {"caption_channels": 16, "cross_attention_dim": 32, "out_channels": 8, "norm_num_groups": 4},
            ),
            scheduler=diffusers.DPMSolverMultistepScheduler(),
        )
    )


def pooled() -> Tensor:
    return torch.randn(1, 16)


def seen() -> Tensor:
    return torch.ones(1, 7, dtype=torch.long)


ON, OFF = {"guidance_scale": 4.0}, {"guidance_scale": 1.0}
FAMILIES: dict[str, Family] = {
    "SD1.5": Family(stable_diffusion, prompts, ON, OFF),
    "SDXL": Family(made(pipelines.stable_diffusion_xl), prompts, ON, OFF),
    "SD3": Family(made(pipelines.stable_diffusion_3), short, ON, OFF),
    "FLUX.1": Family(pipelines.flux, embedded(pooled_prompt_embeds=pooled), {"true_cfg_scale": 4.0}, {}),
    "FLUX.2": Family(flux2_klein, embedded(), ON, OFF),
    "Qwen-Image": Family(
        pipelines.qwen_image,
        embedded(prompt_embeds_mask=seen),
        {"true_cfg_scale": 4.0},
        {},
        {"width": 96, "height": 64},
    ),
    "Z-Image": Family(pipelines.z_image, listed, ON, {"guidance_scale": 0.0}),
    "PixArt": Family(
        pixart,
        embedded(prompt_attention_mask=seen),
        ON | {"use_resolution_binning": False},
        OFF | {"use_resolution_binning": False},
    ),
}
NAMES = list(FAMILIES)


@cache
def pipe_of(name: str) -> Any:
    return FAMILIES[name].build()


def denoiser_of(pipe: Any) -> nn.Module:
    module: nn.Module = getattr(pipe, "transformer", None) or pipe.unet
    return module


def run(name: str, guided: bool = True, negative: bool = False, seed: int | list[int] = 5, **more: Any) -> Tensor:
    """Latents of a run: of the prompt, or of the negative prompt alone; several seeds make several pictures of it."""
    family, pipe = FAMILIES[name], pipe_of(name)
    first, second = family.texts()
    given = second if negative else first
    if guided:
        given = given | {f"negative_{k}": v for k, v in second.items() if k != "max_sequence_length"}
    if name == "PixArt":
        given = given | {"negative_prompt": None}
    settings = dict(family.on if guided else family.off) | {"num_inference_steps": STEPS} | more
    draws = [torch.Generator().manual_seed(each) for each in ([seed] if isinstance(seed, int) else seed)]
    made = pipe(
        **given, **family.size, **settings, output_type="latent", num_images_per_prompt=len(draws),
        generator=draws if len(draws) > 1 else draws[0],
    ).images  # fmt: skip
    assert isinstance(made, Tensor)
    return made


def hooks(pipe: Any) -> int:
    """Hooks of PyTorch on the denoiser and in it."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in denoiser_of(pipe).modules())


class Predictions(list[Tensor]):
    """What the sampler is given, step by step, in a block."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self._scheduler = pipe.scheduler

    def __enter__(self) -> Predictions:
        step = self._scheduler.step

        def heard(prediction: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.append(prediction.clone())
            return step(prediction, *args, **kwargs)

        self._scheduler.step = heard
        return self

    def __exit__(self, *error: object) -> None:
        del self._scheduler.step

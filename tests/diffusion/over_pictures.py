"""Every family over a real picture: its pipeline, its call, and what the denoiser is given in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from tokenrank.denoisers.family import family_of
from tokenrank.denoisers.look import Pass
from tokenrank.denoisers.pipeline import denoiser_of, text_to_image
from tokenrank.denoisers.schedule import mixed
from tokenrank.recording.evidence import bound_inputs

from . import pipelines

PROMPT = "a cat and a german shepherd"
SHORT = "a cat a dog"  # for the tiny CLIP, which takes eight tokens
STEP, STEPS = 1, 4
SIZES = ((48, 32), (16, 48))  # (width, height), of two proportions


@dataclass(frozen=True)
class Family:
    """A pipeline and more arguments of its call."""

    build: Callable[[Path], Any]
    call: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = PROMPT

    @property
    def told(self) -> dict[str, Any]:
        return self.call if self.prompt is None else self.call | {"prompt": self.prompt}


def embeddings() -> dict[str, Any]:
    return {"prompt_embeds": torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(0))}


FAMILIES = {
    "FLUX.1": Family(pipelines.flux, {"max_sequence_length": 16}),
    "FLUX.2": Family(lambda _: pipelines.flux_2(), embeddings(), None),
    "FLUX.2 klein": Family(
        lambda _: pipelines.flux_2_klein(), {"text_encoder_out_layers": (0, 1, 2), "max_sequence_length": 40}
    ),
    "SD3": Family(lambda folder: pipelines.stable_diffusion_3(folder, True), {"max_sequence_length": 16}),
    "SD3.5": Family(pipelines.stable_diffusion_35, {"max_sequence_length": 16}),
    "Qwen-Image": Family(lambda _: pipelines.qwen_image(True)),
    "Z-Image": Family(lambda _: pipelines.z_image(True)),
    "SD1.5": Family(pipelines.stable_diffusion, prompt=SHORT),
    "SDXL": Family(pipelines.stable_diffusion_xl, prompt=SHORT),
    "PixArt-α": Family(lambda _: pipelines.pixart("Alpha"), {"max_sequence_length": 16}),
    "PixArt-Σ": Family(lambda _: pipelines.pixart("Sigma"), {"max_sequence_length": 16}),
}

every_family = pytest.mark.parametrize("name", FAMILIES)


def picture(size: tuple[int, int] = SIZES[0]) -> PIL.Image.Image:
    """Noise of low frequency, RGB."""
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return PIL.Image.fromarray(small).resize(size, PIL.Image.Resampling.BICUBIC)


@contextmanager
def arguments(pipe: Any) -> Iterator[list[dict[str, Any]]]:
    """The arguments of every call of the denoiser in the block, by name."""
    seen: list[dict[str, Any]] = []
    denoiser = denoiser_of(pipe)
    hook = denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(copied(bound_inputs(module, args, kwargs))), with_kwargs=True
    )
    try:
        yield seen
    finally:
        hook.remove()


def copied(value: Any) -> Any:
    """The same with tensors of its own: pipelines write into theirs."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def run(pipe: Any, told: dict[str, Any], latents: Tensor, step: int, **more: Any) -> Any:
    """The pipeline, its latents replaced after ``step`` steps."""
    size = {"width": told.pop("width"), "height": told.pop("height")}

    def on_step(_: Any, number: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {"latents": latents.to(state["latents"].dtype)} if number == step - 1 else {}

    def in_place(number: int, _: Any, found: Tensor) -> None:
        if number == step - 1:
            found.copy_(latents)

    old = type(pipe).__name__.startswith("PixArt")
    hook = {"callback": in_place, "callback_steps": 1} if old else {"callback_on_step_end": on_step}
    generator = torch.Generator().manual_seed(0)
    return pipe(**told, **size, num_inference_steps=STEPS, generator=generator, **hook, **more)


def in_the_samplers_scale(pipe: Any, made: Pass) -> Tensor:
    """The latents that the sampler of the pipeline would have at the time of a pass, by its own method."""
    twin = text_to_image(pipe, family_of(pipe)).scheduler
    if hasattr(twin, "scale_noise"):
        return mixed(made.clean, made.noise, made.level)  # the sampler's own would look the sigma up in the same list
    twin.set_timesteps(STEPS)
    return twin.add_noise(made.clean, made.noise, torch.tensor([made.timestep]).to(twin.timesteps.dtype))


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Places at which arguments differ, tensors by more than 1e-5 or in type or shape."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return [f"{place}: {tuple(ours.shape)} {ours.dtype} against {tuple(theirs.shape)} {theirs.dtype}"]
        off = float((ours.double() - theirs.double()).abs().max()) if ours.numel() else 0.0
        return [f"{place}: {off:g}"] if off > 1e-5 else []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(ours.keys() | theirs.keys())
        return [d for key in keys for d in differences(ours.get(key), theirs.get(key), f"{place}.{key}")]
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        return [
            d for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) for d in differences(a, b, f"{place}[{i}]")
        ]
    return [] if type(ours) is type(theirs) and ours == theirs else [f"{place}: {ours!r} against {theirs!r}"]

"""One forward call of the denoiser for many pictures: attention and values of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.recording.acts import Act, Caller, acting
from tokenrank.recording.fused import FusedCall


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts of as many tokens each.

    Attributes:
        embedded, pooled, ids: what the pipeline gives its denoiser.
        tokens: strings of the text tokens, one list a prompt.
    """

    embedded: Tensor
    pooled: Tensor
    ids: Tensor
    tokens: list[list[str]]


@dataclass(frozen=True)
class Pass:
    """What one call left.

    Attributes:
        weights: layer → (B, heads, N, N), text first, float32.
        values: layer → (B, heads, N, e).
        text: text tokens; the picture's follow.
    """

    weights: dict[str, Tensor]
    values: dict[str, Tensor]
    text: int

    @property
    def picture(self) -> Tensor:
        """Indices of the patches."""
        return torch.arange(self.text, next(iter(self.weights.values())).shape[-1])


def encoded(pipe: Any, prompts: Sequence[str], length: int) -> Prompts:
    """Prompts as a FLUX pipeline encodes them; its second tokenizer's tokens are those that the denoiser attends to."""
    embedded, pooled, ids = pipe.encode_prompt(
        prompt=list(prompts), prompt_2=list(prompts), max_sequence_length=length, device=torch.device("cpu")
    )
    tokenizer = pipe.tokenizer_2
    given = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True).input_ids
    return Prompts(embedded, pooled, ids, [tokenizer.convert_ids_to_tokens(row) for row in given])


def latents_of(pipe: Any, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), −1 to 1, in the scale of the denoiser: (B, channels, h, w)."""
    made = pipe.vae.encode(pictures)
    clean = made.latents if hasattr(made, "latents") else made.latent_dist.mode()
    shift = getattr(pipe.vae.config, "shift_factor", None) or 0.0
    return (clean - shift) * pipe.vae.config.scaling_factor


@torch.inference_mode()
def run(pipe: Any, clean: Tensor, prompts: Prompts, noise: float, seeds: Sequence[int]) -> Pass:
    """The denoiser on (1 − noise) · clean + noise · fresh noise, each picture's from a seed of its own.

    Each is the pass that ``tr.observe(picture, model=pipe, prompt=…, noise=…, seed=…)`` makes, many at once.
    """
    batch, channels, height, width = clean.shape
    packed = pipe._pack_latents(clean, batch, channels, height, width)
    fresh = [torch.randn(packed.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    places = pipe._prepare_latent_image_ids(batch, height // 2, width // 2, clean.device, clean.dtype)
    kept = _Values()
    with acting(pipe.transformer, kept), tr.capture(pipe.transformer, layout=False) as trace:
        pipe.transformer(
            hidden_states=(1 - noise) * packed + noise * torch.stack(fresh),
            encoder_hidden_states=prompts.embedded,
            pooled_projections=prompts.pooled,
            timestep=torch.full((batch,), noise),
            img_ids=places,
            txt_ids=prompts.ids,
            guidance=None,
            return_dict=False,
        )
    weights = {short(record.name): record.to_dense() for record in trace.records}
    assert list(kept.values) == list(weights)
    return Pass(weights, kept.values, prompts.embedded.shape[1])


def short(name: str) -> str:
    """ "dual 0", "single 3": of a layer of FLUX."""
    kind, number = name.split(".")[:2]
    return f"{'single' if kind.startswith('single') else 'dual'} {number}"


class _Values(Act):
    """Keeps the values of every attention."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        self.values[short(caller.name)] = call.value
        return call

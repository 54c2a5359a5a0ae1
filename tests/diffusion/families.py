"""A tiny pipeline of every family with its text encoders, and what their text encoders were really given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import pipelines, text_encoders

SIZE = {"width": 48, "height": 32}
LENGTH = 24  # of T5's texts, in tokens


def decoding(words: Any, layers: int = 2) -> dict[str, Any]:
    return {"tokenizer": words, "text_encoder": text_encoders.decoder(words, layers)}


def stable_diffusion_3(folder: Path, long: bool = True) -> Any:
    third = pipelines.t5("_3", 32, LENGTH) if long else {"tokenizer_3": None, "text_encoder_3": None}
    return pipelines.stable_diffusion_3(folder, texts=pipelines.clips(text_encoders.clip(folder), True, True) | third)


BUILD: dict[str, Callable[[Path], Any]] = {
    "FLUX.1": lambda folder: pipelines.flux(
        texts=pipelines.clips(text_encoders.clip(folder), False) | pipelines.t5("_2", 16, LENGTH)
    ),
    "FLUX.2": lambda _: pipelines.flux_2(decoding(text_encoders.mistral(), 31), 48),
    "FLUX.2 Klein": lambda _: pipelines.flux_2_klein(decoding(text_encoders.qwen(), 28)),
    "Stable Diffusion 3": stable_diffusion_3,
    "Stable Diffusion 1.5": lambda folder: pipelines.stable_diffusion(
        folder, pipelines.clips(text_encoders.clip(folder), False)
    ),
    "SDXL": lambda folder: pipelines.stable_diffusion_xl(
        folder, pipelines.clips(text_encoders.clip(folder), False, True)
    ),
    "PixArt": lambda _: pipelines.pixart(texts=pipelines.t5("", 16, LENGTH)),
    "Qwen-Image": lambda _: pipelines.qwen_image(texts=decoding(text_encoders.qwen())),
    "Z-Image": lambda _: pipelines.z_image(texts=decoding(text_encoders.qwen())),
}
"""With text encoders as deep as the pipelines ask for, and tokenizers of more words than those of ``pipelines``."""
JOINT = ["FLUX.1", "FLUX.2", "FLUX.2 Klein", "Stable Diffusion 3", "Qwen-Image", "Z-Image"]
ALONE: dict[str, dict[str, Any]] = {
    "FLUX.1": {"max_sequence_length": 24},
    "FLUX.2": {"max_sequence_length": 512, "guidance_scale": 1.0},
    "FLUX.2 Klein": {"max_sequence_length": 40, "guidance_scale": 1.0},
    "Stable Diffusion 3": {"max_sequence_length": 24, "guidance_scale": 1.0},
    "Stable Diffusion 1.5": {"guidance_scale": 1.0},
    "SDXL": {"guidance_scale": 1.0},
    "PixArt": {
        "max_sequence_length": 24,
        "guidance_scale": 1.0,
        "use_resolution_binning": False,
        "clean_caption": False,
    },
    "Qwen-Image": {"true_cfg_scale": 1.0},
    "Z-Image": {"guidance_scale": 0.0},
}
"""Options of a call without guidance."""


def pipeline(name: str, folder: Path) -> Any:
    """Skips where the installed diffusers is older than the family."""
    return BUILD[name](folder)


def run(pipe: Any, name: str, prompt: str, **more: Any) -> Any:
    """One step without guidance."""
    torch.manual_seed(7)
    size = {"width": 64, "height": 32} if name == "Qwen-Image" else SIZE
    options = {"num_inference_steps": 1, "output_type": "latent"} | size | ALONE[name] | more
    return pipe(prompt=prompt, generator=torch.Generator().manual_seed(3), **options)


@contextmanager
def heard(pipe: Any) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Numbers of the tokens that text encoders are given meanwhile, in order, with their masks (ones without)."""
    given: list[tuple[list[int], list[int]]] = []

    def hear(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        mask = kwargs.get("attention_mask")
        given.append((ids[0].tolist(), (torch.ones_like(ids) if mask is None else mask)[0].int().tolist()))

    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    encoders = [found for name in names if (found := getattr(pipe, name, None)) is not None]
    hooks = [encoder.register_forward_pre_hook(hear, with_kwargs=True) for encoder in encoders]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def told_apart(pipe: Any) -> Any:
    """The pipeline with four layers in which the text changes the picture, and the picture the text, by much.

    Random weights of their usual size hardly move tokens: a stream that sees another picture would look the same.
    """
    denoiser = pipe.transformer
    layers = {"num_layers": 2, "num_single_layers": 2} if "num_single_layers" in denoiser.config else {"num_layers": 4}
    torch.manual_seed(0)
    pipe.transformer = type(denoiser).from_config({**denoiser.config, **layers}).eval()
    # what attention and single blocks give, and the gates that let it in
    strong = {"context_embedder", "to_add_out", "to_out", "proj_out", "linear"}
    with torch.no_grad():
        for name, weight in pipe.transformer.named_parameters():
            if name.endswith("weight") and not strong.isdisjoint(name.split(".")):
                weight *= 8
    return pipe

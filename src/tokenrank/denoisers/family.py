"""Families of pipelines: what each one's denoiser is given, and what its latents are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import InputError

_OF_VIDEO = re.compile(r"3D|Motion|SpatioTemporal|Video")  # in the class of a denoiser


@dataclass(frozen=True)
class Family:
    """What is known of the pipelines that share a kind of denoiser.

    Attributes:
        name: as people say it: "FLUX.1", "SDXL".
        attention: "joint" where picture and words attend to each other in one sequence, "cross" where the picture
            attends to itself and to the words apart.
        pipelines: class of a pipeline → class of the one that makes a picture of a text, with the same parts.
        form: of the latents that the denoiser is given: "grid" (1, C, h, w), "packed" (1, h · w / 4, 4 · C) with the
            four latents of a 2 × 2 cell after each other, channel by channel, or "listed", one (C, 1, h, w) a sample.
        latents, timestep: names of these arguments of the denoiser.
        time: how the denoiser is told the scheduler's timestep t: "steps" for t, "share" for t / 1000, "signal" for
            (1000 − t) / 1000.
        alone: arguments of the pipeline's call that leave out guidance, and all that would change the size.
        reader: the tokenizer that ``max_sequence_length`` of the call is about.
    """

    name: str
    attention: Literal["joint", "cross"]
    pipelines: Mapping[str, str]
    form: Literal["grid", "packed", "listed"] = "grid"
    latents: str = "hidden_states"
    timestep: str = "timestep"
    time: Literal["steps", "share", "signal"] = "steps"
    alone: Mapping[str, Any] = field(default_factory=dict)
    reader: str = "tokenizer"

    def told(self, timestep: Tensor) -> Tensor:
        """What the denoiser is given as the scheduler's ``timestep``."""
        if self.time == "steps":
            return timestep
        return timestep / 1000 if self.time == "share" else (1000 - timestep) / 1000

    def timestep_of(self, told: float | Tensor) -> float:
        """The scheduler's timestep behind what the denoiser was told, of the first sample: ``told`` undone."""
        time = float(told.flatten()[0]) if isinstance(told, Tensor) else float(told)
        return time if self.time == "steps" else 1000 * time if self.time == "share" else 1000 * (1 - time)

    @property
    def sign(self) -> float:
        """By which an output is multiplied to be what the scheduler is given.

        Z-Image predicts clean − noise, which its pipeline turns; all others what the scheduler takes.
        """
        return -1.0 if self.time == "signal" else 1.0


def _variants(*stems: str, of: tuple[str, ...] = ("", "Img2Img", "Inpaint")) -> dict[str, str]:
    return {f"{stem}{kind}Pipeline": f"{stem}Pipeline" for stem in stems for kind in of}


_UNGUIDED = {"guidance_scale": 1.0}
FAMILIES = (
    Family(
        "FLUX.1",
        "joint",
        _variants("Flux"),
        "packed",
        time="share",
        alone={"true_cfg_scale": 1.0},
        reader="tokenizer_2",
    ),
    Family("FLUX.2", "joint", _variants("Flux2", of=("",)), "packed", time="share"),
    Family(
        "FLUX.2 klein", "joint", _variants("Flux2Klein", of=("", "Inpaint")), "packed", time="share", alone=_UNGUIDED
    ),
    Family("Stable Diffusion 3", "joint", _variants("StableDiffusion3"), alone=_UNGUIDED, reader="tokenizer_3"),
    Family("Qwen-Image", "joint", _variants("QwenImage"), "packed", time="share", alone={"true_cfg_scale": 1.0}),
    Family("Z-Image", "joint", _variants("ZImage"), "listed", "x", "t", "signal", {"guidance_scale": 0.0}),
    Family("Stable Diffusion 1 and 2", "cross", _variants("StableDiffusion"), latents="sample", alone=_UNGUIDED),
    Family("SDXL", "cross", _variants("StableDiffusionXL"), latents="sample", alone=_UNGUIDED),
    Family(
        "PixArt",
        "cross",
        _variants("PixArtAlpha", "PixArtSigma", of=("",)),
        alone=_UNGUIDED | {"use_resolution_binning": False, "clean_caption": False},
    ),
)
"""All that is known; what a pipeline's class is called decides."""


def family_of(pipe: Any) -> Family:
    """The family of a pipeline of diffusers.

    Raises:
        InputError: a video model, named as such, or a pipeline of no known family; the message lists these.
    """
    names = [c.__name__ for c in type(pipe).__mro__]
    for family in FAMILIES:
        if any(name in family.pipelines for name in names):
            return family
    denoiser = getattr(pipe, "transformer", None)
    denoiser = getattr(pipe, "unet", None) if denoiser is None else denoiser
    known = ", ".join(family.name for family in FAMILIES)
    supported = f"supported are pipelines from text to picture, from picture to picture and for inpainting of {known}"
    if denoiser is None:
        raise InputError(f"a {names[0]} is no pipeline with a denoiser (transformer or unet); {supported}")
    if _OF_VIDEO.search(names[0]) or _OF_VIDEO.search(type(denoiser).__name__):
        raise InputError(
            f"{names[0]} makes videos ({type(denoiser).__name__}), expected a pipeline of single pictures; "
            f"{supported}. Its attention can be recorded: tr.capture(pipe)"
        )
    raise InputError(
        f"{names[0]} is of no family whose passes are known; {supported}. Its attention can be recorded: "
        "tr.capture(pipe)"
    )


_OF_DENOISER = {
    "FluxTransformer2DModel": "FLUX.1",
    "Flux2Transformer2DModel": "FLUX.2",
    "SD3Transformer2DModel": "Stable Diffusion 3",
    "QwenImageTransformer2DModel": "Qwen-Image",
    "ZImageTransformer2DModel": "Z-Image",
    "PixArtTransformer2DModel": "PixArt",
    "UNet2DConditionModel": "Stable Diffusion 1 and 2",  # and SDXL, whose denoiser is given the same
}


def family_of_denoiser(denoiser: nn.Module) -> Family:
    """The family whose conventions a UNet or transformer of diffusers follows, whatever its pipeline.

    Raises:
        InputError: none that is known; the message lists these.
    """
    for kind in type(getattr(denoiser, "_orig_mod", denoiser)).__mro__:
        if kind.__name__ in _OF_DENOISER:
            return next(family for family in FAMILIES if family.name == _OF_DENOISER[kind.__name__])
    raise InputError(
        f"a {type(denoiser).__name__} cannot be guided, expected one of {', '.join(_OF_DENOISER)}; those of videos are "
        "not supported"
    )


def text_to_image_class(pipe: Any, family: Family) -> str:
    """Name of the class that makes pictures of texts with the parts of ``pipe``."""
    return next(family.pipelines[c.__name__] for c in type(pipe).__mro__ if c.__name__ in family.pipelines)

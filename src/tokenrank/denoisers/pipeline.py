"""A pipeline of diffusers: its denoiser, its sizes, and what keeps its attention from being seen."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import PIL.Image
from torch import nn

from ..errors import InputError, require
from .family import Family, text_to_image_class

_OF_CROSS = 8  # pixels that sides are multiples of in all pipelines with cross-attention, whatever their autoencoder
_SEEN = ("native", "_native", "flex")  # backends whose calls PyTorch itself serves


def is_pipeline(value: Any) -> bool:
    """Whether something is a pipeline of diffusers, classic or modular; imports nothing."""
    return any(c.__name__ in ("DiffusionPipeline", "ModularPipeline") for c in type(value).__mro__)


def denoiser_of(pipe: Any) -> nn.Module:
    """The transformer or UNet of a pipeline, without the wrapper that ``torch.compile`` puts around it.

    Raises:
        InputError: it has none.
    """
    for name in ("transformer", "unet"):
        module = getattr(pipe, name, None)
        if isinstance(module, nn.Module):
            inner = getattr(module, "_orig_mod", module)
            assert isinstance(inner, nn.Module)
            return inner
    raise InputError(f"a {type(pipe).__name__} has no transformer and no unet, expected a pipeline of diffusers")


def denoiser_name(pipe: Any) -> str:
    """What the pipeline calls its denoiser: "transformer" or "unet"."""
    return "transformer" if isinstance(getattr(pipe, "transformer", None), nn.Module) else "unet"


def check_visible(pipe: Any) -> None:
    """Raise where the denoiser attends by kernels that PyTorch does not see.

    Raises:
        InputError: such an attention backend; the message has the cure.
    """
    for module in denoiser_of(pipe).modules():
        backend = getattr(getattr(module, "processor", None), "_attention_backend", None)
        if backend is None:
            continue
        name = str(getattr(backend, "value", backend))
        if not name.startswith(_SEEN):
            place = denoiser_name(pipe)
            raise InputError(
                f"the {place} attends by the backend {name!r}, whose kernels hide queries and keys; call "
                f"pipe.{place}.set_attention_backend('native') first"
            )


def text_to_image(pipe: Any, family: Family) -> Any:
    """A pipeline from text to picture that shares the parts of ``pipe``; what it does leaves ``pipe`` as it was.

    The scheduler, which keeps a state, is a copy.
    """
    scheduler = copy.deepcopy(pipe.scheduler)
    name = text_to_image_class(pipe, family)
    if any(c.__name__ == name for c in type(pipe).__mro__):
        twin = copy.copy(pipe)
        twin.scheduler = scheduler
    else:
        made = getattr(require("diffusers", "diffusers"), name)
        options = inspect.signature(made.__init__).parameters
        parts = {key: value for key, value in pipe.components.items() if key in options}
        settings = {key: value for key, value in dict(pipe.config).items() if key in options and key not in parts}
        twin = made(**parts | settings | {"scheduler": scheduler})
        for key, value in vars(pipe).items():  # what was set on the pipeline itself, such as a template of prompts
            if isinstance(value, str | int | float | tuple) and isinstance(vars(twin).get(key), type(value)):
                setattr(twin, key, value)
    twin.set_progress_bar_config(disable=True)
    return twin


def cell(pipe: Any, family: Family) -> int:
    """Pixels of a side that become one token, or for a UNet one latent: sides of pictures are multiples of it."""
    config = denoiser_of(pipe).config
    if family.form != "grid":
        return int(pipe.vae_scale_factor) * 2  # two by two latents are packed, or embedded, as one
    side = int(pipe.vae_scale_factor) * int(getattr(config, "patch_size", None) or 1)
    return side if family.attention == "joint" else math.lcm(side, _OF_CROSS)


def size_for(pipe: Any, family: Family, picture: PIL.Image.Image, size: int | None) -> tuple[int, int]:
    """(height, width) in pixels at which a picture is looked at, of nearly its own proportions.

    Args:
        size: the long side; where None the picture's own, reduced where its area is beyond the pipeline's default.

    Raises:
        InputError: a long side that is no multiple of what one token covers.
    """
    step = cell(pipe, family)
    long = max(picture.size)
    if size is None:
        most = getattr(pipe, "default_sample_size", None) or getattr(denoiser_of(pipe).config, "sample_size", None)
        side = max(most) if isinstance(most, list | tuple) else most or 1024 // int(pipe.vae_scale_factor)
        area = (side * int(pipe.vae_scale_factor)) ** 2
        shrink = min(1.0, (area / (picture.width * picture.height)) ** 0.5)
        return _rounded(picture.height * shrink, step), _rounded(picture.width * shrink, step)
    if size % step:
        below = size // step * step
        near = f"{below} or {below + step}" if below else f"{step}"
        raise InputError(
            f"size = {size} is no multiple of {step}, the pixels that a token of {family.name} covers here; take {near}"
        )
    return _rounded(picture.height * size / long, step), _rounded(picture.width * size / long, step)


def _rounded(pixels: float, step: int) -> int:
    return max(1, round(pixels / step)) * step

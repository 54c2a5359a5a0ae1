"""A picture of a prompt, by a pipeline as it is: arguments in one grammar for all families."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import PIL.Image
import torch

from ..errors import InputError
from .decode import decoded
from .family import family_of
from .look import shorter_text
from .pipeline import cell
from .preview import Preview

Watch = Callable[[int, "PIL.Image.Image | None"], None]
"""Is told after each step which it was, from 0, and the picture that the sampler is heading for, where it is due."""


def generate(
    pipe: Any,
    prompt: str,
    *,
    seed: int = 0,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    cfg: float | None = None,
    negative: str | None = None,
    watch: Watch | None = None,
    every: int = 0,
) -> PIL.Image.Image:
    """One picture; the same seed is the same noise on every machine.

    Args:
        pipe: a pipeline of a known family.
        prompt: what to draw.
        seed: of the noise, drawn on the CPU.
        steps: of the sampler; the pipeline's default where None.
        size: (height, width) in pixels; the pipeline's default where None.
        cfg: scale of classifier-free guidance, 1 for none; the pipeline's default where None.
        negative: what not to draw, where there is classifier-free guidance.
        watch: see ``Watch``.
        every: a picture is due after every so many steps; never where 0.

    Raises:
        InputError: an unknown family, or arguments that this pipeline does not take.
    """
    family = family_of(pipe)
    known = inspect.signature(pipe.__call__).parameters
    call: dict[str, Any] = {"prompt": prompt, "generator": torch.Generator().manual_seed(seed)}
    call |= shorter_text(pipe, known)
    call |= {"num_inference_steps": steps} if steps is not None else {}
    call |= _size(pipe, family.name, size) | _guidance(known, family.name, cfg, negative)
    if watch is not None and "callback_on_step_end" in known:
        call["callback_on_step_end"] = _watching(pipe, watch, every, size)
    try:
        made = pipe(**call, output_type="pil")
    except ValueError as error:
        raise InputError(f"{type(pipe).__name__} refuses the call: {error}") from error
    picture: PIL.Image.Image = made.images[0]
    return picture


def _size(pipe: Any, name: str, size: tuple[int, int] | None) -> dict[str, int]:
    if size is None:
        return {}
    step = cell(pipe, family_of(pipe))
    if any(side < step or side % step for side in size):
        near = " x ".join(str(max(1, round(side / step)) * step) for side in reversed(size))
        raise InputError(
            f"size = {size[1]} x {size[0]} pixels, but a token of {name} covers {step}, so that both sides are "
            f"multiples of it here; take {near}"
        )
    return {"height": size[0], "width": size[1]}


def _guidance(known: Any, name: str, cfg: float | None, negative: str | None) -> dict[str, Any]:
    """The arguments that this pipeline has for classifier-free guidance."""
    if cfg is None and negative is None:
        return {}
    scale = "true_cfg_scale" if "true_cfg_scale" in known else "guidance_scale"
    if "negative_prompt" not in known:
        raise InputError(
            f"{name} has no classifier-free guidance (its guidance_scale is an input of the network); leave out the "
            "scale and the negative prompt"
        )
    given: dict[str, Any] = {} if cfg is None else {scale: cfg}
    guided = cfg is None or cfg > 1
    return given | ({"negative_prompt": negative or ""} if guided else {})


def _watching(pipe: Any, watch: Watch, every: int, size: tuple[int, int] | None) -> Callable[..., dict[str, Any]]:
    """What a pipeline calls after each step."""
    family, preview = family_of(pipe), Preview(pipe.scheduler)

    def after(_: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        clean = preview.after(step, state["latents"]) if every else None
        due = clean is not None and (step + 1) % every == 0
        picture = decoded(pipe, family, clean, *_pixels(pipe, clean, size))[0] if due and clean is not None else None
        watch(step, picture)
        return {}

    return after


def _pixels(pipe: Any, latents: torch.Tensor, size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the picture of some latents."""
    if size is not None:
        return size
    factor = int(pipe.vae_scale_factor)
    if latents.ndim == 4:
        return latents.shape[-2] * factor, latents.shape[-1] * factor
    side = round(latents.shape[1] ** 0.5) * 2 * factor  # pipelines' own sizes are squares
    return side, side

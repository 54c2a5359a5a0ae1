"""The pipeline that runs: which one it is, how it guides, and what it was asked for, read off its own call.

Pipelines of diffusers tell their denoiser nothing of classifier-free guidance. What ``pipe(…)`` does with it stands in
the variables of its ``__call__``, on the Python stack below the denoiser; these are read and never written.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from torch import nn

from ...denoisers.family import Family
from ...errors import CaptureError, InputError

_TWO_CALLS = ("FLUX.1", "FLUX.2", "Qwen-Image")
_PROMPT_FIRST = ("Z-Image",)


@dataclass(frozen=True)
class Call:
    """One call of the denoiser, as part of classifier-free guidance.

    Attributes:
        guidance: "halves" where both branches are in the batch, "two" where each has a call, "none".
        branch: of this call: "both" for halves.
        scale: g of ``unconditional + g · (conditional - unconditional)`` of two calls.
        conditional, unconditional: samples of the batch that are of either branch.
    """

    guidance: Literal["halves", "two", "none"]
    branch: Literal["both", "conditional", "unconditional"]
    scale: float
    conditional: slice
    unconditional: slice

    def rows(self, branch: str) -> slice:
        """Samples of one branch; all where there is no guidance."""
        return self.conditional if branch == "conditional" else self.unconditional


class Running:
    """The ``__call__`` of a pipeline that is under way.

    Attributes:
        pipe: the pipeline.
        values: its variables, as of now.
    """

    def __init__(self, pipe: Any, values: Mapping[str, Any]) -> None:
        self.pipe, self.values = pipe, values

    @classmethod
    def now(cls, denoiser: nn.Module) -> Running:
        """The innermost call of a pipeline with this denoiser on this thread's stack.

        Raises:
            CaptureError: the denoiser runs in no pipeline.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == "__call__" and frame.f_code.co_varnames[:1] == ("self",):
                values = frame.f_locals
                pipe = values.get("self")
                if not isinstance(pipe, nn.Module) and _has(pipe, denoiser):
                    return cls(pipe, dict(values))
            frame = frame.f_back
        raise CaptureError(
            f"{type(denoiser).__name__} ran outside of its pipeline, whose call says how it is guided; expected "
            "pipe(…) inside of the block. In a loop of your own use tr.tasks.Guider, or capture outside of the block"
        )

    def call(self, family: Family, samples: int, second: bool) -> Call:
        """What the call of the denoiser that runs is to classifier-free guidance.

        Args:
            family: of the pipeline.
            samples: in the batch of the denoiser.
            second: whether the call before was given the same latents at the same timestep.

        Raises:
            InputError: a batch that is neither once nor twice the pipeline's own.
        """
        everything = slice(0, samples)
        scale = self._scale(family)
        if family.name in _TWO_CALLS:
            if scale is None:
                return Call("none", "conditional", 1.0, everything, everything)
            branch: Literal["conditional", "unconditional"] = "unconditional" if second else "conditional"
            return Call("two", branch, scale, everything, everything)
        own = self._samples()
        if samples == own or (own is None and scale is None):
            return Call("none", "conditional", 1.0, everything, everything)
        if scale is not None and (own is None or samples == 2 * own) and samples % 2 == 0:
            first, last = slice(0, samples // 2), slice(samples // 2, samples)
            prompt, none = (first, last) if family.name in _PROMPT_FIRST else (last, first)
            return Call("halves", "both", scale, prompt, none)
        raise InputError(
            f"{type(self.pipe).__name__} gives its denoiser {samples} samples for {own} latents, expected as many, or "
            "twice as many for classifier-free guidance; a pipeline with another guidance in it cannot be guided again"
        )

    @property
    def rescales(self) -> str | None:
        """What the pipeline does to the guided prediction that is not linear, in words; None where nothing."""
        rescale = getattr(self.pipe, "guidance_rescale", None)
        rescale = self.values.get("guidance_rescale", 0.0) if rescale is None else rescale
        if isinstance(rescale, int | float) and rescale > 0:
            return f"guidance_rescale = {rescale:g}"
        if getattr(self.pipe, "_cfg_normalization", False):
            return "cfg_normalization"
        if type(self.pipe).__name__.startswith("QwenImage") and self.values.get("do_true_cfg"):
            return "the norm that Qwen-Image gives the guided prediction"
        return None

    @property
    def prompt(self) -> list[str] | None:
        """The prompts, one a picture's text; None where only their embeddings were given."""
        prompt = self.values.get("prompt")
        if isinstance(prompt, str):
            return [prompt]
        return [str(p) for p in prompt] if isinstance(prompt, list | tuple) and prompt else None

    def _scale(self, family: Family) -> float | None:
        """g of classifier-free guidance; None where there is none."""
        if "do_true_cfg" in self.values:
            return float(self.values["true_cfg_scale"]) if self.values["do_true_cfg"] else None
        told = self.values.get("apply_cfg", self.values.get("do_classifier_free_guidance"))
        told = getattr(self.pipe, "do_classifier_free_guidance", None) if told is None else told
        if not told:
            return None
        scale = getattr(self.pipe, "guidance_scale", None)
        scale = self.values.get("guidance_scale") if scale is None else scale
        return float(scale) if isinstance(scale, int | float) else 1.0

    def _samples(self) -> int | None:
        latents = self.values.get("latents")
        return None if latents is None else len(latents)


def _has(pipe: Any, denoiser: nn.Module) -> bool:
    for name in ("transformer", "unet"):
        module = getattr(pipe, name, None)
        if module is denoiser or getattr(module, "_orig_mod", None) is denoiser:
            return True
    return False

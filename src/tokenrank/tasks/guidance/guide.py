"""``guide``: self-attention guidance in an untouched pipeline, for as long as a block lasts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from ...denoisers.family import Family, family_of, family_of_denoiser
from ...denoisers.pipeline import check_visible, denoiser_of
from ...errors import CaptureError, InputError, TokenRankWarning
from ...models import Model
from ...recording import uncompiled
from .blur import KERNEL
from .engine import Engine, GuidanceHook
from .layers import layers_of
from .settings import Heads, Settings


class Guidance:
    """What guidance did.

    Attributes:
        settings: what was asked for.
        layers: names of the attention layers that make the mask, or are perturbed.
    """

    def __init__(self, settings: Settings, layers: tuple[str, ...], engine: Engine) -> None:
        self.settings, self.layers, self._engine = settings, layers, engine

    @property
    def masks(self) -> list[Tensor]:
        """Of every guided step of the last run, in order: (B, 1, rows, columns) bool, on the CPU; for "blur" alone.

        (B, 1, 1, 1) for "all".
        """
        return self._engine.masks

    @property
    def shares(self) -> list[float]:
        """Share of the picture that each of ``masks`` covers, mean over the batch."""
        return self._engine.shares

    @property
    def passes(self) -> int:
        """How often the denoiser ran for guidance alone, in all runs of the block."""
        return self._engine.passes

    def __repr__(self) -> str:
        asked = self.settings
        how = f"blur by {asked.mask}" if asked.kind == "blur" else asked.kind
        return f"Guidance({how}, scale {asked.scale:g}, {', '.join(self.layers)}; {self.passes} passes)"


@contextmanager
def guide(
    pipe: Any,
    kind: str = "blur",
    *,
    mask: str = "tokenrank",
    scale: float = 0.75,
    layers: str | Sequence[str] | None = None,
    heads: Heads = None,
    start: float = 0.0,
    stop: float = 1.0,
    sigma: float | None = None,
    kernel: int = KERNEL,
    base: str | None = None,
    seed: int = 0,
) -> Iterator[Guidance]:
    """Guide what a pipeline of diffusers generates by its own attention; the pipeline is not changed.

    ::

        with tr.tasks.guide(pipe, mask="tokenrank") as guidance:
            picture = pipe("a cat on a sofa").images[0]

    The denoiser runs once more at every step, on degraded terms, and s · (prediction - degraded prediction) is added to
    what the sampler gets. Works with and without classifier-free guidance, with any sampler of ``level_of``, with
    several pictures a prompt, from pictures, inside masks and with ControlNet. ``torch.compile`` is set aside for as
    long as the block lasts. Who captures the pipeline meanwhile sees its own passes and not those of guidance.

    Args:
        pipe: of diffusers, or a model that ``tr.load`` made of one: FLUX.1, FLUX.2, Stable Diffusion 1 to 3, SDXL,
            Qwen-Image, Z-Image, PixArt.
        kind: "blur": the clean picture that a prediction implies is blurred where the mask is and noised again
            (Self-Attention Guidance, 2210.00939); "identity": tokens of the picture see no other ones
            (Perturbed-Attention Guidance, 2403.17377); "smooth": their queries are blurred (Smoothed Energy Guidance,
            2408.00760); "shuffle": their queries change places (Token Perturbation Guidance, 2506.10036).
        mask: where "blur" degrades: "colsum" (as published: attended to more than evenly), "tokenrank" (N · π above 1),
            "bounce" (the same after two bounces), "all", "random" (as many tokens as "tokenrank", drawn anew at every
            step; "random:colsum" as many as that), "word:dog" (what attends to a word of the prompt).
        scale: s.
        layers: attention layers by name or glob: whose attention makes the mask (one grid), or which are perturbed. By
            default the first self-attention of a UNet's mid block, the middle layer of a transformer.
        heads: which to perturb: numbers, or a share of each layer in (0, 1), those of largest |λ2| at the first guided
            step; all by default.
        start, stop: part of the scheduler's timesteps in which guidance acts, in shares of one.
        sigma: of the blur in cells: 1 for "blur", infinite for "smooth" by default.
        kernel: its width in cells for "blur", odd.
        base: "conditional" or "unconditional" prediction of classifier-free guidance to compare with; by default the
            unconditional one for "blur" (eq. 25 of the paper), the conditional one otherwise.
        seed: of "random" and "shuffle"; every run of the pipeline begins with it.

    Yields:
        ``Guidance``, with the masks of the last run.

    Raises:
        InputError: an unknown kind or mask, a pipeline of videos or of no known family, an attention backend that hides
            attention, a cache of hidden states.
        NotFoundError: no such layer; a word that is not in the prompt.
        CaptureError: the pipeline was not called in the block.

    Warns:
        TokenRankWarning: a compiled pipeline, which runs uncompiled; one that rescales its guided prediction, with
            which guidance is inexact; no step that was guided.
    """
    if isinstance(pipe, Model) and pipe.pipeline is not None:
        pipe = pipe.pipeline
    settings = Settings(kind, mask, scale, layers, heads, start, stop, sigma, kernel, base, seed)
    family, denoiser = family_to_guide(pipe)
    _check(pipe, denoiser)
    names = layers_of(denoiser, layers)
    engine = Engine(denoiser, family, settings, names)
    with uncompiled():
        try:
            engine.begin()
            yield Guidance(settings, names, engine)
        finally:
            engine.end()
    if not engine.calls:
        raise CaptureError(f"{type(pipe).__name__} was not called inside of the block; expected pipe(…) in it")
    if not engine.passes:
        warnings.warn(
            f"no step was guided: start = {start:g}, stop = {stop:g} of {engine.calls} calls of the denoiser; take a "
            "larger part of the run, or more steps",
            TokenRankWarning,
            stacklevel=3,
        )


def family_to_guide(pipe: Any) -> tuple[Family, nn.Module]:
    """The family whose conventions a pipeline's denoiser follows, and that denoiser.

    ControlNets and other variants share the denoiser of their family, which is what counts here.

    Raises:
        InputError: a pipeline of videos, or of no known family.
    """
    if not isinstance(pipe, nn.Module):
        module = getattr(pipe, "transformer", None)  # no "or": a compiled module may have no truth value
        module = getattr(pipe, "unet", None) if module is None else module
        if isinstance(module, nn.Module) and hasattr(pipe, "scheduler"):
            with suppress(InputError):  # ``family_of`` says more of what is not known
                return family_of_denoiser(module), denoiser_of(pipe)
    return family_of(pipe), denoiser_of(pipe)


def _check(pipe: Any, denoiser: nn.Module) -> None:
    check_visible(pipe)
    if any(isinstance(hook, GuidanceHook) for hook in denoiser._forward_hooks.values()):
        raise InputError(f"this {type(pipe).__name__} is guided already; expected one guidance at a time")
    if getattr(denoiser, "is_cache_enabled", False):
        raise InputError(
            f"{type(denoiser).__name__} keeps a cache of hidden states between steps, which a second pass would spoil; "
            "call its disable_cache() first"
        )
    compiled = [module for module in denoiser.modules() if getattr(module, "_compiled_call_impl", None) is not None]
    if compiled or any(hasattr(getattr(pipe, name, None), "_orig_mod") for name in ("transformer", "unet")):
        warnings.warn(
            f"the denoiser of {type(pipe).__name__} is compiled; it runs uncompiled while it is guided",
            TokenRankWarning,
            stacklevel=4,
        )

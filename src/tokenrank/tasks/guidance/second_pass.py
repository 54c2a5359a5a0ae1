"""The pass that guidance compares with, for loops that run one pass after the other.

Who calls the denoiser is not known here. A pass of the loop's own is watched: its attention says where to blur, or
which heads to perturb, and what it was given and predicted is kept. The degraded pass is then given other latents, or
its attention is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...denoisers.family import Family
from ...denoisers.schedule import level_of, prediction_of
from ...errors import CaptureError, InputError
from ...recording import acting, paused, uncompiled
from .blur import degraded
from .by_layer import ByLayer
from .heads import chosen_heads
from .latents import Latents, Raw, count_of, prediction_in
from .layer_attention import Look, mask_of_layers, towards
from .layers import Place, beside, layers_of, place_of, place_of_text
from .one_call import Given, by_name
from .perturb import Perturbation
from .settings import Settings


class SecondPass:
    """Second passes of one denoiser in one generation.

    Args:
        settings: what is asked for.
        denoiser: a UNet or transformer of diffusers.
        family: of its pipeline.
        scheduler: of its pipeline; for ``kind="blur"`` alone.
        tokens: places of the word among the text tokens, for a mask "word:…" alone.

    Attributes:
        mask: of the step, (B, 1, rows, columns) bool, tokens of the picture; None for kinds without.

    Raises:
        InputError: no scheduler or no tokens where they are needed, or no attention over pictures.
        NotFoundError: layers that the denoiser does not have.
    """

    def __init__(
        self,
        settings: Settings,
        denoiser: nn.Module,
        family: Family,
        scheduler: Any = None,
        tokens: Sequence[int] | None = None,
    ) -> None:
        if settings.kind == "blur" and scheduler is None:
            raise InputError(
                "kind 'blur' needs the noise schedule, which a guider is not told; guider.attach(pipe.scheduler)"
            )
        if settings.word is not None and not tokens:
            raise InputError(
                f"mask 'word:{settings.word}' needs the places of the word among the text tokens: a guider is not told "
                "the prompt; guider.attach(pipe.scheduler, tokens=(3, 4))"
            )
        self.denoiser = denoiser
        self._settings, self._family, self._scheduler = settings, family, scheduler
        self._layers, self._tokens = layers_of(denoiser, settings.layers), list(tokens or ())
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._looks: dict[str, Look] = {}
        self._heads: dict[str, tuple[int, ...] | None] | None = None
        self._acts: dict[str, Perturbation] = {}
        self._inputs: dict[str, Any] = {}
        self._latents: Latents | None = None
        self._output: Raw | None = None
        self.mask: Tensor | None = None

    @contextmanager
    def watched(self, looks: bool) -> Iterator[None]:
        """A block around a pass of the loop's own.

        Args:
            looks: whether the attention of this pass is what guidance goes by; it runs untouched.
        """
        self._looks = {}
        with ExitStack() as stack:
            stack.enter_context(uncompiled())
            if looks and self._needs_look():
                crossed = [beside(self.denoiser, name) for name in self._layers] if self._settings.word else []
                self._looks = {name: Look() for name in self._layers}
                self._looks |= {name: Look(square=False) for name in crossed if name is not None}
                stack.enter_context(acting(self.denoiser, ByLayer(self._looks)))
            yield

    def ran(self, base: bool, given: Given, output: Any) -> None:
        """Take note of what a pass of the loop's own was given and what it returned.

        Args:
            base: whether it is the one that the degraded pass is compared with.
        """
        inputs, prediction = by_name(self.denoiser, given), prediction_in(output)
        self._inputs, self._latents = inputs, Latents(self.denoiser, self._family, inputs, prediction)
        if self._looks:
            with paused():
                self._see(count_of(prediction))
        if base:
            self._output = prediction

    def change(self, timestep: float | Tensor) -> Callable[[Given], Given] | None:
        """What the arguments of the degraded pass become; None where they stay.

        Args:
            timestep: of the step, in the scheduler's unit.
        """
        if self._settings.kind != "blur":
            return None
        latents, output = self._latents, self._output
        assert latents is not None and output is not None  # noqa: PT018  a loop runs its passes in order
        if self._settings.mask == "all":
            self.mask = torch.ones(count_of(output), 1, 1, 1, dtype=torch.bool)
        assert self.mask is not None
        picture, predicted = latents.picture(latents.raw), latents.picture(output)
        with paused():
            new = degraded(
                picture, self._family.sign * predicted, self.mask.to(picture.device),
                level_of(self._scheduler, timestep), prediction_of(self._scheduler), self._settings.kernel,
                self._settings.blur_sigma,
            )  # fmt: skip
        return partial(self._replaced, new)

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """A block around the degraded pass, which no trace of a user sees, and in which attention is perturbed."""
        settings = self._settings
        with ExitStack() as stack:
            stack.enter_context(uncompiled())
            stack.enter_context(paused())
            if settings.kind != "blur":
                blur = (settings.kernel_for_queries, settings.blur_sigma)
                order, batch = partial(torch.randperm, generator=self._generator), self._batch
                heads = self._heads or {}
                self._acts = {
                    name: Perturbation(settings.kind, self._places(name), batch, heads.get(name), blur, order)
                    for name in self._layers
                }
                stack.enter_context(acting(self.denoiser, ByLayer(self._acts)))
            yield

    def felt(self, given: Given, output: Any) -> None:
        """Look back at the degraded pass.

        Raises:
            CaptureError: a layer was to be perturbed, and attention that could be was not seen in it: guidance would
                cost a pass and do nothing.
        """
        unseen = [name for name, act in self._acts.items() if not act.acted]
        if unseen:
            raise CaptureError(
                f"{unseen[0]!r} ran without attention that can be seen, so that it was not perturbed; an attention "
                "backend or processor of its own hides it: pipe.transformer.set_attention_backend('native')"
            )

    def _needs_look(self) -> bool:
        if self._settings.kind == "blur":
            return self._settings.mask != "all"
        return self._settings.heads is not None and self._heads is None

    @property
    def _batch(self) -> int:
        assert self._latents is not None
        return count_of(self._latents.raw)

    def _see(self, batch: int) -> None:
        samples, settings = slice(0, batch), self._settings
        places = {name: self._places(name)(self._looks[name].tokens) for name in self._layers}
        if settings.kind != "blur":
            self._heads = {
                name: chosen_heads(settings.heads, self._looks[name], place, samples, batch)
                for name, place in places.items()
            }
            return
        word = partial(self._word, places, samples, batch) if settings.word else None
        mask = mask_of_layers(self._looks, places, samples, batch, settings.mask, self._generator, word)
        self.mask = mask.cpu()

    def _word(self, places: Mapping[str, Place], samples: slice, batch: int, name: str) -> Tensor:
        """How much the picture attends to the word, (B, N), in a layer or in the cross-attention beside it."""
        crossed = beside(self.denoiser, name)
        look = self._looks[crossed or name]
        first, count = (0, look.tokens) if crossed else place_of_text(self.denoiser, name, look.tokens, self._inputs)
        wrong = [token for token in self._tokens if not 0 <= token < count]
        if wrong:
            raise InputError(f"tokens = {wrong} of a word, but the denoiser sees {count} of text, numbered from 0")
        tokens = [first + token for token in self._tokens]
        return towards(look, None if crossed else places[name], samples, batch, tokens)

    def _places(self, name: str) -> Callable[[int], Place]:
        assert self._latents is not None
        return partial(_place, self.denoiser, name, self._inputs, self._latents.size)

    def _replaced(self, picture: Tensor, given: Given) -> Given:
        assert self._latents is not None
        inputs, name = by_name(self.denoiser, given), self._family.latents
        return (), {**inputs, name: self._latents.replaced(inputs[name], picture)}


def _place(
    denoiser: nn.Module, name: str, inputs: dict[str, Any], size: tuple[int, int] | None, tokens: int
) -> Place:  # fmt: skip
    return place_of(denoiser, name, tokens, inputs, size)

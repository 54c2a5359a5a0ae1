"""Guidance by attention as a guider of diffusers' modular pipelines.

Modular pipelines run their passes one after the other, so that a later pass can use what an earlier one attended to and
predicted. Of diffusers only what is public is used: guiders are experimental since they were introduced, and the
helpers of their base class have changed.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...denoisers.family import family_of_denoiser
from ...errors import InputError
from .blur import KERNEL
from .diffusers_version import require_guiders
from .one_call import OneCall
from .second_pass import SecondPass
from .settings import Heads, Settings

require_guiders()

from diffusers.configuration_utils import register_to_config  # noqa: E402
from diffusers.guiders import BaseGuidance  # noqa: E402
from diffusers.modular_pipelines import BlockState  # noqa: E402
from diffusers.utils import BaseOutput  # noqa: E402

_COND, _UNCOND, _DEGRADED = "pred_cond", "pred_uncond", "pred_degraded"


class Guided(BaseOutput):  # type: ignore[misc]  # diffusers has no types
    """What a guider makes of the passes of one step, under the names that diffusers' loops read."""

    pred: Tensor
    pred_cond: Tensor | None = None
    pred_uncond: Tensor | None = None


@dataclass(frozen=True)
class _Pass:
    """One call of the denoiser in a step.

    Attributes:
        name: of what it predicts.
        branch: place in a pair of conditional and unconditional inputs.
        base: whether the degraded pass is compared with it.
        looks: whether its attention is what guidance goes by.
        degraded: whether it is the degraded pass.
    """

    name: str
    branch: int
    base: bool = False
    looks: bool = False
    degraded: bool = False


class Guider(BaseGuidance):  # type: ignore[misc]
    """Guidance away from a pass that sees worse, for modular pipelines of diffusers (0.36 or newer).

    The same guidance as ``guide``, by the same words, and classifier-free guidance beside it. With ε_base the
    unconditional pass for ``kind="blur"`` and the conditional one for the others (the only one without classifier-free
    guidance),

        ε = ε_uncond + guidance_scale · (ε_cond − ε_uncond) + scale · (ε_base − ε_degraded).

    ::

        guider = tr.tasks.Guider(mask="tokenrank", scale=0.75).attach(pipe.scheduler)
        pipe.update_components(guider=guider)

    It costs one pass more in each step that it is active in. Passes of guidance are in no trace of yours. Where a step
    ends early, by an error or by an interruption, denoiser and attention are as before. A compiled denoiser runs
    uncompiled in guided steps.

    Args:
        guidance_scale: g of classifier-free guidance; 1 for none, with which there is no unconditional pass.
        kind, mask, scale, layers, heads, sigma, kernel, base, seed: see ``guide``.
        start, stop: part of the steps with a degraded pass, in shares of one; classifier-free guidance goes on.
        enabled: False for the conditional pass alone, as diffusers' guiders have it.

    Raises:
        MissingExtraError: when it is imported, without diffusers 0.36 or newer.
        InputError: an unknown kind or mask, or a number out of its range; in a step, a denoiser that cannot be guided,
            no scheduler attached, or no inputs without a prompt for classifier-free guidance.
        NotFoundError: in a step: layers that the denoiser does not have.
        CaptureError: in a step: attention that is hidden in a layer that guidance needs.
    """

    _input_predictions = [_COND, _UNCOND, _DEGRADED]  # noqa: RUF012  as diffusers declares it
    _identifier_key = "__guidance_identifier__"  # some loops name a cache by it

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        guidance_scale: float = 7.5,
        kind: str = "blur",
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
        enabled: bool = True,
    ) -> None:
        super().__init__(enabled=enabled)
        self.guidance_scale = guidance_scale
        self.settings = Settings(kind, mask, scale, layers, heads, start, stop, sigma, kernel, base, seed)
        self._scheduler: Any = None
        self._tokens: tuple[int, ...] | None = None
        self._masks: list[Tensor] = []
        self._at, self._steps = 0, 0
        self._time: float | Tensor = 0.0
        self._refs: list[weakref.ref[Any]] = []
        self._prepared = 0
        self._second: SecondPass | None = None
        self._call: OneCall | None = None
        self._gone: weakref.finalize[..., Any] | None = None

    def attach(self, scheduler: Any, tokens: Sequence[int] | None = None) -> Guider:
        """Tell what a guider is not told by its pipeline: what a timestep means, and where a word is.

        Args:
            scheduler: that of the pipeline, not a copy of it; ``kind="blur"`` needs it.
            tokens: for a mask "word:dog", places of all tokens of the word among the text tokens that the denoiser is
                given, counted from 0.

        Returns:
            This guider.
        """
        self._scheduler, self._tokens = scheduler, None if tokens is None else tuple(tokens)
        return self

    def new(self, **changes: Any) -> Guider:
        """A guider with the same configuration and scheduler, and ``changes`` to the former."""
        made: Guider = super().new(**changes)
        return made.attach(self._scheduler, self._tokens)

    @property
    def masks(self) -> list[Tensor]:
        """What was blurred in each guided step of the last generation: (B, 1, rows, columns) bool, tokens of the layer.

        Empty for kinds without a mask.
        """
        return self._masks

    @property
    def shares(self) -> list[float]:
        """Share of the picture in each of ``masks``."""
        return [float(mask.float().mean()) for mask in self._masks]

    def __getstate__(self) -> dict[str, Any]:
        idle: dict[str, Any] = {
            "_refs": [],
            "_second": None,
            "_call": None,
            "_gone": None,
            "_prepared": 0,
        }  # copies run no pass
        return {**vars(self), **idle}

    # ---- which passes

    def _passes(self) -> list[_Pass]:
        if not self._enabled:
            return [_Pass(_COND, 0)]
        guided = not math.isclose(self.guidance_scale, 1.0)
        names = [_COND, _UNCOND] if guided else [_COND]
        if not self._is_active():
            return [_Pass(name, branch) for branch, name in enumerate(names)]
        base = 1 if guided and self.settings.guided_branch == "unconditional" else 0
        looks = 0 if self.settings.word is not None else base
        own = [_Pass(name, branch, branch == base, branch == looks) for branch, name in enumerate(names)]
        own.sort(key=lambda one: one.base)  # the base last: right before what is compared with it
        return [*own, _Pass(_DEGRADED, base, degraded=True)]

    def _is_active(self) -> bool:
        """Whether there is a degraded pass in this step; before the first one, whether there can be one."""
        return self.settings.scale != 0 and (not self._steps or self.settings.within(self._at, self._steps))

    @property
    def num_conditions(self) -> int:
        """Passes of this step."""
        return len(self._passes())

    @property
    def is_conditional(self) -> bool:
        """Whether the pass that runs is given the prompt."""
        return self._passes()[max(0, self._prepared - 1)].branch == 0

    # ---- one step

    def set_state(self, step: int, num_inference_steps: int, timestep: Tensor) -> None:
        """Begin a step: ``step`` of ``num_inference_steps``, at ``timestep`` of the scheduler."""
        super().set_state(step, num_inference_steps, timestep)
        self._release()
        if step == 0:
            self._masks, self._second = [], None
        self._at, self._steps, self._time, self._prepared = step, num_inference_steps, timestep, 0

    def prepare_inputs(self, data: Any, input_fields: Mapping[str, Any] | None = None) -> list[Any]:
        """Inputs of each pass of this step.

        Args:
            data: name → (conditional, unconditional), or one value for both.
            input_fields: of versions that name fields of a block's state instead; then as
                ``prepare_inputs_from_block_state``.
        """
        if input_fields is not None:
            return self.prepare_inputs_from_block_state(data, input_fields)
        return self._batches(
            {name: value if isinstance(value, tuple) else (value, value) for name, value in data.items()}
        )

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> list[Any]:
        """Inputs of each pass of this step, by the names that they have in a block's state.

        Args:
            data: the state.
            input_fields: name → (name of the conditional, name of the unconditional), or one name for both. What the
                state lacks is left out.
        """
        pairs = {}
        for name, fields in input_fields.items():
            one, other = fields if isinstance(fields, tuple) else (fields, fields)
            if hasattr(data, one):
                pairs[name] = (getattr(data, one), None if other is None else getattr(data, other, None))
        return self._batches(pairs)

    def _batches(self, pairs: Mapping[str, tuple[Any, Any]]) -> list[Any]:
        passes = self._passes()
        given = [pair for pair in pairs.values() if pair[0] is not None]
        if given and any(one.branch for one in passes) and all(pair[1] is None for pair in given):
            raise InputError(
                f"guidance_scale = {self.guidance_scale:g} and no unconditional inputs (all of {', '.join(pairs)} are "
                "None), expected those of a negative prompt; without classifier-free guidance: guidance_scale=1.0"
            )
        batches = [
            BlockState(**{name: pair[one.branch] for name, pair in pairs.items()}, **{self._identifier_key: one.name})
            for one in passes
        ]
        self._refs = [weakref.ref(batch) for batch in batches]
        return batches

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Make ready for the next pass of this step."""
        self._release()
        passes = self._passes()
        if self._prepared >= len(passes):
            raise InputError(
                f"pass {self._prepared + 1} of a step, expected {len(passes)}; call set_state at each step"
            )
        one, batch = passes[self._prepared], self._refs[self._prepared]() if self._refs else None
        self._prepared += 1
        if not any(other.degraded for other in passes):
            return
        denoiser = getattr(denoiser, "_orig_mod", denoiser)  # of a compiled one, which runs uncompiled meanwhile
        if self._second is None or self._second.denoiser is not denoiser:
            family = family_of_denoiser(denoiser)
            self._second = SecondPass(self.settings, denoiser, family, self._scheduler, self._tokens)
        second, stack = self._second, ExitStack()
        if one.degraded:
            change, block = second.change(self._time), second.perturbed()
            if second.mask is not None:
                self._masks.append(second.mask)
            call = OneCall(denoiser, before=change, after=second.felt, ended=partial(_close, stack))
        else:
            block = second.watched(one.looks)
            call = OneCall(denoiser, after=partial(second.ran, one.base), ended=partial(_close, stack))
        self._call = call
        if batch is not None:  # where the loop ends before the call, its inputs go, and with them what waits for it
            self._gone = weakref.finalize(batch, call.end)
        call.begin()
        stack.enter_context(block)

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Put everything back after a pass; where the pass ran, that is done already."""
        self._release()

    def _release(self) -> None:
        call, self._call = self._call, None
        gone, self._gone = self._gone, None
        if gone is not None:
            gone.detach()
        if call is not None:
            call.end()

    def __call__(self, data: list[Any]) -> Guided:
        """One prediction of those of the passes, each in ``noise_pred`` of its inputs."""
        missing = [i for i, batch in enumerate(data) if getattr(batch, "noise_pred", None) is None]
        if missing or len(data) != self.num_conditions:
            raise InputError(
                f"{len(data)} passes, of which {missing} have no noise_pred, expected {self.num_conditions} that have"
            )
        return self.forward(**{getattr(batch, self._identifier_key): batch.noise_pred for batch in data})

    def forward(
        self, pred_cond: Tensor, pred_uncond: Tensor | None = None, pred_degraded: Tensor | None = None
    ) -> Guided:
        """The guided prediction of those of the passes, shaped as they are."""
        pred, base = pred_cond, pred_cond
        if pred_uncond is not None:
            pred = pred_uncond + self.guidance_scale * (pred_cond - pred_uncond)
            base = pred_uncond if self.settings.guided_branch == "unconditional" else pred_cond
        if pred_degraded is not None:
            pred = (pred.float() + self.settings.scale * (base.float() - pred_degraded.float())).to(pred.dtype)
        return Guided(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)


def _close(stack: ExitStack, error: BaseException | None) -> None:
    if error is None:
        stack.close()
    else:
        stack.__exit__(type(error), error, error.__traceback__)

"""Guidance at work: hooks on a denoiser that run it once more on degraded terms and add the difference.

Every prediction p that the sampler gets becomes p + s · (base - degraded), where base is the prediction of one branch
and degraded that of the same branch in an inner pass. A pipeline joins its branches linearly, so that the difference
goes into what the denoiser returns: into both halves of a batch, or divided by the branch's own factor into one of two
calls. The inner pass runs ``forward`` itself, unseen by hooks on the denoiser and by recorders.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...denoisers.family import Family
from ...denoisers.prompt import prompt_of
from ...denoisers.schedule import level_of, place_of, prediction_of
from ...errors import InputError, TokenRankWarning
from ...recording import acting, paused
from ...recording.recorder import RootHook
from .blur import degraded
from .heads import chosen_heads
from .latents import Latents, Raw, prediction_in, rows_of, taken, with_prediction
from .layer_attention import Look, mask_of_layers, towards
from .layers import Place, beside, place_of_text
from .layers import place_of as place_in_layer
from .one_call import by_name
from .perturb import Perturbation
from .pipeline_call import Call, Running
from .settings import Settings

_OUTSIDE = "expected in mask='word:…' a word of every prompt that is drawn"


class GuidanceHook(RootHook):
    """A hook that answers, and is no part of the module that it hangs on."""

    def __call__(self, *args: Any) -> Any:
        """What the guidance makes of it."""
        return self._run(*args)


class Engine:
    """Guides one denoiser between ``begin`` and ``end``.

    Args:
        denoiser: of a pipeline.
        family: of the pipeline.
        settings: what is asked for.
        layers: names of the attention layers.

    Attributes:
        masks, shares: see ``Guidance``.
        passes: inner passes so far.
        calls: of the denoiser by its pipeline, so far.
    """

    def __init__(self, denoiser: nn.Module, family: Family, settings: Settings, layers: tuple[str, ...]) -> None:
        self._denoiser, self._family, self._settings, self._layers = denoiser, family, settings, layers
        crossed = [beside(denoiser, name) for name in layers] if settings.word else []
        self._crossed = [name for name in dict.fromkeys(crossed) if name is not None]
        self.masks: list[Tensor] = []
        self.shares: list[float] = []
        self.passes = self.calls = 0
        self._handles: list[RemovableHandle] = []
        self._open: dict[str, AbstractContextManager[None]] = {}
        self._acts: dict[str, Any] = {}  # layer → what is done in it in the pass that runs
        self._now: _Pass | None = None
        self._told = False
        self._new_run(None)

    def begin(self) -> None:
        """Hang on."""
        for name in [*self._layers, *self._crossed]:
            module = self._denoiser.get_submodule(name)
            enter = GuidanceHook(lambda *_, name=name: self._enter(name))
            leave = GuidanceHook(lambda *_, name=name: self._leave(name))
            self._handles.append(module.register_forward_pre_hook(enter))
            self._handles.append(module.register_forward_hook(leave, always_call=True))
        before, after = GuidanceHook(self._before), GuidanceHook(self._after)
        self._handles.append(self._denoiser.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(self._denoiser.register_forward_hook(after, with_kwargs=True))

    def end(self) -> None:
        """Let go of everything; a second time is free."""
        while self._handles:
            self._handles[-1].remove()
            self._handles.pop()
        for name in list(self._open):
            self._leave(name)
        self._acts, self._now = {}, None
        self._new_run(None)

    # ---- a run of the pipeline

    def _new_run(self, timesteps: Any) -> None:
        self._timesteps = timesteps
        self._generator = torch.Generator().manual_seed(self._settings.seed)
        self._mask: Tensor | None = None
        self._heads: dict[str, tuple[int, ...] | None] = {}
        self._last: tuple[float, Any] | None = None

    def _start(self, running: Running) -> None:
        scheduler = running.pipe.scheduler
        if scheduler.timesteps is not self._timesteps:
            self._new_run(scheduler.timesteps)
            self.masks.clear()
            self.shares.clear()
        if running.rescales and not self._told:
            self._told = True
            warnings.warn(
                f"guidance of {type(running.pipe).__name__} is inexact with {running.rescales}: it rescales the "
                "prediction after guidance was added, and so what was added too",
                TokenRankWarning,
                stacklevel=2,
            )

    # ---- a call of the denoiser by its pipeline

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._now, self._acts = None, {}
        running = Running.now(self._denoiser)
        self.calls += 1
        with paused():
            inputs = by_name(module, (args, kwargs))
            if inputs.get("skip_layers") is not None:
                return  # the third pass of Stable Diffusion 3, a guidance of its own
            self._start(running)
            scheduler, time = running.pipe.scheduler, self._family.timestep_of(inputs[self._family.timestep])
            if not self._settings.within(*place_of(scheduler, time)):
                return
            raw = inputs[self._family.latents]
            second = self._last is not None and self._last[0] == time and _same(self._last[1], raw)
            self._last = None if second else (time, raw)
            call = running.call(self._family, len(raw), second)
            self._now = now = _Pass(running, inputs, call, time)
            if now.has(self._look_branch) and self._looks():
                self._acts = {name: Look() for name in self._layers}
                self._acts |= {name: Look(square=False) for name in self._crossed}

    def _looks(self) -> bool:
        """Whether attention of the pipeline's own pass is needed."""
        if self._settings.kind == "blur":
            return self._settings.mask != "all"
        return self._settings.heads is not None and not self._heads

    @property
    def _look_branch(self) -> str:
        return "conditional" if self._settings.word else self._settings.guided_branch

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        now, looks = self._now, self._acts
        self._now, self._acts = None, {}
        if now is None:
            return None
        with paused():
            prediction = prediction_in(output)
            now.latents = Latents(self._denoiser, self._family, now.inputs, prediction)
            if looks:
                self._see(now, looks)
            if not now.has(self._settings.guided_branch):
                return None
            rows = now.call.rows(self._settings.guided_branch)
            inputs = now.inputs
            if now.call.guidance == "halves":
                listed = self._family.form == "listed"
                inputs = {name: rows_of(v, rows, len(prediction), listed) for name, v in inputs.items()}
            base = taken(prediction, rows)
            worse = self._worse(now, inputs, base, rows)
            return with_prediction(output, self._guided(now.call, prediction, base, worse))

    def _guided(self, call: Call, prediction: Raw, base: Raw, worse: Raw) -> Raw:
        factor, copies = self._settings.scale, 2 if call.guidance == "halves" else 1
        if call.guidance == "two":
            factor /= call.scale if call.branch == "conditional" else 1.0 - call.scale
        if isinstance(prediction, list):
            added = [factor * (b.float() - w.float()) for b, w in zip(base, worse, strict=True)] * copies
            return [(p.float() + a).to(p.dtype) for p, a in zip(prediction, added, strict=True)]
        assert isinstance(base, Tensor)
        assert isinstance(worse, Tensor)
        difference = factor * (base.float() - worse.float())
        wide = torch.promote_types(prediction.dtype, torch.float32)
        return (prediction.to(wide) + torch.cat([difference] * copies)).to(prediction.dtype)

    # ---- the inner pass

    def _worse(self, now: _Pass, inputs: dict[str, Any], base: Raw, rows: slice) -> Raw:
        settings = self._settings
        if settings.kind == "blur":
            assert now.latents is not None
            raw = taken(now.latents.raw, rows)
            mask = self._mask_for(now, len(base))
            self.masks.append(mask.cpu())
            self.shares.append(float(mask.float().mean()))
            scheduler = now.running.pipe.scheduler
            x = now.latents.picture(raw)
            new = degraded(
                x, self._family.sign * now.latents.picture(base), mask, level_of(scheduler, now.time),
                prediction_of(scheduler), settings.kernel, settings.blur_sigma,
            )  # fmt: skip
            return self._inner({**inputs, self._family.latents: now.latents.replaced(raw, new)})
        self._acts = {name: self._perturbation(name, now, len(base)) for name in self._layers}
        try:
            return self._inner(inputs)
        finally:
            self._acts = {}

    def _inner(self, inputs: dict[str, Any]) -> Raw:
        self.passes += 1
        if "return_dict" in inputs:
            inputs = {**inputs, "return_dict": False}
        return prediction_in(self._denoiser.forward(**inputs))

    def _perturbation(self, name: str, now: _Pass, batch: int) -> Perturbation:
        settings = self._settings
        return Perturbation(
            settings.kind,
            self._places(name, now),
            batch,
            self._heads.get(name),
            (settings.kernel_for_queries, settings.blur_sigma),
            lambda count: torch.randperm(count, generator=self._generator),
        )

    # ---- what the pipeline's own pass shows

    def _places(self, name: str, now: _Pass) -> Callable[[int], Place]:
        size = None if now.latents is None else now.latents.size
        return lambda tokens: place_in_layer(self._denoiser, name, tokens, now.inputs, size)

    def _see(self, now: _Pass, looks: dict[str, Look]) -> None:
        rows, batch = now.call.rows(self._look_branch), len(now.inputs[self._family.latents])
        if self._settings.kind != "blur":
            for name in self._layers:
                look = looks[name]
                place = self._places(name, now)(look.tokens)
                self._heads[name] = chosen_heads(self._settings.heads, look, place, rows, batch)
            return
        places = {name: self._places(name, now)(looks[name].tokens) for name in self._layers}
        settings = self._settings
        word = partial(self._word, now, looks, places, rows, batch) if settings.word is not None else None
        self._mask = mask_of_layers(looks, places, rows, batch, settings.mask, self._generator, word)

    def _word(
        self, now: _Pass, looks: dict[str, Look], places: dict[str, Place], rows: slice, batch: int, name: str
    ) -> Tensor:
        """How much the picture attends to the word, (B, N), in a layer or in the cross-attention beside it."""
        assert self._settings.word is not None
        prompts = now.running.prompt
        if prompts is None:
            raise InputError(
                f"mask 'word:{self._settings.word}' needs the words of the prompt, and the pipeline was given its "
                "embeddings alone; expected pipe(prompt)"
            )
        crossed = beside(self._denoiser, name)
        look = looks[crossed or name]
        many = rows.stop - rows.start
        if many % len(prompts):
            raise InputError(f"{many} pictures of {len(prompts)} prompts, expected as many pictures of each")
        found: list[Tensor] = []
        for number, prompt in enumerate(prompts):
            first, start, count = rows.start + number * (many // len(prompts)), 0, look.tokens
            if crossed is None:
                start, count = place_of_text(self._denoiser, name, look.tokens, now.inputs, first)
            words = prompt_of(now.running.pipe, prompt, count).word(self._settings.word, outside=_OUTSIDE)
            samples = slice(first, first + many // len(prompts))
            tokens = [start + token for token in words]
            found.append(towards(look, None if crossed else places[name], samples, batch, tokens))
        return torch.cat(found)

    def _mask_for(self, now: _Pass, batch: int) -> Tensor:
        if self._settings.mask == "all":
            latents = now.inputs[self._family.latents]
            first = latents if isinstance(latents, Tensor) else latents[0]
            return torch.ones(batch, 1, 1, 1, dtype=torch.bool, device=first.device)
        assert self._mask is not None
        return self._mask

    # ---- layers

    def _enter(self, name: str) -> None:
        act = self._acts.get(name)
        if act is not None and name not in self._open:
            context = acting(self._denoiser.get_submodule(name), act)
            self._open[name] = context
            context.__enter__()

    def _leave(self, name: str) -> None:
        context = self._open.pop(name, None)
        if context is not None:
            context.__exit__(None, None, None)


class _Pass:
    """One call of the denoiser by its pipeline."""

    def __init__(self, running: Running, inputs: dict[str, Any], call: Call, time: float) -> None:
        self.running, self.inputs, self.call, self.time = running, inputs, call, time
        self.latents: Latents | None = None

    def has(self, branch: str) -> bool:
        """Whether this branch of guidance is in the call; without guidance there is one only."""
        return self.call.guidance != "two" or self.call.branch == branch


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)

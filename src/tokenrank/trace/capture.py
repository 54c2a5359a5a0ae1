"""``capture``: watch a model for the length of a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..layout import LayoutChoice
from ..models import Model
from ..recording import Branch, HeadSelection, LayerSelection, Recorder, StepSelection
from .layouts import Resolver
from .reduce import Over, Reduce, RunningMean
from .trace import Trace

_DENOISERS = ("transformer", "unet")  # of pipelines of diffusers
_INNER = ("model", "module")  # of pipelines of transformers, and wrappers in general


@contextmanager
def capture(
    model: nn.Module | Model | Any,
    layers: LayerSelection = None,
    heads: HeadSelection = None,
    steps: StepSelection = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    layout: LayoutChoice = None,
    branch: Branch | None = None,
    tokenizer: Any = None,
    reduce: Reduce | None = None,
    over: Over = "all",
    max_bytes: int | None = None,
) -> Iterator[Trace]:
    """Record every softmax attention of ``model`` while the block runs; the model is not touched.

    ::

        with tr.capture(model, layers="encoder.layer.*") as trace:
            model(**inputs)
        chain = trace["encoder.layer.8"]

    Seen are ``scaled_dot_product_attention``, ``nn.MultiheadAttention``, FlexAttention, and
    attention written by hand, in the thread of the block, and where it began in an asyncio task, in that and those
    that it starts. While any block runs, ``torch.compile`` is set aside for the whole process, so a compiled model runs
    uncompiled. Blocks may end in any order; each in the thread in which it began.

    Args:
        model: the module that you call, what ``tr.load`` returns, or a pipeline (of diffusers: its
            transformer or UNet is watched).
        layers: what to keep: names ("encoder.layer.8", of the attention or of a module that holds
            it), globs, numbers (place among the attention calls of one forward, negative from the
            last), functions of the name, or several of those. Decided before anything is copied.
        heads: numbers, or a slice, of the heads to keep.
        steps: forward calls to keep, counted from 0: a number, several, or a function of it.
        device: where q and k are stored; where the model computed them by default. On "meta" nothing is
            stored but shapes, for ``trace.estimate()``.
        dtype: floating type in which q, k and weights are stored; the model's by default.
        layout: which token is what, for all layers or by name or glob of the layer (``{"*encoder*": …}``); by default
            each record gets its own when the block ends, from model and
            inputs, or the reason why that is not known (raised when its chain is asked for). False for none: then
            no patch is followed through the model, and a layout of pictures cannot be had afterwards. One given
            by hand is believed, and a layer that no glob fits gets its own.
        branch: "conditional" or "unconditional" half of classifier-free guidance, to keep alone.
        tokenizer: for token strings in the layouts; that of a ``tr.load`` model by default.
        reduce: keep a running mean instead of records, which are let go one by one: "mean" for the mean
            attention over heads, or a function of one layer's chain (heads and all) to a tensor or
            ``TokenMap``. The mean is in ``trace.records`` for "mean", otherwise in ``trace.reduced``.
        over: what ``reduce`` runs over: "all" layers and steps (per shape), or the "steps" of each layer.
        max_bytes: most bytes to keep; otherwise what the machine has free.

    Yields:
        A ``Trace`` that fills while the block runs.

    Raises:
        InputError: an argument of another kind than listed above.
        CaptureError: at the end of a block that did not raise itself: nothing was recorded, an
            entry of ``layers`` met no attention, or the memory would not have held it; or the block ends in another
            thread. The message has the reason and the cure.

    Example:
        >>> import tokenrank as tr
        >>> model = tr.load()
        >>> with tr.capture(model, layers=-1) as trace:
        ...     output = model.forward(model.prepare(tr.samples.path("coffee")))
        >>> trace
        Trace(1 module, 1 record, 1 forward call, 583.5 KiB)
        >>> print(trace.records[0].layout)
        cls 1, registers 4, image 16 × 24
    """
    root = root_module(model)
    if tokenizer is None and isinstance(model, Model):
        tokenizer = model.tokenizer
    trace: Trace
    running = None if reduce is None else RunningMean(reduce, over, device, lambda record: trace.chain_of(record))
    recorder = Recorder(
        root, layers, heads, steps, device if running is None else None, dtype, branch, max_bytes,
        None if running is None else running.take, follow=layout is not False,
    )  # fmt: skip
    resolver = Resolver(root, recorder.evidence, tokenizer, model.sounds if isinstance(model, Model) else None)
    if running is None:
        trace = Trace(recorder.records, recorder.opaque, layout, resolve=resolver.resolve)
    else:
        trace = Trace(running.means, recorder.opaque, layout, running.results, resolver.resolve)
    try:
        try:
            recorder.begin()
            yield trace
        finally:
            recorder.end()
            if running is not None:
                running.end(resolver.batch_size)
            resolver.end(recorder.records)
    finally:
        recorder.end()  # once more: the first may have been interrupted
    recorder.check()


def root_module(model: Any) -> nn.Module:
    """A module itself, that of a ``tr.load`` model, a pipeline's denoiser, or a wrapper's one model.

    Raises:
        InputError: none of these; the message names the modules that it holds.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, Model):
        return model.module
    values: Iterable[tuple[str, Any]] = getattr(model, "__dict__", {}).items()
    inside = {name: value for name, value in values if isinstance(value, nn.Module)}
    for names in (_DENOISERS, _INNER):
        modules = [inside[name] for name in names if name in inside]
        if len(modules) == 1:
            return modules[0]
    listed = ", ".join(map(repr, list(inside)[:3])) + (f" … ({len(inside)} in all)" if len(inside) > 3 else "")
    cure = f"pass one of its modules: {listed}" if inside else "pass the module that you call"
    raise InputError(f"cannot capture a {type(model).__name__}, expected a torch.nn.Module; {cure}")

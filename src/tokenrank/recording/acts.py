"""Acts on attention: a running model whose attention is masked, changed, or written out and kept with its graph."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import CaptureError
from .block import Block
from .fused import (
    SDPA,
    FusedCall,
    flex_call,
    flex_functions,
    flex_result,
    is_flex_refusal,
    run_sdpa,
    sdpa_call,
    written_out,
)
from .lineage import SOFTMAX, Ends, Follower, HandWritten, Tags, softmax_arguments
from .mode import AttentionMode, ModuleNames, Substitute, running_heads
from .record import AttentionKind

_REQUIRES_GRAD = vars(torch._C.TensorBase)["requires_grad"].__get__


@dataclass(frozen=True)
class Caller:
    """Who computes attention.

    Attributes:
        name: path of the module under the root; "" for the root itself, and for what no module of it computes.
        kind: how it is computed; see ``AttentionRecord``. "eager" is a softmax written by hand whose logits are the
            product of queries and keys, "weights" one of which that is not known: a router's or a classifier's
            softmax over the last of three dimensions or more looks the same.
    """

    name: str
    kind: AttentionKind


class Act:
    """What is done to attention while a model runs; this one leaves all of it alone.

    A subclass overrides what it needs. Whatever a method returns untouched runs untouched, bit for bit. Attention in
    one layer that lets every token see itself alone, for one, is::

        class Blinkers(Act):
            def fused(self, caller, call):
                return None if caller.name == "blocks.3.attn" else call

            def weights(self, caller, weights):
                alone = torch.eye(weights.shape[-1]).expand_as(weights)
                return alone if caller.name == "blocks.3.attn" else weights
    """

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall | None:
        """What a fused call computes: the call itself, another one, or None.

        For None the call is written out as attention by hand, and the other methods are asked of it.
        """
        return call

    def logits(self, caller: Caller, logits: Tensor) -> Tensor:
        """What a softmax is taken of, (…, N, M), scaled and masked."""
        return logits

    def weights(self, caller: Caller, weights: Tensor) -> Tensor:
        """What stands for a softmax's result, (…, N, M)."""
        return weights

    def used(self, caller: Caller, weights: Tensor) -> None:
        """Look at the weights (…, N, M) of an attention, part of the model's graph, once.

        Other than above, these are known to be attention: square, or multiplied with values.
        """

    def met(self, caller: Caller, values: Tensor) -> None:
        """Look at the values (…, M, e) that weights written by hand are multiplied with.

        ``caller`` is the very one that ``used`` was given. Values of a fused call are part of it.
        """


@dataclass(frozen=True, eq=False)
class KeptAttention:
    """Attention weights of one call, part of the autograd graph.

    Attributes:
        name: of the module that computed them.
        weights: as the model shaped them, such as (1, heads, N, N).
    """

    name: str
    weights: Tensor


class KeepWeights(Act):
    """Writes fused attention out and keeps the weights of every attention with their graph.

    Attributes:
        kept: in the model's order.

    Raises:
        CaptureError: while the model runs: dropout, or a query that may attend to no key, whose gradient would
            mean nothing.
    """

    def __init__(self) -> None:
        self.kept: list[KeptAttention] = []

    def fused(self, caller: Caller, call: FusedCall) -> None:
        """Write it out."""
        if call.dropout > 0:
            raise CaptureError(
                f"the attention of {caller.name!r} runs with dropout {call.dropout:g}, which makes its gradients "
                "random; call module.eval()"
            )
        if not call.sees_all:
            raise CaptureError(
                f"the attention mask of {caller.name!r} leaves a query without any key, expected one at least per row"
            )

    def used(self, caller: Caller, weights: Tensor) -> None:
        """Keep them."""
        self.kept.append(KeptAttention(caller.name, weights))


@contextmanager
def acting(root: nn.Module, act: Act) -> Iterator[None]:
    """A block in which ``act`` is done to all attention of this thread; blocks may be nested.

    Like a ``Recorder`` it touches no module: a torch function mode does it (``Block``), ``torch.compile`` is set aside,
    and on any way out of the block everything is as before. Errors
    of the act reach the caller. A ``Recorder`` around the block sees what the act made of attention, one inside of it
    what the model had asked for.

    Args:
        root: the module that will run; names are those of its modules.
        act: what to do.
    """
    tags = Tags()
    acted = _Acted(ModuleNames(root), act)
    ends, follower = Ends(tags, acted.used, act.met), Follower(tags)
    instead: dict[Any, Substitute] = {
        **dict.fromkeys(SOFTMAX, partial(acted.softmax, ends)),
        **dict.fromkeys(SDPA, acted.sdpa),
        **dict.fromkeys(flex_functions(), acted.flex),
        _REQUIRES_GRAD: _requires_grad,
    }
    mode = AttentionMode(ends.observers(), follower.rules(), tags.entries, follower.judge, _raised, instead)
    block = Block(mode)
    try:
        try:
            block.begin()
            yield
        finally:
            block.end()
    finally:
        block.end()  # once more: the first may have been interrupted
        tags.clear()


class _Acted:
    """What runs in place of attention: an act is asked what it shall be."""

    def __init__(self, names: ModuleNames, act: Act) -> None:
        self._names, self._act = names, act
        self._writing: Caller | None = None  # whose fused call is being written out
        self._logits: Tensor | None = None  # what the softmax of that was taken of

    def sdpa(self, mode: TorchFunctionMode, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``scaled_dot_product_attention``, with other arguments or written out."""
        caller, call = self._caller("sdpa"), sdpa_call(*args, **kwargs)
        wanted = self._act.fused(caller, call)
        if wanted is None:
            return self._written_out(mode, caller, call)[0]
        return function(*args, **kwargs) if wanted is call else run_sdpa(function, wanted)

    def flex(self, mode: TorchFunctionMode, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """FlexAttention's operator, written out: uncompiled it takes as much memory itself."""
        caller, call = self._caller("flex"), flex_call(args, kwargs)
        wanted = self._act.fused(caller, call)
        if wanted is call:
            return function(*args, **kwargs)
        return flex_result(*(self._written_out(mode, caller, call) if wanted is None else written_out(wanted)))

    def softmax(
        self, ends: Ends, mode: TorchFunctionMode, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A softmax with other logits, or other weights in place of its result."""
        logits, dim = softmax_arguments(args, kwargs)
        followed = ends.is_followed(logits)
        if dim not in (-1, logits.ndim - 1) or not (followed or logits.ndim >= 3):
            return function(*args, **kwargs)
        caller = self._caller("eager" if followed else "weights")
        wanted = self._act.logits(caller, logits)
        if wanted is not logits:
            args, kwargs = ((wanted, *args[1:]), kwargs) if args else ((), {**kwargs, "input": wanted})
        if self._writing is not None:
            self._logits = wanted
        weights = self._act.weights(caller, function(*args, **kwargs))
        ends.softmax((logits, dim), {}, weights)
        return weights

    def used(self, attention: HandWritten) -> Caller:
        """An attention was computed; by whom."""
        caller = self._caller("weights" if attention.logits is None else "eager")
        self._act.used(caller, attention.weights)
        return caller

    def _written_out(self, mode: TorchFunctionMode, caller: Caller, call: FusedCall) -> tuple[Tensor, Tensor]:
        """Result and logits of a fused call whose softmax and product with the values the mode sees."""
        self._writing = caller
        try:
            with mode:
                out, logits = written_out(call)
            return out, logits if self._logits is None else self._logits
        finally:
            self._writing = self._logits = None

    def _caller(self, kind: AttentionKind) -> Caller:
        if self._writing is not None:
            return self._writing
        running = self._names.running()
        inside = kind != "flex" and running_heads() is not None
        return Caller("" if running is None else running[0], "multi_head_attention" if inside else kind)


def _requires_grad(mode: TorchFunctionMode, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``Tensor.requires_grad``, denied to PyTorch's check of FlexAttention: uncompiled it has gradients everywhere."""
    asking: FrameType | None = sys._getframe(1)
    while asking is not None and asking.f_code.co_name == "__torch_function__":  # of this mode and those inside of it
        asking = asking.f_back
    return not (asking and is_flex_refusal(asking.f_code)) and bool(function(*args, **kwargs))


def _raised(fault: Exception) -> None:
    raise fault

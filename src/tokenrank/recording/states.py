"""States of tokens: the values of every attention, and what the block around it returns."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .acts import Act, Caller, acting
from .fused import FusedCall
from .quiet import Unnoticed

_FEED_FORWARD = 2  # layers with a matrix of weights; after the attention alone there is one, its output's
_LISTS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(eq=False)
class AttentionStates:
    """What belongs to one attention call beside its weights.

    Attributes:
        name: of the module that computed it.
        shape: (N, M), queries and keys.
        values: (…, heads, M, e), detached; None where they were not seen.
        block: name of the block around the attention; None where none was found.
        output: (N, d), what the block returned, detached; None where none was found.
        refused: shapes of what modules that look like the block returned, by their names.
    """

    name: str
    shape: tuple[int, int]
    values: Tensor | None = None
    block: str | None = None
    output: Tensor | None = None
    refused: dict[str, tuple[torch.Size, ...]] = field(default_factory=dict)
    caller: Caller | None = field(default=None, repr=False)
    in_list: bool = False

    @property
    def is_square(self) -> bool:
        """Whether this may be self-attention."""
        return self.shape[0] == self.shape[1]


@contextmanager
def keeping_states(root: nn.Module) -> Iterator[list[AttentionStates]]:
    """A block in which values and block outputs of every attention of ``root`` are kept, in order of the calls.

    The block of an attention is the outermost module that is a member of a list of modules, holds no other
    self-attention, runs two layers with weights or more after it (a feed-forward; attention alone has its output's one)
    and returns one state of all its tokens: (1, N, d), (N, 1, d) or (N, d), alone or first in a tuple. Where no such
    module is in a list, it is the innermost that does the rest. So a final norm behind the list stays out, and names
    do not matter.

    Hooks see the calls; they and all else are undone on any way out. Outputs of the model are what they were.

    Args:
        root: the module that will run, with one input.
    """
    calls = _Calls(root)
    with calls.hooked(), acting(root, calls):
        yield calls.kept


@dataclass(eq=False)
class _Call:
    """A call of a module that has not returned yet."""

    name: str
    in_list: bool
    held: list[AttentionStates] = field(default_factory=list)
    layers_after: int = 0  # with weights, that ran after its last attention


class _Calls(Act):
    """Notes which modules run around and after each attention."""

    def __init__(self, root: nn.Module) -> None:
        self.kept: list[AttentionStates] = []
        self._root, self._thread = root, threading.get_ident()
        self._open: list[_Call] = []

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """A block in which calls of all modules are seen."""
        with ExitStack() as stack:
            for name, module in self._root.named_modules():
                parent = self._root.get_submodule(name.rpartition(".")[0]) if name else None
                call = name, isinstance(parent, _LISTS), _has_weights(module)
                before, after = _hooks(self, *call)
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after, always_call=True).remove)
            yield

    def enter(self, name: str, in_list: bool) -> None:
        """A module is called."""
        if threading.get_ident() == self._thread:
            self._open.append(_Call(name, in_list))

    def leave(self, name: str, weighted: bool, out: Any) -> None:
        """A module returned; ``out`` is None where it raised."""
        if threading.get_ident() != self._thread:
            return
        while self._open and self._open[-1].name != name:  # what raised
            self._open.pop()
        call = self._open.pop()
        if weighted:
            for around in self._open:
                around.layers_after += 1
        if out is not None:
            self._considered(call, out)

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        """Keep the values; the call stays as it is."""
        with Unnoticed():
            self._began(caller, call.shape, call.value.detach().clone())
        return call

    def used(self, caller: Caller, weights: Tensor) -> None:
        """An attention by hand; its values follow."""
        self._began(caller, weights.shape, None)

    def met(self, caller: Caller, values: Tensor) -> None:
        """Keep the first values that the weights are multiplied with."""
        states = next((s for s in reversed(self.kept) if s.caller is caller), None)
        if states is not None and states.values is None and values.shape[-2] == states.shape[1]:
            with Unnoticed():
                states.values = values.detach().clone()

    def _began(self, caller: Caller, shape: torch.Size, values: Tensor | None) -> None:
        states = AttentionStates(caller.name, (int(shape[-2]), int(shape[-1])), values, caller=caller)
        self.kept.append(states)
        for call in self._open:
            call.held.append(states)
            call.layers_after = 0

    def _considered(self, call: _Call, out: Any) -> None:
        """Whether a call was a block, the innermost first."""
        held = [states for states in call.held if states.is_square]
        if len(held) != 1 or call.layers_after < _FEED_FORWARD:
            return
        (states,) = held
        if states.output is not None and not call.in_list:
            return
        shapes = [t.shape for t in _tensors(out)]
        found = next((t for t in _tensors(out) if _of_all_tokens(t.shape, states.shape[0])), None)
        if found is None:
            states.refused[call.name] = tuple(shapes)
            return
        with Unnoticed():
            states.block, states.in_list = call.name, call.in_list
            states.output = found.detach().reshape(states.shape[0], -1).clone()


def _hooks(calls: _Calls, name: str, in_list: bool, weighted: bool) -> tuple[Any, Any]:
    def before(module: nn.Module, args: Any) -> None:
        calls.enter(name, in_list)

    def after(module: nn.Module, args: Any, out: Any) -> None:
        calls.leave(name, weighted, out)

    return before, after


def _has_weights(module: nn.Module) -> bool:
    """Whether it is a layer: a matrix of weights of its own, and nothing below."""
    own = [p for p in module._parameters.values() if p is not None]
    return not any(True for _ in module.children()) and any(p.ndim >= 2 for p in own)


def _tensors(out: Any) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    values = out.values() if isinstance(out, Mapping) else out if isinstance(out, list | tuple) else ()
    return [value for value in values if isinstance(value, Tensor)]


def _of_all_tokens(shape: torch.Size, count: int) -> bool:
    return shape[:-1] in (torch.Size((1, count)), torch.Size((count, 1)), torch.Size((count,)))

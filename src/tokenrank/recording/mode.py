"""Mode under which a model runs: it sees every torch function, and can say in which module that runs."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import Any

from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .block import BlockMode
from .origins import Origins, Step

Observer = Callable[[tuple[Any, ...], dict[str, Any], Any], None]
Substitute = Callable[[TorchFunctionMode, Any, tuple[Any, ...], dict[str, Any]], Any]


class AttentionMode(BlockMode):
    """Calls an observer with (args, kwargs, result) after each torch function that has one, or runs another instead.

    A function without a substitute runs as it would have; an observer's exception is handed to ``on_fault``.

    Args:
        observers: function → observer.
        followers: the same for functions that matter only while something is being followed.
        following: what is being followed; empty most of the time, so that ``followers`` cost nothing.
        judge: asked once for every other function: an observer or None, and whether it is a follower.
        on_fault: what to do with an observer's exception.
        instead: function → what to run in its place, with (mode, function, args, kwargs). It is not observed:
            whatever it calls inside of ``with mode:`` is.
        origins: told of every function that ran, before its observer is.
    """

    def __init__(
        self,
        observers: Mapping[Any, Observer],
        followers: dict[Any, Observer],
        following: Mapping[Any, Any],
        judge: Callable[[Any], tuple[Observer | None, bool]],
        on_fault: Callable[[Exception], None],
        instead: Mapping[Any, Substitute] | None = None,
        origins: Origins | None = None,
    ) -> None:
        super().__init__()
        self._followers = followers
        self._instead: dict[Any, Substitute] = {MULTI_HEAD: _visibly, **(instead or {})}
        self._observers = _Observers({**dict.fromkeys(followers), **observers, **dict.fromkeys(self._instead, _never)})
        self._observers.judge, self._observers.followers = judge, followers
        self._known = len(self._observers)
        self._following, self._on_fault = following, on_fault
        self._steps = None if origins is None else origins.steps
        self._tagged: Mapping[Any, Any] = {} if origins is None else origins.known

    @property
    def saw_functions(self) -> bool:
        """Whether any other function was called: something ran under this mode."""
        return len(self._observers) > self._known

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and let its observer look, or run what stands for it."""
        if self.block is not None and not self.block.sees():
            return func(*args, **(kwargs or {}))
        observer = self._observers[func]
        if observer is None and self._following:
            observer = self._followers.get(func)
        step = None if self._steps is None else self._steps[func]
        if step is not None and not (step.always or self._tagged):
            step = None
        if observer is None:
            out = func(*args, **kwargs) if kwargs else func(*args)
            return out if step is None else self._stepped(step, args, kwargs or {}, out)
        kwargs = kwargs or {}
        if func in self._instead:
            return self._instead[func](self, func, args, kwargs)
        out = func(*args, **kwargs)
        if step is not None:
            out = self._stepped(step, args, kwargs, out)
        try:
            observer(args, kwargs, out)
        except Exception as fault:
            self._on_fault(fault)
        return out

    def _stepped(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        try:
            return step.run(args, kwargs, out)
        except Exception as fault:
            self._on_fault(fault)
            return out


class _Observers(dict[Any, Any]):
    """Function → observer or None; functions never met before are judged once."""

    judge: Callable[[Any], tuple[Observer | None, bool]]
    followers: dict[Any, Observer]

    def __missing__(self, function: Any) -> Observer | None:
        observer, follows = self.judge(function)
        if follows and observer is not None:
            self.followers[function], observer = observer, None
        self[function] = observer
        return observer


def _visibly(mode: TorchFunctionMode, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with mode:
        return run_visibly(args, kwargs)


def _never(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Marks a function that the mode runs in its own way."""


MULTI_HEAD = functional.multi_head_attention_forward
_SIGNATURE = inspect.signature(MULTI_HEAD)
_local = threading.local()


def running_heads() -> tuple[int, int] | None:
    """(batch, heads) of the ``multi_head_attention_forward`` that runs in this thread, or None."""
    stack = getattr(_local, "stack", None)
    return stack[-1] if stack else None


def run_visibly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``multi_head_attention_forward``, which is behind ``nn.MultiheadAttention``, so that a mode sees its inside.

    A mode does not see what runs inside a function that it handles. So the function is run again with its question
    "is a mode active?" answered by no, and the mode on top: the attention inside, fused or by hand, then meets the
    ordinary observers.
    """
    with _entered(args, kwargs):
        return _unguarded()(*args, **kwargs)


def _unguarded() -> Callable[..., Any]:
    # a fresh copy each time: whoever patches torch.nn.functional meanwhile is heard
    namespace = {**MULTI_HEAD.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(
        MULTI_HEAD.__code__, namespace, MULTI_HEAD.__name__, MULTI_HEAD.__defaults__, MULTI_HEAD.__closure__
    )
    copy.__kwdefaults__ = MULTI_HEAD.__kwdefaults__
    return copy


@contextmanager
def _entered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    given = _SIGNATURE.bind(*args, **kwargs).arguments
    query = given["query"]
    if not hasattr(_local, "stack"):
        _local.stack = []
    depth = len(_local.stack)
    try:
        _local.stack.append((query.shape[1] if query.ndim == 3 else 1, int(given["num_heads"])))
        yield
    finally:
        del _local.stack[depth:]


# every call of a module passes through these; their frames hold little else than the module
_CALLS: frozenset[CodeType] = frozenset(
    getattr(nn.Module, name).__code__
    for name in ("_call_impl", "_wrapped_call_impl")
    if hasattr(getattr(nn.Module, name, None), "__code__")
)
# and through a function inside of them where there are hooks
_CALLERS = _CALLS | {const for code in _CALLS for const in code.co_consts if isinstance(const, CodeType)}


class ModuleNames:
    """Names of the modules under ``root``, as of now; which one runs is read off the Python stack."""

    def __init__(self, root: nn.Module) -> None:
        self._names = _names_under(root)

    def running(self) -> tuple[str, nn.Module] | None:
        """(name, module) of the innermost running module, or None outside of the root.

        ``nn.Softmax`` is passed over: it is a part of the attention, not the attention.
        """
        names = self._names
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code, caller = frame.f_code, frame.f_back
            module: Any = None
            if code in _CALLS:
                module = frame.f_locals.get("self")
            elif code.co_name == "forward" and (caller is None or caller.f_code not in _CALLERS):
                module = _any_self(frame)  # forward was called directly, around the module's call
            if module is not None and id(module) in names and not isinstance(module, nn.Softmax):
                return names[id(module)], module
            frame = caller
        return self._method()

    def _method(self) -> tuple[str, nn.Module] | None:
        """The same from any method of a module: nothing was called as a module."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            module = _any_self(frame)
            if module is not None and id(module) in self._names:
                return self._names[id(module)], module
            frame = frame.f_back
        return None


def _names_under(root: nn.Module) -> dict[int, str]:
    """id → name of every module, the first where it has several: ``named_modules``, four times as fast."""
    names: dict[int, str] = {}
    waiting = [("", root)]
    while waiting:
        name, module = waiting.pop()
        if id(module) in names:
            continue
        names[id(module)] = name
        for part, child in reversed(module._modules.items()):
            if child is not None:
                # torch.compile wraps a module in another one
                below = name if part == "_orig_mod" else f"{name}.{part}" if name else part
                waiting.append((below, child))
    return names


def _any_self(frame: FrameType) -> Any:
    # reading f_locals copies every local and so prolongs its life: only of frames that are methods
    return frame.f_locals.get("self") if frame.f_code.co_varnames[:1] == ("self",) else None

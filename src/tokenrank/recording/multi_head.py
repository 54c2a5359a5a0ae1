"""``torch.nn.functional.multi_head_attention_forward``, the function behind ``nn.MultiheadAttention``.

A mode does not see what runs inside a function that it handles. So the function is run again with
its question "is a mode active?" answered by no, and the mode on top: the softmax attention inside,
fused or by hand, then meets the ordinary observers.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from torch.nn import functional

FUNCTION = functional.multi_head_attention_forward
_SIGNATURE = inspect.signature(FUNCTION)
_local = threading.local()


def running() -> tuple[int, int] | None:
    """(batch, heads) of the function that runs in this thread, or None."""
    stack = getattr(_local, "stack", None)
    return stack[-1] if stack else None


def visible(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the function so that an active mode sees its inside."""
    with _entered(args, kwargs):
        return _unguarded()(*args, **kwargs)


def _unguarded() -> Callable[..., Any]:
    # a fresh copy each time: whoever patches torch.nn.functional meanwhile is heard
    namespace = {**FUNCTION.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(FUNCTION.__code__, namespace, FUNCTION.__name__, FUNCTION.__defaults__, FUNCTION.__closure__)
    copy.__kwdefaults__ = FUNCTION.__kwdefaults__
    return copy


@contextmanager
def _entered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    given = _SIGNATURE.bind(*args, **kwargs).arguments
    query = given["query"]
    if not hasattr(_local, "stack"):
        _local.stack = []
    _local.stack.append((query.shape[1] if query.ndim == 3 else 1, int(given["num_heads"])))
    try:
        yield
    finally:
        _local.stack.pop()

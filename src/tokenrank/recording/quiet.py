"""Unnoticed work on tensors: without gradients, and unseen by the modes under which the model runs."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


class Unnoticed:
    """A block without gradients and unseen by every torch function mode.

    Its results are ordinary tensors also where the model runs in inference mode: inference
    tensors refuse gradients for ever. With ``modes=True`` other modes go on seeing it.
    """

    def __init__(self, modes: bool = False) -> None:
        self._modes = modes

    def __enter__(self) -> None:
        self._grad = torch.is_grad_enabled()
        self._functions: Any = None
        self._inference: Any = None
        _entered.blocks.append(self)  # an interrupted one is put right by ``put_right``
        if not self._modes:
            self._functions = torch._C.DisableTorchFunction()
            self._functions.__enter__()
        if torch.is_inference_mode_enabled():
            self._inference = torch.inference_mode(False)
            self._inference.__enter__()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *error: Any) -> None:
        torch._C._set_grad_enabled(self._grad)
        if self._inference is not None:
            self._inference.__exit__(*error)
            self._inference = None
        if self._functions is not None:
            self._functions.__exit__(*error)
        _entered.blocks.remove(self)


class _Entered(threading.local):
    """This thread's ``Unnoticed`` blocks that have not ended, outermost first."""

    def __init__(self) -> None:
        self.blocks: list[Unnoticed] = []


_entered = _Entered()


def unnoticed_depth() -> int:
    """How many ``Unnoticed`` blocks this thread is in."""
    return len(_entered.blocks)


def put_right(depth: int) -> None:
    """Undo what interrupted ``Unnoticed`` blocks of this thread left behind, all but the outer ``depth``.

    Where no exception is on its way nothing was interrupted. Nor is one where a block that was let go is collected,
    which may happen in the middle of another one's work.
    """
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, GeneratorExit) and len(_entered.blocks) > depth:
        _entered.blocks[-1].__exit__(None, None, None)


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Arithmetic in the dtype that was asked for, also inside autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()

"""Unnoticed work on tensors: without gradients, and unseen by the modes under which the model runs."""

from __future__ import annotations

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
        self._functions = None if self._modes else torch._C.DisableTorchFunction()
        if self._functions is not None:
            self._functions.__enter__()
        self._inference = torch.inference_mode(False) if torch.is_inference_mode_enabled() else None
        if self._inference is not None:
            self._inference.__enter__()
        self._grad = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *error: Any) -> None:
        torch._C._set_grad_enabled(self._grad)
        if self._inference is not None:
            self._inference.__exit__(*error)
        if self._functions is not None:
            self._functions.__exit__(*error)


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Arithmetic in the dtype that was asked for, also inside autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()

"""Work on tensors that the running model must not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def untracked() -> Iterator[None]:
    """No gradients, and no inference tensors as results: those refuse gradients for ever."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def unnoticed() -> Iterator[None]:
    """The same, and invisible to every torch function mode."""
    with torch._C.DisableTorchFunction(), untracked():
        yield


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Arithmetic in the dtype that was asked for, also inside autocast."""
    with torch.autocast(device.type, enabled=False):
        yield

"""The module whose attention is meant, from what people hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..errors import InputError
from ..models import Model

_DENOISERS = ("transformer", "unet")  # of pipelines of diffusers
_INNER = ("model", "module")  # of pipelines of transformers, and wrappers in general


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
        found = [inside[name] for name in names if name in inside]
        if len(found) == 1:
            return found[0]
    listed = ", ".join(map(repr, list(inside)[:3])) + (f" … ({len(inside)} in all)" if len(inside) > 3 else "")
    cure = f"pass one of its modules: {listed}" if inside else "pass the module that you call"
    raise InputError(f"cannot capture a {type(model).__name__}, expected a torch.nn.Module; {cure}")

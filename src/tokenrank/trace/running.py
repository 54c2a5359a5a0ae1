"""Words for a model that cannot run on its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import InputError, first_line


def cannot_run(module: nn.Module, inputs: Mapping[str, Any], error: Exception, function: str) -> InputError:
    """What to raise, from ``error``, where a module fails on its inputs by itself.

    Args:
        module: the model.
        inputs: name → what it was given.
        error: its own.
        function: whose inputs they are, such as "tr.observe".
    """
    given = ", ".join(f"{name} {_words(value)}".strip() for name, value in inputs.items())
    return InputError(
        f"{type(module).__name__} cannot run on its inputs ({given}): {type(error).__name__}: {first_line(error)}; "
        f"give {function} what module(**inputs) takes by itself"
    )


def _words(value: Any) -> str:
    """An input in a few words: a tensor's shape and type."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__

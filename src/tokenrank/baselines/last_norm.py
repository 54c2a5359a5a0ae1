"""The layer that class activation maps look at."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from ..errors import CaptureError
from ..observation import Observation


def last_norm(observation: Observation) -> nn.Module:
    """The last normalisation of all tokens before the last layer's attention: the first norm of the last block.

    Later ones are no use where the answer is read from CLS: it no longer depends on the patches there.

    Raises:
        CaptureError: there is none.
    """
    root, last = observation.model.module, observation.layers[-1]
    tokens = observation.layout.num_tokens
    before: list[nn.Module] = []
    reached: list[bool] = []

    def passed(module: nn.Module, args: Any, out: Any) -> None:
        if not reached and isinstance(out, Tensor) and out.ndim == 3 and out.shape[1] == tokens:
            before.append(module)

    with ExitStack() as stack:
        for module in root.modules():
            if "norm" in type(module).__name__.lower():
                stack.callback(module.register_forward_hook(passed).remove)
        attention = root.get_submodule(last)
        stack.callback(attention.register_forward_pre_hook(lambda *_: reached.append(True)).remove)
        observation.model.forward(observation.inputs)
    if not before:
        raise CaptureError(
            f"no normalisation of all {tokens} tokens runs before the attention {last!r}; name a layer: "
            "target_layer='blocks.11.norm1'"
        )
    return before[-1]

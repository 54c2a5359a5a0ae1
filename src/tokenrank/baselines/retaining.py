"""A torch function mode that keeps the attention weights of a differentiable forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import CaptureError
from ..models import Model
from ..observation import Observation
from ..recording.fused import SDPA
from ..recording.mode import MULTI_HEAD, ModuleNames, run_visibly
from .class_target import class_logits
from .explicit_attention import explicit_attention

_SOFTMAX = frozenset({"softmax", "_softmax"})
# between the softmax and the product with the values, these leave the weights what they are
_PASSING = frozenset(
    {"to", "type", "type_as", "float", "double", "half", "bfloat16", "dropout", "contiguous", "clone", "view"}
    | {"reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "masked_fill", "nan_to_num"}
)
_PRODUCT = frozenset({"matmul", "__matmul__", "bmm", "einsum"})


@dataclass(frozen=True, eq=False)
class Retained:
    """Attention weights of one call, part of the autograd graph.

    Attributes:
        name: of the module that computed them.
        weights: as the model shaped them, such as (1, heads, N, N).
    """

    name: str
    weights: Tensor


def name_of(function: Any) -> str:
    """What PyTorch calls a function: "matmul" for ``torch.matmul`` and ``Tensor.matmul``; of a property its name."""
    name = str(getattr(function, "__name__", function))
    return str(getattr(function.__self__, "__name__", name)) if name == "__get__" else name


class RetainingMode(TorchFunctionMode):
    """Writes fused attention out and keeps every softmax that is multiplied with something, in the model's order.

    A subclass changes what runs for a function by overriding ``apply``.

    Args:
        root: the module that will run.
    """

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.retained: list[Retained] = []
        self._names = ModuleNames(root)
        # id of a tensor → (that tensor, held so that its id stays its own; the softmax that it is)
        self._softmaxes: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or what stands for it, and look at the result."""
        kwargs = kwargs or {}
        if func is MULTI_HEAD:
            with self:
                return run_visibly(args, kwargs)
        if func in SDPA:
            with self:
                return explicit_attention(*args, **kwargs)
        out = self.apply(func, args, kwargs)
        if isinstance(out, Tensor):
            self._look(name_of(func), args, kwargs, out)
        return out

    def apply(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func``."""
        return func(*args, **kwargs)

    def running(self) -> str:
        """Name of the module that runs, for messages and records."""
        found = self._names.running()
        return "" if found is None else found[0]

    def _look(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        if name in _SOFTMAX:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if out.ndim > 2 and dim in (-1, out.ndim - 1):
                self._softmaxes[id(out)] = (out, out)
        elif self._softmaxes and name in _PASSING:
            found = self._softmaxes.get(id(args[0])) if args else None
            if found is not None:
                self._softmaxes[id(out)] = (out, found[1])
        elif self._softmaxes and name in _PRODUCT:
            left = _left_factor(name, args)
            found = self._softmaxes.get(id(left))
            if found is not None and not any(found[1] is r.weights for r in self.retained):
                self.retained.append(Retained(self.running(), found[1]))


def _left_factor(name: str, args: tuple[Any, ...]) -> Any:
    if name != "einsum":
        return args[0] if args else None
    operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    return operands[0] if operands else None


def differentiable(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same inputs, with pictures (float, four dimensions or more) that ask for gradients."""
    return {
        name: value.detach().clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 4
        else value
        for name, value in inputs.items()
    }


def run_retaining(observation: Observation, mode: RetainingMode) -> Tensor:
    """Logits (classes,) of a forward under ``mode``, with their graph.

    Raises:
        CaptureError: the model answers otherwise under the mode than without it.
    """
    model: Model = observation.model
    expected = class_logits(observation)
    with torch.compiler.set_stance("force_eager"), torch.inference_mode(False), torch.enable_grad():
        inputs = differentiable(observation.inputs)
        with mode:
            logits = model.logits(inputs)[0]
    error = (logits.detach() - expected).abs().max().item()
    allowed = torch.finfo(logits.dtype).eps ** 0.5 * (1 + expected.abs().max().item())
    if not error <= allowed:
        raise CaptureError(
            f"model {model.name!r} answers otherwise when its attention is written out: logits differ by {error:.3g}, "
            f"expected {allowed:.1g} at most; is it in eval mode and free of in-place tricks?"
        )
    return logits


def of_layers(observation: Observation, mode: RetainingMode) -> list[Tensor]:
    """The retained weights of ``observation.layers``, in order, as the model shaped them.

    Raises:
        CaptureError: weights of a layer were not seen, were seen twice, or have other shapes.
    """
    found = []
    for layer in observation.layers:
        shape = observation.full(layer).shape
        weights = [r.weights for r in mode.retained if r.name == layer]
        if len(weights) != 1:
            seen = ", ".join(repr(r.name) for r in mode.retained[:4]) or "none"
            raise CaptureError(
                f"the attention weights of layer {layer!r} were seen {len(weights)} times in a differentiable forward, "
                f"expected once (seen: {seen}); load the model with attention='eager' or 'sdpa'"
            )
        if weights[0].shape[-2:] != shape[-2:] or weights[0].numel() != shape.numel():
            raise CaptureError(
                f"the attention weights of layer {layer!r} have shape {tuple(weights[0].shape)}, expected "
                f"(1, {', '.join(map(str, shape))})"
            )
        found.append(weights[0])
    return found

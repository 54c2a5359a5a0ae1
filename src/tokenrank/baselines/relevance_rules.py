"""Rules of relevance propagation (LRP): autograd functions whose backward carries relevance, and a mode of them.

Rules of Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), section 3.1,
with α = 1, β = 0. R is what arrives at an output, and what is returned goes to the inputs.
"""

# mypy: disable-error-code="override,no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from ..errors import CaptureError
from ..recording.mode import ModuleNames

Linear: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(x, w) → a map linear in x and in w, without a bias."""

Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = dict[str, Any]
Rule: TypeAlias = Callable[[Any, Arguments, Keywords], Any]

EPSILON = 1e-9
"""Added to denominators, away from zero, as the paper's code does."""


def ratio(relevance: Tensor, total: Tensor) -> Tensor:
    """R / Z entry by entry; 0 where Z = 0."""
    away = total + EPSILON * total.sign()
    return torch.where(total == 0, torch.zeros_like(relevance), relevance / torch.where(total == 0, 1.0, away))


class Identity(torch.autograd.Function):
    """All relevance of the output is the input's: activations, norms, softmax, constant factors and summands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
        """``run()``, of the shape of ``x`` or one that ``x`` broadcasts to."""
        ctx.shape = x.shape
        return run()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        """R, summed over what was broadcast."""
        return relevance.sum_to_size(ctx.shape), None


class PositiveLinear(torch.autograd.Function):
    """A linear map with constant weights, the z⁺ rule: each input gets its share of what pushed the output up.

    R_j = Σ_i (x_j w_ji)⁺ / Σ_k (x_k w_ki)⁺ · R_i; biases get nothing. An output that nothing pushes up loses its R.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, linear: Linear, run: Callable[[], Tensor]) -> Tensor:
        """``run()``: the map as the model has it, bias and all."""
        ctx.save_for_backward(x, weight)
        ctx.linear = linear
        return run()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        """Shares of R."""
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            up, down = x.detach().clamp(min=0).requires_grad_(), x.detach().clamp(max=0).requires_grad_()
            total = ctx.linear(up, weight.clamp(min=0)) + ctx.linear(down, weight.clamp(max=0))
            to_up, to_down = torch.autograd.grad(total, (up, down), ratio(relevance, total.detach()))
        return (up * to_up + down * to_down).detach(), None, None, None


class Average(torch.autograd.Function):
    """A sum or mean of the input's entries: shares among the entries that have the output's sign.

    R_j = (s x_j)⁺ / Σ_k (s x_k)⁺ · R, s the sign of Σ x. For a positive output it is the z⁺ rule with equal weights, as
    the paper's code has it for pooling behind a ReLU. Token states have both signs: there z⁺ alone would lose the
    relevance of every channel that is negative in all tokens.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """``run(x)``."""
        ctx.save_for_backward(x)
        ctx.run = run
        return run(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        """Shares of R."""
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            up, down = x.detach().clamp(min=0).requires_grad_(), x.detach().clamp(max=0).requires_grad_()
            totals = ctx.run(up), ctx.run(down)
            rises = (totals[0] + totals[1]).detach() > 0
            shares = ratio(relevance * rises, totals[0].detach()), ratio(relevance * ~rises, totals[1].detach())
            to_up, to_down = torch.autograd.grad(totals, (up, down), shares)
        return (up * to_up + down * to_down).detach(), None


class Product(torch.autograd.Function):
    """A product of two things that both carry relevance, such as attention weights and values: half for each.

    R_x = ½ x ⊙ ∂(xy)/∂x · (R / xy), and y likewise.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """``run(x, y)``, linear in each."""
        ctx.save_for_backward(x, y)
        ctx.run = run
        return run(x, y)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor, None]:
        """Halves of R, by contribution."""
        x, y = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        with torch.enable_grad():
            total = ctx.run(x, y)
            to_x, to_y = torch.autograd.grad(total, (x, y), ratio(relevance, total.detach()))
        return (x * to_x / 2).detach(), (y * to_y / 2).detach(), None


class Sum(torch.autograd.Function):
    """x + factor · y, both carrying relevance, such as a residual connection.

    Entry by entry each gets its contribution's share, R_x = x R / (x + y). Where x and y cancel these shares are
    large, so that both are then scaled, to ΣR in all, in the proportion |ΣR_x| : |ΣR_y| (equations 9 and 10).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, factor: float) -> Tensor:
        """The sum."""
        ctx.save_for_backward(x, y)
        ctx.factor = factor
        return torch.add(x, y, alpha=factor)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor, None]:
        """Shares of R."""
        x, y = ctx.saved_tensors
        y = y * ctx.factor
        share = ratio(relevance, x + y)
        parts = (x * share, y * share)
        sums = [part.sum() for part in parts]
        size = sums[0].abs() + sums[1].abs()
        scaled = [
            part * ratio(ratio(total.abs(), size) * relevance.sum(), total)
            for part, total in zip(parts, sums, strict=True)
        ]
        return scaled[0].sum_to_size(x.shape), scaled[1].sum_to_size(y.shape), None


class RelevanceMode(TorchFunctionMode):
    """Replaces functions by their rules; what carries relevance is what comes from the picture.

    Parameters are constants here. A function that only moves numbers around keeps its backward, which moves relevance
    back to where it came from. Position embeddings and other constant summands get no share. Fused attention has no
    rule: it is to be written out inside of this mode.

    Rotary embeddings, x · cos + rotate(x) · sin, need no rule of their own: cos and sin are constant factors, and the
    sum splits by contribution, so that relevance moves between the two channels of a pair, within a token and a head.

    Args:
        root: the module that will run, for the names in messages.

    Raises:
        CaptureError: while the model runs, a function without a rule would carry relevance.
    """

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self._names = ModuleNames(root)

    def __torch_function__(self, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None) -> Any:
        """Run the rule of ``func``."""
        args, kwargs = tree_map_only(nn.Parameter, Tensor.detach, (args, kwargs or {}))
        if not any(map(carries, tree_flatten((args, kwargs))[0])):
            return func(*args, **kwargs)
        name = name_of(func)
        if name in _RULES:
            out = _RULES[name](func, args, kwargs)
            if out is not NotImplemented:
                return out
        elif name in _MOVING or not _writes(name):
            out = func(*args, **kwargs)
            if name in _MOVING or not any(map(carries, tree_flatten(out)[0])):
                return out
        running = self._names.running()
        raise CaptureError(
            f"no rule for relevance through {name!r}, called in {'' if running is None else running[0]!r}; gradient "
            "methods such as generic_relevance do not need one"
        )


def name_of(function: Any) -> str:
    """What PyTorch calls a function: "matmul" for ``torch.matmul`` and ``Tensor.matmul``; of a property its name."""
    name = str(getattr(function, "__name__", function))
    return str(getattr(function.__self__, "__name__", name)) if name == "__get__" else name


def carries(value: Any) -> bool:
    """Whether relevance arrives at a value."""
    return isinstance(value, Tensor) and value.requires_grad


def _writes(name: str) -> bool:
    """Whether a function overwrites its first argument, which autograd forbids behind a rule."""
    return name in _WRITING or (name.endswith("_") and not name.endswith("__"))


def _identity(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    name, x = ("input", kwargs.get("input")) if not args else ("", args[0])
    rest = [*args[1:], *(v for k, v in kwargs.items() if k != name)]
    if not carries(x) or any(map(carries, tree_flatten(rest)[0])):
        return NotImplemented
    return Identity.apply(x, lambda: func(*args, **kwargs))


def _linear(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``linear`` and convolutions: (input, weight, bias, …)."""
    if kwargs.keys() & {"input", "weight"}:
        args = (kwargs.get("input", args[0] if args else None), kwargs["weight"], *args[2:])
        kwargs = {k: v for k, v in kwargs.items() if k not in ("input", "weight")}
    x, weight, *more = args
    if not carries(x) or any(map(carries, tree_flatten((weight, more, kwargs))[0])):
        return NotImplemented
    plain = {k: v for k, v in kwargs.items() if k != "bias"}
    after = [None, *more[1:]] if more else []
    return PositiveLinear.apply(
        x, weight, lambda x, w: func(x, w, *after, **plain), lambda: func(x, weight, *more, **kwargs)
    )


def _bilinear(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``matmul`` and its kin, (x, y)."""
    if len(args) != 2 or kwargs:
        return NotImplemented
    return _product(args[0], args[1], lambda x, y: func(x, y))


def _einsum(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    if not isinstance(args[0], str) or len(operands) != 2 or kwargs:
        return NotImplemented
    return _product(operands[0], operands[1], lambda x, y: torch.einsum(args[0], x, y))


def _product(x: Any, y: Any, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if carries(x) and carries(y):
        return Product.apply(x, y, run)
    if carries(x):
        return PositiveLinear.apply(x, y, run, lambda: run(x, y))
    return PositiveLinear.apply(y, x, lambda y, x: run(x, y), lambda: run(x, y))


def _multiply(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Gates carry relevance on both sides; scales of channels (LayerScale), scalars and masks do not."""
    if len(args) != 2 or kwargs:
        return NotImplemented
    if carries(args[0]) and carries(args[1]):
        return Product.apply(args[0], args[1], torch.mul)
    x = args[0] if carries(args[0]) else args[1]
    return Identity.apply(x, lambda: func(*args))


def _add(func: Any, args: Arguments, kwargs: Keywords, sign: float = 1.0) -> Any:
    if len(args) != 2 or kwargs.keys() - {"alpha"}:
        return NotImplemented
    x, y = args
    if carries(x) and carries(y):
        return Sum.apply(x, y, sign * kwargs.get("alpha", 1))
    return Identity.apply(x if carries(x) else y, lambda: func(*args, **kwargs))


def _subtract(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    return _add(func, args, kwargs, -1.0)


def _mean(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    if not args or kwargs.get("out") is not None:
        return NotImplemented
    return Average.apply(args[0], lambda x: func(x, *args[1:], **kwargs))


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _linear),
    **dict.fromkeys(("matmul", "__matmul__", "bmm"), _bilinear),
    "einsum": _einsum,
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), _multiply),
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
    **dict.fromkeys(("sub", "subtract", "__sub__"), _subtract),
    **dict.fromkeys(("mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"), _mean),
    **dict.fromkeys(("div", "true_divide", "__truediv__", "neg", "__neg__", "rsub", "__rsub__"), _identity),
    **dict.fromkeys(("layer_norm", "rms_norm", "group_norm", "batch_norm", "normalize"), _identity),
    **dict.fromkeys(("softmax", "_softmax", "gelu", "relu", "relu6", "silu", "mish", "elu", "leaky_relu"), _identity),
    **dict.fromkeys(("sigmoid", "tanh", "hardswish", "hardsigmoid", "softplus"), _identity),
}

# no arithmetic: the backward sends each number's relevance to where the number came from
_MOVING = frozenset(
    {"view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone"}
    | {"transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "H", "mH", "rot90"}
    | {"__getitem__", "select", "narrow", "index_select", "gather", "take_along_dim", "masked_select", "diagonal"}
    | {"split", "chunk", "tensor_split", "unbind", "cat", "concat", "concatenate", "stack", "hstack", "vstack"}
    | {"expand", "expand_as", "repeat", "tile", "repeat_interleave", "broadcast_to", "roll", "flip", "pad", "unfold"}
    | {"to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "masked_fill", "where"}
    | {"dropout", "requires_grad_", "max_pool2d", "alias"}
)

_WRITING = frozenset({"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__imatmul__"})

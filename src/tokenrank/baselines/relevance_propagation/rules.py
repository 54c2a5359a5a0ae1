"""The rules: autograd functions whose backward carries relevance instead of gradients.

Rules of Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), section 3.1,
with α = 1, β = 0. R is what arrives at an output, and what is returned goes to the inputs.
"""

# mypy: disable-error-code="override,no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Linear: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(x, w) → a map linear in x and in w, without a bias."""

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

"""Checks of weights, logits and masks: every error names the row, the value found and the cure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..attention_mask import allowed
from ..errors import ChainError
from .attention import MASKED

# how far a row sum may be from one before it is an error, by the dtype that the weights came in:
# rounding to half precision loses that much, computing in single precision never does
ROW_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


# batches are padded to their longest sample, and what attends to nothing is mostly that
OTHER_SAMPLE = "padding of a shorter sample of a batch is left out by trace.select(sample=…)"


def stochastic(weights: Tensor) -> Tensor:
    """Check weights (*batch, N, N) and return them in float32 or wider, rows summing to one.

    Row sums within ``ROW_TOLERANCE`` of one (rounding of the dtype that the weights came in)
    are divided out; anything further off is an error.

    Raises:
        ChainError: fewer than two dimensions, not square, empty, not floating point, NaN,
            infinite or negative entries, a row that does not sum to one.
    """
    return stochastic_and_ahead(weights)[0]


def stochastic_and_ahead(weights: Tensor) -> tuple[Tensor, bool]:
    """The same, and whether the first token of some chain leads to a later one: told by the same look."""
    square(weights.shape)
    return _looked_at(weights)


def distributions(weights: Tensor) -> Tensor:
    """The same for rectangular weights (*batch, N, M): every row is a distribution over M tokens."""
    return _looked_at(weights)[0]


def _looked_at(weights: Tensor) -> tuple[Tensor, bool]:
    if 0 in weights.shape:
        raise ChainError(f"shape {tuple(weights.shape)} is empty, expected at least one token and one matrix")
    if weights.dtype not in ROW_TOLERANCE:
        raise ChainError(
            f"weights are {weights.dtype}, expected a floating-point tensor of probabilities; "
            "convert them, or use AttentionChain.from_scores for logits"
        )
    tolerance = ROW_TOLERANCE[weights.dtype]
    weights = widened(weights)
    sums = weights.sum(-1)
    off = (sums - 1).abs()
    ahead = weights[..., 0, 1:].any().to(off.dtype)
    lowest, furthest, first = torch.stack([weights.amin(), off.amax(), ahead]).tolist()  # the one wait
    if not (lowest >= 0 and furthest <= tolerance):
        _refuse(weights, sums, tolerance)
    if furthest > 8 * torch.finfo(weights.dtype).eps:
        weights = weights / sums[..., None]
    return weights, bool(first)


def _refuse(weights: Tensor, sums: Tensor, tolerance: float) -> None:
    """Raise ChainError at the first weight or row that is wrong."""
    if not torch.isfinite(sums).all() and not torch.isfinite(weights).all():
        bad = _first(~torch.isfinite(weights))
        raise ChainError(
            f"weight {_where(bad)} is {weights[bad].item()}, expected a probability; a row whose keys are "
            f"all masked gives NaN: drop such tokens before building the chain; {OTHER_SAMPLE}"
        )
    if weights.amin() < 0:
        bad = _first(weights < 0)
        raise ChainError(
            f"weight {_where(bad)} is {weights[bad].item():.4g}, expected a probability ≥ 0; "
            "use AttentionChain.from_scores for logits"
        )
    bad = _first((sums - 1).abs() > tolerance)
    cure = (
        f"this row is fully masked: drop the token; {OTHER_SAMPLE}"
        if sums[bad] == 0
        else "divide each row by its sum if that is what you mean, pass half-precision weights in their "
        "own dtype, or use AttentionChain.from_scores for logits"
    )
    raise ChainError(f"row {_where(bad)} sums to {sums[bad].item():.6g}, expected 1 within {tolerance:g}; {cure}")


def square(shape: Sequence[int]) -> None:
    """Raise ChainError unless the shape is (*batch, N, N) with N > 0 and nothing empty."""
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ChainError(
            f"shape {tuple(shape)}, expected (*batch, N, N): as many keys as queries; "
            "cross-attention is rectangular and is no chain by itself"
        )
    if 0 in shape:
        raise ChainError(f"shape {tuple(shape)} is empty, expected at least one token and one matrix")


def no_masked_rows(mask: Tensor, is_causal: bool, num_tokens: int) -> None:
    """Raise ChainError if some query may attend to no key at all.

    ``mask`` is bool (True may attend) or float (added to the logits), broadcastable to
    (*batch, N, N); see ``allowed``.
    """
    reachable = rows_seen(mask, is_causal, num_tokens)
    if not reachable.all():
        bad = _first(~reachable[..., 0])
        raise ChainError(
            f"row {_where(bad)} is fully masked: token {bad[-1]} may attend to no key; expected at least one "
            f"a row; drop such tokens from q, k and mask before building the chain; {OTHER_SAMPLE}"
        )


def rows_seen(mask: Tensor, is_causal: bool, num_tokens: int) -> Tensor:
    """Which queries may attend to some key, bool (…, N or 1, 1); see ``no_masked_rows``."""
    seen = allowed(mask)
    if is_causal and seen.shape[-2] == 1:
        return seen.expand(*seen.shape[:-1], num_tokens).cummax(-1).values.transpose(-1, -2)
    if is_causal:
        return seen.expand(*seen.shape[:-2], num_tokens, num_tokens).tril().any(-1, keepdim=True)
    return seen.any(-1, keepdim=True)


def broadcasts(shape: Sequence[int], full: Sequence[int]) -> bool:
    """Whether a tensor of a shape can be expanded to ``full``."""
    try:
        return np.broadcast_shapes(tuple(shape), tuple(full)) == tuple(full)
    except ValueError:
        return False


def mask_dtype(name: str, mask: Tensor) -> None:
    """Raise ChainError for a mask that is neither bool nor floating point."""
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ChainError(
            f"{name} is {mask.dtype}, expected bool (True may attend) or floating point (added to the logits); "
            f"a 0/1 mask of integers is {name}.bool()"
        )


def mask_numbers(name: str, mask: Tensor) -> None:
    """Raise ChainError for an added mask with NaN or +inf."""
    if mask.dtype != torch.bool and bool((torch.isnan(mask) | (mask == math.inf)).any()):
        raise ChainError(f"{name} holds NaN or +inf, expected finite numbers or −inf")


def positive_scale(scale: float) -> None:
    """Raise ChainError for a factor of the logits that is none."""
    if not (math.isfinite(scale) and scale > 0):
        raise ChainError(f"scale is {scale}, expected a positive number; leave it out for 1/√d")


def largest_logit(largest: float) -> None:
    """Raise ChainError where logits may come near to what stands for −∞."""
    if largest > -MASKED / 10:
        raise ChainError(
            f"logits may reach {largest:.3g}, expected at most {-MASKED / 10:.0e}, so that softmax stays finite; "
            "check the scale, and look for an overflow in the model before this layer"
        )


def floating(name: str, tensor: Tensor) -> None:
    """Raise ChainError for integers, booleans, complex numbers, formats of 8 bits, and tensors without numbers."""
    if not tensor.is_floating_point():
        raise ChainError(f"{name} is {tensor.dtype}, expected a floating-point tensor; convert it with .float()")
    if tensor.dtype not in ROW_TOLERANCE:
        raise ChainError(
            f"{name} is {tensor.dtype}, expected float16, bfloat16, float32 or float64; convert it with .float()"
        )
    if tensor.is_meta:
        raise ChainError(f"{name} is on the device 'meta' and holds no numbers, expected a tensor that does")


def finite(name: str, tensor: Tensor) -> None:
    """Raise ChainError at the first NaN or infinite entry."""
    if not torch.isfinite(tensor).all():
        bad = _first(~torch.isfinite(tensor))
        raise ChainError(
            f"{name} {_where(bad)} is {tensor[bad].item()}, expected finite numbers; "
            "look for an overflow in the model (half precision?) before this layer"
        )


def renormalised(block: Tensor, keep: Tensor) -> Tensor:
    """Rows of a square sub-block divided by their sums; ChainError for a row without mass."""
    sums = block.sum(-1, keepdim=True)
    no_empty_rows(~(sums[..., 0] > 0), keep)
    return block / sums


def no_empty_rows(empty: Tensor, keep: Tensor) -> None:
    """Raise ChainError if a kept token, (*batch or less, M), sends no probability to the kept tokens."""
    if empty.any():
        bad = _first(empty)
        raise ChainError(
            f"token {int(keep[bad[-1]])} sends no probability to the tokens kept, so that its row cannot be "
            f"renormalised; keep one of its targets too, or leave the token out; {OTHER_SAMPLE}"
        )


def widened(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _first(bad: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in bad.nonzero()[0])


def _where(index: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, index)) + "]"

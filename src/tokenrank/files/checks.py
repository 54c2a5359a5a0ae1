"""Checks of attention from outside: arrays as tensors; weights, queries and keys that are what they claim."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line
from ..operators.checks import ROW_TOLERANCE
from ..recording.quiet import Unnoticed

FLOATS = tuple(ROW_TOLERANCE)


def is_array(value: Any) -> bool:
    """Whether ``value`` is a tensor or an array of numbers, not a container of them."""
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "__array__")


def as_tensor(value: Any, what: str) -> Tensor:
    """``value`` as a plain tensor without gradients; its memory is shared where that is possible.

    Args:
        value: a tensor, a NumPy array, or an array of another library that NumPy can read.
        what: its name, for the error.

    Raises:
        InputError: no array of numbers; sparse; on the device "meta".
    """
    if value is None:
        raise InputError(f"{what} is None, expected a tensor or an array")
    if not isinstance(value, Tensor):
        value = _from_array(value, what)
    if value.layout is not torch.strided or value.is_quantized:
        raise InputError(f"{what} is a sparse or quantized tensor, expected a dense one; convert it with .to_dense()")
    if value.is_meta:
        raise InputError(f"{what} is on the device 'meta', which holds shapes only; give a tensor with numbers in it")
    return value.detach().as_subclass(Tensor)


def _from_array(value: Any, what: str) -> Tensor:
    if not is_array(value):
        raise InputError(f"{what} is of type {type(value).__name__}, expected a tensor or an array of numbers")
    try:
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except Exception as error:
        dtype = getattr(value, "dtype", type(value).__name__)
        raise InputError(
            f"{what} of type {dtype} is no array of numbers that PyTorch knows: {first_line(error)}; convert it to "
            "float32"
        ) from error


def check_weights(weights: Tensor, what: str) -> None:
    """Refuse what are no attention weights (…, N, M): rows must be probabilities that sum to one.

    How far a row's sum may be off depends on the dtype: ``operators.checks.ROW_TOLERANCE``.

    Raises:
        InputError: not floating point, fewer than two dimensions, empty, NaN or infinite, negative,
            or rows that do not sum to one; with the likely reason.
    """
    check_shape(weights, what)
    with Unnoticed():
        low, high = (float(x) for x in weights.aminmax())
        if math.isnan(low):
            raise InputError(
                f"{what} holds NaN, expected probabilities; a row whose keys are all masked gives NaN: leave out such "
                "tokens (padding), or look for an overflow in the model"
            )
        if math.isinf(low) or math.isinf(high) or low < 0:
            raise InputError(
                f"{what} reaches from {low:.4g} to {high:.4g}, expected probabilities from 0 to 1; these look like "
                "logits: apply .softmax(-1)"
            )
        # rows of half precision are summed in single precision, where 2**16 of them still count exactly enough
        sums = weights.sum(-1, dtype=torch.promote_types(weights.dtype, torch.float32))
        tolerance = ROW_TOLERANCE[weights.dtype]
        off = (sums - 1).abs() > tolerance
        if not bool(off.any()):
            return
        row = tuple(int(i) for i in off.nonzero()[0])
        problem = f"{what}: row {list(row)} sums to {float(sums[row]):.6g}, expected 1 within {tolerance:g}"
        raise InputError(f"{problem}; {_reason(weights, sums, tolerance)}")


def _reason(weights: Tensor, sums: Tensor, tolerance: float) -> str:
    if bool((sums == 0).any()):
        return "a row of zeros is a token that may attend to nothing: leave such tokens (padding) out"
    columns = weights.sum(-2, dtype=sums.dtype)
    if bool(((columns - 1).abs() <= tolerance).all()):
        return "its columns sum to one, so queries and keys are exchanged: transpose the last two dimensions"
    if float(sums.amax()) <= 1 + tolerance:
        return (
            "no row sums to more than one, so either an attention sink takes a share that the library left out "
            "(use tr.capture, which records it), or these are weights after dropout: model.eval()"
        )
    if float(weights.amax()) > 2:
        return "these look like logits: apply .softmax(-1)"
    return (
        "either these are logits, so apply .softmax(-1), or weights after dropout of a model in training: model.eval()"
    )


def check_shape(weights: Tensor, what: str) -> None:
    """Refuse what has not the type or the shape (…, N, M) of attention weights.

    Raises:
        InputError: not floating point, fewer than two dimensions, or empty.
    """
    _check_floating(weights, what)
    if weights.ndim < 2 or not weights.numel():
        raise InputError(
            f"{what} has shape {tuple(weights.shape)}, expected (…, heads, queries, keys) with one of each at least"
        )


def check_query_key(
    q: Tensor, k: Tensor, scale: float, mask: Tensor | None, sinks: Tensor | None, what: str, finite: bool = True
) -> None:
    """Refuse queries (…, H, N, d), keys (…, H or a divisor, M, d), masks and sinks (H,) that do not fit each other.

    Args:
        q, k, scale, mask, sinks: as in ``tokenrank.recording.AttentionRecord``.
        what: the name of them all, for the error.
        finite: whether to look at the numbers, too.

    Raises:
        InputError: types or shapes that do not fit; NaN or infinite numbers, a scale that is not positive.
    """
    for name, tensor in (("q", q), ("k", k)):
        _check_floating(tensor, f"{name} of {what}")
    shapes = f"q of {what} has shape {tuple(q.shape)} and k {tuple(k.shape)}"
    if q.ndim < 2 or k.ndim < 2 or q.shape[-1] != k.shape[-1] or not q.numel() or not k.numel():
        raise InputError(
            f"{shapes}, expected (…, heads, queries, d) and (…, heads, keys, d) with the same d, not empty"
        )
    if k.ndim > q.ndim or not _heads_fit(q.shape, k.shape):
        raise InputError(
            f"{shapes}, expected the same dimensions before the last two, or a number of query heads that is a "
            "multiple of the key heads; heads come before tokens: transpose(-3, -2) where they come after"
        )
    if any(tensor is not None and tensor.device != q.device for tensor in (k, mask, sinks)):
        devices = {str(t.device) for t in (q, k, mask, sinks) if t is not None}
        raise InputError(f"tensors of {what} are on {sorted(devices)}, expected one device; move them with .to(device)")
    full = torch.Size((*q.shape[:-1], k.shape[-2]))
    if mask is not None:
        _check_mask(mask, full, what)
    if sinks is not None and (not sinks.is_floating_point() or sinks.shape != full[-3:-2]):
        raise InputError(
            f"sinks of {what} are {sinks.dtype} of shape {tuple(sinks.shape)}, expected a floating-point logit for "
            f"each of the heads, {tuple(full[-3:-2])}"
        )
    if finite:
        if not (math.isfinite(scale) and scale > 0):
            raise InputError(f"scale of {what} is {scale}, expected a positive number; leave it out for 1/√d")
        for name, tensor in (("q", q), ("k", k)):
            _check_finite(tensor, f"{name} of {what}")


def _check_floating(tensor: Tensor, what: str) -> None:
    if tensor.dtype not in FLOATS:
        raise InputError(
            f"{what} is {tensor.dtype}, expected {', '.join(str(f).removeprefix('torch.') for f in FLOATS)}; convert it"
        )


def _check_finite(tensor: Tensor, what: str) -> None:
    with Unnoticed():
        low, high = (float(x) for x in tensor.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            f"{what} reaches from {low} to {high}, expected finite numbers; look for an overflow in the model "
            "(half precision?) before this layer"
        )


def _heads_fit(q: torch.Size, k: torch.Size) -> bool:
    """Whether batch dimensions broadcast and query heads are a multiple of key heads."""
    batch_q, batch_k = q[:-3], k[:-3]
    if len(q) > 2 and len(k) > 2 and q[-3] % k[-3]:
        return False
    # aligned at the right, as broadcasting does
    return all(b in (1, a) for a, b in zip(reversed(batch_q), reversed(batch_k), strict=False))


def _check_mask(mask: Tensor, full: torch.Size, what: str) -> None:
    if mask.dtype != torch.bool and mask.dtype not in FLOATS:
        raise InputError(
            f"mask of {what} is {mask.dtype}, expected bool (True may attend) or floating point (added to the "
            "logits); a mask of zeros and ones is mask.bool()"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, full) == full
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"mask of {what} has shape {tuple(mask.shape)}, expected one that broadcasts to {tuple(full)}")


def as_scale(value: Any, d: int, what: str) -> float:
    """The factor of the logits as a number; 1/√d for None.

    Raises:
        InputError: no single real number.
    """
    if value is None:
        return float(d**-0.5) if d else 1.0
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(
            f"scale of {what} is {type(value).__name__} {str(value)[:60]!r}, expected one number"
        ) from None

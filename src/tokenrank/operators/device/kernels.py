"""Kernels of our own, in Triton: where they can be had, and what they compute.

Tested in Triton's interpreter on a CPU (``TRITON_INTERPRET=1``).
"""

from __future__ import annotations

import math
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ...errors import TokenRankWarning, first_line
from ..base import Structure
from .halves import HALVES, factors

LEAST, MOST = 8, 32  # columns of one launch: high and low parts fill the 16 of a tensor core
WIDEST = 256  # of queries and keys: a block of both has to fit beside each other
OLDEST = (8, 0)  # compute capability that Triton builds for
STREAMED = 64  # rows and columns of a block of weights
SPLIT = 2.0**-21  # of itself a term is off by at most, both its factors being high and low parts of float16,
LOST = 2.0**-38  # and by this part of the largest x of its column; whatever the dtype of queries and keys
TRIAL = {"cpu": 48, "cuda": 200}  # tokens of a trial: several blocks, the last one not full
CLOSE = 1e-4  # of its numbers, in float32
FULL = 4  # programs for each multiprocessor, from which no sum is shared between several


def exponential_product(
    q: Tensor,
    k: Tensor,
    b: Tensor,
    c: Tensor,
    x: Tensor,
    live: Tensor,
    *,
    scale: float,
    triangle: Structure = "full",
) -> Tensor:
    """Y_o = Σ_i exp(scale · q_o·k_i − b_i − c_o) x_i in float32, (h, N, c), zeros for heads where ``live`` is False.

    A x of a softmax is this with b = 0 and c the logarithms of the sums of rows; Aᵀx is it with queries and keys
    exchanged, b these logarithms and c = 0. A bias of the keys is subtracted from b or c. No exponent may be above
    zero but for rounding: there is no running maximum. What is above counts as zero. What a term is
    off by beside the rounding of logits in float32: ``SPLIT`` and ``LOST``.

    Args:
        q: (h, N, d), float16 or bfloat16, d at most 256.
        k: (h, M, d) of the same dtype.
        b: (h, M) float32; ∞ leaves a token out.
        c: (h, N) float32; ∞ leaves a token out.
        x: (h, M, c) float32.
        live: (h,) bool.
        scale: factor of the logits.
        triangle: "lower" sums over i ≤ o only, "upper" over i ≥ o.
    """
    from . import triton_code

    (h, n, d), m, width = q.shape, k.shape[-2], x.shape[-1]
    if width > MOST:
        parts = [exponential_product(q, k, b, c, p, live, scale=scale, triangle=triangle) for p in x.split(MOST, -1)]
        return torch.cat(parts, -1)
    q, k = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k))
    b, c, x = (t.float().contiguous() for t in (b, c, x))
    y = torch.empty(h, n, width, dtype=torch.float32, device=q.device)
    wide, columns = _power(d, 16), _power(width, LEAST)
    out, inner, options = (32, 32, {}) if q.device.type == "cpu" else blocks(wide, columns)
    with _on(q.device):
        triton_code.exponential[-(-n // out) * h,](
            *(q, k, b, c, x, factors(x), live.contiguous().view(torch.uint8), y),
            *(n, m, d, width, scale, q.stride(0), q.stride(1), k.stride(0), k.stride(1)),
            *(wide, columns, out, inner, triangle),
            **options,
        )
    return y


def streamed_product(weights: Tensor, x: Tensor, live: Tensor, transposed: bool, parts: int | None = None) -> Tensor:
    """Wᵀ x or W x in float32, (h, N, c), of weights (h, N, N) in float16 and x (h, N, c) in float32.

    Heads where ``live`` (h,) is False are not read and give zeros.

    Args:
        weights, x, live: as above.
        transposed: which of both.
        parts: programs that share a sum; as many as fill the device where None.
    """
    from . import triton_code

    h, n, width = x.shape
    if width > MOST:
        return torch.cat([streamed_product(weights, p, live, transposed, parts) for p in x.split(MOST, -1)], -1)
    runs = -(-n // STREAMED)
    parts = _parts(runs * h, runs, x.device) if parts is None else parts
    share = -(-runs // parts) * STREAMED
    x = x.contiguous()
    y = torch.empty(h, parts, n, width, dtype=torch.float32, device=x.device)
    head, row, column = weights.stride()
    with _on(x.device):
        triton_code.streamed[runs * parts * h,](
            *(weights, x, factors(x), live.contiguous().view(torch.uint8), y, n, width, parts, share),
            *(head, *((column, row) if transposed else (row, column))),
            *(_power(width, LEAST), STREAMED, STREAMED),
        )
    return y[:, 0] if parts == 1 else y.sum(1)


def available(device: torch.device, dtype: torch.dtype = torch.float16, width: int = 64) -> bool:
    """Whether ``exponential_product`` runs for queries and keys of this dtype and width on a device.

    Triton is installed, the device is new enough, and a trial, made once, gives the right numbers. On a CPU only in
    Triton's interpreter, and there in float16 alone: it multiplies bfloat16 as if it were whole numbers.
    """
    if dtype not in HALVES or width > WIDEST or not _has_triton(device, dtype):
        return False
    return _tried(torch.device(device), dtype, _power(width, 16))


def streams(device: torch.device) -> bool:
    """Whether ``streamed_product`` runs on a device; see ``available``."""
    return _has_triton(device, torch.float16) and _tried(torch.device(device), torch.float16, 0)


def _has_triton(device: torch.device, dtype: torch.dtype) -> bool:
    if find_spec("triton") is None:
        return False
    if device.type == "cpu":
        return os.environ.get("TRITON_INTERPRET") == "1" and dtype == torch.float16
    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= OLDEST


@cache
def _tried(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Of queries and keys of a width; of stored weights where it is 0."""
    try:
        right = _streamed_right(device) if width == 0 else _exponential_right(device, dtype, width)
        cause = "a trial gave wrong numbers"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no compiler on this machine, a device that Triton does not know, too large a block
        right, cause = False, f"{type(error).__name__}: {first_line(error)}"
    if not right:
        warnings.warn(
            f"the Triton kernels cannot be used on {device} ({cause}): products are taken by PyTorch's own kernels, "
            "which read settled heads, too",
            TokenRankWarning,
            stacklevel=2,
        )
    return right


def _exponential_right(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    q, k, x = _numbers(device, width).to(dtype), _numbers(device, width).cos().to(dtype), _numbers(device, 1)
    scale = 1 / math.sqrt(width)
    logits = scale * (q.double() @ k.double().mT)  # a float32 product may be one of TF32, by a setting of the user
    sums, zero = logits.logsumexp(-1), torch.zeros(q.shape[:-1], device=device)
    y = exponential_product(q, k, zero, sums, x, torch.ones(1, dtype=torch.bool, device=device), scale=scale)
    return _close(y, logits.softmax(-1) @ x.double())


def _streamed_right(device: torch.device) -> bool:
    weights, x = _numbers(device, TRIAL[device.type]).half(), _numbers(device, 1)
    y = streamed_product(weights, x, torch.ones(1, dtype=torch.bool, device=device), True)
    return _close(y, weights.double().mT @ x.double())


def _numbers(device: torch.device, width: int) -> Tensor:
    """Of all sizes from −1 to 1, (1, tokens of a trial, width)."""
    tokens = TRIAL[device.type]
    return torch.arange(tokens * width, dtype=torch.float32, device=device).mul_(0.7).sin_().view(1, tokens, width)


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= CLOSE * expected.abs().max())


def blocks(wide: int, columns: int = LEAST) -> tuple[int, int, dict[str, int]]:
    """Tokens of a block, tokens that it goes through at a time, and what Triton is told, by width and columns.

    By the report of the assembler none spills, and each fits into 99 kB of shared memory, that of the smallest cards.
    """
    if wide > 128:
        return 64, 32, {"num_warps": 4, "num_stages": 2}
    few = columns <= LEAST
    return 128, 64, {"num_warps": 4 if few and wide <= 64 else 8, "num_stages": 3 if few else 2}


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the device that is current, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _parts(programs: int, most: int, device: torch.device) -> int:
    """Programs that share a sum, so that all multiprocessors have work."""
    if device.type == "cpu":
        return 1
    wanted = FULL * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(most, wanted // programs))


def _power(width: int, least: int) -> int:
    """The power of two that holds ``width``, as Triton's blocks are."""
    return max(least, 1 << (width - 1).bit_length())

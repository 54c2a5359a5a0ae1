"""Attention by fused kernels alone: whatever is asked for, nothing of size N × N is made, and no width is refused.

PyTorch's call takes the math kernel silently where no fused one fits, which builds all weights: 56 GB at 16,384 tokens
and 24 heads. Here that is an error, which callers catch: they take rows by chunks instead.

Source: the conditions of PyTorch's kernels, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp. Only the CPU's kernel
was run in the tests; those of CUDA and ROCm stand behind ``_on_cuda``.
"""

from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from .halves import HALVES

MAX_COLUMNS = 128  # columns of v carried by one call, where queries are no wider
QUICK = 2.0**-13  # what an exponential of a kernel in half precision may be off by, relatively; measured: half of it
ALIGNED = 16  # bytes that kernels ask of the first number

_refused: set[tuple[object, ...]] = set()  # what no kernel took, once and for good
_without_cudnn: set[str] = set()  # devices whose cuDNN failed, once and for good


class NoKernelError(RuntimeError):
    """No fused kernel takes these tensors: caught inside, and taken by chunks of rows."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False, sums: bool = False
) -> tuple[Tensor, Tensor | None]:
    """softmax(scale · q kᵀ) v by one fused kernel, and the logarithms of the sums of its rows where asked for.

    Args:
        q, k: (*batch, N, d) and (*batch, M, d) of one dtype; half precision stays half.
        v: (*batch, M, c), of the same dtype.
        scale: factor of the logits.
        causal: token i sees tokens 0 … i; N = M.
        sums: whether to give them: (*batch, N) in float32, or in float64 for float64.

    Raises:
        NoKernelError: no fused kernel of the device takes these.
    """
    batch, n, c = q.shape[:-2], q.shape[-2], v.shape[-1]
    most = max(q.shape[-1], MAX_COLUMNS)
    if c > most:
        parts = [attend(q, k, part, scale, causal, sums and place == 0) for place, part in enumerate(v.split(most, -1))]
        return torch.cat([out for out, _ in parts], -1), parts[0][1]
    width, values = _widths(q, c)
    q4, k4, v4 = (_prepared(t, w) for t, w in ((q, width), (k, width), (v.expand(*batch, -1, -1), values)))
    key = (q.device.type, q.dtype, width, values, causal, sums)
    if key in _refused:
        raise NoKernelError(f"no fused kernel for {key}")
    try:
        out, lse = (_on_cuda if q.device.type == "cuda" else _on_cpu)(q4, k4, v4, scale, causal, sums)
    except NoKernelError:
        _refused.add(key)
        raise
    logs = None if lse is None else lse.reshape(*lse.shape[:2], -1)[..., :n].reshape(*batch, n)
    return out[..., :c].reshape(*batch, n, c), logs


def kernel_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """What products of queries and keys of a dtype are taken in, where an answer in half precision will do.

    float32 for bfloat16 on a card without it (compute capability below 8.0).
    """
    if stored != torch.bfloat16 or device.type != "cuda":
        return stored
    return stored if _takes_bfloat16(torch.cuda.get_device_capability(device), torch.version.hip) else torch.float32


def sums_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """What log-sum-exps in float32 are taken in: the half precision of queries and keys, whose products are exact.

    float32 on a CPU, whose kernel takes quick exponentials in half precision (``QUICK``).
    """
    return kernel_dtype(stored, device) if device.type == "cuda" else torch.promote_types(stored, torch.float32)


def _takes_bfloat16(capability: tuple[int, int], hip: str | None) -> bool:
    return hip is not None or capability[0] >= 8


def _widths(q: Tensor, c: int) -> tuple[int, int]:
    """Of queries and keys, and of values: multiples of 8, values as wide as queries where the kernel asks for that."""
    width, values = (8 * max(1, math.ceil(size / 8)) for size in (q.shape[-1], c))
    if q.device.type == "cuda" and (q.dtype not in HALVES or _cudnn_takes(q.device, width)):
        return width, values
    both = max(width, values)
    return both, both


def _cudnn_takes(device: torch.device, width: int) -> bool:
    """Whether cuDNN's kernel will be chosen, the only one for half precision with values of a width of their own."""
    return (
        torch.version.hip is None
        and str(device) not in _without_cudnn
        and width <= 128
        and torch.cuda.get_device_capability(device)[0] in (9, 10)
        and (torch.backends.cudnn.version() or 0) > 91500
    )


def _prepared(x: Tensor, width: int) -> Tensor:
    """Four dimensions, padded to ``width``, in memory as kernels ask for it."""
    x = F.pad(x, (0, width - x.shape[-1])) if width > x.shape[-1] else x.contiguous()
    x = x[(None,) * (4 - x.ndim)] if x.ndim < 4 else x.flatten(0, -4)
    return x.clone() if x.storage_offset() * x.element_size() % ALIGNED else x


def _of_one_width(*tensors: Tensor) -> tuple[Tensor, ...]:
    width = max(t.shape[-1] for t in tensors)
    return tuple(F.pad(t, (0, width - t.shape[-1])) for t in tensors)


def _on_cpu(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, sums: bool) -> tuple[Tensor, Tensor | None]:
    if q.device.type != "cpu":
        raise NoKernelError(f"no fused kernel is known on {q.device.type!r}")
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    return out, lse if sums else None


def _on_cuda(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, sums: bool) -> tuple[Tensor, Tensor | None]:
    """Not run in the tests: there is no GPU."""
    if q.dtype == torch.float64:
        raise NoKernelError("no fused kernel takes float64 on a GPU")
    if sums:
        return _with_sums_on_cuda(q, k, v, scale, causal)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    name = str(q.device)
    if q.dtype in HALVES and _cudnn_takes(q.device, q.shape[-1]):
        try:
            with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, *fused]):
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale), None
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # its plans fail now and then (pytorch#134001, #190321)
            _without_cudnn.add(name)
            q, k, v = _of_one_width(q, k, v)
    try:
        with warnings.catch_warnings(), sdpa_kernel(fused):
            warnings.simplefilter("ignore")  # each kernel says why it does not fit
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale), None
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NoKernelError(str(error)) from error


def _with_sums_on_cuda(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """By the operators behind the public call, which alone give the sums. Their form may change: then no kernel."""
    aten = torch.ops.aten
    try:
        if q.dtype not in HALVES:
            found = aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, causal, scale=scale)
        else:
            found = aten._scaled_dot_product_flash_attention(*_of_one_width(q, k, v), 0.0, causal, False, scale=scale)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise NoKernelError(str(error)) from error
    return found[0], found[1].float()

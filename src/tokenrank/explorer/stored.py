"""Queries and keys as they are stored: small whole numbers a row, from which the page makes the attention again.

What stands in a slice, little-endian: q (heads, N, d), k (key heads, N, d) as int16 or int8, then scales of the rows of
q (heads, N) and of k (key heads, N), the upper halves of float32 (bfloat16); each part begins at a multiple of 4. A is
softmax over j of Σ_m q_im k_jm, causal or not; the scale of the logits is folded in.

Half precision is not enough: keys share a large mean, which the softmax does not see. It is subtracted, channels are
balanced so that one with large keys does not cost queries their precision, and every row has a scale of its own. Rows
are divided by the very scale that is written: that it is short costs nothing but up to 1 % of the range of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..attention_mask import allowed
from ..operators import Blocks, Operator, QueryKey

Integer = Literal["int16", "int8"]

UNSEEN = 110.0  # nats below all others at which a weight is zero in single precision


@dataclass(frozen=True)
class Factors:
    """Queries and keys of which attention is softmax(q kᵀ), full or causal, and nothing else.

    Attributes:
        q: (heads, N, d), float64.
        k: (key heads, N, d), float64; key head g serves the heads g · r … g · r + r − 1, r = heads / key heads.
        causal: token i sees tokens 0 … i.
    """

    q: Tensor
    k: Tensor
    causal: bool

    @property
    def size(self) -> int:
        """d."""
        return self.q.shape[-1]


@dataclass(frozen=True)
class Shape:
    """What has to be known of stored queries and keys to read them: numbers of heads, tokens and channels."""

    heads: int
    key_heads: int
    tokens: int
    size: int
    type: Integer

    @property
    def starts(self) -> tuple[int, int, int, int, int]:
        """Where q, k, the scales of q and of k begin, and where the last end."""
        values = self.tokens * self.size * np.dtype(self.type).itemsize
        ends = [0]
        for length in (self.heads * values, self.key_heads * values):
            ends.append(_rounded_up(ends[-1] + length))
        for heads in (self.heads, self.key_heads):
            ends.append(_rounded_up(ends[-1] + 2 * heads * self.tokens))
        return ends[0], ends[1], ends[2], ends[3], ends[4]

    @property
    def nbytes(self) -> int:
        """Length of the slice."""
        return self.starts[-1]


def obstacle(operator: Operator) -> str | None:
    """Why an operator is not softmax(q kᵀ), full or causal, in words; None where it is."""
    inner = _unwrapped(operator)
    if not isinstance(inner, QueryKey):
        words = {"Blocks": "it attends within windows", "Dense": "only its weights are known, no queries and keys"}
        return words.get(type(inner).__name__, f"it is a {type(inner).__name__} of chains")
    if inner.structure == "upper":
        return "it runs backwards"
    hidden = inner.hidden_keys()
    if hidden is not None and hidden.ndim > 1 and bool((hidden != hidden[0]).any()):
        return "its heads hide different tokens"
    if inner.mask is not None and _mask_is_causal(inner) is None:
        if inner.mask.dtype == torch.bool:
            return "its mask is more than causal, such as a sliding window"
        return "its logits have more than q kᵀ in them, such as a bias of relative positions"
    return None


def shape_of(operator: Operator, heads: list[int], type: Integer) -> Shape:
    """The shape in which some heads of ``operator``, (heads, N, N) without ``obstacle``, are stored; nothing long."""
    inner = _unwrapped(operator)
    assert isinstance(inner, QueryKey)
    finite, hidden = _key_bias(inner, heads)
    k = inner.k if finite is None else torch.cat([inner.k.double(), finite[..., None]], -1)
    return Shape(len(heads), len(heads) // _group(k, heads), inner.num_tokens, k.shape[-1] + (hidden is not None), type)


def factors(operator: Operator, heads: list[int]) -> Factors:
    """Queries and keys of some heads of an operator without ``obstacle``: scale folded in, keys centred, balanced.

    Centring is exact for every softmax over all keys or a causal part of them, since q·μ is the same in a whole row;
    a learned sink is a key like the others in the chain, so that it is shifted with them. What is added to the logits
    of keys becomes one channel more; keys that nobody may attend to get another, ``UNSEEN`` below the rest.
    """
    inner = _unwrapped(operator)
    assert isinstance(inner, QueryKey)
    causal = inner.structure == "lower"
    q, k = inner.q[heads].double() * inner.scale, inner.k[heads].double()
    finite, hidden = _key_bias(inner, heads)
    if finite is not None:
        q, k = torch.cat([q, torch.ones_like(q[..., :1])], -1), torch.cat([k, finite[heads][..., None]], -1)
    group = _group(k, list(range(len(heads))))
    k = k[::group]
    seen = torch.ones_like(k[..., :1]) if hidden is None else (~hidden).double()[..., None]
    k = (k - (k * seen).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True)) * seen
    q, k = _balanced(q, k, group)
    if hidden is not None:
        q, k = _with_hidden(q, k, group, hidden)
    return Factors(q, k, causal)


def encoded(made: Factors, type: Integer) -> tuple[bytes, Shape]:
    """The slice in which queries and keys are stored, and its shape."""
    shape = Shape(len(made.q), len(made.k), made.q.shape[-2], made.size, type)
    out = bytearray(shape.nbytes)
    starts = shape.starts
    for place, values in enumerate((made.q, made.k)):
        integers, scales = _integers(values.cpu().numpy(), type)
        for start, array in ((starts[place], integers), (starts[place + 2], scales)):
            content = array.tobytes()
            out[start : start + len(content)] = content
    return bytes(out), shape


def decoded(slice: bytes, shape: Shape, causal: bool) -> Factors:
    """Queries and keys as a reader of the slice has them."""
    starts, parts = shape.starts, []
    for place, heads in enumerate((shape.heads, shape.key_heads)):
        count = heads * shape.tokens
        integers = np.frombuffer(slice, np.dtype(shape.type).newbyteorder("<"), count * shape.size, starts[place])
        scales = _widened(np.frombuffer(slice, "<u2", count, starts[place + 2]))
        values = integers.astype(np.float64).reshape(heads, shape.tokens, shape.size)
        parts.append(torch.from_numpy(values * scales.reshape(heads, shape.tokens, 1)))
    return Factors(parts[0], parts[1], causal)


def attention(made: Factors, head: int) -> Tensor:
    """One head as a matrix (N, N) in float64."""
    k = made.k[head // (len(made.q) // len(made.k))]
    logits = made.q[head] @ k.mT
    if made.causal:
        logits.masked_fill_(torch.ones_like(logits, dtype=torch.bool).triu_(1), -torch.inf)
    return logits.softmax(-1)


def _unwrapped(operator: Operator) -> Operator:
    """Attention whose tokens were put in another order, as attention of the queries and keys in that order."""
    if not isinstance(operator, Blocks) or len(operator.tokens) > 1 or not isinstance(operator.inner, QueryKey):
        return operator
    inner = operator.inner.reshape(operator.shape[:-2].numel())
    order = torch.empty_like(operator.tokens[0])
    order[operator.tokens[0]] = torch.arange(len(order), device=order.device)
    if bool((order.diff() > 0).all()):
        return inner
    if inner.is_causal:
        return operator
    mask = inner.mask
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], *inner.shape[-2:])[..., order, :][..., order]
    bias = None if inner.bias is None else inner.bias[..., order]
    return QueryKey(inner.q[..., order, :], inner.k[..., order, :], inner.scale, mask, False, "full", bias)


def _mask_is_causal(operator: QueryKey) -> bool | None:
    """Whether a mask says causal (True) or nothing (False); None where it says more than that."""
    mask = operator.mask
    assert mask is not None
    n = operator.num_tokens
    seen = allowed(mask)
    if mask.dtype != torch.bool and bool(mask[seen].any()):
        return None
    seen = seen.expand(*seen.shape[:-2], n, n)
    if bool(seen.all()):
        return False
    return True if bool((seen == torch.ones(n, n, dtype=torch.bool, device=seen.device).tril()).all()) else None


def _key_bias(operator: QueryKey, heads: list[int]) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the logits of keys: finite numbers, (heads, N) of all heads; keys that are hidden, (N,)."""
    bias = operator.bias
    if bias is None:
        return None, None
    bias = bias.expand(operator.shape[:-1])
    hidden = bias[heads] == -torch.inf
    some = hidden.any(0)
    finite = bias.masked_fill(bias == -torch.inf, 0.0)
    return finite if bool(finite.any()) else None, some if bool(some.any()) else None


def _group(k: Tensor, heads: list[int]) -> int:
    """How many consecutive heads of some share their keys, the same number everywhere; k (heads, N, d)."""
    sizes = [size for size in range(len(heads), 1, -1) if len(heads) % size == 0]
    for size in sizes:
        if all(torch.equal(k[head], k[heads[place - place % size]]) for place, head in enumerate(heads)):
            return size
    return 1


def _balanced(q: Tensor, k: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Channels scaled so that the largest query and key of each are equal; a channel that is zero on one side goes."""
    largest_q = q.reshape(len(k), group * q.shape[-2], -1).abs().amax(-2)
    largest_k = k.abs().amax(-2)
    used = (largest_q > 0) & (largest_k > 0)
    factor = torch.where(used, largest_k.sqrt() / largest_q.sqrt(), 0.0)
    back = torch.where(used, largest_q.sqrt() / largest_k.sqrt(), 0.0)
    return q * factor.repeat_interleave(group, 0)[:, None], k * back[:, None]


def _with_hidden(q: Tensor, k: Tensor, group: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """One channel more, in which keys that nobody may attend to lie below all others."""
    rows = q.abs().amax(-1)
    # small beside the query, so that its other channels keep their precision
    unit = (rows.reshape(len(k), -1).median(-1).values / 4).clamp(min=1e-6)
    depth = UNSEEN + 2 * q.norm(dim=-1).reshape(len(k), -1).amax(-1) * k.norm(dim=-1).amax(-1)
    below = torch.where(hidden, -(depth / unit)[:, None], 0.0)
    one = unit.repeat_interleave(group)[:, None, None].expand(*q.shape[:-1], 1)
    return torch.cat([q, one], -1), torch.cat([k, below[..., None]], -1)


def _integers(values: np.ndarray, type: Integer) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers (heads, N, d) and the scales of their rows (heads, N), as they are written."""
    most = np.iinfo(type).max
    largest = (np.abs(values).max(-1) / most).astype("<f4")
    largest[largest < np.finfo(np.float32).tiny] = 0
    scales = ((largest.view("<u4") + 0xFFFF) >> 16).astype("<u2")  # upwards, so that the largest fits
    steps = _widened(scales)[..., None]
    integers = np.divide(values, steps, out=np.zeros_like(values), where=steps > 0)
    return np.clip(np.rint(integers), -most, most).astype(np.dtype(type).newbyteorder("<")), scales


def _widened(scales: np.ndarray) -> np.ndarray:
    """Upper halves of float32, uint16, as numbers in double precision."""
    return (scales.astype("<u4") << 16).view("<f4").astype(np.float64)


def _rounded_up(length: int) -> int:
    return -(-length // 4) * 4

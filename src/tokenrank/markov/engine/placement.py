"""Where A lives on a device: kept in half precision, or applied from what it is made of. One decision for all.

``decide`` is a function of facts alone. Prices are in bytes for each entry of A: what one GPU (H200, 4.3 TB/s) reads in
the time that a way takes. Its attention in bfloat16 of width 128 costs 3.6 bytes an entry, in float32 27. A card that
has fewer operations for each byte has more from a store than this says. Whatever is chosen, only inner solvers see it:
answers are certified from the chain itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ...errors import TokenRankWarning, first_line
from ...memory import free_bytes, is_out_of_memory
from ...operators import Dense, Operator, QueryKey
from ...operators.device import kernels, products
from ...operators.device.fused import kernel_dtype
from ...operators.device.halves import HALVES
from ...operators.device.store import HalfStore
from ...untrusted.budget import readable

Product = Callable[[Tensor, Tensor], Tensor]
"""x (h, N, c) float32 and live (h,) bool → Aᵀx or A x, (h, N, c) float32, zeros for heads that are not live."""

Made = Literal["weights", "queries and keys", "composed"]
Where = Literal["stored", "recomputed", "rows"]

STORE_SHARE = 4  # of the free memory a store may take this part: bases of solvers and the model want some, too
CACHED = 0.75  # bytes an entry where the whole store stays in the cache of the device, instead of 2
BUILD = 12.5  # logits written and read, rows written, halves written, sums read
COMPOSED = 30.0  # a product of a chain made of several, about an attention in float32
AT_ONCE = 64  # columns of one attention call: rows of chains that have none of their own are products with units


@dataclass(frozen=True)
class Facts:
    """What the decision rests on.

    Attributes:
        heads, tokens: h and N.
        made: "weights" in memory, "queries and keys", or "composed" of several chains.
        width: d of queries and keys; 0 of others.
        dtype: what is multiplied: of weights, or of queries and keys as the device takes them.
        applies: products expected.
        columns: of x.
        free: bytes that the device has free; None where it does not say.
        cache: bytes of the last cache of the device.
        fused: whether products of queries and keys are attention, without N × N, or go by chunks of rows.
        own_rows: whether rows cost no more than the parts that they are made of.
    """

    heads: int
    tokens: int
    made: Made
    width: int
    dtype: torch.dtype
    applies: int
    columns: int
    free: int | None
    cache: int = 0
    fused: bool = True
    own_rows: bool = True

    @property
    def store_bytes(self) -> int:
        """What A takes in half precision."""
        return 2 * self.heads * self.tokens**2

    @property
    def room(self) -> int | None:
        """What a store may take."""
        return None if self.free is None else self.free // STORE_SHARE


@dataclass(frozen=True)
class Placement:
    """Where A lives, why in words, and what would have been faster if there were more memory, in words, or None."""

    where: Where
    why: str
    short: str | None = None


def decide(facts: Facts) -> Placement:
    """Where A lives: stored where that saves time over all products that are expected, and fits."""
    build, stored, otherwise = prices(facts)
    ways: dict[bool, Where] = {True: "recomputed", False: "rows"}
    leaner = ways[facts.fused]
    kept, again = build + facts.applies * stored, facts.applies * otherwise
    times = f"{facts.applies} products"
    if kept >= again:
        return Placement(leaner, f"a store costs more than it saves in {times} ({kept:.0f} against {again:.0f})")
    if facts.room is None:
        return Placement(leaner, "the device does not say how much memory is free")
    if facts.store_bytes <= facts.room:
        return Placement("stored", f"a store saves time in {times} ({kept:.0f} against {again:.0f}), and fits")
    return Placement(leaner, "a store does not fit", _short(facts, otherwise / stored))


def prices(facts: Facts) -> tuple[float, float, float]:
    """To build the store; of a product with it; of a product otherwise: bytes for each entry of A."""
    stored = CACHED if facts.store_bytes <= 0.8 * facts.cache else 2.0
    size, values = facts.dtype.itemsize, max(16, 2 * facts.columns)
    if facts.made == "weights":  # wider ones are converted at every product
        return size + 4.0, stored, 4.0 if size == 4 else size + 8.0
    if facts.made == "composed":
        return COMPOSED * (1 if facts.own_rows else facts.tokens / AT_ONCE), stored, COMPOSED
    logits = 0.0 if size == 2 else 0.17 * facts.width  # multiplied without tensor cores
    if not facts.fused:
        return BUILD + logits, stored, BUILD + logits + 2.0
    if size == 2:  # the exponential takes the time of two bytes
        return BUILD, stored, max(2.0, (facts.width + 2 * values) / 44)
    return BUILD + logits, stored, 0.19 * (facts.width + values) * size / 4


def _short(facts: Facts, slower: float) -> str:
    assert facts.room is not None
    heads = facts.room // (2 * facts.tokens**2)
    tokens = int((facts.room / (2 * facts.heads)) ** 0.5)
    fits = f"{heads} such heads" if heads > 1 else f"{tokens:,} tokens"
    return (
        f"A, {facts.heads} × {facts.tokens:,} × {facts.tokens:,}, takes {readable(facts.store_bytes)} in half "
        f"precision, more than {readable(facts.room)}, a quarter of what is free: products are computed again each "
        f"time, about {slower:.1f} times as long. {fits} would fit; fewer heads at a time, or what else is on the "
        "device freed, is faster"
    )


def facts_of(operator: Operator, applies: int, columns: int = 1) -> Facts:
    """The facts of an operator (h, N, N) on its device."""
    made: Made = "composed"
    width, dtype, fused = 0, operator.dtype, True
    if isinstance(operator, Dense):
        made = "weights"
    elif isinstance(operator, QueryKey):
        made, width = "queries and keys", operator.q.shape[-1]
        # a mask of its own for each pair has no fused form
        dtype, fused = kernel_dtype(operator.q.dtype, operator.device), operator.mask is None
    return Facts(
        *(operator.batch.numel(), operator.num_tokens, made, width, dtype, applies, columns),
        *(free_bytes(operator.device), _cache_bytes(operator.device), fused),
        own_rows=type(operator).rows is not Operator.rows,
    )


def placed(operator: Operator, applies: int, transposed: bool = True, columns: int = 1, rough: bool = True) -> Product:
    """Products with all heads of a chain at once in float32, as an inner solver asks for them.

    Heads that have settled cost little or nothing; nothing is read back from the device but when this is made, and with
    the first product. Where memory stands against the faster way, one warning a process says so.

    Args:
        operator: (*batch, N, N); the product takes its leading dimensions flattened to h.
        applies: how many products are expected.
        transposed: Aᵀx, or A x.
        columns: c, as far as it is known.
        rough: whether a product may be off by the rounding of half precision itself, 1e-3, where no kernel of our own
            can be had, as solvers that iterate on a residual of double precision can bear.
    """
    flat = operator.reshape(operator.batch.numel())
    facts = facts_of(flat, applies, columns)
    halves = own = False
    if isinstance(flat, QueryKey) and flat.mask is None and flat.q.dtype in HALVES:
        halves, own = True, kernels.available(flat.device, flat.q.dtype, flat.q.shape[-1])
    if halves and not own and not rough:
        facts = replace(facts, dtype=torch.float32)
    placement = decide(facts)
    if placement.where == "stored":
        try:
            return partial(HalfStore(flat).product, transposed=transposed)
        except RuntimeError as error:  # others took it meanwhile, or it lies in pieces
            if not is_out_of_memory(error):
                raise
            cause = f"{readable(facts.store_bytes)} for a store could not be had ({first_line(error)})"
            placement = replace(decide(replace(facts, free=0)), short=f"{cause}: products are computed again each time")
    if placement.short is not None:
        _tell(placement.short)
    if placement.where == "rows" and isinstance(flat, QueryKey):
        return partial(_masked, partial(products.by_rows, flat, transposed=transposed))
    if isinstance(flat, QueryKey) and own:
        return products.by_own_kernel(flat, transposed)
    if isinstance(flat, QueryKey) and halves and rough:
        return partial(_masked, partial(products.back if transposed else products.ahead, flat, rough=True))
    return partial(_masked, flat.rmatmul if transposed else flat.matmul)


def _masked(product: Callable[[Tensor], Tensor], x: Tensor, live: Tensor) -> Tensor:
    return torch.where(live[:, None, None], product(x), 0.0)


def _cache_bytes(device: torch.device) -> int:
    return getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) if device.type == "cuda" else 0


_told: set[str] = set()


def _tell(words: str) -> None:
    """Once a process: what is true of one layer is true of the others."""
    if not _told:
        _told.add(words)
        warnings.warn(words, TokenRankWarning, stacklevel=3)

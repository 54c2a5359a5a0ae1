"""Masks of chains that are spread over ranks: of keys, whole on every rank, and rows, each where its query is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...attention_mask import allowed
from ...errors import ChainError
from .. import checks
from ..base import Structure
from .partition import Partition
from .ring import Ring


class Shard:
    """What one rank holds of a mask: its rows, and its columns once they are asked for.

    Args:
        rows: (…, n_r, N) for this rank's queries, the keys in the order of the tokens; bool or added to the logits.
        columns: (…, n_r, N) for this rank's keys, the queries in the order of the tokens; or what computes them, on all
            ranks at the same time.
    """

    def __init__(self, rows: Tensor | Callable[[], Tensor], columns: Tensor | Callable[[], Tensor]) -> None:
        self._rows, self._columns = rows, columns

    @property
    def rows(self) -> Tensor:
        """The mask of this rank's queries."""
        if not isinstance(self._rows, Tensor):
            self._rows = self._rows()
        return self._rows

    @property
    def columns(self) -> Tensor:
        """The mask of this rank's keys, as rows."""
        if not isinstance(self._columns, Tensor):
            self._columns = self._columns()
        return self._columns

    def turned(self) -> Shard:
        """Of queries and keys exchanged."""
        return Shard(lambda: self.columns, lambda: self.rows)

    def of(self, rows: Callable[[Tensor], Tensor]) -> Shard:
        """A part of it, taken of rows and columns alike."""
        return Shard(lambda: rows(self.rows), lambda: rows(self.columns))


def columns_of(ring: Ring, partition: Partition, rows: Tensor) -> Tensor:
    """A mask's rows (…, n_r, N) of every rank as the columns of its keys, (…, n_r, N)."""
    bits = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
    parts = ring.exchanged([partition.part(bits, rank, -1) for rank in range(ring.size)])
    return partition.joined([part.mT for part in parts], -1).to(rows.dtype)


def rows_of(mask: Tensor | None, q: Tensor, n: int) -> Tensor | None:
    """This rank's rows of a mask, (…, n_r, N)."""
    if mask is None:
        return None
    full = (*q.shape[:-1], n)
    if not checks.broadcasts(mask.shape, full) or mask.shape[-2:] != full[-2:]:
        raise ChainError(
            f"mask has shape {tuple(mask.shape)}, expected the rows of this rank's tokens, one that broadcasts to "
            f"{full}; a mask of keys alone is key_mask="
        )
    checks.mask_dtype("mask", mask)
    checks.mask_numbers("mask", mask)
    mask = mask.to(q.device)
    return mask if mask.dtype == torch.bool else mask.masked_fill(~allowed(mask), -math.inf)


def keys_of(mask: Tensor | None, q: Tensor, n: int) -> Tensor | None:
    """What is added to the logits of all keys, (*batch, N), or of this rank's, (*batch, n_r), in float64."""
    if mask is None:
        return None
    width = q.shape[-2] if mask.ndim and mask.shape[-1] == q.shape[-2] else n
    full = (*q.shape[:-2], width)
    if not checks.broadcasts(mask.shape, full) or mask.shape[-1:] != (width,):
        raise ChainError(
            f"key_mask has shape {tuple(mask.shape)}, expected one that broadcasts to {(*q.shape[:-2], n)}, all keys, "
            f"or to {tuple(q.shape[:-1])}, this rank's"
        )
    checks.mask_dtype("key_mask", mask)
    checks.mask_numbers("key_mask", mask)
    bias = torch.zeros_like(mask, dtype=torch.float64) if mask.dtype == torch.bool else mask.double()
    return bias.masked_fill(~allowed(mask), -math.inf).to(q.device).expand(full)


def with_triangle(ring: Ring, partition: Partition, rows: Tensor, is_causal: bool) -> tuple[Tensor, Structure]:
    """A mask's rows with the triangle put on, and whether no rank has a row that sees a later token."""
    places = partition.tokens[ring.rank].to(rows.device)[:, None]
    later = torch.arange(partition.num_tokens, device=rows.device) > places
    if is_causal:
        rows = rows & ~later if rows.dtype == torch.bool else rows.masked_fill(later, -math.inf)
    ahead = torch.tensor(float((allowed(rows) & later).any()), device=rows.device)
    return rows, "full" if bool(ring.most(ahead) > 0) else "lower"


def whole_bias(ring: Ring, partition: Partition, bias: Tensor, is_causal: bool) -> Tensor:
    """The bias of all keys, (*batch, N), from what each rank was given: all of it, or its part."""
    whole = ring.most(-torch.tensor(float(bias.shape[-1] == partition.num_tokens), device=bias.device))
    if bool(whole < 0):  # each has all of it: the same, or all of them say so
        with ring.step("the mask of keys", bias.contiguous()):
            pass
    else:
        with ring.step("the mask of all keys"):
            bias = partition.joined(ring.gathered(bias[..., None].contiguous(), partition.sizes))[..., 0]
    seen = (bias > -math.inf).byte()
    seen = seen.cummax(-1).values if is_causal else seen.amax(-1, keepdim=True).expand(seen.shape)
    if not bool(seen.all()):
        refuse_empty(seen == 0)
    return bias


def refuse_empty(empty: Tensor) -> None:
    """Raise ChainError for the first query, of (*batch or less, N), that may attend to no key; there is one."""
    place = [int(i) for i in empty.nonzero()[0]]
    raise ChainError(
        f"row {place} is fully masked: token {place[-1]} may attend to no key; expected at least one a row; drop such "
        f"tokens from q, k and mask before building the chain; {checks.OTHER_SAMPLE}"
    )

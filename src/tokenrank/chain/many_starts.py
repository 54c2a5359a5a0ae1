"""Several starts at once: as many walks along every chain, which move together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError
from ..layout import TokenLayout
from .starts import Start, start_distribution

Starts: TypeAlias = "Start | Sequence[Start]"
"""One start or several; see ``start_distributions``."""


def start_distributions(starts: Starts, shape: torch.Size, layout: TokenLayout | None, name: str = "start") -> Tensor:
    """Distributions over tokens for chains of shape (*batch, N, N): (*batch, N) of one start, (k, *batch, N) of k.

    Args:
        starts: one start, as ``start_distribution`` reads it; or several:

            - a list of starts, each of which is a list, mapping, mask or vector itself: [[0], [3, 4], {5: 1.0}],
              [["cat"], ["dog"]]. Start i is what it would be alone. (A flat list such as [0, 3] is one start.)
            - weights or masks (*starts, *batch, N) as one tensor or array. Dimensions belong to each other from the
              right, as wherever tensors are broadcast: for one chain (k, N) is k starts; for chains (h, N, N) of h
              heads (h, N) is one start, another for every head, (k, 1, N) is k starts of all heads, and (k, h, N) k
              starts that differ from head to head.
        name: what the argument is called, for errors.

    Raises:
        ChainError: as ``start_distribution``; whole numbers in rows, which may be one start or several; lists of rows
            of numbers that may be several starts or one for every chain.
        NotFoundError, LayoutError: likewise.
    """
    if isinstance(starts, np.ndarray) and starts.dtype.kind == "U":
        starts = starts.tolist()
    if _each_a_start(starts):
        _refuse_one_a_chain(starts, shape, name)
        each = [start_distribution(one, shape, layout, f"{name}[{i}]") for i, one in enumerate(cast("Any", starts))]
        return torch.stack(each)
    if not isinstance(starts, Tensor | np.ndarray) or starts.ndim < 2:
        return start_distribution(cast("Start", starts), shape, layout, name)
    batch, leading = tuple(shape[:-2]), tuple(starts.shape[:-1])
    several = leading[: max(0, len(leading) - len(batch))]
    if batch and not _fits(leading[len(several) :], batch):
        more = f"{len(batch)} dimension{'s' if len(batch) > 1 else ''} more"
        raise ChainError(
            f"{name} has leading dimensions {leading}, expected ones that broadcast to {batch}, a start for every "
            f"chain; several starts of all chains have {more}, such as {(leading[0], *[1] * len(batch))}"
        )
    return start_distribution(starts, torch.Size((*several, *shape)), layout, name)


def _each_a_start(starts: Any) -> bool:
    """Whether it is a list of starts: every entry is more than a single place or number."""
    if not isinstance(starts, list | tuple) or not starts:
        return False
    inside = [_is_start(one) for one in starts]
    if any(inside) and not all(inside):
        place = inside.index(False)
        raise ChainError(
            f"start {place} of {len(starts)}, {starts[place]!r}, is a single place and others are lists, expected one "
            f"kind: several starts are [[{starts[place]!r}], …], one start on several places is one list of places"
        )
    return all(inside)


def _is_start(one: Any) -> bool:
    return isinstance(one, list | tuple | range | Mapping) or (isinstance(one, Tensor | np.ndarray) and one.ndim > 0)


def _refuse_one_a_chain(starts: Any, shape: torch.Size, name: str) -> None:
    """Raise for rows of numbers that are several starts of all chains or one for every chain, whichever one likes."""
    batch = tuple(shape[:-2])
    if not batch or any(isinstance(one, Mapping | range) for one in starts):
        return
    try:
        rows = np.stack([np.asarray(one) for one in starts])
    except (TypeError, ValueError):
        return  # rows of several lengths: no tensor
    if rows.dtype.kind in "fb" and rows.shape[-1] == shape[-1] and _fits(rows.shape[:-1], batch):
        raise ChainError(
            f"{name} is a list of {len(starts)} rows of {shape[-1]} numbers for chains {batch}, which can be read in "
            "two ways: as one start for every chain, or as several of all chains. Give one tensor, with leading "
            f"dimensions {rows.shape[:-1]} for the first and {(len(starts), *[1] * len(batch))} for the second"
        )


def _fits(leading: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    """Whether dimensions broadcast to others, and to nothing larger."""
    return len(leading) <= len(batch) and all(
        one in (1, other) for one, other in zip(leading[::-1], batch[::-1], strict=False)
    )

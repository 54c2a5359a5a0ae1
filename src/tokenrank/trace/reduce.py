"""Running means over layers and steps, which keep one record at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..chain import AttentionChain, TokenMap
from ..errors import CaptureError, InputError
from ..layout import TokenLayout
from ..recording import AttentionRecord
from ..recording.quiet import Unnoticed, exact

Reduce: TypeAlias = "Literal['mean'] | Callable[[AttentionChain], Tensor | TokenMap]"
Over: TypeAlias = Literal["all", "steps"]

_PIECE = 64 * 2**20  # bytes of attention matrices that are computed at a time


@dataclass
class _Group:
    """A mean in the making: of everything that has its key."""

    total: Tensor
    layout: TokenLayout | None
    first: AttentionRecord  # without its tensors
    is_map: bool = False
    count: int = 0
    names: dict[str, None] = field(default_factory=dict)


class RunningMean:
    """Takes records one by one and keeps the mean of what a function makes of them.

    Args:
        function: "mean" for attention averaged over heads, or a function of the chain.
        over: "all" takes layers and steps together where the shapes are the same, "steps" the steps of
            each layer.
        device: where the means are kept; where they are computed by default.
        chain_of: from a square record to its chain.

    Attributes:
        means: of "mean", once the block is over.

    Raises:
        InputError: another function or ``over``.
    """

    def __init__(
        self,
        function: Reduce,
        over: Over,
        device: torch.device | str | None,
        chain_of: Callable[[AttentionRecord], AttentionChain],
    ) -> None:
        if function != "mean" and not callable(function):
            raise InputError(f"reduce = {function!r}, expected 'mean', or a function of an AttentionChain")
        if over not in ("all", "steps"):
            raise InputError(f"over = {over!r}, expected 'all' (layers and steps) or 'steps' (of each layer)")
        self._function, self._over, self._chain_of = function, over, chain_of
        self._device = None if device is None else torch.device(device)
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self.means: list[AttentionRecord] = []

    def take(self, record: AttentionRecord) -> None:
        """Add a record, whose tensors are the model's own and not kept.

        Raises:
            CaptureError: a function of chains meets a rectangular record.
            InputError: it returned something else than a tensor or a ``TokenMap``.
        """
        with Unnoticed(), exact(next(iter(record.tensors.values())).device):
            if self._function == "mean":
                self._add(record, *self._mean_over_heads(record), is_map=False)
                return
            result = self._function(self._chain(record))
            if isinstance(result, TokenMap):
                self._add(record, result.values, result.layout, is_map=True)
            elif isinstance(result, Tensor):
                self._add(record, result, None, is_map=False)
            else:
                raise InputError(
                    f"reduce returned a {type(result).__name__} for {record.name!r}, expected a tensor or a TokenMap, "
                    "such as chain.tokenrank()"
                )

    def end(self, batch_size: Callable[[AttentionRecord], int | None]) -> None:
        """The block is over: the means of "mean" become records of weights with one head."""
        if self._function == "mean":
            for name, group in self._named().items():
                mean = replace(group.first, name=name, module=f"mean of {group.count}", kind="weights")
                weights, size = self._mean(group).unsqueeze(-3), batch_size(group.first)
                self.means.append(replace(mean, weights=weights, layout=group.layout, batch_size=size))

    def results(self) -> dict[str, Tensor | TokenMap]:
        """The means of a function by name: of the layer, or a glob of the layers."""
        if self._function == "mean":
            return {}
        return {
            name: TokenMap(self._mean(group), group.layout) if group.is_map else self._mean(group)
            for name, group in self._named().items()
        }

    def _chain(self, record: AttentionRecord) -> AttentionChain:
        if not record.is_square:
            raise CaptureError(
                f"reduce is a function of chains, and the attention of {record.name!r} is rectangular, "
                f"{record.shape[-2]} queries and {record.shape[-1]} keys; leave it out with layers=, or take "
                "reduce='mean'"
            )
        return self._chain_of(record)

    def _mean_over_heads(self, record: AttentionRecord) -> tuple[Tensor, TokenLayout | None]:
        """(*batch, N, M), some heads at a time."""
        pieces: Iterator[Tensor]
        if record.is_square:
            chain = self._chain_of(record)
            layout, pieces = chain.layout, _dense_by_heads(chain)
        else:
            layout, pieces = None, _dense_of(record)
        total, count = None, 0
        for dense in pieces:
            total = dense.sum(-3) if total is None else total + dense.sum(-3)
            count += dense.shape[-3]
        assert total is not None
        return total / count, layout

    def _add(self, record: AttentionRecord, value: Tensor, layout: TokenLayout | None, is_map: bool) -> None:
        key: tuple[Any, ...] = (tuple(value.shape), record.shape[-2:], is_map)
        if self._over == "steps":
            key = (record.name, record.index, *key)
        device = self._device or value.device
        value = value.detach().to(device, torch.promote_types(value.dtype, torch.float32))
        group = self._groups.get(key)
        if group is None:
            empty = replace(record, q=None, k=None, mask=None, sinks=None, weights=None, scale=1.0, is_causal=False)
            group = self._groups[key] = _Group(torch.zeros_like(value), layout, empty, is_map)
        group.total += value
        group.count += 1
        group.names[record.name] = None

    def _mean(self, group: _Group) -> Tensor:
        return group.total / group.count

    def _named(self) -> dict[str, _Group]:
        named: dict[str, _Group] = {}
        for group in self._groups.values():
            name = _glob(list(group.names))
            number, unique = 1, name
            while unique in named:  # the same layers with another number of tokens
                number, unique = number + 1, f"{name}#{number + 1}"
            named[unique] = group
        return named


def _dense_by_heads(chain: AttentionChain) -> Iterator[Tensor]:
    """The matrices (*batch, some heads, N, N), ``_PIECE`` bytes at a time, or one head."""
    if not chain.batch:
        yield chain.to_dense()[None]
        return
    heads = chain.batch[-1]
    size = max(1, _PIECE * heads // (4 * chain.shape.numel()))
    for start in range(0, heads, size):
        yield chain[..., start : start + size].to_dense()


def _dense_of(record: AttentionRecord) -> Iterator[Tensor]:
    """The same of a rectangular record; grouped heads stay together."""
    if len(record.shape) < 3:
        yield record.to_dense()[None]
        return
    heads = record.shape[-3]
    group = 1 if record.k is None else heads // record.k.shape[-3]
    one = 4 * record.shape.numel() // heads
    size = group * max(1, _PIECE // max(1, one * group))
    for start in range(0, heads, size):
        yield _heads(record, start, min(heads, start + size)).to_dense()


def _heads(record: AttentionRecord, start: int, stop: int) -> AttentionRecord:
    heads = record.shape[-3]

    def cut(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.ndim < 3 or tensor.shape[-3] == 1:
            return tensor
        share = heads // tensor.shape[-3]
        return tensor[..., start // share : stop // share, :, :]

    sinks = None if record.sinks is None else record.sinks[start:stop]
    return replace(
        record, q=cut(record.q), k=cut(record.k), mask=cut(record.mask), weights=cut(record.weights), sinks=sinks
    )


def _glob(names: list[str]) -> str:
    """One name with a star wherever the names differ."""
    parts = [name.split(".") for name in names]
    if len({len(p) for p in parts}) > 1:
        begin = parts[0]
        while any(p[: len(begin)] != begin for p in parts):
            begin = begin[:-1]
        return ".".join([*begin, "*"])
    return ".".join(column[0] if len(set(column)) == 1 else "*" for column in zip(*parts, strict=True))

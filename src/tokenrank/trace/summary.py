"""Summaries of records: a table as text and HTML, and the memory that they take, or would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LayoutError
from ..html import note, panel
from ..html import table as html_table
from ..memory import free_bytes
from ..recording import AttentionRecord
from ..recording.budget import readable

_SHOWN = 60  # records in a notebook, which a long table would fill


def table(records: Sequence[AttentionRecord], opaque: Mapping[str, int]) -> str:
    """A line for each record, in columns, and what was not seen."""
    rows = _rows(records)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_unseen(opaque)])


def html(title: str, records: Sequence[AttentionRecord], opaque: Mapping[str, int]) -> str:
    """The same for a notebook, of the first records, and which of their tokens is what."""
    head, *rows = _rows(records[:_SHOWN])
    rows = [[*row, _tokens(record)] for row, record in zip(rows, records, strict=False)]
    more = f"{len(records) - _SHOWN} more records; print(trace.summary()) has them all" if records[_SHOWN:] else ""
    return panel(title, html_table(rows, [*head, "tokens"]), *map(note, [more, *_unseen(opaque)]))


def _rows(records: Sequence[AttentionRecord]) -> list[list[str]]:
    timed = any(record.timestep is not None for record in records)
    rows = [["", "name", "module", "kind", "shape", "mask", "step", *(["timestep", "branches"] if timed else [])]]
    for number, record in enumerate(records):
        shape = "×".join(map(str, record.shape))
        row = [str(number), record.name or "(root)", record.module, record.kind, shape, _mask(record)]
        time = "–" if record.timestep is None else f"{record.timestep:g}"
        rows.append([*row, str(record.step), *([time, ", ".join(record.branches) or "–"] if timed else [])])
    return rows


def _mask(record: AttentionRecord) -> str:
    parts = ["causal"] if record.is_causal else []
    if record.mask is not None:
        kind = "bool" if record.mask.dtype == torch.bool else "float"
        parts.append(f"{kind} {'×'.join(map(str, record.mask.shape))}")
    return ", ".join(parts) or "–"


def _tokens(record: AttentionRecord) -> str:
    if isinstance(record.layout, LayoutError):
        return "not known: its chain says why"
    windows = "" if record.windows is None else f", in {len(record.windows.index)} windows"
    return "–" if record.layout is None else f"{record.layout}{windows}"


def _unseen(opaque: Mapping[str, int]) -> list[str]:
    return [f"not seen: {count} calls of {name}, which hides its attention" for name, count in opaque.items()]


@dataclass(frozen=True)
class Estimate:
    """Memory of a trace, extrapolated; print it.

    Attributes:
        nbytes: of all records of ``steps`` forward calls, q, k, masks and weights; what records share counts once.
        dense_nbytes: what the attention matrices themselves would take, in the dtype of q and k.
        available: free memory in bytes on ``device``, None where the system does not say.
        steps: forward calls that it is for.
        records: of one forward call, on average.
        device: where the records are, or would be.
    """

    nbytes: int
    dense_nbytes: int
    available: int | None
    steps: int
    records: float
    device: torch.device

    @property
    def fits(self) -> bool | None:
        """Whether it is less than what is free; None where that is unknown."""
        return None if self.available is None else self.nbytes < self.available

    def __str__(self) -> str:
        calls = f"{self.steps} forward call{'s' if self.steps != 1 else ''}"
        free = "" if self.available is None else f"; {readable(self.available)} are free on {self.device}"
        return (
            f"{readable(self.nbytes)} for {calls} of {self.records:g} records (their attention matrices would take "
            f"{readable(self.dense_nbytes)}){free}"
        )


def estimate(records: Sequence[AttentionRecord], steps: int | None, device: torch.device | str | None) -> Estimate:
    """See ``Trace.estimate``."""
    seen = len({record.step for record in records}) or 1
    wanted = seen if steps is None else steps
    stored = stored_bytes([tensor for record in records for tensor in record.tensors.values()])
    dense = sum(record.shape.numel() * _any_tensor(record).element_size() for record in records)
    if device is None:
        devices = {_any_tensor(record).device for record in records} - {torch.device("meta")}
        device = devices.pop() if len(devices) == 1 else "cpu"
    return Estimate(
        nbytes=stored * wanted // seen,
        dense_nbytes=dense * wanted // seen,
        available=free_bytes(device),
        steps=wanted,
        records=len(records) / seen,
        device=torch.device(device),
    )


def stored_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes under these tensors; memory that several of them share counts once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _any_tensor(record: AttentionRecord) -> Tensor:
    return next(iter(record.tensors.values()))

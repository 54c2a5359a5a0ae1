"""How much memory records take, before there are too many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..recording import AttentionRecord
from ..recording.budget import free_bytes, readable


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
        found = {_any_tensor(record).device for record in records} - {torch.device("meta")}
        device = found.pop() if len(found) == 1 else "cpu"
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

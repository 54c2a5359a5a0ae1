"""One part of a record's batch: a branch of guidance, or one sample."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..errors import CaptureError
from .guidance import Branch
from .record import AttentionRecord


def part(record: AttentionRecord, index: int, count: int) -> AttentionRecord:
    """The ``index``-th of ``count`` equal parts of the batch, as views; see ``Forward.share``.

    Raises:
        CaptureError: the record's batch cannot be divided so.
    """
    size = record.shape[0] if len(record.shape) > 3 else 0
    if not size or size % count:
        raise CaptureError(
            f"the attention of {record.name!r} has shape {tuple(record.shape)}, expected a batch that divides into "
            f"{count} parts; choose other layers"
        )
    begin = index * (size // count)

    def cut(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.ndim < len(record.shape) or tensor.shape[0] == 1 < size:
            return tensor  # the same for all of the batch
        return tensor.narrow(0, begin, size // count)

    return replace(
        record,
        forward=replace(record.forward, share=record.forward.share * count),
        q=cut(record.q),
        k=cut(record.k),
        mask=cut(record.mask),
        weights=cut(record.weights),
    )


def branch_of(record: AttentionRecord, branch: Branch) -> AttentionRecord:
    """The part of the batch that is one of the record's several branches of guidance.

    Raises:
        CaptureError: the record's batch cannot be divided so.
    """
    half = part(record, record.branches.index(branch), len(record.branches))
    return replace(half, forward=replace(half.forward, branches=(branch,)))

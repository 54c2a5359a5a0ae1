"""Layouts that came with the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import LayoutError
from ..files.stored import Stored
from ..layout import TokenLayout
from ..models.windows import Windows
from ..recording import AttentionRecord
from .parts import extended


class StoredLayouts:
    """Layouts by record, as a ``tokenrank.trace.layouts.LayoutSource``."""

    def __init__(self, known: Mapping[AttentionRecord, Stored]) -> None:
        self._known = known

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """The layout of a record, the same for every sample; None where none was stored.

        Raises:
            LayoutError: it was ambiguous when the trace was saved.
        """
        found = self._of(record).layout
        if isinstance(found, str):
            raise LayoutError(found)
        return found

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """The layout of a prefill, longer by the tokens that were decoded after it."""
        first = self.find(parts[0], sample)
        return None if first is None else extended(first, sum(p.shape[-2] for p in parts) - first.num_tokens)

    def batch_size(self, record: AttentionRecord) -> int | None:
        """Samples in the batch, where that is known."""
        return self._of(record).batch_size

    def find_windows(self, record: AttentionRecord) -> Windows | None:
        """Where the windows of a record stand; None where they are none.

        Raises:
            LayoutError: they were ambiguous when the trace was saved.
        """
        self.find(record)
        return self._of(record).windows

    def _of(self, record: AttentionRecord) -> Stored:
        return self._known.get(record, Stored())

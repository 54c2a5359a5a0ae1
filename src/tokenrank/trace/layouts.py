"""Layouts of records, found when the first chain is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout
from ..models import find_layout
from ..models.layouts.find import refuse_channels
from ..models.windows import Windows
from ..recording import AttentionRecord, Evidence
from .chains import find_windows
from .parts import extended, spelled

Maker = Callable[[int | None], TokenLayout | None]
"""From a sample of the batch, None for all of it, to the layout of a record."""

Found: TypeAlias = TokenLayout | Windows | LayoutError | None


class LayoutSource(Protocol):
    """Where a trace asks which token is what."""

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """The layout of a square record, with the token strings of one sample; None where nothing says it.

        Raises:
            LayoutError: ambiguous.
        """

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """The same for a prefill and the decoding steps after it."""

    def batch_size(self, record: AttentionRecord) -> int | None:
        """Samples in the record, whose batch dimension may hold windows, too; None where that is unknown."""

    def find_windows(self, record: AttentionRecord) -> Windows | None:
        """Where the windows of a windowed attention stand; None for any other attention.

        Raises:
            LayoutError: it is windowed, and where they stand is unknown.
        """


class ModelLayouts:
    """Layouts found from a model and what its forward calls showed.

    They are looked for when the first chain is taken, not while the model runs; then for all
    records at once, so that the model is not kept alive any longer.
    """

    def __init__(self, root: nn.Module, evidence: Mapping[int, Evidence], tokenizer: Any = None) -> None:
        self._root: nn.Module | None = root
        self._evidence = evidence
        self._tokenizer = tokenizer
        self._kinds: list[tuple[Evidence, dict[tuple[torch.Size, str], Found]]] = []
        self._wanted: list[AttentionRecord] | None = None

    def end(self, records: Sequence[AttentionRecord]) -> None:
        """The block is over: there will be no other records than these."""
        self._wanted = [record for record in records if record.is_square]

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        found = self._known(record)
        if isinstance(found, Windows):
            return found.layout
        return spelled(found, self._ids(record), self._tokenizer, sample)

    def batch_size(self, record: AttentionRecord) -> int | None:
        """See ``LayoutSource``."""
        inputs = self._evidence.get(record.step, Evidence()).inputs.values()
        shapes = (v.shape if isinstance(v, Tensor) else v for v in inputs if isinstance(v, Tensor | torch.Size))
        size = next((shape[0] for shape in shapes if len(shape) > 1), None)
        return None if size is None else size // record.forward.share

    def find_windows(self, record: AttentionRecord) -> Windows | None:
        """See ``LayoutSource``."""
        found = self._known(record)
        return found if isinstance(found, Windows) else None

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        first = self.find(parts[0])
        if first is None:
            return None
        ids = [self._ids(p) for p in parts]
        known = [i for i in ids if i is not None and i.ndim == 2]
        whole = torch.cat(known, -1) if len(known) == len(ids) else None
        layout = extended(first, sum(p.shape[-2] for p in parts) - first.num_tokens)
        return spelled(layout, whole, self._tokenizer, sample)

    def _ids(self, record: AttentionRecord) -> Tensor | None:
        """The token ids (B, N) that the queries of ``record`` stand for."""
        inputs = self._evidence.get(record.step, Evidence()).inputs
        names = ("decoder_input_ids", "input_ids") if "decoder" in record.name else ("input_ids", "decoder_input_ids")
        found = (inputs.get(name) for name in names)
        return next((i for i in found if isinstance(i, Tensor) and i.shape[-1] == record.shape[-2]), None)

    def _known(self, record: AttentionRecord) -> TokenLayout | Windows | None:
        if self._root is not None and self._wanted is not None:
            for wanted in self._wanted:
                self._look_up(wanted)
            self._root, self._wanted = None, None
        found = self._look_up(record)
        if isinstance(found, LayoutError):
            raise LayoutError(str(found)) from found
        return found

    def _look_up(self, record: AttentionRecord) -> Found:
        evidence = self._evidence.get(record.step, Evidence())
        layouts = next((known for kind, known in self._kinds if _same(kind, evidence)), None)
        if layouts is None:
            layouts = {}
            # during a forward more evidence may come
            seen = Evidence(evidence.inputs, list(evidence.conv_grids), list(evidence.conv_batches))
            self._kinds.append((seen, layouts))
        key = record.shape, record.name
        if key not in layouts:
            layouts[key] = self._derive(evidence, record)
        return layouts[key]

    def _derive(self, evidence: Evidence, record: AttentionRecord) -> Found:
        if self._root is None:
            return None
        n = record.shape[-1]
        try:
            refuse_channels(record, self._root)
            windows = find_windows(record, self._root, evidence)
            return find_layout(self._root, n, evidence, record.name) if windows is None else windows
        except LayoutError as error:
            return error
        except Exception as error:
            return LayoutError(
                f"finding the layout of {n} tokens failed with {type(error).__name__}: {error}; "
                "give one, trace.layout = tr.TokenLayout(…), or none, trace.layout = False"
            )


class DerivedLayouts:
    """Layouts of records that were made from other records.

    Args:
        makers: record → how to make its layout.
        below: for all other records.
        windowed: record → the record that it is a part of, with windows in the same places.
    """

    def __init__(
        self,
        makers: Mapping[AttentionRecord, Maker],
        below: LayoutSource | None,
        windowed: Mapping[AttentionRecord, AttentionRecord] | None = None,
    ) -> None:
        self._makers, self._below, self._windowed = makers, below, windowed or {}

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        if record in self._makers:
            return self._makers[record](sample)
        return None if self._below is None else self._below.find(record, sample)

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        return None if self._below is None else self._below.find_joined(parts, sample)

    def batch_size(self, record: AttentionRecord) -> int | None:
        """See ``LayoutSource``."""
        return None if self._below is None else self._below.batch_size(record)

    def find_windows(self, record: AttentionRecord) -> Windows | None:
        """See ``LayoutSource``."""
        if record in self._windowed:
            record = self._windowed[record]
        elif record in self._makers:
            return None
        return None if self._below is None else self._below.find_windows(record)


def _same(a: Evidence, b: Evidence) -> bool:
    if a is b:
        return True
    if a.conv_grids != b.conv_grids or a.inputs.keys() != b.inputs.keys():
        return False
    for name, one in a.inputs.items():
        other = b.inputs[name]
        if isinstance(one, Tensor) != isinstance(other, Tensor):
            return False
        if isinstance(one, Tensor):
            if one.shape != other.shape or not torch.equal(one, other):
                return False
        elif one != other:
            return False
    return True

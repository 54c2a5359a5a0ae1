"""Layouts of records, found when the first chain is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout
from ..models import find_layout
from ..tracing import AttentionRecord, Evidence
from .strings import extended, spelled

Maker = Callable[[int | None], TokenLayout | None]
"""From a sample of the batch, None for all of it, to the layout of a record."""


class LayoutSource(Protocol):
    """Where a trace asks which token is what."""

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """The layout of a square record, with the token strings of one sample; None where nothing says it.

        Raises:
            LayoutError: ambiguous.
        """

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """The same for a prefill and the decoding steps after it."""


class ModelLayouts:
    """Layouts found from a model and what its forward calls showed.

    They are looked for when the first chain is taken, not while the model runs; then for all
    records at once, so that the model is not kept alive any longer.
    """

    def __init__(self, root: nn.Module, evidence: Mapping[int, Evidence], tokenizer: Any = None) -> None:
        self._root: nn.Module | None = root
        self._evidence = evidence
        self._tokenizer = tokenizer
        self._kinds: list[tuple[Evidence, dict[tuple[int, str], TokenLayout | LayoutError | None]]] = []
        self._wanted: list[AttentionRecord] | None = None

    def end(self, records: Sequence[AttentionRecord]) -> None:
        """The block is over: there will be no other records than these."""
        self._wanted = [record for record in records if record.is_square]

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        if self._root is not None and self._wanted is not None:
            for wanted in self._wanted:
                self._look_up(wanted)
            self._root, self._wanted = None, None
        found = self._look_up(record)
        if isinstance(found, LayoutError):
            raise LayoutError(str(found)) from found
        return spelled(found, self._ids(record), self._tokenizer, sample)

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

    def _look_up(self, record: AttentionRecord) -> TokenLayout | LayoutError | None:
        evidence = self._evidence.get(record.step, Evidence())
        layouts = next((known for kind, known in self._kinds if _same(kind, evidence)), None)
        if layouts is None:
            layouts = {}
            # during a forward more evidence may come
            self._kinds.append((Evidence(evidence.inputs, list(evidence.conv_grids)), layouts))
        key = record.shape[-1], record.name
        if key not in layouts:
            layouts[key] = self._derive(evidence, *key)
        return layouts[key]

    def _derive(self, evidence: Evidence, num_tokens: int, name: str) -> TokenLayout | LayoutError | None:
        if self._root is None:
            return None
        try:
            return find_layout(self._root, num_tokens, evidence, name)
        except LayoutError as error:
            return error
        except Exception as error:
            return LayoutError(
                f"finding the layout of {num_tokens} tokens failed with {type(error).__name__}: {error}; "
                "give one, trace.layout = tr.TokenLayout(…), or none, trace.layout = False"
            )


class DerivedLayouts:
    """Layouts of records that were made from other records."""

    def __init__(self, makers: Mapping[AttentionRecord, Maker], below: LayoutSource | None) -> None:
        self._makers, self._below = makers, below

    def find(self, record: AttentionRecord, sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        if record in self._makers:
            return self._makers[record](sample)
        return None if self._below is None else self._below.find(record, sample)

    def find_joined(self, parts: Sequence[AttentionRecord], sample: int | None = None) -> TokenLayout | None:
        """See ``LayoutSource``."""
        return None if self._below is None else self._below.find_joined(parts, sample)


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

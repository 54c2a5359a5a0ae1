"""Layouts of records: which token is what, resolved when the block of a capture ends."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout, Windows
from ..models import find_layout
from ..models.layouts.find import refuse_channels
from ..models.layouts.names import in_decoder, is_cross
from ..models.layouts.order import same_windows, seen_windows
from ..models.layouts.parts import shape, whole_numbers
from ..models.layouts.text import text_layouts
from ..models.layouts.towers import Structure
from ..models.sound import SoundSettings
from ..models.windows import find_windows
from ..recording import AttentionRecord, Evidence, Lost, Trail, faults
from ..recording.quiet import Unnoticed
from .parts import spelled

Reading: TypeAlias = "TokenLayout | Windows | LayoutError | None"
Sides: TypeAlias = "tuple[TokenLayout | None, TokenLayout | None]"

_NOTHING = Evidence()


class Resolver:
    """Makes records know their tokens, from the model that ran and what its forward calls showed.

    While the block runs, a record is resolved when its chain is asked for. When the block ends all of them are,
    and the model is let go.

    Args:
        root: the module that is watched.
        evidence: step → what that forward showed of its tokens; it may grow while the block runs.
        tokenizer: for token strings; of transformers, or anything with ``convert_ids_to_tokens`` and
            ``all_special_ids``.
        sounds: how a sound was prepared, which says how long its frames are.
    """

    def __init__(
        self,
        root: nn.Module,
        evidence: Mapping[int, Evidence],
        tokenizer: Any = None,
        sounds: SoundSettings | None = None,
    ) -> None:
        self._sounds = sounds
        self._structure: Structure | None = Structure(root)
        self._evidence, self._tokenizer = evidence, tokenizer
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._kinds: dict[Hashable, int] = {}
        self._texts: dict[tuple[int, str], tuple[TokenLayout, ...]] = {}
        self._known: dict[Hashable, dict[str, Any]] = {}
        self._resolved: WeakKeyDictionary[AttentionRecord, AttentionRecord] = WeakKeyDictionary()

    def resolve(self, record: AttentionRecord) -> AttentionRecord:
        """The record with layout, windows, batch size and texts; whatever goes wrong is the reason in its layout."""
        if self._structure is None:  # the block is over, and the record may be one from inside it
            return self._resolved.get(record, record)
        try:
            with Unnoticed():
                return replace(record, **self._tokens(record, self._structure))
        except Exception as error:
            return replace(record, layout=_fault(record, error))

    def end(self, records: list[AttentionRecord]) -> None:
        """The block is over: resolve these records, in their list, and let go of the model."""
        if self._structure is not None:  # anew: the model may have changed since a chain was asked for
            self._structure = Structure(self._structure.model)
        resolved = [self.resolve(record) for record in records]
        self._resolved.update(zip(records, resolved, strict=True))
        records[:] = resolved
        self._structure, self._tokenizer, self._evidence = None, None, {}
        for cache in (self._numbers, self._kinds, self._texts, self._known):
            cache.clear()

    def batch_size(self, record: AttentionRecord) -> int | None:
        """Samples in the record, whose first dimension may hold windows too; None where that is unknown."""
        inputs = self._evidence_of(record).inputs.values()
        shapes = (v.shape if isinstance(v, Tensor) else v for v in inputs if isinstance(v, Tensor | torch.Size))
        size = next((shape[0] for shape in shapes if len(shape) > 1), None)
        return None if size is None else size // record.forward.share

    def _tokens(self, record: AttentionRecord, structure: Structure) -> dict[str, Any]:
        """The fields that say which token is what; the same for all records of one kind."""
        trail = self._evidence_of(record).trail(record.index)
        seen = trail.key if isinstance(trail, Trail) else trail
        key = self._kind(record), record.shape, record.name, record.forward.share, seen
        if key not in self._known:
            reading = None
            if record.is_square:
                reading = _read(record, structure, self._evidence_of(record), self._sounds)
            windows = reading if isinstance(reading, Windows) else None
            layout = reading.layout if isinstance(reading, Windows) else reading
            texts = self._texts_of(record)
            self._known[key] = {
                "layout": spelled(layout, texts),
                "windows": windows,
                "batch_size": self.batch_size(record),
                "texts": texts,
                "sides": self._sides(record, structure, texts) if is_cross(record.name) else (None, None),
            }
        return self._known[key]

    def _texts_of(self, record: AttentionRecord) -> tuple[TokenLayout, ...]:
        """The texts that the queries of ``record`` stand for."""
        if self._tokenizer is None:
            return ()
        inputs = self._evidence_of(record).inputs
        names = ("decoder_input_ids", "input_ids") if "decoder" in record.name else ("input_ids", "decoder_input_ids")
        lengths = {name: shape(inputs, name) for name in names}
        name = next((name for name, length in lengths.items() if length and length[-1] == record.shape[-2]), None)
        if name is None:
            return ()
        texts = self._spelled(name, self._evidence_of(record), record)
        return texts if len(texts) == 1 or record.forward.share == 1 else ()

    def _spelled(self, name: str, evidence: Evidence, record: AttentionRecord) -> tuple[TokenLayout, ...]:
        """The texts of one argument of token ids, each read once a kind of call; () without a tokenizer."""
        key = self._kind(record), name
        if key not in self._texts:
            ids = whole_numbers(evidence.inputs, name)
            self._texts[key] = () if ids is None or self._tokenizer is None else text_layouts(self._tokenizer, ids)
        return self._texts[key]

    def _sides(self, record: AttentionRecord, structure: Structure, texts: Sequence[TokenLayout]) -> Sides:
        """Which token is what among the queries of cross-attention and among its keys, which the encoder made."""
        evidence = self._evidence_of(record)

        def read(count: int, name: str) -> TokenLayout | None:
            try:
                return find_layout(structure.model, count, evidence, name, structure, sounds=self._sounds)
            except LayoutError:
                return None
            except Exception as error:  # a mistake of ours must not break the user's block
                faults.note(error)
                return None

        queries, keys = record.shape[-2:]
        decodes = in_decoder(record.name)
        columns = read(keys, "encoder" if decodes else record.name)
        spelled_out = self._spelled("input_ids", evidence, record) if decodes else ()
        spelled_columns = spelled(columns, spelled_out)
        rows = texts[0] if len(texts) == 1 else read(queries, record.name) if not texts else None
        return rows, spelled_columns if isinstance(spelled_columns, TokenLayout) else None

    def __getstate__(self) -> dict[str, Any]:
        # only who holds a record from inside the block needs these, and weak references cannot be copied
        return {**self.__dict__, "_resolved": {}}

    def _evidence_of(self, record: AttentionRecord) -> Evidence:
        return self._evidence.get(record.step, _NOTHING)

    def _kind(self, record: AttentionRecord) -> int:
        """The same number for forward calls that showed the same, so that each kind of call is read once."""
        evidence = self._evidence_of(record)
        state = id(evidence), len(evidence.conv_grids)  # during a forward more evidence may come
        known = self._numbers.get(record.step)
        if known is None or known[0] != state:
            number = self._kinds.setdefault(_fingerprint(evidence), len(self._kinds))
            known = self._numbers[record.step] = state, number
        return known[1]


def _read(
    record: AttentionRecord, structure: Structure, evidence: Evidence, sounds: SoundSettings | None = None
) -> Reading:
    try:
        refuse_channels(record, structure.model)
        trail = evidence.trail(record.index)
        windows = _windows(record, structure.model, evidence, trail)
        if windows is not None:
            return windows
        return find_layout(structure.model, record.shape[-1], evidence, record.name, structure, trail, sounds)
    except LayoutError as error:
        return LayoutError(str(error))  # without its traceback, which would keep the model alive
    except Exception as error:
        return _fault(record, error)


def _windows(
    record: AttentionRecord, model: nn.Module, evidence: Evidence, trail: Trail | Lost | None
) -> Windows | None:
    """Windows as they were seen; as the modules name them where that says the same, or nothing was seen."""
    seen = seen_windows(trail, with_heads=len(record.shape) == 3) if isinstance(trail, Trail) else None
    try:
        stated = find_windows(record, model, evidence)
    except LayoutError:
        if seen is None:
            raise
        return seen
    return stated if seen is None or (stated is not None and same_windows(stated, seen)) else seen


def _fault(record: AttentionRecord, error: Exception) -> LayoutError:
    """A mistake of ours must not break the user's block: it is the reason why there is no layout."""
    faults.note(error)
    *_, place = traceback.extract_tb(error.__traceback__)
    return LayoutError(
        f"internal error: finding the layout of the {record.shape[-1]} tokens of {record.name!r} failed with "
        f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno}); please report it with "
        "the model's class; until then give one, trace.layout = tr.TokenLayout(…), or none, trace.layout = False"
    )


def _fingerprint(evidence: Evidence) -> Hashable:
    inputs = tuple((name, _content(value)) for name, value in evidence.inputs.items())
    return inputs, tuple(evidence.conv_grids), tuple(evidence.conv_batches)


def _content(value: Any) -> Hashable:
    if not isinstance(value, Tensor):
        return repr(value)
    try:
        numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest: Hashable = hashlib.blake2b(numbers.data).digest()
    except Exception:  # of no memory that could be read: as different from all others
        digest = id(value)
    return tuple(value.shape), value.dtype, digest

"""capture and Trace: from a running model to attention chains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from .chain import AttentionChain
from .errors import CaptureError, InputError, LayoutError, NotFoundError, nearest
from .layout import TokenLayout
from .models import Model, find_layout
from .tracing import AttentionRecord, Evidence, Heads, Layers, Recorder, Steps
from .tracing.selection import Selection

LayoutChoice = TokenLayout | Literal[False] | None


@contextmanager
def capture(
    model: nn.Module | Model,
    layers: Layers = None,
    heads: Heads = None,
    steps: Steps = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    layout: LayoutChoice = None,
) -> Iterator[Trace]:
    """Record every softmax attention of ``model`` while the block runs; the model is not touched.

    ::

        with tr.capture(model, layers="encoder.layer.*") as trace:
            model(**inputs)
        chain = trace["encoder.layer.8"]

    Seen are ``scaled_dot_product_attention``, ``nn.MultiheadAttention``, FlexAttention, and
    attention written by hand, in the thread of the block. While the block runs,
    ``torch.compile`` is set aside for the whole process, so a compiled model runs uncompiled.

    Args:
        model: the module that you call, or what ``tr.load`` returns.
        layers: what to keep: names ("encoder.layer.8", of the attention or of a module that holds
            it), globs, numbers (place among the attention calls of one forward, negative from the
            last), functions of the name, or several of those. Decided before anything is copied.
        heads: numbers, or a slice, of the heads to keep.
        steps: forward calls to keep, counted from 0: a number, several, or a function of it.
        device: where q and k are stored; where the model computed them by default.
        dtype: floating type in which q, k and weights are stored; the model's by default.
        layout: which token is what; found from model and inputs by default, False for none.

    Yields:
        A ``Trace`` that fills while the block runs.

    Raises:
        InputError: an argument of another kind than listed above.
        CaptureError: at the end of a block that did not raise itself: nothing was recorded, or an
            entry of ``layers`` met no attention. The message has the reason and the cure.
    """
    root = _module(model)
    recorder = Recorder(root, layers, heads, steps, device, dtype)
    layouts = _Layouts(root, recorder.evidence)
    trace = Trace(recorder.records, layouts, recorder.opaque, layout)
    try:
        with recorder:
            yield trace
    finally:
        layouts.end(recorder.records)
    recorder.check()


class Trace(Mapping[str, AttentionChain]):
    """Attention of a model, in the order in which it ran; made by ``capture``.

    A mapping from module name to ``AttentionChain``. ``trace["encoder.layer.8"]`` also finds the
    one attention below that module, and ``trace[3]``, ``trace[-1]`` take the record of that place.
    """

    def __init__(
        self,
        records: list[AttentionRecord],
        layouts: _Layouts | None = None,
        opaque: Mapping[str, int] | None = None,
        layout: LayoutChoice = None,
    ) -> None:
        self._records, self._layouts, self._opaque = records, layouts, opaque or {}
        self.layout = layout

    @property
    def records(self) -> tuple[AttentionRecord, ...]:
        """What was kept of every call, in order; also what cannot be a chain."""
        return tuple(self._records)

    @property
    def names(self) -> list[str]:
        """Names of the modules, each once, in order."""
        return list(dict.fromkeys(record.name for record in self._records))

    @property
    def layout(self) -> LayoutChoice:
        """Layout given by hand: a ``TokenLayout`` for all chains, False for none, None to find it."""
        return self._layout

    @layout.setter
    def layout(self, layout: LayoutChoice) -> None:
        if not (layout is None or layout is False or isinstance(layout, TokenLayout)):
            raise InputError(f"layout is {layout!r}, expected a TokenLayout, False for none, or None to find it")
        self._layout: LayoutChoice = layout

    @overload
    def __getitem__(self, key: str) -> AttentionChain: ...
    @overload
    def __getitem__(self, key: int) -> AttentionChain: ...
    def __getitem__(self, key: str | int) -> AttentionChain:
        """The chain of a module, or of the record at a place.

        Raises:
            NotFoundError: no such name or place, or several modules below that name.
            CaptureError: the module ran several times, or its attention is not square.
        """
        return self._chain(self._one(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and bool(self._named(key))
        except NotFoundError:
            return False

    @overload
    def get(self, key: str) -> AttentionChain | None: ...
    @overload
    def get(self, key: str, default: Any) -> Any: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The chain of a module, or ``default`` where there is none of that name."""
        try:
            return self[key]
        except NotFoundError:
            return default

    def __repr__(self) -> str:
        steps = len({record.step for record in self._records})
        size = sum(record.nbytes for record in self._records) / 2**20
        return f"Trace({len(self)} modules, {len(self._records)} records, {steps} forward calls, {size:.1f} MiB)"

    def select(self, step: Steps = None, layers: Layers = None) -> Trace:
        """A trace of some of the records.

        Args:
            step: forward calls to keep: a number (−1 is the last one here), several, or a function.
            layers: as in ``capture``; numbers count this trace's records of each forward call.

        Raises:
            NotFoundError: nothing is left, or an entry of ``layers`` matched nothing.
        """
        present = sorted({record.step for record in self._records})
        if isinstance(step, int) and -len(present) <= step < 0:
            step = present[step]
        selection = Selection(layers, step)
        groups = [[r for r in self._records if r.step == s] for s in present]
        kept = [record for group in groups for record in _selected(group, selection)]
        lines = selection.unmatched(self.names, max(map(len, groups), default=0))
        if lines:
            raise NotFoundError(f"no attention in this trace for {'; '.join(lines)}")
        if not kept:
            raise NotFoundError(f"no attention in this trace for step={step!r}; the steps here are {present}")
        return Trace(kept, self._layouts, self._opaque, self._layout)

    def summary(self) -> str:
        """A table of all records: number, name, module, kind, shape, mask, step. Print it."""
        rows = [("", "name", "module", "kind", "shape", "mask", "step")]
        for number, record in enumerate(self._records):
            shape = "×".join(map(str, record.shape))
            rows.append((str(number), record.name or "(root)", record.module, record.kind, shape, _mask(record),
                         str(record.step)))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [
            f"not seen: {count} calls of {name}, which hides its attention" for name, count in self._opaque.items()
        ]
        return "\n".join(lines)

    def _one(self, key: str | int) -> AttentionRecord:
        if isinstance(key, str):
            records = self._named(key)
            if len(records) > 1:
                raise CaptureError(_several(key, records, self._records))
            return records[0]
        if not isinstance(key, int) or isinstance(key, bool):
            raise InputError(f"trace[{key!r}], expected a module's name or a whole number")
        count = len(self._records)
        if not -count <= key < count:
            raise NotFoundError(f"trace[{key}] of {count} records, expected {-count} … {count - 1}")
        return self._records[key]

    def _named(self, key: str) -> list[AttentionRecord]:
        names = self.names
        below = [key] if key in names else [name for name in names if name.startswith(key + ".")]
        if len(below) > 1:
            raise NotFoundError(f"{key!r} holds {len(below)} attention modules, name one of them: {_listed(below)}")
        if not below:
            raise NotFoundError(f"no attention {key!r} in this trace; {nearest(key, names)}")
        return [record for record in self._records if record.name == below[0]]

    def _chain(self, record: AttentionRecord) -> AttentionChain:
        if not record.is_square:
            queries, keys = record.shape[-2:]
            number = next(i for i, other in enumerate(self._records) if other is record)
            raise CaptureError(
                f"the attention of {record.name!r} is rectangular, {queries} queries and {keys} keys (cross-attention, "
                f"or a cache), so it is no Markov chain on one set of tokens; its q and k are trace.records[{number}]"
            )
        layout = self._layout_of(record)
        if record.q is not None and record.k is not None:
            return AttentionChain.from_qk(
                record.q, record.k, record.scale, record.mask, record.is_causal, layout=layout
            )
        assert record.weights is not None
        return AttentionChain(record.weights, layout=layout)

    def _layout_of(self, record: AttentionRecord) -> TokenLayout | None:
        if self._layout is not None:
            return self._layout or None
        return None if self._layouts is None else self._layouts.find(record.step, record.shape[-1])


class _Layouts:
    """Layouts by forward call and number of tokens.

    They are looked for when the first chain is taken, not while the model runs; then for all
    records at once, so that the model is not kept alive any longer.
    """

    def __init__(self, root: nn.Module, evidence: Mapping[int, Evidence]) -> None:
        self._root: nn.Module | None = root
        self._evidence = evidence
        self._known: list[tuple[Evidence, int, TokenLayout | LayoutError | None]] = []
        self._wanted: list[tuple[int, int]] | None = None

    def end(self, records: Sequence[AttentionRecord]) -> None:
        """The block is over: there will be no other records than these."""
        self._wanted = list(dict.fromkeys((r.step, r.shape[-1]) for r in records if r.is_square))

    def find(self, step: int, num_tokens: int) -> TokenLayout | None:
        """The layout, or None where nothing says what the tokens are.

        Raises:
            LayoutError: ambiguous.
        """
        if self._root is not None and self._wanted is not None:
            for wanted in self._wanted:
                self._look_up(*wanted)
            self._root = None
        found = self._look_up(step, num_tokens)
        if isinstance(found, LayoutError):
            raise LayoutError(str(found)) from found
        return found

    def _look_up(self, step: int, num_tokens: int) -> TokenLayout | LayoutError | None:
        evidence = self._evidence.get(step, Evidence())
        for known, n, found in self._known:
            if n == num_tokens and _same(known, evidence):
                return found
        found = self._derive(evidence, num_tokens)
        # during a forward more evidence may come
        self._known.append((Evidence(evidence.inputs, list(evidence.conv_grids)), num_tokens, found))
        return found

    def _derive(self, evidence: Evidence, num_tokens: int) -> TokenLayout | LayoutError | None:
        if self._root is None:
            return None
        try:
            return find_layout(self._root, num_tokens, evidence)
        except LayoutError as error:
            return error
        except Exception as error:
            return LayoutError(
                f"finding the layout of {num_tokens} tokens failed with {type(error).__name__}: {error}; "
                "give one, trace.layout = tr.TokenLayout(…), or none, trace.layout = False"
            )


def _same(a: Evidence, b: Evidence) -> bool:
    if a is b:
        return True
    if a.conv_grids != b.conv_grids or a.inputs.keys() != b.inputs.keys():
        return False
    for name, one in a.inputs.items():
        other = b.inputs[name]
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if one.shape != other.shape or not torch.equal(one, other):
                return False
        elif one != other:
            return False
    return True


def _selected(records: Sequence[AttentionRecord], selection: Selection) -> Iterator[AttentionRecord]:
    selection.close(len(records))
    for place, record in enumerate(records):
        wanted = selection.decide(record.name, place, record.step)
        if selection.settle(place, len(records)) if wanted is None else wanted:
            yield record


def _several(key: str, records: Sequence[AttentionRecord], trace: Sequence[AttentionRecord]) -> str:
    steps = sorted({record.step for record in records})
    number = next(i for i, record in enumerate(trace) if record is records[0])
    cure = f"take one by its number, such as trace[{number}]"
    if len(steps) > 1:
        cure = f"take one forward call, such as trace.select(step={steps[0]}), or {cure}"
    return f"{key!r} was recorded {len(records)} times, in {len(steps)} forward calls; {cure}"


def _mask(record: AttentionRecord) -> str:
    parts = ["causal"] if record.is_causal else []
    if record.mask is not None:
        kind = "bool" if record.mask.dtype == torch.bool else "float"
        parts.append(f"{kind} {'×'.join(map(str, record.mask.shape))}")
    return ", ".join(parts) or "–"


def _listed(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(map(repr, names[:count])) + (f" … ({len(names)} in all)" if len(names) > count else "")


def _module(model: Any) -> nn.Module:
    module = model.module if isinstance(model, Model) else model
    if isinstance(module, nn.Module):
        return module
    values: Iterable[tuple[str, Any]] = getattr(model, "__dict__", {}).items()
    inside = [name for name, value in values if isinstance(value, nn.Module)]
    cure = f"pass one of its modules: {_listed(inside)}" if inside else "pass the module that you call"
    raise InputError(f"cannot capture a {type(model).__name__}, expected a torch.nn.Module; {cure}")

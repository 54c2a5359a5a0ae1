"""Trace: attention of a model, record by record, as attention chains."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, overload

import torch
from torch import Tensor

from ..chain import AttentionChain, CrossAttention, TokenMap
from ..errors import CaptureError, InputError, NotFoundError, nearest
from ..files.write import Contents, write_records
from ..layout import LayoutChoice, TokenLayout
from ..models.layouts.names import is_cross
from ..recording import BRANCHES, AttentionRecord, Branch, LayerSelection, StepSelection
from ..recording.budget import readable
from ..recording.selection import Selection, matches_name
from .by_hand import checked_choice, fitting, layout_for, sides_by_hand, with_choice
from .chains import chain_of, known_layout
from .decoded import join
from .parts import at_timestep, of_branch, of_sample
from .summary import Estimate, estimate, html, stored_bytes, table


class Trace(Mapping[str, AttentionChain]):
    """Attention of a model, in the order in which it ran; made by ``capture``.

    A mapping from module name to ``AttentionChain``. ``trace["encoder.layer.8"]`` also finds the one attention below
    that module, ``trace["*.8.*"]`` the one that a glob fits, and ``trace[3]``, ``trace[-1]`` take the record of that
    place.
    """

    def __init__(
        self,
        records: list[AttentionRecord],
        opaque: Mapping[str, int] | None = None,
        layout: LayoutChoice = None,
        reduced: Callable[[], Mapping[str, Tensor | TokenMap]] = dict,
        resolve: Callable[[AttentionRecord], AttentionRecord] | None = None,
    ) -> None:
        self._records, self._opaque, self._reduced, self._resolve = records, opaque or {}, reduced, resolve
        self._layout: LayoutChoice = checked_choice(layout)  # of a part of a trace: may name layers that it lacks

    @property
    def records(self) -> tuple[AttentionRecord, ...]:
        """What was kept of every call, in order; also what cannot be a chain.

        Each knows its tokens once the block is over: ``record.layout``, or the error that says why not.
        """
        return tuple(self._records)

    @property
    def reduced(self) -> Mapping[str, Tensor | TokenMap]:
        """Means of ``capture(reduce=function)`` by name of the layer, or a glob of the layers."""
        return self._reduced()

    @property
    def names(self) -> list[str]:
        """Names of the modules, each once, in order."""
        return list(dict.fromkeys(record.name for record in self._records))

    @property
    def layout(self) -> LayoutChoice:
        """Layout given by hand: a ``TokenLayout`` for all chains, False for none, None to find it.

        Or a mapping from names or globs of layers to such layouts, of which the first that fits a layer is its own:
        ``{"*encoder*": frames, "*decoder*": words}``; layers that none fits have theirs found.
        """
        return self._layout

    @layout.setter
    def layout(self, layout: LayoutChoice) -> None:
        self._layout = fitting(checked_choice(layout), self.names)

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
        return self.chain_of(self._one(key))

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
        size = stored_bytes([tensor for record in self._records for tensor in record.tensors.values()])
        counts = {
            "module": len(self),
            "record": len(self._records),
            "forward call": len({r.step for r in self._records}),
        }
        words = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
        return f"Trace({', '.join(words)}, {readable(size)})"

    def select(
        self,
        step: StepSelection = None,
        layers: LayerSelection = None,
        branch: Branch | None = None,
        timestep: float | None = None,
        sample: int | None = None,
    ) -> Trace:
        """A trace of some of the records.

        Args:
            step: forward calls to keep: a number (−1 is the last one here), several, or a function.
            layers: as in ``capture``; numbers count this trace's records of each forward call.
            branch: "conditional" or "unconditional" of classifier-free guidance: that half of the batch
                where both ran in one call, those calls where each had its own.
            timestep: of a denoiser: the forward calls that were given it, or the nearest to a thousandth.
            sample: place in the batch (negative from the last). Its padding is dropped with its rows, which
                is exact, since nothing attends to it; batch dimensions stay, with length one.

        Raises:
            NotFoundError: nothing is left, or an entry of ``layers`` matched nothing.
            CaptureError: a batch that does not divide into branches or samples.
            InputError: no such branch.
        """
        if branch not in (None, *BRANCHES):
            raise InputError(f"branch = {branch!r}, expected 'conditional', 'unconditional' or None for all")
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
        kept = [self._resolved(record) for record in kept]
        if timestep is not None:
            kept = at_timestep(kept, timestep)
        if branch is not None:
            kept = of_branch(kept, branch)
        if sample is not None:
            kept = of_sample(kept, sample)
        return Trace(kept, self._opaque, self._layout)

    def decoded(self) -> Trace:
        """Prefill and cached decoding joined: one record a module and text, with all of its tokens.

        While a causal model generates, each forward call attends from the new tokens to a cache. Put
        together these rows are one causal chain over the whole text. That the keys are the same is verified; where
        only weights are known, that their zeros are those of one growing text.

        Raises:
            CaptureError: the keys of a call do not continue those of the call before (beam search, a
                cache that was cut), or weights may come from beams and nothing says whether they do.
        """
        return Trace(join([self._resolved(record) for record in self._records]), self._opaque, self._layout)

    def estimate(self, steps: int | None = None, device: torch.device | str | None = None) -> Estimate:
        """Memory that the records of ``steps`` forward calls like these take.

        Before a long run, capture one forward call with ``device="meta"``, which keeps shapes only::

            with tr.capture(model, layers="transformer_blocks.*", device="meta") as trace:
                model(**inputs)
            print(trace.estimate(steps=28))

        Args:
            steps: forward calls; as many as were recorded by default.
            device: whose free memory to compare with; where the records are by default (the host for "meta").
        """
        return estimate(self._records, steps, device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write records, names and layouts into one safetensors file, whole or not at all; ``tr.load_trace`` reads it.

        Args:
            path: of the file. Where it is a link of yours, the file that it leads to is written.

        Raises:
            InputError: a path that cannot be written.
        """
        records = tuple(self._resolved(record) for record in self._records)
        write_records(Contents(records, self._opaque, self._layout), path)

    def explore(self, **options: Any) -> Any:
        """The trace as an explorer, in which attention walks where you click; see ``tr.explore``.

        Args:
            options: of ``tr.explore``: ``layers``, ``heads``, ``small``, ``alpha``, ``limit``, ``title``, ``image``.

        Returns:
            An ``Explorer``, which shows itself in a notebook and is saved as one page.

        Raises:
            As ``tr.explore``; of several samples take one, ``trace.select(sample=0).explore()``.
        """
        return import_module("tokenrank.explorer").explore(self, **options)

    def summary(self) -> str:
        """A table of all records: number, name, module, kind, shape, mask, step (and timestep, branches). Print it."""
        return table(self._records, self._opaque)

    def _repr_html_(self) -> str:
        return html(repr(self), self._records, self._opaque)

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
        below = [key] if key in names else [name for name in names if matches_name(key, name)]
        if len(below) > 1:
            raise NotFoundError(f"{key!r} means {len(below)} attention modules, name one of them: {_listed(below)}")
        if not below:
            raise NotFoundError(f"no attention {key!r} in this trace; {nearest(key, names)}")
        return [record for record in self._records if record.name == below[0]]

    def chain_of(self, record: AttentionRecord) -> AttentionChain:
        """The chain of one of ``records``.

        Raises:
            CaptureError: its attention is not square, or only shapes were recorded.
            LayoutError: which token is what is ambiguous.
            ChainError: a token may attend to nothing; the message names the sample that drops it.
        """
        if not record.is_square:
            queries, keys = record.shape[-2:]
            number = next((i for i, other in enumerate(self._records) if other is record), None)
            where = "the record" if number is None else f"trace.records[{number}]"
            cure = "; trace.decoded() joins the calls of cached decoding" if record.step else ""
            raise CaptureError(
                f"the attention of {record.name!r} is rectangular, {queries} queries and {keys} keys (cross-attention, "
                f"or a cache), so it is no Markov chain on one set of tokens; take trace.cross({record.name!r}), "
                f"its q and k are {where}{cure}"
            )
        return chain_of(with_choice(self._resolved(record), layout_for(self._layout, record.name)))

    def cross(self, key: str | int) -> CrossAttention:
        """The cross-attention of a module, or of the record at a place: words to frames, patches to words.

        Args:
            key: as for a chain.

        Raises:
            NotFoundError: no such name or place, or several modules below that name.
            CaptureError: the module ran several times, or attends to its own tokens.
            LayoutError: a layout given by hand that counts neither side.
        """
        return self.cross_of(self._one(key))

    def cross_of(self, record: AttentionRecord) -> CrossAttention:
        """The cross-attention of one of ``records``.

        Raises:
            CaptureError: it attends to its own tokens, or only shapes were recorded.
        """
        if record.is_square and not is_cross(record.name):
            raise CaptureError(
                f"the attention of {record.name!r} is among its own {record.shape[-1]} tokens, expected "
                f"cross-attention; its chain is trace[{record.name!r}]"
            )
        if any(tensor.is_meta for tensor in record.tensors.values()):
            raise CaptureError(f"the record of {record.name!r} holds shapes only; capture again without device='meta'")
        known = self._resolved(record)
        rows, columns = known.sides
        if rows is None and len(known.texts) == 1:  # one sample of several, taken since
            rows = known.texts[0]
        rows, columns = sides_by_hand(self._layout, record, self.names, rows, columns)
        return CrossAttention(known.to_dense(), rows, columns, record.name)

    def layout_of(self, record: AttentionRecord) -> TokenLayout | None:
        """Which token is what in one of ``records``, without a sink; None where nothing says it.

        Raises:
            LayoutError: ambiguous; the message has the cure.
        """
        choice = layout_for(self._layout, record.name)
        if choice is not None:
            return choice or None
        return known_layout(self._resolved(record))

    def _resolved(self, record: AttentionRecord) -> AttentionRecord:
        return record if self._resolve is None else self._resolve(record)


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
        if any(not record.is_square for record in records):
            cure = f"join prefill and cached decoding with trace.decoded(), {cure}"
    return f"{key!r} was recorded {len(records)} times, in {len(steps)} forward calls; {cure}"


def _listed(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(map(repr, names[:count])) + (f" … ({len(names)} in all)" if len(names) > count else "")

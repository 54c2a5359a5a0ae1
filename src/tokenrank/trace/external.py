"""External attention as traces: weights that a model returned, queries and keys of hooks, files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, printable
from ..files.checks import as_tensor, check_weights, is_array
from ..files.foreign import query_key_record
from ..files.read import read_records
from ..layout import LayoutChoice
from ..recording import AttentionRecord, Forward
from .joined_weights import has_copies
from .trace import Trace

_CURE = (
    "the model ran with an attention that keeps no weights: load it with attn_implementation='eager' and pass "
    "output_attentions=True, or use tr.capture, which sees sdpa and flex_attention too"
)


class _Entry(NamedTuple):
    """One tensor of weights: its name, the forward call, and how an error calls it."""

    name: str
    step: int
    value: Any
    what: str


def from_attentions(attentions: Any, names: Sequence[str] | None = None, layout: LayoutChoice = None) -> Trace:
    """A trace from attention weights, one record a tensor; the tensors are shared, not copied.

    ::

        outputs = model(**inputs, output_attentions=True)  # a model with attn_implementation="eager"
        trace = tr.from_attentions(outputs)
        chain = trace["encoder_attentions.3"]

    Args:
        attentions: one of

            - tensors or arrays (…, heads, queries, keys), one a layer: ``outputs.attentions``, what
              BertViz takes; named "attentions.0", "attentions.1", …;
            - for each step of ``generate`` such a sequence: records of step 0, 1, …, which ``trace.decoded()``
              joins;
            - an output of transformers: everything in it whose name ends in "attentions", also in
              the outputs inside it;
            - a mapping from name to a tensor, or to one of the above.
        names: one name a record of each step, instead of those.
        layout: which token is what; False for none.

    Raises:
        InputError: nothing there, None instead of weights, no floating-point tensors of two
            dimensions or more, NaN, negative numbers, rows that do not sum to one (logits, dropout,
            sinks); the message has the reason and the cure.
    """
    entries = sorted(_entries(attentions), key=lambda entry: entry.step)
    if not entries:
        raise InputError(f"attentions are {_described(attentions)} without any weights; {_CURE}")
    records: list[AttentionRecord] = []
    forwards: dict[int, Forward] = {}
    places: dict[str, int] = {}  # the same in every step: later ones have no encoder
    for entry in entries:
        weights = as_tensor(_present(entry.value, entry.what), entry.what)
        check_weights(weights, entry.what)
        forward = forwards.setdefault(entry.step, Forward(entry.step))
        place = places.setdefault(entry.name, len(places))
        records.append(AttentionRecord(entry.name, "", "weights", place, forward, weights=weights))
    reordered = _reordered(attentions, [r.weights for r in records if r.step == 0 and r.weights is not None])
    for forward in forwards.values():
        forward.reordered = reordered
    if names is not None:
        records = _renamed(records, names, attentions)
    return Trace(records, layout=layout)


def _entries(attentions: Any) -> Iterator[_Entry]:
    if attentions is None:
        raise InputError(f"attentions are None, expected a sequence of tensors; {_CURE}")
    if isinstance(attentions, Mapping):
        yield from _named(attentions, "")
    elif is_array(attentions):
        yield _Entry("attentions", 0, attentions, "attentions")
    elif isinstance(attentions, Sequence) and not isinstance(attentions, str | bytes):
        yield from _layers(attentions, "attentions")
    else:
        raise InputError(
            f"attentions are {_described(attentions)}, expected tensors in a sequence or a mapping, or an output of "
            "transformers; pass outputs.attentions"
        )


def _named(attentions: Mapping[Any, Any], above: str) -> Iterator[_Entry]:
    """Of a mapping; of an output of transformers only what is attention."""
    from transformers.utils import ModelOutput

    is_output = isinstance(attentions, ModelOutput)
    for key, value in attentions.items():
        name = f"{above}{key}"
        if isinstance(value, ModelOutput):
            yield from _named(value, f"{name}.")
        elif is_output and (value is None or not str(key).endswith("attentions")):
            continue
        elif value is None or is_array(value):
            yield _Entry(name, 0, value, f"attention {printable(name)}")
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            yield from _layers(value, name)
        else:
            raise InputError(f"attention {printable(name)} is {_described(value)}, expected a tensor or a sequence")


def _layers(attentions: Sequence[Any], name: str) -> Iterator[_Entry]:
    """Of tensors, one a layer; or of sequences of them, one a step."""
    for number, value in enumerate(attentions):
        where = f"{name}[{number}]"
        if isinstance(value, Sequence) and not is_array(value) and not isinstance(value, str | bytes):
            for layer, weights in enumerate(value):
                yield _Entry(f"{name}.{layer}", number, weights, f"{where}[{layer}]")
        else:
            yield _Entry(f"{name}.{number}", 0, value, where)


def _reordered(attentions: Any, first: Sequence[Tensor]) -> bool | None:
    """Whether ``generate`` had beams, which change places in the batch; None where nothing says it.

    Its output has their places. Bare tensors have not: there samples that begin with the same weights may be beams.
    """
    from transformers.utils import ModelOutput

    if isinstance(attentions, ModelOutput):
        return attentions.get("beam_indices") is not None
    return None if any(map(has_copies, first)) else False


def _present(value: Any, what: str) -> Any:
    if value is None:
        raise InputError(f"{what} is None, expected a tensor of attention weights; {_CURE}")
    return value


def _renamed(records: Sequence[AttentionRecord], names: Sequence[str], attentions: Any) -> list[AttentionRecord]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"names are {names!r}, expected a sequence of strings, one a record")
    if isinstance(attentions, Mapping) and not hasattr(attentions, "to_tuple"):
        raise InputError("names beside a mapping, which has names already; leave them out, or pass its values")
    most = 1 + max(record.index for record in records)
    if len(names) != most:
        raise InputError(f"{len(names)} names for {most} records, expected as many: {[r.name for r in records[:most]]}")
    return [replace(record, name=names[record.index]) for record in records]


def _described(value: Any) -> str:
    return f"a {type(value).__name__}"


def from_query_key(
    entries: Mapping[str, Any] | Sequence[Any], names: Sequence[str] | None = None, layout: LayoutChoice = None
) -> Trace:
    """A trace from queries and keys, softmax(scale · q kᵀ + mask); the tensors are shared, not copied.

    ::

        trace = tr.from_query_key({"layer.3": (q, k), "layer.4": {"q": q, "k": k, "is_causal": True}})

    Args:
        entries: by name, or in a sequence (named "attention.0", "attention.1", … where ``names`` are
            missing): a pair q (…, heads, queries, d), k (…, heads or a divisor of it, keys, d), or a
            mapping with

            - ``q`` and ``k``: as they are multiplied, after rotary embedding and normalisation;
            - ``scale``: factor of the logits; 1/√d where it is missing;
            - ``mask``: bool (True may attend) or float (added to the logits), broadcastable to
              (…, heads, queries, keys);
            - ``is_causal``: whether query i sees keys 0 … i only;
            - ``sinks``: (heads,) logits of an attention sink.
        names: one a record; only with a sequence.
        layout: which token is what; False for none.

    Raises:
        InputError: other keys than these, types or shapes that do not fit each other, NaN or
            infinite numbers.

    Example:
        >>> import torch, tokenrank as tr
        >>> q = k = torch.eye(3)[None]  # one head, three tokens
        >>> trace = tr.from_query_key({"layer.3": (q, k)}, layout=tr.TokenLayout.text(["a", "cat", "sat"]))
        >>> trace
        Trace(1 module, 1 record, 1 forward call, 36 bytes)
        >>> trace["layer.3"]
        AttentionChain(shape=(1, 3, 3), QueryKey, {'text': 3})
    """
    forward = Forward(0)
    records = [
        query_key_record(name, entry, place, forward) for place, (name, entry) in enumerate(_pairs(entries, names))
    ]
    if not records:
        raise InputError(f"entries are an empty {type(entries).__name__}, expected one pair of q and k at least")
    return Trace(records, layout=layout)


def _pairs(entries: Any, names: Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    if isinstance(entries, Mapping):
        if names is not None:
            raise InputError("names beside a mapping, which has names already; leave them out, or pass its values")
        names, entries = list(entries), list(entries.values())
    elif not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise InputError(
            f"entries are of type {type(entries).__name__}, expected a mapping from name to (q, k), or a sequence of "
            "pairs"
        )
    names = [f"attention.{i}" for i in range(len(entries))] if names is None else names
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"names are {names!r}, expected strings, one a record")
    if len(names) != len(entries):
        raise InputError(f"{len(names)} names for {len(entries)} entries, expected as many")
    return zip(names, entries, strict=True)


def load_trace(path: str | os.PathLike[str], device: torch.device | str | None = None) -> Trace:
    """The trace that ``trace.save(path)`` wrote, or attention that another program saved.

    Of other programs, ``.npz`` and ``.safetensors`` files are read whose arrays are named
    "NAME.q" and "NAME.k" (with "NAME.scale", "NAME.mask", "NAME.is_causal", "NAME.sinks" where there are), or
    "NAME.weights", "NAME.attn" or only "NAME" for weights; "/" and "_" do in place of the dot, and
    "q", "k" without any name. "NAME.v" is passed over. Nothing in a file is ever executed.

    Args:
        path: of the file; what it is, is told from its contents.
        device: where to put the tensors; the CPU by default.

    Raises:
        InputError: no such file, another kind of file, a damaged one (every tensor of a saved trace has
            a checksum), a newer format, or arrays that are no attention.
    """
    contents = read_records(path, device)
    return Trace(list(contents.records), contents.opaque, contents.layout)

"""Queries and keys that somebody else's hooks collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..archive.arrays import as_tensor
from ..archive.checks import as_scale, check_query_key
from ..errors import InputError, nearest, printable
from ..recording import AttentionRecord, Forward
from ..trace import Trace
from ..trace.core import LayoutChoice

FIELDS = ("q", "k", "scale", "mask", "is_causal", "sinks")


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
    """
    forward = Forward(0)
    records = [record(name, entry, place, forward) for place, (name, entry) in enumerate(_pairs(entries, names))]
    if not records:
        raise InputError(f"entries are an empty {type(entries).__name__}, expected one pair of q and k at least")
    return Trace(records, layout=layout)


def record(name: str, entry: Any, place: int, forward: Forward) -> AttentionRecord:
    """The record of one entry of ``from_query_key``."""
    what = f"attention {printable(name)}"
    fields = _fields(entry, what)
    q, k = (as_tensor(fields[key], f"{key} of {what}") for key in ("q", "k"))
    mask, sinks = (
        None if fields.get(key) is None else as_tensor(fields[key], f"{key} of {what}") for key in ("mask", "sinks")
    )
    scale = as_scale(fields.get("scale"), q.shape[-1] if q.ndim else 0, what)
    is_causal = fields.get("is_causal", False)
    if not isinstance(is_causal, bool):
        raise InputError(f"is_causal of {what} is {is_causal!r}, expected True or False")
    check_query_key(q, k, scale, mask, sinks, what)
    return AttentionRecord(name, "", "sdpa", place, forward, q, k, scale, mask, is_causal, sinks)


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


def _fields(entry: Any, what: str) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        for key in entry:
            if key not in FIELDS:
                raise InputError(f"{what} has an unknown entry {key!r}; {nearest(str(key), FIELDS, len(FIELDS))}")
        missing = [key for key in ("q", "k") if key not in entry]
        if missing:
            raise InputError(f"{what} has {sorted(entry)} and no {' and no '.join(missing)}; give both q and k")
        return entry
    if isinstance(entry, tuple | list) and len(entry) == 2:
        return {"q": entry[0], "k": entry[1]}
    count = f" of {len(entry)}" if isinstance(entry, tuple | list) else ""
    raise InputError(
        f"{what} is a {type(entry).__name__}{count}, expected a pair (q, k), or a mapping with {', '.join(FIELDS)}"
    )

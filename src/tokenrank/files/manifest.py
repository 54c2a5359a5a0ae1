"""Manifest: what a trace's file says beside its tensors, as JSON that is checked when it is read.

One object: ``version``, ``records``, ``forwards``, ``layouts``, ``windows``, ``layout``, ``opaque``,
``tensors`` (dtype, shape and CRC-32 of each) and ``crc32`` of all the rest. A record names its forward call, its
layout, its windows and its texts by their numbers, its tensors by name.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn, get_args

from ..errors import InputError, LayoutError, first_line, nearest, printable
from ..layout import LayoutChoice, TokenLayout
from ..recording import AttentionKind, Forward

VERSION = 1
OURS = ("crc32", "forwards", "layouts", "opaque", "records", "tensors", "version")  # what ``dump`` is given says
KINDS: tuple[str, ...] = get_args(AttentionKind)
PARTS = ("q", "k", "mask", "sinks", "weights")

_LAYOUT_FIELDS = tuple(f.name for f in fields(TokenLayout))


def dump(manifest: Mapping[str, Any]) -> str:
    """JSON with a checksum of its own."""
    return _canonical({**manifest, "crc32": zlib.crc32(_canonical(manifest).encode())})


def is_ours(text: str) -> bool:
    """Whether a text is a description, or what is left of one."""
    return sum(f'"{word}":' in text for word in OURS) > len(OURS) // 2


def parse(text: str) -> dict[str, Any]:
    """The object that ``dump`` wrote.

    Raises:
        InputError: no JSON, another version, or a checksum that differs.
    """
    try:
        manifest = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"its description of the trace is no JSON: {first_line(error)}; the file is damaged") from None
    if not isinstance(manifest, dict):
        _refuse("its description of the trace", manifest, "an object")
    version = whole(manifest.get("version"), "version")
    if version > VERSION:
        raise InputError(
            f"it has format version {version}, expected {VERSION} or less; a newer tokenrank wrote it: update this one"
        )
    if version < 1:
        _refuse("version", version, f"1 … {VERSION}")
    stated = whole(manifest.pop("crc32", None), "crc32")
    actual = zlib.crc32(_canonical(manifest).encode())
    if stated != actual:
        raise InputError(
            f"the checksum of its description of the trace is {actual}, expected {stated}; the file is damaged"
        )
    return manifest


def _canonical(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{printable(next(n for n in names if names.count(n) > 1))} stands twice in one object")
    return entries


def layout_to_json(layout: TokenLayout) -> dict[str, Any]:
    """Spans and grids as lists of pairs, since their order matters."""
    entry: dict[str, Any] = {name: getattr(layout, name) for name in _LAYOUT_FIELDS}
    entry["spans"] = [[name, count] for name, count in layout.spans.items()]
    entry["grids"] = [[name, list(grid)] for name, grid in layout.grids.items()]
    entry["seconds"] = [[name, list(clock)] for name, clock in layout.seconds.items()]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in entry.items()}


def layout_from_json(value: Any, what: str) -> TokenLayout:
    """The layout that ``layout_to_json`` wrote.

    Raises:
        InputError: another type, or grids, strings and special tokens that do not fit the spans.
    """
    entry = objects(value, what)
    for name in entry:
        if name not in _LAYOUT_FIELDS:
            raise InputError(f"{what} has an unknown entry {printable(name)}; {nearest(name, _LAYOUT_FIELDS)}")
    spans = {text(n, what): whole(count, what) for n, count in _pairs(entry.get("spans"), f"spans of {what}")}
    grids = {
        text(n, what): _grid(grid, f"a grid of {what}") for n, grid in _pairs(entry.get("grids"), f"grids of {what}")
    }
    tokens = entry.get("tokens")
    strings = None if tokens is None else tuple(text(t, f"a token of {what}") for t in lists(tokens, what))
    special = tuple(whole(i, f"a special token of {what}") for i in lists(entry.get("special", []), what))
    places = entry.get("order")
    order = None if places is None else tuple(whole(i, f"the order of {what}") for i in lists(places, what))
    seconds = {
        text(n, what): _clock(clock, f"seconds of {what}")
        for n, clock in _pairs(entry.get("seconds", []), f"seconds of {what}")
    }
    try:
        return TokenLayout(spans, grids, strings, special, order, seconds)
    except LayoutError as error:
        raise InputError(f"{what} does not fit: {error}") from None


def _grid(value: Any, what: str) -> tuple[int, int] | tuple[int, int, int]:
    match [whole(n, what) for n in lists(value, what)]:
        case [rows, columns]:
            return rows, columns
        case [frames, rows, columns]:
            return frames, rows, columns
        case _:
            _refuse(what, value, "two or three numbers")


def _clock(value: Any, what: str) -> tuple[float, float]:
    match [number(n, what) for n in lists(value, what)]:
        case [begin, step]:
            return begin, step
        case _:
            _refuse(what, value, "two numbers")


def choice_to_json(choice: LayoutChoice) -> Any:
    """A layout given by hand: one, false or null, or pairs of a glob of layers and its layout or false."""
    if isinstance(choice, Mapping):
        return [[glob, layout_to_json(one) if one else False] for glob, one in choice.items()]
    return layout_to_json(choice) if choice else choice


def choice_from_json(value: Any, what: str) -> LayoutChoice:
    """The choice that ``choice_to_json`` wrote.

    Raises:
        InputError: another type.
    """
    if isinstance(value, list):
        return {glob: False if one is False else layout_from_json(one, what) for glob, one in _pairs(value, what)}
    return value if value is None or value is False else layout_from_json(value, what)


def _pairs(value: Any, what: str) -> list[tuple[Any, Any]]:
    pairs = [lists(pair, what) for pair in lists(value, what)]
    names = [pair[0] if pair else None for pair in pairs]
    if any(len(pair) != 2 for pair in pairs) or any(not isinstance(n, str) for n in names):
        _refuse(what, value, "pairs of a name and a value")
    if len(set(names)) != len(names):
        _refuse(what, value, "each name once")
    return [(name, entry) for name, entry in pairs]


def forward_to_json(forward: Forward) -> dict[str, Any]:
    """One call of the root."""
    return {"step": forward.step, "timestep": forward.timestep, "branches": list(forward.branches)}


def forward_from_json(value: Any, what: str) -> Forward:
    """The call that ``forward_to_json`` wrote.

    Raises:
        InputError: another type.
    """
    entry = objects(value, what)
    timestep = entry.get("timestep")
    branches = tuple(text(b, f"a branch of {what}") for b in lists(entry.get("branches", []), f"branches of {what}"))
    step = whole(entry.get("step"), f"step of {what}")
    return Forward(step, None if timestep is None else number(timestep, f"timestep of {what}"), branches)


def whole(value: Any, what: str) -> int:
    """A whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        _refuse(what, value, "a whole number from 0")
    return value


def signed(value: Any, what: str) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        _refuse(what, value, "a whole number")
    return value


def number(value: Any, what: str) -> float:
    """A real number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(what, value, "a number")
    try:
        return float(value)
    except OverflowError:
        _refuse(what, value, "a number of double precision")


def text(value: Any, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        _refuse(what, value, "a string")
    return value


def flag(value: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        _refuse(what, value, "true or false")
    return value


def lists(value: Any, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        _refuse(what, value, "a list")
    return value


def objects(value: Any, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        _refuse(what, value, "an object")
    return value


def one_of(value: Any, known: Iterable[str], what: str) -> str:
    """One of the known strings."""
    choices = list(known)
    if value not in choices:
        _refuse(what, value, " or ".join(map(repr, choices)))
    return str(value)


def place(value: Any, entries: Sequence[Any], what: str) -> Any:
    """The entry whose number is given."""
    index = whole(value, what)
    if index >= len(entries):
        _refuse(what, index, f"less than {len(entries)}")
    return entries[index]


def _refuse(what: str, value: Any, expected: str) -> NoReturn:
    try:
        shown = printable(json.dumps(value))
    except (ValueError, RecursionError, TypeError):
        shown = f"a {type(value).__name__}"
    raise InputError(f"{what} is {shown}, expected {expected}; the file is damaged, or no trace of tokenrank")

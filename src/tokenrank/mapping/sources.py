"""Sources of ``tr.map`` by key, and digests of what they hold."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from ..evaluate.runner.settings import digest_of_files
from ..models.texts import is_path
from ..plain import utf8


@dataclass(frozen=True)
class Named:
    """A source with its key."""

    key: str
    source: Any


def named_sources(sources: Iterable[Any] | Mapping[str, Any]) -> tuple[Named, ...]:
    """Sources with keys: those of a mapping; of a list a path or text is its own key, all else has its place as one.

    Raises:
        InputError: no source, one path instead of several, keys that are no text, or a key twice.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        raise InputError(f"sources = {printable(sources)}, expected several, such as [{printable(sources)}]")
    if not isinstance(sources, Iterable):
        raise InputError(f"sources is a {type(sources).__name__}, expected a list of several, or a mapping from keys")
    if isinstance(sources, Mapping):
        found = tuple(Named(key, source) for key, source in sources.items())
    else:
        found = tuple(Named(_key(source, place), source) for place, source in enumerate(sources))
    keys = [one.key for one in found]
    if odd := [key for key in keys if not isinstance(key, str) or not key]:
        raise InputError(f"key {odd[0]!r} of a source, expected text")
    if not found:
        raise InputError("there are no sources, expected one at least")
    if len({utf8(key) for key in keys}) < len(keys):
        twice = next(key for place, key in enumerate(keys) if key in keys[:place] or utf8(key) != key)
        raise InputError(f"source {printable(twice)} stands there twice; give a mapping from keys that differ")
    return found


def _key(source: Any, place: int) -> str:
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else f"{place:08}"


def contents_of_sources(sources: Iterable[Named]) -> dict[str, str]:
    """Key → 16 hexadecimal digits of what a source holds: its file's, or its own bytes; those without are left out."""
    found = {}
    for one in sources:
        if isinstance(one.source, str | os.PathLike) and is_path(one.source):
            if Path(one.source).is_file():
                found[one.key] = digest_of_files([Path(one.source)])
        elif (content := _bytes(one.source)) is not None:
            found[one.key] = hashlib.blake2b(content, digest_size=8).hexdigest()
    return found


def _bytes(source: Any) -> bytes | None:
    try:
        return pickle.dumps(source, protocol=5)
    except Exception:  # what cannot be pickled cannot be told from another one either
        return None

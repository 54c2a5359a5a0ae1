"""Lines that make an observation again, its name, and the command that brings what is not in the page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import samples
from ..errors import InputError, escaped
from ..models.texts import is_path
from ..token_text import shortened, visible

LONGEST_TEXT = 300
"""Characters of a text that stand in the lines themselves."""

LONGEST_NAME = 80
IMPORT = "import tokenrank as tr"
OUT = "--out page.html"
IN_PYTHON = "tr.explore(obs, layers=[{layer}], heads=[{head}])"
_SAID = ("model", "size", "kind")  # options of tr.observe that are written down; others are objects


@dataclass(frozen=True)
class Named:
    """What a page says about where an observation comes from.

    Attributes:
        name: of the file, or the beginning of the text.
        lines: Python that makes ``obs`` again.
        source: as a word of the command ``tokenrank explore``; None of what has no path and is no short text.
        options: of that command, from a space on.
    """

    name: str
    lines: tuple[str, ...]
    source: str | None = None
    options: str = ""


def named(given: Sequence[Any], sources: Sequence[Any] | None, options: Mapping[str, Any]) -> list[Named]:
    """For every observation its name and lines.

    Args:
        given: the observations or drafts.
        sources: what they were made from; None where nobody knows.
        options: of ``tr.observe``.

    Raises:
        InputError: another number of sources.
    """
    sources = [None] * len(given) if sources is None else list(sources)
    if len(sources) != len(given):
        raise InputError(f"{len(sources)} sources of {len(given)} observations, expected one for each")
    return [_named(one, source, options) for one, source in zip(given, sources, strict=True)]


def cure_of(names: Sequence[Named]) -> str:
    """The command that brings what is not in the page, or Python; {layer} and {head} stand for what it is."""
    words = [name.source for name in names]
    if any(word is None for word in words) or names[0].options != names[-1].options:
        return IN_PYTHON
    return f"tokenrank explore {' '.join(map(str, words))}{names[0].options} --layers {{layer}} --heads {{head}} {OUT}"


def _named(one: Any, source: Any, options: Mapping[str, Any]) -> Named:
    said = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    said = {name: said[name] for name in _SAID if isinstance(said.get(name), str | int) and said[name] != "bundled"}
    words = "".join(f", {name}={_literal(value)}" for name, value in said.items())
    typed = "".join(f" --{name} {_word(str(value))}" for name, value in said.items())
    if isinstance(source, os.PathLike) or (isinstance(source, str | bytes) and _is_file(source)):
        path = os.fsdecode(source)
        sample = _sample(path)
        if path.lower().endswith((".safetensors", ".npz")):
            made: tuple[str, ...] = (f"trace = tr.load_trace({_literal(path)})", "obs = tr.observe(trace)")
        else:
            place = _literal(path) if sample is None else f"tr.samples.path({sample!r})"
            made = (f"obs = tr.observe({place}{words})",)
        return Named(
            escaped(Path(path).name, LONGEST_NAME),
            (IMPORT, *made),
            _word(f"./{path}" if path.startswith("-") else path),
            typed,
        )
    if isinstance(source, str):
        name = shortened(visible(" ".join(source.split())), LONGEST_NAME)
        if len(source) <= LONGEST_TEXT:
            made = (f"obs = tr.observe({_literal(source)}{words})",)
            return Named(name, (IMPORT, *made), None if source.startswith("-") else _word(source), typed)
        told = f"text = ...  # the text of this page, {len(source):,} characters"
        return Named(name, (IMPORT, told, f"obs = tr.observe(text{words})"))
    what = "what was given" if source is None or source is one else f"a {type(source).__name__}"
    name = escaped(without_folder(one.name), LONGEST_NAME)
    return Named(name, (IMPORT, f"obs = ...  # tr.observe of {escaped(what, LONGEST_NAME)}, seen by {name}"))


def without_folder(name: str) -> str:
    """The name of a model, of a path its last part: no page tells whose folder it was."""
    return Path(name).name if is_path(name) else name


def _sample(path: str) -> str | None:
    """The name of a photograph that comes with the package."""
    return next((name for name in samples.names() if Path(path) == samples.path(name)), None)


def _is_file(source: str | bytes) -> bool:
    try:
        return is_path(os.fsdecode(source))
    except ValueError:
        return False


def _literal(value: Any) -> str:
    """A Python literal on one line; characters without ink, turning marks and lone surrogates are its escapes."""
    return repr(value)


def _word(text: str) -> str:
    """A word of a command line."""
    return shlex.quote(escaped(text))

"""Every error names the thing, the value found, the value expected and the cure."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


class TokenRankError(Exception):
    """Base of all errors raised on purpose by tokenrank.

    A message may quote what files hold: whatever raises it, no character of it acts on a terminal (``escaped``), and
    it has an end.
    """

    def __init__(self, *args: object, **more: Any) -> None:
        super().__init__(*(_message(arg) if isinstance(arg, str) else arg for arg in args), **more)


class ChainError(TokenRankError, ValueError):
    """The numbers given are not a Markov chain, or the question does not fit the chain."""


class LayoutError(TokenRankError, ValueError):
    """It is unknown or ambiguous which token is what."""


class CaptureError(TokenRankError, RuntimeError):
    """No attention was seen, or what was seen cannot be used."""


class DistributedError(TokenRankError, RuntimeError):
    """A rank that does not answer, or that was asked for something else than the others; the message names it."""


class NotFoundError(TokenRankError, LookupError):
    """A layer, span, word or model that does not exist; the message names the nearest ones."""


class InputError(TokenRankError, ValueError):
    """A file or an argument from outside that cannot be used."""


class MissingExtraError(TokenRankError, ImportError):
    """An optional dependency is not installed; the message has the line that installs it."""


class ClusterError(TokenRankError, RuntimeError):
    """A cluster, or one of its workers, cannot do the work."""


class TokenRankWarning(UserWarning):
    """What is told beside an answer. Commands show these, and no warnings of other libraries."""


class NotConvergedWarning(TokenRankWarning):
    """An iterative answer stopped before it reached its tolerance."""


class NotUniqueWarning(TokenRankWarning):
    """One of several right answers was returned: the chain has more than one stationary distribution."""


class NothingThereWarning(TokenRankWarning):
    """What was found stands out no more than it would in a picture without structure."""


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that ``name`` may be a slip of, closest first; empty where none is near."""
    by_case = {other.casefold(): other for other in known}
    return [by_case[match] for match in difflib.get_close_matches(name.casefold(), by_case, n=count, cutoff=0.6)]


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Words for an error message: the known names near to ``name``, and all of them where the list is short.

    A name that is not near is no suggestion; of a long list without one the first few show what names are like.
    """
    known = list(dict.fromkeys(known))
    if not known:
        return "there are none"
    close = near(name, known, count)
    every = ", ".join(map(repr, known))
    short = len(every) <= _LONGEST
    if not close:
        first = ", ".join(map(repr, known[:count]))
        return f"expected {'one of ' if len(known) > 1 else ''}{every if short else f'{len(known)} names: {first}, …'}"
    told = "nearest: " + ", ".join(map(repr, close))
    if len(close) == len(known):
        return told
    return f"{told}; all: {every}" if short else f"{told} ({len(known)} in all)"


def nearest_file(name: str, files: Iterable[str], place: str = "in its folder") -> str:
    """Words for an error message on a missing file: files of near names, if there are any; what else is in a folder
    is no help."""
    close = near(name, files)
    return f"{place}, nearest: {', '.join(map(printable, close))}" if close else f"{place} no name is near to it"


def which_chain(place: Sequence[int], batch: Sequence[int]) -> str:
    """Words for an error message: "chain [2, 0]" of several chains (*batch), or "the chain" where there is one only."""
    return f"chain {list(place)}" if math.prod(batch) > 1 else "the chain"


_LONGEST, _LONGEST_MESSAGE = 200, 8000
_LEFT_OUT = " … "


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """``name`` in quotes, on one line, encodable everywhere: odd characters become escapes.

    File names need not be UTF-8, may hold line breaks or terminal codes, and may be very long.
    """
    return f"'{escaped(os.fsdecode(name), _LONGEST)}'"


def escaped(text: str, most: int | None = None) -> str:
    """``text`` on one line with every character as its escape that would act instead of being seen.

    Line breaks and other controls, codes of terminals, marks that turn the direction of writing, characters without
    ink, lone surrogates. All text from files and other libraries passes through here before it reaches an error, a
    terminal or a page.

    Args:
        most: characters to show; of longer text the middle is left out.
    """
    text = text if most is None else _cut(text, most)  # before it is escaped, which takes ten times its memory
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return text if most is None else _cut(text, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most + len(_LEFT_OUT) else text[: most // 2] + _LEFT_OUT + text[-(most // 2) :]


def _message(text: str) -> str:
    text = _cut(text, _LONGEST_MESSAGE)
    return text if text.isprintable() else _cut("\n".join(map(escaped, text.split("\n"))), _LONGEST_MESSAGE)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name where it has none."""
    lines = str(error).strip().splitlines()
    text = escaped(lines[0].strip()[: 2 * _LONGEST + 1]) if lines else ""
    return (text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST] + " …") or type(error).__name__


def neighbours(path: Path) -> list[str]:
    """Names in the folder that ``path`` would be in; empty where there is no such folder."""
    try:
        return sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return []


def require(module: str, extra: str) -> Any:
    """Import ``module``, which ``pip install 'tokenrank[extra]'`` brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{package} cannot be imported ({error}); install it: pip install 'tokenrank[{extra}]'"
        ) from error

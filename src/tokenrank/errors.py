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
    """Base of all errors raised on purpose by tokenrank."""


class ChainError(TokenRankError, ValueError):
    """The numbers given are not a Markov chain, or the question does not fit the chain."""


class LayoutError(TokenRankError, ValueError):
    """It is unknown or ambiguous which token is what."""


class CaptureError(TokenRankError, RuntimeError):
    """No attention was seen, or what was seen cannot be used."""


class NotFoundError(TokenRankError, LookupError):
    """A layer, span, word or model that does not exist; the message names the nearest ones."""


class InputError(TokenRankError, ValueError):
    """A file or an argument from outside that cannot be used."""


class MissingExtraError(TokenRankError, ImportError):
    """An optional dependency is not installed; the message has the line that installs it."""


class NotConvergedWarning(UserWarning):
    """An iterative answer stopped before it reached its tolerance."""


class NotUniqueWarning(UserWarning):
    """One of several right answers was returned: the chain has more than one stationary distribution."""


class NothingThereWarning(UserWarning):
    """What was found stands out no more than it would in a picture without structure."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Words for an error message: the known names closest to ``name``, or the first few."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.4) or known[:count]
    if not close:
        return "there are none"
    more = f" … ({len(known)} in all)" if len(known) > len(close) else ""
    return "nearest: " + ", ".join(repr(c) for c in close) + more


def which_chain(place: Sequence[int], batch: Sequence[int]) -> str:
    """Words for an error message: "chain [2, 0]" of several chains (*batch), or "the chain" where there is one only."""
    return f"chain {list(place)}" if math.prod(batch) > 1 else "the chain"


_LONGEST = 200


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """``name`` in quotes, on one line, encodable everywhere: odd characters become escapes.

    File names need not be UTF-8, may hold line breaks or terminal codes, and may be very long.
    """
    text = os.fsdecode(name)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    if len(safe) > _LONGEST:
        safe = safe[: _LONGEST // 2] + " … " + safe[-_LONGEST // 2 :]
    return f"'{safe}'"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name where it has none."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
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

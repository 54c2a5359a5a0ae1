"""Every error names the thing, the value found, the value expected and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Words for an error message: the known names closest to ``name``, or the first few."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.4) or known[:count]
    if not close:
        return "there are none"
    more = f" … ({len(known)} in all)" if len(known) > len(close) else ""
    return "nearest: " + ", ".join(repr(c) for c in close) + more

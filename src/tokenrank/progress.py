"""Progress of long work: told to whoever listens, and a bar in a terminal or a notebook where nobody does."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Listener: TypeAlias = Callable[[str, int, int | None], None]
"""Takes words for the work, how much of it is done, and of how much: None where that is not known."""

DELAY = 1.0
"""Seconds that work takes before a bar is drawn: what is quick is not announced."""

_FORM = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"

# of the context, so that threads and tasks neither hear nor hide each other
_listener: ContextVar[Listener | None] = ContextVar("tokenrank_progress_listener", default=None)
_inside: ContextVar[bool] = ContextVar("tokenrank_progress_inside", default=False)


def track(
    items: Iterable[T],
    words: str | Callable[[], str],
    total: int | None = None,
    *,
    counts: Callable[[T], int] | None = None,
    done: int = 0,
) -> Iterator[T]:
    """The items, one after the other; how far it is is told when work begins and after each of them.

    What is tracked while an item is worked on is a part of it and not told, so that a reader sees one count at a time.

    Args:
        items: what is worked on.
        words: for the work, such as "|λ2| of layers"; a function of nothing where they change on the way.
        total: how many there are, ``done`` included; the length of ``items`` where it has one.
        counts: how many an item counts for; 1 each where None.
        done: how many were done before.

    Example:
        >>> from tokenrank.progress import listening, track
        >>> with listening(lambda words, done, total: print(words, done, "of", total)):
        ...     squares = [n * n for n in track(range(3), "squares")]
        squares 0 of 3
        squares 1 of 3
        squares 2 of 3
        squares 3 of 3
    """
    if _inside.get():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    with _told(words, total) as tell:
        tell(done)
        for item in items:
            # seen by what is worked on, as a generator runs in the context of those who ask it
            _inside.set(True)
            try:
                yield item
            finally:
                _inside.set(False)
            done += 1 if counts is None else counts(item)
            tell(done)


@contextlib.contextmanager
def doing(words: str) -> Iterator[None]:
    """One step that cannot be counted, such as "loading the model"."""
    for _ in track((None,), words):
        yield


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell ``listener`` how far work in this block is, and draw no bar."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextlib.contextmanager
def _told(words: str | Callable[[], str], total: int | None) -> Iterator[Callable[[int], None]]:
    """Who is told: the listener, a bar, or nobody."""
    listener = _listener.get()
    if listener is not None:
        yield lambda done: listener(_words(words), done, total)
    elif total != 1 and _is_watched():  # of a single step a bar knows nothing before it is over
        bar = _bar(_words(words), total)
        try:
            yield lambda done: _advance(bar, _words(words), done)
        finally:
            bar.close()
    else:
        yield lambda done: None


def _words(words: str | Callable[[], str]) -> str:
    return words if isinstance(words, str) else words()


def _is_watched() -> bool:
    """Whether somebody looks at stderr: a terminal or a notebook."""
    if os.environ.get("TOKENRANK_PROGRESS", "") == "0":
        return False
    stream: Any = sys.stderr
    with contextlib.suppress(Exception):  # an embedding program may have put anything, or nothing, there
        if stream.isatty():
            return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def bars() -> Any:
    """The class of bars for where this runs, imported without the warning that a notebook has no widgets.

    Then it gets a line of text, which will do. Who imports libraries that draw bars of their own calls this first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm


def _bar(words: str, total: int | None) -> Any:
    return bars()(
        desc=f"{words}: ", total=total, delay=DELAY, leave=False, file=sys.stderr, dynamic_ncols=True, bar_format=_FORM
    )


def _advance(bar: Any, words: str, done: int) -> None:
    bar.set_description_str(f"{words}: ", refresh=False)
    bar.update(done - bar.n)

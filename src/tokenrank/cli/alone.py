"""Standard error for a command alone: what libraries write there, in Python or below it, goes nowhere meanwhile."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STDERR = 2  # the descriptor that libtiff, libsndfile and others write to, whatever sys.stderr is
_mine: list[Any] = []


def ours() -> Any:
    """The stream for what the command says: where stderr was before ``alone``."""
    return _mine[-1] if _mine else sys.stderr


@contextmanager
def alone() -> Iterator[None]:
    """Only what is written to ``ours()`` is seen on stderr.

    The descriptor leads nowhere in this block, so that C libraries and child processes are quiet too. Streams of
    Python that libraries keep from here, as loggers do, work again afterwards.
    """
    if _mine:  # a command within a command
        yield
        return
    with contextlib.ExitStack() as undo:
        before = sys.stderr
        saved = _away(undo)
        if saved is not None and _descriptor(before) == _STDERR:
            stream: Any = open(  # noqa: SIM115
                saved, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False
            )
            undo.callback(_close, stream)
        else:  # an embedding program put its own there, or there is none
            stream = before
            undo.enter_context(contextlib.redirect_stderr(_Nobody()))
        _mine.append(stream)
        undo.callback(_mine.pop)
        yield


def _away(undo: contextlib.ExitStack) -> int | None:
    """Let the descriptor lead nowhere until ``undo``: a new one of where it led; None where there is none."""
    try:
        saved = os.dup(_STDERR)
    except OSError:
        return None

    def back() -> None:
        _flush()
        os.dup2(saved, _STDERR)
        os.close(saved)

    undo.callback(back)  # before anything is changed: Ctrl-C may come between any two lines
    _flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    return saved


def _flush() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


def _close(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads
        stream.close()


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


class _Nobody(io.TextIOBase):
    """A stream that keeps silent while a command runs, and leads to stderr afterwards: loggers keep it."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not _mine and sys.stderr is not None and sys.stderr is not self:
            sys.stderr.write(text)
        return len(text)

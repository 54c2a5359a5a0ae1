"""What a command says beside its results: errors and warnings in one line each, and exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.progress import Progress

from ..errors import InputError, NotFoundError, TokenRankError, TokenRankWarning, escaped
from .alone import alone, ours

FAILED, MISUSED, SOME_FAILED, OFF, INTERRUPTED, UNREAD = 1, 2, 3, 4, 130, 141
"""Exit codes, of all commands: bad input; a command line that is wrong whatever the files hold; some inputs failed, and
the rest is done; what ``reproduce`` measured is beyond its tolerance, or speaks against the claim; Ctrl-C; nobody reads
what is printed."""

CODES = (
    "Exit codes: 0 all is done, 1 bad input or nothing done, 2 a command line that is wrong by itself, 3 some inputs "
    "failed and the rest is done, 4 a figure of reproduce is off, 130 Ctrl-C."
)

LONGEST = 2000
"""Characters of a line."""

_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_quiet: ContextVar[bool] = ContextVar("tokenrank_cli_quiet", default=False)
_bar: ContextVar[Progress | None] = ContextVar("tokenrank_cli_bar", default=None)
_about: ContextVar[str] = ContextVar("tokenrank_cli_about", default="")


class MisuseError(InputError):
    """A command line that is wrong whatever the files hold."""


@contextmanager
def misuse() -> Iterator[None]:
    """Names and values that are refused inside are wrong whatever the files hold."""
    try:
        yield
    except (InputError, NotFoundError) as error:
        raise MisuseError(str(error)) from error


@contextmanager
def reported(quiet: bool = False) -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and an exit code; nobody else writes there.

    With TOKENRANK_DEBUG=1 errors come as tracebacks, and all that libraries say is shown.

    Args:
        quiet: say nothing on stderr but errors and warnings.
    """
    token = _quiet.set(quiet)
    try:
        if os.environ.get("TOKENRANK_DEBUG", "") not in ("", "0"):
            yield
        else:
            with _quiet_libraries():
                yield from _without_tracebacks()
    finally:
        _quiet.reset(token)


def _without_tracebacks() -> Iterator[None]:
    try:
        yield
    except MisuseError as error:
        error_line(str(error))
        raise typer.Exit(MISUSED) from None
    except TokenRankError as error:
        error_line(str(error))
        raise typer.Exit(FAILED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        interrupted("nothing was finished")
    except BrokenPipeError:  # nobody reads on, as with "| head": end as quietly as other programs do
        _close_stdout()
        raise typer.Exit(UNREAD) from None
    except Exception as error:
        error_line(unexpected(error))
        raise typer.Exit(FAILED) from None


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    for name, value in _LIBRARIES.items():
        os.environ.setdefault(name, value)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TokenRankWarning)
        warnings.showwarning = _show_warning
        with alone():
            yield


@contextmanager
def about(item: str) -> Iterator[None]:
    """Warnings in this block name ``item``."""
    token = _about.set(one_line(item))
    try:
        yield
    finally:
        _about.reset(token)


@contextmanager
def told_above(bar: Progress) -> Iterator[None]:
    """Lines that are said in this block stand above the bar."""
    token = _bar.set(bar)
    try:
        yield
    finally:
        _bar.reset(token)


def error_line(message: str) -> None:
    """One line on stderr."""
    say(f"error: {one_line(message)}")


def interrupted(words: str = "") -> NoReturn:
    """Ctrl-C: say so, and what became of the work."""
    error_line(f"interrupted; {words}" if words else "interrupted")
    raise typer.Exit(Interrupted())


class Interrupted(int):
    """The exit code of a command that said that it was interrupted; typer has the same number for one that did not."""

    def __new__(cls) -> Interrupted:
        """130."""
        return super().__new__(cls, INTERRUPTED)


def unexpected(error: BaseException) -> str:
    """Words for an error that nobody thought of."""
    return f"unexpected {type(error).__name__}: {error}; TOKENRANK_DEBUG=1 shows the traceback, please report it"


def note(words: str) -> None:
    """One line on stderr that is no error; nothing where the command is to be quiet."""
    if not _quiet.get():
        say(one_line(words))


def say(words: str) -> None:
    """Write to stderr; not by click, which takes a stream of ASCII for one of UTF-8."""
    bar, stream = _bar.get(), ours()
    if bar is not None and not bar.disable:
        bar.console.print(words, markup=False, emoji=False, highlight=False, soft_wrap=True)  # above the bar
    elif stream is not None:
        print(words, file=stream, flush=True)


def is_quiet() -> bool:
    """Whether nothing but errors and warnings is to be said."""
    return _quiet.get()


def print_path(path: Path) -> None:
    """One line on stdout, the path byte for byte: it need not be UTF-8, and stdout need not be a file.

    On a terminal, which would obey codes in it, they are shown as escapes.
    """
    with _bar_away():
        sys.stdout.flush()
        binary = getattr(sys.stdout, "buffer", None)
        if sys.stdout.isatty():
            sys.stdout.write(f"{escaped(str(path))}\n")
            sys.stdout.flush()
        elif binary is None:
            sys.stdout.write(f"{path}\n")
        else:
            binary.write(os.fsencode(path) + os.linesep.encode())
            binary.flush()


@contextmanager
def _bar_away() -> Iterator[None]:
    """The bar is off the terminal while something else is written to it."""
    bar = _bar.get()
    if bar is None or bar.disable or not sys.stdout.isatty():
        yield
        return
    bar.stop()
    try:
        yield
    finally:
        bar.start()


def one_line(text: str) -> str:
    """Line breaks and runs of spaces become one space, what no terminal should get an escape; the middle of a very long
    line is left out."""
    return escaped(" ".join(text.split()), LONGEST)


def end_now(code: int) -> NoReturn:
    """Leave without what an interpreter does at its end, which takes seconds once models were loaded: everything that
    was begun is undone or written by now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _close_stdout() -> None:
    """Let nothing be written to stdout any more, at the interpreter's end neither."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    name = f"{_about.get()}: " if _about.get() else ""
    say(f"warning: {name}{one_line(str(message))}")

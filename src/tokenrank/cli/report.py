"""What a command says beside its results: errors and warnings in one line each, and how far it is."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..errors import NotConvergedWarning, NothingThereWarning, TokenRankError

FAILED, MISUSED = 1, 2

_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def reported() -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and exit code 1; quiet the libraries.

    With TOKENRANK_DEBUG=1 errors come as tracebacks, and all warnings are shown.
    """
    debug = os.environ.get("TOKENRANK_DEBUG", "") not in ("", "0")
    if debug:
        yield
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for told in (NotConvergedWarning, NothingThereWarning):
            warnings.simplefilter("always", told)
        warnings.showwarning = _show_warning
        try:
            yield
        except TokenRankError as error:
            error_line(str(error))
            raise typer.Exit(FAILED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            error_line(
                f"unexpected {type(error).__name__}: {error}; TOKENRANK_DEBUG=1 shows the traceback, please report it"
            )
            raise typer.Exit(FAILED) from None


@contextmanager
def progress(items: int) -> Iterator[Callable[[str, str], None]]:
    """Show on stderr which of ``items`` is worked on, and at what; each finished one leaves a line with its time.

    Yields:
        A function of an item's name and the words for its present stage.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    columns += [BarColumn(bar_width=20), MofNCompleteColumn()] if items > 1 else []
    current, begun = "", time.monotonic()
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=items)

        def finish() -> None:
            if current:
                console.print(f"{current}: {time.monotonic() - begun:.1f} s", markup=False)
                bar.advance(task)

        def report(item: str, stage: str) -> None:
            nonlocal current, begun
            item = one_line(item)
            if item != current:
                finish()
                current, begun = item, time.monotonic()
            bar.update(task, description=f"{item}: {stage}")

        yield report
        finish()


def error_line(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"error: {one_line(message)}", err=True)


def note(words: str) -> None:
    """One line on stderr that is no error: what was chosen."""
    typer.echo(one_line(words), err=True)


def one_line(text: str) -> str:
    """Line breaks and runs of spaces become one space, what no terminal should get an escape."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in joined)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {one_line(str(message))}", err=True)

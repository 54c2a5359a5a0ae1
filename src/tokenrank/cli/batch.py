"""Several sources in one call: one after the other, each told, those that fail listed, and the rest done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import typer

from ..errors import ChainError, InputError, printable
from .bars import progress
from .output import OutFolder
from .report import (
    FAILED,
    SOME_FAILED,
    MisuseError,
    about,
    error_line,
    interrupted,
    one_line,
    unexpected,
)
from .sources import Source

if TYPE_CHECKING:
    from ..models import Modality, Model

Say = Callable[[str], None]
"""Takes the words for what is being done."""


def each(sources: Sequence[Source], what: str, out: OutFolder, work: Callable[[Source, Say], None]) -> None:
    """Work on every source.

    A source that cannot be used is listed and the others are done; what would fail on all of them, such as a layer
    that there is not, ends the command. A single source fails as a command does.

    Args:
        what: the word for one, "picture".
        out: where the results go.
        work: takes a source and a function of the words for its present stage.

    Raises:
        typer.Exit: 3 where some failed, 1 where all did, 130 at Ctrl-C; what is finished stays.
    """
    alone, finished, failed = len(sources) == 1, 0, 0
    told_by_name = len({source.name for source in sources}) == len(sources)
    try:
        with progress(len(sources)) as stages:
            for source in sources:
                name = one_line(source.name if told_by_name else source.path)
                try:
                    with about("" if alone else name):
                        work(source, lambda stage, name=name: stages(name, stage))  # type: ignore[misc]
                    stages.finish()
                    finished += 1
                except KeyboardInterrupt:
                    interrupted(f"{_count(finished, what)} of {len(sources)} done{_kept(finished, out)}")
                except Exception as error:
                    if alone or isinstance(error, OSError | MisuseError) or _debugging():
                        raise
                    bad_source = isinstance(error, InputError | ChainError)
                    if not bad_source and type(error).__module__.startswith("tokenrank"):
                        raise
                    stages.drop()
                    failed += 1
                    words = str(error) if bad_source else unexpected(error)
                    error_line(words if printable(source.path) in words else f"{name}: {words}")
    finally:
        out.told()
    if failed:
        rest = "; the rest is done" if finished else ""
        error_line(f"{failed} of {_count(len(sources), what)} failed{rest}")
        raise typer.Exit(SOME_FAILED if finished else FAILED)


def model_of(name: str, kind: Modality) -> Callable[[], Model]:
    """Gives a model, which is loaded when it is first asked for: after the first source could be read."""

    @cache
    def loaded() -> Model:
        from ..models import load

        return load(name, kind=kind)

    return loaded


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _kept(finished: int, out: OutFolder) -> str:
    return f", their results are in {out.path}" if finished else ""


def _debugging() -> bool:
    return os.environ.get("TOKENRANK_DEBUG", "") not in ("", "0")

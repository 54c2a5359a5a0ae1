"""The ``tokenrank`` command. torch, transformers and matplotlib are imported by what needs them, not by ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .. import __version__
from .audio import audio
from .cluster import cluster
from .demo import demo
from .evaluate import evaluate
from .image import image
from .report import FAILED, MISUSED, error_line, one_line
from .reproduce import reproduce
from .segment import segment
from .text import text

app = typer.Typer(
    name="tokenrank",
    help="Attention as a Markov chain: where it goes after one bounce, two bounces, and infinitely many.",
    epilog="TOKENRANK_DEBUG=1 shows tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(image)
app.command()(text)
app.command()(audio)
app.command()(segment)
app.command()(cluster)
app.command()(evaluate)
app.command()(reproduce)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tokenrank {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave the interpreter: 0 when all went well, 1 on bad input, 2 on misuse;
    ``evaluate`` and ``reproduce`` know more (see their help)."""
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except typer.Abort:
        error_line("interrupted")
        code = 130
    except Exception as error:
        # usage errors come with a method that words them, whichever click typer brings along
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        error_line(f"{one_line(words())} (see tokenrank --help)" if words() else "see tokenrank --help")
        code = MISUSED
    sys.exit(code if isinstance(code, int) else 0)


__all__ = ["FAILED", "MISUSED", "app", "main"]

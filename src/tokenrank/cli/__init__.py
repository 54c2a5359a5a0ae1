"""The ``tokenrank`` command. torch, transformers and matplotlib are imported by what needs them, not by ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import nearest
from .audio import audio
from .bench import bench
from .cluster import cluster
from .demo import demo
from .evaluate import evaluate
from .explore import explore
from .generate import generate
from .help import Command, Group, columns, examples, first_sentence
from .image import image
from .plainly import write_plainly
from .report import CODES, FAILED, INTERRUPTED, MISUSED, SOME_FAILED, UNREAD, Interrupted, end_now, error_line, one_line
from .reproduce import reproduce
from .saliency import saliency
from .segment import segment
from .text import text

app = typer.Typer(
    name="tokenrank",
    cls=Group,
    help="Attention as a Markov chain: where it goes after one bounce, two bounces, and infinitely many.\n\n"
    "Results are files; their paths are printed on stdout, everything else on stderr.",
    epilog=f"{examples('tokenrank demo', 'tokenrank saliency cat.jpg', 'tokenrank image --help')}\n\n{CODES} "
    "TOKENRANK_DEBUG=1 shows tracebacks; --install-completion makes the shell complete words.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    demo: ("tokenrank demo", "tokenrank demo --formats png,pdf --out first"),
    image: (
        "tokenrank image cat.jpg --start 320,180",
        "tokenrank image cat.jpg dog.jpg --start 0.5,0.4 --n 1,2,8 --formats pdf",
        "tokenrank image photos --layer 9 --heads uniform --table parquet",
    ),
    text: (
        'tokenrank text "The cat sat on the mat because it was tired" --start cat',
        'tokenrank text "The cat sat on the mat because it was tired" --n halflife --tokens all',
    ),
    explore: (
        "tokenrank explore cat.jpg --out cat.html",
        "tokenrank explore cat.jpg dog.jpg --layers 8+11 --small",
        'tokenrank explore "The cat sat on the mat because it was tired"',
    ),
    audio: (
        "tokenrank audio speech.wav --model openai/whisper-tiny.en --start 1.3",
        "tokenrank audio speech.wav --model openai/whisper-tiny.en --part 0,10 --formats pdf",
    ),
    saliency: (
        "tokenrank saliency cat.jpg",
        "tokenrank saliency photos --formats mask --quiet",
        "tokenrank saliency cat.jpg --how border --component",
    ),
    segment: (
        "tokenrank segment cat.jpg --start 320,180 --component",
        "tokenrank segment cat.jpg --start 0.3,0.4 --start 0.7,0.5 --n halflife",
        "tokenrank segment cat.jpg --box 0.1,0.1,0.6,0.9 --formats mask",
    ),
    cluster: ("tokenrank cluster cat.jpg --k 6", "tokenrank cluster photos --how metastable --formats overlay"),
    generate: (
        'tokenrank generate "a cat on a sofa" --model diffusers:Qwen/Qwen-Image --guidance tokenrank --seeds 0-7',
        'tokenrank generate "a cat on a sofa" --model diffusers:Qwen/Qwen-Image --guidance word:cat --compare',
    ),
    evaluate: (
        "tokenrank evaluate saliency --data ecssd --methods saliency,rollout --limit 50 --out run",
        "tokenrank evaluate saliency --data ecssd --methods tokenrank:layer=9:heads=uniform,column_sum --out other",
    ),
    bench: ("tokenrank bench --quick", "tokenrank bench --only chain,capture --device cpu --out mine.json"),
    reproduce: ("tokenrank reproduce", "tokenrank reproduce bounces --data ecssd --limit 20 --out runs"),
}
"""Command → lines that run."""

for command, lines in EXAMPLES.items():
    app.command(cls=Command, epilog=examples(*lines))(command)


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
    """Run the command and leave the interpreter: 0 when all went well, 1 on bad input, 2 on misuse, 3 where some of
    several inputs failed, 130 at Ctrl-C; ``evaluate`` and ``reproduce`` know more (see their help).

    Where ``sys.stdout`` or ``sys.stderr`` is another stream than the terminal's, such as ``io.StringIO``, that one is
    written to.
    """
    for stream in (sys.stdout, sys.stderr):
        write_plainly(stream)
    given = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    try:
        code = app(args=given or ["--help"], standalone_mode=False, prog_name="tokenrank", terminal_width=columns())
        if code == INTERRUPTED and not isinstance(code, Interrupted):  # before or after the command itself
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        error_line("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = UNREAD
    except Exception as error:
        # usage errors come with a method that words them, whichever click typer brings along
        if not hasattr(error, "format_message"):
            raise
        error_line(_misuse(error, given))
        code = MISUSED
    if code == INTERRUPTED and arguments is None:
        end_now(code)
    sys.exit(code if isinstance(code, int) else 0)


def _misuse(error: Any, given: Sequence[str]) -> str:
    """A usage error of click in our words."""
    context = getattr(error, "ctx", None)
    known = [name for name in given[:1] if name in {command.__name__ for command in EXAMPLES}]
    see = f"(see {context.command_path if context else ' '.join(['tokenrank', *known])} --help)"
    kind, command = type(error).__name__, getattr(context, "command", None)
    if kind == "NoSuchOption":
        known = [name for parameter in getattr(command, "params", []) for name in parameter.opts if name[:1] == "-"]
        return f"no option {error.option_name!r}; {nearest(error.option_name, known)} {see}"
    if kind == "MissingParameter" and error.param is not None:
        parameter = error.param
        name = parameter.metavar or parameter.name.upper()
        name = f"{parameter.opts[0]} {name}" if parameter.param_type_name == "option" else name
        return f"{name} is missing: {first_sentence(parameter.help or '')} {see}"
    words = one_line(error.format_message()).rstrip(".")
    names = getattr(command, "commands", None)
    if names and kind == "UsageError" and "command" in words:
        name = words.split("'")[1] if words.count("'") >= 2 else ""
        return f"no command {name!r}; {nearest(name, names)} {see}"
    return f"{words[:1].lower()}{words[1:]} {see}" if words else see


__all__ = ["FAILED", "INTERRUPTED", "MISUSED", "SOME_FAILED", "UNREAD", "app", "main"]

"""``tokenrank text``."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, printable
from .batch import Say, each
from .follow import Follow
from .options import (
    ALPHA,
    BOUNCES,
    OUT,
    AlphaOption,
    BouncesOption,
    FormatsOption,
    HeadsOption,
    LayerOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    ScaleOption,
    TableOption,
    TokensOption,
    completed,
)
from .places import word_of
from .report import reported
from .sources import Source, digest_of

if TYPE_CHECKING:
    from ..chain import Start
    from ..observation import Observation

LONGEST = 32
"""Characters of a text in the names of its results."""


def text(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, in quotes.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="bundled (English), a folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of one that "
            "reads text.",
            autocompletion=completed(("bundled",)),
        ),
    ] = "bundled",
    layer: LayerOption = None,
    heads: HeadsOption = None,
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Where the walk starts: a word of the text, or the index of a token (for a word that occurs twice), "
            "special tokens not counted where they are left out.",
            show_default="everywhere, evenly",
        ),
    ] = None,
    n: BouncesOption = BOUNCES,
    alpha: AlphaOption = ALPHA,
    scale: ScaleOption = "each",
    out: OutOption = OUT,
    formats: FormatsOption = "png",
    table: TableOption = "json",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow attention through a text.

    Figures bounces and lambda2, and a table, named after its first words. Without a model of your own nothing is
    downloaded.
    """
    with reported(quiet):
        follow = Follow(layer, heads, tokens, n, alpha, formats, table, scale)
        _refuse_files(text)
        source = Source("text", stem_of(text), digest_of(text.encode("utf-8", "surrogatepass")))
        folder = follow.folder(out, [source], overwrite)

        def work(source: Source, say: Say) -> None:
            say("loading the model")
            from ..reading import observe

            observation = observe(text, model, kind="text")
            follow(source, observation, _start(follow, observation, start), {"text": text}, folder, say)

        each([source], "text", folder, work)


def stem_of(text: str) -> str:
    """The first words of a text in letters that every disk takes; where there are none, a digest of the text."""
    plain = unicodedata.normalize("NFKD", text[:200]).encode("ascii", "ignore").decode().lower()
    stem = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        longer = f"{stem}-{word}" if stem else word[:LONGEST]
        if len(longer) > LONGEST:
            break
        stem = longer
    return stem or f"text-{digest_of(text.encode('utf-8', 'surrogatepass'))[:8]}"


def _start(follow: Follow, observation: Observation, start: str | None) -> Start | None:
    layout = observation.head_chains(follow.layer, follow.tokens).layout
    return None if start is None or layout is None else word_of(start, layout)


def _refuse_files(text: str) -> None:
    """A file's name is seldom the text that was meant."""
    try:
        is_file = Path(text).suffix != "" and Path(text).exists()
    except (OSError, ValueError):
        return
    if is_file:
        raise InputError(f'{printable(text)} is a file; give what is in it: tokenrank text "$(cat FILE)"')

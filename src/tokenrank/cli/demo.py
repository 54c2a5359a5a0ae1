"""``tokenrank demo``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ChainError, InputError, printable
from .batch import Say, each, model_of
from .follow import Follow
from .meaning import size_of
from .options import (
    ALPHA,
    BOUNCES,
    OUT,
    FormatsOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    SizeOption,
    TableOption,
)
from .output import OutFolder
from .report import is_quiet, note, print_path, reported, say
from .sources import Source, digest_of

if TYPE_CHECKING:
    from ..observation import Observation

EXPLORED = "astronaut"
"""The photograph that becomes a page, too."""
SENTENCE = "The old bridge was closed because the engineers found deep cracks in it."


def demo(
    out: OutOption = OUT,
    model: ModelOption = "bundled",
    size: SizeOption = None,
    formats: FormatsOption = "png",
    table: TableOption = "json",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    copy: Annotated[
        bool, typer.Option("--copy/--no-copy", help="Put the photographs into the folder, to try more on them.")
    ] = True,
) -> None:
    """Follow attention through four photographs that come along: no download, less than a minute.

    One of them becomes a page to click in, too. Ends with three commands to try next.
    """
    with reported(quiet):
        follow = Follow(None, None, None, BOUNCES, ALPHA, formats, table)
        side = size_of(size)
        from .. import samples

        photographs = {name: samples.path(name).read_bytes() for name in samples.names()}
        sources = [Source(str(samples.path(name)), name, digest_of(data)) for name, data in photographs.items()]
        folder = follow.folder(out, sources, overwrite)
        if copy:
            _copy(photographs, folder)

        loaded = model_of(model, "image")
        pages: list[Path] = []

        def work(source: Source, say: Say) -> None:
            say("loading the model")
            from ..reading import observe

            observation = observe(source.path, loaded(), size=side)
            facts = {"picture": source.name, "size": side}
            follow(source, observation, samples.start(source.stem), facts, folder, say)
            if source.stem == EXPLORED:
                say("making the explorer")
                pages.extend(_explore(source, observation, folder))

        each(sources, "picture", folder, work)
        if copy:
            _what_next(folder.path)
        for page in () if is_quiet() else pages:
            say(f"\nOpen {_quoted(page)} in a browser: attention walks where you click.")


def _explore(source: Source, observation: Observation, folder: OutFolder) -> list[Path]:
    """Write a page of the last layer; a model that no page can show is told."""
    from .explore import content_of

    try:
        explorer = observation.explore(layers=-1, title=source.name)
    except (InputError, ChainError) as error:
        note(f"{source.name}: no explorer: {error}")
        return []
    assert source.digest is not None
    page = folder.write(f"{EXPLORED}-explorer.html", content_of(explorer, ".html", source.digest), source.digest)
    print_path(page)
    return [page]


def _copy(photographs: dict[str, bytes], folder: OutFolder) -> None:
    """Write the photographs that are not there yet.

    Raises:
        InputError: another file has the name of one; nothing is written then.
    """
    missing = {}
    for name, data in photographs.items():
        path = folder.path / f"{name}.jpg"
        if not path.exists() and not path.is_symlink():
            missing[path.name] = data
        elif not path.is_file() or path.is_symlink() or path.read_bytes() != data:
            raise InputError(
                f"{printable(path)} is another file than the photograph of that name; move it, choose another folder "
                "with --out, or leave the photographs out with --no-copy"
            )
    for name, data in missing.items():
        print_path(folder.write(name, data))


def _what_next(out: Path) -> None:
    from .. import samples

    chosen = "" if out == OUT else f" --out {_quoted(out)}"
    point = samples.start("coffee")
    if is_quiet():
        return
    say("\nTry next:")
    for words in (
        f"saliency {_quoted(out / 'chelsea.jpg')}",
        f"segment {_quoted(out / 'coffee.jpg')} --start {point.x:g},{point.y:g}",
        f'text "{SENTENCE}" --start bridge',
    ):
        say(f"  tokenrank {words}{chosen}")


def _quoted(path: Path) -> str:
    """As a shell reads it; what a terminal would obey stands as escapes, which bash, zsh and ksh read in $'…'."""
    if str(path).isprintable():
        return shlex.quote(str(path))
    letters = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f"$'{''.join(letters)}'"

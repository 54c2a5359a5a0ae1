"""``tokenrank bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, printable
from .bars import progress
from .meaning import formats_of
from .options import OUT, OverwriteOption, QuietOption, completed
from .output import OutFolder, maker
from .report import SOME_FAILED, MisuseError, error_line, interrupted, is_quiet, print_path, reported, say
from .sources import digest_of

if TYPE_CHECKING:
    from ..benchmark import Report

SECTIONS = ("machine", "chain", "capture", "page", "evaluation")
"""Known here, so that help and completion need not load them."""
DIGEST = digest_of(b"tokenrank bench")


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes in less than a minute.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help=f"Some of {', '.join(SECTIONS)}, with commas between.",
            show_default="all",
            autocompletion=completed(SECTIONS, several=True),
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to measure; auto: on a GPU where there is one.")
    ] = "auto",
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The result as JSON: all rows, hardware, versions. Ends in .json.")
    ] = OUT / "bench.json",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure this machine in less than five minutes: chains, capture, explorer page, evaluation.

    TokenRank and |λ2| beside the paper's dense loop, forwards with and without capture, and so on: ratios inside one
    run, with the networks and pictures that come along, without a download. Ctrl-C keeps what was measured.

    Exit code 3: a part failed, and the rest is measured.
    """
    with reported(quiet):
        path = out.expanduser()
        if path.suffix.lower() != ".json":
            raise MisuseError(f"out = {printable(path)}, expected the name of a file that ends in .json")
        if path.is_dir():
            raise InputError(f"{printable(path)} is a folder; give the name of a file with --out")
        folder = OutFolder(path.parent, {path.name: DIGEST}, overwrite)
        names = SECTIONS if only is None else formats_of(only, SECTIONS, "part")
        with progress(1 + len(names)) as stages:
            stages("libraries", "loading")
            from ..benchmark import measure
            from ..benchmark.measure import sections

            parts = {name: part for name, part in sections().items() if name in names}
            found = measure(quick, device, begun=lambda section: stages(section, "measuring"), parts=parts)
            if found.about["complete"]:
                stages.finish()
            else:
                stages.drop()
        _told(found)
        if found.rows:
            command = ["tokenrank bench", *["--quick"] * quick, *([] if only is None else ["--only", only])]
            text = found.json(made=maker(DIGEST), command=" ".join(command))
            print_path(folder.write(path.name, text.encode()))
            folder.told()
        if not found.about["complete"]:
            interrupted(f"{len(found.rows)} rows were measured" + (f" and are in {path}" if found.rows else ""))
        if found.failed:
            first = found.failed[0]
            error_line(
                f"{len(found.failed)} of {len(found.rows)} rows failed; the first, {first.section}: {first.failed}"
            )
            raise typer.Exit(SOME_FAILED)


def _told(found: Report) -> None:
    if is_quiet() or not found.rows:
        return
    from ..markov.words import counted

    hardware, versions = found.about["hardware"], found.about["versions"]
    on = hardware["processor"] if found.about["device"] == "cpu" else hardware.get("accelerator", found.about["device"])
    numbers = (counted(str(hardware[f"{one}s"]), one) for one in ("core", "thread"))
    say(f"\n{', '.join((on, *numbers))}, torch {versions['torch']}\n")
    say(found.table())
    load = found.about.get("load")
    if load is not None and load > 0.5 * hardware["cores"]:
        say(f"\nOther work ran meanwhile ({load:g} processes before this began): trust the ratios, not the seconds.")

"""``tokenrank reproduce``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .evaluate import SOME_FAILED, counted
from .report import error_line, one_line, reported

OFF = 4
"""Exit code where a figure is beyond its tolerance, or a difference speaks against the claim."""


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which experiment; without it they are listed.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the data set.", show_default="its folder in TOKENRANK_DATA"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder with the weights, as save_pretrained writes it; commas between several.",
            show_default="from the Hugging Face hub, downloaded once",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs and reports: new, empty, or of the same run, which then goes on.",
            show_default="tokenrank-reproduce/NAME",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="So many images, drawn by the seed; published figures are then not judged.", show_default="all"
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images between two writes to the disk.")] = 8,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the images for the intervals.")] = 1000,
) -> None:
    """Run a published experiment anew and compare: each figure, expected and measured. Without NAME: list them.

    Exit code 4: a figure is off by more than its tolerance, or a difference speaks against the claim. 3: some images
    failed. Marks: [V] read in public code or data, [S] a summary, [R] from memory, [I] inferred.
    """
    with reported():
        from ..evaluate.reproduce import EXPERIMENTS
        from ..evaluate.reproduce import reproduce as run_experiment

        if name is None:
            for experiment in EXPERIMENTS.values():
                typer.echo(f"{experiment.name}: {experiment.claim}")
                typer.echo(f"  source: {experiment.source}")
                typer.echo(f"  models: {', '.join(experiment.models)}; data: {experiment.dataset}")
                typer.echo(f"  {experiment.command}")
            return
        with counted() as report:
            outcome = run_experiment(
                name, data, model, out, limit, seed=seed, batch=batch, resamples=resamples, progress=report
            )
        typer.echo(one_line(outcome.experiment.claim), err=True)
        for judged in outcome.judged:
            typer.echo(one_line(judged.words), err=True)
        for path in outcome.files:
            typer.echo(os.fsencode(path))  # bytes, since a path need not be UTF-8
        off = [judged for judged in outcome.judged if judged.verdict == "differs"]
        if off:
            error_line(
                f"{len(off)} of {len(outcome.judged)} checks differ from what is published; the first: {off[0].words}"
            )
            raise typer.Exit(OFF)
        if outcome.failures:
            error_line(f"{outcome.failures} images failed; the report lists them")
            raise typer.Exit(SOME_FAILED)

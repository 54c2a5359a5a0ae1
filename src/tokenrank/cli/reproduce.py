"""``tokenrank reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .bars import counted
from .meaning import run_numbers
from .options import BATCH, RESAMPLES, SEED, BatchOption, OtherVersionsOption, QuietOption, ResamplesOption, SeedOption
from .output import check_folder
from .report import OFF, SOME_FAILED, error_line, misuse, note, print_path, reported


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
            metavar="FOLDERS",
            help="Folder with the weights, as save_pretrained writes it; commas between several.",
            show_default="from the Hugging Face hub, downloaded once",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for runs and reports: new, empty, or of the same run, which then goes on.",
            show_default="tokenrank-reproduce/NAME",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="So many images, drawn by the seed; published figures are then not judged.",
            show_default="all",
        ),
    ] = None,
    batch: BatchOption = BATCH,
    seed: SeedOption = SEED,
    resamples: ResamplesOption = RESAMPLES,
    other_versions: OtherVersionsOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a published experiment anew and compare: each figure, expected and measured. Without NAME: list them.

    Exit code 4: a figure is off by more than its tolerance, or a difference speaks against the claim. 3: some images
    failed. Marks: [V] read in public code or data, [S] a summary, [R] from memory, [I] inferred.
    """
    with reported(quiet):
        numbers = run_numbers(limit, batch, seed, resamples)
        if out is not None:
            check_folder(out.expanduser())
        if name is None:
            _list()
            return
        with counted():
            from ..evaluate.reproduce import experiment_of
            from ..evaluate.reproduce import reproduce as run_experiment

            with misuse():
                experiment_of(name)
            outcome = run_experiment(
                name, data, model, out, numbers.limit,
                seed=numbers.seed, batch=numbers.batch, resamples=numbers.resamples,
                other_versions=other_versions,
            )  # fmt: skip
        note(outcome.experiment.claim)
        for judged in outcome.judged:
            note(judged.words)
        for path in outcome.files:
            print_path(path)
        off = [judged for judged in outcome.judged if judged.verdict == "differs"]
        if off:
            error_line(
                f"{len(off)} of {len(outcome.judged)} checks differ from what is published; the first: {off[0].words}"
            )
            raise typer.Exit(OFF)
        if outcome.failures:
            error_line(f"{outcome.failures} images failed; the report lists them")
            raise typer.Exit(SOME_FAILED)


def _list() -> None:
    from ..evaluate.reproduce import EXPERIMENTS

    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}: {experiment.claim}")
        print(f"  source: {experiment.source}")
        print(f"  models: {', '.join(experiment.models)}; data: {experiment.dataset}")
        print(f"  {experiment.command}")

"""``tokenrank evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import nearest
from ..grammar import HEADS_HELP, LAYER_HELP
from .bars import counted
from .engines import chosen_engine
from .meaning import choice_of, run_numbers, size_of, whole_of
from .options import (
    BATCH,
    RESAMPLES,
    SEED,
    AddressOption,
    BatchOption,
    CpusOption,
    EngineOption,
    GpusOption,
    ModelOption,
    OtherVersionsOption,
    QuietOption,
    ResamplesOption,
    RuntimeEnvOption,
    SeedOption,
    SizeOption,
    WorkersOption,
    completed,
)
from .output import check_folder
from .protocol_options import protocol_options
from .report import SOME_FAILED, MisuseError, error_line, misuse, note, print_path, reported

PROTOCOLS = (
    "saliency", "seed", "several", "imagenet-segmentation", "voc-single", "regions", "clustering", "masking",
    "concept-segmentation", "voc-concepts", "diffseg",
)  # fmt: skip
"""Known here, so that help and completion need not load them."""


def evaluate(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help=f"What is measured: {', '.join(PROTOCOLS)}. Needs pip install 'tokenrank[evaluate]'.",
            show_default=False,
            autocompletion=completed(PROTOCOLS),
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the data set.", show_default=False)],
    methods: Annotated[
        str,
        typer.Option(
            metavar="METHODS",
            help="Separated by commas, each with its options: tokenrank:layer=3:heads=uniform,rollout,bounce:n=2; or "
            f"module:function for one of your own. layer: {LAYER_HELP}. heads: {HEADS_HELP}.",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Format of the data set.", show_default="the protocol's own")
    ] = None,
    model: ModelOption = "bundled",
    size: SizeOption = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the protocol; may be given several times."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="So many images, drawn by the seed.", show_default="all of them"),
    ] = None,
    half: Annotated[
        str | None,
        typer.Option(metavar="0|1", help="Images at even places, or at odd ones. Choose on one, report on the other."),
    ] = None,
    batch: BatchOption = BATCH,
    seed: SeedOption = SEED,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the run: new, empty, or of the same run, which then goes on.")
    ] = Path("tokenrank-run"),
    reference: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="The others are compared with it.", show_default="the best method"),
    ] = None,
    resamples: ResamplesOption = RESAMPLES,
    retry: Annotated[bool, typer.Option("--retry", help="Run images again that failed before.")] = False,
    other_versions: OtherVersionsOption = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    runtime_env: RuntimeEnvOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compare methods on a data set, with intervals and paired tests. An interrupted run goes on where it stopped.

    Exit code 3: the report is there, but some images failed.
    """
    with reported(quiet):
        numbers = run_numbers(limit, batch, seed, resamples)
        side, parity = size_of(size), None if half is None else whole_of(half, "half", 0, 1)
        choice_of(protocol, "protocol", PROTOCOLS)
        by = chosen_engine(engine, address, workers, cpus, gpus, runtime_env)
        check_folder(out.expanduser())
        with counted():
            from ..evaluate.datasets.opening import DATASETS, open_dataset
            from ..evaluate.protocols import PROTOCOLS as KNOWN
            from ..evaluate.protocols import find
            from ..evaluate.report.write import check_links
            from ..evaluate.runner.folder import check

            check(out.expanduser())
            check_links(out.expanduser())
            with misuse():
                chosen = find(protocol, **protocol_options(KNOWN[protocol], option or [], side))
                compared = chosen.methods(methods)
            names = [method.name for method in compared]
            if reference is not None and reference not in names:
                raise MisuseError(f"no method {reference!r} to compare with; {nearest(reference, names)}")
            form = chosen.dataset if dataset is None else choice_of(dataset, "dataset", list(DATASETS))
            opened = open_dataset(form, data, **(chosen.dataset_options if form == chosen.dataset else {}))

            from ..evaluate.report import collect, find_examples, write_results
            from ..evaluate.report.words import bounds
            from ..evaluate.runner import run
            from ..models import load

            classifies = "target" in chosen.needs or any(method.asks == "class" for method in compared)
            loaded = load(model, kind="image", head=classifies)
            done = run(
                chosen, opened, loaded, compared, out,
                seed=numbers.seed, limit=numbers.limit, half=parity, batch=numbers.batch, retry=retry,
                other_versions=other_versions, engine=by(),
            )  # fmt: skip
        results = collect(done, chosen, reference, resamples=numbers.resamples)
        for line in results.lines:
            note(f"{line.method}: {results.headline} {bounds(line.headline)}")
        examples = find_examples(results, chosen, opened, loaded, compared)
        for path in write_results(results, done.folder, examples):
            print_path(path)
        if results.failures:
            key, error = next(iter(results.failures.items()))
            error_line(
                f"{len(results.failures)} of {results.images} images failed, {key} with {error}; the report lists "
                "them, --retry runs them again"
            )
            raise typer.Exit(SOME_FAILED)

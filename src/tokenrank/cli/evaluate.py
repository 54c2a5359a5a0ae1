"""``tokenrank evaluate``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import InputError, NotFoundError, nearest
from ..grammar import HEADS_HELP, LAYER_HELP
from .options import ModelOption, SizeOption
from .report import error_line, one_line, reported

if TYPE_CHECKING:
    from ..evaluate.protocols import Protocol

SOME_FAILED = 3
"""Exit code where the report is written but some images failed."""


@contextmanager
def counted() -> Iterator[Callable[[int, int, int], None]]:
    """Show on stderr how many images are done; a line at the end.

    Yields:
        A function of the images done, all images, and those that failed.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn())
    last: tuple[int, int, int] | None = None
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("images", total=None)

        def report(done: int, total: int, failed: int) -> None:
            nonlocal last
            if last is None and done:
                console.print(f"{done} of {total} images were done before", markup=False)
            last = done, total, failed
            bar.update(
                task, total=total, completed=done, description=f"images, {failed} failed" if failed else "images"
            )

        yield report
        if last is not None:
            done, total, failed = last
            console.print(f"{done} of {total} images done, {failed} failed", markup=False)


def evaluate(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help="What is measured: saliency, seed, several, imagenet-segmentation, voc-single, regions, clustering, "
            "masking.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the data set.", show_default=False)],
    methods: Annotated[
        str,
        typer.Option(
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
        int | None, typer.Option(help="So many images, drawn by the seed.", show_default="all of them")
    ] = None,
    half: Annotated[
        int | None,
        typer.Option(help="0: images at even places, 1: at odd ones. Choose on one, report on the other."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images between two writes to the disk.")] = 8,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the run: new, empty, or of the same run, which then goes on.")
    ] = Path("tokenrank-run"),
    reference: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="The others are compared with it.", show_default="the best method"),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the images for the intervals.")] = 1000,
    retry: Annotated[bool, typer.Option("--retry", help="Run images again that failed before.")] = False,
) -> None:
    """Compare methods on a data set, with intervals and paired tests. An interrupted run goes on where it stopped.

    Exit code 3: the report is there, but some images failed.
    """
    with reported():
        from ..evaluate.datasets.opening import open_dataset
        from ..evaluate.protocols import PROTOCOLS, find

        if protocol not in PROTOCOLS:
            raise NotFoundError(f"no protocol {protocol!r}; {nearest(protocol, PROTOCOLS)}")
        options = protocol_options(PROTOCOLS[protocol], option or [], size)
        chosen = find(protocol, **options)
        compared = chosen.methods(methods)
        names = [method.name for method in compared]
        if reference is not None and reference not in names:
            raise NotFoundError(f"no method {reference!r} to compare with; {nearest(reference, names)}")
        if resamples < 1:
            raise InputError(f"resamples = {resamples}, expected 1 or more, such as 1000")
        form = chosen.dataset if dataset is None else dataset
        opened = open_dataset(form, data, **(chosen.dataset_options if form == chosen.dataset else {}))

        from ..evaluate.report.collect import collect
        from ..evaluate.report.document import bounds
        from ..evaluate.report.write import write_results
        from ..evaluate.runner import run
        from ..models import load

        classifies = "target" in chosen.needs or any(method.asks == "class" for method in compared)
        loaded = load(model, kind="image", head=classifies)
        with counted() as report:
            done = run(
                chosen, opened, loaded, compared, out,
                seed=seed, limit=limit, half=half, batch=batch, retry=retry, progress=report,
            )  # fmt: skip
        results = collect(done, chosen, reference, resamples=resamples)
        for line in results.lines:
            typer.echo(one_line(f"{line.method}: {results.headline} {bounds(line.headline)}"), err=True)
        for path in write_results(results, done.folder):
            typer.echo(os.fsencode(path))  # bytes, since a path need not be UTF-8
        if results.failures:
            key, error = next(iter(results.failures.items()))
            error_line(
                f"{len(results.failures)} of {results.images} images failed, {key} with {error}; the report lists "
                "them, --retry runs them again"
            )
            raise typer.Exit(SOME_FAILED)


def protocol_options(protocol: type[Protocol], given: Sequence[str], size: int | None) -> dict[str, Any]:
    """``--option NAME=VALUE`` and ``--size`` as fields of a protocol.

    A value is none, true, false, a number, or text; several of them, with commas between, are a tuple, as is a single
    one where the field holds a tuple.

    Raises:
        InputError: not NAME=VALUE, a name twice, no such option, a value of another type, or a size for a protocol
            that has none.
    """
    # protocols are data classes, which their common base need not be
    known = {field.name: field.default for field in dataclasses.fields(protocol)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    if size is not None:
        fitting = [name for name in ("size", "side") if name in known]
        if not fitting:
            raise InputError(f"size = {size}, but protocol {protocol.name!r} has no size to choose; leave --size out")
        found[fitting[0]] = size
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"option {text!r} is not NAME=VALUE, such as native=true")
        if name in found:
            raise InputError(f"option {name!r} is given twice; give it once")
        if name not in known:
            raise InputError(f"protocol {protocol.name!r} has no option {name!r}; {nearest(name, known)}")
        found[name] = _value(value, known[name], name)
    return found


def _value(text: str, default: Any, name: str) -> Any:
    parts = [_single(part.strip()) for part in text.split(",")] if text else []
    if isinstance(default, tuple):
        return tuple(parts)
    value = parts[0] if len(parts) == 1 else tuple(parts)
    wanted = (int, float) if type(default) is float else type(default)
    if default is not None and default is not dataclasses.MISSING and type(value) not in _types(wanted):
        raise InputError(f"option {name} = {text!r}, expected something like {default!r}")
    return value


def _types(wanted: Any) -> tuple[type, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _single(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text

"""A report's blocks from its results: what was measured, how sure it is, examples, times, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..statistics import Interval
from .blocks import Block, Caution, Dots, Facts, Gallery, Heading, Paragraph, Table
from .collect import Line, Results
from .examples import NONE_GIVEN, Examples
from .names import DATASETS, PROTOCOLS, about_method, figure_name, method_names
from .words import NONE, bounds, duration, number, probability, without_paths

MOST = 50
"""Lines of a list of images; the others are counted, and stand in results.json."""
FEW = 20
"""Below so many images a report warns."""


def document(results: Results, examples: Examples = NONE_GIVEN) -> tuple[Block, ...]:
    """All blocks of a report."""
    settings = results.settings
    names = method_names([line.method for line in results.lines])
    protocol, dataset = settings["protocol"]["name"], settings["dataset"]["name"]
    title = f"{PROTOCOLS.get(protocol, protocol)} on {DATASETS.get(dataset, dataset)}: {settings['model']['name']}"
    blocks: list[Block] = [Heading(title, 1)]
    if results.about:
        blocks.append(Paragraph(results.about))
    if settings["model"].get("commit"):
        blocks.append(
            Paragraph(
                f"Model {settings['model']['name']}, commit {settings['model']['commit']} of the Hugging Face hub."
            )
        )
    blocks.append(Paragraph(_counts(results)))
    blocks += [Caution(text) for text in _warnings(results)]
    blocks += _results(results, names)
    if len(results.lines) > 1:
        blocks += _differences(results, names)
    blocks += _examples(results, examples, names)
    blocks += _figures(results, names)
    blocks += _times(results, names)
    blocks += _lists(results)
    blocks += _methods(results, names)
    blocks += _settings(settings)
    blocks += _machines(results)
    return tuple(blocks)


def _counts(results: Results) -> str:
    failed, left = len(results.failures), _open(results)
    text = f"{results.done:,} of {results.images:,} images done"
    text += f", {failed:,} failed" if failed else ", none failed"
    text += f", {left:,} not run yet: the run is not finished." if left > 0 else "."
    if results.problems:
        text += f" The data set left {len(results.problems):,} images out."
    if results.set_aside:
        text += f" {len(results.set_aside):,} parts could not be read, were set aside, and their images run anew."
    return text


def _open(results: Results) -> int:
    return results.images - results.done - len(results.failures)


def _warnings(results: Results) -> Iterable[str]:
    if results.done < FEW:
        images = "one image" if results.done == 1 else f"{results.done:,} images"
        yield (
            f"These are figures of {images}. Of fewer than {FEW} the intervals are too narrow and the tests see "
            "little: take them as a sign that things run, not for a result."
        )
    if _open(results) > 0:
        yield f"The run is not finished: {_open(results):,} of {results.images:,} images are still to come."
    if len(results.failures) > 0.1 * results.images:
        yield (
            f"{len(results.failures):,} of {results.images:,} images failed and are missing from all figures: what is "
            "said holds for the others only."
        )


def _results(results: Results, names: Mapping[str, str]) -> list[Block]:
    share, headline = f"{results.level:.0%}", figure_name(results.headline)
    better = "higher" if results.higher_is_better else "lower"
    lines = results.lines
    columns = ["Method", f"{headline} ({better} is better)", f"{headline} [{share} interval]"]
    cells = [[bounds(line.headline)] for line in lines]
    if any(line.images != results.done for line in lines):
        columns.append("Images")
        for line, row in zip(lines, cells, strict=True):
            row.append(number(line.images))
    if results.times is not None:
        columns.append("Time an image")
        for line, row in zip(lines, cells, strict=True):
            row.append(duration(results.times.methods[line.method]))
    reference = names[results.reference]
    return [
        Heading("Results"),
        Dots(
            f"{headline} of every method",
            tuple(columns),
            tuple(names[line.method] for line in lines),
            tuple(line.headline for line in lines),
            tuple(map(tuple, cells)),
            next(place for place, line in enumerate(lines) if line.method == results.reference),
            False,
            "means",
            f"{headline} of every method with its {share} interval; hollow: {reference}.",
        ),
        Paragraph(
            f"{headline}: {better} is better. In brackets and drawn: {share} percentile bootstrap intervals over "
            f"images, {results.resamples:,} resamples, seed {results.seed}. Hollow: {reference}, which the others are "
            "compared with.",
            quiet=True,
        ),
    ]


def _differences(results: Results, names: Mapping[str, str]) -> list[Block]:
    share, headline, reference = f"{results.level:.0%}", figure_name(results.headline), names[results.reference]
    chosen = "" if results.given else ", the best of them; having been chosen by these numbers, it is favoured"
    others = [line for line in results.lines if line.method != results.reference]
    # where the figure of the data set is the mean over images, both differences are one
    two = any(line.paired is not None and not _same(line.paired.difference, line.difference) for line in others)
    columns = ["Method", f"Δ to {reference}", f"Δ {headline} [{share} interval]"]
    columns += [*(["Mean Δ per image [interval]"] * two), "p", "p (Holm)", "Effect", "Images", "Equal"]
    return [
        Heading("Differences"),
        Paragraph(f"Every method minus {reference}{chosen}."),
        Dots(
            f"Difference of {headline} to {reference}",
            tuple(columns),
            tuple(names[line.method] for line in others),
            tuple(line.difference for line in others),
            tuple((bounds(line.difference, sign=True), *_tested(line, two)) for line in others),
            None,
            True,
            "differences",
            f"Difference of {headline} to {reference} with its {share} interval.",
        ),
        Paragraph(
            f"Δ {headline}: of the data set, both methods resampled together. The columns after it compare "
            f"{_per_image(results)}. p: two-sided Wilcoxon signed-rank test, images without a difference (equal) "
            "dropped; Holm: corrected for the number of methods in this table. Effect: matched-pairs rank-biserial "
            "correlation, from −1 to 1, positive where the method's value is larger.",
            quiet=True,
        ),
    ]


def _per_image(results: Results) -> str:
    return results.per_image.replace(results.headline, figure_name(results.headline), 1)


def _same(one: Interval, other: Interval | None) -> bool:
    return other is not None and bounds(one) == bounds(other)


def _tested(line: Line, two: bool) -> tuple[str, ...]:
    paired = line.paired
    if paired is None:
        return (NONE,) * (5 + two)
    return (
        *([bounds(paired.difference, sign=True)] * two),
        probability(paired.p),
        probability(line.p_holm),
        f"{paired.effect:+.3f}",
        number(paired.n),
        number(paired.equal),
    )


def _examples(results: Results, examples: Examples, names: Mapping[str, str]) -> list[Block]:
    blocks: list[Block] = [Heading("Examples")]
    if examples.found:
        marks = any(example.shown.truth is not None for shown in examples.found.values() for example in shown)
        blocks.append(
            Paragraph(
                f"Of each method the image where its {figure_name(results.headline)} is best, the one in the middle of "
                "the ranking, and the worst: the picture"
                + (", the ground truth and what was found. The ground truth is a person's or the data set's." if marks
                   else " and what was found.")
            )
        )  # fmt: skip
    if examples.missing:
        blocks.append(Paragraph(examples.missing))
    blocks += [Gallery(names[method], found) for method, found in examples.found.items()]
    return blocks


def _figures(results: Results, names: Mapping[str, str]) -> list[Block]:
    """One figure a row, since there are many of them, and methods have short names."""
    single = [name for name, value in results.lines[0].figures.items() if not isinstance(value, list)]
    if not single:
        return []
    rows = [(figure_name(results.headline), *(number(line.headline.estimate) for line in results.lines))]
    rows += [(figure_name(name), *(number(line.figures[name]) for line in results.lines)) for name in single]
    columns = ("Figure", *(names[line.method] for line in results.lines))
    return [Heading("All figures"), Table("All figures of the protocol", columns, tuple(rows))]


def _times(results: Results, names: Mapping[str, str]) -> list[Block]:
    heading, times = Heading("Run time"), results.times
    if times is None:
        return [heading, Paragraph("Not measured: the rows are of a version of tokenrank that did not.")]
    parts = {"Forward of the model": times.forward}
    parts |= {names[line.method]: times.methods[line.method] for line in results.lines}
    rest = times.image - sum(seconds for seconds in parts.values() if math.isfinite(seconds))
    parts |= {"Reading, resizing, scoring": rest, "All of it": times.image}
    rows = tuple(
        (what, duration(seconds), duration(seconds * times.images), _share(seconds, times.image))
        for what, seconds in parts.items()
    )
    return [
        heading,
        Table("Run time", ("What", "An image", f"{times.images:,} images", "Share"), rows),
        Paragraph(
            "Wall clock, means over images, methods in the order in which they ran. What methods share, such as |λ2| "
            "of the heads, is counted to the first that asks for it. Loading the model is not counted.",
            quiet=True,
        ),
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if math.isfinite(part) and whole > 0 else NONE


def _lists(results: Results) -> list[Block]:
    blocks: list[Block] = []
    for heading, found in (("Failed images", results.failures), ("Images left out", results.problems)):
        if not found:
            continue
        rows = tuple((key, without_paths(text)) for key, text in list(found.items())[:MOST])
        blocks += [Heading(heading), Table(heading, ("Image", "Why"), rows, numbers=False)]
        if len(found) > MOST:
            blocks.append(Paragraph(f"{len(found) - MOST:,} more stand in results.json."))
    return blocks


def _methods(results: Results, names: Mapping[str, str]) -> list[Block]:
    rows = tuple((names[line.method], line.method, about_method(line.method) or NONE) for line in results.lines)
    return [Heading("Methods"), Table("Methods", ("Method", "As typed", "What it is"), rows, numbers=False)]


def _settings(settings: Mapping[str, Any]) -> list[Block]:
    shown = {name: value for name, value in settings.items() if name != "methods"}
    rows = tuple(_flat(shown))
    return [Heading("Settings"), Facts("Settings", ("Setting", "Value"), rows)]


def _machines(results: Results) -> list[Block]:
    blocks: list[Block] = [Heading("Versions and hardware")]
    if len(results.starts) > 1:
        blocks.append(Paragraph(f"The run was made in parts on {len(results.starts)} different installations."))
    for start in results.starts:
        rows = ((name, str(value)) for part in ("hardware", "versions") for name, value in start[part].items())
        blocks.append(Facts("Versions and hardware", ("What", "Which"), tuple(rows)))
    return blocks


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}, ")
        elif isinstance(value, list):
            yield f"{before}{name}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{before}{name}", "none" if value is None else without_paths(_word(value))


def _word(value: Any) -> str:
    return number(value) if isinstance(value, bool) else str(value)

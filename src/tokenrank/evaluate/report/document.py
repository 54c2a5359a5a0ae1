"""Document of a report: headings, paragraphs, tables and figures, before it is Markdown or HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..statistics import Interval
from .collect import Results

NONE = "–"

_QUOTED = re.compile(r"'(?:[A-Za-z]:)?[/\\](?:[^'\n]*[/\\])?([^'/\\\n]+)[/\\]?'")
_BARE = re.compile(r"(?<![\w./\\:])(?:[A-Za-z]:)?[/\\](?:[^\s'\"/\\:;,]+[/\\])+(?=[^\s/\\])")


def number(value: Any) -> str:
    """Four decimals; whole numbers as such, very small and very large ones with an exponent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"
    return str(value)


def bounds(found: Interval | None, sign: bool = False) -> str:
    """0.7120 [0.7003, 0.7240]"""
    if found is None:
        return NONE
    plus = "+" if sign and found.estimate > 0 else ""
    if math.isnan(found.low):
        return f"{plus}{number(found.estimate)}"
    return f"{plus}{number(found.estimate)} [{number(found.low)}, {number(found.high)}]"


def probability(p: float | None) -> str:
    """Two digits."""
    return NONE if p is None or math.isnan(p) else f"{p:.2g}"


def without_paths(text: str) -> str:
    """A message with the names of files, but not of the folders that they lie in on this machine."""
    return _BARE.sub("", _QUOTED.sub(r"'\1'", text))


MOST = 50
"""Lines of a list of images; the others are counted, and stand in results.json."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the rows, all others but ``texts`` are set as numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True


@dataclass(frozen=True)
class Drawing:
    """A figure by its name, without an ending, and what it shows."""

    name: str
    caption: str


Block: TypeAlias = Heading | Paragraph | Table | Drawing


def document(results: Results) -> tuple[Block, ...]:
    """All blocks of a report."""
    settings = results.settings
    title = f"{settings['protocol']['name']} on {settings['dataset']['name']}: {settings['model']['name']}"
    blocks: list[Block] = [Heading(title, 1), Paragraph(_counts(results)), Heading("Results"), _methods(results)]
    share = f"{results.level:.0%}"
    better = "higher" if results.higher_is_better else "lower"
    blocks += [
        Paragraph(
            f"{results.headline}: {better} is better. In brackets: {share} percentile bootstrap intervals over images, "
            f"{results.resamples:,} resamples, seed {results.seed}."
        ),
        Drawing("means", f"{results.headline} of every method with its {share} interval."),
    ]
    if len(results.lines) > 1:
        blocks += _comparison(results, share)
    blocks += _lists(results)
    blocks += [Heading("Settings"), Table(("setting", "value"), tuple(_flat(settings)), numbers=False)]
    blocks += _machines(results)
    return tuple(blocks)


def _counts(results: Results) -> str:
    failed, open_images = len(results.failures), results.images - results.done - len(results.failures)
    text = f"{results.done:,} of {results.images:,} images done"
    text += f", {failed:,} failed" if failed else ", none failed"
    text += f", {open_images:,} not run yet: the run is not finished." if open_images > 0 else "."
    if results.problems:
        text += f" The data set left {len(results.problems):,} images out."
    if results.set_aside:
        text += f" {len(results.set_aside):,} parts could not be read, were set aside, and their images run anew."
    return text


def _methods(results: Results) -> Table:
    names = [name for name, value in results.lines[0].figures.items() if not isinstance(value, list)]
    rows = tuple(
        (line.method, number(line.images), bounds(line.headline), *(number(line.figures[name]) for name in names))
        for line in results.lines
    )
    return Table(("method", "n", results.headline, *names), rows)


def _comparison(results: Results, share: str) -> list[Block]:
    chosen = "" if results.given else ", the best of them; having been chosen by these numbers, it is favoured"
    rows = []
    for line in results.lines:
        if line.method == results.reference:
            continue
        paired = line.paired
        tested = (
            (NONE,) * 6
            if paired is None
            else (
                number(paired.n),
                number(paired.equal),
                bounds(paired.difference, sign=True),
                probability(paired.p),
                probability(line.p_holm),
                f"{paired.effect:+.3f}",
            )
        )
        rows.append((line.method, bounds(line.difference, sign=True), *tested))
    columns = ("method", f"Δ {results.headline}", "n", "equal", "mean Δ per image", "p", "p (Holm)", "effect")
    return [
        Heading("Differences"),
        Paragraph(f"Every method minus {results.reference}{chosen}."),
        Table(columns, tuple(rows)),
        Paragraph(
            f"Δ {results.headline}: of the data set, both methods resampled together. The other columns compare "
            f"{results.per_image}. p: two-sided Wilcoxon signed-rank test, images without a difference (equal) "
            "dropped; Holm: corrected for the number of methods in this table. Effect: matched-pairs rank-biserial "
            "correlation, from −1 to 1, positive where the method's value is larger."
        ),
        Drawing("differences", f"Difference of {results.headline} to {results.reference} with its {share} interval."),
    ]


def _lists(results: Results) -> list[Block]:
    blocks: list[Block] = []
    for heading, found in (("Failed images", results.failures), ("Images left out", results.problems)):
        if not found:
            continue
        rows = tuple((key, without_paths(text)) for key, text in list(found.items())[:MOST])
        blocks += [Heading(heading), Table(("image", "why"), rows, numbers=False)]
        if len(found) > MOST:
            blocks.append(Paragraph(f"{len(found) - MOST:,} more stand in results.json."))
    return blocks


def _machines(results: Results) -> list[Block]:
    blocks: list[Block] = [Heading("Versions and hardware")]
    if len(results.starts) > 1:
        blocks.append(Paragraph(f"The run was made in parts on {len(results.starts)} different installations."))
    for start in results.starts:
        rows = ((name, str(value)) for part in ("hardware", "versions") for name, value in start[part].items())
        blocks.append(Table(("what", "which"), tuple(rows), numbers=False))
    return blocks


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            yield f"{before}{name}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{before}{name}", "none" if value is None else without_paths(str(value))

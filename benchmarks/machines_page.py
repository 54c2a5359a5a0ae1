"""Tables and the figure of docs/machines.md, from benchmarks/results/machines: a file of tokenrank bench a machine.

    tokenrank bench --out mine.json && cp mine.json benchmarks/results/machines/NAME.json
    python -m benchmarks.machines_page

Writes docs/figures/machines.png, too, which carries the digest of the results that it was drawn from.
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import PIL.Image
import PIL.PngImagePlugin
from facts import parser
from filled import DOCS, RESULTS, SPACE, fill, once, table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenrank.benchmark import Report, Row, read_report
from tokenrank.benchmark.report import duration, rate_words
from tokenrank.view.style import FULL, QUIET, SMALL, paper_style

FOLDER = RESULTS / "machines"
FIGURE = DOCS / "figures" / "machines.png"
DIGEST = "results"
"""Name of the figure's note that holds the digest."""
OURS = "tokenrank"
PANELS = {
    ("chain",): "times as long as tokenrank (log scale)",
    ("capture", "evaluation", "page"): "times as long as the forward alone (log scale)",
}
"""Sections of a panel of the figure, and what its axis says."""
COLOURS = ("#6a2c94", "#1b7837", "#e08214", "#2166ac", "#b2182b", "#5f5f5f")


def files() -> list[Path]:
    """Results, a file a machine."""
    return sorted(FOLDER.glob("*.json"))


def reports() -> dict[str, Report]:
    """Name of a machine → its result, in the order of the files."""
    found = [read_report(path.read_text(encoding="utf-8")) for path in files()]
    return {named(report): report for report in found}


def named(report: Report) -> str:
    """A machine in words: its GPU, or its processor, cores and threads."""
    hardware = report.about["hardware"]
    if report.about["device"] != "cpu":
        return str(hardware.get("accelerator", report.about["device"]))
    threads = hardware["threads"]
    return f"{hardware['processor']}, {hardware['cores']} cores, {threads} thread{'' if threads == 1 else 's'}"


def machines() -> str:
    """What was measured where."""
    rows = []
    for name, report in reports().items():
        about = report.about
        load = about.get("load")
        rows.append([
            name, f"{about['hardware'].get('memory_gib', '–')}{SPACE}GiB", about["versions"]["torch"],
            "quick" if about["quick"] else "whole", f"{report.seconds:.0f}{SPACE}s", report.date,
            "–" if load is None else f"{load:g}",
        ])  # fmt: skip
    return table(["machine", "memory", "torch", "run", "took", "on", "other work"], rows, right=4)


def compared(section: str) -> str:
    """What is compared in a section: how often it takes as long as what it is compared with, a column a machine."""
    columns = [
        {(row.name, row.by): row for row in report.rows if row.section == section} for report in reports().values()
    ]
    keys = dict.fromkeys(key for column in columns for key, row in column.items() if row.ratio is not None)
    rows = once([[name, by, *(_ratio(column.get((name, by)), column) for column in columns)] for name, by in keys])
    return table(["", "", *reports()], [[cell.replace("|λ2|", r"\|λ2\|") for cell in row] for row in rows], right=2)


def _ratio(row: Row | None, column: dict[tuple[str, str], Row]) -> str:
    """How often, and the seconds of both: 5.6 × (430 ms / 77 ms)."""
    if row is None or row.ratio is None or row.seconds is None:
        return "–"
    other = column[row.name, row.against].seconds
    assert other is not None
    both = f"{duration(row.seconds)} / {duration(other)}".replace(" ", SPACE)
    return f"{row.ratio:.3g}{SPACE}× ({both}){'' if row.more.get('reached', True) else ', not reached'}"


def rates() -> str:
    """What the machines can do at best."""
    columns = [{row.name: row for row in report.rows if row.section == "machine"} for report in reports().values()]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(_rate(column.get(name)) for column in columns)] for name in names]
    return table(["", *reports()], rows, right=1)


def _rate(row: Row | None) -> str:
    if row is None:
        return "–"
    return rate_words(row.more["rate"], row.more["unit"]).replace(" ", SPACE)


TABLES = {
    "machines": machines,
    "chains": lambda: compared("chain"),
    "capture": lambda: compared("capture"),
    "page": lambda: compared("page"),
    "evaluation": lambda: compared("evaluation"),
    "rates": rates,
}


def digest() -> str:
    """Of all results."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files())).hexdigest()[:16]


def figure() -> Figure:
    """How often the paper's dense way takes as long as ours; and what capture, page and methods add to a forward."""
    found = reports()
    counts = [len(_keys(found, sections)) * max(1, len(found)) for sections in PANELS]
    drawn = Figure(figsize=(FULL, 1.3 + 0.17 * sum(counts)), layout="constrained")
    panels = drawn.subplots(len(PANELS), 1, gridspec_kw={"height_ratios": [max(1, count) for count in counts]})
    for axes, (sections, label) in zip(panels, PANELS.items(), strict=True):
        _bars(axes, found, sections, label)
    if len(found) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", fontsize=SMALL, frameon=False)
    else:
        drawn.suptitle(next(iter(found), ""), fontsize=SMALL, color=QUIET)
    return drawn


def _keys(found: dict[str, Report], sections: tuple[str, ...]) -> list[tuple[str, str, str]]:
    rows = [row for report in found.values() for row in report.rows if row.section in sections]
    return list(dict.fromkeys((row.section, row.name, row.by) for row in rows if row.ratio is not None))


def _bars(axes: Axes, found: dict[str, Report], sections: tuple[str, ...], label: str) -> None:
    keys, height = _keys(found, sections), 0.8 / max(1, len(found))
    for number, (name, report) in enumerate(found.items()):
        by = {(row.section, row.name, row.by): row.ratio for row in report.rows}
        there = [(place, by[key]) for place, key in enumerate(keys) if by.get(key) is not None]
        places = [place - 0.4 + height * (number + 0.5) for place, _ in there]
        ratios = [ratio for _, ratio in there if ratio is not None]
        widths = [ratio - 1 for ratio in ratios]
        axes.barh(places, widths, height, left=1, color=COLOURS[number % len(COLOURS)], label=name)
        for place, ratio in zip(places, ratios, strict=True):
            words = f"{ratio:.3g}"
            axes.annotate(
                words, (max(1.0, ratio), place), (3, 0), textcoords="offset points", va="center", fontsize=SMALL
            )
    axes.set_yticks(range(len(keys)), [_label(key) for key in keys], fontsize=SMALL)
    axes.invert_yaxis()
    ratios = [row.ratio for report in found.values() for row in report.rows if row.section in sections and row.ratio]
    low, high = min([1.0, *ratios]), max([1.0, *ratios])
    axes.set_xscale("log")
    axes.set_xlim(0.97 * low, 1.6 * high)
    steps = [step * 10**power for power in range(-2, 4) for step in (1, 2, 5)]
    axes.set_xticks(shown := [step for step in steps if low <= step <= 1.6 * high], [f"{step:g}" for step in shown])
    axes.minorticks_off()
    axes.axvline(1, color=QUIET, lw=0.8)
    axes.set_xlabel(label, fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def _label(key: tuple[str, str, str]) -> str:
    section, name, by = key
    if section == "chain":
        return f"{name}: {by}"
    return {"capture": f"capture, {name}", "page": f"page of {name}"}.get(section, by)


def draw(path: Path) -> None:
    """Write the figure with the digest of its results."""
    with paper_style():
        content = io.BytesIO()
        figure().savefig(content, dpi=200)
    note = PIL.PngImagePlugin.PngInfo()
    note.add_text(DIGEST, digest())
    picture = PIL.Image.open(content).convert("RGB").quantize(64)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True, pnginfo=note)


def main() -> None:
    parser(__doc__, out=False).parse_args()
    fill("machines.md", TABLES)
    draw(FIGURE)


if __name__ == "__main__":
    main()

"""A report as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from matplotlib.ticker import MaxNLocator

from ...errors import escaped
from .blocks import Block, Caution, Dots, Facts, Gallery, Heading, Paragraph, Table
from .examples import Example
from .pictures import EXTRA, MISSED, panels
from .words import number

LONGEST = 4000
"""Characters of one text of the page: names in files have no end."""
_MARGIN = 0.04  # of a drawing's width, free at both ends


def page(blocks: Sequence[Block]) -> str:
    """The report as HTML, its pictures inside."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    sections = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    # the contents stand where the first section begins
    first = next((place for place, block in enumerate(blocks) if block in sections), len(blocks))
    body = [*map(_block, blocks[:first]), _contents(sections), "<main>"]
    marked = False
    for block in blocks[first:]:
        if isinstance(block, Gallery) and not marked:
            body.append(_legend(block))
            marked = True
        body.append(_block(block))
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{chr(10).join(body)}\n</main>\n"
        "</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        name = f' id="{_anchor(block.text)}"' if block.level == 2 else ""
        return f"<h{block.level}{name}>{_text(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        kind = ' class="quiet"' if block.quiet else ""
        return f"<p{kind}>{_text(block.text)}</p>"
    if isinstance(block, Caution):
        return f'<div class="warning" role="note"><p><b>Warning.</b> {_text(block.text)}</p></div>'
    if isinstance(block, Dots):
        return _dots(block)
    if isinstance(block, Gallery):
        shown = "\n".join(map(_example, block.examples))
        return f'<h3>{_text(block.name)}</h3>\n<div class="examples">\n{shown}\n</div>'
    return _facts(block) if isinstance(block, Facts) else _table(block)


def _contents(sections: Sequence[Heading]) -> str:
    links = "".join(f'<li><a href="#{_anchor(s.text)}">{_text(s.text)}</a></li>' for s in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.columns)
    cell = _number if table.numbers else _text
    rows = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th>{"".join(f"<td>{cell(value)}</td>" for value in values)}</tr>'
        for name, *values in table.rows
    )
    kind = "numbers" if table.numbers else "text"
    return _scrolled(
        table.title, f'<table class="{kind}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    )


def _facts(facts: Facts) -> str:
    pairs = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts.rows)
    return f"<dl>{pairs}</dl>"


def _scrolled(title: str, table: str) -> str:
    """A table that scrolls inside itself where it is too wide, by keyboard too."""
    return f'<div class="table" role="region" aria-label="{_text(title)}" tabindex="0">{table}</div>'


def _dots(block: Dots) -> str:
    """A table with a drawing in it: dots with their intervals on one scale."""
    ends = [e for found in block.found if found is not None for e in (found.low, found.high, found.estimate)]
    low, high, ticks = _scale([e for e in ends if np.isfinite(e)], block.zero)

    def place(value: float) -> str:
        return f"{100 * (_MARGIN + (1 - 2 * _MARGIN) * (value - low) / (high - low)):.2f}%"

    lines = "".join(f'<u style="left:{place(t)}"{" class=zero" if block.zero and t == 0 else ""}></u>' for t in ticks)
    rows = []
    for row, (name, found, cells) in enumerate(zip(block.names, block.found, block.cells, strict=True)):
        drawn = ""
        if found is not None and np.isfinite([found.low, found.high]).all():
            width = f"calc({place(found.high)} - {place(found.low)})"
            drawn += f'<i style="left:{place(found.low)};width:{width}"></i>'
        if found is not None and np.isfinite(found.estimate):
            hollow = " class=hollow" if row == block.hollow else ""
            drawn += f'<b style="left:{place(found.estimate)}"{hollow}></b>'
        numbers = "".join(
            f'<td role="cell" data-name="{_text(column)}">{_number(cell)}</td>'
            for column, cell in zip(block.columns[2:], cells, strict=True)
        )
        rows.append(
            f'<tr role="row"><th role="rowheader" scope="row">{_text(name)}</th>'
            f'<td role="cell" class="drawing"><span class="scale" aria-hidden="true">{lines}{drawn}</span></td>'
            f"{numbers}</tr>"
        )
    name, drawing, *others = map(_text, block.columns)
    head = f'<th scope="col">{name}</th><th scope="col" class="drawing">{drawing}</th>'
    head += "".join(f'<th scope="col">{other}</th>' for other in others)
    # more than five numbers would touch where the drawing is narrow
    step = 1 if len(ticks) <= 5 else 2
    axis = "".join(f'<span style="left:{place(tick)}">{_text(_tick(tick, ticks))}</span>' for tick in ticks[::step])
    foot = f'<tr aria-hidden="true"><td></td><td class="drawing"><span class="scale">{axis}</span></td></tr>'
    table = (
        f'<table class="dots numbers" role="table" aria-label="{_text(block.title)}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}\n</tbody>\n<tfoot>{foot}</tfoot></table>"
    )
    return _scrolled(block.title, table)


def _scale(ends: Sequence[float], zero: bool) -> tuple[float, float, list[float]]:
    """Ends of the axis and its ticks, which lie between them."""
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5, high + 0.5
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)]
    ticks = [0.0 if abs(tick) < 1e-12 else tick for tick in ticks]
    return ticks[0], ticks[-1], ticks


def _tick(tick: float, ticks: Sequence[float]) -> str:
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else 1.0
    decimals = max(0, int(np.ceil(-np.log10(step) - 1e-9)))
    # a step such as 0.25 needs one more
    if abs(round(step, decimals) - step) > 1e-9 * step:
        decimals += 1
    return f"{tick:,.{decimals}f}".replace("-", "−")


def _example(example: Example) -> str:
    drawn = panels(example.shown)
    pictures = "".join(
        f'<img alt="{_text(f"{panel.what} of {example.key}")}" width="{panel.size[0]}" height="{panel.size[1]}" '
        f'src="data:image/jpeg;base64,{b64encode(panel.jpeg).decode()}">'
        for panel in drawn
    )
    words = f"<b>{_text(example.which.capitalize())}</b> {number(example.value)} · {_text(example.key)}"
    return f'<figure><div class="panels">{pictures}</div><figcaption>{words}</figcaption></figure>'


def _legend(gallery: Gallery) -> str:
    """Colours, where masks are compared with masks."""
    shown = gallery.examples[0].shown
    if shown.truth is None or shown.found.dtype != bool:
        return ""
    entries: Iterable[tuple[str, str]] = ((EXTRA, "found beyond the ground truth"), (MISSED, "missed"))
    marks = "".join(f'<span><i style="background:{colour}"></i>{words}</span>' for colour, words in entries)
    return f'<p class="legend">{marks}</p>'


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _number(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)", "−", _text(text))


def _text(text: str) -> str:
    return escape(escaped(text, LONGEST), quote=True)

"""Formats of a report: Markdown, and one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from .document import Block, Drawing, Heading, Paragraph, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


def markdown(blocks: Sequence[Block]) -> str:
    """The report; figures are files beside it, ``NAME.png``."""
    return "\n\n".join(_markdown_block(block) for block in blocks) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    safe = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in safe)


def _markdown_block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escaped(block.text)}"
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Drawing):
        return f"![{escaped(block.caption)}]({block.name}.png)"
    return _markdown_table(block)


def _markdown_table(table: Table) -> str:
    right = ["---", *(["---:" if table.numbers else "---"] * (len(table.columns) - 1))]
    lines = [[escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    lines.insert(1, right)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_STYLE = """
:root { color-scheme: light; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
thead th { border-bottom: 1px solid #5f5f5f; white-space: nowrap; }
tbody th { font-weight: normal; }
tbody tr:nth-child(even) { background: #f5f5f5; }
.numbers td, .numbers thead th + th { text-align: right; white-space: nowrap; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #5f5f5f; font-size: .85rem; }
"""


def page(blocks: Sequence[Block], figures: Mapping[str, bytes]) -> str:
    """The report.

    Args:
        blocks: of the report.
        figures: name → SVG, put into the page.
    """
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    body = "\n".join(_html_block(block, figures) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_html_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_block(block: Block, figures: Mapping[str, bytes]) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_html_text(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_html_text(block.text)}</p>"
    if isinstance(block, Drawing):
        data, caption = b64encode(figures[block.name]).decode(), _html_text(block.caption)
        picture = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
    return _html_table(block)


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_html_text(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, *cells in (map(_html_text, row) for row in table.rows)
    )
    kind = ' class="numbers"' if table.numbers else ""
    return f'<div class="table"><table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _html_text(text: str) -> str:
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return escape(safe, quote=True)

"""A report as Markdown, its figures files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import escaped
from .blocks import Block, Caution, Dots, Facts, Heading, Paragraph, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


def markdown(blocks: Sequence[Block]) -> str:
    """The report; figures are files beside it, ``NAME.png``. Example pictures stand in the HTML page alone."""
    return "\n\n".join(filter(None, map(_block, blocks))) + "\n"


def as_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return escaped(_SPECIAL.sub(r"\\\1", " ".join(text.split())))


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {as_markdown(block.text)}"
    if isinstance(block, Paragraph):
        return as_markdown(block.text)
    if isinstance(block, Caution):
        return f"> **Warning.** {as_markdown(block.text)}"
    if isinstance(block, Dots):
        rows = [(name, *cells) for name, cells in zip(block.names, block.cells, strict=True)]
        drawing = f"![{as_markdown(block.caption)}]({block.drawing}.png)"
        return f"{_table((block.columns[0], *block.columns[2:]), rows, True)}\n\n{drawing}"
    if isinstance(block, Facts):
        return _table(block.columns, block.rows, False)
    return _table(block.columns, block.rows, block.numbers) if isinstance(block, Table) else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool) -> str:
    lines = [[as_markdown(cell) for cell in row] for row in (columns, *rows)]
    lines.insert(1, ["---", *(["---:" if numbers else "---"] * (len(columns) - 1))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

"""Blocks of a report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .document import Block, Figure, Heading, Paragraph, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


def markdown(blocks: Sequence[Block]) -> str:
    """The report; figures are files beside it, ``NAME.png``."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    safe = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in safe)


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escaped(block.text)}"
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Figure):
        return f"![{escaped(block.caption)}]({block.name}.png)"
    return _table(block)


def _table(table: Table) -> str:
    right = ["---", *(["---:" if table.numbers else "---"] * (len(table.columns) - 1))]
    lines = [[escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    lines.insert(1, right)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

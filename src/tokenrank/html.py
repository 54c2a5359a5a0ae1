"""HTML pieces that results show themselves with in a notebook: escaped, self-contained, readable on light and dark."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape as _escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# styles stand in the elements: notebooks drop <style> blocks of pages they do not trust. Colours come from the page,
# so that both themes work; what is quiet is a share of it
_QUIET = "opacity:.7;font-size:smaller"
_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = "text-align:left;vertical-align:top;padding:.1em .8em .1em 0;border:0;background:none"
_TINT = "130,80,220"  # both black and white letters are readable on it
_STRONGEST = 0.6


def escape(text: object) -> str:
    """``text`` as text of a page: no markup, one line, every odd character as its escape."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
    return _escape(shown)


def image(picture: Image, alt: str = "", width: int | None = None) -> str:
    """A PIL image inside the page, as PNG; shown ``width`` CSS pixels wide, its own by default."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode()
    style = f"width:{picture.width if width is None else width}px;max-width:100%;height:auto;image-rendering:auto"
    return f'<img alt="{escape(alt)}" style="{style}" src="data:image/png;base64,{data}">'


def table(rows: Iterable[Sequence[object]], head: Sequence[object] = ()) -> str:
    """Rows of cells, which are escaped; the first cell of a row names it."""
    lines = [_row(head, "th", f"{_CELL};border-bottom:{_LINE}")] if head else []
    lines += [_row(row, "td", _CELL) for row in rows]
    return f'<table style="border-collapse:collapse;border:0">{"".join(lines)}</table>'


def _row(cells: Sequence[object], tag: str, style: str) -> str:
    styles = [style + ";opacity:.7" * (tag == "td"), *[style] * (len(cells) - 1)]
    drawn = [f'<{tag} style="{own}">{escape(cell)}</{tag}>' for cell, own in zip(cells, styles, strict=True)]
    return f"<tr>{''.join(drawn)}</tr>"


def figure(content: str, *captions: object) -> str:
    """Ready HTML with lines of text below it; empty ones are left out."""
    lines = "".join(f"<div>{escape(line)}</div>" for line in captions if str(line))
    return (
        f'<figure style="margin:0 .8em .6em 0;display:inline-block;vertical-align:top">{content}'
        f'<figcaption style="{_QUIET}">{lines}</figcaption></figure>'
    )


def board(cells: Iterable[str], more: int = 0) -> str:
    """Ready figures side by side, wrapped; ``more`` is how many were left out."""
    rest = f'<span style="{_QUIET}">… and {more:,} more</span>' if more else ""
    return f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start">{"".join(cells)}{rest}</div>'


def panel(title: object, *parts: str) -> str:
    """A whole answer: a bold title over ready HTML."""
    return f'<div style="margin-bottom:.6em"><div><b>{escape(title)}</b></div>{"".join(parts)}</div>'


def note(text: object) -> str:
    """A line of quiet text; nothing for an empty one."""
    return f'<div style="{_QUIET}">{escape(text)}</div>' if str(text) else ""


def words(tokens: Sequence[str], shares: Sequence[float], most: int = 400) -> str:
    """Tokens as running text, each tinted by its share, 0 … 1; those beyond ``most`` are counted."""
    marks = "".join(_word(token, share) for token, share in zip(tokens[:most], shares, strict=False))
    rest = f" … and {len(tokens) - most:,} more tokens" if len(tokens) > most else ""
    return f'<div style="max-width:46em;line-height:1.9;white-space:normal">{marks}{escape(rest)}</div>'


def _word(token: str, share: float) -> str:
    """A token, whose sub-word marks become the space that they stand for."""
    gap = "0" if token.startswith("##") else ".25em"
    text = token.replace("Ġ", " ").replace("▁", " ").removeprefix("##").replace("</w>", "").strip() or token
    text = text if len(text) <= 40 else text[:39] + "…"
    tint = f"rgba({_TINT},{_STRONGEST * min(max(share, 0.0), 1.0):.3f})"
    style = f"margin-left:{gap};padding:.1em .15em;border-radius:.25em;background:{tint};display:inline-block"
    return f'<span style="{style}">{escape(text)}</span>'

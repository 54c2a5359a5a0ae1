"""HTML pieces that results show themselves with in a notebook: escaped, self-contained, readable on light and dark."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape as _escape
from typing import TYPE_CHECKING

from .errors import escaped
from .token_text import is_right_to_left, joined, readable

if TYPE_CHECKING:
    from PIL.Image import Image

# styles stand in the elements: notebooks drop <style> blocks of pages they do not trust. Colours come from the page,
# so that both themes work; what is quiet is a share of it
_QUIET = "opacity:.7;font-size:smaller"
_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = (
    "text-align:left;vertical-align:top;padding:.1em .8em .1em 0;border:0;background:none;max-width:44em;"
    "white-space:normal;font-variant-numeric:tabular-nums"
)
TINT = "#8250dc"
"""Both black and white letters are readable on it, and it is seen on both."""
_STRONGEST = 0.6
_LONGEST = 4000  # characters of one text: names in files have no end
_BOXES = 400  # tokens of a text that each have a box


def escape(text: object) -> str:
    """``text`` as text of a page: no markup, one line, every odd character as its escape."""
    return _escape(escaped(str(text), _LONGEST))


def image(picture: Image, alt: str = "", width: int | None = None, photo: bool = False) -> str:
    """A PIL image inside the page; shown ``width`` CSS pixels wide, its own by default.

    ``photo``: as JPEG, which takes a fifth of a PNG where every pixel differs from the next.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG" if photo else "PNG", **({"quality": 80, "optimize": True} if photo else {}))
    return _embedded(buffer.getvalue(), f"image/{'jpeg' if photo else 'png'}", alt, width or picture.width)


def drawing(svg: str, alt: str, width: int) -> str:
    """An SVG drawing, as an image: notebooks that are not trusted drop its elements, but keep images."""
    return _embedded(svg.encode(), "image/svg+xml", alt, width)


def _embedded(data: bytes, kind: str, alt: str, width: int) -> str:
    style = f"width:{width}px;max-width:100%;height:auto;display:block;margin:0"
    return f'<img alt="{escape(alt)}" style="{style}" src="data:{kind};base64,{b64encode(data).decode()}">'


def colour_bar(colours: Sequence[str], low: object, high: object, width: int) -> str:
    """A scale of CSS colours from left to right, what its ends mean below it."""
    return (
        f'<div style="width:{width}px;max-width:100%;height:.45em;margin-top:.3em;border-radius:.2em;'
        f'background:linear-gradient(to right,{",".join(map(escape, colours))})"></div>{ends_line(low, high, width)}'
    )


def ends_line(low: object, high: object, width: int) -> str:
    """What is at the left and at the right end of something ``width`` CSS pixels wide."""
    return (
        f'<div style="{_QUIET};width:{width}px;max-width:100%;display:flex;justify-content:space-between">'
        f"<span>{escape(low)}</span><span>{escape(high)}</span></div>"
    )


def table(rows: Iterable[Sequence[object]], head: Sequence[object] = ()) -> str:
    """Rows of cells, which are escaped; the first cell of a row names it."""
    lines = [_row(head, "th", f"{_CELL};border-bottom:{_LINE}")] if head else []
    lines += [_row(row, "td", _CELL) for row in rows]
    # JupyterLab centres tables and makes their letters small
    style = "border-collapse:collapse;border:0;margin:0;table-layout:auto;font-size:inherit"
    return f'<table style="{style}">{"".join(lines)}</table>'


def _row(cells: Sequence[object], tag: str, style: str) -> str:
    styles = [style + ";opacity:.7" * (tag == "td"), *[style] * (len(cells) - 1)]
    drawn = [f'<{tag} style="{own}">{escape(cell)}</{tag}>' for cell, own in zip(cells, styles, strict=True)]
    # JupyterLab stripes rows, which would cut an answer in pieces
    return f'<tr style="background:none">{"".join(drawn)}</tr>'


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


def beside(*parts: str) -> str:
    """Ready HTML side by side where there is room, one below the other where not."""
    cells = "".join(f'<div style="margin:0 1.4em .2em 0">{part}</div>' for part in parts if part)
    return f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start">{cells}</div>'


def panel(title: object, *parts: str) -> str:
    """A whole answer: a bold title over ready HTML."""
    return f'<div style="margin-bottom:.6em"><div><b>{escape(title)}</b></div>{"".join(parts)}</div>'


def note(text: object) -> str:
    """A line of quiet text; nothing for an empty one."""
    return f'<div style="{_QUIET}">{escape(text)}</div>' if str(text) else ""


def words(
    tokens: Sequence[str], shares: Sequence[float], most: int = 400, outshining: Mapping[int, str] | None = None
) -> str:
    """Tokens as running text, each tinted by its share, 0 … 1; from the right where the text begins so.

    Up to 400 tokens stand in boxes; more are tinted in a column that scrolls, in about 50 bytes each.

    Args:
        tokens: as the tokenizer gives them; drawn as ``token_text.readable`` reads them.
        shares: one a token.
        most: tokens that are drawn; those beyond are counted.
        outshining: tokens without a tint, since their share would leave none to the others, framed, with some words.
    """
    found, marked = readable(tokens[:most]), outshining or {}
    draw = _box if len(found) <= _BOXES else _tinted
    spaced = [space for _, space in found]
    shown = joined([_short(text) for text, _ in found], spaced)
    parts = [
        (" " if spaced[i] and i else "") + draw(_letters(text), share, marked.get(i))
        for i, (text, share) in enumerate(zip(shown, shares, strict=False))
    ]
    rest = f" … and {len(tokens) - most:,} more tokens" if len(tokens) > most else ""
    side = ";direction:rtl;text-align:right" if is_right_to_left(text for text, _ in found) else ""
    tall = ";max-height:30em;overflow:auto" if len(found) > _BOXES else ""
    style = f"max-width:46em;line-height:1.9;white-space:normal;overflow-wrap:anywhere{side}{tall}"
    return f'<div style="{style}">{"".join(parts)}{escape(rest)}</div>'


def _letters(text: str) -> str:
    """As text of a page; joiners stay, since they shape letters."""
    return "\u200d".join(map(escape, text.split("\u200d")))


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _box(text: str, share: float, held: str | None) -> str:
    """A token in line with its neighbours, so that letters of all scripts keep their order."""
    look = f"background:{_tint(share)}" if held is None else f"outline:1px dashed {TINT}"
    more = (
        "" if held is None else f' <small style="opacity:.7;direction:ltr;unicode-bidi:isolate">{escape(held)}</small>'
    )
    return f'<span style="padding:.1em .15em;border-radius:.25em;{look};white-space:nowrap">{text}{more}</span>'


def _tinted(text: str, share: float, held: str | None) -> str:
    if held is not None:
        return _box(text, share, held)
    return f'<span style="background:{_tint(share)}">{text}</span>' if share >= 0.02 else text


def _tint(share: float) -> str:
    return f"{TINT}{round(255 * _STRONGEST * min(max(share, 0.0), 1.0)):02x}"

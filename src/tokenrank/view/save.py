"""Figures as files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import InputError, nearest
from .style import paper_style

FORMATS = ("png", "pdf", "svg")

_MAKER = {"png": "Software", "pdf": "Creator", "svg": "Creator"}
_DATES = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def render(figure: Figure, form: str, maker: str = "tokenrank", dpi: int = 300) -> bytes:
    """The figure as the content of a file.

    Args:
        figure: any matplotlib figure.
        form: "png", "pdf" or "svg".
        maker: written into the file as the program that made it. No date is: the same figure
            gives the same bytes.
        dpi: pixels an inch of a png.

    Raises:
        InputError: another format.
    """
    if form not in FORMATS:
        raise InputError(f"no figure format {form!r}; {nearest(form, FORMATS)}")
    buffer = io.BytesIO()
    with paper_style():
        figure.savefig(buffer, format=form, dpi=dpi, metadata={_MAKER[form]: maker, **_DATES[form]})
    return buffer.getvalue()


def save(figure: Figure, stem: str | Path, formats: Sequence[str] = ("png",), dpi: int = 300) -> list[Path]:
    """Write ``stem.png``, ``stem.pdf``, ``stem.svg``, those that are asked for; existing files are replaced.

    Raises:
        InputError: another format.
    """
    stem = Path(stem)
    contents = {stem.with_name(f"{stem.name}.{form}"): render(figure, form, dpi=dpi) for form in formats}
    for path, content in contents.items():
        path.write_bytes(content)
    return list(contents)

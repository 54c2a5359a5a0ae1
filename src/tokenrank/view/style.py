"""Style of all figures: sizes, fonts, colours, strings that can be drawn, and files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ..chain.heat import ACCENT as ACCENT
from ..chain.heat import CLIP as CLIP
from ..chain.heat import COLOURS
from ..chain.heat import Ends as Ends
from ..chain.heat import Scale as Scale
from ..chain.heat import coloured as coloured
from ..chain.heat import ends_of as ends_of
from ..chain.heat import scaled as scaled
from ..chain.heat import scales as scales
from ..chain.heat import shares as shares
from ..errors import InputError, nearest
from ..writing import save_whole
from .glyphs import drawable as drawable
from .glyphs import fonts
from .glyphs import shortened as shortened

COLUMN = 3.3
"""Width in inches of one column of a two-column page."""
FULL = 6.9
"""Width in inches of the whole page."""

HEAT = COLOURS  # maps over a picture
SHADE = "magma_r"  # text: light is low
NUMBERS = "viridis"  # tables of numbers
INK, QUIET = "#1a1a1a", "#5f5f5f"
TITLE, SMALL = 7.5, 6.0  # points
LINE = SMALL * 1.35 / 72  # inches from one small line of text to the next


@contextmanager
def paper_style(letters: str = "") -> Iterator[None]:
    """matplotlib's settings for a figure of a paper, inside the block only; with fonts that have all of ``letters``."""
    with matplotlib.rc_context(
        {
            "font.family": list(fonts(letters)),
            "font.size": TITLE,
            "text.color": INK,
            "text.parse_math": False,  # names and tokens may hold dollar signs
            "axes.edgecolor": QUIET,
            "axes.linewidth": 0.5,
            "axes.titlesize": TITLE,
            "axes.labelsize": TITLE,
            "axes.labelcolor": INK,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "figure.facecolor": "white",
            "hatch.linewidth": 0.6,
            "savefig.dpi": 300,
            "savefig.bbox": "standard",  # a figure is as large as it says
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "svg.fonttype": "path",
            "svg.hashsalt": "tokenrank",
        }
    ):
        yield


def luminance(rgb: npt.NDArray[np.floating]) -> float:
    """How light a colour looks, 0 … 1."""
    return float(np.dot(rgb[..., :3], (0.2126, 0.7152, 0.0722)))


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
    more: dict[str, Any] = (
        {"pil_kwargs": {"compress_level": 3}} if form == "png" else {}
    )  # a third of the time of level 6, 5 % larger
    with paper_style():
        figure.savefig(buffer, format=form, dpi=dpi, metadata={_MAKER[form]: maker, **_DATES[form]}, **more)
    return buffer.getvalue()


def render_pages(figures: Sequence[Figure], form: str, maker: str = "tokenrank", dpi: int = 300) -> list[bytes]:
    """Figures as the contents of files: one pdf with all of them as pages, a png or svg each.

    Args:
        figures: at least one, such as ``text_pages`` gives.
        form, maker, dpi: as in ``render``.

    Raises:
        InputError: another format, or no figure.
    """
    if not figures:
        raise InputError("no figures to write, expected at least one")
    if form != "pdf" or len(figures) == 1:
        return [render(figure, form, maker, dpi) for figure in figures]
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    with paper_style(), PdfPages(buffer, metadata={_MAKER["pdf"]: maker, **_DATES["pdf"]}) as pages:
        for figure in figures:
            figure.savefig(pages, format="pdf", dpi=dpi)
    return [buffer.getvalue()]


def page_names(stem: str, form: str, pages: int) -> list[str]:
    """Names of the files of ``render_pages``: ``stem.png``, ``stem-2.png``, ``stem-3.png``, …"""
    return [f"{stem}.{form}" if page == 1 else f"{stem}-{page}.{form}" for page in range(1, pages + 1)]


def save(
    figure: Figure | Sequence[Figure], stem: str | Path, formats: Sequence[str] = ("png",), dpi: int = 300
) -> list[Path]:
    """Write ``stem.png``, ``stem.pdf``, ``stem.svg``, those that are asked for; existing files are replaced.

    Each is written whole or not at all; where a name is a link of yours, the file that it leads to is written.
    Several figures become the pages of one pdf, and ``stem.png``, ``stem-2.png``, ….

    Raises:
        InputError: another format, or a file that cannot be written (no such folder, a full disk …).
    """
    stem = Path(stem)
    figures = [figure] if isinstance(figure, Figure) else list(figure)
    written: dict[Path, bytes] = {}
    for form in formats:
        contents = render_pages(figures, form, dpi=dpi)
        names = page_names(stem.name, form, len(contents))
        written |= {stem.with_name(name): content for name, content in zip(names, contents, strict=True)}
    for path, content in written.items():
        save_whole(path, content)
    return list(written)

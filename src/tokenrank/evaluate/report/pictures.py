"""Pictures of an example: the image, what was to be found, what was found, small, as JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from ...view.style import HEAT, coloured, scaled
from ..protocols.shown import Area, Shown

LONG = 264  # pixels, twice what a page shows
QUALITY = 82
EXTRA, MISSED = "#e8871e", "#2f7fd0"
"""Colours of what was found beyond the truth, and of what was missed: told apart by nearly all colour-blind readers."""
VOID = "#808080"

Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """One small picture.

    Attributes:
        what: "picture", "ground truth" or "found".
        jpeg: its file.
        size: width and height in pixels.
    """

    what: str
    jpeg: bytes
    size: tuple[int, int]


def panels(shown: Shown) -> list[Panel]:
    """The picture with its start, the ground truth where there is one, and what was found.

    Of a mask, what lies outside is dark; where the truth is known, found pixels that are too many are orange and missed
    ones blue. Segments are tinted, maps are laid over the picture. Pixels that do not count are grey.
    """
    small = shown.image.convert("RGB")
    small.thumbnail((LONG, LONG), PIL.Image.Resampling.LANCZOS)
    pixels = np.asarray(small, dtype=np.float64) / 255
    void = np.zeros(pixels.shape[:2], np.bool_) if shown.void is None else _nearest(shown.void, pixels)
    found = _nearest(shown.found, pixels)
    drawn = _area(pixels, found)
    made = [_panel("picture", pixels, shown.start)]
    if shown.truth is not None:
        truth = _nearest(shown.truth, pixels)
        made.append(_panel("ground truth", _voided(_area(pixels, truth), void)))
        if found.dtype == np.bool_ and truth.dtype == np.bool_:
            drawn = _tinted(drawn, found & ~truth, EXTRA, pixels)
            drawn = _tinted(drawn, truth & ~found, MISSED, pixels)
    made.append(_panel("found", _voided(drawn, void)))
    return made


def _area(pixels: Pixels, area: npt.NDArray[Any]) -> Pixels:
    """The picture with a mask, segments or a map on it."""
    grey = pixels @ (0.299, 0.587, 0.114)
    if area.dtype == bool:
        return np.where(area[..., None], pixels, 0.22 * grey[..., None] + 0.05)
    if area.dtype == np.int64:
        colours = np.asarray(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
        # neighbours in number are light and dark of one colour in this palette: the dark ones first
        order = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2)])
        tint = colours[order][area % 20]
        mixed = 0.35 * grey[..., None] + 0.65 * tint
        return np.where(_edges(area)[..., None], 1.0, np.where((area < 0)[..., None], grey[..., None] * 0.4, mixed))
    heat = coloured(scaled(np.asarray(area, dtype=np.float64)), HEAT)
    return 0.4 * grey[..., None] + 0.6 * heat


def _edges(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    return edges


def _tinted(drawn: Pixels, where: npt.NDArray[np.bool_], colour: str, pixels: Pixels) -> Pixels:
    tint = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(where[..., None], 0.3 * pixels + 0.7 * tint, drawn)


def _voided(drawn: Pixels, void: npt.NDArray[np.bool_]) -> Pixels:
    return np.where(void[..., None], np.array(matplotlib.colors.to_rgb(VOID)), drawn)


def _nearest(area: Area, pixels: Pixels) -> npt.NDArray[Any]:
    rows, columns = pixels.shape[:2]
    height, width = area.shape
    return area[(np.arange(rows) * height // rows)[:, None], np.arange(columns) * width // columns]


def _panel(what: str, pixels: Pixels, start: tuple[float, float] | None = None) -> Panel:
    picture = PIL.Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if start is not None:
        x, y = start[0] * picture.width, start[1] * picture.height
        draw = PIL.ImageDraw.Draw(picture)
        for radius, colour in ((7, "black"), (5, "white"), (3, "black")):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return Panel(what, buffer.getvalue(), picture.size)

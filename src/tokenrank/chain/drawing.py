"""Drawing of maps: colours, heat over a picture, words with a tint, and the page that a notebook shows."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import NotFoundError, nearest
from ..html import board, figure, image, note, panel, words
from ..layout import TokenLayout
from ..markov.result import range_words

COLOURS = "magma"
GREY = 0.55  # of what has no number
CELLS = 16  # maps of a batch that a notebook shows
LARGE, SMALL = 320, 128  # pixels of the long side of a single map, and of one of several
OPACITY = 0.6


class _Drawable(Protocol):
    """What a map of tokens is to those who draw it."""

    @property
    def values(self) -> Tensor: ...
    @property
    def layout(self) -> TokenLayout | None: ...
    @property
    def picture(self) -> Image.Image | None: ...
    @property
    def caption(self) -> str: ...
    @property
    def batch(self) -> torch.Size: ...
    def __getitem__(self, index: Any) -> _Drawable: ...
    def grid(self, span: str | None = None) -> Tensor: ...
    def upsample(self, size: tuple[int, int]) -> Tensor: ...
    def shape_words(self) -> str: ...
    def worth_words(self) -> str: ...


def colourise(values: np.ndarray, colours: str = COLOURS, scale: tuple[float, float] | None = None) -> Image.Image:
    """Values (H, W) as an RGB image; what is infinite or no number is grey.

    Args:
        values: a number a pixel.
        colours: a matplotlib colour map.
        scale: the values that get its first and its last colour; the smallest and the largest by default.

    Raises:
        NotFoundError: no colour map of that name.
    """
    import matplotlib

    if colours not in matplotlib.colormaps:
        raise NotFoundError(f"no colour map {colours!r}; {nearest(colours, matplotlib.colormaps)}")
    finite = np.isfinite(values)
    low, high = _scale_of(torch.from_numpy(np.ascontiguousarray(values))) if scale is None else scale
    shares = (np.where(finite, values, low) - low) / (high - low) if high > low else np.zeros_like(values)
    rgb = np.where(finite[..., None], matplotlib.colormaps[colours](shares)[..., :3], GREY)
    return Image.fromarray((rgb * 255).round().astype(np.uint8))


def side_by_side(grid: Tensor) -> Tensor:
    """A picture as it is; the frames of a video in a row, an empty column between them."""
    if grid.ndim < 3:
        return grid
    frames, rows, _ = grid.shape
    gap = grid.new_full((rows, 1), float("nan"))
    return torch.cat([part for frame in grid for part in (frame, gap)][: 2 * frames - 1], -1)


def page(shown: _Drawable, title: str = "") -> str:
    """What a notebook shows: the map over its picture, its heat, or its words; several as a board with one scale."""
    seen = _drawn_values(shown)
    scale = _scale_of(seen)
    if shown.batch:
        indices = list(np.ndindex(*shown.batch))
        cells = [figure(_drawn(shown[index], scale, SMALL), list(index)) for index in indices[:CELLS]]
        body = board(cells, len(indices) - len(cells))
    else:
        body = figure(_drawn(shown, scale, LARGE))
    title = title or f"{type(shown).__name__} of {shown.shape_words()}"
    return panel(title, body, note(shown.caption), note(_scale_words(shown, seen)), note(shown.worth_words()))


def small(single: _Drawable) -> str:
    """One map as a cell of a board, on a scale of its own."""
    return _drawn(single, _scale_of(_drawn_values(single)), SMALL)


def _drawn(single: _Drawable, scale: tuple[float, float], side: int) -> str:
    layout, values = single.layout, single.values.detach().double()
    if layout is not None and len(layout.grids) == 1 and single.picture is not None and single.grid().ndim == 2:
        return image(_over(single, single.picture, scale, side), "map over its picture")
    if layout is not None and layout.grids:
        grids = [side_by_side(single.grid(span).double()) for span in layout.grids]
        return "".join(image(_heat(grid, scale, side), "token map") for grid in grids)
    if layout is not None and layout.tokens is not None:
        low, high = scale
        shares = ((values - low) / (high - low) if high > low else torch.zeros_like(values)).nan_to_num(0.0, 1.0, 0.0)
        return words(layout.tokens, shares.tolist())
    return image(_heat(values[None], scale, 2 * side), "token map")


def _heat(grid: Tensor, scale: tuple[float, float], side: int) -> Image.Image:
    drawn = colourise(grid.detach().cpu().numpy(), scale=scale)
    factor = max(1, side // max(drawn.size))
    height = max(drawn.height * factor, 12)  # a strip of tokens is seen, too
    return drawn.resize((drawn.width * factor, height), Image.Resampling.NEAREST)


def _over(single: _Drawable, picture: Image.Image, scale: tuple[float, float], side: int) -> Image.Image:
    shrink = min(1.0, side / max(picture.size))
    size = max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))
    values = single.upsample((size[1], size[0])).double().detach().cpu().numpy()
    return Image.blend(picture.convert("RGB").resize(size), colourise(values, scale=scale), OPACITY)


def _scale_of(values: Tensor) -> tuple[float, float]:
    """The smallest and the largest finite value."""
    finite = values[torch.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)


def _drawn_values(shown: _Drawable) -> Tensor:
    """Values of the pictures' tokens where there are pictures: the class token would outshine them."""
    if shown.layout is None or not shown.layout.grids:
        return shown.values.detach()
    return torch.cat([shown.grid(span).flatten() for span in shown.layout.grids]).detach()


def _scale_words(shown: _Drawable, seen: Tensor) -> str:
    layout, scale = shown.layout, "one scale for all" if shown.batch else "colours"
    pictures = () if layout is None else layout.grids
    hidden = [name for name in layout.spans if name not in pictures] if layout is not None and pictures else []
    words_only = layout is not None and not pictures and layout.tokens is not None
    grey = "" if words_only or bool(torch.isfinite(seen).all()) else " (grey)"
    return f"{scale}: {range_words(seen)}{grey}" + (f"; not drawn: {', '.join(hidden)}" if hidden else "")

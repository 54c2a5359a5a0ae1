"""Drawing of maps for a notebook: over their picture, over the waveform of their sound, as words, or as heat alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..html import board, colour_bar, ends_line, figure, image, note, panel, words
from ..layout import TokenLayout
from ..markov.sinks import outshining
from ..markov.words import counted, number_words, range_words
from .heat import COLOURS, Ends, Floats, Scale, as_image, coloured, ends_of, enlarged, heat_over, scales, shares

CELLS, TEXTS = 24, 8  # maps of a batch that a notebook shows, and of texts
LARGE, MEDIUM, SMALL = 360, 240, 132  # CSS pixels of a map's long side: alone, beside a table, one of several
DENSITY = 1.5  # pixels of a picture for each of the page's
STRIP = 56  # CSS pixels that the strip of a sound is high
WORDS, FEWER = 5000, 700  # words that the map of a text shows, and that all maps of a board show together
MARKS = 16  # tokens of a start that are marked one by one


class _Drawable(Protocol):
    """What a map of tokens is to those who draw it."""

    @property
    def values(self) -> Tensor: ...
    @property
    def layout(self) -> TokenLayout | None: ...
    @property
    def picture(self) -> Image.Image | None: ...
    @property
    def start(self) -> Tensor | None: ...
    @property
    def caption(self) -> str: ...
    @property
    def batch(self) -> torch.Size: ...
    def __getitem__(self, index: Any) -> _Drawable: ...
    def grid(self, span: str | None = None) -> Tensor: ...
    def shape_words(self) -> str: ...
    def worth_words(self) -> str: ...


def side_by_side(grid: Tensor) -> Tensor:
    """A picture as it is; the frames of a video in a row, an empty column between them."""
    if grid.ndim < 3:
        return grid
    frames, rows, _ = grid.shape
    gap = grid.new_full((rows, 1), float("nan"))
    return torch.cat([part for frame in grid for part in (frame, gap)][: 2 * frames - 1], -1)


def page(shown: _Drawable) -> str:
    """What a notebook shows of maps: one large, several as a board, each on its own scale; caption and certificate."""
    body, told = drawn(shown)
    title = f"{type(shown).__name__} of {shown.shape_words().removeprefix('1 map, ')}"
    return panel(title, body, note(shown.caption), note(told), note(shown.worth_words()))


def drawn(shown: _Drawable, scale: Scale = "each", side: int = LARGE) -> tuple[str, str]:
    """Maps as HTML, and in words what their colours mean.

    Args:
        shown: one map or a batch.
        scale: whether several maps have a scale each.
        side: CSS pixels of the long side of a map alone.
    """
    texts = _is_text(shown.layout)
    indices = list(np.ndindex(*shown.batch)) if shown.batch else [()]
    singles = [shown[index] if index else shown for index in indices[: TEXTS if texts else CELLS]]
    ends = scales([_scaled(single).numpy() for single in singles], scale)
    most = FEWER // len(singles) if shown.batch else WORDS
    if shown.batch:
        cells = [
            figure(_one(single, own, SMALL, most), str(list(index)), number_words(own[1]) if scale == "each" else "")
            for index, single, own in zip(indices, singles, ends, strict=False)
        ]
        bar = _bar(ends[0], side) if scale == "shared" and not texts else ""
        body = board(cells, len(indices) - len(cells)) + bar
    else:
        body = figure(_one(shown, ends[0], side, most) + ("" if texts else _bar(ends[0], _width(shown, side))))
    return body, _scale_words(shown, scale)


def small(single: _Drawable) -> str:
    """One map as a cell of a board, on a scale of its own."""
    return _one(single, ends_of(_scaled(single).numpy()), SMALL, FEWER // TEXTS)


def seen(single: _Drawable) -> str:
    """The picture of a map as a cell of a board, with the start and without the map."""
    assert single.picture is not None
    width, height = _fitted(single.picture.size, SMALL)
    size = round(width * DENSITY), round(height * DENSITY)
    rgb = np.asarray(single.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)) / 255
    _mark(rgb, single)
    return image(as_image(rgb), "picture", width, photo=True)


def _one(single: _Drawable, ends: Ends, side: int, most: int) -> str:
    layout, values = single.layout, single.values.detach().double().cpu()
    if layout is not None and len(layout.grids) == 1 and single.picture is not None and single.grid().ndim == 2:
        return _over(single, single.picture, ends, side)
    if layout is not None and layout.grids:
        grids = [side_by_side(single.grid(span)) for span in layout.grids]
        return "".join(_heat(grid, ends, side) for grid in grids)
    if layout is not None and len(layout.seconds) == 1:
        return _strip(single, layout, ends, _width(single, side))
    if layout is not None and layout.tokens is not None:
        # what is no number has no tint, what is infinite the strongest
        share = np.where(values.numpy() == np.inf, 1.0, np.nan_to_num(shares(values.numpy(), ends)))
        held = {i: number_words(float(values[i])) for i in outshining(values).nonzero()[:, 0].tolist()}
        return words(layout.tokens, share.tolist(), most, held)
    row = as_image(coloured(shares(values[None].numpy(), ends)))
    fewer = Image.Resampling.BOX if len(values) > 2 * side else Image.Resampling.NEAREST
    return image(row.resize((2 * side, 12), fewer), "token map", 2 * side)


def _over(single: _Drawable, picture: Image.Image, ends: Ends, side: int) -> str:
    width, height = _fitted(picture.size, side)
    size = round(height * DENSITY), round(width * DENSITY)
    rgb = heat_over(picture, single.grid(), size, ends)
    _mark(rgb, single)
    return image(as_image(rgb), "map over its picture", width, photo=True)


def _heat(grid: Tensor, ends: Ends, side: int) -> str:
    width, height = _fitted((grid.shape[1], grid.shape[0]), side)
    rgb = coloured(shares(enlarged(grid, (height, width)), ends))
    return image(as_image(rgb), "token map", width, photo=True)


def _strip(single: _Drawable, layout: TokenLayout, ends: Ends, width: int) -> str:
    """Frames of a sound from left to right, over its waveform where that is known, and the seconds below."""
    size = round(STRIP * DENSITY), round(width * DENSITY)
    frames = single.values[layout.indices(layout.sound)][None]
    begin, step = layout.seconds[layout.sound]
    end = begin + step * frames.shape[-1]
    length = 0.0 if single.picture is None else float(single.picture.info.get("seconds", 0))
    if single.picture is None or not length:
        rgb = coloured(shares(enlarged(frames, size), ends))
    else:
        wide, high = single.picture.size
        heard = single.picture.crop((round(begin / length * wide), 0, round(end / length * wide), high))
        rgb = heat_over(heard, frames, size, ends)
    if single.start is not None:
        for place in _few(single.start[layout.indices(layout.sound)]):
            middle = round((place + 0.5) / frames.shape[-1] * size[1])
            rgb[:, max(0, middle - 1) : middle + 1] = 1.0
    return image(as_image(rgb), "map over its sound", width, photo=True) + ends_line(
        f"{begin:g} s", f"{end:.3g} s", width
    )


def _starts(single: _Drawable) -> list[tuple[float, float]]:
    """Middles of the patches that a walk began in, in fractions of the picture; none where there are many."""
    layout = single.layout
    if single.start is None or layout is None:
        return []
    rows, columns = layout.grids[layout.picture][-2:]
    places = _few(single.start[layout.indices(layout.picture)])
    return [((place % columns + 0.5) / columns, (place // columns + 0.5) / rows) for place in places]


def _mark(rgb: Floats, single: _Drawable) -> None:
    """Rings about the patches that a walk began in, drawn into ``rgb``."""
    for x, y in _starts(single):
        _ring(rgb, x * rgb.shape[1], y * rgb.shape[0], max(3.0, 0.014 * max(rgb.shape)))


def _few(start: Tensor) -> list[int]:
    places = start.nonzero()[:, 0].tolist()
    return places if len(places) <= min(MARKS, len(start) // 4) else []


def _ring(rgb: Floats, x: float, y: float, radius: float) -> None:
    """A white ring with a dark edge about (x, y) in pixels, drawn into ``rgb``."""
    rows, columns = np.ogrid[: rgb.shape[0], : rgb.shape[1]]
    away = np.abs(np.hypot(columns + 0.5 - x, rows + 0.5 - y) - radius)
    for colour, half in ((0.0, 2.2), (1.0, 1.1)):
        share = np.clip(half + 0.5 - away, 0, 1)[..., None]
        rgb[:] = (1 - share) * rgb + share * colour


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) in CSS pixels of a picture whose long side is ``side``; slim ones are seen, too."""
    factor = side / max(size)
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def _width(single: _Drawable, side: int) -> int:
    """CSS pixels of a map alone."""
    layout = single.layout
    if layout is not None and len(layout.grids) == 1:
        rows, columns = side_by_side(single.grid()).shape
        return _fitted((columns, rows) if single.picture is None else single.picture.size, side)[0]
    return side if layout is not None and layout.grids else 2 * side


def _bar(ends: Ends, width: int) -> str:
    low, high = map(number_words, ends)
    return colour_bar(ramp(), low, high, width)


def ramp() -> Sequence[str]:
    """CSS colours of a map, from the smallest value to the largest."""
    stops = np.round(coloured(np.linspace(0, 1, 9), COLOURS) * 255).astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in stops]


def _is_text(layout: TokenLayout | None) -> bool:
    return layout is not None and not layout.grids and not layout.seconds and layout.tokens is not None


def _seen(shown: _Drawable) -> Tensor:
    """Values of the pictures' tokens where there are pictures: the class token would outshine them."""
    layout, values = shown.layout, shown.values.detach().double().cpu()
    if layout is None or not layout.grids:
        if layout is None or len(layout.seconds) != 1:
            return values
        return values[..., layout.indices(layout.sound)]
    return torch.cat([shown.grid(span).flatten() for span in layout.grids]).detach().double().cpu()


def _scaled(shown: _Drawable) -> Tensor:
    """The values that the colours are for: of a text without those that outshine all others."""
    seen = _seen(shown)
    kept = ~outshining(seen) if _is_text(shown.layout) else torch.ones_like(seen, dtype=torch.bool)
    return seen[kept] if bool(kept.any()) else seen


def _scale_words(shown: _Drawable, scale: Scale) -> str:
    layout, seen = shown.layout, _seen(shown)
    spread = "tint" if _is_text(layout) else "colours"
    of = "" if not shown.batch else "of each map, the latter below it" if scale == "each" else "of all maps together"
    drawn = () if layout is None else layout.grids or layout.seconds
    hidden = [name for name in layout.spans if name not in drawn] if layout is not None and drawn else []
    grey = "" if _is_text(layout) or bool(torch.isfinite(seen).all()) else " (grey)"
    told = f"values {range_words(seen)}{grey}; {spread} from the 1st to the 99th percentile {of}".rstrip()
    sinks = int(outshining(shown.values).sum()) if _is_text(layout) else 0
    told += f"; {counted(str(sinks), 'sink')} framed and left out of the scale" if sinks else ""
    return told + (f"; not drawn: {', '.join(hidden)}" if hidden else "")

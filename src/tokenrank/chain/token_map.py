"""TokenMap: a number for every token, ready to look at."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import ChainError, InputError, LayoutError, escaped
from ..layout import TokenLayout
from ..markov import Certificate, Result
from ..models.images import ImageSource, read_image
from ..writing import save_whole
from .drawing import page, side_by_side
from .foreground import ForegroundRule, foreground
from .heat import ACCENT, COLOURS, OPACITY, as_image, coloured, ends_of, enlarged, heat_over, shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class TokenMap(Result):
    """Values per token, with the layout that says where they belong.

    Attributes:
        values: (*batch, N).
        layout: which token is what, or None.
        certificate: what the values are worth; None for those that no chain answered with.
        picture: the picture as the model saw it, which a notebook shows the map on; or None.
        caption: what was asked, in words: layer, heads, tokens, bounces; "" where that is not known.
        start: where the walk began, a distribution (*batch, N), which a notebook marks; None where it began nowhere in
            particular.

    Example:
        >>> import torch
        >>> import tokenrank as tr
        >>> values = torch.tensor([0.4, 0.05, 0.05, 0.2, 0.3])
        >>> found = tr.TokenMap(values, tr.TokenLayout.image(2, 2))
        >>> found
        TokenMap(1 map, 5 tokens (cls 1, image 2 × 2), 0.05 … 0.4)
        >>> found.grid()
        tensor([[0.0500, 0.0500],
                [0.2000, 0.3000]])
        >>> found.mask()
        tensor([[False, False],
                [ True,  True]])
        >>> found.top(1)
        [(0, '', 0.4000000059604645)]
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1),)
    ONE = "map"

    values: Tensor
    layout: TokenLayout | None = None
    certificate: Certificate | None = None
    picture: Image.Image | None = field(default=None, compare=False)
    caption: str = field(default="", compare=False)
    start: Tensor | None = field(default=None, compare=False)

    def grid(self, span: str | None = None) -> Tensor:
        """The picture's tokens as (*batch, rows, columns); a video's as (*batch, frames, rows, columns).

        Args:
            span: which picture, where there are several.

        Raises:
            LayoutError: no layout, or no picture in it.
        """
        layout = self._known_layout()
        span = span or layout.picture
        if span in layout.spans and span not in layout.grids:
            raise LayoutError(f"span {span!r} has no grid; spans with one: {list(layout.grids)}")
        if layout.order is not None:
            return self.values[..., layout.indices(span)].unflatten(-1, layout.grids[span])
        tokens = layout.range(span)
        return self.values[..., tokens.start : tokens.stop].unflatten(-1, layout.grids[span])

    def upsample(self, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
        """The grid at a picture's resolution: (*batch, height, width) for ``size`` = (height, width).

        A video's frames are kept: (*batch, frames, height, width).
        """
        grid = self.grid()
        flat = grid.reshape(1, -1, *grid.shape[-2:])
        options = {} if mode == "nearest" else {"align_corners": False}
        return F.interpolate(flat, size, mode=mode, **options).reshape(*grid.shape[:-2], *size)

    def mask(self, rule: ForegroundRule = "mean") -> Tensor:
        """Foreground tokens: bool in the shape of ``grid()``, or (*batch, N) without a picture.

        Args:
            rule: "mean" keeps what is above the map's mean; a number p, 0 < p ≤ 1, keeps the fewest tokens that
                hold the share p of the map's mass (DINO keeps 0.6); None keeps all. A constant map has no foreground.

        Raises:
            InputError: another rule.
        """
        if self.layout is None or len(self.layout.grids) != 1:
            return foreground(self.values, rule)
        grid = self.grid()
        return foreground(grid, rule, grid.ndim - len(self.batch))

    def top(self, k: int = 10) -> list[tuple[int, str, float]]:
        """The k largest tokens of a single map: (index, token string or "", value)."""
        values = self._single().values
        best = values.topk(min(k, values.numel()))
        names = self.layout.tokens if self.layout is not None else None
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(i, names[i] if names else "", v) for i, v in pairs]

    def overlay(
        self, image: ImageSource | None = None, opacity: float = OPACITY, colours: str = COLOURS
    ) -> Image.Image:
        """A single map over its picture in grey, as a PIL image of the picture's size; as the figures of ``tr.view``.

        The map is enlarged by cubic interpolation, and coloured from the 1st to the 99th percentile of its patches.

        Args:
            image: path, PIL image, uint8 or float array or tensor; the map's own ``picture`` by default.
            opacity: of the map, 0 … 1.
            colours: a perceptual matplotlib colour map.

        Raises:
            InputError: no picture, one that cannot be read, or an opacity beyond 0 … 1.
            NotFoundError: no colour map of that name.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity = {opacity!r}, expected a number from 0 to 1")
        image = self.picture if image is None else image
        if image is None:
            raise InputError("this map does not know its picture; give it: map.overlay(image)")
        picture = read_image(image)
        grid = self._single().grid()
        if grid.ndim == 3:
            raise LayoutError(
                f"this map has {grid.shape[0]} frames of a video, expected a map of one picture; lay one frame over "
                "it: tr.TokenMap(map.grid()[frame].flatten(), tr.TokenLayout.image(rows, columns, cls_tokens=0))"
            )
        return as_image(heat_over(picture, grid, (picture.height, picture.width), None, colours, opacity))

    def figure(self) -> Figure:
        """The map as a matplotlib figure: over its picture, a curve over the seconds, or a bar a token."""
        from .shown_figure import ShownFigure

        single = self._single()
        figure = ShownFigure(figsize=(3.3, 3.3), layout="constrained")
        axes = figure.add_subplot()
        if self.layout is not None and len(self.layout.grids) == 1:
            axes.imshow(_picture_of(single))
            axes.set_axis_off()
        elif self.layout is not None and len(self.layout.seconds) == 1:
            figure.set_size_inches(6.9, 1.6)
            frames = single.values[self.layout.indices(self.layout.sound)].detach().cpu().numpy()
            axes.plot(self.layout.times(), frames, color=ACCENT, linewidth=0.8)
            axes.set(xlabel="seconds", ylabel="probability", ylim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
        else:
            top = single.top(24)[::-1]
            places = range(len(top))
            axes.barh(places, [v for *_, v in top], color=ACCENT)
            axes.set_yticks(places, [_label(i, name) for i, name, _ in top], parse_math=False)
            axes.set_xlabel("probability")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7)
        return figure

    def show(self) -> None:
        """Show the figure in a notebook or a window."""
        import matplotlib.pyplot as plt

        drawn = self.figure()
        shown = plt.figure(figsize=drawn.get_size_inches())
        buffer = io.BytesIO()
        drawn.savefig(buffer, dpi=200)
        axes = shown.add_axes((0, 0, 1, 1))
        axes.imshow(Image.open(buffer))
        axes.set_axis_off()
        plt.show()

    def save(self, path: str | Path) -> Path:
        """Write the figure (.png, .svg, .pdf) or the values (.npy), whole or not at all; the ending says which.

        Args:
            path: of the file. Where it is a link of yours, the file that it leads to is written.

        Raises:
            InputError: another ending, or a file that cannot be written (a folder that does not exist, a full disk …).
        """
        path, buffer = Path(path), io.BytesIO()
        if path.suffix == ".npy":
            np.save(buffer, self.values.cpu().numpy())
        elif path.suffix in (".png", ".svg", ".pdf"):
            self.figure().savefig(buffer, format=path.suffix[1:], dpi=300)
        else:
            raise InputError(f"cannot write {path.name!r}: expected .png, .svg, .pdf or .npy")
        save_whole(path, buffer.getvalue())
        return path

    def shape_words(self) -> str:
        """What the dimensions of ``values`` are."""
        return super().shape_words() + ("" if self.layout is None else f" ({self.layout})")

    def _repr_html_(self) -> str:
        return page(self)

    def _known_layout(self) -> TokenLayout:
        if self.layout is None:
            raise LayoutError("this map does not know which tokens are the picture; give the chain a layout")
        return self.layout

    def _single(self) -> TokenMap:
        if self.values.numel() != self.values.shape[-1]:
            raise ChainError(
                f"values have shape {tuple(self.values.shape)}, expected one map (N,); index the batch and the heads "
                "first, or aggregate the heads"
            )
        start = None if self.start is None else self.start.reshape(-1)
        return replace(self, values=self.values.reshape(-1), start=start)


def _picture_of(single: TokenMap) -> Image.Image:
    """A map over its picture, or its heat alone, 1,000 pixels long."""
    grid = side_by_side(single.grid())
    if single.picture is not None and single.grid().ndim == 2:
        return single.overlay()
    rows, columns = grid.shape
    factor = max(1, 1000 // max(rows, columns))
    ends = ends_of(single.grid().detach().double().cpu().numpy())
    return as_image(coloured(shares(enlarged(grid, (rows * factor, columns * factor)), ends)))


def _label(index: int, token: str) -> str:
    """A token on one short line, whatever it consists of."""
    shown = escaped(token)
    return f"{index} {shown if len(shown) <= 24 else shown[:23] + '…'}".strip()

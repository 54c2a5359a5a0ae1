"""TokenMap: a number for every token, ready to look at."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import ChainError, InputError, LayoutError, NotFoundError, nearest
from ..layout import TokenLayout
from ..markov import Certificate, leading_index
from ..models.images import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "magma"


@dataclass(frozen=True)
class TokenMap:
    """Values per token, with the layout that says where they belong.

    Attributes:
        values: (*batch, N).
        layout: which token is what, or None.
        certificate: for iterative answers, what they are worth.
    """

    values: Tensor
    layout: TokenLayout | None = None
    certificate: Certificate | None = None

    def __getitem__(self, index: Any) -> TokenMap:
        """Index the leading dimensions.

        Raises:
            ChainError: an index out of range, with too many entries, or that selects nothing.
        """
        entries = leading_index(index, self.values.shape[:-1], "single tokens are in .values")
        certificate = None if self.certificate is None else self.certificate[entries]
        return TokenMap(self.values[entries], self.layout, certificate)

    def grid(self, span: str | None = None) -> Tensor:
        """The picture's tokens as (*batch, rows, columns); a video's as (*batch, frames, rows, columns).

        Args:
            span: which picture, where there are several.

        Raises:
            LayoutError: no layout, or no picture in it.
        """
        layout = self._known_layout()
        span = span or layout.picture
        tokens = layout.range(span)
        if span not in layout.grids:
            raise LayoutError(f"span {span!r} has no grid; spans with one: {list(layout.grids)}")
        return self.values[..., tokens.start : tokens.stop].unflatten(-1, layout.grids[span])

    def upsample(self, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
        """The grid at a picture's resolution: (*batch, height, width) for ``size`` = (height, width).

        A video's frames are kept: (*batch, frames, height, width).
        """
        grid = self.grid()
        flat = grid.reshape(1, -1, *grid.shape[-2:])
        options = {} if mode == "nearest" else {"align_corners": False}
        return F.interpolate(flat, size, mode=mode, **options).reshape(*grid.shape[:-2], *size)

    def mask(self, rule: str | float = "mean") -> Tensor:
        """Foreground tokens: bool in the shape of ``grid()``, or (*batch, N) without a picture.

        Args:
            rule: "mean" keeps what is above the map's mean; a number p from 0 to 1 keeps the
                fewest tokens that hold the share p of the map's mass (DINO keeps 0.6).
        """
        grid = self.grid() if self.layout is not None and len(self.layout.grids) == 1 else None
        values = self.values if grid is None else grid.flatten(self.values.ndim - 1)
        if rule == "mean":
            mask = values > values.mean(-1, keepdim=True)
        elif isinstance(rule, (int, float)) and not isinstance(rule, bool) and 0 < rule <= 1:
            order = values.sort(-1, descending=True)
            held = order.values.cumsum(-1)
            before = torch.cat([torch.zeros_like(held[..., :1]), held[..., :-1]], -1)
            kept = before < rule * values.sum(-1, keepdim=True)
            mask = torch.zeros_like(kept).scatter(-1, order.indices, kept)
        else:
            raise ChainError(f"rule = {rule!r}, expected 'mean' or a share of the mass in (0, 1]")
        return mask if grid is None else mask.reshape(grid.shape)

    def top(self, k: int = 10) -> list[tuple[int, str, float]]:
        """The k largest tokens of a single map: (index, token string or "", value)."""
        values = self._single().values
        best = values.topk(min(k, values.numel()))
        names = self.layout.tokens if self.layout is not None else None
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(i, names[i] if names else "", v) for i, v in pairs]

    def overlay(self, image: Any, opacity: float = 0.6, colours: str = COLOURS) -> Image.Image:
        """A single map over its picture, as a PIL image of the picture's size.

        Args:
            image: path, PIL image, uint8 or float array or tensor.
            opacity: of the map, 0 … 1.
            colours: a perceptual matplotlib colour map.

        Raises:
            InputError: a picture that cannot be read, or an opacity beyond 0 … 1.
            NotFoundError: no colour map of that name.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity = {opacity!r}, expected a number from 0 to 1")
        picture = read_image(image)
        values = self._single().upsample((picture.height, picture.width))
        if values.ndim == 3:
            raise LayoutError(
                f"this map has {values.shape[0]} frames of a video, expected a map of one picture; lay one frame over "
                "it: tr.TokenMap(map.grid()[frame].flatten(), tr.TokenLayout.image(rows, columns, cls_tokens=0))"
            )
        heat = colourise(values.cpu().numpy(), colours)
        return Image.blend(picture, heat, opacity)

    def figure(self) -> Figure:
        """The map as a matplotlib figure: a heat map of the grid, or a bar a token."""
        from matplotlib.figure import Figure

        single = self._single()
        figure = Figure(figsize=(3.3, 3.3), layout="constrained")
        axes = figure.add_subplot()
        if self.layout is not None and len(self.layout.grids) == 1:
            axes.imshow(_side_by_side(single.grid()).cpu().numpy(), cmap=COLOURS)
            axes.set_axis_off()
        else:
            top = single.top(24)[::-1]
            places = range(len(top))
            axes.barh(places, [v for *_, v in top], color="#5b2a86")
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
        """Write the figure (.png, .svg, .pdf) or the values (.npy); the ending says which.

        Raises:
            InputError: another ending, or a folder that does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path.name!r}: no folder {str(path.parent)!r}; make it first")
        if path.suffix == ".npy":
            np.save(path, self.values.cpu().numpy())
        elif path.suffix in (".png", ".svg", ".pdf"):
            self.figure().savefig(path, dpi=300)
        else:
            raise InputError(f"cannot write {path.name!r}: expected .png, .svg, .pdf or .npy")
        return path

    def _repr_html_(self) -> str | None:
        if self.values.numel() != self.values.shape[-1]:
            return None  # a batch of maps shows as text: index it
        buffer = io.BytesIO()
        self.figure().savefig(buffer, dpi=120, format="png")
        caption = html.escape(str(self.certificate or ""))
        picture = f'<img alt="token map" src="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}">'
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"

    def __repr__(self) -> str:
        certificate = "" if self.certificate is None else f", {self.certificate}"
        return f"TokenMap(shape={tuple(self.values.shape)}{certificate})"

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
        return TokenMap(self.values.reshape(-1), self.layout, self.certificate)


def _side_by_side(grid: Tensor) -> Tensor:
    """A picture as it is; the frames of a video in a row, an empty column between them."""
    if grid.ndim < 3:
        return grid
    frames, rows, _ = grid.shape
    gap = grid.new_full((rows, 1), float("nan"))
    return torch.cat([part for frame in grid for part in (frame, gap)][: 2 * frames - 1], -1)


def _label(index: int, token: str) -> str:
    """A token on one short line, whatever it consists of."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in token)
    return f"{index} {shown if len(shown) <= 24 else shown[:23] + '…'}".strip()


def colourise(values: np.ndarray, colours: str = COLOURS) -> Image.Image:
    """Values (H, W) to an RGB image, from the smallest to the largest value."""
    import matplotlib

    if colours not in matplotlib.colormaps:
        raise NotFoundError(f"no colour map {colours!r}; {nearest(colours, matplotlib.colormaps)}")
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    rgb = matplotlib.colormaps[colours](scaled)[..., :3]
    return Image.fromarray((rgb * 255).round().astype(np.uint8))

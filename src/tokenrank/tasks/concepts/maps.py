"""``ConceptMaps``: where each of several words is in a picture, ready to look at and to hand on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...chain import TokenMap
from ...chain.drawing import seen, small
from ...chain.foreground import foreground
from ...errors import InputError, NotFoundError, escaped, nearest
from ...html import board, figure, note, panel
from ...layout import TokenLayout
from ...markov import Certificate
from ...writing import save_whole
from ..segmentation import Segmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Cut: TypeAlias = "Literal['mean', 'softmax', 'ncut'] | None"
"""How maps become labels; see ``tokenrank.tasks.concepts.cut``."""

ACROSS = 5  # maps in a row of a figure

CUTS: tuple[Cut, ...] = ("mean", "softmax", "ncut", None)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptMaps:
    """Where each word is in a picture: one map a word, over the picture's patches.

    Attributes:
        values: float32 (W, rows, columns), finite and ≥ 0. What they are the caption says: a distribution over the
            patches, probabilities of ending in each word, or shares of the words.
        words: W of them, each once.
        picture: what is shown beneath, where it is known.
        caption: how the maps were made, in words.
        padding_mass: by layer, the share of the picture's attention that went to padding and special tokens, 0 … 1.
        certificate: what the values are worth, where they are a limit that was computed; None where they are not.
        cut: how maps become labels: "mean" (a patch above its map's mean may belong to the word), "ncut" (above the
            word's own threshold), "softmax" and None (every patch belongs to some word).
        thresholds: of "ncut", one a word; None with other cuts.

    Raises:
        InputError: values of another shape, negative or not finite; words twice; thresholds that do not fit.

    Example:
        >>> import torch
        >>> import tokenrank as tr
        >>> values = torch.tensor([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.4, 0.4]]])
        >>> found = tr.tasks.ConceptMaps(values, ("cat", "mat"))
        >>> found
        ConceptMaps(cat, mat; 2 × 2 patches)
        >>> found.labels().tolist()
        [[1, 0], [2, 2]]
    """

    values: Tensor
    words: tuple[str, ...]
    picture: Image | None = None
    caption: str = ""
    padding_mass: Mapping[str, float] = field(default_factory=dict)
    certificate: Certificate | None = None
    cut: Cut = "mean"
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.values).detach().float().cpu()
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "words", tuple(map(str, self.words)))
        object.__setattr__(self, "padding_mass", dict(self.padding_mass))
        if values.ndim != 3 or not values.numel() or len(values) != len(self.words):
            raise InputError(
                f"values have shape {tuple(values.shape)} for {len(self.words)} words, expected (words, rows, columns)"
            )
        if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
            raise InputError("values of concept maps are negative or no numbers, expected finite ones ≥ 0")
        if len(set(self.words)) < len(self.words):
            raise InputError(f"words = {self.words} names a word twice, expected each once")
        if self.cut not in CUTS:
            raise InputError(f"cut = {self.cut!r}, expected one of {', '.join(map(repr, CUTS))}")
        wanted = len(self.words) if self.cut == "ncut" else None
        if (None if self.thresholds is None else len(self.thresholds)) != wanted:
            raise InputError(f"thresholds = {self.thresholds!r} with cut = {self.cut!r}: expected one a word of 'ncut'")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches."""
        return self.values.shape[1], self.values.shape[2]

    def map(self, word: str) -> TokenMap:
        """The map of one word: (P,) values over the patches, row by row.

        Raises:
            NotFoundError: no such word.
        """
        place = self._place(word)
        rows, columns = self.grid
        layout = TokenLayout({"image": rows * columns}, {"image": self.grid})
        caption = ", ".join(filter(None, [self.caption, f"word {word!r}"]))
        return TokenMap(self.values[place].flatten(), layout, None, self.picture, caption)

    def upsample(self, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
        """The maps at a picture's resolution: (W, height, width) for ``size`` = (height, width)."""
        options = {} if mode in ("nearest", "area") else {"align_corners": False}
        return F.interpolate(self.values[None], size, mode=mode, **options)[0]

    def inside(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """What each word may claim, by the cut: bool (W, rows, columns), or (W, height, width)."""
        values = self.values if size is None else self.upsample(size)
        if self.thresholds is not None:
            return (values > torch.tensor(self.thresholds)[:, None, None]).numpy()
        return foreground(values.double().numpy(), "mean" if self.cut == "mean" else None, axes=2)

    def labels(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """The word of every patch, int64 (rows, columns): 1 + its place in ``words``, 0 where no word claims it.

        Args:
            size: (height, width) in pixels instead of patches.

        Where several words claim a patch, the one with the largest value has it.
        """
        values = (self.values if size is None else self.upsample(size)).double().numpy()
        claimed = self.inside(size)
        best = np.where(claimed, values, -np.inf).argmax(0)
        return np.where(claimed.any(0), best + 1, 0)

    def segmentation(self, strengths: Sequence[float] | None = None) -> Segmentation:
        """``labels`` of the picture's pixels, or of the patches where it is not known, with the maps as scores.

        Args:
            strengths: of each word; see ``tokenrank.tasks.strengths``.
        """
        size = self.grid if self.picture is None else (self.picture.height, self.picture.width)
        return Segmentation(
            self.labels(size),
            ("background", *self.words),
            self.upsample(size).numpy(),
            self.picture,
            self.caption,
            None if strengths is None else tuple(strengths),
        )

    def save(self, path: str | Path) -> Path:
        """Write the values as .npy, or all maps side by side as .png, .svg or .pdf; whole or not at all.

        Raises:
            InputError: another ending, or a file that cannot be written.
        """
        path, buffer = Path(path), io.BytesIO()
        if path.suffix == ".npy":
            np.save(buffer, self.values.numpy())
        elif path.suffix in (".png", ".svg", ".pdf"):
            self.figure().savefig(buffer, format=path.suffix[1:], dpi=300)
        else:
            raise InputError(f"cannot write {path.name!r}: expected .png, .svg, .pdf or .npy")
        save_whole(path, buffer.getvalue())
        return path

    def figure(self) -> Figure:
        """The maps as a matplotlib figure, one panel a word, over the picture where it is known."""
        from ...chain.shown_figure import ShownFigure

        count, across = len(self.words), min(len(self.words), ACROSS)
        down = -(-count // across)
        shown = ShownFigure(figsize=(2.2 * across, 2.5 * down), layout="constrained")
        for place, word in enumerate(self.words):
            axes = shown.add_subplot(down, across, place + 1)
            axes.set_title(escaped(word, 40), fontsize=8, parse_math=False)
            axes.set_axis_off()
            if self.picture is None:
                axes.imshow(self.values[place].numpy(), cmap="magma")
            else:
                axes.imshow(self.map(word).overlay())
        return shown

    def __repr__(self) -> str:
        named = ", ".join(escaped(word, 24) for word in self.words[:6]) + (" …" if len(self.words) > 6 else "")
        return f"ConceptMaps({named}; {self.grid[0]} × {self.grid[1]} patches)"

    def _repr_html_(self) -> str:
        singles = [self.map(word) for word in self.words]
        cells = [figure(seen(singles[0]), "")] if self.picture is not None else []
        cells += [figure(small(single), word) for single, word in zip(singles, self.words, strict=True)]
        told = "" if self.certificate is None else f"{self.certificate}"
        return panel(
            f"Concept maps of {self.grid[0]} × {self.grid[1]} patches", board(cells), note(self.caption), note(told)
        )

    def _place(self, word: str) -> int:
        if word not in self.words:
            raise NotFoundError(f"no map of {word!r}; {nearest(word, self.words)}")
        return self.words.index(word)

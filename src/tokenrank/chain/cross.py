"""Cross-attention as it is: a rectangular matrix from the tokens of one sequence to those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ChainError, LayoutError
from ..html import colour_bar, image, note, panel
from ..layout import TokenLayout
from ..markov.words import number_words
from ..operators import checks
from .drawing import ramp
from .heat import as_image, coloured, ends_of, shares

ROWS, COLUMNS = 64, 640  # that a notebook shows


@dataclass(frozen=True, eq=False, repr=False)
class CrossAttention:
    """C[..., i, j], the probability of going from query i of one sequence to key j of another; rows sum to one.

    It is no Markov chain; ``tr.bipartite(chain, cross)`` makes one of it, and its rows can be where a walk on the
    keys' own chain begins: ``chain.bounce(cross.weights)``.

    Args:
        weights: (*batch, R, C).
        rows: which token is what among the queries; None where that is not known.
        columns: the same of the keys.
        caption: where it comes from, in words.

    Raises:
        ChainError: fewer than two dimensions, rows that do not sum to one, negative entries, NaN.
        LayoutError: a layout of another number of tokens.

    Example:
        >>> import torch
        >>> import tokenrank as tr
        >>> words, frames = tr.TokenLayout.text(["a", "cat"]), tr.TokenLayout.audio(3, 0.02)
        >>> cross = tr.CrossAttention(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]), words, frames)
        >>> cross.turned().weights  # from each frame to the words
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """

    weights: Tensor
    rows: TokenLayout | None = None
    columns: TokenLayout | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        given = self.weights if isinstance(self.weights, Tensor) else torch.as_tensor(np.asarray(self.weights))
        if given.ndim < 2:
            raise ChainError(f"weights have shape {tuple(given.shape)}, expected (…, rows, columns)")
        object.__setattr__(self, "weights", checks.distributions(given.detach()))
        for name, layout, count in (("rows", self.rows, given.shape[-2]), ("columns", self.columns, given.shape[-1])):
            if layout is not None and layout.num_tokens != count:
                raise LayoutError(
                    f"the layout of the {name} has {layout.num_tokens} tokens ({layout}), the cross-attention {count}; "
                    "give spans that cover them"
                )

    @property
    def shape(self) -> torch.Size:
        """(*batch, R, C)."""
        return self.weights.shape

    def aggregate(self, weights: Literal["uniform"] | Sequence[float] | Tensor = "uniform") -> CrossAttention:
        """The last leading dimension (heads) mixed: Σ w C, w divided by its sum, in float64.

        Args:
            weights: "uniform", or one number ≥ 0 a head. A rectangular matrix has no |λ2|.

        Raises:
            ChainError: no leading dimension, or weights that do not fit it, negative or all zero.
        """
        heads = self.shape[-3] if self.weights.ndim > 2 else 0
        if not heads:
            raise ChainError(f"cross-attention of shape {tuple(self.shape)} has no heads to mix; it is one already")
        share = _shares(weights, heads)
        if share.shape != (heads,) or not bool((share >= 0).all()) or not 0 < float(share.sum()) < float("inf"):
            raise ChainError(
                f"weights of shape {tuple(share.shape)}, expected {heads} numbers ≥ 0, one a head, not all 0"
            )
        mixed = torch.einsum("h,...hrc->...rc", (share / share.sum()).to(self.weights.device), self.weights.double())
        return replace(self, weights=mixed)

    def restrict(
        self, rows: Sequence[int] | str | None = None, columns: Sequence[int] | str | None = None
    ) -> CrossAttention:
        """On some rows and columns (increasing indices, or the name of a span), rows divided by what is left of them.

        Raises:
            ChainError: a row that has nothing left. LayoutError, NotFoundError: no such span.
        """
        over, down = _kept(columns, self.columns, self.shape[-1]), _kept(rows, self.rows, self.shape[-2])
        left = self.weights.double()[..., down, :][..., over]
        sums = left.sum(-1, keepdim=True)
        if not bool((sums > 0).all()):
            place = int((sums[..., 0] <= 0).nonzero()[0][-1])
            raise ChainError(
                f"row {down[place]} has no weight on the {len(over)} columns that stay; keep others, or drop it"
            )
        down_layout = None if self.rows is None else self.rows.select(down)
        over_layout = None if self.columns is None else self.columns.select(over)
        return CrossAttention(left / sums, down_layout, over_layout, self.caption)

    def turned(self) -> CrossAttention:
        """From the keys to the queries: B[j, i] = C[i, j] / Σ_k C[k, j], in float64.

        The columns divided by their sums, as in backward attention ("Attention (as Discrete-Time Markov) Chains",
        NeurIPS 2025); transposing alone gives rows that do not sum to one.

        Raises:
            ChainError: a column that no row attends to.
        """
        sums = self.weights.double().sum(-2)
        if not bool((sums > 0).all()):
            place = int((~(sums > 0)).nonzero()[0][-1])
            raise ChainError(
                f"column {place} is attended to by no row, so that nothing says where it goes back to; drop such "
                "columns with restrict(columns=…)"
            )
        return CrossAttention(self.weights.double().mT / sums[..., None], self.columns, self.rows, self.caption)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> CrossAttention:
        """Index the leading dimensions (batch, heads), never the tokens."""
        count = len(index) if isinstance(index, tuple) else 1
        if count > self.weights.ndim - 2:
            raise ChainError(f"{count} indices for leading dimensions {tuple(self.shape[:-2])}, expected fewer")
        return replace(self, weights=self.weights[index])

    def _repr_html_(self) -> str:
        shown = self.weights.detach().double().cpu()
        mean = shown.mean(tuple(range(shown.ndim - 2))) if shown.ndim > 2 else shown
        low, high = ends_of(mean.numpy())
        rgb = as_image(coloured(shares(mean[:ROWS, :COLUMNS].numpy(), (low, high))))
        width, height = max(180, min(640, rgb.width * 8)), min(480, max(24, rgb.height * 14))
        strings = () if self.rows is None or self.rows.tokens is None else self.rows.tokens
        rows = "rows: " + " ".join(strings[:ROWS]) if any(strings) else ""
        cut = f"first {ROWS} × {COLUMNS} of it" if max(mean.shape[-2] / ROWS, mean.shape[-1] / COLUMNS) > 1 else ""
        heads = f"mean of {' × '.join(map(str, self.shape[:-2]))} heads" if self.shape[:-2] else ""
        return panel(
            f"CrossAttention of {' × '.join(map(str, self.shape))}",
            image(rgb.resize((width, height), Image.Resampling.NEAREST), "cross-attention", width),
            colour_bar(ramp(), number_words(low), number_words(high), width),
            note(f"from {_side(self.rows)} (down) to {_side(self.columns)} (across)"),
            note(rows),
            note("; ".join(filter(None, [heads, cut, self.caption]))),
        )

    def __repr__(self) -> str:
        sides = " → ".join("tokens" if side is None else str(side) for side in (self.rows, self.columns))
        return f"CrossAttention(shape={tuple(self.shape)}, {sides}{'; ' + self.caption if self.caption else ''})"


def _side(layout: TokenLayout | None) -> str:
    return "tokens" if layout is None else str(layout)


def _shares(weights: Literal["uniform"] | Sequence[float] | Tensor, heads: int) -> Tensor:
    if isinstance(weights, str) and weights == "uniform":
        return torch.ones(heads, dtype=torch.float64)
    try:
        return torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ChainError(f"weights = {weights!r}, expected 'uniform' or {heads} numbers, one a head") from None


def _kept(keep: Sequence[int] | str | None, layout: TokenLayout | None, count: int) -> list[int]:
    if keep is None:
        return list(range(count))
    if isinstance(keep, str):
        if layout is None:
            raise LayoutError(f"span {keep!r}, but it is unknown which token is what; give indices")
        return sorted(layout.indices(keep))
    kept = sorted({int(i) for i in keep})
    if not kept or kept[0] < 0 or kept[-1] >= count:
        raise ChainError(f"tokens {list(keep)[:6]} of {count}, expected indices from 0 to {count - 1}")
    return kept

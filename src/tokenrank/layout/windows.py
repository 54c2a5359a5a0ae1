"""Windows of a picture: which tokens of the whole attend to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .token_layout import TokenLayout

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Where the tokens of an attention within windows stand in the picture.

    Attributes:
        index: (W, n) int64, a permutation of 0 … W·n − 1: index[w, i] is the token of the whole sequence
            at place i of window w.
        layout: of the whole sequence: the picture row by row (span "image"), then the places that were
            added to fill the last windows (span "padding"; the model attends to them).
        shift: (rows, columns) by which the picture was rolled back; None where the model names no shift.
        heads: of the attention, where its records have windows and heads in one dimension.
    """

    index: Tensor
    layout: TokenLayout
    shift: tuple[int, int] | None = None
    heads: int | None = None

"""Weights as whole steps, the step in proportion to the row."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tokenrank.models.packed import MOST, Packed

SMALLEST = float(np.finfo(np.float16).tiny)
"""Below, float16 has fewer digits: 6e-5."""


def quantise(weights: Tensor, share: float) -> Packed:
    """Each weight to its nearest whole step; no weight moves by more than half of one.

    Where codes are Huffman-coded, even steps come within some quarter of a bit of the best that there can be (Gish and
    Pierce, "Asymptotically efficient quantizing", IEEE Transactions on Information Theory 14, 1968): a Gaussian row
    takes 4.05 bits a weight at a step of 0.25, one more for each halving, and Huffman codes a little more than that.

    Args:
        weights: (rows, columns).
        share: the step in root mean squares of its row; larger where a weight would be more than 127 steps, and
            6e-5 at least.
    """
    rows = weights.detach().double().numpy()
    sizes = np.sqrt(np.square(rows).mean(1)), np.abs(rows).max(1) / (MOST + 0.4)
    steps = np.maximum(np.maximum(share * sizes[0], sizes[1]), SMALLEST).astype(np.float16)
    codes = np.rint(rows / steps.astype(np.float64)[:, None])
    return Packed(codes.astype(np.int8), steps)

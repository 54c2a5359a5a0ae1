"""What one attention call leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["sdpa", "multi_head_attention", "flex", "eager", "weights"]


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """One softmax attention call: softmax(scale · q kᵀ + mask), or its weights where q and k are unknown.

    Attributes:
        name: path of the module under the root; "" for the root itself.
        module: class name of that module.
        kind: how it was seen. "sdpa" and "flex" are PyTorch's fused calls,
            "multi_head_attention" is ``torch.nn.MultiheadAttention``, "eager" is attention
            written by hand whose q, k and mask were recovered and verified, "weights" is a
            softmax of which only the result is known.
        index: place among the attention calls of its step; the integer that
            ``capture(layers=…)`` takes.
        step: 0-based count of the root module's forward calls.
        q: (…, H, N, d), detached; None for weights alone.
        k: (…, H or a divisor of it, M, d), detached; None for weights alone.
        scale: factor of the logits, always explicit; 1.0 for weights alone.
        mask: bool (True may attend) or float (added to the logits), broadcastable to
            (…, H, N, M); or None.
        is_causal: query i sees keys 0 … i.
        weights: (…, H, N, M), rows summing to one; None where q and k are given.
    """

    name: str
    module: str
    kind: Kind
    index: int
    step: int
    q: Tensor | None = None
    k: Tensor | None = None
    scale: float = 1.0
    mask: Tensor | None = None
    is_causal: bool = False
    weights: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """(…, H, N, M) of the attention weights."""
        if self.q is None or self.k is None:
            assert self.weights is not None
            return self.weights.shape
        return torch.Size((*self.q.shape[:-1], self.k.shape[-2]))

    @property
    def is_square(self) -> bool:
        """Whether queries and keys are equally many: self-attention without a cache."""
        return self.shape[-1] == self.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes that q, k, mask and weights take; a mask shared by several records counts in each."""
        return sum(t.nbytes for t in (self.q, self.k, self.mask, self.weights) if t is not None)

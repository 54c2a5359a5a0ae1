"""Sizes, words and observations that the tests of models share."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
PICTURE = {"image_size": 32, "patch_size": 8}

WORDS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "the", "cat", "sat", "on", "mat", "##s", "un", "##seen"]


@dataclass
class Seen:
    """What one forward showed: conv2d grids, and the queries of every fused attention."""

    grids: list[tuple[int, int]] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return self.queries[0].shape[-2]

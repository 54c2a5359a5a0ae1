"""The layout of a text from a tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenrank.errors import LayoutError
from tokenrank.models import text_layout

from .cases import WORDS


def test_strings_and_special_tokens(tokenizer: Any) -> None:
    words = [w for w in WORDS if w.isalpha()][:3]
    ids = tokenizer(" ".join(words), padding="max_length", max_length=7, return_tensors="pt").input_ids
    layout = text_layout(tokenizer, ids)
    assert layout.tokens == ("[CLS]", *words, "[SEP]", "[PAD]", "[PAD]")
    assert dict(layout.spans) == {"text": 7}
    assert layout.special == (0, 4, 5, 6)
    assert layout.indices("content") == [1, 2, 3]
    assert text_layout(tokenizer, ids[0]) == text_layout(tokenizer, ids.tolist()) == layout


@pytest.mark.parametrize("ids", [torch.ones(2, 3).long(), torch.ones(1, 1, 3).long(), torch.tensor(3), []], ids=str)
def test_it_takes_one_text(tokenizer: Any, ids: Any) -> None:
    with pytest.raises(LayoutError, match=r"expected (one text|whole numbers)"):
        text_layout(tokenizer, ids)


@pytest.mark.parametrize("ids", [torch.ones(3), torch.ones(3, dtype=torch.bool)], ids=str)
def test_it_takes_whole_numbers(tokenizer: Any, ids: torch.Tensor) -> None:
    with pytest.raises(LayoutError, match=r"input_ids are torch\.\w+, expected whole numbers"):
        text_layout(tokenizer, ids)

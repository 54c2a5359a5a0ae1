"""Where a walk begins: every way to say it, and every way to say it wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenrank import TokenLayout, at
from tokenrank.chain.starts import start_distribution
from tokenrank.errors import ChainError, LayoutError, NotFoundError

N = 6
SINGLE, BATCH = torch.Size((N, N)), torch.Size((2, 3, N, N))


def mass(start: Any, layout: TokenLayout | None = None, shape: torch.Size = SINGLE) -> Tensor:
    found = start_distribution(start, shape, layout)
    assert found.shape == shape[:-1]
    assert found.dtype == torch.float64
    assert torch.allclose(found.sum(-1), torch.ones(shape[:-2], dtype=torch.float64))
    return found


@pytest.mark.parametrize(
    "start",
    [
        2,
        -4,
        np.int64(2),
        torch.tensor(2),
        [2],
        (2,),
        range(2, 3),
        [2, 2],
        torch.tensor([2]),
        np.array([2], dtype=np.uint8),
        torch.arange(N) == 2,
        [False, False, True, False, False, False],
        np.arange(N) == 2,
        [0.0, 0, 1, 0, 0, 0],
        np.eye(N, dtype=np.float32)[2],
        torch.eye(N, dtype=torch.float16)[2],
    ],
    ids=lambda s: f"{type(s).__name__} {s}".replace("\n", " ")[:40],
)
def test_token_two(start: Any) -> None:
    assert mass(start).tolist() == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "start", [[1, 4], [4, 1], [-2, 1], (1, 4), range(1, 5, 3), torch.isin(torch.arange(N), torch.tensor([1, 4]))]
)
def test_several_share(start: Any) -> None:
    assert mass(start).tolist() == [0, 0.5, 0, 0, 0.5, 0]


def test_one_start_for_the_whole_batch() -> None:
    assert (mass(3, shape=BATCH) == torch.eye(N)[3]).all()


def test_a_mask_for_every_chain() -> None:
    mask = torch.zeros(2, 3, N, dtype=torch.bool)
    mask[..., 0] = True
    mask[1, 2, 5] = True
    found = mass(mask, shape=BATCH)
    assert found[0, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert found[1, 2].tolist() == [0.5, 0, 0, 0, 0, 0.5]


def test_a_distribution_for_every_head() -> None:
    given = torch.rand(3, N, dtype=torch.float64)
    given = given / given.sum(-1, keepdim=True)
    assert torch.allclose(mass(given, shape=BATCH), given.expand(2, 3, N))


def test_rounding_of_a_distribution_is_divided_out() -> None:
    assert mass(torch.full((N,), 1 / N, dtype=torch.float32)).sum().item() == pytest.approx(1, abs=1e-15)


# ---- with a layout

VIT = TokenLayout({"cls": 1, "registers": 1, "image": 4}, {"image": (2, 2)})
TEXT = TokenLayout.text(["[CLS]", "a", "token", "##ization", "cat", "[SEP]"])


def test_span() -> None:
    assert mass("image", VIT).tolist() == [0, 0, 0.25, 0.25, 0.25, 0.25]
    assert mass("cls", VIT, BATCH)[1, 2].tolist() == [1, 0, 0, 0, 0, 0]


def test_point() -> None:
    assert mass(at(0.9, 0.1), VIT).tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("cat", [4]),
        ("CAT", [4]),
        ("tokenization", [2, 3]),
        ("a tokenization", [1, 2, 3]),
        ("[SEP]", [5]),
        ("##ization", [3]),
        ("text", [0, 1, 2, 3, 4, 5]),  # a span's name goes before
    ],
)
def test_words(word: str, tokens: list[int]) -> None:
    assert mass(word, TEXT).nonzero()[:, 0].tolist() == tokens


@pytest.mark.parametrize(
    ("tokens", "word", "expected"),
    [
        (["Ġthe", "Ġcat", "s", "Ġsat", ".", "Ċ"], "cats", [1, 2]),
        (["Ġthe", "Ġcat", "s", "Ġsat", ".", "Ċ"], " sat", [3]),
        (["▁the", "▁cat", "s", "▁sat", ".", "</s>"], "cats", [1, 2]),
        (["the</w>", "cat", "s</w>", "sat</w>", ".</w>", "<end>"], "cats", [1, 2]),
        (["", "cat", "", "s", "", ""], "cat", [1]),
    ],
)
def test_words_of_other_tokenizers(tokens: list[str], word: str, expected: list[int]) -> None:
    assert mass(word, TokenLayout.text(tokens)).nonzero()[:, 0].tolist() == expected


def test_a_repeated_word_is_ambiguous() -> None:
    layout = TokenLayout.text(["the", "cat", "and", "the", "the", "dog"])
    with pytest.raises(LayoutError, match="word 'the' occurs 3 times, at tokens 0, 3, 4; start from one"):
        mass("the", layout)


def test_an_unknown_word_names_the_near_ones() -> None:
    with pytest.raises(NotFoundError, match="no word 'cart' among the tokens; nearest: 'cat'"):
        mass("cart", TEXT)


@pytest.mark.parametrize("word", ["", " ", "##"])
def test_a_word_without_letters(word: str) -> None:
    with pytest.raises(NotFoundError, match="no word"):
        mass(word, TEXT)


def test_an_unknown_span() -> None:
    with pytest.raises(NotFoundError, match="no span 'images' in this layout; nearest: 'image'"):
        mass("images", VIT)


@pytest.mark.parametrize("start", ["cls", at(0.5, 0.5)])
def test_no_layout(start: Any) -> None:
    with pytest.raises(LayoutError, match="this chain has no layout; pass layout="):
        mass(start)


def test_a_point_without_a_picture() -> None:
    with pytest.raises(LayoutError, match="no span has a grid"):
        mass(at(0.5, 0.5), TEXT)


# ---- wrong


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (6, "token 6 of a chain of 6 tokens, expected an index from -6 to 5"),
        (-7, "token -7 of a chain of 6 tokens"),
        ([0, 9], "token 9 "),
        (torch.tensor([0, -8]), "token -8 "),
        ([], "no token"),
        (torch.zeros(0, dtype=torch.long), "no token"),
        (torch.zeros(N, dtype=torch.bool), "mask selects no token"),
        ([True, False], r"shape \(2,\), expected \(…, 6\)"),
        (True, r"shape \(\), expected \(…, 6\)"),
        (0.5, r"shape \(\), expected \(…, 6\)"),
        ([0.5, 0.5], r"shape \(2,\), expected \(…, 6\): one entry a token"),
        ([1.0, 1, 0, 0, 0, 0], "sum to 2, expected a distribution"),
        ([2.0, -1, 0, 0, 0, 0], "go from -1 to 2 and sum to 1, expected a distribution"),
        ([float("nan"), 1, 0, 0, 0, 0], "nan"),
        (torch.full((4, N), 1 / N), r"leading dimensions \(4,\), expected ones that broadcast to \(\)"),
        (["cls", "image"], "expected a token index"),
        (None, "expected a token index"),
        ([[0], [1, 2]], "expected a token index"),
        (torch.ones(N, dtype=torch.complex64) / N, "expected a token index"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:30],
)
def test_wrong_starts(start: Any, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        mass(start)


def test_one_empty_mask_in_a_batch() -> None:
    mask = torch.ones(2, 3, N, dtype=torch.bool)
    mask[1, 1] = False
    with pytest.raises(ChainError, match="selects no token"):
        mass(mask, shape=BATCH)

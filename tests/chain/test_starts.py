"""Where a walk begins: every way to say it, and every way to say it wrongly."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank import AttentionChain, TokenLayout, at
from tokenrank.chain.starts import start_distribution, token_set
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
        {2: 1},
        {2: 0.25},
        {2: 7, 0: 0},
        {np.int64(-4): np.float32(3)},
        [0.0, 0, 7, 0, 0, 0],
        torch.tensor([0.0, 0, 1e-300, 0, 0, 0], dtype=torch.float64),
        np.array([0, 0, 1, 0, 0, 0], dtype=np.float32),
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
    with pytest.raises(LayoutError, match="word 'the' occurs 3 times, at tokens 0, 3, 4; give one"):
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
        (torch.zeros(N, dtype=torch.bool), "mask given as start selects no token"),
        ([True, False], r"shape \(2,\), expected \(…, 6\)"),
        (True, "start = True is neither a token nor weights, expected a token index"),
        (0.5, "start = 0.5 is neither a token nor weights, expected a token index"),
        (np.bool_(False), "start = False is neither"),
        (torch.tensor(1.5), "start = 1.5 is neither"),
        (1j, "start = 1j, expected a token index"),
        ([0.5, 0.5], r"shape \(2,\), expected \(…, 6\): one entry a token"),
        ([2.0, -1, 0, 0, 0, 0], "weight -1 of token 1 in start, expected finite weights ≥ 0"),
        ([float("nan"), 1, 0, 0, 0, 0], "weight nan of token 0"),
        ([0.0, 1, 0, 0, 0, float("inf")], "weight inf of token 5"),
        (torch.zeros(N), "all weights of start are zero"),
        ({}, "names no token"),
        ({0: 0.0, 3: 0}, "all weights of start are zero"),
        ({0: 1.0, 3: -2}, "weight -2 of 3 in start, expected a finite number ≥ 0"),
        ({0: 1.0, 3: float("nan")}, "weight nan of 3"),
        ({0: "much"}, "weight 'much' of 0"),
        ({6: 1.0}, "token 6 of a chain of 6 tokens"),
        ({0.5: 1.0}, "key 0.5 of start, expected a token index"),
        ({True: 1.0}, "key of start = True is neither a token nor weights"),
        ({0: 1, -6: 2}, "start names token 0 twice, as 0 and -6, expected each once"),
        ({(0, 1): 1, (1, 0): 2}, r"start names the same 2 tokens twice, as \(0, 1\) and \(1, 0\)"),
        (torch.full((4, N), 1 / N), r"leading dimensions \(4,\), expected ones that broadcast to \(\)"),
        ([0, "image"], "expected a token index"),
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


# ---- weights, as networkx takes them


def pagerank(a: np.ndarray, alpha: float, weights: np.ndarray) -> np.ndarray:
    jump = weights / weights.sum()
    return np.linalg.solve(np.eye(len(a)) - alpha * a.T, (1 - alpha) * jump)


@pytest.mark.parametrize(
    ("personalization", "weights"),
    [
        ([0.0, 0.0, 1.0], [0, 0, 1]),
        ([2.0, 2.0, 2.0], [1, 1, 1]),
        (np.array([0, 3, 1], dtype=np.float32), [0, 3, 1]),
        (torch.tensor([0, 3, 1], dtype=torch.float16), [0, 3, 1]),
        ([1e308, 1e308, 0.0], [1, 1, 0]),  # their sum is no double
        ([5e-324, 0.0, 0.0], [1, 0, 0]),
        ({2: 1}, [0, 0, 1]),
        ({0: 1, 1: 1, 2: 1}, [1, 1, 1]),
        ({0: 1, 1: 2}, [1, 2, 0]),
        ({0: 1e308, -2: 1e308}, [1, 1, 0]),
        ({(0, 1): 2, 0: 2}, [3, 1, 0]),  # places that overlap: added
        ({"on": 1, "cat": 3}, [3, 1, 0]),
        ({(0, 1): 2, 2: 1}, [1, 1, 1]),
        (torch.tensor([False, True, True]), [0, 1, 1]),
        ([1, 2], [0, 1, 1]),
    ],
)
def test_personalization_is_that_of_pagerank(personalization: Any, weights: list[float]) -> None:
    a = np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])
    chain = AttentionChain(torch.from_numpy(a), TokenLayout.text(["cat", "on", "mat"]))
    expected = torch.from_numpy(pagerank(a, 0.85, np.array(weights, dtype=float)))
    found = chain.tokenrank(0.85, personalization=personalization, tol=1e-12).values
    assert torch.allclose(found, expected, atol=1e-11, rtol=0)
    jump = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    assert torch.allclose(chain.bounce(personalization, 0).values, jump, atol=1e-15, rtol=0)
    teleported = chain.teleport(0.85, personalization).to_dense()
    assert torch.allclose(teleported, 0.85 * torch.from_numpy(a) + 0.15 * jump, atol=1e-15, rtol=0)


@settings(max_examples=200)
@given(
    st.lists(st.floats(0, 1e308, allow_subnormal=True), min_size=2, max_size=8).filter(any),
    st.sampled_from([torch.float64, torch.float32, torch.float16]),
)
def test_weights_of_any_scale(weights: list[float], dtype: torch.dtype) -> None:
    given = torch.tensor(weights, dtype=torch.float64).clamp(max=float(torch.finfo(dtype).max)).to(dtype)
    n = len(weights)
    if not given.any():
        with pytest.raises(ChainError, match="all weights of start are zero"):
            start_distribution(given, torch.Size((n, n)), None)
        return
    exact = [Fraction(w) for w in given.double().tolist()]
    expected = [float(w / sum(exact)) for w in exact]
    found = start_distribution(given, torch.Size((n, n)), None)
    assert found.tolist() == pytest.approx(expected, rel=1e-14, abs=1e-300)
    named = start_distribution(dict(enumerate(given.double().tolist())), torch.Size((n, n)), None)
    assert torch.allclose(named, found, rtol=1e-14, atol=0)


def test_weights_for_every_head_have_a_scale_of_their_own() -> None:
    given = torch.rand(2, 3, N) * torch.tensor([1e-30, 1, 1e30])[:, None]
    expected = given.double() / given.double().sum(-1, keepdim=True)
    assert torch.allclose(mass(given, shape=BATCH), expected)
    given[1, 1] = 0
    with pytest.raises(ChainError, match="all weights of start are zero"):
        mass(given, shape=BATCH)


def test_places_by_weight() -> None:
    assert mass({"cls": 1, "image": 1}, VIT).tolist() == [0.5, 0, 0.125, 0.125, 0.125, 0.125]
    assert mass({at(0.9, 0.1): 3, "registers": 1}, VIT, BATCH)[1, 2].tolist() == [0, 0.25, 0, 0.75, 0, 0]
    assert mass({"tokenization": 2, "cat": 2}, TEXT).tolist() == [0, 0, 0.25, 0.25, 0.5, 0]
    with pytest.raises(NotFoundError, match="no word 'cart'"):
        mass({"cart": 1}, TEXT)
    with pytest.raises(LayoutError, match="no layout"):
        mass({"cat": 1})


# ---- whole numbers with two readings


@pytest.mark.parametrize(
    ("start", "n", "readings"),
    [
        ([0, 0, 1], 3, [r"\[0, 0, 1\] has 3 whole numbers for 3 tokens", r"as the tokens \[0, 1\]", r"\[0.0, …\]"]),
        ([0, 1, 1], 3, [r"tokens \[0, 1\]", "or as weights", "{0: 1, …}"]),
        ([2, 1, 0], 3, [r"tokens \[0, 1, 2\]", "or as weights"]),  # all tokens, or weights that differ
        ([0, 9, 0], 3, ["tokens of these numbers", "or as weights"]),
        (np.array([1, 1], dtype=np.uint8), 2, [r"tokens \[1\]", "or as weights"]),
        (torch.tensor([0, 1]), 2, [r"tokens \[0, 1\]", "or as weights"]),
        (torch.tensor([[0, 1], [1, 0]]), 2, [r"tokens \[0, 1\]", "or as weights"]),
        ([1] * 40, 40, [r"\[1, 1, 1, 1, 1, 1, … 40 in all\] has 40 whole numbers for 40 tokens"]),
        ([2, 2], 6, ["names token 2 2 times: one token like the others, or one of 2 times", "{2: 2, …}"]),
        ([5, 3, -1, 5], 6, ["names token 5 3 times"]),
    ],
)
def test_two_readings_are_refused(start: Any, n: int, readings: list[str]) -> None:
    for words in readings:
        with pytest.raises(ChainError, match=words):
            start_distribution(start, torch.Size((n, n)), None)


@pytest.mark.parametrize(
    ("start", "n", "expected"),
    [
        ([0], 1, [1]),
        (0, 1, [1]),
        ([-1], 1, [1]),
        ([0.3], 1, [1]),
        ({0: 5}, 1, [1]),
        ([1], 2, [0, 1]),
        ([0.0, 2.0], 2, [0, 1]),
        ([False, True], 2, [0, 1]),
        (range(2), 2, [0.5, 0.5]),  # a range is never weights
        ([2, 0], 3, [0.5, 0, 0.5]),
        (np.array([-1, 0], dtype=np.int8), 3, [0.5, 0, 0.5]),
    ],
)
def test_one_reading_is_taken(start: Any, n: int, expected: list[float]) -> None:
    assert start_distribution(start, torch.Size((n, n)), None).tolist() == expected


def test_one_token_is_no_weight() -> None:
    with pytest.raises(ChainError, match="token 1 of a chain of 1 tokens"):
        start_distribution([1], torch.Size((1, 1)), None)


# ---- sets of tokens


@pytest.mark.parametrize("tokens", [[0, 1, 2], [2, 0, 1], torch.arange(3), range(3), [True] * 3, "text", [0.1, 2.0, 1]])
def test_all_tokens_are_a_set(tokens: Any) -> None:
    assert token_set(tokens, 3, TokenLayout.text(["a", "b", "c"])).tolist() == [True] * 3


@pytest.mark.parametrize(("tokens", "n"), [([0, 0, 1], 3), ([1, 1], 2), ([3, -1], 4), (torch.tensor([0, 1, 1, 0]), 4)])
def test_a_set_names_a_token_once(tokens: Any, n: int) -> None:
    with pytest.raises(ChainError, match="times, expected each index once; a mask of zeros and ones is given as bool"):
        token_set(tokens, n, None)
    chain = AttentionChain(torch.full((n, n), 1 / n, dtype=torch.float64))
    asked = chain.restrict, chain.hitting_times, chain.absorption, chain.quasi_stationary, chain.mean_first_passage
    for ask in asked:
        with pytest.raises(ChainError, match="expected each index once"):
            ask(tokens)


def test_a_set_has_no_weights() -> None:
    with pytest.raises(ChainError, match="expected a set of tokens: leave the weights out"):
        token_set({0: 1.0}, 3, None)  # type: ignore[arg-type]


# ---- several places


def test_several_places_share_evenly() -> None:
    assert mass(["cls", "registers"], VIT).tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert mass(("cls", "image"), VIT, BATCH)[1, 2].tolist() == [0.2, 0, 0.2, 0.2, 0.2, 0.2]
    assert mass(["cls", at(0.9, 0.1)], VIT).tolist() == [0.5, 0, 0, 0.5, 0, 0]
    assert mass(np.array(["tokenization", "cat"]), TEXT).tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert mass({("cls", "registers"): 1, "image": 1}, VIT).tolist() == [0.25, 0.25, *[0.125] * 4]


def test_several_places_are_one_set() -> None:
    chain = AttentionChain(torch.rand(N, N, dtype=torch.float64).softmax(-1), VIT)
    assert token_set(["cls", "registers"], N, VIT).tolist() == [True, True, *[False] * 4]
    assert torch.equal(chain.hitting_times(["cls", "registers"]).values, chain.hitting_times([0, 1]).values)
    assert torch.equal(chain.absorption(["cls", "registers"]).values, chain.absorption([0, 1]).values)
    named = chain.absorption({"special": ["cls", "registers"], "picture": "image"}).values
    assert torch.equal(named, chain.absorption({"a": [0, 1], "b": range(2, N)}).values)
    assert torch.equal(chain.restrict(["registers", "image"]).to_dense(), chain.restrict(range(1, N)).to_dense())


@pytest.mark.parametrize("places", [["image", "image"], ["image", at(0.1, 0.1)]])
def test_several_places_name_a_token_once(places: Any) -> None:
    for read in (mass, lambda given, layout: token_set(given, N, layout)):
        with pytest.raises(ChainError, match=r"names token 2 twice, in 'image' and in .*, expected each token once"):
            read(places, VIT)


def test_an_unknown_place_among_several() -> None:
    with pytest.raises(NotFoundError, match="no span 'register' in this layout; nearest: 'registers'"):
        mass(["cls", "register"], VIT)


# ---- errors call an argument by its name


ASKED: dict[str, Callable[[AttentionChain, Any], object]] = {
    "start": lambda chain, given: chain.bounce(given),
    "personalization": lambda chain, given: chain.tokenrank(personalization=given),
    "targets": lambda chain, given: chain.hitting_times(given),
    "drop": lambda chain, given: chain.quasi_stationary(given),
    "tokens": lambda chain, given: chain.restrict(given),
}
OTHERS: list[tuple[str, Callable[[AttentionChain, Any], object]]] = [
    ("start", lambda chain, given: chain.half_life(given)),
    ("personalization", lambda chain, given: chain.teleport(0.9, given)),
    ("targets", lambda chain, given: chain.absorption(given)),
    (r"targets\['a'\]", lambda chain, given: chain.absorption({"a": given})),
    ("tokens", lambda chain, given: chain.mean_first_passage(given)),
]


@pytest.mark.parametrize(("name", "ask"), [*ASKED.items(), *OTHERS])
def test_an_argument_is_called_by_its_name(name: str, ask: Callable[[AttentionChain, Any], object]) -> None:
    plain = AttentionChain(torch.full((N, N), 1 / N, dtype=torch.float64))
    weights = name in ("start", "personalization")
    wrong: list[tuple[Any, str]] = [
        (torch.zeros(N, dtype=torch.bool), f"the mask given as {name} selects no token"),
        ([True, False], rf"{name} has shape \(2,\)"),
        (0.5, f"{name} = 0.5 is neither a token nor weights"),
        ([1j, 0], rf"{name} = \[1j, 0\], expected a token index"),
        ([], f"no tokens given as {name}"),
        ([2, 2], rf"{name} = \[2, 2\] names token 2 2 times"),
    ]
    for asked, message in wrong:
        with pytest.raises(ChainError, match=f"^{message}") as error:
            ask(plain, asked)
        if "neither" in message:
            assert ("float weights" in str(error.value)) == weights
    with pytest.raises(LayoutError, match=f"^{name} = 'image' needs to know which token is what"):
        ask(plain, ["image"])


def test_no_tokens_at_all() -> None:
    chain = AttentionChain(torch.full((N, N), 1 / N, dtype=torch.float64))
    with pytest.raises(ChainError, match=r"^targets = None, expected a token index") as error:
        chain.hitting_times(None)  # type: ignore[arg-type]
    assert "weights" not in str(error.value)
    with pytest.raises(ChainError, match=r"^start = None, expected a token index.*float weights"):
        chain.half_life(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", [{0: 1}, {5: 1.0}, {"a": 0, 3: [1]}, {None: 2}])
def test_names_of_targets_are_strings(targets: Any) -> None:
    chain = AttentionChain(torch.full((N, N), 1 / N, dtype=torch.float64))
    with pytest.raises(ChainError, match=r"has a name that is no string, expected \{name: tokens\}.*no weights"):
        chain.absorption(targets)


def test_what_was_given_is_shown_in_short() -> None:
    n = 384
    shape = torch.Size((n, n))
    for shown in (torch.ones(n, dtype=torch.complex64), np.ones(n, dtype=np.complex64)):
        with pytest.raises(ChainError, match=r"start = \[\(1\+0j\), .*…\] \(shape \(384,\), .*complex64\)") as error:
            start_distribution(shown, shape, None)
        assert len(str(error.value)) < 400
    for shown in ([1j] * n, [[0], *[[1, 2]] * n], dict.fromkeys(range(n), "x" * n)):
        for read in (start_distribution, lambda given, shape, layout: token_set(given, n, layout)):
            with pytest.raises(ChainError) as error:
                read(shown, shape, None)
            assert len(str(error.value)) < 400

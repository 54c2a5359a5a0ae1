"""AttentionChain: what people hold."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.markov import oracles as exact
from tests.operators import oracles
from tokenrank import AttentionChain, TokenLayout
from tokenrank.errors import ChainError, LayoutError, NotConvergedWarning, NotFoundError
from tokenrank.operators import Dense, QueryKey

BATCH, N = (2, 3), 8
VIT = TokenLayout({"cls": 1, "registers": 1, "image": 6}, {"image": (2, 3)})
TEXT = TokenLayout.text(["[CLS]", "a", "cat", "sat", "here", "by", "the", "[SEP]"])


def weights(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*batch, N, N, dtype=torch.float64).mul(2).softmax(-1).to(dtype)


@pytest.fixture
def chain() -> AttentionChain:
    return AttentionChain(weights(*BATCH), VIT)


@pytest.fixture
def one() -> AttentionChain:
    return AttentionChain(weights(dtype=torch.float64), VIT)


def pagerank(dense: Tensor, alpha: float = 0.99) -> Tensor:
    flat = dense.double().reshape(-1, *dense.shape[-2:]).numpy()
    return torch.from_numpy(np.stack([exact.pagerank(a, alpha) for a in flat])).reshape(dense.shape[:-1])


# ---- made from


def test_from_weights() -> None:
    a = weights(*BATCH)
    chain = AttentionChain(a)
    assert chain.shape == (2, 3, 8, 8)
    assert chain.batch == (2, 3)
    assert chain.num_tokens == 8
    assert chain.dtype == torch.float32
    assert chain.device == a.device
    assert chain.layout is None
    assert not chain.is_causal
    assert torch.allclose(chain.to_dense(), a, atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        [[0.5, 0.5], [0.25, 0.75]],
        np.array([[0.5, 0.5], [0.25, 0.75]]),
        np.array([[0.5, 0.5], [0.25, 0.75]], dtype=np.float16),
        np.asfortranarray([[0.5, 0.5], [0.25, 0.75]]),
        torch.tensor([[0.5, 0.5], [0.25, 0.75]], requires_grad=True),
        torch.tensor([[0.5, 0.25], [0.5, 0.75]]).mT,
        torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.bfloat16),
    ],
    ids=["list", "float64 array", "float16 array", "Fortran order", "with gradient", "a view", "bfloat16"],
)
def test_weights_of_any_kind(given: Any) -> None:
    chain = AttentionChain(given)
    assert chain.to_dense().tolist() == [[0.5, 0.5], [0.25, 0.75]]
    assert not chain.to_dense().requires_grad
    assert chain.dtype in (torch.float32, torch.float64)


def test_a_read_only_array() -> None:
    """As JAX and memory maps hand them over: no warning, and nothing written to it."""
    given = weights().numpy()
    given.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttentionChain(given)


def test_the_weights_given_are_not_changed() -> None:
    given = torch.full((4, 4), 0.2499, dtype=torch.float16)
    AttentionChain(given).tokenrank()
    assert (given == torch.full((4, 4), 0.2499, dtype=torch.float16)).all()


@pytest.mark.parametrize("given", ["weights", None, {"a": 1}, [[1.0], [0.5, 0.5]], np.array([["a"]])])
def test_what_is_no_array(given: Any) -> None:
    with pytest.raises(ChainError, match="is no tensor or array of numbers"):
        AttentionChain(given)


def test_from_queries_and_keys() -> None:
    q, k = torch.randn(2, *BATCH, N, 4)
    chain = AttentionChain.from_qk(q, k)
    assert isinstance(chain.operator, QueryKey)
    assert chain.shape == (2, 3, 8, 8)
    assert torch.allclose(chain.to_dense().double(), oracles.attention(q, k), atol=1e-6)
    options = {"scale": 0.7, "mask": torch.arange(N) < 6, "is_causal": True}
    expected = oracles.attention(q, k, **options)
    found = AttentionChain.from_qk(q.numpy(), k.numpy(), **options | {"mask": options["mask"].numpy()})
    assert found.is_causal
    assert torch.allclose(found.to_dense().double(), expected, atol=1e-6)


def test_from_scores() -> None:
    scores = torch.randn(*BATCH, N, N)
    assert torch.allclose(AttentionChain.from_scores(scores).to_dense(), scores.softmax(-1), atol=1e-6)
    assert torch.allclose(AttentionChain.from_scores(scores.numpy()).to_dense(), scores.softmax(-1), atol=1e-6)


def test_weights_scores_and_queries_agree() -> None:
    q, k = torch.randn(2, *BATCH, N, 4, dtype=torch.float64)
    three = [
        AttentionChain.from_qk(q, k),
        AttentionChain.from_scores(q @ k.mT / 2),
        AttentionChain((q @ k.mT / 2).softmax(-1)),
    ]
    for one in three[1:]:
        assert torch.allclose(one.tokenrank().values, three[0].tokenrank().values, atol=1e-6)
        assert torch.allclose(one.bounce(3, 4).values, three[0].bounce(3, 4).values, atol=1e-12)
        assert torch.allclose(one.lambda2().values, three[0].lambda2().values, atol=1e-10)


def test_a_layout_of_other_size() -> None:
    with pytest.raises(LayoutError, match=r"the layout has 4 tokens \(\{'a': 4\}\), the chain 8"):
        AttentionChain(weights(), TokenLayout({"a": 4}))


def test_repr(chain: AttentionChain) -> None:
    assert repr(chain) == "AttentionChain(shape=(2, 3, 8, 8), Dense, {'cls': 1, 'registers': 1, 'image': 6})"
    assert repr(AttentionChain(torch.eye(2))) == "AttentionChain(shape=(2, 2), Dense, causal)"


# ---- indexing


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(1),
        (1, 2),
        (slice(None), 1),
        (slice(None), slice(1, None)),
        slice(None, None, 2),
        ...,
        (),
        (..., 1),
        (0, ...),
        (0, ..., 1),
        (..., slice(0, 2)),
        [1, 0],
        torch.tensor([1, 0, 1]),
        np.array([1, 0]),
        (slice(None), torch.tensor([2, 0])),
        (..., torch.tensor([True, False, True])),
        (..., np.array([True, False, True])),
        (torch.tensor([1, 0]), torch.tensor([2, 1])),
        torch.tensor([[True, False, True], [False, False, True]]),
        (slice(None), [0, 2]),
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["weights", "queries and keys", "derived"])
def test_indexing(index: Any, kind: str) -> None:
    q, k = torch.randn(2, *BATCH, N, 4)
    chain = AttentionChain.from_qk(q, k, layout=VIT) if kind != "weights" else AttentionChain(weights(*BATCH), VIT)
    if kind == "derived":
        chain = chain.teleport(0.8, torch.rand(*BATCH, N).softmax(-1)).reverse().restrict(range(2, 8))
    entries = index if isinstance(index, tuple) else (index,)
    expected = chain.to_dense()[(*entries, slice(None), slice(None))]
    part = chain[index]
    assert part.shape == expected.shape
    assert part.layout == chain.layout
    assert torch.allclose(part.to_dense(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "index",
    [
        2,
        -3,
        (0, 3),
        (0, 0, 0),
        (..., 0, 0, 0),
        torch.tensor([0, 2]),
        (slice(None), torch.tensor([3])),
        torch.tensor([True, False, True]),
        slice(None, None, -1),
        "encoder.layer.8",
        1.5,
        slice(0, 0),
        (slice(None), torch.tensor([False, False, False])),
    ],
    ids=str,
)
def test_wrong_indices(chain: AttentionChain, index: Any) -> None:
    with pytest.raises(ChainError, match=r"the leading dimensions \(2, 3\)"):
        chain[index]


def test_tokens_are_not_indexed(one: AttentionChain) -> None:
    assert one[...].shape == one[()].shape == (8, 8)
    with pytest.raises(ChainError, match=r"leading dimensions \(\).*tokens are selected with chain.restrict"):
        one[0]


# ---- bounce


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_bounce(chain: AttentionChain, n: int, direction: Any) -> None:
    a = oracles.rows_to_one(chain.to_dense())
    a = oracles.reverse(a) if direction == "backward" else a
    found = chain.bounce(4, n, direction)
    expected = torch.linalg.matrix_power(a, n)[..., 4, :]
    assert found.values.shape == (2, 3, 8)
    assert found.layout == VIT
    assert str(found.certificate).startswith("exact")
    assert (found.values - expected).abs().max() < 1e-5


def test_path(one: AttentionChain) -> None:
    path = one.bounce("image", 3, path=True)
    assert path.values.shape == (4, 8)
    for n in range(4):
        assert torch.allclose(path.values[n], one.bounce("image", n).values)


@pytest.mark.parametrize("start", [3, tr.at(0.5, 0.2), [3], torch.arange(N) == 3, torch.eye(N)[3]])
def test_starts_agree(one: AttentionChain, start: Any) -> None:
    assert torch.equal(one.bounce(start, 2).values, one.bounce(3, 2).values)


def test_start_at_a_word() -> None:
    chain = AttentionChain(weights(), TEXT)
    assert torch.equal(chain.bounce("cat").values, chain.bounce(2).values)
    with pytest.raises(NotFoundError, match="nearest: 'cat'"):
        chain.bounce("cats")


@pytest.mark.parametrize("n", [-1, 1.0, True, "2", None])
def test_wrong_number_of_bounces(one: AttentionChain, n: Any) -> None:
    with pytest.raises(ChainError, match=r"bounces, expected a whole number ≥ 0"):
        one.bounce(0, n)


@pytest.mark.parametrize("call", ["bounce", "tokenrank"])
def test_wrong_direction(one: AttentionChain, call: str) -> None:
    with pytest.raises(ChainError, match="direction = 'up', expected 'forward' or 'backward'"):
        one.bounce(0, direction="up") if call == "bounce" else one.tokenrank(direction="up")  # type: ignore[arg-type]


# ---- tokenrank


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("alpha", [0.5, 0.99])
def test_tokenrank(chain: AttentionChain, direction: Any, alpha: float) -> None:
    a = oracles.rows_to_one(chain.to_dense())
    a = oracles.reverse(a) if direction == "backward" else a
    rank = chain.tokenrank(alpha, direction=direction)
    assert rank.values.shape == (2, 3, 8)
    assert rank.certificate is not None
    assert rank.certificate.converged.shape == (2, 3)
    error = (rank.values - pagerank(a, alpha)).abs().sum(-1)
    assert (error <= 1e-6).all()
    assert (error <= rank.certificate.error_bound).all()


def test_the_values_are_what_the_certificate_is_about() -> None:
    """A float32 chain asked for more than float32 holds."""
    chain = AttentionChain(weights(3))
    rank = chain.tokenrank(tol=1e-10)
    assert rank.certificate is not None
    assert rank.certificate.converged.all()
    error = (rank.values.double() - pagerank(oracles.rows_to_one(chain.to_dense()))).abs().sum(-1)
    assert (error <= rank.certificate.error_bound).all()


def test_personalization(one: AttentionChain) -> None:
    jump = torch.eye(N, dtype=torch.float64)[4]
    expected = exact.linear_solve(one.to_dense().numpy(), 0.8, jump.numpy())
    for start in (4, tr.at(0.8, 0.1), jump):
        assert np.abs(one.tokenrank(0.8, start).values.numpy() - expected).sum() < 1e-6


def test_personalization_of_every_head(chain: AttentionChain) -> None:
    jump = torch.rand(3, N, dtype=torch.float64).softmax(-1)
    rank = chain.tokenrank(0.7, jump).values
    a = oracles.rows_to_one(chain.to_dense())
    for b in range(2):
        for h in range(3):
            expected = exact.pagerank(a[b, h].numpy(), 0.7, jump[h].numpy())
            assert np.abs(rank[b, h].numpy() - expected).sum() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, "alpha = 1.1, expected a probability from 0 to 1"),
        ({"alpha": -0.1}, "alpha = -0.1"),
        ({"alpha": math.nan}, "alpha = nan"),
        ({"tol": 0.0}, "tol = 0.0, expected a positive number"),
        ({"tol": math.nan}, "tol = nan"),
        ({"max_applies": 0}, "max_applies = 0, expected at least 2"),
        ({"max_applies": -5}, "max_applies = -5"),
        ({"personalization": 9}, "token 9 of a chain of 8 tokens"),
        ({"personalization": -torch.ones(8)}, "weight -1 of token 0"),
    ],
)
def test_wrong_options(one: AttentionChain, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        one.tokenrank(**options)


def slow_chain() -> AttentionChain:
    """Two groups of tokens with a leak of 1e-7 between them, uneven in size and in leak."""
    i = torch.arange(N)
    a = torch.rand(3, N, N, dtype=torch.float64) * torch.where((i[:, None] < 3) == (i < 3), 1, 1e-7)
    return AttentionChain(oracles.rows_to_one(a))


def test_not_converged_warns_once_in_words() -> None:
    chain = slow_chain()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank = chain.tokenrank(alpha=1 - 1e-9, tol=1e-16, max_applies=4)  # below what float64 proves
    assert [type(w.message) for w in caught] == [NotConvergedWarning]
    message = str(caught[0].message)
    assert caught[0].filename == __file__
    for part in ("tol = 1e-16", "in 3 of 3 chains", "NOT converged", "raise max_applies", "lower alpha", "loosen tol"):
        assert part in message
    assert rank.certificate is not None
    assert not rank.certificate.converged.any()
    assert "NOT converged" in repr(rank)


def test_converged_does_not_warn(chain: AttentionChain) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain.tokenrank()


def test_tokenrank_is_the_limit_of_bounces(one: AttentionChain) -> None:
    far = one.bounce(0, 500).values
    assert (one.tokenrank(alpha=1.0, tol=1e-10).values - far).abs().sum() < 1e-8


# ---- lambda2


def test_lambda2(chain: AttentionChain) -> None:
    found = chain.lambda2()
    assert found.values.shape == (2, 3)
    a = oracles.rows_to_one(chain.to_dense())
    expected = [[exact.second_modulus(a[b, h].numpy()) for h in range(3)] for b in range(2)]
    assert np.allclose(found.values.numpy(), expected, atol=1e-5)


# ---- other chains


def test_aggregate_uniform(chain: AttentionChain) -> None:
    one = chain.aggregate("uniform")
    assert one.shape == (2, 8, 8)
    assert one.layout == VIT
    assert torch.allclose(one.to_dense(), chain.to_dense().mean(1), atol=1e-6)


@pytest.mark.parametrize("given", [[1, 2, 1], (0.25, 0.5, 0.25), torch.tensor([3.0, 6, 3]), np.array([1, 2, 1])])
def test_aggregate_given(chain: AttentionChain, given: Any) -> None:
    w = torch.tensor([0.25, 0.5, 0.25])
    assert torch.allclose(chain.aggregate(given).to_dense(), oracles.mix(chain.to_dense(), w).float(), atol=1e-6)


def test_aggregate_given_for_every_chain(chain: AttentionChain) -> None:
    w = torch.tensor([[1.0, 0, 0], [1, 1, 2]])
    found = chain.aggregate(w).to_dense()
    assert torch.allclose(found[0], chain.to_dense()[0, 0], atol=1e-6)
    assert torch.allclose(found[1], (chain.to_dense()[1] * torch.tensor([0.25, 0.25, 0.5])[:, None, None]).sum(0))


def test_aggregate_by_lambda2(chain: AttentionChain) -> None:
    w = chain.lambda2().values
    w = w / w.sum(-1, keepdim=True)
    assert torch.allclose(chain.aggregate().to_dense(), oracles.mix(chain.to_dense(), w).float(), atol=1e-6)
    assert torch.allclose(chain.aggregate("lambda2").to_dense(), chain.aggregate().to_dense())


def test_aggregate_by_lambda2_where_all_are_zero() -> None:
    """Rank-one heads: no head is slower than another, so all count the same."""
    a = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[:, None, :].expand(2, 4, 2)
    a = torch.stack([a[0].repeat(1, 2) / 2, a[1].repeat(1, 2) / 2])
    assert torch.allclose(AttentionChain(a).aggregate().to_dense(), a.mean(0))


def test_aggregate_layer_by_layer(chain: AttentionChain) -> None:
    both = chain.aggregate("uniform").aggregate([1, 3])
    assert both.shape == (8, 8)
    expected = oracles.mix(chain.to_dense().mean(1), torch.tensor([0.25, 0.75])).float()
    assert torch.allclose(both.to_dense(), expected, atol=1e-6)


def test_aggregated_answers(chain: AttentionChain) -> None:
    a = oracles.mix(oracles.rows_to_one(chain.to_dense()), torch.full((3,), 1 / 3, dtype=torch.float64))
    one = chain.aggregate("uniform")
    assert (one.tokenrank().values - pagerank(a)).abs().sum(-1).max() < 1e-6
    moduli = [exact.second_modulus(x.numpy()) for x in a]
    assert one.lambda2().values.tolist() == pytest.approx(moduli, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "entropy"}, "weights = 'entropy', expected 'lambda2', 'uniform' or numbers"),
        ({"weights": ["a", "b", "c"]}, "expected 'lambda2', 'uniform' or numbers"),
        ({"weights": None}, "weights = None, expected"),
        ({"weights": [1, 2]}, r"shape \(2,\), expected \(…, 3\): one a head"),
        ({"weights": 1.0}, r"shape \(\), expected"),
        ({"weights": torch.ones(3, 3)}, r"shape \(3, 3\), expected one that broadcasts to \(2, 3\)"),
        ({"weights": torch.ones(1, 2, 3)}, r"shape \(1, 2, 3\)"),
        ({"weights": [1, -1, 1]}, "≥ 0 and not all zero"),
        ({"weights": [0, 0, 0]}, "not all zero"),
        ({"weights": [1, math.nan, 1]}, "finite"),
        ({"weights": torch.tensor([[1.0, 1, 1], [0, 0, 0]])}, "not all zero"),
        ({"over": "layers"}, r"over = 'layers', expected 'heads' or a leading dimension of \(2, 3\)"),
        ({"over": 2}, "over = 2"),
        ({"over": True}, "over = True"),
        ({"over": 0}, "over = 0 is not the last leading dimension"),
    ],
)
def test_wrong_aggregates(chain: AttentionChain, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        chain.aggregate(**options)


def test_a_single_chain_has_nothing_to_aggregate(one: AttentionChain) -> None:
    with pytest.raises(ChainError, match="it is one chain already"):
        one.aggregate()


@pytest.mark.parametrize("over", ["heads", -1, 1])
def test_aggregate_over(chain: AttentionChain, over: Any) -> None:
    assert chain.aggregate("uniform", over).shape == (2, 8, 8)


@pytest.mark.parametrize("kind", ["weights", "queries and keys"])
def test_restrict_to_the_picture(kind: str) -> None:
    q, k = torch.randn(2, *BATCH, N, 4)
    a = oracles.attention(q, k)
    chain = AttentionChain(a.float(), VIT) if kind == "weights" else AttentionChain.from_qk(q, k, layout=VIT)
    image = chain.restrict("image")
    assert image.shape == (2, 3, 6, 6)
    assert image.layout is not None
    assert dict(image.layout.spans) == {"image": 6}
    assert image.layout.grids == {"image": (2, 3)}
    assert torch.allclose(image.to_dense().double(), oracles.restrict(a, torch.arange(2, 8)), atol=1e-6)
    assert image.tokenrank().grid().shape == (2, 3, 2, 3)
    assert torch.equal(image.bounce(tr.at(0.9, 0.9)).values, image.bounce(5).values)


@pytest.mark.parametrize(
    ("tokens", "keep"),
    [
        ([1, 4, 6], [1, 4, 6]),
        ([6, 4, 1], [1, 4, 6]),
        ((-7, -4, -2), [1, 4, 6]),
        (range(1, 5), [1, 2, 3, 4]),
        (torch.tensor([1, 4, 6]), [1, 4, 6]),
        (np.array([6, 1, 4]), [1, 4, 6]),
        ([False, True, False, False, True, False, True, False], [1, 4, 6]),
        (torch.tensor([False, True, False, False, True, False, True, False]), [1, 4, 6]),
        (3, [3]),
        ("registers", [1]),
        (tr.at(0, 0), [2]),
    ],
    ids=lambda t: str(t)[:40],
)
def test_restrict_to_tokens(one: AttentionChain, tokens: Any, keep: list[int]) -> None:
    """In the order of the sequence, however they are named."""
    part = one.restrict(tokens)
    assert torch.allclose(part.to_dense(), oracles.restrict(one.to_dense(), torch.tensor(keep)))
    assert part.layout == VIT.select(keep)


def test_restrict_keeps_words() -> None:
    part = AttentionChain(weights(), TEXT).restrict(range(1, 7))
    assert part.layout is not None
    assert part.layout.tokens == ("a", "cat", "sat", "here", "by", "the")
    assert torch.equal(part.bounce("cat").values, part.bounce(1).values)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "no tokens given"),
        ([0, 8], "token 8 of a chain of 8 tokens"),
        (torch.zeros(N, dtype=torch.bool), "selects no token"),
        (torch.ones(2, 3, N, dtype=torch.bool), "leading dimensions"),
        ([True, False], r"shape \(2,\)"),
    ],
)
def test_wrong_restrictions(chain: AttentionChain, tokens: Any, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        chain.restrict(tokens)


def test_restrict_knows_one_way(chain: AttentionChain) -> None:
    with pytest.raises(ChainError, match="how = 'drop', expected 'renormalise'"):
        chain.restrict("image", how="drop")  # type: ignore[arg-type]


def test_restrict_where_no_probability_stays() -> None:
    a = torch.tensor([[0.0, 0, 1], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    with pytest.raises(ChainError, match="token 0 sends no probability to the tokens kept"):
        AttentionChain(a).restrict([0, 1])


def test_teleport(one: AttentionChain) -> None:
    found = one.teleport(0.6, "image").to_dense()
    jump = torch.tensor([0, 0, *[1 / 6] * 6], dtype=torch.float64)
    assert torch.allclose(found, oracles.teleport(one.to_dense(), 0.6, jump))
    assert torch.allclose(one.teleport().to_dense(), 0.99 * one.to_dense() + 0.01 / N)


def test_teleport_then_tokenrank_without_is_the_same(chain: AttentionChain) -> None:
    there = chain.teleport(0.9).tokenrank(alpha=1.0, tol=1e-9)
    assert (there.values - chain.tokenrank(0.9).values).abs().sum(-1).max() < 2e-6
    assert torch.allclose(chain.teleport(0.9).lambda2().values, 0.9 * chain.lambda2().values, atol=1e-5)


def test_wrong_teleport(one: AttentionChain) -> None:
    with pytest.raises(ChainError, match="alpha = 2, expected a probability"):
        one.teleport(2)


def test_true_is_no_probability(one: AttentionChain) -> None:
    for call in (lambda: one.tokenrank(alpha=True), lambda: one.teleport(True), lambda: one.lazy(False)):
        with pytest.raises(ChainError, match=r"= (True|False), expected a probability"):
            call()
    with pytest.raises(ChainError, match="tol = True, expected a positive number"):
        one.tokenrank(tol=True)


def test_reverse(chain: AttentionChain) -> None:
    back = chain.reverse()
    assert back.layout == VIT
    assert torch.allclose(back.to_dense().double(), oracles.reverse(chain.to_dense().double()), atol=1e-6)
    assert torch.allclose(back.bounce(3, 2).values, chain.bounce(3, 2, "backward").values, atol=1e-6)
    assert torch.allclose(back.tokenrank().values, chain.tokenrank(direction="backward").values, atol=2e-6)


def test_reverse_where_nobody_attends() -> None:
    a = torch.tensor([[0.5, 0.5, 0.0]] * 3)
    chain = AttentionChain(a)
    for call in (chain.reverse, lambda: chain.bounce(0, direction="backward")):
        with pytest.raises(ChainError, match=r"token 2 of the chain is attended to by nobody.*restrict the chain"):
            call()


def test_causal_and_back() -> None:
    q, k = torch.randn(2, 3, N, 4)
    chain = AttentionChain.from_qk(q, k, is_causal=True)
    assert chain.is_causal
    assert chain[1].is_causal
    assert chain.aggregate("uniform").is_causal
    assert chain.restrict([0, 2, 3]).is_causal
    assert not chain.reverse().is_causal
    assert not chain.teleport().is_causal
    assert chain.tokenrank().certificate.method == "substitution"  # type: ignore[union-attr]


def test_derived_chains_are_lazy() -> None:
    """Nothing is materialised by deriving."""
    q, k = torch.randn(2, 2, N, 4)
    chain = AttentionChain.from_qk(q, k).aggregate("uniform").reverse().restrict([0, 1, 2]).teleport()
    assert not isinstance(chain.operator, Dense)
    assert isinstance(AttentionChain(weights()).operator, Dense)


def test_one_token() -> None:
    chain = AttentionChain(torch.ones(2, 1, 1))
    assert chain.tokenrank().values.tolist() == [[1.0], [1.0]]
    assert chain.bounce(0, 3, "backward").values.tolist() == [[1.0], [1.0]]
    assert chain.lambda2().values.tolist() == [0.0, 0.0]
    assert chain.aggregate().to_dense().tolist() == [[1.0]]

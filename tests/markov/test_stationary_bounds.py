"""What TokenRank claims about itself, against 60 digits: chains near reducible, α near one, logits up to 1e4."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank import AttentionChain
from tokenrank.errors import NotConvergedWarning
from tokenrank.markov import Stationary, stationary, stationary_distributions
from tokenrank.markov.engine import constants
from tokenrank.markov.engine.batching import head_groups, image, image_rounding
from tokenrank.markov.engine.elimination import bounded_stationary, stationary_error
from tokenrank.markov.engine.lu import solve_once
from tokenrank.operators import Dense, Mixture, Operator, from_query_key, from_scores, from_weights, reverse

from . import heads, oracles

Exact = list[list[Any]]  # of mpmath numbers
DIGITS = 60


def exact_softmax(q: Tensor, k: Tensor, scale: float) -> Exact:
    with mpmath.workdps(DIGITS):
        rows = []
        for query in q.tolist():
            logits = [mpmath.mpf(scale) * mpmath.fdot(query, key) for key in k.tolist()]
            powers = [mpmath.exp(logit) for logit in logits]
            total = mpmath.fsum(powers)
            rows.append([p / total for p in powers])
        return rows


def exact_rows(weights: Tensor) -> Exact:
    """The rows of stored weights divided by their exact sums."""
    with mpmath.workdps(DIGITS):
        return [[mpmath.mpf(w) / mpmath.fsum(row) for w in row] for row in weights.tolist()]


def exact_rank(a: Exact, alpha: float, jump: Sequence[float] | None = None) -> list[Any]:
    """By elimination without subtractions; of a chain with jumps to all tokens, or without zeros."""
    n = len(a)
    with mpmath.workdps(DIGITS):
        v = [mpmath.mpf(1) / n] * n if jump is None else [mpmath.mpf(x) for x in jump]
        g = [[mpmath.mpf(alpha) * x + (1 - mpmath.mpf(alpha)) * w for x, w in zip(row, v, strict=True)] for row in a]
        for k in range(n - 1, 0, -1):
            out = mpmath.fsum(g[k][:k])
            for i in range(k):
                g[i][k] /= out
                for j in range(k):
                    g[i][j] += g[i][k] * g[k][j]
        pi = [mpmath.mpf(1)]
        for k in range(1, n):
            pi.append(mpmath.fsum(pi[i] * g[i][k] for i in range(k)))
        total = mpmath.fsum(pi)
        return [p / total for p in pi]


def distance(found: Tensor, expected: list[Any]) -> float:
    with mpmath.workdps(DIGITS):
        return float(mpmath.fsum(abs(mpmath.mpf(x) - y) for x, y in zip(found.tolist(), expected, strict=True)))


def rank(operator: Operator, alpha: float, tol: float = 1e-6, jump: Tensor | None = None) -> Stationary:
    even = torch.full(operator.shape[:-1], 1 / operator.num_tokens, dtype=torch.float64)
    return stationary(operator, alpha, even if jump is None else jump, tol, 5000)


def kept(answer: Stationary, expected: list[Any]) -> float:
    """The error of one chain's answer, which its certificate does not understate."""
    certificate, error = answer.certificate, distance(answer.values.reshape(-1), expected)
    assert certificate.error_bound is not None
    assert error <= float(certificate.error_bound), (error, certificate)
    assert bool(certificate.uncertain) or error <= 1e-3, (error, certificate)
    return error


# ---- any chain


@settings(max_examples=60)
@given(
    st.integers(2, 9),
    st.sampled_from([0.3, 3.0, 30.0, 100.0]),
    st.sampled_from([0.5, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0]),
    st.sampled_from([1e-6, 1e-10, 1e-13]),
    st.sampled_from(["single", "double"]),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_bounds_of_queries_and_keys(
    n: int, size: float, alpha: float, tol: float, precision: str, groups: bool, seed: int
) -> None:
    """Logits up to 1e4 and more, down to tolerances that rounding does not let through: no bound is understated."""
    g = torch.Generator().manual_seed(seed)
    q, k = size * torch.randn(2, n, 4, generator=g)
    if groups:  # two groups of tokens that hardly attend to one another
        sign = torch.where(torch.arange(n) % 2 > 0, 1.0, -1.0)
        q[:, 0], k[:, 0] = 4 * sign, 4 * sign
    if precision == "double":
        q, k = q.double() / 3, k.double() / 7
    answer = rank(from_query_key(q[None], k[None], 1.0, None, False), alpha, tol)
    kept(answer[0], exact_rank(exact_softmax(q, k, 1.0), alpha))
    assert answer.certificate.about == "queries and keys"


@settings(max_examples=60)
@given(
    st.integers(2, 9),
    st.sampled_from([0.3, 3.0, 9.0]),
    st.sampled_from([0.5, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0]),
    st.sampled_from([1e-6, 1e-10, 1e-13]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**20),
)
def test_bounds_of_stored_weights(n: int, size: float, alpha: float, tol: float, dtype: torch.dtype, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    weights = (size * torch.randn(n, n, generator=g, dtype=torch.float64)).softmax(-1).to(dtype)
    operator = from_weights(weights[None])
    answer = rank(operator, alpha, tol)
    kept(answer[0], exact_rank(exact_rows(operator.weights[0]), alpha))
    assert answer.certificate.about == "stored weights"


@pytest.mark.parametrize("alpha", [0.99, 1.0])
def test_bounds_of_derived_chains(alpha: float) -> None:
    """A mixture, and what is reversed, from queries and keys of logits in the hundreds."""
    q, k = 5 * torch.randn(2, 3, 8, 4)
    inner = from_query_key(q, k, 1.0, None, False)
    parts = [exact_softmax(q[h], k[h], 1.0) for h in range(3)]
    shares = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    with mpmath.workdps(DIGITS):
        mixed = [[mpmath.fdot(shares.tolist(), [parts[h][i][j] for h in range(3)]) for j in range(8)] for i in range(8)]
        sums = [mpmath.fsum(row[j] for row in mixed) for j in range(8)]
        turned = [[mixed[i][j] / sums[j] for i in range(8)] for j in range(8)]
    for operator, dense in ((Mixture(inner, shares), mixed), (reverse(Mixture(inner, shares)), turned)):
        answer = rank(operator, alpha)
        assert answer.certificate.converged.all()
        assert not answer.certificate.uncertain.any()
        kept(answer, exact_rank(dense, alpha))


def test_a_copy_in_single_precision_is_another_chain() -> None:
    """It is certified as what is stored, and further from the softmax than the bound of the softmax allows."""
    q, k = 4 * torch.randn(2, 1, 10, 8)
    operator = from_query_key(q, k, 1.0, None, False)
    expected = exact_rank(exact_softmax(q[0], k[0], 1.0), 0.99)
    of_softmax, of_copy = rank(operator, 0.99, 1e-9), rank(Dense(operator.to_dense()), 0.99, 1e-9)
    kept(of_softmax[0], expected)
    assert of_softmax.certificate.converged.all()
    assert of_copy.certificate.about == "stored weights"
    bound = of_copy.certificate.error_bound
    assert bound is not None
    assert distance(of_copy.values[0], expected) > 10 * float(bound)


# ---- without teleport


def two_blocks(n: int, there: float = -40.0, back: float = -60.0) -> Tensor:
    logits = 0.5 * torch.randn(n, n)
    logits[: n // 2, n // 2 :] += there
    logits[n // 2 :, : n // 2] += back
    return logits


@pytest.mark.parametrize("n", [6, 12, 64])
def test_two_blocks_that_hardly_meet(n: int) -> None:
    """Logits of −40 and −60 between them: nearly all the mass is where it is harder to leave, from any start."""
    chain = AttentionChain.from_scores(two_blocks(n)[None])
    weights = chain.operator.to_dense(torch.float64)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = chain.tokenrank(alpha=1.0)
    expected = torch.from_numpy(oracles.gth(weights.numpy()))
    assert (answer.values[0] / expected - 1).abs().max() < 1e-12
    assert answer.values[0, : n // 2].sum() < 1e-7
    certificate = answer.certificate
    assert certificate is not None
    assert certificate.error_bound is not None
    assert not certificate.uncertain.any()
    assert (answer.values[0] - expected).abs().sum() <= certificate.error_bound <= 1e-9


def test_what_float64_cannot_tell_is_uncertain() -> None:
    """At −800 a softmax keeps nothing of the other block: the residual is zero, and says so little that it is told."""
    logits = two_blocks(8, -800.0, -860.0).double()
    chain = AttentionChain.from_qk(logits[None], torch.eye(8, dtype=torch.float64)[None], scale=1.0)
    with pytest.warns(NotConvergedWarning, match=r"uncertain in 1 of 1 .* says nothing about the error"):
        answer = chain.tokenrank(alpha=1.0)
    certificate = answer.certificate
    assert certificate is not None
    assert certificate.converged.all()
    assert certificate.uncertain.all()
    assert str(certificate).startswith("uncertain, error bound not known")
    expected = exact_rank(exact_softmax(logits, torch.eye(8), 1.0), 1.0)
    assert distance(answer.values[0], expected) > 0.1


def test_steps_too_rare_for_float64_that_do_not_matter() -> None:
    """Some steps are lost, and one class by far the largest: what is lost is bounded, and the answer certain."""
    q = 25 * torch.randn(10, 2)
    q, k = torch.cat([q, torch.ones(10, 1)], -1), torch.cat([q.roll(3, 0), torch.zeros(10, 1)], -1)
    k[0, -1] = 1800.0  # a sink
    operator = from_query_key(q[None], k[None], 1.0, None, False)
    assert (operator.to_dense(torch.float64) == 0).any()
    answer = rank(operator, 1.0)
    assert kept(answer[0], exact_rank(exact_softmax(q, k, 1.0), 1.0)) < 1e-12
    assert not answer.certificate.uncertain.any()


@pytest.mark.parametrize("route", ["eliminated after all", "larger still"])
def test_large_chains_that_are_nearly_reducible(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterating finds a residual of 1e-9 in ten steps and an answer that is wrong: never certain."""
    monkeypatch.setattr(constants, "CLASS_DIRECT", 10)
    if route == "larger still":
        monkeypatch.setattr(constants, "CLASS_STUBBORN", 10)
    operator = from_scores(torch.stack([two_blocks(140), 0.5 * torch.randn(140, 140)]))
    answer = rank(operator, 1.0)
    expected = np.stack([oracles.gth(a) for a in operator.to_dense(torch.float64).numpy()])
    error = (answer.values - torch.from_numpy(expected)).abs().sum(-1)
    certificate = answer.certificate
    assert certificate.error_bound is not None
    assert certificate.converged.all()
    assert (error <= certificate.error_bound).all()
    assert not certificate.uncertain[1]  # rows have much in common
    if route == "larger still":
        assert certificate.uncertain[0]
        assert error[0] > 0.1
    else:
        assert not certificate.uncertain[0]
        assert error[0] < 1e-12


def test_a_gap_that_was_seen_makes_a_large_chain_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in common to all rows, and |λ2| of 0.9: no bound, but an estimate."""
    monkeypatch.setattr(constants, "CLASS_DIRECT", 10)
    monkeypatch.setattr(constants, "CLASS_STUBBORN", 10)
    i = torch.arange(200)
    apart = torch.minimum((i[:, None] - i) % 200, (i - i[:, None]) % 200)
    weights = torch.where(apart < 60, torch.rand(200, 200, dtype=torch.float64), 0.0)
    answer = rank(Dense(weights / weights.sum(-1, keepdim=True)), 1.0)
    assert answer.certificate.error_bound is not None
    assert answer.certificate.error_bound.isinf()
    assert answer.certificate.converged
    assert not answer.certificate.uncertain


def test_several_classes_are_weighted_with_where_the_walk_ends() -> None:
    """Two recurrent classes and three tokens that lead to them: the limit of averages, from three starts."""
    a = torch.zeros(9, 9, dtype=torch.float64)
    a[:4, :4], a[4, 5], a[5, 4] = torch.rand(4, 4), 1.0, 1.0  # the second goes to and fro
    a[6:] = torch.rand(3, 9)
    a = a / a.sum(-1, keepdim=True)
    starts = torch.stack([torch.full((9,), 1 / 9), torch.eye(9)[7], torch.eye(9)[4]]).double()
    starts = starts / starts.sum(-1, keepdim=True)
    answer = rank(Dense(a.expand(3, 9, 9).contiguous()), 1.0, 1e-10, starts)
    power = (torch.eye(9, dtype=torch.float64) + a) / 2
    for _ in range(60):
        power = power @ power
        power = power / power.sum(-1, keepdim=True)
    expected = starts @ power
    error = (answer.values - expected).abs().sum(-1)
    assert error.max() < 1e-13
    assert answer.certificate.converged.all()
    assert not answer.certificate.uncertain.any()
    assert torch.allclose(answer.values[2], (torch.eye(9)[4] + torch.eye(9)[5]).double() / 2)


# ---- α close to one


def test_heads_answered_by_different_methods() -> None:
    walks = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    stays = torch.eye(3, dtype=torch.float64)
    answer = rank(Dense(torch.stack([walks, stays]), "lower"), 1.0)
    assert torch.allclose(answer.values, torch.tensor([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64))
    assert bool(answer.certificate.converged.all())


def test_a_token_that_never_arrives_in_float64_has_an_unknown_share() -> None:
    # tokens 0 and 2 stay; token 1 leaves with probabilities of 1e-400, evenly, which float64 takes for none
    q = torch.tensor([[0.0], [30.0], [0.0]], dtype=torch.float64)
    k = torch.tensor([[0.0], [31.0], [0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False, False], [True, True, True], [False, False, True]])
    answer = rank(
        from_query_key(q[None], k[None], 1.0, mask, False), 1.0, jump=torch.tensor([[0.2, 0.6, 0.2]]).double()
    )
    assert bool(answer.certificate.uncertain.all())
    right = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    bound = answer.certificate.error_bound
    assert bound is not None
    assert float((answer.values[0] - right).abs().sum()) <= float(bound[0])
    assert float(bound[0]) > 0.5


@pytest.mark.parametrize("gap", [1e-6, 1e-9, 1e-12, 1e-15])
def test_alpha_just_below_one(gap: float) -> None:
    """Where (residual + rounding) / (1 − α) proves nothing the chain with its jumps is eliminated."""
    weights = from_scores(two_blocks(24, -12.0, -14.0).double()[None]).weights
    answer = rank(Dense(weights), 1 - gap)
    assert kept(answer[0], exact_rank(exact_rows(weights[0]), 1 - gap)) < (1e-10 if gap == 1e-6 else 1e-12)
    assert answer.certificate.converged.all()
    assert answer.certificate.method == ("lu" if gap == 1e-6 else "elimination")


def test_alpha_just_below_one_where_jumps_lead_to_some_tokens_only() -> None:
    weights = torch.rand(1, 20, 20, dtype=torch.float64).softmax(-1)
    jump = torch.zeros(1, 20, dtype=torch.float64)
    jump[0, [3, 4]] = 0.5
    answer = rank(Dense(weights), 1 - 1e-11, 1e-9, jump)
    assert answer.certificate.converged.all()
    kept(answer[0], exact_rank(exact_rows(weights[0]), 1 - 1e-11, jump[0].tolist()))


# ---- which way


def test_small_heads_are_solved_by_lu_one_at_a_time() -> None:
    q, k = 2 * torch.randn(2, 3, 200, 8)
    answer = rank(from_query_key(q, k, None, None, False), 0.99)
    assert answer.certificate.method == "lu"
    assert answer.certificate.applies == 1
    a = (q.double() @ k.double().mT / 8**0.5).softmax(-1).numpy()
    expected = torch.from_numpy(np.stack([oracles.pagerank(h, 0.99) for h in a]))
    error, bound = (answer.values - expected).abs().sum(-1), answer.certificate.error_bound
    assert bound is not None
    assert (error < 1e-12).all()
    assert (bound < 1e-8).all()


def test_larger_heads_that_iterating_is_slow_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that mixes slowly gets LU after all; the one that does not keeps what it has."""
    monkeypatch.setattr(constants, "RANK_DIRECT", 0)
    monkeypatch.setattr(constants, "RANK_PATIENCE", 40)
    names = ("random", "cyclic")
    weights = torch.stack([torch.from_numpy(heads.nine_heads()[name]) for name in names])
    answers = [rank(Dense(weights[h : h + 1]), 0.999, 1e-8) for h in range(2)]
    assert [a.certificate.method for a in answers] == ["power", "lu"]
    for answer, a in zip(answers, weights.numpy(), strict=True):
        bound = answer.certificate.error_bound
        assert bound is not None
        assert answer.certificate.converged.all()
        assert (answer.values - torch.from_numpy(oracles.pagerank(a, 0.999))).abs().sum() <= bound


def test_solve_once() -> None:
    matrix, b = torch.rand(30, 30, dtype=torch.float64) + 5 * torch.eye(30), torch.rand(30, dtype=torch.float64)
    for m in (matrix, matrix.mT):
        assert (m @ solve_once(m, b) - b).abs().max() < 1e-14
    assert solve_once(torch.zeros(3, 3, dtype=torch.float64), b[:3]).isinf().all()


def test_groups_of_heads_that_stay_in_the_cache() -> None:
    dense = Dense(torch.rand(5, 20, 20, dtype=torch.float64).softmax(-1))
    sizes = {None: [5], 0: [1] * 5, 2 * 3200: [2, 2, 1], 10**9: [5]}
    for room, expected in sizes.items():
        groups = list(head_groups(dense, torch.float64, room))
        assert [group.shape[0] for _, group in groups] == expected
        assert torch.equal(torch.cat([g.to_dense() for _, g in groups]), dense.weights)


# ---- what rounding is bounded by


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 3, 64, 65, 150])
def test_images_are_within_their_rounding(n: int, dtype: torch.dtype) -> None:
    """Against fractions: rows divided by their exact sums in single precision, as they are in double."""
    weights = (3 * torch.randn(2, n, n, dtype=torch.float64)).softmax(-1).to(dtype)
    x = torch.rand(2, n, dtype=torch.float64).softmax(-1)
    operator = Dense(weights)
    found = image(operator, x[..., None])[..., 0]
    for a, v, y in zip(weights.tolist(), x.tolist(), found.tolist(), strict=True):
        expected = [Fraction(0)] * n
        for row, mass in zip(a, v, strict=True):
            total = sum(map(Fraction, row)) if dtype == torch.float32 else Fraction(1)
            expected = [e + Fraction(mass) * Fraction(w) / total for e, w in zip(expected, row, strict=True)]
        error = sum(abs(Fraction(b) - e) for b, e in zip(y, expected, strict=True))
        assert error <= image_rounding(operator)


@settings(max_examples=40)
@given(st.integers(2, 24), st.sampled_from([1.0, 5.0, 20.0]), st.integers(0, 2**20))
def test_elimination_is_within_its_bound(n: int, size: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a = (size * torch.randn(n, n, generator=g, dtype=torch.float64)).softmax(-1)
    pi, decided, bound = bounded_stationary(a[None], torch.zeros(1, dtype=torch.float64))
    assert decided.all()
    assert torch.equal(bound, stationary_error(n, torch.zeros(1, dtype=torch.float64)))
    assert distance(pi[0], exact_rank(exact_rows(a), 1.0)) <= float(bound)


def test_elimination_proves_nothing_where_products_underflow() -> None:
    """Steps of 1e-200 there and back: their products are zero in float64, and what they decide is not known."""
    a = torch.tensor([[0.5, 0.5, 1e-200], [1e-200, 1.0, 1e-200], [1e-200, 1e-200, 1.0]], dtype=torch.float64)
    _, _, bound = bounded_stationary(a[None], torch.zeros(1, dtype=torch.float64))
    assert bound.isinf().all()
    assert stationary_error(10**5, torch.zeros(1)).isinf().all()
    assert stationary_error(100, torch.full((1,), 1e-3)).isinf().all()


def test_every_class_carries_its_bound() -> None:
    """Two classes of different sizes, one of them a single token, and a chain of one class."""
    a = torch.zeros(2, 12, 12, dtype=torch.float64)
    a[0, :11, :11], a[0, 11, 11], a[1] = torch.rand(11, 11), 1.0, torch.rand(12, 12)
    a = a / a.sum(-1, keepdim=True)
    found = stationary_distributions(Dense(a))
    bound = found.certificate.error_bound
    assert bound is not None
    none = torch.zeros(3, dtype=torch.float64)
    assert torch.allclose(bound[0], torch.stack([stationary_error(11, none)[0], none[0]]), rtol=1e-3)
    assert torch.allclose(bound[1], torch.stack([stationary_error(12, none)[0], none[0]]), rtol=1e-3)
    assert not found.certificate.uncertain.any()
    assert found.certificate.about == "stored weights"

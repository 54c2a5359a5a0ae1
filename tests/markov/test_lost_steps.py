"""Steps of a softmax that are possible and no numbers in float64: what is then certain, against mpmath."""

from __future__ import annotations

import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank.errors import ChainError
from tokenrank.markov import FirstPassage, censor, kemeny, mean_first_passage
from tokenrank.markov.engine import constants
from tokenrank.markov.support.reachable import misses
from tokenrank.operators import Censored, QueryKey, from_query_key, from_weights, reverse

NEVER = -math.inf
Chain = list[list[mpmath.mpf]]


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mpmath.workdps(60):
        yield


def of_logits(logits: list[list[float]] | np.ndarray) -> QueryKey:
    """softmax(logits) with −∞ where the mask forbids."""
    s = torch.as_tensor(logits, dtype=torch.float64)
    eye, k = torch.eye(len(s), dtype=torch.float64), s.masked_fill(s.isinf(), 0.0).mT.contiguous()
    return from_query_key(eye, k, 1.0, s.isfinite(), False)


def exact(logits: list[list[float]] | np.ndarray) -> Chain:
    rows = [[mpmath.exp(mpmath.mpf(float(x))) for x in row] for row in logits]
    return [[x / mpmath.fsum(row) for x in row] for row in rows]


def watched(p: Chain, spent: list[mpmath.mpf], keep: list[int]) -> tuple[Chain, list[mpmath.mpf]]:
    """The chain watched on some tokens, and how long its steps take, without a subtraction; no pivot may be zero."""
    p, spent = [list(row) for row in p], list(spent)
    left = list(range(len(p)))
    for k in [i for i in left if i not in keep]:
        left.remove(k)
        out = mpmath.fsum(p[k][j] for j in left)
        for i in left:
            share = p[i][k] / out if p[i][k] else mpmath.mpf(0)
            spent[i] += share * spent[k]
            for j in left:
                p[i][j] += share * p[k][j]
    return [[p[i][j] for j in keep] for i in keep], [spent[i] for i in keep]


def surely(p: Chain, target: int) -> list[int]:
    """The other tokens from which the walk cannot miss the target."""
    n = len(p)

    def back(found: set[int], closed: set[int]) -> set[int]:
        while more := {i for i in range(n) if i not in found | closed and any(p[i][j] for j in found)}:
            found = found | more
        return found

    caught = set(range(n)) - back({target}, set())
    return [i for i in range(n) if i != target and i not in back(caught, {target})]


def passage(p: Chain, target: int) -> list[mpmath.mpf]:
    walking, found = surely(p, target), [mpmath.inf] * len(p)
    found[target] = mpmath.mpf(0)
    for i in walking:
        order = [*walking, target]
        some, spent = watched(
            [[p[a][b] for b in order] for a in order],
            [mpmath.mpf(1)] * len(order),
            [order.index(i), len(order) - 1],
        )
        found[i] = spent[0] / some[0][1]
    return found


def honest(found: FirstPassage, p: Chain) -> None:
    """Bounds are true, and what is certain is right."""
    certificate = found.certificate
    assert certificate.error_bound is not None
    for j in range(len(p)):
        right = passage(p, j)
        for i, (mine, wanted) in enumerate(zip(found.values[:, j].tolist(), right, strict=True)):
            if mpmath.isinf(wanted):
                assert mine == math.inf, (i, j)
            elif math.isinf(mine):
                assert wanted > 1e290 or not certificate.converged[j], (i, j)
            else:
                error = abs(mpmath.mpf(mine) - wanted)
                assert error <= float(certificate.error_bound[j]) + 1e-14 * wanted, (i, j)
                assert error <= 1e-6 * wanted or not certificate.converged[j], (i, j)


# 1 steps to 2 with probability e⁻¹³⁰⁰, from where the way to 0 takes e¹⁷⁰⁰ bounces, or is closed
SLOW = [[0, NEVER, NEVER], [0, NEVER, -1300], [-1700, NEVER, 0]]
CLOSED = [[0, NEVER, -1300], [0, NEVER, -1300], [NEVER, NEVER, 0]]


def test_a_step_that_is_lost_leads_to_where_the_time_is_infinite() -> None:
    found = mean_first_passage(of_logits(SLOW), torch.tensor([0]))
    assert found.values[1] == 1  # right: e⁴⁰⁰
    assert passage(exact(SLOW), 0)[1] > 1e170
    assert found.certificate.error_bound.item() == math.inf
    assert found.certificate.uncertain.all()
    honest(mean_first_passage(of_logits(SLOW)), exact(SLOW))


def test_where_walks_may_miss_a_target_is_read_from_the_mask() -> None:
    found = mean_first_passage(of_logits(CLOSED))
    assert found.values[:, 0].tolist() == [0, math.inf, math.inf]
    assert found.return_times.tolist() == [math.inf, math.inf, 1]
    assert found.certificate.converged[0]
    honest(found, exact(CLOSED))


def test_targets_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    eliminated = [mean_first_passage(of_logits(s)) for s in (SLOW, CLOSED)]
    monkeypatch.setattr(constants, "PASSAGE_LARGEST", 1)
    for logits, before in zip((SLOW, CLOSED), eliminated, strict=True):
        found = mean_first_passage(of_logits(logits), torch.arange(3))
        assert torch.equal(found.values.isinf(), before.values.isinf())
        assert torch.equal(found.return_times.isinf(), before.return_times.isinf())
        honest(found, exact(logits))


def test_stored_weights_whose_products_are_no_numbers() -> None:
    """Slipping with 1e-200 to where the way back takes 1e400 bounces costs 1e200 of them."""
    a = torch.tensor([[1, 0, 0, 0], [1, 0, 1e-200, 0], [0, 0, 1, 1e-200], [1e-200, 0, 1, 0]], dtype=torch.float64)
    p = [[mpmath.mpf(x) for x in row] for row in a.tolist()]
    assert 0.99e200 < passage(p, 0)[1] < 1.01e200
    found = mean_first_passage(from_weights(a))
    assert found.values[1, 0] == math.inf
    assert not found.certificate.converged[0]
    assert found.certificate.converged[1:].all()  # that nobody gets to 1 is certain
    honest(found, p)


def logits() -> st.SearchStrategy[np.ndarray]:
    """Up to 6 tokens, logits up to some thousand, about a third of the steps forbidden."""

    def drawn(seed: int, n: int, size: float, share: float) -> np.ndarray:
        rng = np.random.default_rng(seed)
        s = np.where(rng.random((n, n)) < share, NEVER, size * rng.standard_normal((n, n)))
        s[range(n), rng.permutation(n)] = 0  # nobody is without a step
        return s

    return st.builds(
        drawn,
        st.integers(0, 2**30),
        st.integers(2, 6),
        st.sampled_from([1.0, 300, 1000]),
        st.sampled_from([0, 0.3, 0.6]),
    )


@settings(max_examples=100, deadline=None)
@given(logits())
def test_times_are_right_or_uncertain(s: np.ndarray) -> None:
    honest(mean_first_passage(of_logits(s)), exact(s))


@settings(max_examples=60, deadline=None)
@given(logits())
def test_of_chains_that_are_watched(s: np.ndarray) -> None:
    keep = list(range(max(1, len(s) // 2)))
    try:
        found = censor(of_logits(s), torch.tensor(keep))
    except ChainError:
        return
    p = exact(s)
    reached = within(p, keep)
    order = [*keep, *reached]
    composed, _ = watched([[p[a][b] for b in order] for a in order], [mpmath.mpf(0)] * len(order), keep)
    assert found.support().expand(found.shape).tolist() == [[x > 0 for x in row] for row in composed]
    honest(mean_first_passage(found), composed)
    eta = float(found.row_error(torch.float64))
    for mine, right in zip(found.to_dense(torch.float64).tolist(), composed, strict=True):
        assert mpmath.fsum(abs(mpmath.mpf(x) - y) for x, y in zip(mine, right, strict=True)) <= eta + 1e-14


def within(p: Chain, keep: list[int]) -> list[int]:
    """Other tokens that the walk gets to before it is back on the kept ones."""
    found: list[int] = []
    while more := [
        j for j in range(len(p)) if j not in keep and j not in found and any(p[i][j] for i in [*keep, *found])
    ]:
        found += more
    return found


# 0 and 1 meet by way of 2 alone, which steps to 1 with e⁻¹³⁰⁰
MEETING = [[0, NEVER, 0], [-1, 0, NEVER], [0, -1300, NEVER]]


@pytest.mark.parametrize("turned", [False, True])
def test_a_watched_chain_keeps_the_ways_that_are_lost(turned: bool) -> None:
    found = censor(of_logits(MEETING), torch.tensor([0, 1]))
    chain = reverse(found) if turned else found
    assert isinstance(found, Censored)
    assert chain.support().tolist() == ([[True, True], [True, True]])
    times = mean_first_passage(chain)
    assert times.certificate.uncertain.any()
    assert kemeny(chain).certificate.converged == (not math.isinf(float(kemeny(chain).values)))


def test_a_lost_step_among_those_that_are_removed() -> None:
    """From 2 the walk slips to 3 with e⁻⁷⁵⁰, where it stays for e⁷⁴⁰ bounces: entries are known, and certain."""
    s = [[0, 0, 0, NEVER], [0, 0, 0, NEVER], [0, -1, NEVER, -750], [-600, 0, NEVER, NEVER]]
    found = censor(of_logits(s), torch.tensor([0, 1]))
    assert 0 < found.entry_error(torch.float64) < 1e-9
    assert mean_first_passage(found).certificate.converged.all()
    # 2 stays long: what is lost may be followed often
    s[2][2] = 300
    slow = censor(of_logits(s), torch.tensor([0, 1]))
    assert slow.entry_error(torch.float64) == math.inf


@settings(max_examples=60, deadline=None)
@given(logits())
def test_kemeny_is_right_or_uncertain(s: np.ndarray) -> None:
    found, p = kemeny(of_logits(s)), exact(s)
    n = len(p)
    closed = [j for j in range(n) if len(surely(p, j)) == n - 1]
    if not closed:  # several classes
        assert found.values == math.inf
        return
    if not found.certificate.converged:
        return
    with mpmath.workdps(6000):
        p = exact(s)
        system = mpmath.matrix([[(i == j) - p[i][j] + mpmath.mpf(1) / n for j in range(n)] for i in range(n)])
        right = mpmath.fsum((system**-1)[i, i] for i in range(n)) - 1
    assert abs(mpmath.mpf(float(found.values)) / right - 1) < 1e-6


def test_logits_too_large_for_a_certain_constant() -> None:
    """Logits of 10¹¹ that differ by little: float64 knows them to 1e-5."""
    q = torch.ones(3, 1, dtype=torch.float64) * 1e6
    k = torch.tensor([[1e5], [1e5], [1e5]], dtype=torch.float64)
    assert kemeny(from_query_key(q / 1e10, k, 1.0, None, False)).certificate.converged
    assert kemeny(from_query_key(q, k, 1.0, None, False)).certificate.uncertain


def test_what_is_missed_by_way_of_the_target_alone_is_not_missed() -> None:
    possible = of_logits([[NEVER, 0, NEVER], [NEVER, NEVER, 0], [NEVER, NEVER, 0]]).support()
    assert misses(possible, torch.tensor([1, 0])).tolist() == [[False, False], [False, True], [True, True]]

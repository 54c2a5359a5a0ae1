"""Elimination without subtractions against rational arithmetic, entry by entry."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov.engine.elimination import (
    eliminate,
    stationary_by_elimination,
    stochastic_complement,
    try_stationary,
)

from . import heads, oracles
from .strategies import KINDS, chains, make

TOLERANCE = 1e-12
SMALLEST, LARGEST = Fraction(1e-300), Fraction(1e308)
Rationals = list[list[Fraction]]


# ---- oracles: no rounding at all; the diagonal is what the other entries leave over


def exact_solution(q: np.ndarray, exits: np.ndarray, b: np.ndarray) -> Rationals:
    n = len(q)
    a = [[-Fraction(float(v)) for v in row] for row in q]
    for i in range(n):
        a[i][i] = Fraction(float(exits[i])) - sum(a[i][j] for j in range(n) if j != i)
    x = [[Fraction(float(v)) for v in row] for row in b]
    for k in range(n):
        for i in range(k + 1, n):
            if a[i][k]:
                factor = a[i][k] / a[k][k]
                a[i] = [u - factor * v for u, v in zip(a[i], a[k], strict=True)]
                x[i] = [u - factor * v for u, v in zip(x[i], x[k], strict=True)]
    for k in reversed(range(n)):
        for c in range(len(x[k])):
            x[k][c] = (x[k][c] - sum(a[k][j] * x[j][c] for j in range(k + 1, n))) / a[k][k]
    return x


def exact_stationary(a: np.ndarray) -> list[Fraction]:
    n = len(a)
    m = [[Fraction(float(v)) for v in row] for row in a]
    for k in range(n - 1, 0, -1):
        total = sum(m[k][:k])
        for i in range(k):
            m[i][k] /= total
            if m[i][k]:
                m[i][:k] = [u + m[i][k] * v for u, v in zip(m[i][:k], m[k][:k], strict=True)]
    pi = [Fraction(1)]
    for k in range(1, n):
        pi.append(sum((pi[i] * m[i][k] for i in range(k)), Fraction(0)))
    return [p / sum(pi) for p in pi]


def agrees(found: float, expected: Fraction) -> bool:
    if expected > LARGEST:
        return found == np.inf
    if expected < SMALLEST:
        return abs(Fraction(found) - expected) <= SMALLEST
    return abs(Fraction(found) / expected - 1) <= TOLERANCE


def graph(a: np.ndarray) -> nx.DiGraph:
    return nx.from_numpy_array(a > 0, create_using=nx.DiGraph)


# ---- absorbing walks


@settings(max_examples=150)
@given(chains(kinds=[k for k in KINDS if k != "one state"], largest=8), st.integers(0, 2**20))
def test_times_and_probabilities_entry_by_entry(a: np.ndarray, seed: int) -> None:
    """Until token 0 is reached: expected steps, probability of reaching it, and a reward on some tokens.

    Where token 0 cannot be reached the walk is caught: it takes for ever, with probability 0.
    """
    q, exits = a[1:, 1:], a[1:, 0]
    n = len(q)
    reward = np.random.default_rng(seed).random(n) * (np.arange(n) % 2)
    b = np.stack([np.ones(n), exits, reward], 1)
    found = eliminate(*(torch.from_numpy(t) for t in (q, exits, b)))
    assert not found.isnan().any()
    walk = graph(a)
    walk.remove_edges_from([(0, j) for j in range(len(a))])
    ends = nx.ancestors(walk, 0)
    caught = [i for i in range(n) if i + 1 not in ends]
    alive = [i for i in range(n) if i + 1 in ends]
    recurrent = [set(c) for c in nx.attracting_components(walk)]
    for i in range(n):
        reached = {*nx.descendants(walk, i + 1), i + 1}
        for column, values in enumerate(b.T):
            rewarded = {j + 1 for j in range(n) if values[j] > 0}
            endless = any(c <= reached and c & rewarded for c in recurrent if c != {0})
            assert (found[i, column] == np.inf) == endless or column == 0, (i, column)
        assert found[i, 0] == np.inf or not set(caught) & {r - 1 for r in reached}
    if alive:
        lost = q[np.ix_(alive, caught)].sum(1)
        expected = exact_solution(q[np.ix_(alive, alive)], exits[alive] + lost, b[alive])
        for i, row in zip(alive, expected, strict=True):
            assert agrees(float(found[i, 1]), row[1])
            if not {*nx.descendants(walk, i + 1)} & {c + 1 for c in caught}:
                assert agrees(float(found[i, 0]), row[0])
                assert agrees(float(found[i, 2]), row[2])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 49])
@pytest.mark.parametrize("leak", [0.1, 1e-8, 1e-300])
def test_blocks(n: int, leak: float) -> None:
    """Sizes around those of the blocks, against 800 digits; three groups joined by leaks, ways out just as rare."""
    rng = np.random.default_rng(n)
    label = rng.integers(0, 3, n)
    q = rng.random((n, n)) * np.where(label[:, None] == label, 1, leak) / (2 * n)
    exits, b = leak * rng.random(n), rng.random((n, 2))
    found = eliminate(*(torch.from_numpy(t) for t in (q, exits, b)))
    with mpmath.workdps(800):
        system = mpmath.matrix((-q).tolist())
        for i in range(n):
            system[i, i] = mpmath.fsum(q[i, :i].tolist() + q[i, i + 1 :].tolist() + [exits[i]])
        expected = [mpmath.lu_solve(system, mpmath.matrix(b[:, c].tolist())) for c in range(2)]
        errors = [abs(found[i, c].item() / expected[c][i] - 1) for i in range(n) for c in range(2)]
    assert max(errors) <= TOLERANCE


def test_leading_dimensions_broadcast() -> None:
    q, exits = torch.rand(3, 20, 20) / 40, torch.rand(2, 1, 20).double()
    b = torch.rand(20, 4)
    found = eliminate(q, exits, b)
    assert found.shape == (2, 3, 20, 4)
    assert found.dtype == torch.float64
    for i in range(2):
        for j in range(3):
            assert torch.equal(found[i, j], eliminate(q[j], exits[i, 0], b))


@pytest.mark.parametrize(("m", "c"), [(0, 2), (5, 0)])
def test_nothing_to_solve(m: int, c: int) -> None:
    found = eliminate(torch.zeros(2, m, m), torch.ones(2, m), torch.ones(2, m, c))
    assert found.shape == (2, m, c)
    assert found.dtype == torch.float64


def test_gamblers_ruin() -> None:
    """PyDTMC's: absorption [[⅔, ⅓], [⅓, ⅔]], times [2, 2]."""
    q = torch.tensor([[0, 0.5], [0.5, 0]])
    out = torch.tensor([[0.5, 0], [0, 0.5]])
    found = eliminate(q, out.sum(-1), torch.cat([out, torch.ones(2, 1)], -1))
    assert torch.allclose(found, torch.tensor([[2 / 3, 1 / 3, 2], [1 / 3, 2 / 3, 2]]).double(), atol=1e-15)


@pytest.mark.parametrize("shift", [0, 9, 21])
def test_caught_walks(shift: int) -> None:
    """0 → {1, out}; 1 → {2, 3}, 2 ↔ 2', 3 stays; wherever in the elimination they come."""
    n = 24
    states = (np.arange(5) + shift) % n
    q, exits, b = np.zeros((n, n)), np.ones(n), np.ones((n, 3))
    exits[states] = [0.5, 0, 0, 0, 0]
    for i, j, p in [(0, 1, 0.5), (1, 2, 0.5), (1, 4, 0.5), (2, 3, 1), (3, 2, 1), (4, 4, 1)]:
        q[states[i], states[j]] = p
    b[states, 1] = [0.5, 0, 0, 0, 0]  # getting out
    b[states, 2] = [1, 1, 0, 0, 0]  # time before being caught
    found = eliminate(*(torch.from_numpy(t) for t in (q, exits, b)))[torch.from_numpy(states)]
    inf = torch.inf
    assert torch.equal(found[:, 0], torch.tensor([inf, inf, inf, inf, inf]).double())
    assert torch.equal(found[:, 1], torch.tensor([0.5, 0, 0, 0, 0]).double())
    assert torch.equal(found[:, 2], torch.tensor([1.5, 1, 0, 0, 0]).double())


def test_one_caught_chain_leaves_the_others_of_the_batch_alone() -> None:
    q = torch.rand(3, 40, 40, dtype=torch.float64) / 50
    exits, b = torch.rand(3, 40, dtype=torch.float64), torch.ones(3, 40, 1, dtype=torch.float64)
    alone = eliminate(q, exits, b)
    q[1], exits[1] = torch.roll(torch.eye(40), 1, 1), 0.0
    found = eliminate(q, exits, b)
    assert (found[1] == torch.inf).all()
    assert torch.allclose(found[[0, 2]], alone[[0, 2]], rtol=1e-14)


def test_beyond_the_range_of_numbers() -> None:
    """Rarely out of two tokens, rarely out of a third: 10³⁰⁰ steps, or 10⁶⁰⁰, and yet out for certain."""
    q = torch.tensor([[0, 1, 1e-300], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    exits = torch.tensor([0, 0, 1e-300], dtype=torch.float64)
    b = torch.stack([torch.ones_like(exits), exits], -1)
    found = eliminate(q, exits, b)
    assert found[:, 0].tolist() == pytest.approx([3e300, 3e300, 1e300], rel=TOLERANCE)
    assert found[:, 1].tolist() == pytest.approx([1, 1, 1], rel=TOLERANCE)
    q[2, 0] = 1  # and mostly back again
    found = eliminate(q, exits, b)
    assert (found[:, 0] == torch.inf).all()
    assert found[:, 1].tolist() == pytest.approx([1, 1, 1], rel=TOLERANCE)


def test_product_of_leaks_below_any_number() -> None:
    """1 → 0 → out, each with 10⁻³⁰⁰: a probability of 10⁻⁶⁰⁰ a visit, and yet nothing else can happen."""
    q = torch.tensor([[0, 1], [1e-300, 0]], dtype=torch.float64)
    exits = torch.tensor([1e-300, 0], dtype=torch.float64)
    for order in ([0, 1], [1, 0]):
        out = exits[order]
        assert eliminate(q[order][:, order], out, out[:, None])[:, 0].tolist() == [1, 1]


def test_infinite_times_zero_is_zero() -> None:
    """A token whose time is beyond float64, and one that never goes there."""
    q = torch.tensor([[0, 0, 0], [0, 0, 0.5], [0, 0, 0]], dtype=torch.float64)
    exits, b = torch.tensor([5e-324, 0.5, 1], dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    assert eliminate(q, exits, b)[:, 0].tolist() == [torch.inf, 1.5, 1]
    q[1, 0] = 0.5
    assert eliminate(q, exits, b)[:, 0].tolist() == [torch.inf, torch.inf, 1]


# ---- stationary vectors


@settings(max_examples=150)
@given(chains(largest=8))
def test_stationary_entry_by_entry(a: np.ndarray) -> None:
    if nx.number_attracting_components(graph(a)) > 1:
        with pytest.raises(ChainError, match="more than one closed class"):
            stationary_by_elimination(torch.from_numpy(a))
        return
    found = stationary_by_elimination(torch.from_numpy(a))
    closed = sorted(next(nx.attracting_components(graph(a))))
    expected = exact_stationary(a[np.ix_(closed, closed)])
    assert all(agrees(float(found[i]), p) for i, p in zip(closed, expected, strict=True)), (found, expected)
    assert found[[i for i in range(len(a)) if i not in closed]].abs().sum() == 0


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 100, 257])
def test_stationary_of_many_sizes(n: int) -> None:
    rng = np.random.default_rng(n)
    a = np.stack([make(kind, n, rng, 1e-9) for kind in ("peaky", "nearly reducible", "birth and death", "cycle")])
    found = stationary_by_elimination(torch.from_numpy(a).reshape(2, 2, n, n))
    assert found.shape == (2, 2, n)
    expected = np.stack([oracles.gth(m) for m in a])
    assert np.abs(found.reshape(4, n).numpy() / expected - 1).max() <= TOLERANCE


def test_stationary_of_nine_heads() -> None:
    weights = heads.stacked()
    expected = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))
    assert (stationary_by_elimination(weights) / expected - 1).abs().max() < TOLERANCE


@pytest.mark.parametrize("leak", [1e-100, 1e-200, 1e-300])
def test_groups_within_groups(leak: float) -> None:
    """A tree of groups: the higher the branch, the rarer the way over; products of leaks are below any float."""
    n = 16
    i = np.random.default_rng(0).permutation(n)
    height = np.vectorize(lambda x: max(int(x).bit_length() - 1, 0))(i[:, None] ^ i)
    a = np.random.default_rng(1).random((n, n)) * leak ** (height / 3)
    a /= a.sum(1, keepdims=True)
    found = stationary_by_elimination(torch.from_numpy(a))
    assert all(agrees(float(f), e) for f, e in zip(found, exact_stationary(a), strict=True))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_down_to_denormals(order: list[int]) -> None:
    """π falls by 10⁻¹⁰⁰ from token to token: 1, 1e-100, 1e-200, 1e-300, whichever is eliminated first."""
    a = np.zeros((4, 4))
    for i in range(3):
        a[i, i + 1], a[i + 1, i] = 1e-100, 1
    found = stationary_by_elimination(torch.from_numpy(a[np.ix_(order, order)]))
    # exact for entries that fit: the first token stays with probability 1 − 1e-100
    expected = np.array([1, 1e-100, 1e-200, 1e-300])[order]
    assert np.abs(found.numpy() / expected - 1).max() <= TOLERANCE
    a[2, 3] = 1e-115  # now 1e-315, which has fewer digits
    found = stationary_by_elimination(torch.from_numpy(a[np.ix_(order, order)]))
    assert found[order.index(3)].item() == pytest.approx(1e-315, rel=1e-6)


def test_rare_token_on_the_way_to_a_long_stay() -> None:
    """3 ↔ 4 → 2 → 1 → 0 → 4: token 1 has 10⁻³²⁰, fewer digits than it takes, and token 0 stays 10³⁰⁰ steps."""
    a = np.zeros((5, 5))
    a[3, 4] = a[1, 0] = 1
    a[4, [2, 3]] = a[2, [1, 4]] = [1e-160, 1]
    a[0, 4] = 1e-300
    found = stationary_by_elimination(torch.from_numpy(a))
    assert all(agrees(float(f), e) for f, e in zip(found, exact_stationary(a), strict=True))
    assert found[0].item() == pytest.approx(0.5e-20, rel=TOLERANCE)


def two_pairs() -> np.ndarray:
    """Tokens 2 ↔ 3 and 4 ↔ 5; rarely over by token 0 or 1, and there rarely on and not back."""
    a = np.zeros((6, 6))
    a[0, [2, 4]] = a[1, [4, 2]] = a[2, [3, 0]] = a[4, [5, 1]] = [1, 1e-200]
    a[3, 2] = a[5, 4] = 1
    return a


def test_what_cannot_be_told_apart_is_not_decided() -> None:
    """Two pairs joined by 10⁻⁴⁰⁰ in both directions: irreducible, and beyond float64."""
    a = torch.from_numpy(two_pairs())
    pi, decided = try_stationary(a)
    assert not decided
    assert torch.isfinite(pi).all()
    with pytest.raises(ChainError, match="closed class"):
        stationary_by_elimination(a)
    one_way = a.clone()
    one_way[4, 1] = 1e-10  # now one pair drains into the other
    assert stationary_by_elimination(one_way)[[2, 3]].tolist() == pytest.approx([0.5, 0.5], abs=1e-9)


def test_undecided_chain_is_named() -> None:
    a = torch.rand(2, 3, 4, 4).softmax(-1)
    a[1, 2] = torch.eye(4)
    with pytest.raises(ChainError, match=r"chain \[1, 2\]"):
        stationary_by_elimination(a)


# ---- stochastic complement


def complement(a: Tensor, keep: list[int]) -> Tensor:
    rest = [i for i in range(a.shape[-1]) if i not in keep]
    inverse = torch.linalg.inv(torch.eye(len(rest), dtype=torch.float64) - a[..., rest, :][..., rest])
    return a[..., keep, :][..., keep] + a[..., keep, :][..., rest] @ inverse @ a[..., rest, :][..., keep]


def test_complement() -> None:
    a = torch.rand(2, 3, 30, 30, dtype=torch.float64).softmax(-1)
    keep = [4, 0, 17]
    found = stochastic_complement(a, torch.tensor(keep))
    assert torch.allclose(found, complement(a, keep), atol=1e-14)
    assert torch.allclose(found.sum(-1), torch.ones(()).double(), atol=1e-14)
    mask = torch.zeros(30, dtype=torch.bool)
    mask[keep] = True
    assert torch.equal(stochastic_complement(a, mask), stochastic_complement(a, torch.tensor(sorted(keep))))


def test_complement_keeps_the_stationary_vector() -> None:
    """π of the complement is π of the chain on the kept tokens, however rare the ways between groups."""
    rng = np.random.default_rng(0)
    a = make("nearly reducible", 20, rng, 1e-300)
    keep = np.arange(0, 20, 3)
    pi = oracles.gth(a)[keep]
    found = stationary_by_elimination(stochastic_complement(torch.from_numpy(a), torch.from_numpy(keep)))
    assert np.abs(found.numpy() / (pi / pi.sum()) - 1).max() <= TOLERANCE


def test_complement_of_everything_is_the_chain() -> None:
    a = torch.rand(5, 5, dtype=torch.float64).softmax(-1)
    assert torch.equal(stochastic_complement(a, torch.ones(5, dtype=torch.bool)), a)


def test_who_never_comes_back_is_missing() -> None:
    a = torch.tensor([[0.25, 0.75, 0], [0, 0.5, 0.5], [0, 0, 1]])
    assert stochastic_complement(a, torch.tensor([0])).tolist() == [[0.25]]

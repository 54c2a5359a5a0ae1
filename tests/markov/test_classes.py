"""Communicating classes against networkx and boolean powers."""

from __future__ import annotations

import math
import tracemalloc

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import Classes, classes, closed_classes, uniqueness
from tokenrank.operators import (
    Dense,
    Lazy,
    Mixture,
    Operator,
    Product,
    QueryKey,
    Teleport,
    from_query_key,
    from_weights,
    reverse,
)

from .strategies import chains


def dense(rows: object) -> Dense:
    return Dense(torch.as_tensor(np.array(rows, dtype=np.float64)))


def six() -> np.ndarray:
    """0 ↔ 1; 2 → {0, 3}; 3 → 4 → 5 → 3."""
    rows = np.zeros((6, 6))
    rows[[0, 1, 3, 4, 5], [1, 0, 4, 5, 3]] = 1
    rows[2, [0, 3]] = 0.5
    return rows


def labels_by_networkx(a: np.ndarray) -> list[int]:
    components = nx.strongly_connected_components(nx.from_numpy_array(a > 0, create_using=nx.DiGraph))
    labels = [0] * len(a)
    for number, members in enumerate(sorted(components, key=min)):
        for token in members:
            labels[token] = number
    return labels


def by_powers(a: np.ndarray, members: list[int]) -> tuple[bool, int]:
    """Whether the walk can get from the class to some token that has no way back, and the gcd of returns."""
    n, step = len(a), a > 0
    power, reach, period = np.eye(n, dtype=bool), np.eye(n, dtype=bool), 0
    for length in range(1, n + 1):
        power = power @ step
        reach |= power
        if power[members, members].any():
            period = math.gcd(period, length)
    first = members[0]
    return not (reach[first] & ~reach[:, first]).any(), period


def agrees(found: Classes, a: np.ndarray) -> None:
    """One chain: numbering, kinds and periods."""
    expected = labels_by_networkx(a)
    assert found.values.tolist() == expected
    assert int(found.count) == max(expected) + 1
    for number in range(int(found.count)):
        members = found.members(number).tolist()
        assert members == [i for i, label in enumerate(expected) if label == number]
        assert (bool(found.recurrent[number]), int(found.period[number])) == by_powers(a, members)


# ---- known answers


def test_six_states() -> None:
    found = classes(dense(six()))
    assert found.values.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.recurrent.tolist() == [True, False, True]
    assert found.period.tolist() == [2, 0, 3]
    assert found.chain_period == 6  # as QuantEcon has it
    assert found.recurrent_count == 2
    assert found.recurrent_tokens.tolist() == [True, True, False, True, True, True]
    assert not found.irreducible
    assert not found.certificate.uncertain.any()


def test_two_absorbing_states() -> None:
    found = classes(dense([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]))
    assert found.recurrent.tolist() == [True, False, True]
    assert found.period.tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_identity_and_cycle(n: int) -> None:
    found = classes(dense(np.eye(n)))
    assert found.values.tolist() == list(range(n))
    assert found.recurrent.all()
    assert found.period.tolist() == [1] * n
    found = classes(dense(np.roll(np.eye(n), 1, 1)))
    assert found.irreducible
    assert found.period.tolist() == [n]


def test_permutation() -> None:
    """Cycles of 4, 6 and 1."""
    order = [1, 2, 3, 0, 5, 6, 7, 8, 9, 4, 10]
    found = classes(dense(np.eye(11)[order]))
    assert found.period.tolist() == [4, 6, 1]
    assert found.chain_period == 12


def test_transient_classes_have_periods_too() -> None:
    """0 ↔ 1 leaks to 2, which stays; 3 only leads away."""
    found = classes(dense([[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5]]))
    assert found.recurrent.tolist() == [False, True, False]
    assert found.period.tolist() == [2, 1, 1]
    assert found.chain_period == 1


def test_period_beyond_int64() -> None:
    primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53]
    a = np.zeros((sum(primes), sum(primes)))
    for start, p in zip(np.cumsum([0, *primes]), primes, strict=False):
        a[start : start + p, start : start + p] = np.roll(np.eye(p), 1, 1)
    found = classes(dense(a))
    assert found.period.tolist() == primes
    with pytest.raises(ChainError, match=str(math.prod(primes))):
        _ = found.chain_period


# ---- properties


@given(chains())
def test_any_chain(a: np.ndarray) -> None:
    agrees(classes(from_weights(torch.from_numpy(a))), a)


@given(st.integers(1, 12), st.floats(0.02, 0.5), st.integers(0, 2**20))
def test_any_graph(n: int, density: float, seed: int) -> None:
    """Sparse ones, where there are many classes of every kind."""
    rng = np.random.default_rng(seed)
    a = (rng.random((n, n)) < density).astype(float)
    a[a.sum(1) == 0, rng.integers(0, n)] = 1
    a /= a.sum(1, keepdims=True)
    found = classes(dense(a))
    agrees(found, a)
    assert closed_classes(dense(a)) == found.recurrent_count
    assert uniqueness(dense(a)) == (found.recurrent_count == 1)


@given(st.lists(chains(largest=6), min_size=4, max_size=4))
def test_batches_are_padded(several: list[np.ndarray]) -> None:
    """Every chain of a batch as it is alone; beyond its count not recurrent and of period 0."""
    n = max(len(a) for a in several)
    stacked = np.stack([np.pad(a, (0, n - len(a))) + np.diag(np.arange(n) >= len(a)) for a in several])
    operator = Dense(torch.from_numpy(stacked).reshape(2, 2, n, n))
    found = classes(operator)
    width = int(found.count.max())
    assert found.values.shape == (2, 2, n)
    assert found.recurrent.shape == found.period.shape == found.valid.shape == (2, 2, width)
    for i, a in enumerate(stacked):
        at = divmod(i, 2)
        alone = classes(dense(a))
        count = int(alone.count)
        assert found.count[at] == count
        assert torch.equal(found.values[at], alone.values)
        assert torch.equal(found.recurrent[at][:count], alone.recurrent)
        assert torch.equal(found.period[at][:count], alone.period)
        assert not found.recurrent[at][count:].any()
        assert not found.period[at][count:].any()
        assert found.valid[at].tolist() == [True] * count + [False] * (width - count)
        assert torch.equal(found.members(count - 1, at), alone.members(count - 1))
        assert found.chain_period[at] == alone.chain_period
    assert torch.equal(closed_classes(operator), found.recurrent_count)
    assert torch.equal(uniqueness(operator), found.recurrent_count == 1)


# ---- masks, structure, derived chains


def test_softmax_is_one_class_without_looking() -> None:
    """A million million steps: a boolean for each of them would not fit."""
    n = 10**6
    q, k = torch.randn(2, 3, n, 1)
    operator = QueryKey(q, k, 1.0, None, False)
    tracemalloc.start()
    found = classes(operator)
    assert tracemalloc.get_traced_memory()[1] < 100 * n
    tracemalloc.stop()
    assert found.values.shape == (3, n)
    assert found.irreducible.all()
    assert found.recurrent.tolist() == [[True]] * 3
    assert found.period.tolist() == [[1]] * 3
    assert uniqueness(operator).tolist() == [True] * 3


def test_underflow_is_no_zero() -> None:
    """Logits thousands apart: zero in any float, and yet a step that is possible."""
    q, k = 1000 * torch.randn(2, 2, 30, 4)
    operator = from_query_key(q, k, None, None, False)
    assert (operator.to_dense() == 0).any()
    assert classes(operator).irreducible.all()


def test_mask_in_blocks() -> None:
    """Three images side by side that do not see one another: one support for all heads."""
    block = torch.arange(12) // 4
    q, k = torch.randn(2, 2, 5, 12, 4)
    operator = from_query_key(q, k, None, block[:, None] == block, False)
    found = classes(operator)
    assert torch.equal(found.values, block.expand(2, 5, 12))
    assert found.recurrent.all()
    assert (found.period == 1).all()
    assert closed_classes(operator).tolist() == [[3] * 5] * 2


def test_masked_padding() -> None:
    """Padding attends, and nobody attends to it: transient, without a cycle."""
    q, k = torch.randn(2, 3, 6, 4)
    mask = (torch.arange(6) < 4).expand(3, 1, 6)
    found = classes(from_query_key(q, k, None, mask, False))
    assert found.values.tolist() == [[0, 0, 0, 0, 1, 2]] * 3
    assert found.recurrent.tolist() == [[True, False, False]] * 3
    assert found.period.tolist() == [[1, 0, 0]] * 3


@pytest.mark.parametrize("kind", ["matrix-free", "dense"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_causal(kind: str, direction: str) -> None:
    q, k = torch.randn(2, 2, 3, 9, 4)
    operator: Operator = from_query_key(q, k, None, None, True)
    if kind == "dense":
        operator = from_weights(operator.to_dense())
    if direction == "backward":
        operator = reverse(operator)
    assert operator.structure != "full"
    found = classes(operator)
    assert torch.equal(found.values, torch.arange(9).expand(2, 3, 9))
    stays = torch.arange(9) == (0 if direction == "forward" else 8)
    assert torch.equal(found.recurrent, stays.expand(2, 3, 9))
    assert (found.period == 1).all()
    assert uniqueness(operator).all()


def test_causal_with_several_ends() -> None:
    a = [[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0.25, 0, 0.75, 0]]
    operator = from_weights(torch.tensor(a))
    assert operator.structure == "lower"
    agrees(classes(operator), np.array(a))
    assert closed_classes(operator) == 2


def test_derived_chains() -> None:
    a = torch.from_numpy(np.stack([six(), np.roll(np.eye(6), 1, 1)]))
    operator = Dense(a)
    jump = torch.zeros(2, 6, dtype=torch.float64)
    jump[:, 0] = 1
    cases: list[tuple[Operator, Tensor]] = [
        (Lazy(operator, 0.5), a + torch.eye(6)),
        (Mixture(operator, torch.tensor([0.5, 0.5]).double()), a.sum(0)),
        (Mixture(operator, torch.tensor([1.0, 0.0]).double()), a[0]),
        (Teleport(operator, 0.9, jump), a + torch.eye(6)[0]),
        (Product([operator, operator]), a @ a),
        (reverse(Dense(a[1])), a[1].mT),
    ]
    for derived, positive in cases:
        found = classes(derived)
        for at in np.ndindex(*derived.batch):
            one = classes(derived.index(*at)) if at else found
            agrees(one, positive[at].numpy())
            assert torch.equal(one.values, found.values[at])


# ---- threshold


def test_threshold_ignores_rare_steps() -> None:
    label = torch.arange(8) // 4
    a = torch.where(label[:, None] == label, 1.0, 1e-3)
    operator = from_weights((a / a.sum(-1, keepdim=True)).expand(2, 8, 8))
    assert classes(operator).irreducible.all()
    found = classes(operator, 0.01)
    assert torch.equal(found.values, label.expand(2, 8))
    assert found.recurrent.all()
    assert found.certificate.uncertain.all()
    assert found.threshold == 0.01
    assert not classes(operator).certificate.uncertain.any()


def test_threshold_without_masks_looks_at_the_numbers(matrix_free: None) -> None:
    q, k = 4 * torch.randn(2, 3, 40, 4)
    operator = from_query_key(q, k, None, None, False)
    found = classes(operator, 0.05)
    for i, a in enumerate(operator.to_dense()):
        rows = torch.where(a > 0.05, a, 0.0).double().numpy()
        assert found.values[i].tolist() == labels_by_networkx(rows)


def test_threshold_of_a_causal_chain() -> None:
    a = torch.tensor([[1.0, 0, 0], [0.99, 0.01, 0], [0.01, 0.01, 0.98]])
    found = classes(from_weights(a), 0.1)
    assert found.recurrent.tolist() == [True, False, True]
    assert found.period.tolist() == [1, 0, 1]


def test_a_token_without_any_step_left() -> None:
    """All of its steps are rarer than ε: closed, and without a cycle."""
    a = torch.full((4, 4), 0.25)
    a[0] = torch.eye(4)[0]
    found = classes(from_weights(a), 0.5)
    assert found.recurrent.tolist() == [True] * 4
    assert found.period.tolist() == [1, 0, 0, 0]
    assert found.chain_period == 1


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(ChainError, match=r"threshold .* expected a probability"):
        classes(dense(np.eye(2)), threshold)


def test_members_out_of_range() -> None:
    found = classes(dense(np.stack([np.eye(3)] * 2)))
    with pytest.raises(ChainError, match=r"class 3 does not exist, expected 0 … 2"):
        found.members(3, 0)
    with pytest.raises(ChainError, match=r"expected the index of one chain of the batch \(2,\)"):
        found.members(0)
    with pytest.raises(ChainError, match="chain = 2"):
        found.members(0, 2)


# ---- many tokens


@pytest.mark.parametrize("kind", ["sparse", "cycle", "shuffled causal", "local"])
def test_thousands_of_tokens(kind: str) -> None:
    n, rng = 2048, np.random.default_rng(0)
    order = rng.permutation(n)
    if kind == "sparse":
        a = rng.random((n, n)) < 2 / n
        a[~a.any(1), 0] = True
    elif kind == "cycle":
        a = np.roll(np.eye(n, dtype=bool), 1, 1)
    elif kind == "shuffled causal":
        a = np.tri(n, dtype=bool)
    else:
        a = np.abs(np.arange(n)[:, None] - np.arange(n)) < 3
    a = a[order][:, order]
    found = classes(Dense(torch.from_numpy(a / a.sum(1, keepdims=True))))
    closed = {int(found.members(c)[0]) for c in found.recurrent.nonzero()[:, 0]}
    if kind == "shuffled causal":
        assert found.values.tolist() == list(range(n))
        assert closed == {int((order == 0).argmax())}
    else:
        assert found.values.tolist() == labels_by_networkx(a)
        graph = nx.from_numpy_array(a, create_using=nx.DiGraph)
        assert closed == {min(c) for c in nx.attracting_components(graph)}
    if kind == "cycle":
        assert found.period.tolist() == [n]

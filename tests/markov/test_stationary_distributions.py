"""All stationary distributions of reducible chains, periodic and nearly reducible ones too."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.operators import oracles as dense_oracles
from tokenrank.errors import ChainError
from tokenrank.markov import StationaryDistributions, closed_classes, stationary_distributions, uniqueness
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Lazy, Mixture, Operator, Teleport, from_query_key, from_weights, reverse

from . import heads, oracles
from .strategies import KINDS, chains
from .test_classes import six
from .test_elimination import two_pairs


def dense(rows: object) -> Dense:
    return Dense(torch.as_tensor(np.array(rows, dtype=np.float64)))


def sound(found: StationaryDistributions, a: Tensor, tol: float = 1e-14) -> None:
    """Distributions on the recurrent classes, one each, that do not move; zero beyond their count."""
    values, place = found.values, torch.arange(found.values.shape[-2])
    assert values.dtype == torch.float64
    assert values.shape == (*a.shape[:-2], int(found.count.max()), a.shape[-1])
    there = place < found.count[..., None]
    assert torch.isfinite(values).all()
    assert values.amin() >= 0
    assert torch.allclose(values.sum(-1), there.double(), atol=1e-13)
    moved = (values @ a.double() - values).abs().sum(-1)
    assert moved.max() <= tol
    # the certificate: what a product of one's own finds, to rounding
    assert (found.certificate.residual - moved).abs().max() < 1e-14
    assert found.certificate.converged.all()
    assert not found.certificate.residual[~there].any()
    # disjoint, and each within the class that it belongs to
    assert ((values > 0).sum(-2) <= 1).all()
    recurrent = found.classes.recurrent_tokens
    assert not values.sum(-2)[~recurrent].any()


def limit(a: np.ndarray) -> np.ndarray:
    """(½ I + ½ A)ⁿ for n = 2⁶⁰: where the walk is in the long run."""
    power = (np.eye(len(a)) + a) / 2
    for _ in range(60):
        power = power @ power
        power /= power.sum(1, keepdims=True)
    return power


# ---- known answers


def test_six_states() -> None:
    found = stationary_distributions(dense(six()))
    expected = [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3]]
    assert torch.allclose(found.values, torch.tensor(expected).double(), atol=1e-15)
    assert found.count == 2
    assert not found.unique
    assert found.classes.period.tolist() == [2, 0, 3]
    assert (found.certificate.residual == 0).all()
    sound(found, torch.from_numpy(six()))


def test_two_absorbing_states() -> None:
    """deeptime 0.4.5 returns [0, 0, 1] and says nothing."""
    found = stationary_distributions(dense([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]))
    assert found.values.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert closed_classes(dense([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]])) == 2


def test_identity_has_as_many_as_tokens() -> None:
    found = stationary_distributions(dense(np.eye(5)))
    assert torch.equal(found.values, torch.eye(5).double())
    assert found.count == 5


def test_permutation_is_uniform_on_its_cycles() -> None:
    order = [1, 2, 0, 4, 3, 5]
    found = stationary_distributions(dense(np.eye(6)[order]))
    expected = [[1 / 3] * 3 + [0] * 3, [0] * 3 + [0.5, 0.5, 0], [0] * 5 + [1]]
    assert torch.allclose(found.values, torch.tensor(expected).double(), atol=1e-15)
    sound(found, torch.eye(6)[order])


@pytest.mark.parametrize(("n", "epsilon"), [(27, 1e-2), (3, 1e-14)])
def test_kandori_mailath_rob(n: int, epsilon: float) -> None:
    """QuantEcon's test chain with p = ⅓; see ``test_known_answers``."""
    x = np.arange(n + 1)

    def reply(share: np.ndarray) -> np.ndarray:
        best = np.where(np.isclose(share, 1 / 3), 0.5, share > 1 / 3)
        return epsilon / 2 + (1 - epsilon) * best

    a = np.diag(x[1:] / n * (1 - reply((x[1:] - 1) / (n - 1))), -1)
    a += np.diag((n - x[:-1]) / n * reply(x[:-1] / (n - 1)), 1)
    a += np.diag(1 - a.sum(1))
    found = stationary_distributions(dense(a))
    assert found.unique
    assert found.certificate.residual.max() < 4e-16
    assert np.abs(found.values[0].numpy() / oracles.gth(a) - 1).max() < 1e-12


def test_block_diagonal() -> None:
    """(J₄/4) ⊕ [[.9, .1], [.1, .9]]."""
    a = np.zeros((6, 6))
    a[:4, :4] = 0.25
    a[4:, 4:] = [[0.9, 0.1], [0.1, 0.9]]
    found = stationary_distributions(dense(a))
    expected = [[0.25] * 4 + [0] * 2, [0] * 4 + [0.5] * 2]
    assert torch.allclose(found.values, torch.tensor(expected).double(), atol=1e-15)


# ---- properties


@given(chains())
def test_any_chain(a: np.ndarray) -> None:
    operator = from_weights(torch.from_numpy(a))
    found = stationary_distributions(operator)
    sound(found, torch.from_numpy(a))
    closed = sorted(nx.attracting_components(nx.from_numpy_array(a > 0, create_using=nx.DiGraph)), key=min)
    assert found.count == len(closed) == closed_classes(operator)
    assert found.unique == uniqueness(operator) == (len(closed) == 1)
    for members, pi in zip(map(sorted, closed), found.values.numpy(), strict=True):
        expected = np.zeros(len(a))
        expected[members] = oracles.gth(a[np.ix_(members, members)])
        assert np.allclose(pi, expected, rtol=1e-12, atol=1e-300)


@settings(max_examples=60)
@given(chains([k for k in KINDS if "nearly" not in k and k not in ("peaky", "birth and death")], largest=12))
def test_they_span_all_stationary_vectors(a: np.ndarray) -> None:
    """Where a walk is in the long run, whatever its start, is a mixture of them, by the mass in each class."""
    found = stationary_distributions(dense(a)).values.numpy()
    long_run = limit(a)
    shares = long_run @ (found > 0).T
    assert np.allclose(shares.sum(1), 1, atol=1e-9)
    assert np.allclose(shares @ found, long_run, atol=1e-9)


def test_batches_of_all_kinds() -> None:
    """Chains of one, two and five recurrent classes side by side, in two leading dimensions."""
    a = np.stack([np.eye(6), six(), np.full((6, 6), 1 / 6), np.roll(np.eye(6), 1, 1), six()[::-1, ::-1], np.eye(6)])
    a[5, 0] = 1 / 6
    weights = torch.from_numpy(a).reshape(2, 3, 6, 6)
    found = stationary_distributions(Dense(weights))
    assert found.count.tolist() == [[6, 2, 1], [1, 2, 5]]
    assert found.values.shape == (2, 3, 6, 6)
    assert found.certificate.residual.shape == found.certificate.converged.shape == (2, 3, 6)
    sound(found, weights)
    for at in np.ndindex(2, 3):
        alone = stationary_distributions(Dense(weights[at]))
        assert torch.allclose(found.values[at][: alone.values.shape[0]], alone.values, atol=1e-16)


# ---- every way to solve


def test_nine_heads_entry_by_entry() -> None:
    weights = heads.stacked()
    found = stationary_distributions(Dense(weights))
    assert found.certificate.method == "elimination"
    expected = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))
    assert (found.values[:, 0] / expected - 1).abs().max() < 1e-12
    sound(found, weights)


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_many_tokens_are_iterated(route: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Closed classes in a mask, too large to eliminate; padding that leads in."""
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    monkeypatch.setattr(constants, "CLASS_DIRECT", 4)
    monkeypatch.setattr(constants, "CLASS_STUBBORN", 4)
    group = torch.tensor([0] * 20 + [1] * 12 + [2] * 4 + [3] * 4)
    mask = (group[:, None] == group) | (group[:, None] == 3) & (group != 3)
    q, k = torch.randn(2, 2, 3, 40, 8)
    operator = from_query_key(q, k, None, mask, False)
    found = stationary_distributions(operator, tol=1e-12)
    assert found.certificate.method == "elimination"  # that of the group of four
    assert found.certificate.applies > 1
    assert found.count.tolist() == [[3] * 3] * 2
    sound(found, dense_oracles.attention(q, k, mask=mask), 1e-12)


def periodic(n: int, cycle: int) -> Tensor:
    """From one group of tokens to the next, by random weights."""
    group = torch.arange(n) % cycle
    a = torch.rand(n, n, dtype=torch.float64) * (group[None] == (group[:, None] + 1) % cycle)
    return a / a.sum(-1, keepdim=True)


@pytest.mark.parametrize("cycle", [2, 3, 7])
def test_periodic_chains_are_iterated(cycle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In groups of several sizes, so that power steps alone go round and round."""
    monkeypatch.setattr(constants, "CLASS_DIRECT", 0)
    monkeypatch.setattr(constants, "CLASS_STUBBORN", 0)
    a = torch.stack([periodic(61, cycle), periodic(61, cycle)])
    found = stationary_distributions(Dense(a), tol=1e-12)
    assert found.certificate.method == "gmres"
    assert found.classes.period.tolist() == [[cycle], [cycle]]
    sound(found, a, 1e-12)


def test_stubborn_chains_are_eliminated_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line that iterating is slow on, beside one that it is not."""
    monkeypatch.setattr(constants, "CLASS_DIRECT", 0)
    n = 150
    i = torch.arange(n)
    line = torch.where((i[:, None] - i).abs() == 1, torch.rand(n, n, dtype=torch.float64), 0.0)
    a = torch.stack([line / line.sum(-1, keepdim=True), torch.rand(n, n, dtype=torch.float64).softmax(-1)])
    found = stationary_distributions(Dense(a), tol=1e-13, max_applies=20)
    assert found.certificate.method == "elimination"
    sound(found, a, 1e-13)
    assert np.abs(found.values[0, 0].numpy() / oracles.gth(a[0].numpy()) - 1).max() < 1e-12


def test_out_of_applies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "CLASS_DIRECT", 0)
    monkeypatch.setattr(constants, "CLASS_STUBBORN", 0)
    weights = heads.stacked()
    found = stationary_distributions(Dense(weights), max_applies=60)
    slow = heads.NAMES.index("1-D local")
    assert not found.certificate.converged[slow].any()
    assert found.certificate.uncertain[slow].all()
    assert found.certificate.converged[heads.NAMES.index("8 clusters")].all()
    moved = (found.values @ weights - found.values).abs().sum(-1)
    assert torch.allclose(found.certificate.residual, moved, atol=1e-14)
    assert torch.isfinite(found.values).all()


def test_what_elimination_cannot_decide_is_iterated() -> None:
    """Two pairs joined by 10⁻⁴⁰⁰ both ways: one class, and no float64 for how much each has."""
    a = torch.from_numpy(two_pairs())
    a = a / a.sum(-1, keepdim=True)
    found = stationary_distributions(Dense(a))
    assert found.count == 1
    assert found.certificate.method in ("power", "gmres")
    sound(found, a, 1e-10)


def test_single_precision_weights() -> None:
    """Certified for the chain of the rows divided by their exact sums, also on some of the tokens."""
    a = torch.zeros(3, 30, 30)
    a[:, :20, :20], a[:, 20:, 20:] = torch.rand(3, 20, 20).softmax(-1), torch.rand(3, 10, 10).softmax(-1)
    operator = from_weights(a)
    found = stationary_distributions(operator)
    sound(found, dense_oracles.rows_to_one(a))
    assert found.count.tolist() == [2, 2, 2]


def test_causal_chains_end_in_the_first_token(matrix_free: None) -> None:
    q, k = torch.randn(2, 2, 3, 50, 4)
    operator = from_query_key(q, k, None, None, True)
    first = torch.eye(50, dtype=torch.float64)[0].expand(2, 3, 1, 50)
    assert torch.equal(stationary_distributions(operator).values, first)
    assert torch.equal(stationary_distributions(reverse(operator)).values, first.flip(-1))


def test_derived_chains() -> None:
    a = torch.from_numpy(np.stack([six(), np.eye(6)]))
    jump = torch.full((2, 6), 1 / 6, dtype=torch.float64)
    mean = torch.tensor([0.5, 0.5], dtype=torch.float64)
    cases: list[tuple[Operator, Tensor]] = [
        (Lazy(Dense(a), 0.5), a / 2 + torch.eye(6).double() / 2),
        (Teleport(Dense(a), 0.9, jump), 0.9 * a + 0.1 / 6),
        (Mixture(Dense(a), mean), a.mean(0)),
    ]
    for operator, expected in cases:
        sound(stationary_distributions(operator), expected)
    assert uniqueness(Teleport(Dense(a), 0.9, jump)).all()
    assert uniqueness(Lazy(Dense(a), 0.5)).tolist() == [False, False]


# ---- unique or not


def test_unique_by_a_token_that_all_attend_to() -> None:
    """A sink: one recurrent class, though not irreducible; beside a chain without it."""
    a = np.stack([np.eye(5) / 2, np.eye(5)])
    a[0, :, 2] += 0.5
    assert closed_classes(dense(a)).tolist() == [1, 5]
    assert uniqueness(dense(a)).tolist() == [True, False]


def test_unique_without_such_a_token() -> None:
    assert uniqueness(dense(np.roll(np.eye(4), 1, 1)))
    assert closed_classes(dense(np.roll(np.eye(4), 1, 1))).shape == ()


# ---- bad input


@pytest.mark.parametrize("tol", [0.0, -1.0, float("nan")])
def test_tolerance(tol: float) -> None:
    with pytest.raises(ChainError, match="tol = "):
        stationary_distributions(dense(np.eye(2)), tol=tol)


def test_number_of_applies() -> None:
    with pytest.raises(ChainError, match="max_applies = 1, expected at least 2"):
        stationary_distributions(dense(np.eye(2)), max_applies=1)

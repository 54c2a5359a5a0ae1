"""Metastable states: planted ones, published ones, and chains that have none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov.metastable import Metastable, metastable
from tokenrank.operators import Dense, Operator, Teleport, from_query_key, from_weights, reverse

from . import heads, strategies
from . import known_matrices as known

Array = np.ndarray


def chain(a: Array) -> Dense:
    return Dense(torch.from_numpy(np.ascontiguousarray(a)))


def planted(count: int) -> Array:
    """Labels of the clustered head, read off its large entries: rows of one cluster favour the same columns."""
    a = heads.nine_heads()[f"{count} clusters"]
    middle = {3: 0.02, 8: 0.03}[count]  # between the weights within and across
    shared = (np.sqrt(a) @ np.sqrt(a).T) > 0.5
    first = shared.argmax(1)
    labels = np.unique(first, return_inverse=True)[1]
    assert len(set(labels.tolist())) == count
    assert a[labels[:, None] != labels].max() < middle * a.max()
    return labels


def same_partition(found: Tensor, expected: Array) -> bool:
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    return len(pairs) == len(set(expected.tolist())) == len({p[0] for p in pairs})


def sound(answer: Metastable, a: Array, eta: Array | None = None) -> None:
    """One chain: memberships, coarse chain and its spectrum, certificate."""
    n, m = len(a), int(answer.count)
    eta = np.full(n, 1 / n) if eta is None else eta
    chi, coarse = answer.values.numpy(), answer.coarse.numpy()
    assert chi.shape == (n, m)
    assert chi.min() >= 0
    assert np.abs(chi.sum(1) - 1).max() < 1e-10
    assert (answer.labels.numpy() == chi.argmax(1)).all()
    assert answer.weights.numpy() == pytest.approx(chi.T @ eta, abs=1e-9)
    assert bool(answer.certificate.converged)
    assert 1 / m - 1e-9 <= float(answer.crispness) <= 1 + 1e-9
    filled = chi.T @ eta > 1e-9
    assert coarse.sum(1) == pytest.approx(filled.astype(float), abs=1e-6)
    if bool(answer.certificate.uncertain):
        return
    assert float(answer.certificate.residual) <= 0.01 * float(answer.gap)
    if filled.all():
        # G-PCCA's formula, solved without forming the inverse
        weighted = chi.T * eta
        assert np.abs(weighted @ chi @ coarse - weighted @ a @ chi).max() < 1e-7
        values = np.linalg.eigvals(a)
        values = values[np.argsort(-np.abs(values))][:m]
        own = np.linalg.eigvals(coarse)
        assert max(np.abs(own - v).min() for v in values) < 1e-4


# ---- planted states


@pytest.mark.parametrize("count", [3, 8])
@pytest.mark.parametrize("route", ["dense", "materialised", "matrix-free"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_clusters(count: int, route: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    weights = torch.from_numpy(heads.nine_heads()[f"{count} clusters"]).to(dtype)
    operator: Operator = from_weights(weights) if route == "dense" else heads.as_query_key(weights)
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    answer = metastable(operator)
    assert int(answer.count) == count
    assert same_partition(answer.labels, planted(count))
    assert float(answer.crispness) > 0.99
    assert float(answer.minchi) > -1e-3
    assert float(answer.gap) > 0.8
    assert float(answer.certificate.residual) < (1e-4 if dtype == torch.float32 else 1e-8)
    assert not bool(answer.certificate.uncertain)
    assert bool(answer.certificate.converged)
    assert answer.values.dtype == torch.float64


def test_clusters_in_a_plane() -> None:
    """Neighbours on a 16 × 16 grid: four corners, far less crisp than clusters, as the table says."""
    answer = metastable(chain(heads.nine_heads()["2-D local"]))
    assert int(answer.count) == 4
    row, column = np.divmod(np.arange(256), 16)
    assert (answer.labels.numpy()[(row < 5) & (column < 5)] == answer.labels.numpy()[0]).all()
    assert len({int(answer.labels[i]) for i in (0, 15, 240, 255)}) == 4
    assert 0.5 < float(answer.crispness) < 0.6


@pytest.mark.parametrize("name", ["random", "peaky random", "cyclic", "sink", "diagonal"])
def test_heads_without_states_get_one(name: str) -> None:
    answer = metastable(chain(heads.nine_heads()[name]))
    assert int(answer.count) == 1
    assert answer.values.shape == (256, 1)
    assert answer.values.eq(1).all()
    assert not answer.candidates.eligible.any()
    assert answer.coarse.tolist() == [[pytest.approx(1)]]


def test_the_table() -> None:
    answer = metastable(Dense(heads.stacked()), largest=5)
    table = answer.candidates
    assert table.counts.tolist() == [2, 3, 4, 5]
    for i, a in enumerate(heads.nine_heads().values()):
        values = np.linalg.eigvals(a)
        values = values[np.argsort(-np.abs(values), kind="stable")]
        for column, m in enumerate(table.counts.tolist()):
            cut = abs(values[:m].imag.sum()) > 1e-9
            for name in ("minchi", "crispness", "gap"):
                assert bool(torch.isnan(getattr(table, name)[i, column])) == cut, (i, m)
            assert not (cut and table.eligible[i, column])
            if not cut and heads.NAMES[i] != "cyclic":
                gap = abs(values[m - 1]) - abs(values[m])
                assert float(table.gap[i, column]) == pytest.approx(gap, abs=1e-6)
            if not cut and heads.NAMES[i] in ("1-D local", "3 clusters"):
                alone = metastable(chain(a), m)
                assert int(alone.count) == m
                assert float(alone.crispness) == pytest.approx(float(table.crispness[i, column]), abs=5e-3)
                assert float(alone.minchi) == pytest.approx(float(table.minchi[i, column]), abs=1e-3)
    assert metastable(Dense(heads.stacked()), 2).candidates is None


# ---- published chains


@pytest.mark.parametrize(("x", "states"), known.MU_STATES.items())
def test_mu_counts(x: int, states: int) -> None:
    """What pyGPCCA takes for the crispest of 2 … 7 states."""
    a, eta = known.mu(x)
    answer = metastable(chain(a), largest=7, reference=torch.from_numpy(eta))
    assert int(answer.count) == states
    sound(answer, a, eta)


def test_mu_0() -> None:
    a, eta = known.mu(0)
    answer = metastable(chain(a), reference=torch.from_numpy(eta))
    assert same_partition(answer.labels, np.repeat([0, 1, 2], 3))
    assert float(answer.crispness) == pytest.approx(known.MU_0_CRISPNESS, abs=1e-3)


def test_p_2() -> None:
    answer = metastable(chain(known.p_2()), largest=11)
    assert int(answer.count) == known.P_2_STATES
    assert float(answer.crispness) == pytest.approx(known.P_2_CRISPNESS[3], abs=1e-9)
    table = answer.candidates
    for m, crispness, minchi, gap in zip(table.counts.tolist(), table.crispness, table.minchi, table.gap, strict=True):
        if m not in known.P_2_CRISPNESS:
            assert torch.isnan(crispness)
            continue
        assert float(crispness) >= known.P_2_CRISPNESS[m] - 1e-9
        assert float(minchi) == pytest.approx(known.P_2_MINCHI[m], abs=1e-6)
        moduli = np.abs(known.P_2_EIGENVALUES)
        moduli[[3, 4, 5, 6, 7]] = np.sort(moduli[3:8])[::-1]
        assert float(gap) == pytest.approx(moduli[m - 1] - moduli[m], abs=1e-9)
    sound(answer, known.p_2())


@pytest.mark.parametrize("m", [m for m in known.P_2_CRISPNESS if m < 12])
def test_p_2_keeps_its_eigenvalues(m: int) -> None:
    answer = metastable(chain(known.p_2()), m)
    own = np.linalg.eigvals(answer.coarse.numpy())
    assert max(np.abs(own - v).min() for v in known.P_2_EIGENVALUES[:m]) < 1e-7
    sound(answer, known.p_2())


@pytest.mark.parametrize("k", [4, 6, 9])
def test_a_pair_is_never_cut(k: int) -> None:
    """The next number of states instead, and said so; other heads of the batch keep k."""
    answer = metastable(chain(known.p_2()), k)
    assert int(answer.count) == k + 1
    assert float(answer.crispness) >= known.P_2_CRISPNESS[k + 1] - 1e-9
    straight = 0.7 * np.eye(12) + 0.3 / 12 + 0.02 * np.diag(np.arange(12.0)) @ (np.eye(12) - 1 / 12)
    both = metastable(chain(np.stack([known.p_2(), straight])), k)
    assert both.count.tolist() == [k + 1, k]
    assert both.values[1, :, k].eq(0).all()
    assert both.coarse[1, k].eq(0).all()
    assert both.coarse[1, :, k].eq(0).all()


# ---- reducible, periodic, tiny


def test_two_blocks() -> None:
    """Eigenvalue one twice: two states found exactly; deeptime 0.4.5 raises here."""
    a = known.two_blocks()
    answer = metastable(chain(a), 2)
    assert same_partition(answer.labels, np.array([0, 0, 0, 0, 1, 1]))
    assert float(answer.crispness) == pytest.approx(1, abs=1e-12)
    assert answer.coarse.numpy() == pytest.approx(np.eye(2), abs=1e-12)
    assert answer.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    # the smaller block is two sticky tokens: equally crisp, and the larger gap comes after these
    chosen = metastable(chain(a))
    assert same_partition(chosen.labels, np.array([0, 0, 0, 0, 1, 2]))
    assert chosen.candidates.crispness[:2].tolist() == pytest.approx([1, 1])
    sound(chosen, a)


def test_blocks_and_a_token_between() -> None:
    """Transient tokens belong to where they will end up."""
    a = np.zeros((5, 5))
    a[:2, :2] = a[2:4, 2:4] = 0.5
    a[4] = [0.3, 0, 0.6, 0, 0.1]
    answer = metastable(chain(a), 2)
    assert answer.values[4].sort().values.tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-12)
    sound(answer, a)


def test_states_that_follow_each_other() -> None:
    """λ = −1: two halves that swap. Nothing is stayed in; asked for two, the coarse chain shows that."""
    a = np.kron([[0, 1], [1, 0]], np.full((4, 4), 0.25))
    answer = metastable(chain(a))
    assert int(answer.count) == 1
    assert float(answer.candidates.stays[0]) == pytest.approx(0, abs=1e-12)
    asked = metastable(chain(a), 2)
    assert asked.coarse.numpy() == pytest.approx(np.array([[0, 1], [1, 0]]), abs=1e-12)
    assert not bool(asked.certificate.uncertain)


@pytest.mark.parametrize("n", range(2, 9))
def test_identities_are_as_many_states_as_tokens(n: int) -> None:
    answer = metastable(chain(np.eye(n)))
    assert int(answer.count) == n
    assert sorted(answer.labels.tolist()) == list(range(n))
    assert float(answer.crispness) == pytest.approx(1, abs=1e-9)
    assert not bool(answer.certificate.uncertain)
    sound(answer, np.eye(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("noise", [0, 1e-12, 1e-6, 0.05, 0.3])
def test_a_cycle_is_not_torn_apart(n: int, noise: float) -> None:
    """Every token is left at every bounce."""
    rng = np.random.default_rng(n)
    a = (1 - noise) * np.roll(np.eye(n), 1, 1) + noise * rng.dirichlet(np.ones(n), n)
    order = rng.permutation(n)
    answer = metastable(chain(a[np.ix_(order, order)]))
    assert int(answer.count) == 1
    assert not answer.candidates.eligible.any()


@pytest.mark.parametrize("n", [3, 5, 8])
def test_a_cycle_asked_for_has_its_tokens(n: int) -> None:
    answer = metastable(chain(np.roll(np.eye(n), 1, 1)), n)
    assert sorted(answer.labels.tolist()) == list(range(n))
    sound(answer, np.roll(np.eye(n), 1, 1))


def test_two_cycles_are_two_states() -> None:
    a = np.zeros((7, 7))
    a[:3, :3], a[3:, 3:] = np.roll(np.eye(3), 1, 1), np.roll(np.eye(4), 1, 1)
    answer = metastable(chain(a), 2)
    assert same_partition(answer.labels, np.repeat([0, 1], [3, 4]))


def test_a_long_cycle_has_no_gap_to_cut_at() -> None:
    for a in (np.roll(np.eye(9), 1, 1), np.eye(9)):
        answer = metastable(chain(a))
        assert int(answer.count) == 1
        assert bool(answer.certificate.uncertain)
        assert bool(metastable(chain(a), 3).certificate.uncertain)


def test_an_empty_state_does_not_appear() -> None:
    """The four tokens of a cycle sit on a square: the crispest three memberships are two halves and nothing."""
    answer = metastable(chain(np.roll(np.eye(4), 1, 1)), 3)
    assert int(answer.count) == 2
    assert answer.values.shape == (4, 2)
    assert answer.weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
    assert answer.coarse.numpy() == pytest.approx(np.full((2, 2), 0.5), abs=1e-9)
    assert float(answer.crispness) == pytest.approx(1, abs=1e-9)
    # three of the four eigenvalues of modulus one are no subspace of their own
    assert bool(answer.certificate.uncertain)


def absorbing(rng: np.random.Generator, kind: int) -> tuple[Array, Array]:
    """Two or three recurrent classes and tokens that end in them; which token is in which class, −1 for none."""
    sizes = rng.integers(1, 4, int(rng.integers(2, 4)))
    inside, n = int(sizes.sum()), int(sizes.sum()) + int(rng.integers(1, 6))
    a, home, begin = np.zeros((n, n)), np.full(n, -1), 0
    for number, size in enumerate(sizes):
        part = slice(begin, begin + size)
        a[part, part] = np.roll(np.eye(size), 1, 1) if kind % 3 == 0 else rng.dirichlet(np.ones(size), size)
        home[part] = number
        begin += size
    for token in range(inside, n):
        row = rng.dirichlet(np.full(n, rng.choice([0.1, 1, 10]))) * (rng.random(n) < 0.6)
        if kind % 4 == 0:  # one after the other: the transient part is nilpotent
            row[inside:] = 0
            row[min(token + 1, n - 1)] += float(token + 1 < n)
        row[rng.integers(0, inside)] += 0.1
        a[token] = row / row.sum()
    order = rng.permutation(n)
    return a[np.ix_(order, order)], home[order]


@pytest.mark.parametrize("seed", range(40))
def test_transient_tokens_belong_to_where_they_end(seed: int) -> None:
    """As many states as recurrent classes: memberships are committors, by elimination in float64."""
    a, home = absorbing(np.random.default_rng(seed), seed)
    count, walking = int(home.max()) + 1, home < 0
    expected = np.eye(count)[home] * ~walking[:, None]
    q = a[np.ix_(walking, walking)]
    expected[walking] = np.linalg.solve(np.eye(len(q)) - q, a[walking][:, ~walking] @ expected[~walking])
    answer = metastable(chain(a), count)
    assert int(answer.count) == count
    state = [int(answer.labels[int(np.argmax(home == c))]) for c in range(count)]
    assert sorted(state) == list(range(count))
    assert np.abs(answer.values.numpy()[:, state] - expected).max() < 1e-9
    chosen = metastable(chain(a))
    assert (chosen.weights[: int(chosen.count)] > 1e-6).all()
    assert len(set(chosen.labels.tolist())) == int(chosen.count)


@pytest.mark.parametrize(("players", "share", "mutation"), [(27, 1 / 3, 0.01), (3, 1 / 3, 1e-14)])
def test_kandori_mailath_rob(players: int, share: float, mutation: float) -> None:
    """Players who revise one by one: two conventions, on either side of the share at which the other one pays.

    A. QuantEcon, "KMR Markov sequential".
    """
    n = np.arange(players + 1)
    a = np.zeros((players + 1, players + 1))
    for i in n:
        down, up = i / players, (players - i) / players
        below, above = (i - 1) / (players - 1), i / (players - 1)
        if i:
            a[i, i - 1] = down * (mutation / 2 + (1 - mutation) * ((below < share) + (below == share) / 2))
        if i < players:
            a[i, i + 1] = up * (mutation / 2 + (1 - mutation) * ((above > share) + (above == share) / 2))
        a[i, i] = 1 - a[i].sum()
    answer = metastable(chain(a))
    assert int(answer.count) == 2
    assert answer.labels[0] != answer.labels[-1]
    assert not bool(answer.certificate.uncertain)
    steps = np.diff(answer.labels.numpy())
    assert (steps != 0).sum() == 1


def test_repeated_rows_have_one_membership() -> None:
    rows = torch.randn(3, 12, dtype=torch.float64).mul(2).softmax(-1).numpy()
    which = np.arange(12) % 3
    answer = metastable(chain(rows[which]), 3)
    for kind in range(3):
        same = answer.values.numpy()[which == kind]
        assert np.abs(same - same[0]).max() < 1e-9


def test_a_chain_whose_eigenvectors_are_no_basis_is_answered() -> None:
    """Repeated eigenvalues in one chain of tokens; the basis that comes out is one, whatever the vectors were."""
    n = 12
    a = np.diag(np.full(n, 0.9)) + np.diag(np.full(n - 1, 0.1), -1)
    a[0] = np.eye(n)[0]
    for k in (None, 2, 5):
        answer = metastable(from_weights(torch.from_numpy(a)), k)
        assert torch.isfinite(answer.values).all()
        assert (answer.weights[: int(answer.count)] > 0).all()


def test_rank_one_has_one_state() -> None:
    a = np.tile(np.random.default_rng(0).dirichlet(np.ones(7)), (7, 1))
    answer = metastable(chain(a))
    assert int(answer.count) == 1
    assert float(answer.gap) == pytest.approx(1)
    assert not bool(answer.certificate.uncertain)
    asked = metastable(chain(a), 2)
    assert int(asked.count) == 2
    assert float(asked.gap) == pytest.approx(0, abs=1e-12)
    assert bool(asked.certificate.uncertain)


def test_one_token() -> None:
    for k in (None, 1):
        answer = metastable(Dense(torch.ones(2, 1, 1)), k)
        assert answer.count.tolist() == [1, 1]
        assert answer.values.tolist() == [[[1.0]], [[1.0]]]
        assert answer.coarse.tolist() == [[[1.0]], [[1.0]]]
        assert answer.labels.tolist() == [[0], [0]]


def test_as_many_states_as_tokens() -> None:
    a = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    answer = metastable(chain(a), 3)
    assert float(answer.crispness) == pytest.approx(1, abs=1e-9)
    order = answer.labels.numpy()
    assert answer.coarse.numpy()[np.ix_(order, order)] == pytest.approx(a, abs=1e-9)


def test_fewer_tokens_than_candidates() -> None:
    answer = metastable(chain(known.two_blocks()), largest=50)
    assert answer.candidates.counts.tolist() == [2, 3, 4, 5, 6]


# ---- operators, batches


def test_heads_do_not_depend_on_their_batch() -> None:
    some = [heads.nine_heads()[name] for name in ("cyclic", "8 clusters", "2-D local")]
    together = metastable(chain(np.stack(some)))
    for i, a in enumerate(some):
        alone = metastable(chain(a))
        m = int(alone.count)
        assert int(together.count[i]) == m
        assert torch.allclose(together.values[i, :, :m], alone.values, atol=1e-6)
        assert together.values[i, :, m:].eq(0).all()
        assert float(together.crispness[i]) == pytest.approx(float(alone.crispness), abs=1e-8)
        assert torch.equal(together.labels[i], alone.labels)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1, 3)])
@pytest.mark.parametrize("k", [None, 3])
def test_leading_dimensions(batch: tuple[int, ...], k: int | None) -> None:
    q, keys = 2 * torch.randn(2, *batch, 20, 4, dtype=torch.float64)
    answer = metastable(from_query_key(q, keys, None, None, False), k)
    width = int(answer.count.max())
    assert answer.values.shape == (*batch, 20, width)
    assert answer.labels.shape == (*batch, 20)
    assert answer.coarse.shape == (*batch, width, width)
    assert answer.weights.shape == (*batch, width)
    for name in ("count", "crispness", "minchi", "gap"):
        assert getattr(answer, name).shape == batch, name
    for name in ("residual", "uncertain", "converged"):
        assert getattr(answer.certificate, name).shape == batch, name
    if k is None:
        for name in ("minchi", "crispness", "gap", "eligible"):
            assert getattr(answer.candidates, name).shape == (*batch, 7), name


def test_derived_operators() -> None:
    weights = torch.from_numpy(heads.nine_heads()["3 clusters"])
    even = torch.full((256,), 1 / 256, dtype=torch.float64)
    for operator in (Teleport(Dense(weights), 0.99, even), reverse(Dense(weights))):
        answer = metastable(operator)
        assert int(answer.count) == 3
        assert same_partition(answer.labels, planted(3))
        sound(answer, operator.to_dense().numpy())


def test_causal() -> None:
    """Eigenvalues on the diagonal; the first token absorbs."""
    q, keys = 2 * torch.randn(2, 3, 40, 8, dtype=torch.float64)
    operator = from_query_key(q, keys, None, None, True)
    answer = metastable(operator, 2)
    for i, a in enumerate(operator.to_dense().numpy()):
        assert int(answer.count[i]) == 2
        assert float(answer.gap[i]) == pytest.approx(np.subtract(*np.sort(np.diag(a))[::-1][1:3]), abs=1e-9)
        assert answer.coarse[i].sum(-1).numpy() == pytest.approx(1, abs=1e-6)


# ---- properties


@settings(max_examples=50)
@given(strategies.chains(largest=12), st.none() | st.integers(1, 12))
def test_adversarial_chains(a: Array, k: int | None) -> None:
    k = None if k is None else min(k, len(a))
    answer = metastable(chain(a), k)
    if k is not None:
        assert int(answer.count) in (k, k + 1)
    sound(answer, a)


@settings(max_examples=25)
@given(strategies.chains(kinds=["random", "birth and death", "nearly reducible"]), st.integers(0, 2**20))
def test_relabelling_tokens(a: Array, seed: int) -> None:
    """Two states on a line have one answer, whatever the tokens are called."""
    answer = metastable(chain(a), min(2, len(a)))
    if bool(answer.certificate.uncertain) or int(answer.count) > 2 or float(answer.gap) < 1e-3:
        return
    order = np.random.default_rng(seed).permutation(len(a))
    other = metastable(chain(a[np.ix_(order, order)]), 2)
    assert float(other.crispness) == pytest.approx(float(answer.crispness), abs=1e-6)
    kernel = answer.values @ answer.values.mT
    assert torch.allclose(other.values @ other.values.mT, kernel[order][:, order], atol=1e-5)


@pytest.mark.parametrize(("name", "count"), [("3 clusters", 3), ("8 clusters", 8), ("2-D local", 4)])
def test_relabelling_tokens_of_heads(name: str, count: int) -> None:
    a = heads.nine_heads()[name]
    order = np.random.default_rng(1).permutation(256)
    answer, other = metastable(chain(a)), metastable(chain(a[np.ix_(order, order)]))
    assert int(answer.count) == int(other.count) == count
    # heaviest state first in both
    assert torch.allclose(other.values, answer.values[order], atol=1e-6)
    assert torch.allclose(other.coarse, answer.coarse, atol=1e-6)


# ---- bad input


@pytest.mark.parametrize("k", [0, -1, 13, 2.0, True, "2"])
def test_k_out_of_range(k: object) -> None:
    with pytest.raises(ChainError, match=r"states of a chain of 12 tokens, expected a whole number from 1 to 12"):
        metastable(chain(known.p_2()), k)  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [1, 0, 2.5, True])
def test_largest_out_of_range(largest: object) -> None:
    with pytest.raises(ChainError, match="largest = "):
        metastable(chain(known.p_2()), largest=largest)  # type: ignore[arg-type]


def test_reference_refused() -> None:
    for shape in ((), (5,), (2, 12), (1, 1, 12)):
        with pytest.raises(ChainError, match="reference distribution has shape"):
            metastable(chain(known.p_2()), 2, reference=torch.ones(shape))
    with pytest.raises(ChainError, match="expected positive ones"):
        metastable(chain(known.p_2()), 2, reference=torch.eye(12)[0])


# ---- peers


@pytest.mark.peers
@pytest.mark.parametrize("name", ["3 clusters", "8 clusters", "1-D local", "mu(0)", "mu(1000)", "P_2"])
def test_at_least_as_crisp_as_pygpcca(name: str) -> None:
    """Its Nelder–Mead against our linear program, on its own Schur basis order; equal where it converges."""
    gpcca = pytest.importorskip("pygpcca")
    cases = {
        "mu(0)": (*known.mu(0), range(2, 5)),
        "mu(1000)": (*known.mu(1000), range(2, 8)),
        "P_2": (known.p_2(), np.full(12, 1 / 12), [2, 3, 5, 7, 8]),
    }
    if name in cases:
        a, eta, counts = cases[name]
    else:
        a, eta, counts = heads.nine_heads()[name], np.full(256, 1 / 256), [2, 3, 8]
    for m in counts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = gpcca.GPCCA(a, eta=eta, method="brandts").optimize(m)
        ours = metastable(chain(a), m, reference=torch.from_numpy(eta))
        assert int(ours.count) == m
        assert float(ours.crispness) >= theirs.crispness_values[0] - 1e-8, m
        if float(ours.crispness) - theirs.crispness_values[0] < 1e-8:
            order = [int(i) for i in (ours.values.numpy().T @ theirs.memberships).argmax(1)]
            assert np.abs(ours.values.numpy() - theirs.memberships[:, order]).max() < 1e-3
            coarse = theirs.coarse_grained_transition_matrix[np.ix_(order, order)]
            assert np.abs(ours.coarse.numpy() - coarse).max() < 1e-3


@pytest.mark.peers
def test_two_blocks_stop_deeptime() -> None:
    deeptime = pytest.importorskip("deeptime", "0.4.5")
    if deeptime.__version__ != "0.4.5":
        pytest.skip(f"the contrast was seen with deeptime 0.4.5, not {deeptime.__version__}")
    from deeptime.markov import pcca as deeptime_pcca

    with pytest.raises(ValueError, match="connected"):
        deeptime_pcca(known.two_blocks(), 2)

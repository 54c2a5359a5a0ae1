"""PCCA+ on a basis: against enumeration, against published numbers, and its promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov.engine import constants
from tokenrank.markov.pcca.exchange import Cloud, adjacent, extreme
from tokenrank.markov.pcca.pcca import Pcca, pcca
from tokenrank.markov.pcca.simplex import crispness, feasible, inner_simplex, weighted_basis

from . import heads
from . import known_matrices as known

Array = np.ndarray


def basis(a: Array, m: int) -> Tensor:
    """Orthonormal basis (N, m) of the dominant subspace by numpy's eigenvectors, the constant one first."""
    values, vectors = np.linalg.eig(a)
    order = np.lexsort((-values.imag, -values.real.round(10), -np.abs(values).round(10)))
    values, vectors = values[order], vectors[:, order]
    columns = np.where(values.imag < 0, vectors.imag, vectors.real)
    columns[:, 0] = 1
    q, r = np.linalg.qr(columns[:, :m])
    return torch.from_numpy(q * np.sign(np.diag(r)))


def cloud_basis(points: Array) -> Tensor:
    """Any points (N, d) as a basis (N, d + 1): their span with the constant vector."""
    q, r = np.linalg.qr(np.concatenate([np.ones((len(points), 1)), points], 1))
    return torch.from_numpy(q * np.sign(np.diag(r)))


def crispest_by_enumeration(x: Array) -> float:
    """The maximum over all simplices whose facets are facets of the convex hull; X (N, m), first column 1."""
    n, m = x.shape
    facets = []
    for rows in itertools.combinations(range(n), m - 1):
        active = x[list(rows), 1:]
        if abs(np.linalg.det(active)) < 1e-9:
            continue
        b = np.linalg.solve(active, -np.ones(m - 1))
        if (1 + x[:, 1:] @ b).min() > -1e-9:
            facets.append(b)
    best = 0.0
    for chosen in itertools.combinations(facets, m):
        matrix = np.vstack([np.ones(m), np.array(chosen).T])
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        s = np.linalg.solve(matrix, np.eye(m)[0])
        if s.min() > -1e-9:
            best = max(best, (s @ (1 + np.square(chosen).sum(1))) / m)
    return best


def by_definition(chi: Tensor, eta: Tensor) -> Tensor:
    """(1/m) Σ_j ⟨χ_j, χ_j⟩ / ⟨χ_j, 1⟩."""
    return ((eta[..., None] * chi.square()).sum(-2) / (eta[..., None] * chi).sum(-2)).mean(-1)


def sound(answer: Pcca, given_basis: Tensor) -> None:
    """Memberships, in the subspace, no less crisp than the start, at an optimum."""
    chi = answer.memberships
    assert chi.amin() >= 0
    assert (chi.sum(-1) - 1).abs().max() < 1e-12
    outside = chi - given_basis @ (given_basis.mT @ chi)
    assert outside.abs().max() < 1e-8
    assert (answer.crispness >= answer.start).all()
    assert (answer.crispness <= 1 + 1e-12).all()
    assert (answer.weights.diff(dim=-1) <= 0).all()
    assert (answer.weights.sum(-1) - 1).abs().max() < 1e-9
    assert answer.converged.all()


# ---- the optimum


@settings(max_examples=60)
@given(st.integers(0, 2**20), st.sampled_from([(6, 3), (9, 3), (12, 3), (7, 4), (8, 4), (7, 5)]))
def test_the_crispest_of_all(seed: int, size: tuple[int, int]) -> None:
    """The search is local with looks elsewhere; of 2,400 further clouds of these sizes it missed one maximum."""
    n, m = size
    x = cloud_basis(np.random.default_rng(seed).standard_normal((n, m - 1)))
    answer = pcca(x)
    sound(answer, x)
    expected = crispest_by_enumeration((x * n**0.5).numpy())
    assert float(answer.crispness) == pytest.approx(expected, abs=1e-6)


def test_of_a_chain_against_enumeration() -> None:
    for m in (2, 3, 5):
        x = basis(known.p_2(), m)
        expected = crispest_by_enumeration((x * 12**0.5).numpy())
        assert float(pcca(x).crispness) == pytest.approx(expected, abs=1e-7)


def test_crispness_is_what_it_says() -> None:
    eta = torch.rand(12, dtype=torch.float64).add(0.1)
    eta = eta / eta.sum()
    x = basis(known.p_2(), 5)
    for reference in (None, eta):
        answer = pcca(x, reference)
        even = torch.full((12,), 1 / 12, dtype=torch.float64)
        measured = by_definition(answer.memberships, even if reference is None else eta)
        assert float(answer.crispness) == pytest.approx(float(measured), abs=1e-10)
        assert torch.allclose(answer.weights, answer.memberships.mT @ (even if reference is None else eta), atol=1e-10)


def test_two_states_have_one_answer() -> None:
    """A line: from the smallest entry of the second vector to the largest."""
    x = basis(known.p_2(), 2)
    v = x[:, 1]
    chi = (v - v.min()) / (v.max() - v.min())
    found = pcca(x).memberships
    column = int(found[int(v.argmax())].argmax())
    assert torch.allclose(found[:, column], chi, atol=1e-12)


def test_points_of_a_simplex_are_found_exactly() -> None:
    label = torch.tensor([0, 2, 1, 3, 3, 1, 0, 0, 2, 1])
    one_hot = torch.nn.functional.one_hot(label).double()
    answer = pcca(cloud_basis(one_hot[:, 1:].numpy()))
    assert float(answer.minchi) == pytest.approx(0, abs=1e-12)
    assert float(answer.crispness) == pytest.approx(1, abs=1e-12)
    assert torch.allclose(answer.memberships @ answer.memberships.mT, one_hot @ one_hot.mT, atol=1e-10)


def test_a_square_needs_two_states_only() -> None:
    """Parallel sides: the crispest three memberships are two halves and an empty one."""
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1.0]])
    answer = pcca(cloud_basis(corners))
    assert float(answer.crispness) == pytest.approx(2 / 3, abs=1e-9)
    assert answer.weights.tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-9)
    sound(answer, cloud_basis(corners))


# ---- published numbers


@pytest.mark.parametrize("m", known.P_2_CRISPNESS)
def test_p_2(m: int) -> None:
    """Equal where the start is feasible; elsewhere Nelder–Mead stopped early, and more is possible."""
    answer = pcca(basis(known.p_2(), m))
    published = known.P_2_CRISPNESS[m]
    assert float(answer.minchi) == pytest.approx(known.P_2_MINCHI[m], abs=1e-6)
    if known.P_2_MINCHI[m] == 0:
        assert float(answer.crispness) == pytest.approx(published, abs=1e-9)
    else:
        assert float(answer.crispness) > published + 0.1


def test_mu_0() -> None:
    a, eta = known.mu(0)
    answer = pcca(basis(a, 3), torch.from_numpy(eta))
    assert float(answer.crispness) == pytest.approx(known.MU_0_CRISPNESS, abs=1e-3)
    assert answer.weights.tolist() == pytest.approx(known.MU_0_WEIGHTS, abs=1e-9)


def test_mu_100() -> None:
    a, eta = known.mu(100)
    assert float(pcca(basis(a, 3), torch.from_numpy(eta)).minchi) == pytest.approx(known.MU_100_MINCHI, abs=1e-10)


def test_mu_1000() -> None:
    a, eta = known.mu(1000)
    found = float(pcca(basis(a, 5), torch.from_numpy(eta)).crispness)
    assert found >= known.MU_1000_CRISPNESS
    assert found == pytest.approx(0.80913330, abs=1e-7)  # ours; enumeration agrees
    x = weighted_basis(basis(a, 5)[None], torch.from_numpy(eta)[None])[0]
    assert found == pytest.approx(crispest_by_enumeration(x.numpy()), abs=1e-7)


# ---- batches


def test_a_cloud_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = torch.stack([basis(heads.nine_heads()[name], 5) for name in ("cyclic", "2-D local", "3 clusters", "sink")])
    together = pcca(clouds)
    for i, x in enumerate(clouds):
        alone = pcca(x)
        assert float(alone.crispness) == pytest.approx(float(together.crispness[i]), abs=1e-9)
        assert torch.allclose(alone.memberships, together.memberships[i], atol=1e-6)

    monkeypatch.setattr(constants, "PCCA_BYTES", 2 * 8 * heads.N * 25)  # two at a time
    chunks = pcca(clouds)
    assert torch.allclose(chunks.crispness, together.crispness, atol=1e-9)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 1, 3)])
def test_leading_dimensions(batch: tuple[int, ...]) -> None:
    x = basis(known.p_2(), 3).expand(*batch, 12, 3)
    answer = pcca(x, torch.full((12,), 1 / 12))
    assert answer.memberships.shape == (*batch, 12, 3)
    assert answer.rotation.shape == (*batch, 3, 3)
    assert answer.weights.shape == (*batch, 3)
    for name in ("crispness", "start", "minchi", "converged"):
        assert getattr(answer, name).shape == batch
    assert (answer.crispness - known.P_2_CRISPNESS[3]).abs().max() < 1e-9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_find_the_same(seed: int) -> None:
    clouds = torch.stack([basis(heads.nine_heads()[name], 4) for name in ("1-D local", "2-D local", "3 clusters")])
    assert torch.allclose(pcca(clouds, seed=seed).crispness, pcca(clouds).crispness, atol=1e-7)


@settings(max_examples=60)
@given(st.integers(0, 2**20), st.integers(1, 6), st.integers(0, 12), st.sampled_from([0, 1e-14, 1e-9, 1e-6]))
def test_points_that_coincide(seed: int, m: int, more: int, noise: float) -> None:
    """Blocks whose tokens are equal, exactly or almost: many facets where there is one corner."""
    rng = np.random.default_rng(seed)
    corners = rng.standard_normal((m + 2, m - 1))
    points = corners[np.r_[np.arange(m + 2), rng.integers(0, m + 2, more)]]
    x = cloud_basis(points + noise * rng.standard_normal(points.shape))
    answer = pcca(x)
    sound(answer, x)


def test_one_state() -> None:
    answer = pcca(torch.full((2, 9, 1), 1 / 3, dtype=torch.float64))
    assert answer.memberships.eq(1).all()
    assert answer.crispness.eq(1).all()


# ---- the simplex and the vertices


def test_weighted_basis_is_orthonormal_and_nested() -> None:
    x = basis(known.mu(100)[0], 4)[None]
    eta = torch.from_numpy(known.mu(100)[1])[None]
    y = weighted_basis(x, eta)
    assert torch.allclose(y.mT @ (eta[..., None] * y), torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert y[..., 0].eq(1).all()
    for m in range(1, 5):
        both = torch.cat([x[..., :m], y[..., :m]], -1)
        assert int(torch.linalg.matrix_rank(both, rtol=1e-9)) == m


@given(st.integers(0, 2**20), st.integers(2, 6))
def test_start_is_feasible(seed: int, m: int) -> None:
    x = cloud_basis(np.random.default_rng(seed).standard_normal((15, m - 1)))[None] * 15**0.5
    a, minchi = inner_simplex(x)
    raw = x @ a
    assert int((raw[0] > 1 - 1e-9).any(-2).sum()) == m  # every state has a token of its own
    assert float(minchi) == pytest.approx(float(raw.min()))
    filled = x @ feasible(x, a)
    assert filled.amin() > -1e-12
    assert (filled.sum(-1) - 1).abs().max() < 1e-10
    assert (filled.amin(-2).abs() < 1e-10).all()  # and touches zero
    assert 1 / m <= float(crispness(feasible(x, a))) <= 1


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(6, 14))
def test_vertices_of_the_polar(seed: int, d: int, n: int) -> None:
    """The farthest in a direction, and the neighbours, among all vertices by enumeration."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    points -= points.mean(0)
    every = []
    for rows in itertools.combinations(range(n), d):
        b = np.linalg.solve(points[list(rows)], -np.ones(d))
        if (1 + points @ b).min() > -1e-9:
            every.append((b, frozenset(rows)))
    cloud = Cloud(torch.from_numpy(points.T.copy())[None], torch.ones(n, dtype=torch.float64))
    directions = rng.standard_normal((5, d))
    found = extreme(cloud, torch.from_numpy(directions)[None])
    assert found.valid.all()
    expected = (directions @ np.array([b for b, _ in every]).T).max(1)
    assert (found.at[0].numpy() * directions).sum(1) == pytest.approx(expected)
    around = adjacent(cloud, found.rows)
    assert around.valid.all()
    for i, rows in enumerate(found.rows[0].tolist()):
        neighbours = {r for _, r in every if len(r & set(rows)) == d - 1 and r != frozenset(rows)}
        assert {frozenset(r) for r in around.rows[0, i * d : (i + 1) * d].tolist()} == neighbours
        for b, r in zip(around.at[0, i * d : (i + 1) * d], around.rows[0, i * d : (i + 1) * d].tolist(), strict=True):
            assert b.numpy() == pytest.approx(next(v for v, s in every if s == frozenset(r)), rel=1e-6, abs=1e-8)


# ---- bad input


def test_refusals() -> None:
    x = basis(known.p_2(), 3)
    with pytest.raises(ChainError, match="basis of 5 vectors on 3 tokens"):
        pcca(torch.zeros(3, 5, dtype=torch.float64))
    with pytest.raises(ChainError, match="float32"):
        pcca(x.float())
    with pytest.raises(ChainError, match="NaN"):
        pcca(x * torch.nan)
    with pytest.raises(ChainError, match="not orthonormal"):
        pcca(2 * x)
    with pytest.raises(ChainError, match="constant first column"):
        pcca(x.flip(-1))
    with pytest.raises(ChainError, match="reference distribution"):
        pcca(x, torch.eye(12)[0])

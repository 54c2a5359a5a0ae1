"""Kemeny's constant: eigenvalues, mean first passage, known chains, and the estimate's error bar."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import Kemeny, closed_classes, kemeny, mean_first_passage
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Operator, from_query_key, from_weights, reverse

from . import heads, oracles
from .strategies import chains, make


def by_eigenvalues(a: np.ndarray) -> float:
    """Σ_{i≥2} 1/(1 − λ_i), from the eigenvalues of A − 1uᵀ."""
    n = len(a)
    values = np.linalg.eigvals(np.asarray(a, dtype=np.float64) - 1 / n)
    return float((1 / (1 - values)).sum().real - 1)


def test_nine_heads() -> None:
    found = kemeny(Dense(heads.stacked()))
    assert found.values.tolist() == pytest.approx([by_eigenvalues(a) for a in heads.nine_heads().values()], rel=1e-9)
    assert found.standard_error.tolist() == [0] * 9
    assert found.certificate.converged.all()
    assert found.certificate.method == "elimination"


def test_bounces_to_a_token_drawn_from_the_stationary_distribution() -> None:
    """Σ_j π_j M_ij, whatever i is."""
    a = heads.stacked()[2:4]
    times = mean_first_passage(Dense(a))
    found = kemeny(Dense(a))
    from_each = (times.values / times.return_times[:, None]).sum(-1)
    assert torch.allclose(from_each, found.values[:, None].expand_as(from_each), rtol=1e-11)


@pytest.mark.parametrize(
    ("a", "value"),
    [
        (torch.full((7, 7), 1 / 7, dtype=torch.float64), 6.0),  # all other eigenvalues are 0
        (torch.eye(7).roll(1, 1), 3.0),  # a ring: Σ_k 1/(1 − e^{2πik/N}) = (N − 1)/2
        (torch.tensor([[0.75, 0.25], [0.5, 0.5]]), 1 / 0.75),
        (torch.ones(1, 1), 0.0),
        (torch.eye(3), torch.inf),
        (torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]), torch.inf),
        (torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25]]), 2 + 4 / 3),  # transient tokens count
    ],
)
def test_known_chains(a: Tensor, value: float) -> None:
    for operator in (Dense(a.double()), from_weights(a.double())):
        found = kemeny(operator)
        assert found.values.item() == pytest.approx(value, rel=1e-14)
        assert found.certificate.converged


@pytest.mark.parametrize("direction", ["lower", "upper"])
def test_triangular_chains_have_it_on_their_diagonal(direction: str) -> None:
    q, k = torch.randn(2, 2, 3, 60, 16)
    operator: Operator = from_query_key(q, k, None, None, True)
    operator = reverse(operator) if direction == "upper" else operator
    found = kemeny(operator)
    assert found.certificate.method == "diagonal"
    expected = [by_eigenvalues(a) for a in operator.to_dense(torch.float64).reshape(6, 60, 60).numpy()]
    assert found.values.reshape(-1).tolist() == pytest.approx(expected, rel=1e-8)


def test_tokens_that_almost_only_stay() -> None:
    """1/(1 − A_jj) where 1 − A_jj is below the spacing of floats at one."""
    a = torch.tensor([[1, 0, 0], [1e-20, 1, 0], [0.25, 1e-3, 0.749]], dtype=torch.float64)
    assert kemeny(Dense(a, "lower")).values.item() == pytest.approx(1e20, rel=1e-14)
    assert kemeny(Dense(a)).values.item() == pytest.approx(1e20, rel=1e-12)


@pytest.mark.parametrize("leak", [1e-4, 1e-12, 1e-100])
def test_nearly_separate_groups(leak: float) -> None:
    """Where 1 − λ₂ is far below the rounding of λ₂: against 400 digits."""
    n = 24
    a = make("nearly reducible", n, np.random.default_rng(1), leak)
    with mpmath.workdps(400):
        system = mpmath.matrix((-a).tolist())
        for i in range(n):
            system[i, i] = mpmath.fsum(a[i, k] for k in range(n) if k != i)
        inverse = (system + mpmath.ones(n, n) / n) ** -1
        exact = float(mpmath.fsum(inverse[i, i] for i in range(n)) - 1)
    assert kemeny(Dense(torch.from_numpy(a))).values.item() == pytest.approx(exact, rel=1e-10)


@settings(max_examples=120)
@given(chains(largest=10))
def test_never_nan_and_infinite_only_for_several_classes(a: np.ndarray) -> None:
    operator = from_weights(torch.from_numpy(a))
    found = kemeny(operator)
    assert not torch.isnan(found.values).any()
    if int(closed_classes(operator)) > 1:
        assert found.values == torch.inf
        assert found.certificate.converged
    elif bool(found.certificate.converged):
        assert (
            (len(a) - 1) / 2 - 1e-9 <= float(found.values) < np.inf
        )  # Hunter's bound: no chain is quicker than a ring


def test_a_batch_with_every_kind() -> None:
    a = torch.stack([torch.eye(4), torch.eye(4).roll(1, 1), torch.full((4, 4), 0.25)]).double()
    assert kemeny(Dense(a.reshape(3, 1, 4, 4))).values.tolist() == [[torch.inf], [1.5], [3]]


# ---- many tokens


def by_probes(operator: Operator, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Kemeny:
    monkeypatch.setattr(constants, "KEMENY_DIRECT", 0)
    return kemeny(operator, seed=seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_estimate_is_within_its_error_bar(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, matrix_free: None
) -> None:
    operator = heads.as_query_key(heads.stacked(dtype)[[0, 3, 5]])
    exact = torch.tensor([by_eigenvalues(a) for a in operator.to_dense(torch.float64).numpy()])
    found = by_probes(operator, monkeypatch)
    assert found.certificate.method == "hutch++"
    assert found.certificate.converged.all()
    assert (found.standard_error > 0).all()
    assert ((found.values - exact).abs() <= 5 * found.standard_error).all()
    assert (found.standard_error <= 0.02 * exact).all()


def test_the_error_bar_is_about_the_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.from_numpy(heads.nine_heads()["peaky random"])
    exact = by_eigenvalues(a.numpy())
    found = [by_probes(Dense(a), monkeypatch, seed) for seed in range(12)]
    scores = np.array([(float(f.values) - exact) / float(f.standard_error) for f in found])
    assert abs(scores.mean()) < 1.5
    assert 0.4 < scores.std() < 2.5


def test_several_classes_among_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.stack([heads.stacked()[0], torch.eye(heads.N, dtype=torch.float64)])
    found = by_probes(Dense(a), monkeypatch)
    assert found.values[1] == torch.inf
    assert found.standard_error[1] == 0
    assert abs(found.values[0] - by_eigenvalues(a[0].numpy())) <= 5 * found.standard_error[0]


def test_what_did_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "KEMENY_DIRECT", 0)
    found = kemeny(Dense(heads.stacked()[2]), max_applies=4)
    assert not found.certificate.converged


def test_effort_that_makes_no_sense() -> None:
    with pytest.raises(ChainError, match="probes = 5"):
        kemeny(Dense(torch.eye(2)), probes=5)
    with pytest.raises(ChainError, match="tol = 0"):
        kemeny(Dense(torch.eye(2)), tol=0)


def test_stationary_weights_are_those_of_elimination() -> None:
    """The two factors of Σ_j π_j M_ij by other means."""
    a = heads.nine_heads()["8 clusters"]
    pi = oracles.gth(a)
    z = np.linalg.inv(np.eye(heads.N) - a + pi)
    assert kemeny(Dense(torch.from_numpy(a))).values.item() == pytest.approx(np.trace(z) - 1, rel=1e-9)

"""An eigenvalue is certain only if it is: chains far from normal, against exact structure and many digits."""

from __future__ import annotations

import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import tokenrank
from tests import tally
from tokenrank.markov import lambda2, spectrum
from tokenrank.markov.engine import constants
from tokenrank.markov.engine.eigenvalues import eigen
from tokenrank.operators import Dense, from_query_key, from_weights

from . import strategies

Array = np.ndarray


def chain(a: Array) -> Dense:
    return Dense(torch.from_numpy(np.ascontiguousarray(a)))


def path(n: int, seed: int = 0) -> Array:
    """Token p(i) attends to p(i + 1), the last one to itself: all other eigenvalues are 0."""
    order = np.random.default_rng(seed).permutation(n)
    a = np.zeros((n, n))
    a[order[:-1], order[1:]] = a[order[-1], order[-1]] = 1
    return a


def shuffled(a: Array, seed: int) -> Array:
    order = np.random.default_rng(seed).permutation(len(a))
    return a[np.ix_(order, order)]


def exact(a: Array) -> Array:
    """λ2, … of the rows divided by their sums, with 40 + 20 N digits: of A_ij − A_0j without its first token."""
    n = len(a)
    with mpmath.workdps(40 + 20 * n):
        rows = [[mpmath.mpf(float(x)) for x in row] for row in a]
        rows = [[x / mpmath.fsum(row) for x in row] for row in rows]
        quotient = mpmath.matrix(n - 1, n - 1)
        for i in range(1, n):
            for j in range(1, n):
                quotient[i - 1, j - 1] = rows[i][j] - rows[0][j]
        if n == 2:
            return np.array([complex(quotient[0, 0])])
        return np.array([complex(x) for x in mpmath.eig(quotient, left=False, right=False)])


def farthest(values: Array, others: Array) -> float:
    """The largest distance in the best assignment of values to others, each once."""
    distance = np.abs(values[:, None] - others)
    sizes = np.unique(distance)
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high) // 2
        far = distance > sizes[middle]
        low, high = (low, middle) if not far[linear_sum_assignment(far)].any() else (middle + 1, high)
    return float(sizes[low])


def check(a: Array, others: Array, k: int = 4) -> None:
    """|λ2| and the spectrum are within their bounds, and what is certain is right."""
    operator = from_weights(torch.from_numpy(a))
    second = lambda2(operator)
    error = abs(float(second.values) - np.abs(others).max())
    assert second.certificate.error_bound is not None
    assert error <= float(second.certificate.error_bound) + 1e-15
    assert bool(second.certificate.uncertain) == (float(second.certificate.error_bound) > 5e-4)
    slow = spectrum(operator, k, left=True)
    count = int(slow.count)
    values = slow.values[1:count].numpy()
    if len(values):
        assert slow.certificate.error_bound is not None
        bound = float(slow.certificate.error_bound)
        assert farthest(values, others) <= bound + 1e-14
        moduli = np.sort(np.abs(others))[::-1]
        if count <= len(others):
            assert moduli[count - 1] <= np.abs(values).min() + bound + 1e-14
    if not slow.certificate.uncertain:
        assert slow.left is not None
        for matrix, basis in ((a, slow.right[:, :count].numpy()), (a.T, slow.left[:, :count].numpy())):
            assert np.abs(basis.T @ basis - np.eye(count)).max() < 1e-9
            image = matrix @ basis
            assert np.linalg.norm(image - basis @ (basis.T @ image)) < 1e-6


# ---- exact structure


@pytest.mark.parametrize("n", [2, 12, 64, 128, 129, 200])
def test_a_path_has_no_other_eigenvalue(n: int) -> None:
    """Nilpotent but for its end; LAPACK says 0.55 at 64 tokens and 0.75 at 128."""
    answer = lambda2(chain(path(n)))
    assert float(answer.values) == 0
    assert not bool(answer.certificate.uncertain)
    assert str(answer.certificate).startswith("exact")
    slow = spectrum(chain(path(n)), 3)
    assert slow.values.tolist() == [1, 0, 0][:n]
    assert not bool(slow.certificate.uncertain)


@pytest.mark.parametrize("n", [16, 64, 128, 150])
@pytest.mark.parametrize("logit", [2.0, 10.0, 15.0, 30.0])
def test_a_softmax_along_a_path_is_not_certain_of_what_it_cannot_know(n: int, logit: float) -> None:
    """Positive everywhere; on the quotient it is a multiple of the path, so that its other eigenvalues are 0, too."""
    answer = lambda2(chain(torch.from_numpy(logit * path(n)).softmax(-1).numpy()))
    assert bool(answer.certificate.uncertain)
    if n <= constants.LAMBDA2_STUBBORN:
        assert answer.certificate.error_bound is not None
        assert float(answer.values) <= float(answer.certificate.error_bound) + 1e-15
    slow = spectrum(chain(torch.from_numpy(logit * path(n)).softmax(-1).numpy()), 3)
    assert bool(slow.certificate.uncertain)


@pytest.mark.parametrize("seed", range(12))
def test_triangular_in_another_order(seed: int) -> None:
    """Repeated eigenvalues, Jordan blocks, numbers just below one: the diagonal, wherever it stands."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    a = np.tril(rng.random((n, n)) ** rng.choice([1, 30]), -1)
    diagonal = rng.choice([0, 0.3, 0.5, 1e-9, 0.9, 0.999999999999], n)
    a[1:] *= ((1 - diagonal) / a.sum(1).clip(min=1e-300))[1:, None]
    a += np.diag(diagonal)
    a[0] = np.eye(n)[0]
    a = a / a.sum(1, keepdims=True)
    check(a, a.diagonal()[1:])
    check(shuffled(a, seed), a.diagonal()[1:])


@pytest.mark.parametrize("diagonal", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [3, 12, 40])
def test_one_jordan_block(n: int, diagonal: float) -> None:
    a = np.diag(np.full(n, diagonal)) + np.diag(np.full(n - 1, 1 - diagonal), -1)
    a[0] = np.eye(n)[0]
    for b in (a, shuffled(a, n)):
        answer = lambda2(from_weights(torch.from_numpy(b)))
        assert float(answer.values) == pytest.approx(diagonal, abs=1e-14)
        assert not bool(answer.certificate.uncertain)
        check(b, np.full(n - 1, diagonal))


@pytest.mark.parametrize("seed", range(6))
def test_permutations_in_one_batch(seed: int) -> None:
    """82 permutations of 8 tokens: roots of unity, with both bases, in whatever batch."""
    rng = np.random.default_rng(seed)
    a = np.stack([np.eye(8)[rng.permutation(8)] for _ in range(82)])
    slow = spectrum(chain(a), 5, left=True)
    assert not slow.certificate.uncertain.any()
    assert (slow.values.abs()[~torch.isnan(slow.values.real)] - 1).abs().max() < 1e-12
    assert slow.left is not None
    for side in (slow.right, slow.left):
        given = side.square().sum(-2) > 0.5
        assert (side.mT @ side - torch.diag_embed(given.double())).abs().max() < 1e-10
    assert (lambda2(chain(a)).values == 1).all()


def test_one_head_that_lapack_gives_up_on_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(5, 20, 20, dtype=torch.float64).mul(2).softmax(-1)
    expected = spectrum(Dense(weights), 4, left=True)
    real, refused = np.linalg.eig, float(weights[3].diagonal().sum())

    def giving_up(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if abs(np.trace(matrix) + 1 - refused) < 1e-9 and len(matrix) == 19:
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return real(matrix)

    monkeypatch.setattr(np.linalg, "eig", giving_up)
    found = spectrum(Dense(weights), 4, left=True)
    others = [0, 1, 2, 4]
    assert (found.values[others] - expected.values[others]).abs().nan_to_num(nan=0).max() < 1e-10
    assert not found.certificate.uncertain[others].any()
    assert bool(found.certificate.uncertain[3])
    assert torch.isfinite(found.right).all()
    second = lambda2(Dense(weights))  # powers need no eigenvectors
    assert second.certificate.error_bound is not None
    off = abs(float(second.values[3]) - float(expected.values[3, 1].abs()))
    assert off <= float(second.certificate.error_bound[3])


@pytest.mark.parametrize("n", [40, 160])
def test_classes_beside_each_other(n: int) -> None:
    """A second recurrent class, and a periodic one: |λ2| = 1, exactly; nothing but transient tokens: their largest."""
    rng = np.random.default_rng(n)
    random = rng.dirichlet(np.ones(n // 2), n // 2)
    two = np.kron(np.eye(2), random)
    period = np.kron(np.array([[0, 1], [1, 0]]), random)
    for a in (two, period):
        answer = lambda2(chain(shuffled(a, 1)))
        assert float(answer.values) == 1
        assert not bool(answer.certificate.uncertain)
    one = np.zeros((n, n))
    one[: n // 2, : n // 2] = np.tile(random[0], (n // 2, 1))
    one[n // 2 :, n // 2 :] = 0.7 * random
    one[n // 2 :, 0] = 0.3
    answer = lambda2(chain(shuffled(one, 2)))
    assert float(answer.values) == pytest.approx(0.7, abs=1e-12)
    assert answer.certificate.error_bound is not None
    assert float(answer.certificate.error_bound) < 1e-9


def test_bounds_hold_what_the_softmax_rounds() -> None:
    q, k = 4 * torch.randn(2, 3, 30, 8)
    narrow, wide = from_query_key(q, k, None, None, False), from_query_key(q.double(), k.double(), None, None, False)
    a, b = lambda2(narrow), lambda2(wide)
    assert a.certificate.error_bound is not None
    assert b.certificate.error_bound is not None
    allowed = a.certificate.error_bound + b.certificate.error_bound
    assert ((a.values.double() - b.values).abs() <= allowed).all()
    assert "queries and keys" in str(a.certificate)


# ---- many digits


@settings(max_examples=60, deadline=None)
@given(a=strategies.chains(largest=6), k=st.integers(1, 5))
def test_against_many_digits(a: Array, k: int) -> None:
    tally.count("eigenvalues against many digits")
    if len(a) > 1:
        check(a / a.sum(1, keepdims=True), exact(a), k)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 6), heat=st.sampled_from([3.0, 15.0, 40.0, 150.0]), noise=st.sampled_from([0.0, 1e-6, 1.0]),
    seed=st.integers(0, 2**16), kind=st.sampled_from(["path", "random", "permutation", "repeated"]),
)  # fmt: skip
def test_hot_softmax_against_many_digits(n: int, heat: float, noise: float, seed: int, kind: str) -> None:
    tally.count("hot eigenvalues against many digits")
    rng = np.random.default_rng(seed)
    logits = {
        "path": path(n, seed),
        "random": rng.standard_normal((n, n)),
        "permutation": np.eye(n)[rng.permutation(n)],
        "repeated": rng.standard_normal((n, n))[rng.integers(0, n, n)],
    }[kind]
    a = torch.from_numpy(heat * logits + noise * rng.standard_normal((n, n))).softmax(-1).numpy()
    check(a, exact(a))


# ---- ordinary heads stay certain


@pytest.mark.parametrize("n", [8, 32, 64, 128])
@pytest.mark.parametrize("heat", [0.5, 3.0, 10.0])
def test_ordinary_heads_are_certain(n: int, heat: float) -> None:
    weights = torch.randn(6, n, n, dtype=torch.float64).mul(heat).softmax(-1)
    second, slow = lambda2(Dense(weights)), spectrum(Dense(weights), 5, left=True)
    assert not second.certificate.uncertain.any()
    assert second.certificate.error_bound is not None
    assert second.certificate.error_bound.max() < 1e-7
    assert not slow.certificate.uncertain.any()


def test_a_pair_that_is_none_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's LAPACK does so on some chains that are nearly permutations; PyTorch's overwrites memory there."""
    matrices = torch.randn(3, 12, 12, dtype=torch.float64)
    real, calls = np.linalg.eig, []

    def first_wrong(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = real(matrix)
        calls.append(len(matrix))
        return (values + (np.arange(len(values)) == 5), vectors) if len(calls) == 1 else (values, vectors)

    monkeypatch.setattr(np.linalg, "eig", first_wrong)
    values, vectors = eigen(matrices)
    assert len(calls) == 4
    assert (matrices.to(vectors) @ vectors - vectors * values[:, None]).abs().max() < 1e-12
    assert (values.sum(-1) - matrices.diagonal(dim1=-2, dim2=-1).sum(-1)).abs().max() < 1e-12


def test_no_eigenvalues_of_pytorchs_lapack_on_the_cpu() -> None:
    files = (Path(tokenrank.__file__).parent / "markov").rglob("*.py")
    assert not [file.name for file in files if re.search(r"torch\.linalg\.eig(vals)?\(", file.read_text("utf-8"))]

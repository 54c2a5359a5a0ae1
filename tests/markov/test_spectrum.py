"""Leading eigenvalues and slow subspaces against all eigenvalues, from weights and matrix-free."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import Spectrum, spectrum
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Lazy, Mixture, Operator, Teleport, from_query_key, from_weights, reverse

from . import heads, strategies

CYCLIC = heads.NAMES.index("cyclic")


def in_order(a: np.ndarray) -> np.ndarray:
    """All eigenvalues, moduli descending."""
    values = np.linalg.eigvals(a)
    return values[np.argsort(-np.abs(values), kind="stable")]


def check(found: Spectrum, dense: Tensor, k: int, tol: float = 1e-6) -> None:
    """Values in order and whole pairs; bases orthonormal and invariant, as the residuals say."""
    n = dense.shape[-1]
    flat = dense.double().reshape(-1, n, n).numpy()
    width = found.values.shape[-1]
    values, counts = found.values.reshape(-1, width).numpy(), found.count.reshape(-1).tolist()
    right = found.right.reshape(-1, n, width).numpy()
    left = None if found.left is None else found.left.reshape(-1, n, width).numpy()
    for i, (a, count) in enumerate(zip(flat, counts, strict=True)):
        assert min(k, n) <= count <= min(k + 1, n)
        value, exact = values[i, :count], in_order(a)[:count]
        assert np.abs(np.abs(value) - np.abs(exact)).max() <= tol
        assert value[0] == 1
        assert (np.diff(np.abs(value)) <= 1e-9).all()
        assert np.isnan(values[i, count:].real).all()
        assert (value.imag > 0).sum() == (value.imag < 0).sum(), "a pair is cut"
        above = np.flatnonzero(value.imag > 0)
        assert np.array_equal(value[above].conj(), value[above + 1])
        invariant(a, right[i, :, :count], tol)
        assert np.abs(np.abs(right[i, :, 0]) - n**-0.5).max() < 1e-12
        assert not right[i, :, count:].any()
        if left is not None:
            invariant(a.T, left[i, :, :count], tol)
            assert left[i, :, 0].min() >= -1e-9


def invariant(a: np.ndarray, q: np.ndarray, tol: float) -> None:
    assert np.abs(q.T @ q - np.eye(q.shape[1])).max() < 1e-10
    image = a @ q
    assert np.linalg.norm(image - q @ (q.T @ image)) <= tol * np.sqrt(q.shape[1])


@pytest.mark.parametrize("route", ["dense", "materialised", "matrix-free"])
def test_nine_heads(route: str, request: pytest.FixtureRequest) -> None:
    weights = heads.stacked()
    operator: Operator = Dense(weights) if route == "dense" else heads.as_query_key(weights)
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    found = spectrum(operator, 6, left=True)
    assert not found.certificate.uncertain.any()
    check(found, weights, 6)


def test_ring_beyond_the_reach_of_all_eigenvalues_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eigenvalues of one modulus: no Krylov space tells them apart."""
    monkeypatch.setattr(constants, "SPECTRUM_STUBBORN", 0)
    found = spectrum(Dense(heads.stacked()), 6)
    assert found.certificate.uncertain[CYCLIC]
    others = torch.arange(9) != CYCLIC
    assert not found.certificate.uncertain[others].any()
    assert found.right_residual[CYCLIC].max() > 1e-4


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9, 20])
def test_no_pair_is_cut_whatever_is_asked_for(k: int) -> None:
    weights = torch.randn(4, 40, 40, dtype=torch.float64).mul(3).softmax(-1)
    check(spectrum(Dense(weights), k, left=True), weights, k)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_krylov_and_all_eigenvalues_agree(k: int) -> None:
    weights = torch.randn(3, 200, 200, dtype=torch.float64).mul(4).softmax(-1)
    check(spectrum(Dense(weights), k, left=True), weights, k)


def test_batch_and_single_precision() -> None:
    q, k = torch.randn(2, 2, 3, 150, 8)
    operator = from_query_key(q, k, None, None, False)
    found = spectrum(operator, 4)
    assert found.values.shape[:-1] == found.count.shape == found.certificate.uncertain.shape == (2, 3)
    assert found.right.shape[:-1] == (2, 3, 150)
    assert found.values.dtype == torch.complex128
    assert found.right.dtype == torch.float64
    check(found, operator.to_dense(torch.float64), 4)


def test_a_head_does_not_depend_on_its_batch() -> None:
    weights = heads.stacked()
    together = spectrum(Dense(weights), 5)
    for i in range(9):
        alone = spectrum(Dense(weights[i]), 5)
        count = int(alone.count)
        assert count == together.count[i]
        assert (alone.values[:count] - together.values[i, :count]).abs().max() < 1e-6


def test_causal_values_are_the_diagonal() -> None:
    q, k = torch.randn(2, 3, 300, 16, dtype=torch.float64)
    operator = from_query_key(q, k, None, None, True)
    found = spectrum(operator, 4, left=True)
    expected = operator.diagonal().sort(-1, descending=True).values[:, :4]
    assert (found.values.real - expected).abs().max() < 1e-9
    assert not found.values.imag.any()
    check(found, operator.to_dense(), 4)


def test_reversed_causal() -> None:
    q, k = torch.randn(2, 2, 60, 8, dtype=torch.float64)
    operator = reverse(from_query_key(q, k, None, None, True))
    found = spectrum(operator, 3, left=True)
    expected = operator.diagonal().sort(-1, descending=True).values[:, :3]
    assert (found.values.real - expected).abs().max() < 1e-9


def test_nested_operators() -> None:
    q, k = torch.randn(2, 3, 140, 8, dtype=torch.float64)
    inner = Mixture(from_query_key(q, k, None, None, False), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))
    even = torch.full((140,), 1 / 140, dtype=torch.float64)
    for operator in (inner, Lazy(inner, 0.4), Teleport(inner, 0.9, even), reverse(inner)):
        check(spectrum(operator, 4, left=True), operator.to_dense(), 4)


def test_two_closed_blocks_have_two_eigenvalues_one() -> None:
    a = torch.zeros(6, 6, dtype=torch.float64)
    a[:4, :4] = 0.25
    a[4:, 4:] = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    found = spectrum(from_weights(a), 3)
    assert found.values.real.tolist() == pytest.approx([1, 1, 0.8], abs=1e-12)
    check(found, a, 3)


def test_permutations_are_rings_of_pairs() -> None:
    """A cycle of five: one, and two pairs of modulus one."""
    found = spectrum(from_weights(torch.eye(5, dtype=torch.float64).roll(1, 1)), 2)
    assert int(found.count) == 3
    assert found.values.abs().tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    assert found.timescales.amin() > 1e12
    assert float(found.gap) == pytest.approx(0, abs=1e-12)


def test_one_token_and_more_asked_for_than_there_are() -> None:
    found = spectrum(from_weights(torch.ones(1, 1)), 4, left=True)
    assert found.values.tolist() == [1]
    assert float(found.gap) == 1
    assert found.left is not None
    assert found.left.tolist() == [[1]]
    a = torch.rand(3, 3, dtype=torch.float64).softmax(-1)
    check(spectrum(from_weights(a), 9, left=True), a, 9)


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ChainError, match="expected at least 1"):
        spectrum(Dense(heads.stacked()), 0)


@settings(max_examples=60, deadline=None)
@given(a=strategies.chains(), k=st.integers(1, 6))
def test_adversarial_chains(a: np.ndarray, k: int) -> None:
    """Reducible, periodic and defective chains: finite, ordered, whole pairs; invariant where not flagged."""
    found = spectrum(from_weights(torch.from_numpy(a)), k)
    count = int(found.count)
    assert min(k, len(a)) <= count <= min(k + 1, len(a))
    assert torch.isfinite(torch.view_as_real(found.values[:count])).all()
    assert torch.isfinite(found.right).all()
    assert found.values[:count].abs().max() <= 1 + 1e-9
    values = found.values[:count]
    assert (values.imag > 0).sum() == (values.imag < 0).sum()
    if not found.certificate.uncertain:
        q = found.right[:, :count].numpy()
        image = a @ q
        assert np.linalg.norm(image - q @ (q.T @ image)) < 1e-5


@pytest.mark.parametrize("k", [80, 150, 159, 160, 200])
def test_nearly_all_and_all_eigenvalues(k: int) -> None:
    a = torch.rand(2, 160, 160, dtype=torch.float64)
    a = a / a.sum(-1, keepdim=True)
    found = spectrum(from_weights(a), k)
    exact = torch.linalg.eigvals(a).abs().sort(-1, descending=True).values
    for head in range(2):
        count = int(found.count[head])
        assert min(k, 160) <= count <= min(k + 1, 160)
        assert (found.values[head, :count].abs() - exact[head, :count]).abs().max() < 1e-8

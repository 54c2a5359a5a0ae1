"""Schur forms of one chain: orthogonal, backward stable, in order, whatever its eigenvectors are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank.markov import spectrum
from tokenrank.markov.eigen.schur import Schur, chain_schur, in_order, schur
from tokenrank.markov.engine.enclosure import discs, radius_from_powers, spread
from tokenrank.markov.support.communicating import graphs
from tokenrank.operators import Dense, from_weights

from . import strategies

Array = np.ndarray


def form_of(a: Array) -> Schur:
    graph = graphs(Dense(torch.from_numpy(a)[None]))[1][0]
    return chain_schur(a, *in_order(graph, a > 0))


def sound(form: Schur, a: Array, tolerance: float = 1e-10) -> None:
    n = len(a)
    assert np.abs(form.rows @ form.rows.T - np.eye(n)).max() < 1e-12
    assert np.abs(form.rows.T @ form.t @ form.rows - a).max() < tolerance
    for start, end in itertools.pairwise(form.starts):
        assert not form.t[end:, start:end].any()
    own = [w for v in form.values for w in ([v, v.conjugate()] if v.imag else [v])]
    assert np.sum(own) == pytest.approx(np.trace(a), abs=1e-8)


@settings(max_examples=80, deadline=None)
@given(a=strategies.chains(largest=16), k=st.integers(0, 8), back=st.booleans())
def test_forms_of_adversarial_chains(a: Array, k: int, back: bool) -> None:
    a = a / a.sum(1, keepdims=True)
    form = form_of(a)
    sound(form, a)
    assert form.values[0] == 1
    assert np.abs(form.rows[0] - len(a) ** -0.5).max() < 1e-15
    chosen = form.leading(k)
    moved = form.moved(chosen, back)
    sound(moved, a)
    assert sorted(map(abs, moved.values)) == pytest.approx(sorted(map(abs, form.values)), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12), seed=st.integers(0, 2**16), kind=st.sampled_from(["random", "nilpotent", "equal", "pairs"])
)
def test_forms_of_any_matrix(n: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    upper = np.triu(rng.standard_normal((n, n)), 1)
    inner = {
        "random": rng.standard_normal((n, n)),
        "nilpotent": upper,
        "equal": upper + 0.5 * np.eye(n),
        "pairs": np.kron(np.eye(n), [[0.3, 1], [-1, 0.3]])[:n, :n] + 0.1 * upper,
    }[kind]
    a = turn @ inner @ turn.T
    form = schur(a)
    assert np.abs(form.rows.T @ form.t @ form.rows - a).max() < 1e-10
    assert np.abs(form.rows @ form.rows.T - np.eye(n)).max() < 1e-12


def test_bases_of_a_causal_chain_of_saturated_logits() -> None:
    """Three diagonal entries are 1 to double precision, and others are 1e-250: substitution gives no basis."""
    n = 12
    rng = np.random.default_rng(3)
    for _ in range(30):
        logits = 200 * rng.standard_normal((n, n))
        logits[np.triu_indices(n, 1)] = -np.inf
        a = torch.from_numpy(logits).softmax(-1)
        found = spectrum(from_weights(a), 6, left=True)
        assert not bool(found.certificate.uncertain)
        assert found.left is not None
        for matrix, basis in ((a, found.right), (a.T, found.left)):
            assert (basis.T @ basis - torch.eye(6)).abs().max() < 1e-10
            image = matrix @ basis
            assert torch.linalg.matrix_norm(image - basis @ (basis.T @ image)) < 1e-6


# ---- enclosures


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 2**16), kind=st.sampled_from(["random", "jordan", "diagonal", "zero"]))
def test_discs_and_powers_hold_the_eigenvalues(n: int, seed: int, kind: str) -> None:
    """Of matrices whose eigenvalues are known: a triangle of whole numbers over eight turned by a reflection."""
    rng = np.random.default_rng(seed)
    diagonal = rng.integers(-8, 9, n) / 8.0
    if kind == "jordan":
        diagonal[:] = diagonal[0]
    upper = np.triu(rng.integers(-8, 9, (n, n)) / 8.0, 1) if kind in ("random", "jordan") else np.zeros((n, n))
    diagonal = 0 * diagonal if kind == "zero" else diagonal
    inner = upper + np.diag(diagonal)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    m = torch.from_numpy(turn @ inner @ turn.T)[None]
    slack = torch.tensor([1e-13 * (1 + float(np.linalg.norm(inner)))], dtype=torch.float64)  # of the two products
    values, vectors = torch.linalg.eig(m)
    radius = discs(m, values, vectors, slack)
    distance = spread(values, radius)
    off = np.abs(values[0].numpy()[:, None] - diagonal)
    assert (off.min(0) <= np.nanmax(radius[0].numpy())).all()
    if torch.isfinite(radius).all():
        assert all((off[:, i] <= radius[0].numpy()).any() for i in range(n)), "an eigenvalue in no disc"
        assert (off.min(1) <= distance[0].numpy()).all()
    lower, upper_bound = radius_from_powers(m, slack)
    assert float(lower) <= np.abs(diagonal).max() <= float(upper_bound)

"""Beside pyGPCCA: memberships, crispness, minChi and spectra on its own matrices and on attention."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings

import numpy as np
import pytest
import torch

from tests.markov import heads
from tests.markov import known_matrices as known
from tests.peers.chains import Array, operator, reversible
from tokenrank.markov import metastable, spectrum

pygpcca = pytest.importorskip("pygpcca")
pytestmark = pytest.mark.peers

UNIFORM_P_2 = (known.p_2(), np.full(12, 1 / 12))
CASES = {
    "mu(0)": (*known.mu(0), 3),
    "mu(100)": (*known.mu(100), 3),
    "mu(1000)": (*known.mu(1000), 5),
    "P_2, 2": (*UNIFORM_P_2, 2),
    "P_2, 3": (*UNIFORM_P_2, 3),
    "reversible": (0.5 * np.eye(15) + 0.5 * reversible(15), np.full(15, 1 / 15), 3),
    "3 clusters": (heads.nine_heads()["3 clusters"], np.full(256, 1 / 256), 3),
}


def theirs(a: Array, eta: Array, m: int):
    logging.getLogger("pygpcca").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return pygpcca.GPCCA(a, eta=eta, method="brandts").optimize(m)


@pytest.mark.parametrize("name", CASES)
def test_crispness_minchi_and_coarse_chain(name: str) -> None:
    a, eta, m = CASES[name]
    ours, other = metastable(operator(a), m, reference=torch.from_numpy(eta)), theirs(a, eta, m)
    crispness = float(np.max(other.optimal_crispness))
    assert float(ours.crispness) >= crispness - 1e-6
    low = pygpcca.GPCCA(a, eta=eta, method="brandts").minChi(2, max(m, 3))[m - 2]
    # where all tokens lie in the simplex minChi is 0 up to rounding
    assert float(ours.minchi) == pytest.approx(low, abs=1e-5)
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(ours.coarse.numpy())))[::-1]
    expected = np.sort(np.abs(np.linalg.eigvals(other.coarse_grained_transition_matrix)))[::-1]
    assert eigenvalues == pytest.approx(expected, abs=1e-6)
    assert ours.coarse.sum(-1).tolist() == pytest.approx([1.0] * m, abs=1e-9)


@pytest.mark.parametrize("name", ["mu(0)", "P_2, 3", "3 clusters"])
def test_memberships(name: str) -> None:
    """Where the crispest memberships are well determined both find the same, in another order."""
    a, eta, m = CASES[name]
    ours, other = metastable(operator(a), m, reference=torch.from_numpy(eta)), theirs(a, eta, m)
    chi = ours.values.numpy()
    off = min(np.abs(chi[:, list(p)] - other.memberships).max() for p in itertools.permutations(range(m)))
    assert off < 5e-3
    labels = {frozenset(np.flatnonzero(ours.labels == s).tolist()) for s in range(m)}
    assert labels == {frozenset(s.tolist()) for s in other.macrostate_sets}


@pytest.mark.parametrize("x", known.MU_STATES)
def test_number_of_states(x: int) -> None:
    """pyGPCCA asked for 2 … 7 takes the crispest; the crispest of ours is no less crisp."""
    a, eta = known.mu(x)
    ours = metastable(operator(a), largest=7, reference=torch.from_numpy(eta))
    assert ours.candidates is not None
    crispest = {}
    for m, value in zip(ours.candidates.counts.tolist(), ours.candidates.crispness.tolist(), strict=True):
        with contextlib.suppress(ValueError):
            crispest[m] = (value, float(np.max(theirs(a, eta, m).optimal_crispness)))
    assert len(crispest) >= 2
    assert all(value >= other - 1e-6 for value, other in crispest.values())
    assert max(crispest, key=lambda m: crispest[m][1]) == known.MU_STATES[x]


def test_pairs_are_never_cut() -> None:
    """m = 4 and 6 cut a pair of P_2: pyGPCCA raises, here the next number comes back."""
    for m in (4, 6):
        with pytest.raises(ValueError, match="conjugate"):
            theirs(*UNIFORM_P_2, m)
        assert int(metastable(operator(known.p_2()), m).count) == m + 1
        assert int(spectrum(operator(known.p_2()), m).count) == m + 1


@pytest.mark.parametrize("name", ["mu(0)", "mu(1000)", "P_2, 2"])
def test_spectrum_and_invariant_subspace(name: str) -> None:
    a, eta, m = CASES[name]
    other = theirs(a, eta, m)
    ours = spectrum(operator(a), m)
    assert np.sort(ours.values.abs().numpy()[:m]) == pytest.approx(
        np.sort(np.abs(other.dominant_eigenvalues[:m])), abs=1e-9
    )
    # the same subspace: their Schur vectors are orthonormal with respect to η
    q, _ = np.linalg.qr(other.schur_vectors[:, :m])
    basis = ours.right.numpy()[:, :m]
    assert np.linalg.norm(q - basis @ (basis.T @ q)) < 1e-6

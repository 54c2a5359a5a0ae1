"""Mixing times against powers taken one by one, and bounds that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank.errors import ChainError
from tokenrank.markov import MixingTime, classes, mixing, mixing_time, spectrum
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Lazy, from_query_key, from_weights

from . import heads, oracles
from .strategies import chains


def one_by_one(a: np.ndarray, epsilon: float = 0.25, limit: int = 3000) -> float:
    """The first power within ε (and 1e-12) of π; inf beyond the limit."""
    pi, power = oracles.gth(a), np.eye(len(a))
    for n in range(limit):
        if 0.5 * np.abs(power - pi).sum(1).max() <= epsilon + 1e-12:
            return n
        power = power @ a
    return math.inf


@pytest.mark.parametrize("epsilon", [0.25, 0.01])
def test_nine_heads(epsilon: float) -> None:
    found = mixing_time(Dense(heads.stacked()), epsilon)
    exact = [one_by_one(a, epsilon) for name, a in heads.nine_heads().items() if name != "1-D local"]
    others = [i for i, name in enumerate(heads.NAMES) if name != "1-D local"]
    assert found.lower[others].tolist() == found.values[others].tolist() == exact
    assert found.certificate.converged.all()
    assert found.epsilon == epsilon
    moduli = [oracles.second_modulus(a) for a in heads.nine_heads().values()]
    assert found.relaxation.tolist() == pytest.approx([1 / (1 - m) for m in moduli], rel=1e-4)


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.2), (1e-3, 1e-3), (0.5, 0.5), (0.9, 0.8), (1e-8, 3e-8)])
def test_two_tokens(p: float, q: float) -> None:
    """d(n) = max(p, q)/(p + q) · |1 − p − q|ⁿ."""
    found = mixing_time(Dense(torch.tensor([[1 - p, p], [q, 1 - q]], dtype=torch.float64)), 0.01)
    share, modulus = max(p, q) / (p + q), abs(1 - p - q)
    steps = math.ceil(math.log(share / 0.01) / -math.log(modulus) - 1e-9) if modulus > 1e-15 else 1
    assert float(found.lower) == float(found.values) == pytest.approx(steps, rel=1e-7)


def test_what_never_mixes() -> None:
    ring, apart = torch.eye(4).roll(1, 1), torch.eye(4)
    two_ways = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0.25, 0.25, 0.5, 0], [0, 0, 0.5, 0.5]])
    found = mixing_time(Dense(torch.stack([ring, apart, two_ways])))
    for values in (found.lower, found.values, found.relaxation):
        assert (values == torch.inf).all()
    assert found.certificate.converged.all()
    assert torch.isfinite(mixing_time(Lazy(Dense(ring), 0.5)).values)


def test_one_token_has_mixed() -> None:
    found = mixing_time(Dense(torch.ones(1, 1)))
    assert (found.lower, found.values, found.relaxation) == (0, 0, 1)


def test_slower_than_can_be_told() -> None:
    """2³⁰ bounces are not enough: that much is proved, and no more."""
    a = torch.tensor([[1, 0], [1e-14, 1 - 1e-14]], dtype=torch.float64)
    found = mixing_time(Dense(a))
    assert 2**30 < float(found.lower) <= math.log(4) / 1e-14
    assert found.values == torch.inf
    assert not found.certificate.converged


def test_causal_and_batched() -> None:
    operator = from_query_key(*torch.randn(2, 2, 3, 30, 8), None, None, True)
    found = mixing_time(operator)
    exact = [one_by_one(a) for a in operator.to_dense(torch.float64).reshape(6, 30, 30).numpy()]
    assert found.lower.shape == (2, 3)
    assert found.lower.reshape(-1).tolist() == exact


# ---- bounds, as for many tokens


def bounded(epsilon: float, monkeypatch: pytest.MonkeyPatch, squared: int = 2048) -> MixingTime:
    monkeypatch.setattr(constants, "MIXING_EXACT", 0)
    monkeypatch.setattr(constants, "MIXING_SQUARED", squared)
    return mixing_time(Dense(heads.stacked()), epsilon)


@pytest.mark.parametrize("epsilon", [0.25, 0.01])
def test_bounds_have_it_between_them(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = mixing_time(Dense(heads.stacked()), epsilon).lower
    found = bounded(epsilon, monkeypatch)
    assert (found.lower <= exact).all()
    assert (found.values >= exact).all()
    assert (found.lower >= exact / 5).all()  # and not by much
    assert (found.values <= exact * 4).all()


def test_one_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doeblin's bound of one step, where no powers are formed."""
    exact = mixing_time(Dense(heads.stacked())).lower
    found = bounded(0.25, monkeypatch, squared=0)
    assert (found.values >= exact).all()
    assert torch.isfinite(found.values[0])
    assert found.values[heads.NAMES.index("1-D local")] == torch.inf


def test_a_vector_that_is_none_proves_little_but_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower bound holds for whatever subspace it is given."""
    operator = Dense(heads.stacked())
    exact = mixing_time(operator).lower
    slow, generator = spectrum(operator, 2), torch.Generator().manual_seed(0)
    noise = torch.randn(slow.right.shape, generator=generator, dtype=torch.float64)
    for size in (1e-8, 1e-5, 1e-3, 0.1, 10):
        basis = torch.linalg.qr(slow.right + size * noise).Q
        basis = torch.cat([slow.right[..., :1], basis[..., 1:]], -1)
        assert (mixing._from_eigenvector(operator, replace(slow, right=basis), 0.25) <= exact).all()


@settings(max_examples=100, deadline=None)
@given(chains(largest=8), st.sampled_from([0.4, 0.25, 1e-3]))
def test_the_truth_is_between(a: np.ndarray, epsilon: float) -> None:
    operator = from_weights(torch.from_numpy(a))
    found = mixing_time(operator, epsilon)
    assert not any(torch.isnan(v).any() for v in (found.lower, found.values, found.relaxation))
    of_chain = classes(operator)
    if of_chain.recurrent_count > 1 or of_chain.period[of_chain.recurrent].amax() > 1:
        assert found.lower == torch.inf
        return
    assert found.lower <= found.values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "MIXING_EXACT", 0)
        loose = mixing_time(operator, epsilon)
    if of_chain.count > 1:
        return  # the oracle wants irreducible chains
    exact = one_by_one(a, epsilon, 500)
    for bounds in (found, loose):
        if math.isinf(exact):
            assert float(bounds.values) >= 500
        else:
            assert float(bounds.lower) <= exact <= float(bounds.values)


@pytest.mark.parametrize("epsilon", [0, 0.5, -1, 2, math.nan])
def test_distances_that_make_no_sense(epsilon: float) -> None:
    with pytest.raises(ChainError, match="epsilon"):
        mixing_time(Dense(torch.eye(2)), epsilon)

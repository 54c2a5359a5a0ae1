"""Where walks end first, against dense solves and rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import Absorption, absorption
from tokenrank.operators import Bipartite, Dense, Kernel, Operator, Relay, from_query_key, from_weights

from . import heads, rational
from .strategies import chains


def sets(n: int, *groups: list[int]) -> Tensor:
    out = torch.zeros(n, len(groups), dtype=torch.bool)
    for t, tokens in enumerate(groups):
        out[tokens, t] = True
    return out


def chain(rows: list[list[float]]) -> Dense:
    return from_weights(torch.tensor(rows, dtype=torch.float64))


def expected(a: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (…, N, T) and steps (…, N) of chains that surely end."""
    a, walking = a.double(), ~targets.any(-1)
    n = a.shape[-1]
    q = torch.where(walking[:, None] & walking, a, 0.0)
    b = torch.cat([a @ targets.double(), torch.ones(*a.shape[:-1], 1, dtype=torch.float64)], -1) * walking[:, None]
    x = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - q, b)
    return torch.where(walking[:, None], x[..., :-1], targets.double()), x[..., -1]


def certified(found: Absorption, a: Tensor, targets: Tensor, tol: float = 1e-8) -> None:
    probabilities, steps = expected(a, targets)
    for values, exact, certificate in (
        (found.values, probabilities, found.certificate),
        (found.steps[..., None], steps[..., None], found.steps_certificate),
    ):
        error, size = (values - exact).abs().amax((-2, -1)), exact.amax((-2, -1)).clamp(min=1)
        assert certificate.converged.all(), certificate
        assert certificate.error_bound is not None
        assert (error <= certificate.error_bound + 1e-11 * size).all()
        assert (certificate.error_bound <= tol * size).all()
    assert (found.escape == 0).all()
    assert found.reachable.dtype == torch.bool
    assert ((found.values.sum(-1) - 1).abs() < 1e-7).all()


# ---- known answers


def test_gamblers_ruin() -> None:
    """PyDTMC's gambler's ruin of four states: [[⅔, ⅓], [⅓, ⅔]] after two bounces."""
    a = chain([[1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 0, 1]])
    found = absorption(a, sets(4, [0], [3]))
    assert torch.allclose(found.values[1:3], torch.tensor([[2, 1], [1, 2]]).double() / 3, atol=1e-15)
    assert found.values[[0, 3]].tolist() == [[1, 0], [0, 1]]
    assert found.steps.tolist() == [0, 2, 2, 0]
    assert found.reachable.tolist() == [[True, False], [True, True], [True, True], [False, True]]


def test_two_absorbing_tokens() -> None:
    """[[1, 0, 0], [½, 0, ½], [0, 0, 1]]: asked for one of them, half of the walks escape."""
    a = chain([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]])
    found = absorption(a, sets(3, [0]))
    assert found.values[:, 0].tolist() == [1, 0.5, 0]
    assert found.escape.tolist() == [0, 0.5, 1]
    assert found.steps.tolist() == [0, torch.inf, torch.inf]
    assert found.reachable[:, 0].tolist() == [True, True, False]
    assert found.unreached.tolist() == [False]


def test_a_set_behind_another_is_not_reached() -> None:
    """0 → 1 → 2: the walk from 0 is absorbed in 1 and never sees 2."""
    found = absorption(chain([[0, 1, 0], [0, 0, 1], [0, 0, 1]]), sets(3, [2], [1]))
    assert found.values.tolist() == [[0, 1], [0, 1], [1, 0]]
    assert found.unreached.tolist() == [True, False]


def test_loops_that_never_end_have_probability_zero() -> None:
    """1 ↔ 2 for ever: x₁ = x₂ holds for any number, and the smallest is taken."""
    a = chain([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0.25, 0.25, 0, 0.5]])
    found = absorption(a, sets(4, [0]))
    assert found.values[:, 0].tolist() == [1, 0, 0, 0.5]
    assert found.escape.tolist() == [0, 1, 1, 0.5]


def test_sets_of_several_tokens_need_not_absorb_by_themselves() -> None:
    a = torch.rand(12, 12, dtype=torch.float64).softmax(-1)
    targets = sets(12, [0, 5, 7], [3], [10, 11])
    certified(absorption(from_weights(a), targets), a, targets)


def test_every_token_a_target() -> None:
    a = torch.rand(2, 5, 5).softmax(-1)
    found = absorption(from_weights(a), torch.eye(5, dtype=torch.bool))
    assert torch.equal(found.values, torch.eye(5).double().expand(2, 5, 5))
    assert (found.steps == 0).all()
    assert found.unreached.all()
    assert found.certificate.converged.all()


# ---- cross-attention


def test_image_tokens_end_in_text_tokens() -> None:
    """(I − (1 − p) A)⁻¹ p C, after 1/p bounces from everywhere; a text token without attention is named."""
    a, c = torch.rand(2, 20, 20, dtype=torch.float64).softmax(-1), torch.rand(2, 20, 4, dtype=torch.float64)
    c[:, :, 2] = 0
    c /= c.sum(-1, keepdim=True)
    operator = Bipartite(Dense(a), Kernel(c), 0.1)
    found = absorption(operator, sets(24, [20], [21], [22], [23]))
    soft = torch.linalg.solve(torch.eye(20, dtype=torch.float64) - 0.9 * a, 0.1 * c)
    assert torch.allclose(found.values[:, :20], soft, atol=1e-13)
    assert torch.allclose(found.steps[:, :20], torch.full((), 10.0).double(), atol=1e-11)
    assert found.unreached.tolist() == [[False, False, True, False]] * 2
    assert (found.values[:, :20, 2] == 0).all()
    assert not found.reachable[:, :20, 2].any()


def test_the_same_text_for_every_image_token() -> None:
    """Wherever the walk crosses over, it finds one distribution."""
    row = torch.tensor([0.5, 0.3, 0.2]).double()
    operator = Bipartite(Dense(torch.rand(9, 9).double().softmax(-1)), Kernel(row.expand(9, 3)), 0.3)
    found = absorption(operator, torch.eye(12, dtype=torch.bool)[:, 9:])
    assert torch.allclose(found.values[:9], row.expand(9, 3), atol=1e-15)


def test_there_and_back_is_a_chain_like_others() -> None:
    out, back = torch.rand(8, 3, dtype=torch.float64).softmax(-1), torch.rand(3, 8, dtype=torch.float64).softmax(-1)
    targets = sets(8, [0, 1], [7])
    certified(absorption(Relay(Kernel(out), Kernel(back)), targets), out @ back, targets)


# ---- all ways


TARGETS = sets(heads.N, [0, 1, 2], [100], list(range(200, 210)))


def test_nine_heads(way: str) -> None:
    certified(absorption(Dense(heads.stacked()), TARGETS), heads.stacked(), TARGETS)


def test_nine_heads_matrix_free(way: str, matrix_free: None) -> None:
    operator: Operator = heads.as_query_key(heads.stacked(torch.float32))
    # logits of 256 terms, up to 87: 3e-10 of an entry
    certified(absorption(operator, TARGETS, tol=1e-6), operator.to_dense(torch.float64), TARGETS, 1e-6)


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_causal(route: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    """Every walk ends at token 0 unless it is stopped before; in single precision too."""
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    operator = from_query_key(*torch.randn(2, 2, 3, 300, 16, dtype=dtype), None, None, True)
    targets = sets(300, [0], [40], [41, 42])
    found = absorption(operator, targets)
    assert found.certificate.method == "substitution"
    certified(found, operator.to_dense(torch.float64), targets)
    without_the_end = absorption(operator, targets[:, 1:])
    assert (without_the_end.escape[..., :40] == 1).all()
    assert (without_the_end.escape[..., 43:] > 0).all()
    assert torch.allclose(without_the_end.escape[..., 43:], found.values[..., 43:, 0], rtol=1e-10)


def test_a_batch_is_its_chains(way: str) -> None:
    weights = heads.stacked()[:4].reshape(2, 2, heads.N, heads.N)
    targets = torch.zeros(2, 2, heads.N, 2, dtype=torch.bool)
    for i, j in np.ndindex(2, 2):
        targets[i, j, [i + 3 * j, 7], 0] = True
        targets[i, j, 50 + i, 1] = True
    found = absorption(Dense(weights), targets)
    for i, j in np.ndindex(2, 2):
        alone = absorption(Dense(weights[i, j]), targets[i, j])
        assert torch.allclose(found.values[i, j], alone.values, atol=1e-8)
        assert torch.allclose(found.steps[i, j], alone.steps, rtol=1e-8)
        assert alone.certificate.converged.shape == ()


@settings(max_examples=120)
@given(chains(largest=9), st.integers(0, 2**20))
def test_against_rational_numbers(a: np.ndarray, seed: int) -> None:
    """Entry by entry, and what can happen at all exactly."""
    n, rng = len(a), np.random.default_rng(seed)
    tokens = rng.permutation(n)[: max(1, min(3, n - 1))]
    groups = [[int(t)] for t in tokens]
    found = absorption(from_weights(torch.from_numpy(a)), sets(n, *groups))
    caught, misses = rational.missing(a, {int(t) for t in tokens})
    walking = [i for i in range(n) if i not in tokens and i not in caught]
    p = rational.chain(a)
    lost = [sum((p[i][j] for j in caught), Fraction(0)) for i in walking]
    rhs = [[p[i][t] for t in tokens] + [gone, Fraction(1)] for i, gone in zip(walking, lost, strict=True)]
    exact = rational.killed(p, walking, rhs)
    for i in range(n):
        assert found.escape[i] == 1 or i not in caught
        assert (found.escape[i] == 0) == (i not in misses)
        assert (found.steps[i] == np.inf) == (i in misses)
        if i in exact:
            numbers = [*found.values[i].tolist(), float(found.escape[i])]
            for number, value in zip(numbers, exact[i][:-1], strict=True):
                assert abs(Fraction(number) - value) <= value * Fraction(1, 10**11) + Fraction(1, 10**290)
            if i not in misses:
                assert float(found.steps[i]) == pytest.approx(float(exact[i][-1]), rel=1e-11)
    for t in range(len(tokens)):
        others = [i for i in range(n) if i not in tokens]
        assert (found.values[others, t][~found.reachable[others, t]] == 0).all()
        assert all((exact[i][t] > 0) == bool(found.reachable[i, t]) for i in walking)
        assert bool(found.unreached[t]) == (not found.reachable[others, t].any())
    assert found.certificate.converged


# ---- refusals


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.ones(3, 1), "expected bool"),
        (torch.ones(4, 1, dtype=torch.bool), "one column for each set"),
        (torch.ones(3, dtype=torch.bool), "one column for each set"),
        (torch.ones(2, 3, 1, dtype=torch.bool), "one column for each set"),
        (torch.ones(3, 0, dtype=torch.bool), "no target given"),
        (sets(3, [0], []), "target 1 has no tokens"),
        (sets(3, [0, 2], [1], [2]), "token 2 is in targets 0 and 2"),
    ],
)
def test_targets_that_make_no_sense(targets: Tensor, words: str) -> None:
    with pytest.raises(ChainError, match=words):
        absorption(Dense(torch.eye(3)), targets)


def test_effort_that_makes_no_sense() -> None:
    with pytest.raises(ChainError, match="tol = 0"):
        absorption(Dense(torch.eye(3)), sets(3, [0]), tol=0)
    with pytest.raises(ChainError, match="max_applies = 1"):
        absorption(Dense(torch.eye(3)), sets(3, [0]), max_applies=1)

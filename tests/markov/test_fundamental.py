"""Z x against the inverse, and its certificate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import Fundamental, closed_classes, fundamental
from tokenrank.operators import Dense, Operator, from_query_key, from_weights, reverse

from . import heads, oracles
from .strategies import chains

X = torch.from_numpy(np.random.default_rng(0).standard_normal((heads.N, 3)))


def expected(a: Tensor, pi: Tensor, x: Tensor) -> Tensor:
    return torch.linalg.solve(torch.eye(a.shape[-1], dtype=torch.float64) - a + pi[..., None, :], x)


def exact_pi(a: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([oracles.gth(m) for m in a.numpy()]))


def certified(found: Fundamental, a: Tensor, pi: Tensor, x: Tensor) -> None:
    z = expected(a, pi, x.expand(*a.shape[:-1], -1))
    mean = pi @ x
    size = z.abs().amax((-2, -1)).clamp(min=1)
    assert found.certificate.converged.all(), found.certificate
    assert found.certificate.error_bound is not None
    for values, exact in ((found.values, z), (found.deviation, z - mean[..., None, :])):
        error = (values - exact).abs().amax((-2, -1))
        assert (error <= found.certificate.error_bound + 1e-11 * size).all()
        assert (error <= 1e-8 * size).all()
    assert torch.allclose(found.mean, mean, atol=1e-9)
    assert ((pi[..., None, :] @ found.deviation).abs().amax((-2, -1)) <= 1e-8 * size).all()
    assert (found.certificate.residual <= 1e-6).all()


def test_nine_heads(way: str) -> None:
    weights = heads.stacked()
    certified(fundamental(Dense(weights), X, tol=1e-7), weights, exact_pi(weights), X)


def test_matrix_free_in_single_precision(matrix_free: None) -> None:
    operator = heads.as_query_key(heads.stacked(torch.float32))
    dense = operator.to_dense(torch.float64)
    # logits of 256 terms, up to 87: 3e-10 of an entry, of which the bound counts T³ for times T
    certified(fundamental(operator, X, tol=1e-3), dense, exact_pi(dense), X)


@pytest.mark.parametrize("direction", ["lower", "upper"])
def test_triangular(direction: str) -> None:
    """π is the token at the end of the walk."""
    operator: Operator = from_query_key(*torch.randn(2, 3, 300, 16, dtype=torch.float64), None, None, True)
    end = 0
    if direction == "upper":
        operator, end = reverse(operator), 299
    pi = torch.eye(300, dtype=torch.float64)[end].expand(3, -1)
    x = torch.randn(300, 2, dtype=torch.float64)
    found = fundamental(operator, x)
    assert found.certificate.method == "substitution"
    certified(found, operator.to_dense(), pi, x)
    assert torch.allclose(found.mean, x[end].expand(3, -1))


def test_a_ring_has_a_fundamental_matrix_though_its_powers_do_not_converge() -> None:
    a = torch.eye(6, dtype=torch.float64).roll(1, 1)
    x = torch.eye(6, dtype=torch.float64)
    certified(fundamental(Dense(a), x), a, torch.full((6,), 1 / 6, dtype=torch.float64), x)


def test_transient_tokens() -> None:
    a = torch.tensor([[0.5, 0.25, 0.25, 0], [0, 0.5, 0.5, 0], [0, 0.25, 0.75, 0], [0.5, 0.5, 0, 0]]).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    certified(fundamental(from_weights(a), x), a, torch.tensor([0, 1 / 3, 2 / 3, 0], dtype=torch.float64), x)


def test_the_deviation_is_what_is_collected_beyond_the_mean() -> None:
    """Σ_t (Aᵗx − 1πᵀx), and Z1 = 1."""
    a, x = torch.rand(8, 8, dtype=torch.float64).softmax(-1), torch.rand(8, 2, dtype=torch.float64)
    found = fundamental(Dense(a), x)
    collected, power = torch.zeros_like(x), x
    for _ in range(60):
        collected, power = collected + power - found.mean, a @ power
    assert torch.allclose(found.deviation, collected, atol=1e-12)
    ones = fundamental(Dense(a), torch.ones(8, 1))
    assert torch.allclose(ones.values, torch.ones(8, 1).double(), atol=1e-14)


def test_a_batch_is_its_chains() -> None:
    a, x = torch.rand(2, 3, 9, 9).softmax(-1), torch.rand(2, 3, 9, 2)
    found = fundamental(Dense(a), x)
    assert found.values.shape == (2, 3, 9, 2)
    assert found.mean.shape == (2, 3, 2)
    for i, j in np.ndindex(2, 3):
        alone = fundamental(Dense(a[i, j]), x[i, j])
        assert torch.allclose(found.values[i, j], alone.values, atol=1e-12)


def test_one_token() -> None:
    found = fundamental(Dense(torch.ones(1, 1)), torch.tensor([[3.0]]))
    assert found.values.item() == found.mean.item() == 3
    assert found.deviation.item() == 0


@settings(max_examples=120)
@given(chains(largest=12))
def test_the_bound_holds_or_nothing_is_claimed(a: np.ndarray) -> None:
    operator, x = from_weights(torch.from_numpy(a)), torch.from_numpy(np.random.default_rng(len(a)).random((len(a), 2)))
    if int(closed_classes(operator)) > 1:
        with pytest.raises(ChainError, match="recurrent classes"):
            fundamental(operator, x)
        return
    found = fundamental(operator, x)
    assert found.certificate.error_bound is not None
    for values in (found.values, found.deviation, found.mean):
        assert not torch.isnan(values).any()
    if not bool(found.certificate.converged):
        return
    assert float(found.certificate.error_bound) <= 1e-8 * max(1, float(found.values.abs().max()))
    z = found.values
    # (I − A + 1πᵀ) Z x = x, with πᵀZx = πᵀx
    assert torch.allclose(z - torch.from_numpy(a) @ z + found.mean, x, atol=1e-7 * float(z.abs().max().clamp(min=1)))


@pytest.mark.parametrize("shape", [(3,), (4, 1), (2, 3, 1), (3, 0)])
def test_vectors_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ChainError, match=r"expected \(3, c\)"):
        fundamental(Dense(torch.full((3, 3), 1 / 3)), torch.ones(shape))


def test_vectors_that_are_no_numbers() -> None:
    with pytest.raises(ChainError, match="NaN or infinite"):
        fundamental(Dense(torch.full((2, 2), 0.5)), torch.tensor([[1.0], [torch.nan]]))


def test_several_classes_are_named() -> None:
    a = torch.full((2, 2, 4, 4), 0.25)
    a[1, 0] = torch.eye(4)
    with pytest.raises(ChainError, match=r"chain \[1, 0\] has 4 recurrent classes"):
        fundamental(Dense(a), torch.ones(4, 1))

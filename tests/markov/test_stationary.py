"""TokenRank against elimination, on heads from well to badly behaved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.operators import oracles as dense_oracles
from tokenrank.markov import Stationary, stationary
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Mixture, Operator, Restricted, Teleport, from_query_key, from_weights, reverse

from . import heads, oracles

ALPHA, PLENTY = 0.99, 5000


def even(operator: Operator) -> Tensor:
    return torch.full(operator.shape[:-1], 1 / operator.num_tokens, dtype=torch.float64)


def solve(operator: Operator, alpha: float = ALPHA, tol: float = 1e-8, jump: Tensor | None = None) -> Stationary:
    return stationary(operator, alpha, even(operator) if jump is None else jump, tol, PLENTY)


def exact(dense: Tensor, alpha: float = ALPHA) -> Tensor:
    flat = dense.double().reshape(-1, *dense.shape[-2:]).numpy()
    return torch.from_numpy(np.stack([oracles.pagerank(a, alpha) for a in flat])).reshape(dense.shape[:-1])


def certified(answer: Stationary, expected: Tensor, tol: float) -> None:
    """Converged, within the tolerance, and within the bound that the certificate proves."""
    certificate = answer.certificate
    error = (answer.values - expected).abs().sum(-1)
    assert certificate.error_bound is not None
    assert certificate.converged.all(), certificate
    assert certificate.converged.shape == certificate.residual.shape == certificate.error_bound.shape == error.shape
    assert (error <= certificate.error_bound).all(), (error, certificate)
    assert (certificate.error_bound <= tol).all()
    assert answer.values.amin() >= 0
    assert (answer.values.sum(-1) - 1).abs().max() < 1e-12
    assert answer.values.dtype == torch.float64


# ---- the nine heads


@pytest.mark.parametrize("route", ["directly", "iterated"])
def test_nine_heads_dense(route: str, request: pytest.FixtureRequest) -> None:
    if route == "iterated":
        request.getfixturevalue("iterated")
    weights = heads.stacked()
    answer = solve(Dense(weights))
    assert answer.certificate.method == ("gmres" if route == "iterated" else "lu")
    certified(answer, exact(weights), 1e-8)


def test_nine_heads_matrix_free(matrix_free: None) -> None:
    """Queries that are logarithms: products of 256 numbers of up to 700 may be off by 1e-10, relatively."""
    weights = heads.stacked()
    certified(solve(heads.as_query_key(weights), tol=1e-6), exact(weights), 1e-6)


def test_nine_heads_backward() -> None:
    weights = heads.stacked()
    certified(solve(reverse(Dense(weights))), exact(dense_oracles.reverse(weights)), 1e-8)


@pytest.mark.parametrize("name", heads.NAMES)
def test_each_head_alone(name: str, iterated: None) -> None:
    """No head is carried by the others in its batch."""
    weights = torch.from_numpy(heads.nine_heads()[name])
    certified(solve(Dense(weights)), exact(weights), 1e-8)


def test_nine_heads_single_precision_weights() -> None:
    """Certified for the chain of the rounded weights, rows divided by their sums."""
    weights = heads.stacked(torch.float32)
    answer = solve(from_weights(weights), tol=1e-6)
    certified(answer, exact(dense_oracles.rows_to_one(weights)), 1e-6)


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_nine_heads_single_precision_queries_and_keys(
    route: str, direction: str, request: pytest.FixtureRequest
) -> None:
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    operator: Operator = heads.as_query_key(heads.stacked(torch.float32))
    dense = operator.to_dense(torch.float64)
    if direction == "backward":
        operator, dense = reverse(operator), dense_oracles.reverse(dense)
    certified(solve(operator, tol=1e-6), exact(dense), 1e-6)


@pytest.mark.parametrize("route", ["directly", "iterated"])
def test_tight_tolerance_in_single_precision(route: str, request: pytest.FixtureRequest) -> None:
    """Refinement in float64: the precision of the weights does not limit the answer."""
    if route == "iterated":
        request.getfixturevalue("iterated")
    weights = heads.stacked(torch.float32)
    certified(solve(from_weights(weights), tol=1e-10), exact(dense_oracles.rows_to_one(weights)), 1e-10)


def test_few_applies_where_mixing_is_quick(iterated: None) -> None:
    answer = solve(Dense(torch.from_numpy(heads.nine_heads()["random"])))
    assert answer.certificate.applies <= 12
    assert answer.certificate.method == "power"


# ---- derived chains keep the promise


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_single_precision_through_every_operator(route: str, request: pytest.FixtureRequest) -> None:
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    q, k = 1.5 * torch.randn(2, 2, 4, 40, 8)
    inner = from_query_key(q, k, None, None, False)
    dense = dense_oracles.attention(q, k)
    w, keep = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(2, 4), torch.arange(3, 33)
    jump = torch.rand(2, 4, 40).double().softmax(-1)
    for operator, expected in (
        (Mixture(inner, w), dense_oracles.mix(dense, w)),
        (reverse(Mixture(inner, w)), dense_oracles.reverse(dense_oracles.mix(dense, w))),
        (Restricted(inner, keep), dense_oracles.restrict(dense, keep)),
        (Teleport(inner, 0.9, jump), dense_oracles.teleport(dense, 0.9, jump)),
        (reverse(Restricted(inner, keep)), dense_oracles.reverse(dense_oracles.restrict(dense, keep))),
    ):
        certified(solve(operator, tol=1e-9), exact(expected), 1e-9)


# ---- alpha


def test_alpha_zero_is_the_jump() -> None:
    operator = Dense(heads.stacked())
    jump = torch.rand(9, heads.N, dtype=torch.float64)
    jump = jump / jump.sum(-1, keepdim=True)
    answer = solve(operator, 0.0, 1e-12, jump)
    assert torch.allclose(answer.values, jump, atol=1e-15)
    assert answer.certificate.converged.all()


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.85, 0.999, 0.99999])
def test_other_alphas(alpha: float) -> None:
    weights = heads.stacked()
    certified(solve(Dense(weights), alpha), exact(weights, alpha), 1e-8)


def test_without_teleport() -> None:
    """alpha = 1: eliminated, entry by entry, with a bound whatever the gap."""
    weights = heads.stacked()
    answer = solve(Dense(weights), 1.0, 1e-12)
    assert answer.certificate.method == "elimination"
    expected = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))
    assert (answer.values / expected - 1).abs().max() < 1e-12
    certified(answer, expected, 1e-8)
    assert not answer.certificate.uncertain.any()


def test_without_teleport_iterated(iterated: None) -> None:
    """The residual meets the tolerance; a bound is what the rows have in common, and a bound it is."""
    weights = heads.stacked()
    answer = solve(Dense(weights), 1.0, 1e-12)
    certificate = answer.certificate
    assert certificate.error_bound is not None
    assert certificate.converged.all()
    residual = (answer.values[:, None] @ weights)[:, 0] - answer.values
    assert residual.abs().sum(-1).max() <= 2e-12
    expected = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))
    error = (answer.values - expected).abs().sum(-1)
    # |error| is about residual / (1 − |λ2|), at most 1e3 here
    assert error.max() < 1e-8
    assert (error <= certificate.error_bound).all()
    local, sink = heads.NAMES.index("1-D local"), heads.NAMES.index("sink")
    assert certificate.error_bound[local].isinf()
    assert certificate.error_bound[sink] < 1e-10


def test_without_teleport_from_queries_and_keys(matrix_free: None) -> None:
    operator = heads.as_query_key(heads.stacked(torch.float32))
    answer = solve(operator, 1.0, 1e-7)
    dense = operator.to_dense(torch.float64)
    assert answer.certificate.converged.all()
    assert ((answer.values[:, None] @ dense)[:, 0] - answer.values).abs().sum(-1).max() <= 1.1e-7


def test_personalization() -> None:
    weights = heads.stacked()
    jump = torch.zeros(9, heads.N, dtype=torch.float64)
    jump[:, 17] = 1.0
    expected = np.stack([oracles.linear_solve(a, 0.85, v) for a, v in zip(weights.numpy(), jump.numpy(), strict=True)])
    certified(solve(Dense(weights), 0.85, jump=jump), torch.from_numpy(expected), 1e-8)


def test_a_jump_shared_by_all_chains() -> None:
    weights = heads.stacked()[:2]
    jump = torch.rand(heads.N, dtype=torch.float64).softmax(-1)
    expected = np.stack([oracles.pagerank(a, ALPHA, jump.numpy()) for a in weights.numpy()])
    certified(solve(Dense(weights), jump=jump), torch.from_numpy(expected), 1e-8)


# ---- leading dimensions


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (2, 1, 3)])
def test_leading_dimensions(batch: tuple[int, ...]) -> None:
    q, k = 2 * torch.randn(2, *batch, 20, 4, dtype=torch.float64)
    answer = solve(from_query_key(q, k, None, None, False))
    assert answer.values.shape == (*batch, 20)
    certified(answer, exact(dense_oracles.attention(q, k)), 1e-8)


def test_heads_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """More heads than fit into memory at a time: nothing is mixed up."""

    q, k = 2 * torch.randn(2, 7, 20, 4, dtype=torch.float64)
    monkeypatch.setattr(constants, "DENSE_BYTES", 3 * 20 * 20 * 8)
    certified(solve(from_query_key(q, k, None, None, False)), exact(dense_oracles.attention(q, k)), 1e-8)


# ---- causal chains


@pytest.mark.parametrize("kind", ["weights", "queries and keys", "matrix-free", "mask", "padded"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_causal_by_substitution(
    kind: str, direction: str, dtype: torch.dtype, tolerance: float, request: pytest.FixtureRequest
) -> None:
    """300 tokens, more than one block of the substitution."""
    n = 300
    q, k = 2 * torch.randn(2, 2, n, 8, dtype=dtype)
    dense = dense_oracles.attention(q, k, is_causal=True)
    if kind == "weights":
        weights = dense.to(dtype)
        operator: Operator = from_weights(weights)
        dense = dense_oracles.rows_to_one(weights)
    elif kind == "mask":
        operator = from_query_key(q, k, None, torch.ones(n, n).tril().bool(), False)
    elif kind == "padded":
        mask = torch.ones(n, n).bool() & (torch.arange(n) % 7 != 3) | torch.eye(n).bool()
        operator = from_query_key(q, k, None, mask, True)
        dense = dense_oracles.attention(q, k, mask=mask, is_causal=True)
    else:
        if kind == "matrix-free":
            request.getfixturevalue("matrix_free")
        operator = from_query_key(q, k, None, None, True)
    if direction == "backward":
        operator, dense = reverse(operator), dense_oracles.reverse(dense)
    answer = solve(operator, tol=tolerance)
    assert answer.certificate.method == "substitution"
    assert answer.certificate.applies <= 2
    certified(answer, exact(dense), tolerance)


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_causal_without_teleport_ends_in_the_first_token(route: str, request: pytest.FixtureRequest) -> None:
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    q, k = torch.randn(2, 3, 50, 8)
    answer = solve(from_query_key(q, k, None, None, True), 1.0)
    assert torch.equal(answer.values, torch.eye(50, dtype=torch.float64)[0].expand(3, -1))
    assert answer.certificate.method == "substitution"
    backward = solve(reverse(from_query_key(q, k, None, None, True)), 1.0)
    assert torch.equal(backward.values, torch.eye(50, dtype=torch.float64)[-1].expand(3, -1))


def test_causal_with_several_absorbing_tokens_depends_on_the_start() -> None:
    """Tokens 0 and 2 keep all they get; the rest of the mass is shared between them by where it began."""
    weights = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0.25, 0, 0.75, 0]], dtype=torch.float64)
    answer = solve(from_weights(weights), 1.0, 1e-10)
    assert torch.allclose(answer.values, torch.tensor([0.25 * 2.25, 0, 0.25 * 1.75, 0], dtype=torch.float64))


# ---- not converged


def test_out_of_applies_says_so(iterated: None) -> None:
    weights = heads.stacked()
    answer = stationary(Dense(weights), ALPHA, even(Dense(weights)), 1e-8, 20)
    certificate = answer.certificate
    slow = [heads.NAMES.index(name) for name in ("1-D local", "cyclic")]
    assert not certificate.converged[slow].any()
    assert certificate.converged[heads.NAMES.index("random")]
    assert certificate.applies <= 20
    error = (answer.values - exact(weights)).abs().sum(-1)
    assert (error <= certificate.error_bound).all()
    assert "NOT converged for 5 of 9" in str(certificate)
    assert torch.isfinite(answer.values).all()


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_no_more_applies_than_allowed(budget: int, iterated: None) -> None:
    operator = Dense(heads.stacked())
    answer = stationary(operator, ALPHA, even(operator), 1e-8, budget)
    assert answer.certificate.applies <= max(budget, 2)  # one step and one to see what it is worth
    assert ((answer.values - exact(heads.stacked())).abs().sum(-1) <= answer.certificate.error_bound).all()


@pytest.mark.parametrize("route", ["directly", "iterated"])
def test_a_tolerance_below_rounding_is_not_claimed(route: str, request: pytest.FixtureRequest) -> None:
    if route == "iterated":
        request.getfixturevalue("iterated")
    operator = Dense(heads.stacked())
    answer = stationary(operator, ALPHA, even(operator), 1e-16, 3000)
    assert not answer.certificate.converged.any()
    assert ((answer.values - exact(heads.stacked())).abs().sum(-1) < 1e-11).all()


def test_certificate_in_words() -> None:
    certificate = solve(Dense(heads.stacked()[:1])).certificate
    words = str(certificate)
    assert "NOT" not in words
    for part in ("converged", "residual", "error ≤", "proved of the stored weights", "apply", certificate.method):
        assert part in words
    q, k = torch.randn(2, 1, 20, 4)
    assert "proved of the queries and keys" in str(solve(from_query_key(q, k, None, None, False)).certificate)

"""Reversed chains where column sums leave every format: against sixty digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor
from torch.overrides import TorchFunctionMode

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.markov import censor
from tokenrank.operators import (
    Bipartite,
    Blocks,
    Censored,
    Dense,
    Kernel,
    Lazy,
    Mixture,
    Operator,
    Product,
    Relay,
    Restricted,
    Teleport,
    from_query_key,
    from_weights,
    reverse,
)
from tokenrank.operators.reweighted import Reweighted

from . import exact
from .exact import Exact, row_distance

N, D = 6, 3
EVEN = torch.full((N,), 1 / N, dtype=torch.float64)
KEEP = [0, 2, 3, 5]


def heads(count: int, reach: float, dtype: torch.dtype, is_causal: bool = False) -> tuple[Operator, list[Exact]]:
    """Chains (count, N, N) whose key 4 lies ``reach`` nats below the others, key 1 half as far, and what they are."""
    q, k = torch.randn(2, count, N, D, dtype=torch.float64)
    q[..., 0], k[..., 0] = 4.0, 0.0
    k[..., 4, 0], k[..., 1, 0] = -reach / 4, -reach / 8
    q, k = q.to(dtype), k.to(dtype)
    chains = [exact.softmax(exact.logits(a, b, 1.0, None, is_causal)) for a, b in zip(q, k, strict=True)]
    return from_query_key(q, k, 1.0, None, is_causal), chains


def one(reach: float, dtype: torch.dtype, is_causal: bool = False) -> tuple[Operator, Exact]:
    operator, (a,) = heads(1, reach, dtype, is_causal)
    return operator.index(0), a


def plain(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    return one(reach, dtype)


def causal(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    return one(reach, dtype, True)


def twice(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    return reverse(operator), exact.reverse(a)


def mixture(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, chains = heads(3, reach, dtype)
    w = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return Mixture(operator, w), exact.mix(chains, w.tolist())


def reversed_mixture(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = mixture(reach, dtype)
    return reverse(operator), exact.reverse(a)


def product(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    (a, x), (b, y) = one(reach, dtype), one(reach / 2, dtype)
    return Product([a, b]), x @ y


def lazy_product(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    (a, x), (b, y) = one(reach, dtype), one(reach, dtype)
    return Product([Lazy(a, 0.5), b]), exact.lazy(x, 0.5) @ y


def restricted(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    return Restricted(operator, torch.tensor([0, 1, 3, 4])), exact.restrict(a, [0, 1, 3, 4])


def restricted_mixture(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = mixture(reach, dtype)
    return Restricted(operator, torch.tensor([1, 4])), exact.restrict(a, [1, 4])


def teleported(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    jump = torch.tensor([0.5, 0.5, 0, 0, 0, 0], dtype=torch.float64)
    return Teleport(operator, 0.9, jump), exact.teleport(a, 0.9, jump)


def reversed_teleported(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = teleported(reach, dtype)
    return reverse(operator), exact.reverse(a)


def reversed_lazy(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    return reverse(Lazy(operator, 0.25)), exact.reverse(exact.lazy(a, 0.25))


def censored(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    keep = [0, 1, 4, 5]
    returns = exact.tensor(exact.returns(a, keep))
    return Censored(operator, torch.tensor(keep), torch.tensor([2, 3]), returns), exact.censor(a, keep)


def reversed_censored(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = censored(reach, dtype)
    return reverse(operator), exact.reverse(a)


def crossing() -> tuple[Kernel, Exact]:
    c = torch.tensor([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0], [0.125, 0.875], [0.5, 0.5], [0.75, 0.25]])
    return Kernel(c.double()), exact.exact(c)


def bipartite(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = one(reach, dtype)
    kernel, c = crossing()
    whole = exact.identity(N + 2)
    whole[:N, :N], whole[:N, N:] = a / 2, c / 2
    return Bipartite(operator, Kernel(kernel.weights.to(dtype)), 0.5), whole


def reversed_bipartite(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = bipartite(reach, dtype)
    return reverse(operator), exact.reverse(a)


def relay(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    kernel, c = crossing()
    back = torch.rand(2, N, dtype=torch.float64).mul(30).softmax(-1).to(dtype)
    return Relay(Kernel(kernel.weights.to(dtype)), Kernel(back)), c @ exact.rows_to_one(exact.exact(back))


def windows(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, (a, b) = heads(2, reach, dtype)
    whole = exact.identity(2 * N) * 0
    whole[:N, :N], whole[N:, N:] = a, b
    return Blocks(operator.reshape(2, 1), torch.arange(2 * N).reshape(2, N)).index(0), whole


def stored(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    """Weights whose smallest is denormal in float64, or in float32 as small as that stores."""
    a = torch.rand(N, N, dtype=torch.float64) + 0.1
    a[:, 4] *= 1e-315 if dtype == torch.float64 else 1e-43
    a[:, 1] *= 1e-300 if dtype == torch.float64 else 1e-36
    a = (a / a.sum(-1, keepdim=True)).to(dtype)
    return from_weights(a), exact.rows_to_one(exact.exact(a))


def reversed_stored(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = stored(reach, dtype)
    return reverse(operator), exact.reverse(a)


def teleported_stored(reach: float, dtype: torch.dtype) -> tuple[Operator, Exact]:
    operator, a = stored(reach, dtype)
    jump = torch.tensor([0.5, 0.5, 0, 0, 0, 0], dtype=torch.float64)
    return Teleport(operator, 0.9, jump), exact.teleport(a, 0.9, jump)


MADE: list[Callable[[float, torch.dtype], tuple[Operator, Exact]]] = [
    plain, causal, twice, mixture, reversed_mixture, product, lazy_product, restricted, restricted_mixture,
    teleported, reversed_teleported, reversed_lazy, censored, reversed_censored, bipartite, reversed_bipartite,
    relay, windows, stored, reversed_stored, teleported_stored,
]  # fmt: skip


def agrees(operator: Operator, a: Exact, dtype: torch.dtype) -> None:
    """Products both ways, rows, columns and the diagonal are those of ``a``, within the bound that is given."""
    n = operator.num_tokens
    units = torch.eye(n, dtype=dtype)
    bound = float(operator.row_error(dtype)) + 16 * math.sqrt(n) * torch.finfo(dtype).eps
    assert bound < {torch.float32: 0.2, torch.float64: 1e-8}[dtype]  # else nothing is said
    found = {
        "matmul": operator.matmul(units),
        "rmatmul": operator.rmatmul(units).mT,
        "rows": operator.rows(0, n, dtype),
        "columns": operator.columns(0, n, dtype),
    }
    for name, b in found.items():
        assert row_distance(b, a) <= bound, name
    diagonal = exact.tensor(a.diagonal())
    assert (operator.diagonal(dtype).double() - diagonal).abs().max() <= bound
    assert torch.equal(operator.support().expand(n, n), exact.tensor(a) > 0) or operator.support().all()
    for name in ("matmul", "rmatmul", "rows"):
        assert (found[name].double().sum(-1) - 1).abs().max() <= 8 * math.sqrt(n) * torch.finfo(dtype).eps, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("reach", [1.0, 95.0, 112.0, 700.0, 3000.0])
@pytest.mark.parametrize("make", MADE)
def test_reversed(
    make: Callable[[float, torch.dtype], tuple[Operator, Exact]], reach: float, dtype: torch.dtype
) -> None:
    if make in (censored, reversed_censored):
        reach = min(reach, 700.0)  # W itself is held in double precision
    operator, a = make(reach, dtype)
    back = reverse(operator)
    assert back.dtype == dtype
    agrees(back, exact.reverse(a), dtype)
    agrees(back, exact.reverse(a), torch.float64)


@pytest.mark.parametrize("make", MADE)
def test_batches(make: Callable[[float, torch.dtype], tuple[Operator, Exact]]) -> None:
    """A reversed chain indexed or reshaped is that of each."""
    operator, a = make(112.0, torch.float64)
    back = reverse(operator.reshape(1, 1))
    agrees(back.index(0, 0), exact.reverse(a), torch.float64)
    agrees(back.reshape(1).index(0), exact.reverse(a), torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("reach", [95.0, 112.0, 700.0, 3000.0])
def test_bounce_and_tokenrank(reach: float, dtype: torch.dtype) -> None:
    """Column 4 is attended to with e^-reach only; it has a row of its own all the same, and others keep theirs."""
    operator, a = one(reach, dtype)
    chain, b = tr.AttentionChain.from_operator(operator), exact.reverse(a)
    for token in range(N):
        got = chain.bounce(token, direction="backward").values
        assert got.dtype == dtype
        expected = exact.tensor(b[token])
        assert (got.double() - expected).abs().sum() <= float(reverse(operator).row_error(dtype)) + 1e-6
    rank = chain.tokenrank(direction="backward", tol=1e-9)
    dense = exact.tensor(b)
    even = torch.full((N,), 0.01 / N, dtype=torch.float64)
    solved = torch.linalg.solve(torch.eye(N, dtype=torch.float64) - 0.99 * dense.mT, even)
    assert rank.certificate is not None
    assert bool(rank.certificate.converged)
    assert (rank.values - solved).abs().sum() <= 2e-9


def test_one_column_does_not_take_the_others_along() -> None:
    """Logits of -95 in float32: the column sum is a denormal, and everything used to be inf."""
    q = torch.ones(4, 1)
    k = torch.tensor([[0.0], [0.0], [0.0], [-95.0]])
    chain = tr.AttentionChain.from_qk(q, k, scale=1.0)
    values = chain.bounce(3, n=2, direction="backward").values
    assert torch.allclose(values, torch.full((4,), 0.25))


@pytest.mark.parametrize("low", [-112.0, -5000.0])
def test_nobody_is_read_off_the_mask_alone(low: float) -> None:
    q, k = torch.ones(1, 4, 1), torch.tensor([[[0.0], [0.0], [0.0], [low]]])
    assert tr.AttentionChain.from_qk(q, k, scale=1.0).reverse().to_dense().isfinite().all()
    hidden = torch.tensor([True, True, True, False])
    for mask in (hidden, hidden[None].expand(4, 4), torch.where(hidden, 0.0, torch.finfo(torch.float32).min)):
        with pytest.raises(ChainError, match=r"token 3 .* attended to by nobody.*trace\.select\(sample"):
            tr.AttentionChain.from_qk(q, k, scale=1.0, mask=mask).reverse()


def test_rows_of_which_little_stays_are_restricted() -> None:
    """Token 1 sends e^-800 to the tokens kept: its row is their softmax."""
    k = torch.tensor([[0.0], [0.0], [-800.0], [-801.0]], dtype=torch.float64)
    a = from_query_key(torch.ones(2, 4, 1, dtype=torch.float64), k.expand(2, 4, 1), 1.0, None, False)
    part = Restricted(Mixture(a, torch.tensor([0.5, 0.5], dtype=torch.float64)), torch.tensor([2, 3]))
    expected = torch.tensor([0.0, -1.0], dtype=torch.float64).softmax(-1).expand(2, 2)
    assert torch.allclose(part.to_dense(), expected, rtol=0, atol=1e-12)


def test_a_censored_chain_from_which_nothing_was_removed() -> None:
    operator, a = one(95.0, torch.float64)
    kept = censor(operator, torch.arange(N))
    agrees(kept, a, torch.float64)
    agrees(reverse(kept), exact.reverse(a), torch.float64)
    agrees(reverse(reverse(kept)), exact.reverse(exact.reverse(a)), torch.float64)
    agrees(Restricted(kept, torch.tensor(KEEP)), exact.restrict(a, KEEP), torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 300), st.sampled_from(["none", "causal", "mask", "padding", "bias"]))
def test_twice_with_respect_to_the_image_is_the_chain(seed: int, size: float, mask: str) -> None:
    """Reversed with respect to mu, then with respect to mu A: the chain itself, however far logits reach."""
    from tokenrank.operators.base import Measure

    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, N, D, generator=generator, dtype=torch.float64) * math.sqrt(size) for _ in range(2))
    given: Tensor | None = None
    if mask == "mask":
        given = (torch.rand(N, N, generator=generator) > 0.4) | torch.eye(N, dtype=torch.bool)
    elif mask == "padding":
        given = torch.arange(N) < N - 2
    elif mask == "bias":
        given = size * torch.randn(2, N, N, generator=generator, dtype=torch.float64)
    a = from_query_key(q, k, None, given, mask == "causal")
    log = size * torch.randn(2, N, generator=generator, dtype=torch.float64)
    back, image = a.turn(Measure(log, torch.zeros(2, dtype=torch.float64)))
    again, measure = back.turn(image)
    error = float(again.row_error().max())
    assert (again.to_dense() - a.to_dense()).abs().sum(-1).max() <= error + 1e-12
    assert (measure.log - log).abs().max() <= float(measure.error.max()) + 1e-12


class Calls(TorchFunctionMode):
    """Counts attention calls, by precision."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.dtype] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.found.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_first_bounce_takes_three_calls_in_the_precision_of_the_chain(is_causal: bool) -> None:
    """Normalisers, column sums, and the step; more where a column is too small for a quotient."""
    operator, _ = one(1.0, torch.float32, is_causal)
    with Calls() as calls:
        reverse(operator).T @ torch.eye(N)[2].expand(operator.shape[:-1])
    assert calls.found == [torch.float32] * 3
    operator, _ = one(112.0, torch.float32, is_causal)
    with Calls() as calls:
        reverse(operator).T @ torch.eye(N)[2].expand(operator.shape[:-1])
    assert len(calls.found) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_weights_are_turned_in_their_precision_where_columns_are_ordinary(dtype: torch.dtype) -> None:
    back = reverse(from_weights(torch.rand(2, N, N, dtype=dtype).softmax(-1)))
    assert isinstance(back, Reweighted)
    assert back.quotients(dtype).sums.dtype == dtype
    assert back.quotients(dtype).rows is None
    faint = reverse(stored(1.0, dtype)[0])
    assert isinstance(faint, Reweighted)
    assert faint.quotients(dtype).sums.dtype == torch.float64
    assert (faint.quotients(dtype).rows is None) == (dtype == torch.float32)  # which are ordinary in double


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 60), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_on_both_sides_of_the_threshold(seed: int, reach: float, dtype: torch.dtype, held: bool) -> None:
    """Columns about as small as quotients can be told from nothing in single precision, e^-57.6."""
    torch.manual_seed(seed)
    operator, a = one(30 + reach, dtype)
    if held:
        operator = Dense(operator.to_dense(torch.float64).to(dtype))
        a = exact.rows_to_one(exact.exact(operator.weights))
    agrees(reverse(operator), exact.reverse(a), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_where_a_reversed_chain_may_go_is_read_from_masks_however_hot(dtype: torch.dtype) -> None:
    """Logits of 1e5: shares and entries of 1e-1000 are zero in every precision, and possible."""
    torch.manual_seed(3)
    hot = tr.AttentionChain.from_qk(*(100 * torch.randn(2, 2, 7, 16, dtype=dtype)))
    mixed, kept = hot.aggregate("uniform"), [0, 2, 4, 5]
    made = [mixed, hot.lazy(0.9), hot.teleport(0.9), mixed.lazy(0.5), tr.compose([mixed, mixed]), mixed.restrict(kept)]
    made += [chain.restrict(kept) for chain in made[1:4]] + [mixed.restrict(kept, how="censor")]
    for chain in made:
        for turned in (chain, chain.reverse(), chain.reverse().reverse()):
            assert bool(turned.operator.support().all()), turned
            assert int(turned.classes().count.max()) == 1
    lower = torch.ones(7, 7, dtype=torch.bool).tril()
    masked = tr.AttentionChain.from_qk(
        *(100 * torch.randn(2, 2, 7, 16, dtype=dtype)), mask=torch.stack([lower, lower.mT])
    )
    both = masked.aggregate("uniform")  # of the one head's half and the other's, whatever their shares
    assert bool(both.operator.support().all())
    assert bool(both.reverse().operator.support().all())
    assert torch.equal(masked.lazy(0.9).reverse().operator.support(), torch.stack([lower.mT, lower]))

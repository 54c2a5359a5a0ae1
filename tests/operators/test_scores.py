"""Chains from logits: what is possible is said by the logits, not by what their softmax underflows to."""

from __future__ import annotations

import math

import pytest
import torch

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.operators import Dense, QueryKey, from_scores, reverse

from . import exact

DTYPES = [torch.float32, torch.float64]


def low(reach: float, dtype: torch.dtype, is_causal: bool = False) -> torch.Tensor:
    """Logits whose column 1 lies ``reach`` nats below the others."""
    scores = torch.randn(2, 5, 5, dtype=torch.float64)
    scores[..., 1] -= reach
    if is_causal:
        scores[..., 1, 0] -= 2 * reach
        scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -math.inf)
    return scores.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("reach", [1.0, 86.0, 95.0, 112.0, 720.0, 3000.0, 1e9])
@pytest.mark.parametrize("is_causal", [False, True])
def test_low_logits(reach: float, dtype: torch.dtype, is_causal: bool) -> None:
    scores = low(reach, dtype, is_causal)
    operator = from_scores(scores)
    assert operator.dtype == dtype
    assert operator.structure == ("lower" if is_causal else "full")
    assert torch.equal(operator.support().expand(2, 5, 5), scores > -math.inf)
    units = torch.eye(5, dtype=dtype).expand(2, 5, 5)
    bound = operator.row_error() + 32 * torch.finfo(dtype).eps
    assert bool((operator.row_error(torch.float64) < 1e-2).all())
    for h in range(2):
        a = exact.softmax(exact.exact(scores[h]))
        for found in (operator.matmul(units), operator.rmatmul(units).mT, operator.rows(0, 5)):
            assert exact.row_distance(found[h], a) <= bound[h]
        back = reverse(operator)
        off = back.row_error()[h] + 32 * torch.finfo(dtype).eps
        if reach <= 3000:
            assert off < 0.1
        for found in (back.matmul(units), back.rmatmul(units).mT, back.rows(0, 5)):
            assert exact.row_distance(found[h], exact.reverse(a)) <= off


def test_weights_that_can_be_stored_are_stored() -> None:
    assert isinstance(from_scores(low(80.0, torch.float32)), Dense)
    assert isinstance(from_scores(low(112.0, torch.float32)), QueryKey)
    assert isinstance(from_scores(low(112.0, torch.float64)), Dense)
    assert isinstance(from_scores(low(800.0, torch.float64)), QueryKey)


def test_what_is_masked_alone_is_attended_to_by_nobody() -> None:
    chain = tr.AttentionChain.from_scores(low(112.0, torch.float32))
    values = chain.bounce(1, direction="backward").values
    assert bool(values.isfinite().all())
    assert torch.allclose(values.sum(-1), torch.ones(2))
    for masked in (-math.inf, torch.finfo(torch.float32).min):
        scores = low(112.0, torch.float32)
        scores[..., 3] = masked
        with pytest.raises(ChainError, match=r"token 3 .* attended to by nobody"):
            tr.AttentionChain.from_scores(scores).bounce(1, direction="backward")


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
def test_logits_as_far_apart_as_the_format_has_them(dtype: torch.dtype) -> None:
    """Differences that are no numbers of the format, or count as masks in it, are steps all the same."""
    far = 0.45 * torch.finfo(dtype).max
    operator = from_scores(torch.tensor([[far, -far], [0.0, 0.0]], dtype=dtype))
    assert bool(operator.support().all())
    assert torch.equal(operator.to_dense(), torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=dtype))

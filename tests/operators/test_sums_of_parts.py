"""Mixtures and products: what rounding of their own sums does to an entry is in the bound, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tokenrank.operators import Dense, Mixture, Operator, Product, from_query_key

Exact = list[list[Fraction]]


def exactly(weights: Tensor) -> Exact:
    """The chain of stored weights: rows divided by their exact sums in single precision, in double as they are."""
    rows = [[Fraction(x) for x in row] for row in weights.double().tolist()]
    if weights.dtype == torch.float64:
        return rows
    return [[x / sum(row) for x in row] for row in rows]


def times(a: Exact, b: Exact) -> Exact:
    turned = list(zip(*b, strict=True))
    return [[sum((x * y for x, y in zip(row, column, strict=True)), Fraction()) for column in turned] for row in a]


def stored(h: int, n: int, dtype: torch.dtype) -> Tensor:
    a = torch.rand(h, n, n, generator=torch.Generator().manual_seed(h + n), dtype=torch.float64).pow(6)
    return (a / a.sum(-1, keepdim=True)).to(dtype)


def cases(dtype: torch.dtype) -> dict[str, tuple[Operator, Exact]]:
    h, n = 12, 10
    a = stored(h, n, dtype)
    heads = [exactly(one) for one in a]
    w = torch.rand(h, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    mixed = [
        [sum((Fraction(float(w[k])) * heads[k][i][j] for k in range(h)), Fraction()) for j in range(n)]
        for i in range(n)
    ]
    walked = heads[0]
    for head in heads[1:]:
        walked = times(walked, head)
    return {
        "mixture": (Mixture(Dense(a), w), mixed),
        "product": (Product([Dense(one) for one in a]), walked),
    }


def off(found: Tensor, right: Exact) -> float:
    """The largest relative error of an entry."""
    pairs = (
        (Fraction(x), y) for xs, ys in zip(found.tolist(), right, strict=True) for x, y in zip(xs, ys, strict=True)
    )
    return float(max(abs(x - y) / y for x, y in pairs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["mixture", "product"])
def test_an_entry_is_off_by_what_is_said(dtype: torch.dtype, kind: str) -> None:
    operator, right = cases(dtype)[kind]
    bound = float(operator.entry_error(torch.float64))
    error = off(operator.rows(0, operator.num_tokens, torch.float64), right)
    assert 0 < error <= bound, (error, bound)  # parts are exact: the error of sums is all there is, and it is not zero
    assert bound < 1e-13


@pytest.mark.parametrize("path", ["host", "device"])
def test_bounds_of_parts_are_added_to_those_of_sums(path: str) -> None:
    q, k = torch.randn(2, 5, 30, 8, generator=torch.Generator().manual_seed(2))
    heads = from_query_key(q, k, None, None, False, path=path)  # type: ignore[arg-type]
    u = torch.finfo(torch.float64).eps / 2
    parts = heads.entry_error(torch.float64)
    mixed = Mixture(heads, torch.full((5,), 0.2, dtype=torch.float64)).entry_error(torch.float64)
    assert float(mixed) >= float(parts.max()) + (5 + 2) * u
    walked = Product([heads.index(h) for h in range(5)]).entry_error(torch.float64)
    assert float(walked) >= float(parts.sum()) + (5 - 1) * (30 + 2) * u

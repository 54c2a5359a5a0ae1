"""What rounding does to merged products: the proved bounds hold against sixty digits, and are no more than they say."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.operators import exact
from tokenrank.operators import reverse

from .ranks import Ranks
from .shards import spread

SIZES = (0.1, 3.0, 30.0, 500.0, 1e4)
MASKS = ("none", "causal", "padding", "bias", "rows")


def case(seed: int, size: float, mask: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any], Tensor | None]:
    """q, k, how the chain is made of them, and the mask as it is added to logits."""
    generator = torch.Generator().manual_seed(seed)
    n, d = int(torch.randint(2, 8, (), generator=generator)), int(torch.randint(1, 7, (), generator=generator))
    q, k = math.sqrt(size) * torch.randn(2, 1, n, d, generator=generator, dtype=torch.float64)
    q, k = q.to(dtype), k.to(dtype)
    options: dict[str, Any] = {"scale": 1.0, "how": "striped"}
    if mask == "causal":
        return q, k, options | {"is_causal": True}, None
    if mask == "padding":
        seen = torch.arange(n) < n - 1
        return q, k, options | {"key_mask": seen}, torch.zeros(n, n).masked_fill(~seen, -math.inf)
    if mask == "bias":
        bias = (size * torch.randn(n, generator=generator, dtype=torch.float64)).to(dtype)
        return q, k, options | {"key_mask": bias}, bias.expand(n, n)
    if mask == "rows":
        rows = (torch.rand(n, n, generator=generator) > 0.5) | torch.eye(n, dtype=torch.bool)
        return q, k, options | {"mask": rows}, torch.zeros(n, n).masked_fill(~rows, -math.inf)
    return q, k, options, None


def beyond(dtype: torch.dtype) -> list[str]:
    """Cases whose rows are further off than is proved, as products take them, ahead and turned round."""
    found = []
    for place, (size, mask) in enumerate((size, mask) for size in SIZES for mask in MASKS):
        q, k, options, added = case(place, size, mask, dtype)
        operator = spread(q, k, 2, **options)
        n = operator.num_tokens
        a = exact.softmax(exact.logits(q[0], k[0], 1.0, added, mask == "causal"))
        for precision in {dtype, torch.float64}:
            units, rounding = torch.eye(n, dtype=precision)[None], 4 * n * torch.finfo(precision).eps
            bound = float(operator.row_error(precision))
            assert 0 < bound <= 2
            for rows in (operator.matmul(units)[0], operator.rmatmul(units)[0].mT, operator.rows(0, n, precision)[0]):
                off = exact.row_distance(rows, a)
                if off > bound + rounding:
                    found.append(f"{size}, {mask}, {precision}: off by {off:.2e}, proved {bound:.2e}")
        if mask != "padding":
            found += turned(operator, a, f"{size}, {mask}, turned")
    return found


def turned(operator: Any, a: Any, what: str) -> list[str]:
    back = reverse(operator)
    sums = a.sum(0)
    expected = (a / sums).T
    units = torch.eye(back.num_tokens, dtype=torch.float64)[None]
    bound = float(back.row_error(torch.float64)) + 4 * back.num_tokens * torch.finfo(torch.float64).eps
    offs = [exact.row_distance(rows, expected) for rows in (back.matmul(units)[0], back.rmatmul(units)[0].mT)]
    return [f"{what}: off by {off:.2e}, proved {bound:.2e}" for off in offs if off > bound]


def test_the_bound_of_rows_bounds(ranks: Ranks) -> None:
    for dtype in (torch.float32, torch.float64):
        for found in ranks.run(beyond, dtype, ranks=[0, 1]):
            assert not found, found[:5]


def ratios(dtype: torch.dtype) -> list[float]:
    found = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        q, k = 0.5 * torch.randn(2, 1, 24, 32, generator=generator, dtype=torch.float64)
        q, k = q.to(dtype), k.to(dtype)
        operator = spread(q, k, 2, scale=1.0)
        a = exact.softmax(exact.logits(q[0], k[0], 1.0))
        rows = operator.rmatmul(torch.eye(24, dtype=dtype)[None])[0].mT
        found.append(float(operator.row_error(dtype)) / exact.row_distance(rows, a))
    return found


def test_the_bound_is_no_more_than_a_thousand_times_the_truth(ranks: Ranks) -> None:
    for dtype in (torch.float32, torch.float64):
        found = ranks.run(ratios, dtype, ranks=[0, 1])[0]
        assert min(found) >= 1
        assert sorted(found)[2] <= 1000

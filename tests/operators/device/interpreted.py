"""What the kernels compute in Triton's interpreter; run in a process of its own by ``test_kernels``.

Prints one line of JSON: a limit, and the error of each case in the largest ℓ1 norm of a column, relative to that of x.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import product

import torch
from torch import Tensor

from tokenrank.markov.engine.placement import placed
from tokenrank.operators import from_query_key
from tokenrank.operators.device import kernels
from tokenrank.operators.device.store import HalfStore

H, LIVE = 3, torch.tensor([True, False, True])
LIMIT = 5e-6  # rounding of logits up to 60 in float32; without low parts it would be 3e-5 and more


def error(found: Tensor, exact: Tensor, x: Tensor) -> float:
    """Where a head is not live exactly zero is right."""
    if found[1].any():
        return math.inf
    off = (found - exact).abs().sum(-2)[LIVE] / x.abs().sum(-2)[LIVE]
    return float(off.max())


def chain(n: int, d: int, triangle: str, size: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q and k, their normalisers and the chain."""
    q, k = (size * torch.randn(H, n, d, generator=g).half() for _ in range(2))
    logits = (q.double() @ k.double().mT) / math.sqrt(d)
    seen = torch.ones(n, n, dtype=torch.bool)
    seen = {"full": seen, "lower": seen.tril(), "upper": seen.triu()}[triangle]
    logits = logits.masked_fill(~seen, -math.inf)
    return q, k, logits.logsumexp(-1), logits.softmax(-1)


def exponential() -> dict[str, float]:
    opposite = {"full": "full", "lower": "upper", "upper": "lower"}
    g, errors = torch.Generator().manual_seed(0), {}
    cases = [(70, 24, 1, "full", 2.0), (70, 24, 3, "lower", 2.0), (40, 16, 1, "upper", 2.0), (33, 80, 40, "full", 1.0)]
    for n, d, c, triangle, size in [*cases, (64, 64, 1, "full", 4.0), (1, 8, 1, "lower", 1.0)]:
        q, k, r, a = chain(n, d, triangle, size, g)
        x, zero, scale = torch.randn(H, n, c, generator=g), torch.zeros(H, n), 1 / math.sqrt(d)
        name = f"{n} x {d}, {c} columns, {triangle}"
        ahead = kernels.exponential_product(q, k, zero, r, x, LIVE, scale=scale, triangle=triangle)
        back = kernels.exponential_product(k, q, r, zero, x, LIVE, scale=scale, triangle=opposite[triangle])
        errors[f"A x, {name}"] = error(ahead, a @ x.double(), x)
        errors[f"A^T x, {name}"] = error(back, a.mT @ x.double(), x)
    # biases of keys, one of which nobody may attend to; a view of interleaved heads
    q, k, _, _ = chain(40, 16, "full", 2.0, g)
    q = q.transpose(0, 1).contiguous().transpose(0, 1)
    bias = torch.randn(H, 40, generator=g)
    bias[:, 7] = -math.inf
    logits = (q.double() @ k.double().mT) / 4 + bias[:, None].double()
    r, a, x = logits.logsumexp(-1), logits.softmax(-1), torch.randn(H, 40, 1, generator=g)
    ahead = kernels.exponential_product(q, k, -bias, r, x, LIVE, scale=0.25)
    back = kernels.exponential_product(k, q, r, -bias, x, LIVE, scale=0.25)
    errors["A x with a bias"] = error(ahead, a @ x.double(), x)
    errors["A^T x with a bias"] = error(back, a.mT @ x.double(), x)
    # vectors of very different sizes, and heads far apart
    x = torch.randn(H, 40, 2, generator=g) * torch.tensor([1e-20, 1e15])
    back = kernels.exponential_product(k, q, r, -bias, x, LIVE, scale=0.25)
    errors["A^T x, sizes"] = error(back, a.mT @ x.double(), x)
    return errors


def terms() -> dict[str, float]:
    """Terms one by one: nothing is off by more than is said, however small; 1 is all that is allowed."""
    exponents = -torch.linspace(0, 40, 64, dtype=torch.float64).repeat(H, 1)
    q, k = torch.zeros(2, H, 64, 8).half()
    x = torch.zeros(H, 64, 1)
    x[:, 5] = 0.7
    b = torch.zeros(H, 64)
    found = kernels.exponential_product(q, k, b, -exponents.float(), x, LIVE, scale=1.0)[..., 0]
    exact = exponents.float().double().exp() * x[:, 5].double()
    rounded = (exponents.abs() + 4) * 2.0**-24  # of the exponent in units of two, and the exponential
    allowed = (kernels.SPLIT + rounded) * exact + kernels.LOST * 0.7
    return {"terms": LIMIT * float(((found - exact).abs() / allowed)[LIVE].max())}


def streamed() -> dict[str, float]:
    g, errors = torch.Generator().manual_seed(1), {}
    for (n, c), transposed, parts in product([(70, 1), (65, 3), (130, 40), (1, 1)], [True, False], [1, 2]):
        weights = torch.rand(H, n, n + 2, generator=g).half()[..., :n] / n
        x = torch.randn(H, n, c, generator=g)
        found = kernels.streamed_product(weights, x, LIVE, transposed, parts)
        exact = (weights.mT if transposed else weights).double() @ x.double()
        errors[f"{n}, {c} columns, {transposed}, {parts} parts"] = error(found, exact, x)
    return errors


def store() -> dict[str, float]:
    """With the kernel and without: the same products."""
    g = torch.Generator().manual_seed(2)
    kept = HalfStore(from_query_key(*torch.randn(2, H, 50, 16, generator=g), None, None, False))
    x = torch.rand(H, 50, 2, generator=g)
    assert kernels.streams(torch.device("cpu"))
    errors = {}
    for transposed in (True, False):
        kept._streams = True
        found = kept.product(x, LIVE, transposed)
        kept._streams = False
        errors[f"store, {transposed}"] = error(found, kept.product(x, LIVE, transposed), x)
    return errors


def chains() -> dict[str, float]:
    """As an inner solver asks for them, and as the chain itself does: causal, padded, with leading dimensions."""
    g, errors = torch.Generator().manual_seed(3), {}
    x = torch.rand(H, 40, 2, generator=g)
    padded = torch.ones(1, 40, dtype=torch.bool)
    padded[0, 33:] = False
    for mask, causal in ((None, False), (None, True), (padded, False)):
        q, k = torch.randn(2, H, 1, 40, 16, generator=g).half()
        operator = from_query_key(q, k, None, mask, causal, "device")
        exact = operator.to_dense(torch.float64).reshape(H, 40, 40)
        for transposed in (True, False):
            expected = (exact.mT if transposed else exact) @ x.double()
            name = f"{'padded' if mask is not None else 'causal' if causal else 'full'}, {transposed}"
            errors[f"placed, {name}"] = error(placed(operator, 0, transposed)(x, LIVE), expected, x)
            given = x.reshape(H, 1, 40, 2)
            found = (operator.T @ given if transposed else operator @ given).reshape(H, 40, 2)
            errors[f"chain, {name}"] = error(found * LIVE[:, None, None], expected, x)
    return errors


if __name__ == "__main__":
    assert kernels.available(torch.device("cpu"), torch.float16, 24)
    assert not kernels.available(torch.device("cpu"), torch.bfloat16, 24)
    json.dump([LIMIT, exponential() | terms() | streamed() | store() | chains()], sys.stdout)

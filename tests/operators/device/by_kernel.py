"""Run by ``test_products.py`` with TRITON_INTERPRET=1: chains by our own kernel, held to their bounds.

Prints a JSON object: errors of rows over their bounds, by case.
"""

from __future__ import annotations

import json
import math

import torch

from tokenrank.operators import from_query_key
from tokenrank.operators.base import Measure
from tokenrank.operators.device.ways import own_kernel

N, D = 17, 16


def main() -> None:
    torch.manual_seed(0)
    shares = {}
    log, exactly = 3 * torch.randn(2, N, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    x = torch.eye(N).expand(2, N, N)
    for size, causal, mask in ((1.5, True, None), (1.5, False, torch.arange(N) < N - 2), (40.0, False, None)):
        q, k = (torch.randn(2, N, D).half() for _ in range(2))
        q = (size * torch.linspace(0.01, 1, N)[:, None] * q).half()  # normalisers 100 nats apart where it is large
        chain = from_query_key(q, k, 1.0, mask, causal, "device")
        wide = from_query_key(q.double(), k.double(), 1.0, mask, causal)
        for name, here, there in (
            ("chain", chain, wide),
            ("turned", chain.turn(Measure(log, exactly))[0], wide.turn(Measure(log, exactly))[0]),
        ):
            assert own_kernel(here, torch.float32, False)  # type: ignore[arg-type]
            a, bound = there.to_dense(torch.float64), here.row_error(torch.float32) + 4 * N * 2.0**-23
            for way, rows in (("ahead", here.matmul(x)), ("back", here.rmatmul(x).mT)):
                off = (rows.double() - a).abs().sum(-1).amax(-1)
                shares[f"{name}, {way}, size {size:g}, causal {causal}"] = float((off / bound).amax())
            ones = here.matmul(torch.ones(2, N, 1))[..., 0]
            assert bool(((ones - a.sum(-1)).abs() < 1e-6 * math.sqrt(N)).all()), "rows sum to one"
    print(json.dumps(shares))


if __name__ == "__main__":
    main()

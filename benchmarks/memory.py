"""Peak memory of the matrix-free operator as the number of tokens grows: O(N · d).

    python benchmarks/memory.py [--sizes 4096,8192,16384] [--operations matmul,rmatmul] [--out FILE]

12 heads, d = 64, float32. Every figure is what a fresh process needs at its peak over what
Python, PyTorch and the inputs take; beside it the bytes that the dense weights would take.
``rmatmul`` includes both normalisers, as a first call does. ``tokenrank`` (α = 0.99, tol = 1e-3)
and ``lambda2`` can be asked for too; they take tens to hundreds of such applications.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from facts import facts, in_new_process, parser, save
from peak import peak_gb
from torch import Tensor

import tokenrank as tr
from tokenrank.benchmark.heads import HEADS, WIDTH, synthetic_heads

OPERATIONS: dict[str, Callable[[tr.AttentionChain], Tensor]] = {
    "matmul": lambda chain: chain.operator.matmul(even(chain)),
    "rmatmul": lambda chain: chain.operator.rmatmul(even(chain)),
    "tokenrank": lambda chain: chain.tokenrank(0.99, tol=1e-3).values,
    "lambda2": lambda chain: chain.lambda2().values,
}


def even(chain: tr.AttentionChain) -> Tensor:
    return torch.full((*chain.shape[:-1], 1), 1 / chain.num_tokens)


def one(operation: str, n: int) -> None:
    q, k = synthetic_heads(n)
    chain = tr.AttentionChain.from_qk(q, k)
    answers: list[Tensor] = []
    start = time.perf_counter()
    needed = peak_gb(lambda: answers.append(OPERATIONS[operation](chain)))
    assert torch.isfinite(answers[0]).all()
    print(json.dumps({"seconds": round(time.perf_counter() - start, 2), "peak_gb": round(needed, 3)}))


def main() -> None:
    arguments = parser(__doc__, sizes="4096,8192,16384")
    arguments.add_argument("--operations", default="matmul,rmatmul", help=f"of {', '.join(OPERATIONS)}")
    arguments.add_argument("--one", nargs=2, metavar=("OPERATION", "TOKENS"), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    torch.set_num_threads(2)
    if args.one:
        one(args.one[0], int(args.one[1]))
        return
    rows = []
    print("| tokens | operation | time | peak | dense weights |\n|---|---|---|---|---|")
    for n in map(int, args.sizes.split(",")):
        for operation in args.operations.split(","):
            found = in_new_process(__file__, "--one", operation, n)
            dense = HEADS * n * n * 4 / 1e9
            rows.append({"tokens": n, "operation": operation, **found, "dense_gb": round(dense, 2)})
            print(
                f"| {n:,} | {operation} | {found['seconds']:.1f} s | {found['peak_gb']:.2f} GB | {dense:.1f} GB |",
                flush=True,
            )
    save(args.out, facts() | {"heads": HEADS, "width": WIDTH}, rows)


if __name__ == "__main__":
    main()

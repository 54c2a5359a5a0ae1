"""TokenRank and |λ2| of 12 heads: ours beside the paper's algorithm, SciPy, networkx and QuantEcon.

    python benchmarks/chain.py [--sizes 256,1024,4096] [--rounds 5] [--out FILE]

All variants of one size run in turn within each round; a figure is the median over rounds, a
ratio is a ratio of medians. "weights" starts from dense float32 weights, "q, k" from queries
and keys with everything included. The residual is ‖π − Gᵀπ‖₁ (TokenRank) or the relative error
against dense float64 eigenvalues (|λ2|, largest over heads, where N ≤ 1,024). Peak memory is
what a fresh process needs on top of its inputs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import networkx
import numpy as np
import quantecon
import scipy
import scipy.sparse.linalg
import torch
from facts import facts, in_new_process, parser, save
from heads import HEADS, WIDTH, synthetic_heads
from peak import peak_gb
from torch import Tensor

import tokenrank as tr

ALPHA, TOL = 0.99, 1e-6
Run = Callable[[], object]


def teleported(a: Tensor) -> Tensor:
    return ALPHA * a + (1 - ALPHA) / a.shape[-1]


def paper_tokenrank(a: Tensor, row_major: bool = False) -> Tensor:
    """The paper's batched helper, restated: 200 power steps on the dense teleported matrix.

    ``row_major`` is the same arithmetic as xᵀG, which reads the matrix along its rows.
    """
    g = teleported(a)
    x = torch.full((*a.shape[:-1], 1), 1 / a.shape[-1])
    for _ in range(200):
        x = (x.mT @ g).mT if row_major else g.mT @ x
    return x[..., 0]


def scipy_tokenrank(a: Tensor) -> Tensor:
    found = []
    for head in teleported(a).double().numpy():
        _, vector = scipy.sparse.linalg.eigs(head.T, k=1, which="LM", v0=np.ones(len(head)))
        vector = np.abs(vector[:, 0].real)
        found.append(torch.from_numpy(vector / vector.sum()))
    return torch.stack(found)


def quantecon_tokenrank(a: Tensor) -> Tensor:
    found = []
    for head in teleported(a).double().numpy():
        head = head / head.sum(1, keepdims=True)
        found.append(torch.from_numpy(quantecon.MarkovChain(head).stationary_distributions[0]))
    return torch.stack(found)


def networkx_tokenrank(a: Tensor) -> Tensor:
    found = []
    for head in a.double().numpy():
        graph = networkx.from_numpy_array(head, create_using=networkx.DiGraph)
        rank = networkx.pagerank(graph, alpha=ALPHA, tol=TOL / len(head), max_iter=5000)
        found.append(torch.tensor([rank[i] for i in range(len(head))], dtype=torch.float64))
    return torch.stack(found)


def dense_lambda2(a: Tensor) -> Tensor:
    return torch.stack([torch.linalg.eigvals(h).abs().sort(descending=True).values[1] for h in a])


def scipy_lambda2(a: Tensor) -> Tensor:
    found = []
    for head in a.double().numpy():
        v0 = np.random.default_rng(0).standard_normal(len(head))
        try:
            values = scipy.sparse.linalg.eigs(head, k=2, which="LM", v0=v0, maxiter=100, return_eigenvectors=False)
            found.append(float(np.abs(values).min()))
        except scipy.sparse.linalg.ArpackNoConvergence:
            found.append(float("nan"))  # shown as such
    return torch.tensor(found)


def tasks(n: int) -> dict[str, dict[str, Run]]:
    """Task → variant → what to run; ours first. Variants that would take minutes are left out."""
    q, k = synthetic_heads(n)
    a = tr.AttentionChain.from_qk(q, k).to_dense()
    rank: dict[str, Run] = {
        "tokenrank, weights": lambda: tr.AttentionChain(a).tokenrank(ALPHA, tol=TOL).values,
        "tokenrank, q, k": lambda: tr.AttentionChain.from_qk(q, k).tokenrank(ALPHA, tol=TOL).values,
        "paper: 200 dense power steps": lambda: paper_tokenrank(a),
        "the same, row-major": lambda: paper_tokenrank(a, row_major=True),
    }
    if n <= 1024:
        rank["SciPy eigs (ARPACK)"] = lambda: scipy_tokenrank(a)
        rank["QuantEcon GTH"] = lambda: quantecon_tokenrank(a)
    if n <= 256:
        rank["networkx pagerank"] = lambda: networkx_tokenrank(a)
    slow: dict[str, Run] = {
        "tokenrank, weights": lambda: tr.AttentionChain(a).lambda2().values,
        "tokenrank, q, k": lambda: tr.AttentionChain.from_qk(q, k).lambda2().values,
        "paper: dense eigenvalues": lambda: dense_lambda2(a),
        "SciPy eigs (ARPACK)": lambda: scipy_lambda2(a),
    }
    return {"TokenRank": rank} | ({"|λ2|": slow} if n <= 1024 else {})


def worst(task: str, variant: str, n: int, answer: object) -> float:
    """The largest residual (TokenRank) or relative error (|λ2|) over heads."""
    assert isinstance(answer, Tensor)
    q, k = synthetic_heads(n)
    chain = tr.AttentionChain.from_qk(q.double(), k.double()) if "q, k" in variant else tr.AttentionChain.from_qk(q, k)
    a = chain.to_dense().double()  # what the variant was given, not its rounding
    if task == "TokenRank":
        x = answer.double()
        x = x / x.sum(-1, keepdim=True)
        a /= a.sum(-1, keepdim=True)
        image = ALPHA * (x[:, None] @ a)[:, 0] + (1 - ALPHA) / n
        return float((image - x).abs().sum(-1).max())
    exact = dense_lambda2(a)
    return float(((answer.double() - exact).abs() / exact).max())


def memory(task: str, variant: str, n: int) -> float:
    """Peak of a fresh process over what its inputs took, GB."""
    return float(in_new_process(__file__, "--memory-of", task, variant, n))


def measure(n: int, rounds: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for task, variants in tasks(n).items():
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        answers: dict[str, object] = {}
        for number in range(rounds):
            for name, run in variants.items():
                if number and seconds[name][0] > 20:
                    continue  # once is enough for what takes that long
                start = time.perf_counter()
                answers[name] = run()
                seconds[name].append(time.perf_counter() - start)
        ours = statistics.median(seconds["tokenrank, weights"])
        for name in variants:
            median = statistics.median(seconds[name])
            row = {"task": task, "tokens": n, "variant": name, "seconds": round(median, 4)}
            off = worst(task, name, n, answers[name])
            row |= {"ratio": round(median / ours, 2), "worst": None if math.isnan(off) else off}
            rows.append(row | {"runs": len(seconds[name]), "peak_gb": round(memory(task, name, n), 3)})
            print(
                f"| {task} | {n:,} | {name} | {median:.3f} s | {median / ours:.1f} | {off:.0e} "
                f"| {rows[-1]['peak_gb']:.2f} GB |",
                flush=True,
            )
    return rows


def main() -> None:
    arguments = parser(__doc__, sizes="256,1024,4096", rounds=5, threads=2)
    arguments.add_argument("--memory-of", nargs=3, metavar=("TASK", "VARIANT", "TOKENS"), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        task, variant, n = args.memory_of
        run = tasks(int(n))[task][variant]
        print(peak_gb(run))
        return
    print(f"12 heads, d = {WIDTH}, α = {ALPHA}, tol = {TOL:g}, {args.threads} threads, float32 inputs\n")
    print("| task | tokens | variant | median | times ours | residual or error | peak |\n|---|---|---|---|---|---|---|")
    rows = [row for n in args.sizes.split(",") for row in measure(int(n), args.rounds)]
    save(args.out, facts("networkx", "quantecon") | {"heads": HEADS}, rows)


if __name__ == "__main__":
    main()

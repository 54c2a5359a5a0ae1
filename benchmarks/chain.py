"""TokenRank and |λ2| of 12 heads: ours beside the paper's algorithm, NumPy, SciPy, networkx and QuantEcon.

    python benchmarks/chain.py [--sizes 256,1024,4096] [--rounds 5] [--out FILE]

All variants of one size run in turn within each round; a figure is the median over rounds, a
ratio is a ratio of medians. "weights" starts from dense float32 weights, "q, k" from queries
and keys with everything included. Of TokenRank the true ℓ1 error is told, largest over heads, against float64 LU,
refined once: of the exact chain for "q, k" (softmax in float64), and of the float32 weights, rows divided by their
sums, for all others; and beside it how far the answer is from that of the exact chain. Of |λ2| it is the relative
error against dense float64 eigenvalues (where N ≤ 1,024). Peak memory is what a fresh process needs on top of
its inputs.
"""

from __future__ import annotations

import argparse
import functools
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
from peak import peak_gb
from torch import Tensor

import tokenrank as tr
from tokenrank.benchmark.heads import HEADS, WIDTH, synthetic_heads
from tokenrank.benchmark.loop import STEPS, google, power_steps

ALPHA, TOL = 0.99, 1e-6
Run = Callable[[], object]


def paper_tokenrank(a: Tensor, row_major: bool = False) -> Tensor:
    """The paper's batched helper, restated: 200 power steps on the dense teleported matrix.

    ``row_major`` is the same arithmetic as xᵀG, which reads the matrix along its rows.
    """
    g, x = google(a, ALPHA), torch.full(a.shape[:-1], 1 / a.shape[-1])
    if row_major:
        return power_steps(g, x, STEPS)
    column = x[..., None]
    for _ in range(STEPS):
        column = g.mT @ column
    return column[..., 0]


def numpy_tokenrank(a: Tensor) -> Tensor:
    """A plain LU solve of every head in double precision: no bound, no check."""
    n, found = a.shape[-1], []
    for head in a.double().numpy():
        found.append(torch.from_numpy(np.linalg.solve(np.eye(n) - ALPHA * head.T, np.full(n, (1 - ALPHA) / n))))
    return torch.stack(found)


def numpy_from_queries(q: Tensor, k: Tensor) -> Tensor:
    """The same from queries and keys: softmax in double precision as well."""
    n, found = q.shape[-2], []
    for queries, keys in zip(q.double().numpy(), k.double().numpy(), strict=True):
        logits = queries @ keys.T / WIDTH**0.5
        weights = np.exp(logits - logits.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        found.append(torch.from_numpy(np.linalg.solve(np.eye(n) - ALPHA * weights.T, np.full(n, (1 - ALPHA) / n))))
    return torch.stack(found)


def scipy_tokenrank(a: Tensor) -> Tensor:
    found = []
    for head in google(a, ALPHA).double().numpy():
        _, vector = scipy.sparse.linalg.eigs(head.T, k=1, which="LM", v0=np.ones(len(head)))
        vector = np.abs(vector[:, 0].real)
        found.append(torch.from_numpy(vector / vector.sum()))
    return torch.stack(found)


def quantecon_tokenrank(a: Tensor) -> Tensor:
    found = []
    for head in google(a, ALPHA).double().numpy():
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
        rank["NumPy LU"] = lambda: numpy_tokenrank(a)
        rank["NumPy LU, q, k"] = lambda: numpy_from_queries(q, k)
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


@functools.cache
def exact_rank(n: int, of_softmax: bool) -> Tensor:
    """TokenRank of the exact chain, or of the float32 weights with rows divided by their sums, in float64."""
    q, k = synthetic_heads(n)
    if of_softmax:
        a = (q.double() @ k.double().mT / WIDTH**0.5).softmax(-1)
    else:
        a = tr.AttentionChain.from_qk(q, k).to_dense().double()
    a /= a.sum(-1, keepdim=True)
    found, b = [], np.full(n, (1 - ALPHA) / n)
    for head in a.numpy():
        system = np.eye(n) - ALPHA * head.T
        x = np.linalg.solve(system, b)
        x += np.linalg.solve(system, b - system @ x)
        found.append(torch.from_numpy(x))
    return torch.stack(found)


def off(n: int, answer: Tensor, of_softmax: bool) -> float:
    """The largest ℓ1 error over heads."""
    x = answer.double()
    return float((x / x.sum(-1, keepdim=True) - exact_rank(n, of_softmax)).abs().sum(-1).max())


def worst(task: str, variant: str, n: int, answer: object) -> float:
    """The largest ℓ1 error (TokenRank, of what the variant was given) or relative error (|λ2|) over heads."""
    assert isinstance(answer, Tensor)
    if task == "TokenRank":
        return off(n, answer, "q, k" in variant)
    q, k = synthetic_heads(n)
    chain = tr.AttentionChain.from_qk(q.double(), k.double()) if "q, k" in variant else tr.AttentionChain.from_qk(q, k)
    exact = dense_lambda2(chain.to_dense().double())
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
            error = worst(task, name, n, answers[name])
            row |= {"ratio": round(median / ours, 2), "worst": None if math.isnan(error) else error}
            of_exact = ""
            if task == "TokenRank":
                answer = answers[name]
                assert isinstance(answer, Tensor)
                row["of_exact_chain"] = off(n, answer, True)
                of_exact = f"{row['of_exact_chain']:.0e}"
            rows.append(row | {"runs": len(seconds[name]), "peak_gb": round(memory(task, name, n), 3)})
            print(
                f"| {task} | {n:,} | {name} | {median:.4f} s | {median / ours:.2f} | {error:.0e} | {of_exact} "
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
    print("| task | tokens | variant | median | times ours | true error | from the exact chain | peak |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [row for n in args.sizes.split(",") for row in measure(int(n), args.rounds)]
    save(args.out, facts("networkx", "quantecon") | {"heads": HEADS}, rows)


if __name__ == "__main__":
    main()

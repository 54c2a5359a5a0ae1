"""The Markov core beside its peers: stationary vectors, spectra, PCCA+, absorption, Kemeny's constant, classes.

    python benchmarks/markov.py [--sizes 256,1024] [--rounds 3] [--tasks a,b] [--out FILE]

72 heads (six seeds of the twelve in ``heads.py``). All variants of a task run in turn within each round; a figure
is the median over rounds, a ratio is one of medians. A peer takes one head at a time; where its loop over 72 heads
would take minutes it runs on the first ``heads`` of them, and its seconds are scaled to 72 (the row says so). The
error is the residual of the answer or its distance from dense float64 algebra, largest over the heads that ran.
Peak memory is what a fresh process needs on top of its inputs. QuantEcon, deeptime, PyDTMC and pyGPCCA are measured
where they are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from heads import synthetic_heads
from peak import peak_gb
from torch import Tensor

import tokenrank as tr
from tokenrank.markov import absorption, classes, kemeny, metastable, spectrum, stationary
from tokenrank.operators import Dense, from_query_key

HEADS, ALPHA, STATES, VALUES = 72, 0.99, 8, 8
LIMIT = 20.0  # seconds that a peer's loop may take before heads are left out


@dataclass(frozen=True)
class Variant:
    """What to run on some heads, and how far off the answer is."""

    name: str
    run: Callable[[int], object]
    error: Callable[[object, int], float]
    peer: bool = True
    applies: Callable[[object], int] = lambda answer: 0


def inputs(n: int) -> tuple[Tensor, Tensor]:
    pairs = [synthetic_heads(n, seed) for seed in range(HEADS // 12)]
    return torch.cat([q for q, _ in pairs]), torch.cat([k for _, k in pairs])


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def stationary_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    n = a.shape[-1]
    g = ALPHA * a.double().numpy() / a.double().sum(-1, keepdim=True).numpy() + (1 - ALPHA) / n
    g /= g.sum(-1, keepdims=True)
    even = torch.full((n,), 1 / n, dtype=torch.float64)

    def residual(answer: object, count: int) -> float:
        values = np.stack([np.asarray(v) for v in answer]) if isinstance(answer, list) else answer.values.numpy()
        return float(max(np.abs(x @ h - x).sum() for x, h in zip(values, g, strict=False)))

    def applies(answer: object) -> int:
        return answer.certificate.applies

    found = [
        Variant(
            "tokenrank, weights", lambda c: stationary(Dense(a[:c]), ALPHA, even, 1e-6, 5000), residual, False, applies
        ),
        Variant(
            "tokenrank, q, k",
            lambda c: stationary(from_query_key(q[:c], k[:c], None, None, False), ALPHA, even, 1e-6, 5000),
            lambda answer, count: float(answer.certificate.residual.max()),
            False,
            applies,
        ),
    ]

    def arpack(head: np.ndarray) -> np.ndarray:
        vector = np.abs(scipy.sparse.linalg.eigs(head.T, k=1, which="LM", v0=np.ones(n))[1][:, 0].real)
        return vector / vector.sum()

    found.append(Variant("SciPy eigs (ARPACK)", lambda c: [arpack(h) for h in g[:c]], residual))
    if installed("quantecon"):
        from quantecon import MarkovChain

        found.append(
            Variant("QuantEcon GTH", lambda c: [MarkovChain(h).stationary_distributions[0] for h in g[:c]], residual)
        )
    if installed("deeptime"):
        from deeptime.markov.tools.analysis import stationary_distribution

        found.append(Variant("deeptime", lambda c: [stationary_distribution(h) for h in g[:c]], residual))
    if installed("pydtmc"):
        import pydtmc

        found.append(Variant("PyDTMC", lambda c: [pydtmc.MarkovChain(h).steady_states[0] for h in g[:c]], residual))
    return found


def spectrum_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    dense = a.double().numpy()
    n = a.shape[-1]

    def moduli(answer: object, i: int) -> np.ndarray:
        if isinstance(answer, list):
            return np.sort(np.abs(answer[i]))[::-1][:VALUES]
        return answer.values[i, :VALUES].abs().numpy()

    def error(answer: object, count: int) -> float:
        some = range(0, count, max(1, count // 6))  # dense eigenvalues of a few heads are enough of an oracle
        exact = {i: np.sort(np.abs(np.linalg.eigvals(dense[i] / dense[i].sum(-1, keepdims=True))))[::-1] for i in some}
        return float(max(np.abs(moduli(answer, i) - exact[i][:VALUES]).max() for i in some))

    def arpack(head: np.ndarray) -> np.ndarray:
        v0 = np.random.default_rng(0).standard_normal(n)
        try:
            return scipy.sparse.linalg.eigs(head, k=VALUES, which="LM", v0=v0, maxiter=200)[0]
        except scipy.sparse.linalg.ArpackNoConvergence:
            return np.full(VALUES, np.nan)

    return [
        Variant("tokenrank, weights", lambda c: spectrum(Dense(a[:c]), VALUES), error, False, lambda s: s.applies),
        Variant(
            "tokenrank, q, k",
            lambda c: spectrum(from_query_key(q[:c], k[:c], None, None, False), VALUES),
            error,
            False,
            lambda s: s.applies,
        ),
        Variant("SciPy eigs (ARPACK)", lambda c: [arpack(h) for h in dense[:c]], error),
        Variant("NumPy eig", lambda c: [np.linalg.eig(h)[0] for h in dense[:c]], error),
    ]


def pcca_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    dense = a.double().numpy()
    dense = dense / dense.sum(-1, keepdims=True)

    def rows(answer: object, count: int) -> float:
        """How far memberships are from rows that sum to one."""
        values = answer if isinstance(answer, list) else answer.memberships.numpy()
        return float(max((np.abs(v.sum(-1) - 1).max() for v in values if v is not None), default=float("nan")))

    found = [
        Variant("tokenrank, m = 2 … 8", lambda c: metastable(Dense(a[:c].double())), rows, False, lambda m: m.applies)
    ]
    if installed("pygpcca"):
        import pygpcca

        def gpcca(head: np.ndarray) -> np.ndarray | None:
            method = pygpcca.GPCCA(head, method="brandts")
            for m in (STATES, STATES + 1):
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        return method.optimize(m).memberships
                except Exception:
                    continue
            return None

        found.append(Variant("pyGPCCA, m = 8 only", lambda c: [gpcca(h) for h in dense[:c]], rows))
    return found


def absorption_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    dense = a.double().numpy()
    dense = dense / dense.sum(-1, keepdims=True)
    n = a.shape[-1]
    targets = torch.zeros(n, 4, dtype=torch.bool)
    targets[range(4), range(4)] = True

    def exact(head: np.ndarray) -> np.ndarray:
        return np.linalg.solve(np.eye(n - 4) - head[4:, 4:], head[4:, :4])

    def error(answer: object, count: int) -> float:
        some = range(0, count, max(1, count // 6))
        values = answer if isinstance(answer, list) else answer.probabilities[:, 4:].numpy()
        return float(max(np.abs(values[i] - exact(dense[i])).max() for i in some))

    return [
        Variant("tokenrank, weights", lambda c: absorption(Dense(a[:c].double()), targets), error, False,
                lambda s: s.certificate.applies),
        Variant("NumPy solve (no bound)", lambda c: [exact(h) for h in dense[:c]], error),
    ]  # fmt: skip


def kemeny_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    dense = a.double().numpy()
    dense = dense / dense.sum(-1, keepdims=True)

    def exact(head: np.ndarray) -> float:
        values = np.linalg.eigvals(head)
        return float((1 / (1 - np.delete(values, np.abs(values - 1).argmin()))).sum().real)

    def error(answer: object, count: int) -> float:
        some = range(0, count, max(1, count // 6))
        values = answer if isinstance(answer, list) else answer.values.tolist()
        return float(max(abs(values[i] / exact(dense[i]) - 1) for i in some))

    found = [Variant("tokenrank", lambda c: kemeny(Dense(a[:c].double())), error, False)]
    found.append(Variant("NumPy eigvals", lambda c: [exact(h) for h in dense[:c]], error))
    return found


def classes_task(a: Tensor, q: Tensor, k: Tensor) -> list[Variant]:
    """Heads thinned out: entries below 1/N are zero, the diagonal stays."""
    n = a.shape[-1]
    thin = torch.where((a > 1 / n) | torch.eye(n, dtype=torch.bool), a, 0.0)
    thin = thin / thin.sum(-1, keepdim=True)
    dense = thin.double().numpy()

    def count_of(answer: object, i: int) -> int:
        return answer[i] if isinstance(answer, list) else int(answer.count[i])

    def error(answer: object, count: int) -> float:
        exact = [scipy.sparse.csgraph.connected_components(h, connection="strong")[0] for h in dense[:count]]
        return float(max(abs(count_of(answer, i) - e) for i, e in enumerate(exact)))

    found = [
        Variant("tokenrank, with periods", lambda c: classes(Dense(thin[:c])), error, False),
        Variant(
            "SciPy csgraph, no periods",
            lambda c: [scipy.sparse.csgraph.connected_components(h, connection="strong")[0] for h in dense[:c]],
            error,
        ),
    ]
    if installed("quantecon"):
        from quantecon import MarkovChain

        found.append(
            Variant("QuantEcon", lambda c: [MarkovChain(h).num_communication_classes for h in dense[:c]], error)
        )
    return found


TASKS = {
    "stationary": stationary_task,
    "spectrum": spectrum_task,
    "pcca": pcca_task,
    "absorption": absorption_task,
    "kemeny": kemeny_task,
    "classes": classes_task,
}


def heads_for(variant: Variant) -> int:
    """As many heads as a peer manages in ``LIMIT`` seconds; all for ours."""
    if not variant.peer:
        return HEADS
    variant.run(1)  # imports and compilation
    start = time.perf_counter()
    variant.run(1)
    once = time.perf_counter() - start
    return max(1, min(HEADS, int(LIMIT / max(once, 1e-6))))


def memory(task: str, variant: str, n: int, heads: int) -> float:
    arguments = [sys.executable, __file__, "--memory-of", task, variant, str(n), str(heads)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure(task: str, n: int, rounds: int) -> list[dict[str, object]]:
    q, k = inputs(n)
    a = tr.AttentionChain.from_qk(q, k).to_dense()
    variants = TASKS[task](a, q, k)
    heads = {v.name: heads_for(v) for v in variants}
    seconds: dict[str, list[float]] = {v.name: [] for v in variants}
    answers: dict[str, object] = {}
    for _ in range(rounds):
        for v in variants:
            start = time.perf_counter()
            answers[v.name] = v.run(heads[v.name])
            seconds[v.name].append((time.perf_counter() - start) * HEADS / heads[v.name])
    ours = statistics.median(seconds[variants[0].name])
    rows: list[dict[str, object]] = []
    for v in variants:
        median = statistics.median(seconds[v.name])
        row = {
            "task": task,
            "tokens": n,
            "variant": v.name,
            "seconds": round(median, 4),
            "ratio": round(median / ours, 2),
            "error": v.error(answers[v.name], heads[v.name]),
            "applies": v.applies(answers[v.name]),
            "heads_run": heads[v.name],
            "heads_failed": sum(x is None for x in answers[v.name]) if isinstance(answers[v.name], list) else 0,
            "peak_gb": round(memory(task, v.name, n, heads[v.name]), 3),
        }
        rows.append(row)
        scaled = "" if heads[v.name] == HEADS else f" ({heads[v.name]} heads, scaled)"
        scaled += f", {row['heads_failed']} failed" if row["heads_failed"] else ""
        print(
            f"| {task} | {n:,} | {v.name}{scaled} | {median:.2f} s | {median / ours:.1f} | {row['error']:.0e} "
            f"| {row['peak_gb']:.2f} GB |",
            flush=True,
        )
    return rows


def versions() -> dict[str, str]:
    found = {"tokenrank": tr.__version__}
    for name in ("torch", "numpy", "scipy", "quantecon", "deeptime", "pydtmc", "pygpcca"):
        if installed(name):
            found[name] = importlib.metadata.version(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256,1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", nargs=4, metavar=("TASK", "VARIANT", "TOKENS", "HEADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # pyGPCCA logs whole matrices
    if args.memory_of:
        task, name, n, heads = args.memory_of
        q, k = inputs(int(n))
        a = tr.AttentionChain.from_qk(q, k).to_dense()
        variant = next(v for v in TASKS[task](a, q, k) if v.name == name)
        print(peak_gb(lambda: variant.run(int(heads))))
        return
    print("| task | tokens | variant | median | times ours | error | peak |\n|---|---|---|---|---|---|---|")
    rows = [
        row
        for n in args.sizes.split(",")
        for task in args.tasks.split(",")
        for row in measure(task, int(n), args.rounds)
    ]
    if args.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "heads": HEADS,
            "threads": args.threads,
            "versions": versions(),
            "machine": platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "rows": rows,
        }
        args.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

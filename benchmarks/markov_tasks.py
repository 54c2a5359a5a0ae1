"""What ``markov.py`` measures: every task with our variants and those of the peers that are installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx
import numpy as np
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.benchmark.heads import synthetic_heads
from tokenrank.markov import absorption, classes, hitting_times, kemeny, metastable, spectrum, stationary
from tokenrank.operators import Dense, Operator, from_query_key

ALPHA, STATES, VALUES, TARGETS, ORACLES = 0.99, 8, 8, 4, 3
PEERS = ("quantecon", "deeptime", "pydtmc", "pygpcca")
Array = np.ndarray
# of pyGPCCA: a pair that is cut, a basis that its own check finds wrong, blocks that it cannot swap, and, under
# python -W, a warning for which it has imported no module
FAILURES = (ValueError, RuntimeError, NameError)


@dataclass(frozen=True)
class Variant:
    """One way to an answer.

    Attributes:
        name: as printed.
        run: takes the number of heads and returns the answers of the first so many.
        error: the answers and their number → how far off they are, largest over heads; see the task.
        ours: runs on all heads; a peer on as many as fit into its time.
        largest: tokens beyond which it is left out.
        applies: attention applications that an answer says it took.
        quality: a second figure beside the error, with its name; None for none.
    """

    name: str
    run: Callable[[int], Any]
    error: Callable[[Any, int], float]
    ours: bool = False
    largest: int = 1024
    applies: Callable[[Any], int] = field(default=lambda answer: 0)
    quality: Callable[[Any], dict[str, float]] = field(default=lambda answer: {})


class Inputs:
    """72 chains of n tokens, 12 beyond 1,024: what every library is given, made when asked for."""

    def __init__(self, n: int) -> None:
        self.n, self.heads = n, 72 if n <= 1024 else 12
        pairs = [synthetic_heads(n, seed=seed) for seed in range(self.heads // 12)]
        self._walks: dict[int, list[tuple[Array, Array]]] = {}
        self.q, self.k = (torch.cat(parts) for parts in zip(*pairs, strict=True))

    @cached_property
    def a(self) -> Tensor:
        """Float32 weights, (heads, n, n)."""
        return tr.AttentionChain.from_qk(self.q, self.k).to_dense()

    def matrix_free(self, count: int) -> Operator:
        return from_query_key(self.q[:count], self.k[:count], None, None, False)

    @cached_property
    def double(self) -> Tensor:
        """The same in float64, rows that sum to one: what float32 weights stand for."""
        a = self.a.double()
        return a.div_(a.sum(-1, keepdim=True))

    @cached_property
    def chains(self) -> list[Array]:
        """The same, one by one."""
        return list(self.double.numpy())

    @cached_property
    def teleported(self) -> list[Array]:
        found = []
        for i in range(self.heads):
            g = ALPHA * self.chains[i] + (1 - ALPHA) / self.n
            found.append(g / g.sum(-1, keepdims=True))
        return found

    @cached_property
    def eigenvalues(self) -> list[Array]:
        """All of some heads, by modulus, from LAPACK in float64: the oracle."""
        values = [np.linalg.eigvals(self.chains[i]) for i in self.some(self.heads)]
        return [v[np.argsort(-np.abs(v), kind="stable")] for v in values]

    def walks(self, targets: int) -> list[tuple[Array, Array]]:
        """``walk`` of one head of every kind (twelve): the oracle of absorption and of hitting times."""
        if targets not in self._walks:
            self._walks[targets] = [walk(self.chains[i], targets) for i in range(min(12, self.heads))]
        return self._walks[targets]

    def some(self, count: int) -> range:
        """Heads that an expensive oracle looks at."""
        return range(min(count, ORACLES))


def walk(head: Array, targets: int) -> tuple[Array, Array]:
    """Probabilities of entering each of the first tokens first (N − T, T), and how long that takes (N − T,).

    State by state, without a subtraction (Grassmann, Taksar and Heyman), so that entries are accurate to some N ε
    however rare the ways out are; LAPACK loses such heads altogether.
    """
    q, out = head[targets:, targets:].copy(), head[targets:, :targets].copy()
    count, spent = len(q), np.ones(len(q))
    leaving = np.empty(count)
    for k in reversed(range(count)):
        leaving[k] = q[k, :k].sum() + out[k].sum()
        q[:k, k] /= leaving[k]
        q[:k, :k] += np.outer(q[:k, k], q[k, :k])
        out[:k] += np.outer(q[:k, k], out[k])
        spent[:k] += q[:k, k] * spent[k]
    found, times = np.empty_like(out), np.empty(count)
    for k in range(count):
        found[k] = (out[k] + q[k, :k] @ found[:k]) / leaving[k]
        times[k] = (spent[k] + q[k, :k] @ times[:k]) / leaving[k]
    return found, times


def peer(name: str) -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name.partition(".")[0]) else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, of peers that turn them on again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def each(one: Callable[[Array], Any], chains: list[Array]) -> list[Any]:
    """What a peer makes of every chain; None where it finds the matrix singular, as some heads in float32 are."""
    found: list[Any] = []
    for chain in chains:
        found.append(None)
        with contextlib.suppress(np.linalg.LinAlgError), quiet():
            found[-1] = one(chain)
    return found


def known(values: Any, exact: list[Any]) -> list[tuple[int, Any]]:
    """The heads that both the variant and the oracle have an answer for, with the latter."""
    return [(i, e) for i, e in enumerate(exact) if e is not None and values[i] is not None]


def stationary_task(data: Inputs) -> list[Variant]:
    """π of αA + (1 − α)/N; error: ‖πᵀG − πᵀ‖₁ in float64."""
    n, even = data.n, torch.full((data.n,), 1 / data.n, dtype=torch.float64)

    def residual(answer: Any, count: int) -> float:
        values = answer if isinstance(answer, list) else answer.values.numpy()
        return max(float(np.abs(x @ data.teleported[i] - x).sum()) for i, x in enumerate(values[:count]))

    def ours(operator: Callable[[int], Any], tol: float) -> Callable[[int], Any]:
        return lambda c: stationary(operator(c), ALPHA, even, tol, 5000)

    def loop(one: Callable[[Array], Array]) -> Callable[[int], list[Array]]:
        return lambda c: [one(g) for g in data.teleported[:c]]

    def arpack(g: Array) -> Array:
        vector = np.abs(scipy.sparse.linalg.eigs(g.T, k=1, which="LM", v0=np.ones(n))[1][:, 0].real)
        return vector / vector.sum()

    def pagerank(i: int) -> Array:
        graph = networkx.from_numpy_array(data.chains[i], create_using=networkx.DiGraph)
        rank = networkx.pagerank(graph, alpha=ALPHA, tol=1e-6 / n, max_iter=5000)
        return np.array([rank[i] for i in range(n)])

    def weights(count: int) -> Operator:
        return Dense(data.a[:count])

    def applies(answer: Any) -> int:
        return answer.certificate.applies

    found = [
        Variant("tokenrank, weights", ours(weights, 1e-6), residual, True, 4096, applies),
        Variant("tokenrank, weights, tol 1e-12", ours(weights, 1e-12), residual, True, 4096, applies),
        # the chain of the queries and keys, not of their rounded weights: its own residual, in float64 as well
        Variant(
            "tokenrank, q, k",
            ours(data.matrix_free, 1e-6),
            lambda answer, c: float(answer.certificate.residual.max()),
            True,
            4096,
            applies,
        ),
        Variant("SciPy eigs (ARPACK)", loop(arpack), residual, largest=4096),
        Variant("networkx pagerank", lambda c: [pagerank(i) for i in range(c)], residual, largest=256),
    ]
    if quantecon := peer("quantecon"):
        run = loop(lambda g: quantecon.MarkovChain(g).stationary_distributions[0])
        found.append(Variant("QuantEcon (GTH)", run, residual, largest=4096))
    if deeptime := peer("deeptime.markov.tools.analysis"):
        found += [
            Variant("deeptime (LU, its default)", loop(deeptime.stationary_distribution), residual, largest=4096),
            Variant(
                "deeptime (eigenvector)",
                loop(lambda g: deeptime.stationary_distribution(g, mode="eigenvector")),
                residual,
            ),
        ]
    if pydtmc := peer("pydtmc"):
        found.append(Variant("PyDTMC", loop(lambda g: pydtmc.MarkovChain(g).steady_states[0]), residual))
    return found


def spectrum_task(data: Inputs) -> list[Variant]:
    """The 8 eigenvalues of largest modulus; error: of the moduli, against LAPACK in float64."""

    def error(answer: Any, count: int) -> float:
        values = answer if isinstance(answer, list) else answer.values[:, :VALUES].numpy()
        # beyond 1,024 tokens the oracle would take minutes a head: the residual of our own values
        if data.n > 1024:
            return float("nan") if isinstance(answer, list) else float(answer.certificate.residual.max())
        exact = [data.eigenvalues[i][:VALUES] for i in data.some(count)]
        moduli = [(np.sort(np.abs(values[i]))[::-1][:VALUES], np.abs(e)) for i, e in known(values, exact)]
        return max(float(np.abs(m - e).max()) for m, e in moduli)

    def arpack(head: Array) -> Array | None:
        v0 = np.random.default_rng(0).standard_normal(data.n)
        try:
            return scipy.sparse.linalg.eigs(head, k=VALUES, which="LM", v0=v0, maxiter=200)[0]
        except scipy.sparse.linalg.ArpackNoConvergence:
            return None

    def uncertain(answer: Any) -> dict[str, float]:
        return {"flagged uncertain": float(answer.certificate.uncertain.sum())}

    applies = lambda answer: answer.certificate.applies  # noqa: E731
    return [
        Variant(
            "tokenrank, weights", lambda c: spectrum(Dense(data.a[:c]), VALUES), error, True, 4096, applies, uncertain
        ),
        Variant(
            "tokenrank, q, k", lambda c: spectrum(data.matrix_free(c), VALUES), error, True, 4096, applies, uncertain
        ),
        Variant(
            "SciPy eigs (ARPACK)",
            lambda c: each(arpack, data.chains[:c]),
            error,
            largest=4096,
        ),
        Variant("NumPy eig", lambda c: each(lambda h: np.linalg.eig(h)[0], data.chains[:c]), error),
    ]


def pcca_task(data: Inputs) -> list[Variant]:
    """PCCA+ with 8 states (9 where that cuts a pair); error: ‖AX − XXᵀAX‖_F of the subspace used."""

    def error(answer: Any, count: int) -> float:
        if not isinstance(answer, list):
            return float(answer.certificate.residual.max())
        return max((a["residual"] for a in answer if a), default=float("nan"))

    def quality(answer: Any) -> dict[str, float]:
        """Of the head that every method runs on; more is better."""
        if not isinstance(answer, list):
            return {"crispness of head 0": float(answer.crispness[0])}
        return {"crispness of head 0": answer[0]["crispness"] if answer[0] else float("nan")}

    def ours(k: int | None) -> Callable[[int], Any]:
        return lambda c: metastable(Dense(data.double[:c]), k)

    applies = lambda answer: answer.certificate.applies  # noqa: E731
    found = [
        Variant("tokenrank, m = 8", ours(STATES), error, True, 4096, applies, quality),
        Variant("tokenrank, m = 2 … 8, m chosen", ours(None), error, True, 1024, applies, quality),
    ]
    if pygpcca := peer("pygpcca"):

        def gpcca(head: Array) -> dict[str, float] | None:
            method = pygpcca.GPCCA(head, method="brandts")
            for m in (STATES, STATES + 1):
                with contextlib.suppress(*FAILURES), contextlib.redirect_stdout(io.StringIO()):
                    method.optimize(m)
                    x = method.schur_vectors[:, :m] / head.shape[0] ** 0.5
                    image = head @ x
                    return {
                        "residual": float(np.linalg.norm(image - x @ (x.T @ image))),
                        "crispness": float(np.max(method.optimal_crispness)),
                    }
            return None

        found.append(
            Variant("pyGPCCA (brandts), m = 8", lambda c: each(gpcca, data.chains[:c]), error, quality=quality)
        )
    if deeptime := peer("deeptime.markov"):

        def reversible(head: Array) -> dict[str, float] | None:
            # it is made for reversible chains and refuses others, by either of these
            with contextlib.suppress(ValueError, AssertionError):
                chi = deeptime.pcca(head, STATES).memberships
                crispness = float(((chi**2).sum(0) / chi.sum(0)).mean())
                return {"residual": float("nan"), "crispness": crispness}
            return None

        found.append(Variant("deeptime", lambda c: each(reversible, data.chains[:c]), error, quality=quality))
    return found


def absorption_task(data: Inputs) -> list[Variant]:
    """Four absorbing tokens; error: of a probability, against elimination, which is exact entry by entry."""
    n = data.n
    targets = torch.eye(n, dtype=torch.bool)[:, :TARGETS]

    def solved(head: Array) -> Array:
        return np.linalg.solve(np.eye(n - TARGETS) - head[TARGETS:, TARGETS:], head[TARGETS:, :TARGETS])

    def error(answer: Any, count: int) -> float:
        values = answer if isinstance(answer, list) else answer.values[:, TARGETS:].numpy()
        exact = [found for found, _ in data.walks(TARGETS)[:count]]
        return max(float(np.abs(values[i] - e).max()) for i, e in known(values, exact))

    def proved(answer: Any) -> dict[str, float]:
        """Heads whose bound met the tolerance, and of them the largest bound and true error."""
        bounds, values = answer.certificate.error_bound.numpy(), answer.values[:, TARGETS:].numpy()
        exact = [found for found, _ in data.walks(TARGETS)]
        near = [i for i in range(min(len(exact), len(bounds))) if bounds[i] <= 1e-8]
        errors = [float(np.abs(values[i] - exact[i]).max()) for i in near]
        return {"heads bounded": len(near), "bound": max(bounds[near]), "their error": max(errors)}

    found = [
        Variant(
            "tokenrank, proved bound",
            lambda c: absorption(Dense(data.double[:c]), targets),
            error,
            True,
            4096,
            lambda answer: answer.certificate.applies,
            proved,
        ),
        Variant("NumPy solve", lambda c: each(solved, data.chains[:c]), error, largest=4096),
    ]
    if pydtmc := peer("pydtmc"):

        def absorbed(head: Array) -> Array | None:
            stopped = head.copy()
            stopped[:TARGETS] = np.eye(n)[:TARGETS]
            found = pydtmc.MarkovChain(stopped).absorption_probabilities()
            return None if found is None or found.shape[0] != TARGETS else found.T

        found.append(Variant("PyDTMC", lambda c: each(absorbed, data.chains[:c]), error))
    return found


def hitting_task(data: Inputs) -> list[Variant]:
    """Expected bounces until token 0; error: relative, against elimination, which is exact entry by entry."""
    n = data.n
    target = torch.arange(n) == 0

    def solved(head: Array) -> Array:
        return np.append(0.0, np.linalg.solve(np.eye(n - 1) - head[1:, 1:], np.ones(n - 1)))

    def error(answer: Any, count: int) -> float:
        values = answer if isinstance(answer, list) else answer.values.numpy()
        exact = [np.append(0.0, times) for _, times in data.walks(1)[:count]]
        return max(float(np.abs(values[i] - e).max() / e.max()) for i, e in known(values, exact))

    found = [
        Variant(
            "tokenrank, proved bound",
            lambda c: hitting_times(Dense(data.double[:c]), target),
            error,
            True,
            4096,
            lambda answer: answer.certificate.applies,
        ),
        Variant("NumPy solve", lambda c: each(solved, data.chains[:c]), error, largest=4096),
    ]
    if deeptime := peer("deeptime.markov.tools.analysis"):
        found.append(Variant("deeptime mfpt", lambda c: each(lambda h: deeptime.mfpt(h, 0), data.chains[:c]), error))
    if pydtmc := peer("pydtmc"):
        run = lambda c: [np.asarray(pydtmc.MarkovChain(h).hitting_times("1")) for h in data.chains[:c]]  # noqa: E731
        found.append(Variant("PyDTMC", run, error, largest=256))
    return found


def kemeny_task(data: Inputs) -> list[Variant]:
    """Σ 1/(1 − λ_i), i ≥ 2; error: relative, against the eigenvalues in float64."""

    def from_eigenvalues(values: Array) -> float:
        return float((1 / (1 - np.delete(values, np.abs(values - 1).argmin()))).sum().real)

    def error(answer: Any, count: int) -> float:
        values = answer if isinstance(answer, list) else answer.values.tolist()
        exact = [from_eigenvalues(data.eigenvalues[i]) for i in data.some(count)]
        return max(abs(values[i] / e - 1) for i, e in known(values, exact))

    found = [
        Variant("tokenrank", lambda c: kemeny(Dense(data.double[:c])), error, True),
        Variant(
            "NumPy eigvals", lambda c: each(lambda h: from_eigenvalues(np.linalg.eigvals(h)), data.chains[:c]), error
        ),
    ]
    if pydtmc := peer("pydtmc"):

        def passages(head: Array) -> float | None:
            """Its own property is the trace of an absorbing chain's fundamental matrix; this is Kemeny's constant."""
            chain = pydtmc.MarkovChain(head)
            times = chain.mean_first_passage_times_to()
            return None if times is None else float(times[0] @ chain.steady_states[0])

        found.append(
            Variant("PyDTMC (mean passage to a token drawn from π)", lambda c: each(passages, data.chains[:c]), error)
        )
    return found


def classes_task(data: Inputs) -> list[Variant]:
    """Classes of heads thinned out (entries below 1/N are zero, the diagonal stays); error: of the number."""
    n = data.n
    thin = torch.where((data.a > 1 / n) | torch.eye(n, dtype=torch.bool), data.a, 0.0)
    thin = thin / thin.sum(-1, keepdim=True)
    chains = [h.double().numpy() for h in thin]

    def components(head: Array) -> int:
        return int(scipy.sparse.csgraph.connected_components(head, connection="strong")[0])

    def error(answer: Any, count: int) -> float:
        found = answer if isinstance(answer, list) else answer.count.tolist()
        return float(max(abs(f - components(h)) for f, h in zip(found, chains, strict=False)))

    found = [
        Variant("tokenrank, with kinds and periods", lambda c: classes(Dense(thin[:c])), error, True, 4096),
        Variant("SciPy csgraph, classes only", lambda c: [components(h) for h in chains[:c]], error, largest=4096),
    ]
    if quantecon := peer("quantecon"):

        def counted(head: Array) -> int:
            chain = quantecon.MarkovChain(head)
            assert chain.num_recurrent_classes
            return chain.num_communication_classes

        found.append(Variant("QuantEcon, with kinds", lambda c: [counted(h) for h in chains[:c]], error, largest=4096))
    return found


TASKS: dict[str, Callable[[Inputs], list[Variant]]] = {
    "stationary": stationary_task,
    "spectrum": spectrum_task,
    "pcca": pcca_task,
    "absorption": absorption_task,
    "hitting": hitting_task,
    "kemeny": kemeny_task,
    "classes": classes_task,
}

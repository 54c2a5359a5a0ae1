"""Questions about walks: bounces, stationary vectors, entropy, sinks, half-lives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import oracles
from .case import EPS, PROMISE, STATIONARY, Case, Verdict, Worth, call
from .numbers import FAST, Array, Numbers, distance, floats

Generator = np.random.Generator
How = dict[str, Any]


def direction(rng: Generator) -> str:
    return "backward" if rng.random() < 0.35 else "forward"


def start(rng: Generator, n: int) -> Tensor:
    """One token, or a distribution."""
    if rng.random() < 0.5:
        return torch.eye(n, dtype=torch.float64)[int(rng.integers(n))]
    return torch.from_numpy(rng.dirichlet(np.ones(n)))


def towards(case: Case, how: How, numbers: Numbers) -> tuple[Array, Array]:
    a, support = case.exact(numbers)
    if how["direction"] == "forward":
        return a, support
    return np.stack([oracles.reverse(x) for x in a]), support.swapaxes(-1, -2)


def nobody(case: Case, how: How) -> bool:
    """Whether a token is attended to by nobody, so that the reversed chain has no row for it."""
    return how["direction"] == "backward" and not case.exact(FAST)[1].any(-2).all()


# ---- bounces


def ask_bounce(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"start": start(rng, case.n), "n": int(rng.integers(0, 6)), "direction": direction(rng)}
    return lambda: case.chain.bounce(**how), how


@call("bounce", ask_bounce, largest=300, refusable=nobody, rational=True)
def bounce(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, _ = towards(case, how, numbers)
    v = numbers.array(how["start"])
    v, found, values = v / v.sum(), [], case.flat(answer.values)
    worth = Worth.of(case, answer.certificate)
    allowed = max(1, how["n"]) * case.rounding(values.dtype)
    mass = max(1, how["n"]) * torch.finfo(values.dtype).eps * (32 + 8 * case.n**0.5)
    for head, matrix in enumerate(a):
        exact = v
        for _ in range(how["n"]):
            exact = exact @ matrix
        found.append(Verdict(head, "mass", mass, abs(float(values[head].double().sum()) - 1)))
        found.append(worth.judge(head, "values", distance(values[head], exact), allowed, case.slack(numbers)))
    return found


def ask_products(case: Case, rng: Generator) -> tuple[Any, How]:
    operator, dtype = case.chain.operator, [torch.float32, torch.float64][int(rng.integers(2))]
    dtype = torch.promote_types(dtype, operator.dtype)
    x = torch.from_numpy(rng.dirichlet(np.ones(case.n), 3).T.copy())
    x[:, 0] = torch.eye(case.n)[int(rng.integers(case.n))]
    x = (x.to(dtype)).expand(*case.chain.batch, -1, -1)

    def products() -> Any:
        errors = operator.row_error(dtype), operator.entry_error(dtype)
        return operator @ x, operator.T @ x, operator.to_dense(dtype), *errors

    return products, {"x": x}


@call("products", ask_products, largest=300, rational=True, close=True)
def products(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    """What an operator says of its own errors, with η = row_error: ‖(Â−A)ᵀx‖₁ ≤ η‖x‖₁, ‖(Â−A)x‖∞ ≤ η‖x‖∞,
    Σ_j |Â_ij − A_ij| ≤ η, |Â_ij/A_ij − 1| ≤ exp(entry_error) − 1; and the rounding of sums."""
    there, back, dense, row, entry = (case.flat(t) for t in answer)
    a, _ = case.exact(numbers)
    found, eps = [], torch.finfo(there.dtype).eps
    x = numbers.array(how["x"].reshape(case.heads, case.n, -1)[0])
    size = float(np.max(abs(x)))
    for head, matrix in enumerate(a):
        own = 4 * eps * (case.n + 16)  # of the sums of a product
        eta = float(row[head]) + own
        product = distance(there[head].reshape(-1), (matrix @ x).ravel(), "max")
        found.append(Verdict(head, "A x", eta * size, product))
        off = max(distance(back[head][:, c], matrix.T @ x[:, c]) for c in range(x.shape[1]))
        found.append(Verdict(head, "Aᵀx", eta, off))
        found.append(Verdict(head, "rows", eta, distance(dense[head], matrix)))
        plain = floats(matrix)
        some = torch.from_numpy(plain > float(torch.finfo(there.dtype).tiny) / eps)
        if bool(some.any()):
            relative = float((dense[head].double() / torch.from_numpy(plain) - 1)[some].abs().max())
            found.append(Verdict(head, "entries", np.expm1(float(entry[head])) + own, relative))
    return found


# ---- stationary vectors


def ask_tokenrank(case: Case, rng: Generator) -> tuple[Any, How]:
    alpha = float(rng.choice([0.0, 0.5, 0.85, 0.99, 0.99, 0.999999, 1 - 1e-9]))
    tol = 1e-6 if rng.random() < 0.6 or alpha > 0.99 else float(rng.choice([1e-10, 1e-12]))
    how = {"alpha": alpha, "direction": direction(rng), "tol": tol}
    if rng.random() < 0.5:
        how["personalization"] = start(rng, case.n)
    return lambda: case.chain.tokenrank(**how), how


def jump(case: Case, how: How, numbers: Numbers) -> Array:
    v = numbers.array(how.get("personalization", torch.ones(case.n)))
    return v / v.sum()


@call("tokenrank", ask_tokenrank, largest=300, refusable=nobody, rational=True, close=True)
def tokenrank(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = towards(case, how, numbers)
    v, worth, values = jump(case, how, numbers), Worth.of(case, answer.certificate), case.flat(answer.values)
    found, reached = [], case.flat(answer.certificate.converged)
    for head in range(case.heads):
        pi = oracles.pagerank(a[head], support[head], how["alpha"], v, numbers)
        error = distance(values[head], pi)
        found.append(Verdict(head, "mass", 64 * EPS * case.n, abs(float(values[head].sum()) - 1)))
        found.append(worth.judge(head, "π", error, how["tol"], case.slack(numbers)))
        if bool(reached[head]):
            found.append(Verdict(head, "converged", how["tol"], error))
    return found


def ask_limit(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"alpha": 1.0, "direction": direction(rng)}
    if rng.random() < 0.5:
        how["personalization"] = start(rng, case.n)
    return lambda: case.chain.tokenrank(**how), how


@call("tokenrank (α = 1)", ask_limit, largest=300, refusable=nobody, rational=True)
def tokenrank_limit(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = towards(case, how, numbers)
    v, worth, values, found = jump(case, how, numbers), Worth.of(case, answer.certificate), case.flat(answer.values), []
    for head in range(case.heads):
        pi = oracles.limit(a[head], support[head], v)
        several = sum(oracles.closed(support[head], tokens) for tokens in oracles.strong(support[head])) > 1
        what = "π of several classes" if several else "π"
        error = distance(values[head], pi)
        found.append(Verdict(head, "mass", 64 * EPS * case.n, abs(float(values[head].sum()) - 1)))
        found.append(worth.judge(head, what, error, STATIONARY, case.slack(numbers)))
    return found


def ask_extreme(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.stationary_distributions, {}


@call("stationary_distributions", ask_extreme, largest=300, rational=True)
def stationary_distributions(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    worth, found = Worth.of(case, answer.certificate), []
    for head in range(case.heads):
        ends = [tokens for tokens in oracles.strong(support[head]) if oracles.closed(support[head], tokens)]
        count = int(case.flat(answer.count)[head])
        found.append(Verdict(head, "number of classes", 0, abs(count - len(ends))))
        if count != len(ends):
            continue
        for c, tokens in enumerate(ends):
            error = distance(case.flat(answer.values)[head, c], oracles.stationary_of(a[head], tokens))
            found.append(worth.judge(head, "π", error, STATIONARY, case.slack(numbers), c))
    return found


def several_classes(case: Case, how: How) -> bool:
    """Whether some chain has more than one recurrent class, or its numbers leave none: a refusal is right."""
    return any(sum(oracles.closed(s, t) for t in oracles.strong(s)) > 1 for s in case.exact(FAST)[1])


def ask_entropy(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.entropy_rate, {}


@call("entropy_rate", ask_entropy, share=0.5, refusable=several_classes)
def entropy_rate(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    worth, found = Worth.of(case, answer.certificate), []
    for head in range(case.heads):
        tokens = next(t for t in oracles.strong(support[head]) if oracles.closed(support[head], t))
        pi, block = oracles.gth(a[head][np.ix_(tokens, tokens)]), a[head][np.ix_(tokens, tokens)]
        positive = block > 0
        logs = numbers.log(np.where(positive, block, block * 0 + 1))
        rate = -float(pi @ (np.where(positive, block, 0 * block) * logs).sum(1))
        bare = Worth(worth.sure, torch.full_like(worth.bound, torch.inf))  # its bound is of π
        error = abs(float(case.flat(answer.values)[head]) - rate)
        found.append(bare.judge(head, "rate", error, max(PROMISE, 8 * case.rounding(torch.float64)), 0.0))
        found.append(
            worth.judge(
                head, "π", distance(case.flat(answer.stationary)[head][tokens], pi), STATIONARY, case.slack(numbers)
            )
        )
    return found


# ---- one step, and a few


def ask_sinks(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.sinks, {}


@call("sinks", ask_sinks, share=0.5, largest=300)
def sinks(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    found, allowed = [], case.n * case.rounding(torch.float64)
    for head in range(case.heads):
        share = floats(a[head].sum(0)) / case.n
        queries = support[head].sum(0)
        mine = case.flat(answer.share)[head].numpy()
        found.append(Verdict(head, "share", allowed, float(abs(mine - share).max())))
        found.append(Verdict(head, "queries", 0, int(abs(case.flat(answer.queries)[head].numpy() - queries).max())))
        mean = share * case.n / np.maximum(queries, 1)
        found.append(
            Verdict(head, "mean", case.n * allowed, float(abs(case.flat(answer.values)[head].numpy() - mean).max()))
        )
    return found


def ask_half_life(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"start": start(rng, case.n)}
    return lambda: case.chain.half_life(**how), how


@call("half_life", ask_half_life, share=0.4, largest=40)
def half_life(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, _ = case.exact(numbers)
    found, curve = [], case.flat(answer.curve)
    allowed = 1e-9 + 64 * curve.shape[-1] * case.rounding(torch.float64)
    for head, matrix in enumerate(a):
        v, u = numbers.array(how["start"]), numbers.array(np.full(case.n, 1 / case.n))
        v, told = v / v.sum(), []
        for _ in range(curve.shape[-1]):
            positive = v > 0
            some = np.where(positive, v, v * 0 + 1)
            told.append(
                float(
                    (
                        np.where(positive, v, 0 * v) * (numbers.log(some) - numbers.log(np.where(positive, u, some)))
                    ).sum()
                )
            )
            v, u = v @ matrix, u @ matrix
        found.append(Verdict(head, "D", allowed, float(abs(curve[head].numpy() - np.array(told)).max())))
        steps, limit = int(case.flat(answer.values)[head]), answer.limit
        if told[1] <= 2e-9:
            continue
        late = steps < limit and told[steps] > told[1] / 2 + allowed
        early = any(told[k] < told[1] / 2 - allowed for k in range(1, min(steps, len(told))))
        found.append(Verdict(head, "steps", 0, float(late or early)))
    return found


def ask_quasi(case: Case, rng: Generator) -> tuple[Any, How]:
    drop = sorted(rng.permutation(case.n)[: int(rng.integers(1, max(2, case.n // 2)))].tolist())
    how = {"drop": drop, "alpha": float(rng.choice([0.5, 0.99]))}
    return lambda: case.chain.quasi_stationary(**how), how


@call("quasi_stationary", ask_quasi, share=0.5, largest=40, refusable=lambda case, how: case.n == len(how["drop"]))
def quasi_stationary(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, _ = case.exact(numbers)
    worth, found = Worth.of(case, answer.certificate), []
    keep = np.setdiff1d(np.arange(case.n), how["drop"])
    alpha = numbers.one(how["alpha"])
    for head, matrix in enumerate(a):
        q = alpha * matrix[np.ix_(keep, keep)] + (1 - alpha) / numbers.one(case.n)
        least, most, v = oracles.perron(q)
        lower, upper, survival = (float(case.flat(getattr(answer, k))[head]) for k in ("lower", "upper", "survival"))
        # proved "up to rounding": of sums of N products in float64, and of the softmax
        own = 16 * EPS * case.n + case.rounding(torch.float64) * (case.spec.size > 0)
        found.append(Verdict(head, "lower", own, lower - float(most), bound=True))
        found.append(Verdict(head, "upper", own, float(least) - upper, bound=True))
        found.append(worth.judge(head, "v", distance(case.flat(answer.values)[head][keep], v), STATIONARY, 1e-12))
        found.append(
            Verdict(head, "survival", PROMISE if bool(worth.sure[head]) else np.inf, abs(survival - float(least)))
        )
    return found

"""Questions about where walks end and how long they take."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

import tokenrank as tr

from . import oracles
from .case import MANY_BITS, PROMISE, Case, Verdict, Worth, call
from .numbers import MANY, Array, Numbers, distance, floats, number
from .walks import several_classes

Generator = np.random.Generator
How = dict[str, Any]
LONGEST = 1e290  # times beyond may be called infinite


def ask_classes(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.classes, {}


@call("classes", ask_classes, largest=300)
def classes(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    _, support = case.exact(numbers)
    found = []
    for head in range(case.heads):
        groups = oracles.strong(support[head])
        labels = np.empty(case.n, dtype=int)
        for c, tokens in enumerate(groups):
            labels[tokens] = c
        found.append(Verdict(head, "labels", 0, float((case.flat(answer.values)[head].numpy() != labels).sum())))
        if found[-1].false:
            continue
        ends = [oracles.closed(support[head], tokens) for tokens in groups]
        mine = case.flat(answer.recurrent)[head, : len(groups)].tolist()
        found.append(Verdict(head, "recurrent", 0, float(mine != ends)))
        periods = [oracles.period(support[head], tokens) for tokens in groups]
        found.append(
            Verdict(head, "period", 0, float(case.flat(answer.period)[head, : len(groups)].tolist() != periods))
        )
    return found


def times(
    case: Case, head: int, found: Tensor, certificate: Any, exact: Array, surely: Array, what: str, *place: int
) -> list[Verdict]:
    """Expected bounces (N,) beside the right ones: where they are infinite, and how far off the others are."""
    worth = Worth.of(case, certificate)
    right = floats(exact)
    finite = torch.isfinite(found).numpy()
    wrong = (finite & ~surely) | (~finite & surely & (right < LONGEST))
    honest = not bool(case.flat(certificate.converged)[(head, *place)])
    verdicts = [Verdict(head, f"{what}: where infinite", np.inf if honest else 0, float(wrong.sum()))]
    both = np.flatnonzero(finite & surely)
    if len(both):
        mine = found[torch.from_numpy(both)]
        error = distance(mine, exact[both], "max")
        most = min(1e300, max(1.0, float(abs(right[both]).max())))
        # what was printed as proved is "up to the rounding of a dot product"
        verdicts.append(worth.judge(head, what, error, PROMISE * most, 4 * np.finfo(float).eps * most, *place))
        if not 0 < float(worth.bound[(head, *place)]) < np.inf and bool(worth.sure[(head, *place)]):
            wanted = torch.from_numpy(right[both])
            off = mine / wanted.clamp(min=1) - wanted.clamp(max=1)
            relative = float(torch.where(wanted < LONGEST, off, 0.0).abs().max())
            verdicts.append(Verdict(head, f"{what}: certain, entry by entry", PROMISE, relative))
    return verdicts


def targets(case: Case, rng: Generator) -> list[list[int]]:
    """One to three disjoint sets of tokens."""
    order = rng.permutation(case.n).tolist()
    count = int(rng.integers(1, min(3, case.n) + 1))
    return [[order[t]] if rng.random() < 0.7 else order[t::count][: max(1, case.n // 4)] for t in range(count)]


def ask_absorption(case: Case, rng: Generator) -> tuple[Any, How]:
    sets = targets(case, rng)
    sets = [s for i, s in enumerate(sets) if not any(set(s) & set(r) for r in sets[:i])]
    how = {"targets": {str(t): tokens for t, tokens in enumerate(sets)}}
    return lambda: case.chain.absorption(**how), how


@call("absorption", ask_absorption, largest=300, rational=True, close=True)
def absorption(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    worth, found = Worth.of(case, answer.certificate), []
    sets = [np.array(sorted(tokens)) for tokens in how["targets"].values()]
    for head in range(case.heads):
        h, steps, _, surely = oracles.absorbing(a[head], support[head], sets)
        error = distance(case.flat(answer.values)[head], h, "max")
        found.append(worth.judge(head, "probabilities", error, PROMISE, case.slack(numbers)))
        escape = abs(case.flat(answer.escape)[head].numpy() - floats(1 - h.sum(1))).max()
        found.append(worth.judge(head, "escape", float(escape), PROMISE, 4e-16 + case.slack(numbers)))
        mine = case.flat(answer.steps)[head]
        found += times(case, head, mine, answer.steps_certificate, steps, surely, "steps")
    return found


def ask_hitting(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"targets": sorted(targets(case, rng)[0])}
    return lambda: case.chain.hitting_times(**how), how


@call("hitting_times", ask_hitting, largest=300, rational=True, close=True)
def hitting_times(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    worth, found = Worth.of(case, answer.probabilities_certificate), []
    for head in range(case.heads):
        h, steps, _, surely = oracles.absorbing(a[head], support[head], [np.array(how["targets"])])
        found += times(case, head, case.flat(answer.values)[head], answer.certificate, steps, surely, "times")
        error = distance(case.flat(answer.probabilities)[head], h[:, 0], "max")
        found.append(worth.judge(head, "probabilities", error, PROMISE, case.slack(numbers)))
    return found


def ask_passage(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.mean_first_passage, {}


@call("mean_first_passage", ask_passage, share=0.5, largest=24, rational=True)
def mean_first_passage(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    found = []
    for head in range(case.heads):
        for target in range(case.n):
            steps, surely = oracles.passage(a[head], support[head], target)
            mine = case.flat(answer.values)[head, :, target]
            found += times(case, head, mine, answer.certificate, steps, surely, "times", target)
    return found


def ask_fundamental(case: Case, rng: Generator) -> tuple[Any, How]:
    x = torch.from_numpy(rng.standard_normal((case.n, 2)) * 10.0 ** rng.integers(-3, 4))
    return lambda: case.chain.fundamental(x), {"x": x}


@call("fundamental", ask_fundamental, share=0.4, largest=10, refusable=several_classes)
def fundamental(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    worth, found = Worth.of(case, answer.certificate), []
    for digits in (MANY_BITS, 4 * MANY_BITS):  # a gap of 700 nats is a thousand bits, and counts several times
        a, support = case.exact(MANY, digits)
        found = []
        with mpmath.workprec(digits):
            x = MANY.array(how["x"])
            for head in range(case.heads):
                z, d = oracles.fundamental(a[head], support[head], x)
                mine, dev = (case.flat(getattr(answer, k))[head] for k in ("values", "deviation"))
                if not bool(torch.isfinite(mine).all()):
                    continue
                size = max(1.0, float(abs(floats(z)).max()))
                error = max(distance(mine, z, "max"), distance(dev, d, "max"))
                found.append(worth.judge(head, "Z x", error, PROMISE * size, 0.0))
        if not any(v.false for v in found):
            break
    return found


def ask_kemeny(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.kemeny, {}


@call("kemeny", ask_kemeny, share=0.4, largest=24, rational=True)
def kemeny(case: Case, answer: tr.markov.Kemeny, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    worth, found = Worth.of(case, answer.certificate), []
    for head in range(case.heads):
        value = float(case.flat(answer.values)[head])
        count = sum(oracles.closed(support[head], tokens) for tokens in oracles.strong(support[head]))
        if count > 1:
            found.append(Verdict(head, "infinite", 0, float(np.isfinite(value))))
            continue
        right = number(oracles.kemeny(a[head], support[head]))
        if right > LONGEST:
            continue
        error = abs(value - right)
        found.append(worth.judge(head, "K", error, 1e-5 * max(1.0, right), 4e-16 * max(1.0, right)))
    return found

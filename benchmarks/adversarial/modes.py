"""Questions about speeds: eigenvalues, slow subspaces, metastable states, mixing."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from . import oracles, spectra
from .case import EPS, MANY_BITS, PROMISE, Case, Verdict, Worth, call
from .numbers import FAST, Array, Numbers, UnsureError, floats

Generator = np.random.Generator
How = dict[str, Any]
ITERATED = 1e-3  # error of a certain |λ2| that was not proved
LOOKED = 2.0**24  # bounces up to which a mixing time is looked for
MPMATH = 8  # tokens of a class up to which ill-conditioned eigenvalues are computed by mpmath, in one case of three


def ask_lambda2(case: Case, rng: Generator) -> tuple[Any, How]:
    proved = bool(rng.random() < 0.5)
    powers = case.n <= 8 or (case.n <= 40 and case.index % 8 == 0)
    return lambda: case.chain.lambda2(proved), {"proved": proved, "powers": powers}


@call("lambda2", ask_lambda2, largest=300)
def lambda2(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    worth, found = Worth.of(case, answer.certificate), []
    promise = PROMISE if how["proved"] and case.n <= 128 else ITERATED
    for head in range(case.heads):
        value = float(case.flat(answer.values)[head])
        interval = second(case, head, how["powers"])
        if interval is None:
            continue
        low, high = interval
        error = max(low - value, value - high, 0.0)
        found.append(worth.judge(head, "|λ2|", error, promise, 0.0))
    return found


def second(case: Case, head: int, powers: bool) -> tuple[float, float] | None:
    """An interval of |λ2|, or None where it is too dear."""
    a, support = case.exact(FAST)
    simple = all(
        len(block) == 1 or spectra.by_lapack(block).radius <= spectra.GOOD
        for block, _ in spectra.blocks(a[head], support[head])
    )
    if not simple and not powers:
        return None
    if simple and not underflows(a[head], support[head]):
        return spectra.second(a[head], support[head], MANY_BITS)
    exact, support = case.many()
    with mpmath.workprec(MANY_BITS):
        return spectra.second(exact[head], support[head], MANY_BITS)


def underflows(a: Array, support: Array) -> bool:
    return bool((support & (a == 0)).any())


def ask_spectrum(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"k": int(rng.integers(1, min(8, case.n) + 1)), "left": bool(rng.random() < 0.6)}
    return lambda: case.chain.spectrum(**how), how


@call("spectrum", ask_spectrum, largest=300)
def spectrum(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, _ = case.exact(FAST)
    worth, found = Worth.of(case, answer.certificate), []
    residual = case.flat(answer.certificate.residual)
    for head in range(case.heads):
        count = int(case.flat(answer.count)[head])
        values = case.flat(answer.values)[head, :count].numpy()
        sure = bool(worth.sure[head] if worth.sure.ndim == 1 else worth.sure[head, :count].all())
        least = min(how["k"], case.n)
        fewer = (least - 1,) if how["k"] > 1 else ()  # as documented
        found.append(Verdict(head, "count", 0, float(count not in (*fewer, least, least + 1))))
        found += in_order(head, values, sure)
        reported = float(residual[head] if residual.ndim == 1 else residual[head].max())
        right = case.flat(answer.right)[head, :, :count]
        found += of_basis(head, "right", right, floats(a[head]), reported, sure)
        if how["left"]:
            left = case.flat(answer.left)[head, :, :count]
            found += of_basis(head, "left", left, floats(a[head]).T, reported, sure)
        exact = eigenvalues(case, head)
        if exact is not None:
            found += of_values(head, values, exact, worth, sure, case.n)
    return found


def in_order(head: int, values: Array, sure: bool) -> list[Verdict]:
    """Moduli descending up to ties, 1 first, pairs whole with the positive imaginary part first."""
    moduli = abs(values)
    rising = float((moduli[1:] - moduli[:-1]).max()) if len(values) > 1 else 0.0
    alone = 0
    i = 0
    while i < len(values):
        if values[i].imag > 0 and (i + 1 == len(values) or abs(values[i + 1] - values[i].conjugate()) > 1e-9):
            alone += 1
        i += 2 if values[i].imag > 0 else 1
    return [
        Verdict(head, "λ1 = 1", 1e-12, abs(values[0] - 1)),
        Verdict(head, "order", 1e-8 if sure else 1e-6, rising),
        Verdict(head, "pairs", 0, alone),
    ]


def of_basis(head: int, side: str, basis: Tensor, a: Array, residual: float, sure: bool) -> list[Verdict]:
    """Orthonormal, and the image of the basis within the basis."""
    q = basis.double().numpy()
    image = a @ q
    open_end = math.inf if not sure else 0.0
    outside = np.linalg.norm(image - q @ (q.T @ image), 2)
    claimed = 1e-9 + 2 * min(residual, 1e-4) * len(q[0]) ** 0.5  # what is printed, and no more than a certain one may
    return [
        Verdict(head, f"{side}: orthonormal", max(1e-8, open_end), float(abs(q.T @ q - np.eye(q.shape[1])).max())),
        Verdict(head, f"{side}: invariant", max(claimed, open_end), float(outside)),
    ]


def eigenvalues(case: Case, head: int) -> spectra.Known | None:
    """All eigenvalues, or None where they cannot be had."""
    a, support = case.exact(FAST)
    try:
        if not underflows(a[head], support[head]):
            found = spectra.known(a[head], support[head])
            if found.radius <= spectra.GOOD:
                return found
    except UnsureError:
        pass
    largest = max(len(block) for block, _ in spectra.blocks(a[head], support[head]))
    if largest > MPMATH or (largest > 4 and case.index % 3):
        return None
    exact, support = case.many()
    try:
        with mpmath.workprec(MANY_BITS):
            found = spectra.known(exact[head], support[head], MPMATH)
    except (UnsureError, mpmath.libmp.libhyper.NoConvergence):
        return None
    return found if found.radius <= spectra.GOOD else None


def of_values(head: int, values: Array, exact: spectra.Known, worth: Worth, sure: bool, n: int) -> list[Verdict]:
    """Each value beside an eigenvalue of its own, and the moduli beside the largest ones."""
    bound = worth.bound[head].reshape(-1)
    bound = bound.expand(len(values)) if len(bound) == 1 else bound[: len(values)]
    promise = PROMISE if n <= 128 else 1e-4
    left, verdicts = exact.values.tolist(), []
    for i, value in enumerate(values):
        near = min(range(len(left)), key=lambda j: abs(left[j] - value))
        error = abs(left.pop(near) - value)
        proved = 0 < float(bound[i]) < math.inf
        claimed = float(bound[i]) + exact.radius if proved else (promise if sure else math.inf)
        verdicts.append(
            Verdict(head, "value: bound" if proved else "value: certain", claimed, float(error), bound=proved)
        )
    if sure:
        top = np.sort(abs(exact.values))[::-1][: len(values)]
        off = float(abs(np.sort(abs(values))[::-1] - top).max())
        most = float(bound.clamp(max=1).max()) if bool(torch.isfinite(bound).any()) else 0.0
        verdicts.append(Verdict(head, "the leading ones: certain", max(promise, most), off))
    return verdicts


# ---- metastable states


def ask_states(case: Case, rng: Generator) -> tuple[Any, How]:
    how: How = {"k": None} if rng.random() < 0.6 else {"k": int(rng.integers(1, min(5, case.n) + 1))}
    return lambda: case.chain.metastable(**how), how


@call("metastable", ask_states, largest=40, share=0.35)
def metastable(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    _, support = case.exact(FAST)
    worth, found = Worth.of(case, answer.certificate), []
    for head in range(case.heads):
        count = int(case.flat(answer.count)[head])
        chi = case.flat(answer.values)[head, :, :count].numpy()
        found.append(Verdict(head, "memberships ≥ 0", 1e-10, float(-chi.min())))
        found.append(Verdict(head, "memberships sum to one", 1e-8, float(abs(chi.sum(1) - 1).max())))
        labels = case.flat(answer.labels)[head].numpy()
        sure = bool(worth.sure[head])
        if how["k"] is None:
            empty = count - len(set(labels.tolist()))
            found.append(Verdict(head, "empty states", 0 if sure else math.inf, empty))
        ring = support[head].sum(1).max() == 1 and len(oracles.strong(support[head])) == 1
        if ring and sure and count > 1:
            after = labels[support[head].argmax(1)]
            torn = sum(len(set(after[labels == s].tolist())) > 1 for s in set(labels.tolist()))
            found.append(Verdict(head, "a cycle torn", 0, torn))
    return found


# ---- mixing


def ask_mixing(case: Case, rng: Generator) -> tuple[Any, How]:
    how = {"epsilon": float(rng.choice([0.25, 0.01]))}
    return lambda: case.chain.mixing_time(**how), how


@call("mixing_time", ask_mixing, share=0.4, largest=16)
def mixing_time(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, support = case.exact(numbers)
    found = []
    for head in range(case.heads):
        lower, upper = (float(case.flat(getattr(answer, k))[head]) for k in ("lower", "values"))
        groups = oracles.strong(support[head])
        ends = [tokens for tokens in groups if oracles.closed(support[head], tokens)]
        if len(ends) > 1 or oracles.period(support[head], ends[0]) > 1:
            found.append(Verdict(head, "never mixes", 0, float(np.isfinite(lower) or np.isfinite(upper))))
            continue
        least = first_within(a[head], support[head], how["epsilon"] + 1e-9)
        most = first_within(a[head], support[head], how["epsilon"] - 1e-9)
        found.append(Verdict(head, "lower", most if most < LOOKED else math.inf, lower, bound=True))
        found.append(Verdict(head, "upper", upper, least, bound=True))
    return found


def first_within(a: Array, support: Array, epsilon: float) -> float:
    """The first n with max_i ½ ‖(Aⁿ)_i − π‖₁ ≤ ε; ``LOOKED`` of those that take longer."""
    ends = next(tokens for tokens in oracles.strong(support) if oracles.closed(support, tokens))
    pi = oracles.stationary_of(a, ends)

    def open_still(power: Array) -> bool:
        return float(abs(power - pi).sum(1).max()) / 2 > epsilon

    at = np.eye(len(a)).astype(int) * (a[0, 0] * 0 + 1)
    if not open_still(at):
        return 0.0
    powers = [a]
    while open_still(powers[-1]):
        if 2.0 ** len(powers) > LOOKED:
            return LOOKED
        square = powers[-1] @ powers[-1]
        powers.append(square / square.sum(1)[:, None])
    steps = 0
    for k in reversed(range(len(powers) - 1)):
        further = at @ powers[k]
        if open_still(further):
            at, steps = further, steps + 2**k
    return float(steps + 1)


def ask_dobrushin(case: Case, rng: Generator) -> tuple[Any, How]:
    return case.chain.dobrushin, {}


@call("dobrushin", ask_dobrushin, share=0.4, largest=40)
def dobrushin(case: Case, answer: Any, how: How, numbers: Numbers) -> list[Verdict]:
    a, _ = case.exact(numbers)
    own = 4 * EPS * case.n + case.rounding(torch.float64)
    return [
        Verdict(head, "δ", own, abs(float(case.flat(answer.values)[head]) - float(oracles.dobrushin(matrix))))
        for head, matrix in enumerate(a)
    ]

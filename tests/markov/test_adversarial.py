"""Chains that break solvers, through every question: no NaN leaves the library, and no certificate lies.

The number of cases tried is printed at the end of the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import tally
from tokenrank import AttentionChain
from tokenrank.errors import NotConvergedWarning, NotUniqueWarning, TokenRankError
from tokenrank.markov import absorption, closed_classes, hitting_times, stationary, stationary_distributions
from tokenrank.operators import Operator, from_weights

from .conftest import WAYS, take
from .strategies import KINDS, chains, make

EXAMPLES = 40
# NaN stands for what is not there: beyond ``count``, and for numbers of states that cut a conjugate pair
DOCUMENTED = {("Spectrum", "values"), ("Metastable", "candidates")}
LEAKS = [0.0, 1e-300, 1e-16, 1e-8, 0.1]


def finite_or_infinite(name: str, value: object) -> None:
    """No NaN in a tensor, or in the tensors of a result."""
    if isinstance(value, Tensor):
        parts = torch.view_as_real(value) if value.is_complex() else value
        assert not torch.isnan(parts).any(), f"{name} holds NaN"
    elif hasattr(value, "__dataclass_fields__"):
        for field in value.__dataclass_fields__:
            if (type(value).__name__, field) in DOCUMENTED:
                continue
            finite_or_infinite(f"{type(value).__name__}.{field}", getattr(value, field))


QUESTIONS: dict[str, Callable[[AttentionChain], object]] = {
    "bounce": lambda c: c.bounce(0, 3),
    "bounce backward": lambda c: c.bounce(0, 3, "backward"),
    "bounce by halflife": lambda c: c.bounce(0, "halflife"),
    "tokenrank": lambda c: c.tokenrank(),
    "tokenrank to one token": lambda c: c.tokenrank(0.5, personalization=0),
    "tokenrank without teleport": lambda c: c.tokenrank(1.0),
    "lambda2": lambda c: c.lambda2(),
    "spectrum": lambda c: c.spectrum(4, left=True),
    "classes": lambda c: c.classes(),
    "classes above a threshold": lambda c: c.classes(0.05),
    "stationary_distributions": lambda c: c.stationary_distributions(),
    "absorption": lambda c: c.absorption([0]),
    "hitting_times": lambda c: c.hitting_times(0),
    "mean_first_passage": lambda c: c.mean_first_passage(),
    "kemeny": lambda c: c.kemeny(),
    "entropy_rate": lambda c: c.entropy_rate(),
    "mixing_time": lambda c: c.mixing_time(),
    "dobrushin": lambda c: c.dobrushin(),
    "metastable": lambda c: c.metastable(),
    "metastable in two": lambda c: c.metastable(2),
    "sinks": lambda c: c.sinks(),
    "quasi_stationary": lambda c: c.quasi_stationary(0),
    "quasi_stationary with teleport": lambda c: c.quasi_stationary(0, alpha=0.9),
    "censored": lambda c: c.teleport(0.9).restrict(range(c.num_tokens - 1), how="censor").tokenrank(),
    "lazy": lambda c: c.lazy(0.5).tokenrank(),
    "reversed": lambda c: c.reverse().tokenrank(),
}


@pytest.mark.parametrize("name", QUESTIONS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(a=chains(largest=12), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_no_question_returns_nan(name: str, a: np.ndarray, dtype: torch.dtype) -> None:
    """An answer, a documented infinity, or a clear error."""
    tally.count(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        warnings.simplefilter("ignore", NotUniqueWarning)
        try:
            answer = QUESTIONS[name](AttentionChain(torch.from_numpy(a).to(dtype)))
        except TokenRankError:
            return  # a refusal in words; what it says is tested where it is raised
    finite_or_infinite(name, answer)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_everything(kind: str) -> None:
    """All leaks of a kind in one batch: no head spoils another."""
    sizes = 1 if kind == "one state" else 7
    a = np.stack([make(kind, sizes, np.random.default_rng(i), leak) for i, leak in enumerate(LEAKS)])
    for name, ask in QUESTIONS.items():
        tally.count(f"batch: {name}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                finite_or_infinite(name, ask(AttentionChain(torch.from_numpy(a))))
            except TokenRankError:
                tally.count(f"batch refused: {name}")


# ---- certificates against exact rational arithmetic


def rational_solve(matrix: list[list[Fraction]], rhs: list[Fraction]) -> list[Fraction]:
    """Gaussian elimination without rounding."""
    n = len(rhs)
    rows = [[*row, b] for row, b in zip(matrix, rhs, strict=True)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                factor = rows[i][k] / rows[k][k]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [rows[k][n] / rows[k][k] for k in range(n)]


def rational(a: np.ndarray) -> list[list[Fraction]]:
    """The chain that the library means: rows of float64 numbers divided by their exact sums."""
    rows = [[Fraction(float(x)) for x in row] for row in a]
    return [[x / sum(row) for x in row] for row in rows]


@settings(max_examples=200, deadline=None)
@given(a=chains(largest=7), alpha=st.sampled_from([0.5, 0.99, 0.999999]))
def test_bound_of_tokenrank(a: np.ndarray, alpha: float) -> None:
    tally.count("certificate of tokenrank")
    n = len(a)
    even = torch.full((n,), 1 / n, dtype=torch.float64)
    answer = stationary(from_weights(torch.from_numpy(a)), alpha, even, 1e-9, 5000)
    exact_alpha = Fraction(alpha)
    p = rational(a)
    system = [[(i == j) - exact_alpha * p[j][i] for j in range(n)] for i in range(n)]
    exact = rational_solve(system, [(1 - exact_alpha) * Fraction(1, n)] * n)
    error = sum(abs(Fraction(float(x)) - y) for x, y in zip(answer.values, exact, strict=True))
    assert answer.certificate.error_bound is not None
    assert error <= Fraction(float(answer.certificate.error_bound)) + Fraction(1, 10**12)
    assert bool(answer.certificate.converged) == (float(answer.certificate.error_bound) <= 1e-9)


@settings(max_examples=200, deadline=None)
@given(a=chains(largest=7), route=st.sampled_from(WAYS))
def test_bound_of_absorption(a: np.ndarray, route: str) -> None:
    """Converged means within the bound, against the smallest non-negative solution in rational numbers."""
    tally.count(f"certificate of absorption by {route}")
    n = len(a)
    operator = from_weights(torch.from_numpy(a))
    targets = torch.zeros(n, 1, dtype=torch.bool)
    targets[0] = True
    with pytest.MonkeyPatch.context() as patch:
        take(route, patch)
        found = absorption(operator, targets)
    p = rational(a)
    able = [i for i in range(1, n) if bool(found.reachable[i, 0])]
    system = [[(i == j) - p[i][j] for j in able] for i in able]
    exact = dict(zip(able, rational_solve(system, [p[i][0] for i in able]), strict=True)) if able else {}
    error = max((abs(Fraction(float(found.values[i, 0])) - x) for i, x in exact.items()), default=Fraction(0))
    if bool(found.certificate.converged):
        assert error <= Fraction(1, 10**8) + Fraction(1, 10**12)
    bound = float(found.certificate.error_bound)
    if np.isfinite(bound):
        assert error <= Fraction(bound) + Fraction(1, 10**11)
    assert (found.values[[i for i in range(1, n) if i not in exact], 0] == 0).all()


@settings(max_examples=200, deadline=None)
@given(a=chains(largest=7))
def test_extreme_vectors_are_stationary_and_complete(a: np.ndarray) -> None:
    tally.count("extreme stationary vectors")
    operator: Operator = from_weights(torch.from_numpy(a))
    found = stationary_distributions(operator)
    count = int(found.count)
    assert count == int(closed_classes(operator))
    vectors = found.values[:count].numpy()
    assert np.abs(vectors.sum(-1) - 1).max() < 1e-12
    assert np.abs(vectors @ a - vectors).sum(-1).max() < 1e-12
    assert ((vectors > 0).sum(0) <= 1).all()


@settings(max_examples=100, deadline=None)
@given(a=chains(largest=9))
def test_hitting_times_solve_their_equation(a: np.ndarray) -> None:
    tally.count("hitting times")
    n = len(a)
    targets = torch.arange(n) == n - 1
    found = hitting_times(from_weights(torch.from_numpy(a)), targets)
    t = found.values.numpy()
    finite = np.isfinite(t)
    assert t[-1] == 0
    inside = finite & ~targets.numpy()
    assert (a[inside][:, ~finite] == 0).all()
    image = 1 + a[np.ix_(inside, finite)] @ t[finite]
    assert np.all(np.abs(image - t[inside]) <= 1e-6 * np.maximum(1, t[inside]))

"""The campaign of adversarial chains (`benchmarks/campaign.py`), its oracles, and that it can fail.

Ten chains of every family are part of every run; 20,000 run with ``pytest -m campaign``, in a quarter of an hour.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

import tokenrank as tr
from tests import tally

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import campaign
from adversarial import oracles, spectra
from adversarial.case import CALLS
from adversarial.families import FAMILIES
from adversarial.numbers import LONG, MANY, RATIONAL, Array, UnsureError, distance, floats

sys.path.pop(0)

QUICK, LARGE = 10 * len(FAMILIES), 20_000


def check(family: str, chains: int, seed: int) -> None:
    lines: list[str] = []
    found = campaign.run(chains, seed, [family], told=lines.append)
    for (_, name), part in found.items():
        if name != campaign.MADE:
            tally.cases[f"campaign: {name}"] += part.chains
    assert not any(part.faults for part in found.values()), "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_false(family: str) -> None:
    check(family, QUICK // len(FAMILIES), seed=0)


@pytest.mark.campaign
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_false_in_many(family: str, request: pytest.FixtureRequest) -> None:
    if "campaign" not in request.config.option.markexpr:
        pytest.skip("a quarter of an hour: pytest -m campaign")
    check(family, -(-LARGE // len(FAMILIES)), seed=1)


# ---- it can fail


def broken(monkeypatch: pytest.MonkeyPatch, where: str, change: Any) -> list[campaign.Fault]:
    """What the campaign finds in one family where answers of one question are changed."""
    question = where.rpartition(".")[2]
    right = getattr(tr.AttentionChain, question)
    monkeypatch.setattr(tr.AttentionChain, question, lambda *args, **more: change(right(*args, **more)))
    found = campaign.run(20, 0, ["duplicated rows"], [question], told=lambda line: None)
    return [fault for part in found.values() for fault in part.faults]


def test_a_bound_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def smaller(answer: Any) -> Any:
        tight = replace(answer.certificate, error_bound=answer.certificate.error_bound * 1e-12)
        return replace(answer, values=answer.values.roll(1, -1), certificate=tight)

    assert {f.what for f in broken(monkeypatch, "tokenrank", smaller)} == {"π: bound", "converged"}


def test_a_wrong_answer_that_is_certain_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(answer: Any) -> Any:
        bare = replace(answer.certificate, error_bound=None, uncertain=answer.certificate.uncertain & False)
        return replace(answer, values=answer.values * 0.9, certificate=bare)

    assert {f.what for f in broken(monkeypatch, "lambda2", off)} == {"|λ2|: certain"}


def test_a_wrong_answer_that_is_uncertain_is_not_false(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubted(answer: Any) -> Any:
        bare = replace(answer.certificate, error_bound=None, uncertain=~answer.certificate.uncertain | True)
        return replace(answer, values=answer.values * 0.9, certificate=bare)

    assert not broken(monkeypatch, "lambda2", doubted)


def test_a_number_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, "dobrushin", lambda answer: replace(answer, values=answer.values * torch.nan))
    assert "NaN in Dobrushin.values" in {f.what for f in found}


def test_mass_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, "bounce", lambda answer: replace(answer, values=answer.values * (1 - 1e-4)))
    assert "mass" in {f.what for f in found}


def test_an_error_while_a_chain_is_made_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise IndexError("no")

    monkeypatch.setattr(tr.AttentionChain, "from_scores", broken)
    found = campaign.run(4, 0, ["softmax of scores"], told=lambda line: None)
    assert [f.what for part in found.values() for f in part.faults] == ["raised IndexError: no"]


@pytest.mark.parametrize("error", [ValueError("no"), tr.errors.ChainError("no")])
def test_an_error_that_is_not_due_is_found(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(answer: Any) -> Any:
        raise error

    assert {f.what for f in broken(monkeypatch, "classes", refuse)} in (
        {"raised ValueError: no"},
        {"refused: no"},
    )


def test_a_case_is_made_again_from_its_family_and_index() -> None:
    for family in FAMILIES:
        one, two = campaign.make(family, 2, 0), campaign.make(family, 2, 0)
        assert torch.equal(one.chain.to_dense(), two.chain.to_dense()), family


# ---- right answers are right


def rational(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """A chain in eighths, exact in fractions."""
    a = rng.multinomial(8, rng.dirichlet(np.full(n, 0.4)), n) / 8
    return RATIONAL.array(a), a > 0


@pytest.mark.parametrize("seed", range(20))
def test_oracles_solve_their_equations_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    a, support = rational(rng, n)
    v = RATIONAL.array(np.eye(n)[0])
    alpha = Fraction(3, 4)
    pi = oracles.pagerank(a, support, 0.75, v, RATIONAL)
    assert (pi == alpha * (pi @ a) + (1 - alpha) * v).all()
    assert pi.sum() == 1
    ends = [tokens for tokens in oracles.strong(support) if oracles.closed(support, tokens)]
    for tokens in ends:
        found = oracles.stationary_of(a, tokens)
        assert (found @ a == found).all()
        assert found.sum() == 1
    limit = oracles.limit(a, support, v)
    assert (limit @ a == limit).all()
    sets = [np.array([0]), np.array([n - 1])]
    h, steps, able, surely = oracles.absorbing(a, support, sets)
    inside = np.arange(n)[1:-1]
    assert (h[inside] == (a @ h)[inside])[able[inside]].all()
    assert (h[~able] == 0).all()
    sure = [i for i in inside if surely[i]]
    assert all(steps[i] == 1 + sum(a[i, j] * steps[j] for j in range(n)) for i in sure)
    if len(ends) == 1:
        x = RATIONAL.array(rng.integers(-4, 4, (n, 2)))
        z, d = oracles.fundamental(a, support, x)
        mean = oracles.stationary_of(a, ends[0]) @ x
        assert (z - a @ z + mean[None] - x == 0).all()  # π z = π x
        assert (d == z - mean[None]).all()
        trace = sum(oracles.fundamental(a, support, RATIONAL.array(np.eye(n)))[0][i, i] for i in range(n))
        assert oracles.kemeny(a, support) == trace - 1


@pytest.mark.parametrize("seed", range(10))
def test_oracles_agree_in_all_kinds_of_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.dirichlet(np.full(6, 0.3), 6) + 1e-12
    a = a / a.sum(1, keepdims=True)
    found = []
    for numbers in (LONG, MANY, RATIONAL):
        exact = numbers.array(a)
        exact = exact / exact.sum(-1)[:, None]
        found.append(floats(oracles.gth(exact)))
    np.testing.assert_allclose(found[0], found[2], rtol=1e-15)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-15)


def many(a: Array) -> tuple[Array, Array]:
    with mpmath.workprec(1500):
        exact = MANY.array(a)
        return exact / exact.sum(-1)[:, None], a > 0


@pytest.mark.parametrize(
    ("a", "right"),
    [
        (np.array([[0.4, 0.6], [0.2, 0.8]]), 0.2),
        (np.roll(np.eye(5), 1, 1), 1.0),
        (np.eye(4), 1.0),
        (np.full((4, 4), 0.25), 0.0),
        (np.array([[0, 0.3, 0.7], [0.1, 0.5, 0.4], [0.1, 0.2, 0.7]]), 0.3),
        (np.eye(7, k=1) + np.diag(np.eye(7)[-1]), 0.0),
    ],
)
def test_known_second_moduli(a: Array, right: float) -> None:
    with mpmath.workprec(1500):
        low, high = spectra.second(*many(a), 1500)
    assert low - 1e-12 <= right <= high + 1e-12
    assert high - low < 1e-8


@pytest.mark.parametrize("stay", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("n", "width"), [(3, 1e-6), (6, 1e-3), (14, 1.0)])
def test_powers_enclose_what_lapack_misses(stay: float, n: int, width: float) -> None:
    """A Jordan block, n times the same eigenvalue, of which LAPACK's are a ring."""
    block = stay * np.eye(n) + (1 - stay) * np.eye(n, k=1)
    assert spectra.by_lapack(block).radius > 1e-6
    with mpmath.workprec(1500):
        low, high = spectra.by_powers(MANY.array(block), False, 1500)
    assert low <= stay * (1 + 1e-9)
    assert high >= stay * (1 - 1e-9)
    assert high - low < width


@pytest.mark.parametrize("n", [6, 12, 24])
def test_powers_find_eigenvalues_that_lapack_moves(n: int) -> None:
    """A cycle with one rare step: n eigenvalues of modulus ε^(1/n), which rounding would move by as much."""
    ring = np.eye(n, k=1)
    ring[-1, 0] = 1e-14
    order = np.random.default_rng(n).permutation(n)
    with mpmath.workprec(1500):
        low, high = spectra.by_powers(MANY.array(ring[np.ix_(order, order)]), False, 1500)
    right = 1e-14 ** (1 / n)
    assert low <= right * (1 + 1e-12)
    assert high >= right * (1 - 1e-12)
    assert high - low < 1e-6


def test_a_ring_has_no_lower_end_but_an_upper_one() -> None:
    """Thirteen eigenvalues of one modulus: traces of all powers that are looked at vanish."""
    ring = 0.5 * np.roll(np.eye(13), 1, 1)
    with mpmath.workprec(1500):
        low, high = spectra.by_powers(MANY.array(ring), False, 1500)
    assert low == 0
    assert high == pytest.approx(0.5, abs=1e-6)


def test_eigenvalues_of_mpmath_are_matched_one_by_one() -> None:
    assert spectra.matched(np.array([1, 0.5, 0.5]), np.array([0.5, 1, 0.5])) == 0
    assert spectra.matched(np.array([1, 0.5, 0.5]), np.array([1, 1, 0.5])) == 0.5


def test_differences_are_taken_before_rounding() -> None:
    exact = MANY.array(np.array([1.0])) + MANY.one(2) ** -80
    assert distance(torch.ones(1, dtype=torch.float64), exact) == 2.0**-80


def test_underflow_is_told_and_not_answered() -> None:
    a = LONG.array(np.eye(2))  # as of a softmax whose ways over are too rare for any number
    with pytest.raises(UnsureError):
        oracles.gth(a)


def test_every_question_is_asked() -> None:
    """A question that is added to the chain is added to the campaign, or named here with the reason."""
    elsewhere = {"tokenrank (α = 1)", "products"}
    asked = {name for name in CALLS if name not in elsewhere}
    made = {"aggregate", "restrict", "teleport", "lazy", "reverse"}  # families make chains with them
    built = {"from_qk", "from_scores", "from_operator", "to_dense"}
    answers = {
        name
        for name in dir(tr.AttentionChain)
        if not name.startswith("_") and callable(getattr(tr.AttentionChain, name)) and name not in made | built
    }
    assert answers == asked


# ---- what is printed is about what is returned (cases of ``benchmarks/campaign.py``)


@pytest.mark.parametrize(
    ("family", "index", "seed"), [("padding", 59, 2), ("many tokens", 5, 0), ("random mask", 1, 0)]
)
def test_order_circle_and_residuals_of_what_is_returned(family: str, index: int, seed: int) -> None:
    """Uncertain answers, too: moduli descend and stay below one, residuals are those of the bases as they are."""
    case = campaign.make(family, index, seed)
    n = case.chain.num_tokens
    for k in (2, 5):
        found = case.chain.spectrum(k, left=True)
        a = case.chain.operator.to_dense(torch.float64).reshape(-1, n, n)
        width = found.values.shape[-1]
        moduli = found.values.abs().reshape(-1, width).nan_to_num(nan=0.0)
        assert moduli.max() <= 1 + 1e-15
        assert (moduli.diff(dim=-1) <= 1e-9).all()
        assert found.left is not None
        assert found.left_residual is not None
        for matrix, basis, residual in (
            (a, found.right, found.right_residual),
            (a.mT, found.left, found.left_residual),
        ):
            q = basis.reshape(-1, n, width)
            image = matrix @ q
            outside = torch.linalg.vector_norm(image - q @ (q.mT @ image), dim=-2)
            assert (outside <= residual.reshape(-1, width) * (1 + 1e-6) + 1e-9).all()

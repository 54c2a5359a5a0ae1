"""How many bounces: the rules against their definitions, at the edges, and on chains that break things."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operators import oracles as dense_oracles
from tokenrank.errors import ChainError
from tokenrank.markov import horizon as horizon_of
from tokenrank.markov.entropy_curve import entropy_curve, knee, knee_of_part, squared_norm
from tokenrank.markov.horizon import LIMIT, Horizon, Rule
from tokenrank.operators import Dense, Mixture, Operator, Reversed, Teleport, from_query_key, from_weights

from . import heads
from .strategies import chains, jumps

RULES: list[Rule] = ["relax", "plateau", "knee", "halflife"]


def token(n: int, i: int = 0) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)[i]


def ask(a: np.ndarray | torch.Tensor, rule: Rule, **options: object) -> Horizon:
    weights = torch.as_tensor(a, dtype=torch.float64)
    return horizon_of(Dense(weights), rule, token(weights.shape[-1]), **options)  # type: ignore[arg-type]


@pytest.fixture
def few_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for very many tokens: never all eigenvalues."""
    import sys

    module = sys.modules["tokenrank.markov.horizon"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "ALL", 10)
    monkeypatch.setattr(module, "ALL_FOR_KNEE", 10)


def moduli(a: np.ndarray) -> np.ndarray:
    return -np.sort(-np.abs(np.linalg.eigvals(a)), -1)


def two_lines(y: np.ndarray) -> int:
    """The n = 1 … that two least-squares lines sharing y[n] fit best, by trying all."""
    x = np.arange(len(y))

    def error(part: slice) -> float:
        line = np.polyfit(x[part], y[part], 1)
        return float(((np.polyval(line, x[part]) - y[part]) ** 2).sum())

    errors = [error(slice(None, b + 1)) + error(slice(b, None)) for b in range(1, len(y) - 1)]
    return int(np.argmin(errors)) + 2


def divergences(a: np.ndarray, v: np.ndarray, limit: int) -> list[float]:
    """KL(vᵀAⁿ ‖ uᵀAⁿ) for n = 0 … limit."""
    u, told = np.full(len(a), 1 / len(a)), []
    for _ in range(limit + 1):
        seen = v > 0
        told.append(float((v[seen] * np.log(v[seen] / u[seen])).sum()))
        v, u = v @ a, u @ a
    return told


# ---- the rules against their definitions


@pytest.mark.parametrize("epsilon", [1 / math.e, 0.5, 0.1, 1e-3])
def test_relax(epsilon: float) -> None:
    weights = heads.stacked()
    answer = horizon_of(Dense(weights), "relax", epsilon=epsilon, limit=10_000)
    second = moduli(weights.numpy())[:, 1]
    assert answer.steps.tolist() == [max(1, math.ceil(math.log(epsilon) / math.log(m))) for m in second]
    assert not answer.capped.any()
    assert answer.moduli is not None
    assert torch.allclose(answer.moduli[:, 1], torch.from_numpy(second), atol=1e-10)


def test_relax_is_exact_where_a_power_is() -> None:
    """0.5² = ¼, 0.2³ = 0.008: not a bounce more for rounding."""
    for p, epsilon, n in ((0.5, 0.25, 2), (0.2, 0.008, 3), (0.9, 0.9**17, 17)):
        lazy_rank_one = p * np.eye(8) + (1 - p) / 8
        assert int(ask(lazy_rank_one, "relax", epsilon=epsilon).steps) == n


def test_plateau_between_slow_and_fast() -> None:
    """0.8 three times and 0.3 four times: t = 4.48 and, below one bounce, 0.83, which counts as 1; n = √4.48."""
    pairs = np.kron(np.eye(8), np.full((1, 1), 1.0))
    four = np.kron(np.eye(4), np.full((2, 2), 0.5))
    a = 0.3 * pairs + 0.5 * four + 0.2 / 8
    answer = ask(a, "plateau")
    assert answer.steps.tolist() == 3
    assert answer.gap is not None
    assert int(answer.gap) == 4
    assert answer.timescales is not None
    expected = [math.inf, *3 * [-1 / math.log(0.8)], *4 * [-1 / math.log(0.3)]]
    assert answer.timescales.tolist() == pytest.approx(expected)


def test_plateau_by_hand_on_the_nine_heads() -> None:
    weights = heads.stacked()
    answer = horizon_of(Dense(weights), "plateau", leading=10)
    assert answer.gap is not None
    for a, n, gap in zip(weights.numpy(), answer.steps.tolist(), answer.gap.tolist(), strict=True):
        t = np.clip(-1 / np.log(moduli(a)[1:11]), 1, LIMIT)
        best = int(np.argmax(t[:-1] / t[1:]))
        assert gap == best + 2
        assert n == math.ceil(math.sqrt(t[best] * t[best + 1]) - 1e-9)
    clusters = heads.NAMES.index("3 clusters"), heads.NAMES.index("8 clusters")
    assert [answer.gap.tolist()[i] for i in clusters] == [3, 8]


def test_knee_of_a_published_example() -> None:
    """PHATE's documentation: y = exp(−x/10) at x = 0 … 19 bends at 8."""
    y = torch.exp(-torch.arange(20, dtype=torch.float64) / 10)
    assert int(knee(torch.cat([y[:1], y])[None])) - 1 == 8


def test_knee_against_all_pairs_of_lines() -> None:
    curves = torch.rand(40, 30, dtype=torch.float64).cumsum(-1).flip(-1)
    curves = torch.cat([curves, torch.exp(-torch.arange(30) / torch.linspace(1, 20, 20)[:, None])])
    assert knee(curves).tolist() == [two_lines(y[1:]) for y in curves.numpy()]


def test_knee_of_two_exact_lines_is_their_corner() -> None:
    n = torch.arange(41, dtype=torch.float64)
    for corner in (2, 5, 20, 39):
        assert int(knee(torch.where(n < corner, 3 * (corner - n), 0.01 * (corner - n))[None])) == corner


def test_entropy_of_the_spectrum() -> None:
    a = heads.nine_heads()["8 clusters"]
    m = moduli(a)
    answer = ask(a, "knee")
    assert answer.curve is not None
    assert answer.curve.shape == (LIMIT + 1,)
    for n in (0, 1, 2, 10, 64):
        p = m**n / (m**n).sum()
        p = p[p > 0]
        assert float(answer.curve[n]) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-10)
    assert int(answer.steps) == two_lines(answer.curve[1:].numpy())


def test_half_life_against_matrix_powers() -> None:
    weights = heads.stacked()
    start = torch.rand(9, heads.N, dtype=torch.float64)
    start[:, 100:] = 0
    start = start / start.sum(-1, keepdim=True)
    answer = horizon_of(Dense(weights), "halflife", start)
    assert answer.curve is not None
    for a, v, n, curve in zip(weights.numpy(), start.numpy(), answer.steps.tolist(), answer.curve.numpy(), strict=True):
        told = divergences(a, v, LIMIT)
        assert n == next((n for n in range(1, LIMIT + 1) if told[n] <= told[1] / 2), LIMIT)
        assert curve == pytest.approx(told[: len(curve)], abs=1e-10)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
def test_half_life_in_closed_form(p: float) -> None:
    """p I + (1 − p) J/N from one token: after n bounces pⁿ has not moved and the rest is everywhere."""
    n = 32

    def told(k: int) -> float:
        stayed, each = p**k + (1 - p**k) / n, (1 - p**k) / n
        return stayed * math.log(n * stayed) + (n - 1) * each * math.log(n * each)

    expected = next(k for k in range(1, 1000) if told(k) <= told(1) / 2)
    answer = ask(p * np.eye(n) + (1 - p) / n, "halflife", limit=1000)
    assert int(answer.steps) == expected
    assert not bool(answer.capped)


def test_half_life_measures_the_information_about_the_start() -> None:
    """Its mean over starts is the mutual information of the start and the state after n bounces."""
    a = torch.from_numpy(heads.nine_heads()["2-D local"][:40, :40])
    a = a / a.sum(-1, keepdim=True)
    every = horizon_of(Dense(a.expand(40, 40, 40)), "halflife", torch.eye(40, dtype=torch.float64))
    assert every.curve is not None
    for n in (1, 2):
        power = torch.linalg.matrix_power(a, n)
        information = torch.special.entr(power.mean(0)).sum() - torch.special.entr(power).sum(-1).mean()
        assert float(every.curve[:, n].mean()) == pytest.approx(float(information), abs=1e-12)


def test_half_life_depends_on_the_start() -> None:
    """At the end of a line there is one way only, in the middle there are two."""
    line = torch.from_numpy(heads.nine_heads()["1-D local"]).expand(2, -1, -1)
    end, middle = horizon_of(Dense(line), "halflife", torch.stack([token(heads.N, 0), token(heads.N, 128)])).steps
    assert end != middle


# ---- answers at the edges

N = 6
RECURRENT = np.kron(np.eye(2), np.full((3, 3), 1 / 3))
EDGES = {  # relax, plateau, knee, halflife
    "one token": (np.ones((1, 1)), [1, 1, 1, 1]),
    "two tokens, rank one": (np.full((2, 2), 0.5), [1, 1, 1, 1]),
    "two tokens swapped": (np.eye(2)[::-1].copy(), [LIMIT, LIMIT, 1, LIMIT]),
    "rank one": (np.tile(np.arange(1, N + 1) / 21, (N, 1)), [1, 1, 1, 1]),
    "identity": (np.eye(N), [LIMIT, LIMIT, 1, LIMIT]),
    "ring": (np.roll(np.eye(N), 1, 1), [LIMIT, LIMIT, 1, LIMIT]),
    "two classes that mix at once": (RECURRENT, [LIMIT, 8, 1, LIMIT]),
    "absorbing at once": (np.tile(np.eye(N)[0], (N, 1)), [1, 1, 1, 1]),
}


@pytest.mark.parametrize(("a", "expected"), EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("build", [Dense, from_weights])
def test_edges(a: np.ndarray, expected: list[int], build: type[Dense]) -> None:
    operator = build(torch.from_numpy(a))
    for rule, n in zip(RULES, expected, strict=True):
        answer = horizon_of(operator, rule, token(len(a)))
        assert int(answer.steps) == n, rule
        assert answer.steps.dtype == torch.int64
        assert answer.steps.shape == ()
        # the limit decided exactly where something never decays; the knee does not ask for more
        assert bool(answer.capped) == (rule != "knee" and n in (LIMIT, 8))


def test_uniform_start_has_nothing_to_forget() -> None:
    a = torch.from_numpy(heads.nine_heads()["1-D local"])
    assert int(horizon_of(Dense(a), "halflife", torch.full((heads.N,), 1 / heads.N)).steps) == 1


@pytest.mark.parametrize("limit", [3, 5, 17])
def test_never_beyond_the_limit(limit: int) -> None:
    weights = heads.stacked()
    for rule in RULES:
        answer = horizon_of(Dense(weights), rule, token(heads.N), limit)
        assert answer.steps.amin() >= 1
        assert answer.steps.amax() <= limit
        assert answer.limit == limit
    slow = horizon_of(Dense(weights), "halflife", token(heads.N), limit)
    longer = horizon_of(Dense(weights), "halflife", token(heads.N), 200)
    assert torch.equal(slow.capped, longer.steps > limit)
    assert torch.equal(slow.steps, longer.steps.clamp(max=limit))


def test_one_bounce_allowed() -> None:
    for rule in ("relax", "plateau", "halflife"):
        assert horizon_of(Dense(heads.stacked()), rule, token(heads.N), 1).steps.tolist() == [1] * 9


# ---- whatever the chain


@settings(max_examples=250)
@given(a=chains(), dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]), data=st.data())
def test_always_an_answer(a: np.ndarray, dtype: torch.dtype, data: st.DataObject) -> None:
    operator = from_weights(torch.from_numpy(a).to(dtype))
    start = torch.from_numpy(data.draw(jumps(len(a))))
    limit = data.draw(st.sampled_from([3, 16, 64]))
    for rule in RULES:
        answer = horizon_of(operator, rule, start, limit)
        assert 1 <= int(answer.steps) <= limit
        for evidence in (answer.moduli, answer.curve, answer.timescales):
            assert evidence is None or not torch.isnan(evidence).any()
        assert answer.curve is None or torch.isfinite(answer.curve).all()
        assert answer.moduli is None or (answer.moduli.amax() <= 1 and answer.moduli.amin() >= 0)


@settings(max_examples=250)
@given(a=chains(), data=st.data())
def test_half_life_is_the_first_half(a: np.ndarray, data: st.DataObject) -> None:
    """What is told of the start never grows; the answer is the first n at which half is gone."""
    start = torch.from_numpy(data.draw(jumps(len(a))))
    answer = horizon_of(from_weights(torch.from_numpy(a)), "halflife", start, 32)
    assert answer.curve is not None
    told, n = answer.curve.numpy(), int(answer.steps)
    assert (np.diff(told) <= 1e-12).all()
    assert told[0] <= math.log(len(a) * float(start.max())) + 1e-12
    if told[1] <= 1e-9:
        assert n == 1
    elif bool(answer.capped):
        assert n == 32
        assert told[32] > told[1] / 2
    else:
        assert told[n] <= told[1] / 2 < told[n - 1]


# ---- operators, batches, many tokens


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1, 3)])
def test_leading_dimensions(rule: Rule, batch: tuple[int, ...]) -> None:
    weights = torch.randn(*batch, 20, 20, dtype=torch.float64).mul(3).softmax(-1)
    start = torch.randn(*batch, 20, dtype=torch.float64).mul(3).softmax(-1)
    answer = horizon_of(Dense(weights), rule, start)
    assert answer.steps.shape == answer.capped.shape == answer.uncertain.shape == batch
    for evidence in (answer.moduli, answer.gap, answer.curve):
        assert evidence is None or evidence.shape[: len(batch)] == batch
    for index in np.ndindex(*batch):
        alone = horizon_of(Dense(weights[index]), rule, start[index])
        assert int(alone.steps) == int(answer.steps[index])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_matrix_free(rule: Rule, route: str, request: pytest.FixtureRequest) -> None:
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    q, k = 2 * torch.randn(2, 2, 3, 60, 8)
    operator = from_query_key(q, k, None, None, False)
    jump = torch.full((60,), 1 / 60, dtype=torch.float64).expand(2, 3, 60)
    for chain, dense in (
        (operator, dense_oracles.attention(q, k)),
        (Reversed(operator), dense_oracles.reverse(dense_oracles.attention(q, k))),
        (Teleport(operator, 0.8, jump), 0.8 * dense_oracles.attention(q, k) + 0.2 / 60),
    ):
        expected = horizon_of(Dense(dense), rule, token(60))
        assert torch.equal(horizon_of(chain, rule, token(60)).steps, expected.steps)


@pytest.mark.parametrize("rule", ["relax", "plateau"])
@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_leading_eigenvalues_are_enough(
    rule: Rule, route: str, few_eigenvalues: None, request: pytest.FixtureRequest
) -> None:
    weights = heads.stacked()
    expected = horizon_of(Dense(weights), rule)
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    answer = horizon_of(heads.as_query_key(weights), rule)
    assert torch.equal(answer.steps[~answer.uncertain], expected.steps[~answer.uncertain])
    assert int(answer.uncertain.sum()) <= 1  # the ring


def test_uncertain_eigenvalues_make_an_uncertain_horizon(few_eigenvalues: None) -> None:
    answer = horizon_of(Dense(heads.stacked()), "relax")
    assert answer.uncertain.tolist() == [name == "cyclic" for name in heads.NAMES]


def test_knee_from_the_leading_eigenvalues(few_eigenvalues: None) -> None:
    """Where it is called certain it is the knee of all of them; else an estimate, here within a factor of two."""
    weights = heads.stacked()
    answer = horizon_of(Dense(weights), "knee")
    exact = [two_lines(entropy_curve(torch.from_numpy(moduli(a))[None], LIMIT)[0, 1:].numpy()) for a in weights.numpy()]
    for name, n, open_end, known in zip(
        heads.NAMES, answer.steps.tolist(), answer.uncertain.tolist(), exact, strict=True
    ):
        assert n == known or (open_end and known / 2 <= n <= 2 * known), name
    assert answer.moduli is not None
    assert answer.moduli.shape == (9, 48)


def test_squares_of_all_entries() -> None:
    q, k = torch.randn(2, 2, 3, 200, 8)
    operator = from_query_key(q, k, None, None, False)
    expected = dense_oracles.attention(q, k).square().sum((-2, -1))
    assert torch.allclose(squared_norm(operator), expected, rtol=1e-6)


def test_nothing_left_for_the_unknown_eigenvalues() -> None:
    """A normal chain whose Frobenius norm the known eigenvalues exhaust: the knee is certain and the same."""
    known = torch.tensor([[1.0, 0.9, 0.8, 0.0]], dtype=torch.float64)
    n, uncertain, curve = knee_of_part(known, known.square().sum(-1), 50, LIMIT)
    assert not uncertain.any()
    assert torch.equal(n, knee(entropy_curve(known, LIMIT)))
    assert torch.isfinite(curve).all()


@pytest.mark.parametrize("kind", ["causal", "reversed", "mask"])
def test_causal_chains_from_the_diagonal(kind: str, few_eigenvalues: None) -> None:
    n = 150
    q, k = 2 * torch.randn(2, 2, n, 8, dtype=torch.float64)
    mask = torch.ones(n, n).tril().bool() if kind == "mask" else None
    operator: Operator = from_query_key(q, k, None, mask, kind != "mask")
    dense = dense_oracles.attention(q, k, is_causal=True)
    if kind == "reversed":
        operator, dense = Reversed(operator), dense_oracles.reverse(dense)
    m = dense.diagonal(dim1=-2, dim2=-1).sort(-1, descending=True).values.numpy()
    knees = horizon_of(operator, "knee")
    assert knees.applies == 1
    assert not knees.uncertain.any()
    for head in range(2):
        curve = entropy_curve(torch.from_numpy(m[head])[None], LIMIT)[0]
        assert int(knees.steps[head]) == two_lines(curve[1:].numpy())
    relax = horizon_of(operator, "relax", limit=1000).steps.tolist()
    assert relax == [max(1, math.ceil(-1 / math.log(x))) for x in m[:, 1]]


def test_mixture() -> None:
    weights = heads.stacked()[[0, 3, 6]]
    w = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for rule in RULES:
        mixed = horizon_of(Mixture(Dense(weights), w), rule, token(heads.N))
        dense = horizon_of(Dense(dense_oracles.mix(weights, w)), rule, token(heads.N))
        assert torch.equal(mixed.steps, dense.steps)


def test_single_precision_start_and_one_for_all() -> None:
    weights = heads.stacked()
    start = torch.rand(heads.N).softmax(-1)
    one = horizon_of(Dense(weights), "halflife", start)
    each = horizon_of(Dense(weights), "halflife", start.double().expand(9, -1) / start.double().sum())
    assert torch.equal(one.steps, each.steps)


# ---- errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "elbow"}, "'elbow'.*'relax', 'plateau', 'knee', 'halflife'"),
        ({"rule": "relax", "limit": 0}, "limit = 0.*≥ 1"),
        ({"rule": "relax", "limit": 2.5}, "limit = 2.5"),
        ({"rule": "relax", "limit": True}, "limit = True"),
        ({"rule": "knee", "limit": 2}, "limit = 2.*≥ 3"),
        ({"rule": "relax", "epsilon": 1.0}, "epsilon = 1.0"),
        ({"rule": "relax", "epsilon": float("nan")}, "epsilon = nan"),
        ({"rule": "plateau", "leading": 1}, "leading = 1.*≥ 2"),
        ({"rule": "halflife"}, "no start was given"),
        ({"rule": "halflife", "start": torch.ones(3) / 3}, r"start has shape \(3,\), expected \(9, 256\)"),
        ({"rule": "halflife", "start": torch.tensor(1.0)}, r"start has shape \(\)"),
        ({"rule": "halflife", "start": torch.ones(4, 256) / 256}, r"start has shape \(4, 256\).*broadcasts"),
        ({"rule": "halflife", "start": torch.ones(256)}, "no distribution"),
        ({"rule": "halflife", "start": torch.full((256,), torch.nan)}, "no distribution"),
    ],
)
def test_errors(options: dict[str, object], words: str) -> None:
    with pytest.raises(ChainError, match=words):
        horizon_of(Dense(heads.stacked()), **options)  # type: ignore[arg-type]

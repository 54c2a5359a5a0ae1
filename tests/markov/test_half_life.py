"""Half-lives of what is told of the start: against their definition, at the edges, and on chains that break things."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operators import oracles as dense_oracles
from tokenrank.errors import ChainError
from tokenrank.markov import HalfLife, half_life
from tokenrank.markov.bounce import LIMIT
from tokenrank.operators import Dense, Mixture, Teleport, from_query_key, from_weights, reverse

from . import heads
from .strategies import chains, jumps


def token(n: int, i: int = 0) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)[i]


def ask(a: np.ndarray | torch.Tensor, limit: int = LIMIT) -> HalfLife:
    weights = torch.as_tensor(a, dtype=torch.float64)
    return half_life(Dense(weights), token(weights.shape[-1]), limit)


def divergences(a: np.ndarray, v: np.ndarray, limit: int) -> list[float]:
    """KL(vᵀAⁿ ‖ uᵀAⁿ) for n = 0 … limit."""
    u, told = np.full(len(a), 1 / len(a)), []
    for _ in range(limit + 1):
        seen = v > 0
        told.append(float((v[seen] * np.log(v[seen] / u[seen])).sum()))
        v, u = v @ a, u @ a
    return told


# ---- the definition


def test_half_life_against_matrix_powers() -> None:
    weights = heads.stacked()
    start = torch.rand(9, heads.N, dtype=torch.float64)
    start[:, 100:] = 0
    start = start / start.sum(-1, keepdim=True)
    answer = half_life(Dense(weights), start)
    assert answer.certificate.applies == answer.curve.shape[-1] - 1
    for a, v, n, curve in zip(
        weights.numpy(), start.numpy(), answer.values.tolist(), answer.curve.numpy(), strict=True
    ):
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
    answer = ask(p * np.eye(n) + (1 - p) / n, 1000)
    assert int(answer.values) == expected
    assert bool(answer.certificate.converged)


def test_half_life_measures_the_information_about_the_start() -> None:
    """Its mean over starts is the mutual information of the start and the state after n bounces."""
    a = torch.from_numpy(heads.nine_heads()["2-D local"][:40, :40])
    a = a / a.sum(-1, keepdim=True)
    every = half_life(Dense(a.expand(40, 40, 40)), torch.eye(40, dtype=torch.float64))
    for n in (1, 2):
        power = torch.linalg.matrix_power(a, n)
        information = torch.special.entr(power.mean(0)).sum() - torch.special.entr(power).sum(-1).mean()
        assert float(every.curve[:, n].mean()) == pytest.approx(float(information), abs=1e-12)


def test_half_life_depends_on_the_start() -> None:
    """At the end of a line there is one way only, in the middle there are two."""
    line = torch.from_numpy(heads.nine_heads()["1-D local"]).expand(2, -1, -1)
    end, middle = half_life(Dense(line), torch.stack([token(heads.N, 0), token(heads.N, 128)])).values
    assert end != middle


# ---- answers at the edges

N = 6
EDGES = {
    "one token": (np.ones((1, 1)), 1),
    "two tokens, rank one": (np.full((2, 2), 0.5), 1),
    "two tokens swapped": (np.eye(2)[::-1].copy(), LIMIT),
    "rank one": (np.tile(np.arange(1, N + 1) / 21, (N, 1)), 1),
    "identity": (np.eye(N), LIMIT),
    "ring": (np.roll(np.eye(N), 1, 1), LIMIT),
    "two classes that mix at once": (np.kron(np.eye(2), np.full((3, 3), 1 / 3)), LIMIT),
    "absorbing at once": (np.tile(np.eye(N)[0], (N, 1)), 1),
}


@pytest.mark.parametrize(("a", "expected"), EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("build", [Dense, from_weights])
def test_edges(a: np.ndarray, expected: int, build: type[Dense]) -> None:
    answer = half_life(build(torch.from_numpy(a)), token(len(a)))
    assert int(answer.values) == expected
    assert answer.values.dtype == torch.int64
    assert answer.values.shape == ()
    # the limit decided exactly where something never decays
    assert bool(answer.certificate.converged) == (expected != LIMIT)


def test_uniform_start_has_nothing_to_forget() -> None:
    a = torch.from_numpy(heads.nine_heads()["1-D local"])
    assert int(half_life(Dense(a), torch.full((heads.N,), 1 / heads.N)).values) == 1


@pytest.mark.parametrize("limit", [1, 3, 5, 17])
def test_never_beyond_the_limit(limit: int) -> None:
    weights = heads.stacked()
    slow = half_life(Dense(weights), token(heads.N), limit)
    longer = half_life(Dense(weights), token(heads.N), 200)
    assert slow.values.amin() >= 1
    assert slow.values.amax() <= limit
    assert slow.limit == limit
    if limit > 1:
        assert torch.equal(slow.certificate.converged, longer.values <= limit)
    assert torch.equal(slow.values, longer.values.clamp(max=limit))


# ---- whatever the chain


@settings(max_examples=250)
@given(a=chains(), dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]), data=st.data())
def test_always_an_answer(a: np.ndarray, dtype: torch.dtype, data: st.DataObject) -> None:
    operator = from_weights(torch.from_numpy(a).to(dtype))
    start = torch.from_numpy(data.draw(jumps(len(a))))
    limit = data.draw(st.sampled_from([3, 16, 64]))
    answer = half_life(operator, start, limit)
    assert 1 <= int(answer.values) <= limit
    assert torch.isfinite(answer.curve).all()


@settings(max_examples=250)
@given(a=chains(), data=st.data())
def test_half_life_is_the_first_half(a: np.ndarray, data: st.DataObject) -> None:
    """What is told of the start never grows; the answer is the first n at which half is gone."""
    start = torch.from_numpy(data.draw(jumps(len(a))))
    answer = half_life(from_weights(torch.from_numpy(a)), start, 32)
    told, n = answer.curve.numpy(), int(answer.values)
    assert (np.diff(told) <= 1e-12).all()
    assert told[0] <= math.log(len(a) * float(start.max())) + 1e-12
    if told[1] <= 1e-9:
        assert n == 1
    elif not bool(answer.certificate.converged):
        assert n == 32
        assert told[32] > told[1] / 2
    else:
        assert told[n] <= told[1] / 2 < told[n - 1]


# ---- operators, batches, many tokens


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1, 3)])
def test_leading_dimensions(batch: tuple[int, ...]) -> None:
    weights = torch.randn(*batch, 20, 20, dtype=torch.float64).mul(3).softmax(-1)
    start = torch.randn(*batch, 20, dtype=torch.float64).mul(3).softmax(-1)
    answer = half_life(Dense(weights), start)
    assert answer.values.shape == answer.certificate.converged.shape == answer.curve.shape[:-1] == batch
    for index in np.ndindex(*batch):
        alone = half_life(Dense(weights[index]), start[index])
        assert int(alone.values) == int(answer.values[index])


@pytest.mark.parametrize("route", ["materialised", "matrix-free"])
def test_matrix_free(route: str, request: pytest.FixtureRequest) -> None:
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    q, k = 2 * torch.randn(2, 2, 3, 60, 8)
    operator = from_query_key(q, k, None, None, False)
    jump = torch.full((60,), 1 / 60, dtype=torch.float64).expand(2, 3, 60)
    for chain, dense in (
        (operator, dense_oracles.attention(q, k)),
        (reverse(operator), dense_oracles.reverse(dense_oracles.attention(q, k))),
        (Teleport(operator, 0.8, jump), 0.8 * dense_oracles.attention(q, k) + 0.2 / 60),
    ):
        expected = half_life(Dense(dense), token(60))
        assert torch.equal(half_life(chain, token(60)).values, expected.values)


def test_mixture() -> None:
    weights = heads.stacked()[[0, 3, 6]]
    w = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    mixed = half_life(Mixture(Dense(weights), w), token(heads.N))
    dense = half_life(Dense(dense_oracles.mix(weights, w)), token(heads.N))
    assert torch.equal(mixed.values, dense.values)


def test_single_precision_start_and_one_for_all() -> None:
    weights = heads.stacked()
    start = torch.rand(heads.N).softmax(-1)
    one = half_life(Dense(weights), start)
    each = half_life(Dense(weights), start.double().expand(9, -1) / start.double().sum())
    assert torch.equal(one.values, each.values)


# ---- errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit = 0.*≥ 1"),
        ({"limit": 2.5}, "limit = 2.5"),
        ({"limit": True}, "limit = True"),
        ({"start": torch.ones(3) / 3}, r"start has shape \(3,\), expected \(9, 256\)"),
        ({"start": torch.tensor(1.0)}, r"start has shape \(\)"),
        ({"start": torch.ones(4, 256) / 256}, r"start has shape \(4, 256\).*broadcasts"),
        ({"start": torch.ones(256)}, "no distribution"),
        ({"start": torch.full((256,), torch.nan)}, "no distribution"),
    ],
)
def test_errors(options: dict[str, object], words: str) -> None:
    with pytest.raises(ChainError, match=words):
        half_life(Dense(heads.stacked()), **{"start": token(heads.N), **options})  # type: ignore[arg-type]

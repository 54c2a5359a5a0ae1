"""|λ2| on the device path, asked for on a CPU: never wrong where it is certain, and few waits of the host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.dispatch import Watch
from tests.markov import heads, oracles
from tokenrank.errors import TokenRankError
from tokenrank.markov import Lambda2, lambda2
from tokenrank.markov.eigen import device_lambda2, device_search
from tokenrank.markov.eigen.found import Found, larger
from tokenrank.markov.eigen.located import classes
from tokenrank.markov.engine import constants
from tokenrank.markov.support.irreducible import connected_soon
from tokenrank.operators import Dense

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from adversarial.families import FAMILIES

sys.path.pop(0)

ERROR = 5e-4  # what a certain answer may be off by
CYCLIC = heads.NAMES.index("cyclic")


def moduli(weights: Tensor) -> Tensor:
    return torch.tensor([oracles.second_modulus(a) for a in weights.double().numpy()], dtype=torch.float64)


def on_device(weights: Any) -> Lambda2:
    return tr.AttentionChain(torch.as_tensor(weights), path="device").lambda2()


def attention(n: int, count: int = 3, width: int = 16, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    q, k = spread * torch.randn(2, count, n, width)
    return q, k


@pytest.fixture
def iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chain is so small that all its eigenvalues are taken."""
    monkeypatch.setattr(constants, "ALL_EIGENVALUES", 1)
    monkeypatch.setattr(constants, "LAMBDA2_STUBBORN", 0)


# ---- heads


@pytest.mark.parametrize("form", ["weights", "queries and keys"])
def test_nine_heads(form: str) -> None:
    """Those whose eigenvalues form a ring by all of them; the others by one space."""
    weights = heads.stacked(torch.float32)
    expected = moduli(heads.stacked())
    if form == "weights":
        answer = on_device(weights)
    else:
        chain = heads.as_query_key(weights)
        answer = tr.AttentionChain.from_qk(chain.q, chain.k, scale=chain.scale, path="device").lambda2()
    assert ((answer.values.double() - expected).abs() / expected).max() <= 1e-4
    assert not answer.certificate.uncertain.any()
    bound = answer.certificate.error_bound
    assert bound is not None
    assert bound[CYCLIC] < 2e-6
    assert answer.certificate.method == "arnoldi"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_waits_and_memory(dtype: torch.dtype) -> None:
    """One flag each eight applies, no eigenproblem on the device, nothing of N × N in double precision."""
    n = 320
    q, k = (t.to(dtype) for t in attention(n))
    k[2, : n // 2, 0] += 6  # clusters: slower
    q[2, : n // 2, 0] += 6
    with Watch(tokens=n) as seen:
        answer = tr.AttentionChain.from_qk(q, k, path="device").lambda2()
    applies = answer.certificate.applies
    assert seen.waits.total() <= 6 + applies // 8, seen.waits
    assert not [name for name in seen.ops if "eig" in name or name in {"linalg_qr", "_linalg_svd", "linalg_lstsq"}]
    assert not seen.squares[torch.float64]
    assert not seen.unfused
    assert seen.count <= 800 + 120 * applies
    host = tr.AttentionChain.from_qk(q.float(), k.float()).lambda2()
    assert (answer.values - host.values).abs().max() <= 1e-4
    assert answer.certificate.converged.all()


def test_weights_with_zeros_are_not_brought_to_the_host() -> None:
    """One class within a few steps is seen on the device; what is not, by depth-first search."""
    weights = torch.rand(3, 300, 300) * (torch.rand(3, 300, 300) < 0.1)
    weights[:, :100, 100:] *= 0.3
    weights.diagonal(dim1=-2, dim2=-1).add_(0.1)
    weights /= weights.sum(-1, keepdim=True)
    with Watch() as seen:
        answer = on_device(weights)
    assert seen.waits.total() <= 6 + answer.certificate.applies // 8, seen.waits
    assert (answer.values.double() - moduli(weights)).abs().max() <= 1e-4


def test_connected_soon_is_never_wrong() -> None:
    supports = torch.stack([torch.rand(9, 9) < p for p in torch.linspace(0.1, 0.9, 200)])
    supports.diagonal(dim1=-2, dim2=-1)[::3] = False
    one = torch.tensor([len(g.recurrent) == 1 and int(g.period[0]) == 1 for g in classes(Dense(supports.double()))])
    soon = connected_soon(supports)
    assert (one | ~soon).all()
    assert soon.sum() > 80
    assert one.sum() < 200


def test_a_seed_gives_one_answer_and_a_head_does_not_depend_on_its_batch() -> None:
    q, k = attention(200)
    chain = tr.AttentionChain.from_qk(q, k, path="device")
    assert torch.equal(chain.lambda2().values, chain.lambda2().values)
    other = lambda2(chain.operator, seed=3)
    assert (other.values - chain.lambda2().values).abs().max() <= 1e-4
    alone = chain[1].lambda2().values
    assert float(alone) == pytest.approx(float(chain.lambda2().values[1]), abs=1e-4)


def test_vectors_from_rougher_products_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products whose rows are off by 2e-3 lead to vectors that float64 doubts; a last space mends them."""
    member = torch.randint(0, 2, (2, 560))
    clusters = torch.where(member[:, :, None] == member[:, None], 1.0, 0.05) * torch.rand(2, 560, 560)
    weights = 0.2 * clusters / clusters.sum(-1, keepdim=True) + 0.8 * torch.eye(560)
    rough = weights * (1 + 2e-3 * torch.randn(2, 560, 1))

    def stored(*_: Any, **__: Any) -> Any:
        return lambda x, live: torch.where(live[:, None, None], rough @ x, 0.0)

    monkeypatch.setattr(device_search, "placed", stored)
    refined = []
    mend = device_search.DeviceSearch.refine
    monkeypatch.setattr(device_search.DeviceSearch, "refine", lambda s, d: (refined.append(d), mend(s, d)))
    answer = on_device(weights)
    assert refined
    assert not answer.certificate.uncertain.any()
    assert (answer.values.double() - moduli(weights)).abs().max() <= 1e-4


# ---- chains that are no heads


@pytest.mark.usefixtures("iterated")
@pytest.mark.parametrize("family", FAMILIES)
def test_never_wrong_where_it_is_certain(family: str) -> None:
    """The iteration alone, without the ways for small chains, against all eigenvalues."""
    for n, width in ((6, 8), (24, constants.DEVICE_NARROWEST)):
        constants.DEVICE_WIDTH, before = width, constants.DEVICE_WIDTH
        try:
            rng = np.random.default_rng([n, *family.encode()])
            try:
                chain = FAMILIES[family](rng, (3,), n).chain
            except TokenRankError:
                continue
            if chain.num_tokens < 2:
                continue
            found = device_lambda2.on_device(chain.operator.reshape(3), 0)
            dense = chain.operator.reshape(3).to_dense(torch.float64)
        finally:
            constants.DEVICE_WIDTH = before
        error = (found.values - moduli(dense)).abs()
        assert not torch.isnan(found.values).any()
        assert not torch.isnan(found.residual).any()
        assert (error <= ERROR)[~found.uncertain].all(), (error, found)


@pytest.mark.usefixtures("iterated")
def test_a_start_is_wide_enough_to_tell_the_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one column it is told far too small for this chain, and an answer that is off by 1e-3 was called certain."""
    family = FAMILIES["reversed twice"]
    chain = family(np.random.default_rng([54, 20]), (3,), 20).chain.operator.reshape(3)
    expected = moduli(chain.to_dense(torch.float64))
    monkeypatch.setattr(constants, "DEVICE_WIDTH", constants.DEVICE_NARROWEST)
    found = device_lambda2.on_device(chain, 0)
    assert ((found.values - expected).abs() <= ERROR)[~found.uncertain].all()
    monkeypatch.setattr(constants, "DEVICE_WIDTH", 1)
    with pytest.raises(ValueError, match="1 columns, expected at least"):
        device_lambda2.on_device(chain, 0)


@pytest.mark.usefixtures("iterated")
def test_a_jordan_chain_is_never_certain() -> None:
    """Three eigenvalues of 0.9 that rounding takes apart by more than residual times condition says."""
    for seed in (9, 13, 30, 31, 36):
        chain = FAMILIES["Jordan chains with a way back"](np.random.default_rng([seed, 4]), (3,), 4).chain
        found = device_lambda2.on_device(chain.operator.reshape(3), 0)
        error = (found.values - moduli(chain.operator.reshape(3).to_dense(torch.float64))).abs()
        assert (error <= ERROR)[~found.uncertain].all(), (error, found)


def permutation(cycles: list[int]) -> np.ndarray:
    a, begin = np.zeros((sum(cycles), sum(cycles))), 0
    for length in cycles:
        a[begin : begin + length, begin : begin + length] = np.roll(np.eye(length), 1, 1)
        begin += length
    return a


def ring(n: int, p: float) -> np.ndarray:
    return p * np.roll(np.eye(n), 1, 1) + (1 - p) / n


def leaking(n: int) -> np.ndarray:
    """A class of n − 1 tokens that loses a tenth to the last one in each step."""
    a = np.zeros((n, n))
    a[:-1, :-1] = 0.9 * np.random.default_rng(n).dirichlet(np.ones(n - 1), n - 1)
    a[:-1, -1], a[-1, -1] = 0.1, 1
    return a


SPECIAL = {
    "identity": (np.eye(150), 1.0),
    "a long cycle": (permutation([150]), 1.0),
    "several cycles": (permutation([150, 140, 7, 1]), 1.0),
    "periodic": (np.kron(np.roll(np.eye(3), 1, 1), np.full((50, 50), 1 / 50)), 1.0),
    "two classes": (np.kron(np.eye(2), np.full((140, 140), 1 / 140)), 1.0),
    "a class that leaks": (leaking(170), 0.9),
    "even": (np.full((140, 140), 1 / 140), 0.0),
    "a swap": (0.4 * np.kron([[0, 1], [1, 0]], np.full((70, 70), 1 / 70)) + 0.6 / 140, 0.4),
    "lazy": (0.3 * np.eye(160) + 0.7 / 160, 0.3),
}


@pytest.mark.parametrize(("a", "expected"), SPECIAL.values(), ids=SPECIAL)
def test_special_chains(a: np.ndarray, expected: float) -> None:
    for dtype in (torch.float32, torch.float64):
        answer = on_device(torch.from_numpy(a).to(dtype)[None].repeat(2, 1, 1))
        assert not answer.certificate.uncertain.any()
        assert answer.values.double().tolist() == pytest.approx([expected] * 2, abs=2e-5)


def test_a_ring_beyond_all_eigenvalues_is_flagged() -> None:
    answer = on_device(ring(600, 0.7))
    assert bool(answer.certificate.uncertain)
    assert float(answer.values) == pytest.approx(0.7, abs=5e-3)


def test_large_classes_share_a_space() -> None:
    """Heads that are padded differently, weights and masks: as each on its own."""
    n = 190
    q, k = attention(n)
    keep = torch.ones(3, n, dtype=torch.bool)
    keep[1, 150:], keep[2, :20] = False, False
    mask = keep[:, None] & torch.ones(n, n, dtype=torch.bool)
    chain = tr.AttentionChain.from_qk(q, k, mask=mask, path="device")
    answer = chain.lambda2()
    assert (answer.values.double() - moduli(chain.to_dense())).abs().max() <= 1e-4
    assert not answer.certificate.uncertain.any()
    stored = on_device(chain.to_dense())
    assert (stored.values - answer.values).abs().max() <= 1e-4


@pytest.mark.parametrize("n", [1, 2, 3, 17, 129])
@pytest.mark.parametrize("causal", [False, True])
def test_few_tokens_as_on_the_host(n: int, causal: bool) -> None:
    q, k = attention(n)
    answer = tr.AttentionChain.from_qk(q, k, is_causal=causal, path="device").lambda2()
    host = tr.AttentionChain.from_qk(q, k, is_causal=causal).lambda2()
    assert (answer.values - host.values).abs().max() <= (1e-4 if n == 129 and not causal else 1e-6)
    assert not answer.certificate.uncertain.any()
    if n < 129:
        assert answer.certificate.error_bound is not None
        assert answer.certificate.method == host.certificate.method


def test_an_estimate_of_one_decides_nothing() -> None:
    """Of the larger of two eigenvalues, one of which was only estimated."""

    def one(value: float, bound: float, uncertain: bool) -> Found:
        number = torch.tensor([value], dtype=torch.float64)
        return Found(number, 0 * number, 0 * number + bound, torch.tensor([uncertain]))

    estimated = larger(one(0.8, 1e-9, False), one(1.0, torch.inf, True))
    assert bool(estimated.uncertain)
    assert float(estimated.bound) == torch.inf
    proved = larger(one(1.0, 0.0, False), one(0.3, torch.inf, True))
    assert not bool(proved.uncertain)
    assert float(proved.bound) == 0

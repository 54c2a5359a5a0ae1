"""Which path a chain takes, and devices and precisions that it cannot be taken on."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.operators import Blocks, Dense, Mixture, Operator, Pooled, Product, Teleport, from_query_key, path_for
from tokenrank.operators.device.fused import _takes_bfloat16

Q = torch.randn(3, 6, 4)


def test_a_cpu_takes_what_it_is_asked_for() -> None:
    assert tr.AttentionChain.from_qk(Q, Q).operator.path == "host"
    assert tr.AttentionChain.from_qk(Q, Q, path="device").operator.path == "device"
    assert tr.AttentionChain(torch.eye(3), path="device")[()].operator.path == "device"
    assert path_for(torch.device("cuda")) == "device"
    assert path_for(torch.device("meta")) == "host"
    with pytest.raises(ChainError, match="path = 'gpu', expected 'host', 'device'"):
        tr.AttentionChain.from_qk(Q, Q, path="gpu")  # type: ignore[arg-type]
    with pytest.raises(ChainError, match=r"path = 'host' .*'cuda.*expected 'device'.*\.cpu\(\)"):
        path_for(torch.device("cuda"), "host")


@pytest.mark.parametrize("path", ["host", "device"])
def test_chains_of_chains_take_the_path_of_their_parts(path: tr.operators.Path) -> None:
    a = from_query_key(Q, Q, None, None, False, path)
    w = torch.full((3,), 1 / 3, dtype=torch.float64)
    even = torch.full((3, 6), 1 / 6, dtype=torch.float64)
    chains: list[Operator] = [
        Mixture(a, w),
        Product([a, a]),
        Teleport(a, 0.9, even),
        Pooled([lambda: a], [w]),
        Blocks(a.reshape(3, 1), torch.arange(18).reshape(3, 6)),
        tr.AttentionChain.from_operator(a).restrict([0, 1]).operator,
        tr.AttentionChain.from_operator(a).lazy(0.5).reverse().operator,
        tr.AttentionChain(torch.eye(6).expand(3, 6, 6), path=path).teleport(0.9).reverse().operator,
    ]
    assert {chain.path for chain in chains} == {path}


def test_devices_without_double_precision_are_refused_by_name() -> None:
    with pytest.raises(ChainError, match=r"'mps:0'.*no float64.*\.cpu\(\).*device=\"cpu\""):
        path_for(torch.device("mps", 0))


def test_tensors_on_several_devices_are_refused_by_name() -> None:
    elsewhere = Q.to("meta")
    with pytest.raises(ChainError, match=r"q on 'cpu', k on 'meta'.*\.to\(q\.device\)"):
        tr.AttentionChain.from_qk(Q, elsewhere)
    with pytest.raises(ChainError, match=r"mask on 'meta'"):
        tr.AttentionChain.from_qk(Q, Q, mask=torch.ones(6, 6, dtype=torch.bool, device="meta"))
    with pytest.raises(ChainError, match=r"x is on 'meta', expected 'cpu'.*\.to\(chain\.device\)"):
        tr.AttentionChain.from_qk(Q, Q).operator.T @ elsewhere
    layers = [Dense(torch.eye(6)), Dense(torch.eye(6).to("meta"))]
    with pytest.raises(ChainError, match=r"layer 1 is on 'meta', expected 'cpu' as layer 0.*device=\"cpu\""):
        tr.compose([tr.AttentionChain.from_operator(layer) for layer in layers])


@pytest.mark.parametrize(
    ("q", "k", "held"),
    [
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16, torch.float16),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float16, torch.float64, torch.float64),
    ],
)
def test_precisions_are_taken_to_the_one_that_holds_both(q: torch.dtype, k: torch.dtype, held: torch.dtype) -> None:
    operator = from_query_key(Q.to(q), Q.to(k), None, None, False, "device")
    assert operator.q.dtype == operator.k.dtype == held  # type: ignore[attr-defined]
    assert operator.dtype == torch.promote_types(held, torch.float32)
    host = from_query_key(Q.to(q), Q.to(k), None, None, False)
    assert host.q.dtype == operator.dtype  # type: ignore[attr-defined]
    assert torch.allclose(operator.to_dense(torch.float64), host.to_dense(torch.float64), rtol=1e-12)


def test_an_old_card_takes_bfloat16_in_single_precision() -> None:
    """By compute capability; ROCm's cards all have it."""
    assert not _takes_bfloat16((7, 5), None)
    assert _takes_bfloat16((8, 0), None)
    assert _takes_bfloat16((7, 5), "6.2")


@pytest.mark.parametrize("path", ["host", "device"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e25])
def test_numbers_that_cannot_be_are_refused_in_the_same_words(value: float, path: tr.operators.Path) -> None:
    q = Q.clone()
    q[1, 2, 3] = value
    told = r"logits may reach" if value == 1e25 else r"q \[1, 2, 3\] is (nan|inf), expected finite numbers"
    with pytest.raises(ChainError, match=told):
        tr.AttentionChain.from_qk(q, 1e6 * Q, path=path)

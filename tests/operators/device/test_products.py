"""Which way products go on the device path, what is made on it, and that proved bounds hold for each way."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.dispatch import Watch
from tokenrank.operators import Operator, QueryKey, from_query_key, restrict, reverse
from tokenrank.operators.base import Measure
from tokenrank.operators.device import fused
from tokenrank.operators.device.ways import Apart

HALVES = [torch.bfloat16, torch.float16]


def heads(kind: str, batch: tuple[int, ...], n: int, d: int) -> tuple[Tensor, Tensor]:
    q, k = torch.randn(*batch, n, d), torch.randn(*batch, n, d)
    if kind == "local":
        angle = torch.linspace(0, 1, n)[:, None] * 30 * torch.randn(1, d // 2)
        place = 4 * torch.cat([angle.sin(), angle.cos()], -1)
        return place + 0.1 * q, place + 0.1 * k
    if kind == "clusters":
        centre = 1.5 * torch.randn(4, d)[torch.randint(0, 4, (n,))]
        return centre + 0.3 * q, 1.5 * centre + 0.3 * k
    if kind == "wide":  # queries of every length: normalisers 100 nats apart and more, no linear function of them
        return 30 * torch.linspace(0.01, 1, n)[:, None] * q, 3 * k
    if kind == "linear":  # a mean that all keys share: normalisers are far apart, and linear in the queries
        return 2 * q, k + 80 * torch.randn(d) / math.sqrt(d)
    if kind == "mixed":
        both = [heads(part, (*batch[:-1], 1), n, d) for part in ("gauss", "wide", "local")]
        return tuple(torch.cat([b[i].expand(*batch[:-1], 1, n, d) for b in both], -3) for i in (0, 1))  # type: ignore[return-value]
    return 1.5 * q, 1.5 * k


def masked(mask: str, batch: tuple[int, ...], n: int) -> tuple[Tensor | None, bool]:
    """A mask over keys, and whether it is causal."""
    if "padding" in mask:
        return torch.arange(n) < max(1, n - 2), "causal" in mask
    if mask == "lengths":
        return torch.arange(n) < torch.randint(max(1, n // 2), n + 1, (*batch, 1, 1)), False
    return (5 * torch.randn(1, n) if mask == "bias" else None), "causal" in mask


CASES = list(
    zip(
        itertools.cycle(["gauss", "local", "clusters", "wide", "linear", "mixed"]),
        itertools.cycle([1, 2, 17, 96]),
        itertools.cycle(["none", "causal", "padding", "lengths", "bias"]),
        itertools.cycle([(3,), (2, 3), (2, 1, 3)]),
        itertools.cycle([torch.float32, *HALVES]),
        range(60),
    )
)


@pytest.mark.parametrize(("kind", "n", "mask", "batch", "dtype"), [case[:-1] for case in CASES])
def test_bounds_hold_for_every_way(kind: str, n: int, mask: str, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    """Rows as products take them, of the chain, of what it is turned round to, and on some of its tokens."""
    q, k = (t.to(dtype) for t in heads(kind, batch, n, 20))
    given, causal = masked(mask, batch, n)
    here = from_query_key(q, k, None, given, causal, "device")
    there = from_query_key(q.double(), k.double(), None, given, causal)
    chains: list[tuple[Operator, Operator]] = [(here, there)]
    log, exactly = 3 * torch.randn(*batch, n, dtype=torch.float64), torch.zeros(batch, dtype=torch.float64)
    chains.append((here.turn(Measure(log, exactly))[0], there.turn(Measure(log, exactly))[0]))
    if n > 4 and mask != "lengths":
        keep = torch.arange(n - 2)
        chains.append((restrict(here, keep), restrict(there, keep)))
    for chain, reference in chains:
        a, size = reference.to_dense(torch.float64), chain.num_tokens
        for asked in (torch.float64, torch.float32, *HALVES):
            x = torch.eye(size, dtype=asked).expand(*batch, size, size)
            bound = chain.row_error(asked) + reference.row_error(torch.float64)
            # of the product itself: sums in the precision of x, or rounding to a half
            bound = bound + 4 * torch.finfo(asked).eps * (1 if asked in HALVES else size)
            for rows in (chain.matmul(x), chain.rmatmul(x).mT):
                assert ((rows.double() - a).abs().sum(-1).amax(-1) <= bound).all(), asked


def test_bounds_are_of_use() -> None:
    q, k = heads("gauss", (3,), 96, 64)
    for dtype, asked, most in [
        (torch.float32, torch.float32, 2e-3),
        (torch.float32, torch.float64, 1e-11),
        (torch.bfloat16, torch.float32, 2e-3),
        (torch.bfloat16, torch.bfloat16, 5e-2),
    ]:
        operator = from_query_key(q.to(dtype), k.to(dtype), None, None, False, "device")
        assert operator.row_error(asked).max() < most


def test_a_linear_part_is_absorbed() -> None:
    """70 nats and more become a few, with keys moved by one vector, and single precision holds them."""
    operator = query_key(*heads("linear", (3,), 96, 64))
    r = operator.log_normalisers(torch.float32)
    assert (r.amax(-1) - r.amin(-1)).min() > 70
    operator.rmatmul(torch.rand(3, 96, 1))
    taken = operator._weighted["back", torch.float32]
    assert taken.bias.amax() - taken.bias.amin() < 12
    assert taken.means.min() > math.exp(-12)


def test_heads_that_are_too_wide_go_apart() -> None:
    """By chunks of rows, while attention takes the others; and in bfloat16 by way of single precision."""
    q, k = heads("mixed", (2, 3), 96, 64)
    operator, x = query_key(q.bfloat16(), k.bfloat16()), torch.rand(2, 3, 96, 1)
    operator.rmatmul(x)
    apart = operator._weighted["back", torch.float32]
    assert isinstance(apart, Apart)
    (fitting, fit), (wide, rows) = apart.parts
    assert (fitting.tolist(), wide.tolist()) == ([0, 2, 3, 5], [1, 4])
    assert fit._weighted["back", torch.float32] is not None
    assert rows._weighted["back", torch.float32] is None
    alone = query_key(*(t.bfloat16()[:, ::2] for t in (q, k)))
    assert torch.allclose(operator.rmatmul(x)[:, ::2], alone.rmatmul(x[:, ::2]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mask", ["none", "causal", "padding", "causal padding", "lengths"])
@pytest.mark.parametrize("width", [20, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_kernels_are_asked_for(mask: str, width: int, dtype: torch.dtype) -> None:
    """Widths that they take, nothing N × N, and no wait but for what is read once."""
    n, batch = 160, (2, 3)
    q, k = (t.to(dtype) for t in heads("gauss", batch, n, width))
    given, causal = masked(mask, batch, n)
    with Watch(tokens=n) as built:
        operator = from_query_key(q, k, None, given, causal, "device")
    turned, _ = operator.turn(Measure.even(operator))
    chains = [operator, turned, operator.index(slice(1, None))]
    vectors = [torch.rand(*chain.shape[:-1], 1) for chain in chains]
    with Watch(tokens=n) as first:
        for chain, x in zip(chains, vectors, strict=True):
            chain.rmatmul(x), chain.matmul(x), chain.rmatmul(x.to(dtype)), chain.matmul(x.to(dtype))
    with Watch(tokens=n) as later:
        for chain, x in zip(chains, vectors, strict=True):
            chain.rmatmul(x), chain.matmul(x), chain.rmatmul(x.to(dtype))
    for seen in (built, first, later):
        assert not seen.squares
        assert seen.unfused == 0
        assert all(part % 8 == 0 for q_width, v_width, _ in seen.widths for part in (q_width, v_width)), seen.widths
    assert max(widest for widest, _, _ in later.widths) == 8 * math.ceil(width / 8)  # no dimension for a bias
    assert {kind for _, _, kind in later.widths} == {torch.float32, dtype}
    assert not later.waits
    if given is None:
        assert sum(built.waits.values()) == 1
        each = 1 if dtype == torch.float32 else 2  # ways with weights, in single and in half precision
        assert sum(first.waits.values()) <= each * 4 + 1, first.waits
    assert later.count <= len(chains) * 3 * 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", ["none", "causal", "lengths", "causal padding", "padding"])
def test_a_chain_is_looked_at_once_and_its_weights_once(mask: str, dtype: torch.dtype) -> None:
    """From queries and keys to Aᵀx; one more look where the same keys are left out in all heads."""
    q, k = (t.to(dtype) for t in heads("gauss", (3,), 96, 16))
    given, causal = masked(mask, (3,), 96)
    with Watch() as seen:
        from_query_key(q, k, None, given, causal, "device").reshape(3).rmatmul(torch.rand(3, 96, 1))
    assert 0 < sum(seen.waits.values()) <= (3 if mask == "padding" else 2), seen.waits


def test_double_precision_goes_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenrank.operators.base.BLOCK_BYTES", 1)
    operator, x = query_key(*heads("gauss", (3,), 200, 16)), torch.rand(3, 200, 1, dtype=torch.float64)
    with Watch(tokens=200) as seen:
        operator.rmatmul(x), operator.matmul(x), operator.log_normalisers(), operator.column_sums()
    assert not seen.widths
    assert not seen.squares
    assert not seen.waits


class Everything(set[Any]):
    def __contains__(self, key: object) -> bool:
        return True


@pytest.mark.parametrize("causal", [False, True])
def test_without_a_kernel_rows_are_taken(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every kernel has refused, which is kept in mind."""
    q, k = heads("gauss", (3,), 96, 16)
    x = torch.rand(3, 96, 2)
    wanted = from_query_key(q.double(), k.double(), None, None, causal)
    monkeypatch.setattr(fused, "_refused", Everything())
    operator = query_key(q, k, causal)
    with Watch() as seen:
        found = operator.rmatmul(x), operator.matmul(x), operator.log_normalisers(torch.float32)
    assert not seen.widths
    for tensor, expected in zip(
        found, (wanted.rmatmul(x.double()), wanted.matmul(x.double()), wanted.log_normalisers()), strict=True
    ):
        assert (tensor - expected).abs().max() < 1e-5
    with pytest.raises(fused.NoKernelError):
        fused.attend(q, k, k, 1.0)


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton: it comes with PyTorch for GPUs")
def test_bounds_hold_by_our_own_kernel(tmp_path: Path) -> None:
    """In Triton's interpreter, in a process of its own: single precision from queries and keys in half precision."""
    environment = {"TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).parent / "by_kernel.py"
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shares = json.loads(done.stdout)
    assert len(shares) == 12
    assert all(share <= 1 for share in shares.values()), shares


def query_key(q: Tensor, k: Tensor, causal: bool = False) -> QueryKey:
    operator = from_query_key(q, k, None, None, causal, "device")
    assert isinstance(operator, QueryKey)
    return operator


def test_a_step_keeps_mass_of_both_signs() -> None:
    operator, x = query_key(*heads("mixed", (2, 3), 96, 16)), torch.randn(2, 3, 96, 2)
    for chain in (operator, reverse(operator)):
        assert torch.allclose((chain.T @ x).sum(-2), x.sum(-2), rtol=0, atol=1e-4)
        assert torch.allclose(chain @ torch.ones(2, 3, 96), torch.ones(()), rtol=0, atol=1e-5)


def test_a_pickled_chain_keeps_its_path() -> None:
    chain = tr.AttentionChain.from_qk(*heads("gauss", (3,), 12, 8), path="device")
    chain.operator.rmatmul(torch.rand(3, 12, 1))
    again = pickle.loads(pickle.dumps(chain.operator))
    assert again.path == "device"
    assert not again._weighted

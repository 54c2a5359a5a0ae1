"""Bounces and half-lives on the device path: proved step by step, nothing N × N in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tokenrank as tr
from tests.dispatch import Watch

LONG = np.longdouble


def queries(n: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    q, k = 1.5 * torch.randn(2, 3, n, 16, generator=torch.Generator().manual_seed(n))
    return q.to(dtype), k.to(dtype)


def exact_chain(q: torch.Tensor, k: torch.Tensor, causal: bool) -> np.ndarray:
    left, right = (t.double().numpy().astype(LONG) for t in (q, k))
    logits = np.einsum("hid,hjd->hij", left, right) / 4
    if causal:
        logits = np.where(np.tril(np.ones(logits.shape[-2:], bool)), logits, -np.inf)
    a = np.exp(logits - logits.max(-1, keepdims=True))
    return a / a.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_bounce_is_within_its_bound(dtype, direction, causal):
    n = 70
    q, k = queries(n, dtype)
    a = exact_chain(q, k, causal)
    if direction == "backward":
        a = (a / a.sum(-2, keepdims=True)).swapaxes(-1, -2)
    chain = tr.AttentionChain.from_qk(q, k, is_causal=causal, path="device")
    found = chain.bounce([[5], [20, 40]], 6, direction, path=True)
    right = np.zeros((2, 3, n), LONG)
    right[0, :, 5], right[1, :, [20, 40]] = 1.0, 0.5
    assert found.values.shape == (7, 2, 3, n)
    for values, bound in zip(found.values, found.certificate.error_bound, strict=True):
        off = np.abs(values.double().numpy() - right).sum(-1)
        assert (off <= bound.numpy()).all()
        right = np.einsum("shi,hij->shj", right, a)
    assert float(found.certificate.error_bound.max()) < 7e-6


def test_bounces_read_rows_by_chunks_and_never_wait_between_steps():
    n = 320
    chain = tr.AttentionChain.from_qk(*queries(n, torch.bfloat16), path="device")
    with Watch(n) as few:
        chain.bounce(0, 2)
    with Watch(n) as many:
        chain.bounce(0, 10)
    assert many.waits == few.waits
    assert many.waits.total() <= 6
    assert not many.squares
    assert not many.unfused
    assert many.float64 < 3 * n * n * 8
    assert many.count - few.count <= 8 * 100


def test_half_lives_are_those_of_the_host_and_nothing_is_built():
    n = 320
    q, k = queries(n, torch.float32)
    start = [[0], [7, 8, 9]]
    host = tr.AttentionChain.from_qk(q, k).half_life(start)
    chain = tr.AttentionChain.from_qk(q, k, path="device")
    with Watch(n) as seen:
        device = chain.half_life(start)
        walked = chain.bounce(start, "halflife")
    assert torch.equal(device.values, host.values)
    assert torch.allclose(device.curve, host.curve, rtol=1e-9, atol=1e-12)
    assert not seen.squares
    assert walked.values.shape == (2, 3, n)
    # a head rests after bounces of its own, and so does its bound
    short = device.values == device.values.min()
    if bool(short.any() & ~short.all()):
        bound = walked.certificate.error_bound
        assert float(bound[short].max()) < float(bound[~short].min())

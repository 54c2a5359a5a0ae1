"""What ranks are given: DTensors, uneven shards, and an error on every rank where they do not fit together."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import tokenrank as tr
from tests.operators import oracles
from tokenrank.errors import ChainError, DistributedError
from tokenrank.operators.distributed import Ring, RingQueryKey, from_query_key

from .ranks import Failed, Ranks
from .shards import parts, ring_of

N, D, HEADS = 11, 4, 2


def whole() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, HEADS, N, D, generator=generator)
    return q, k


def wrong(name: str) -> RingQueryKey:
    """A chain of four ranks of which rank 2 is given something else."""
    ring, odd = ring_of(4), ring_of(4).rank == 2
    q, k = whole()
    mine = parts("even", N, 4)[ring.rank]
    q, k = q[:, mine], k[:, mine]
    keys = torch.ones(N, dtype=torch.bool)
    rows = torch.ones(len(mine), N, dtype=torch.bool)
    asked: dict[str, Callable[[], RingQueryKey]] = {
        "heads": lambda: from_query_key(q[:1] if odd else q, k[:1] if odd else k, ring),
        "width": lambda: from_query_key(q[..., : 3 if odd else D], k[..., : 3 if odd else D], ring),
        "precision": lambda: from_query_key(q.double() if odd else q, k, ring),
        "scale": lambda: from_query_key(q, k, ring, scale=0.7 if odd else None),
        "causal": lambda: from_query_key(q, k, ring, is_causal=odd),
        "mask": lambda: from_query_key(q, k, ring, mask=rows if odd else None),
        "key mask": lambda: from_query_key(q, k, ring, key_mask=keys.double() if odd else keys),
        "keys as rows": lambda: from_query_key(q, k, ring, mask=keys),
        "some keys": lambda: from_query_key(q, k, ring, key_mask=keys[:4] if odd else keys),
        "rows": lambda: from_query_key(q, k, ring, mask=rows[:, :-1] if odd else rows),
        "integers": lambda: from_query_key(q, k, ring, mask=rows.long() if odd else rows),
        "empty row": lambda: from_query_key(q, k, ring, mask=rows & ~torch.tensor(odd)),
        "numbers": lambda: from_query_key(q * (math.nan if odd else 1.0), k, ring),
        "too large": lambda: from_query_key(q * (1e30 if odd else 1.0), k, ring),
        "no keys": lambda: from_query_key(q, k[:, :1] if odd else k, ring),
        "tokens": lambda: from_query_key(q, k, ring, tokens=mine.clone().fill_(0) if odd else mine),
        "list": lambda: from_query_key(q, k, ring, tokens=mine.tolist() if odd else mine),  # type: ignore[arg-type]
        "twice": lambda: from_query_key(q, k, ring, tokens=mine - int(odd)),
        "some tokens": lambda: from_query_key(q, k, ring, tokens=mine if odd else None),
        "scale below zero": lambda: from_query_key(q, k, ring, scale=-1.0),
        "none": lambda: from_query_key(q[:, :0], k[:, :0], ring),
    }
    return asked[name]()


MESSAGES = {
    "heads": r"leading dimensions: \[2\] on ranks 0, 1 and 3; \[1\] on rank 2; expected the same on every rank",
    "width": r"^d: 4 on ranks 0, 1 and 3; 3 on rank 2",
    "precision": r"precision: float32 on ranks 0, 1 and 3; float64 on rank 2",
    "scale": r"scale: 0\.5 on ranks 0, 1 and 3; 0\.7 on rank 2",
    "causal": r"is_causal: False on ranks 0, 1 and 3; True on rank 2",
    "mask": r"mask: none on ranks 0, 1 and 3; bool on rank 2",
    "key mask": r"key_mask: bool on ranks 0, 1 and 3; added on rank 2",
    "keys as rows": r"ranks 0, 1, 2 and 3: mask has shape \(11,\), expected the rows .* keys alone is key_mask=",
    "some keys": r"rank 2: key_mask has shape \(4,\), expected .* broadcasts to \(2, 11\), all keys, or to \(2, 3\)",
    "rows": r"rank 2: mask has shape \(3, 10\), expected .* broadcasts to \(2, 3, 11\)",
    "integers": r"rank 2: mask is torch\.int64, expected bool",
    "empty row": r"row \[6\] is fully masked: token 6 may attend to no key",
    "numbers": r"rank 2: q \[0, 0, 0\] is nan",
    "too large": r"logits may reach .*, expected at most",
    "no keys": r"rank 2: q has shape \(2, 3, 4\) and k \(2, 1, 4\), expected .* of the same tokens",
    "tokens": r"tokens of rank 2 do not increase",
    "list": r"rank 2: tokens is a list, expected a tensor of one index for each query",
    "twice": r"token 5 is held by rank 1 and rank 2; expected each of 0 … 10 on one rank",
    "some tokens": r"tokens: in the order of the ranks on ranks 0, 1 and 3; given on rank 2",
    "scale below zero": r"ranks 0, 1, 2 and 3: scale is -1\.0, expected a positive number",
    "none": r"no rank has a token",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_does_not_fit_is_an_error_on_every_rank(ranks: Ranks, name: str) -> None:
    found = ranks.outcomes(wrong, name)
    for failed in found:
        assert isinstance(failed, Failed), f"no error of {name}"
        assert failed.kind == "ChainError", failed.trace
        assert re.search(MESSAGES[name], failed.message), failed.message
    assert len({failed.message for failed in found}) == 1


def other_masks() -> str:
    """A mask of keys is whole on every rank, and has to be the same; this one leaves its ring behind."""
    ring = Ring(timeout=5)
    q, k = whole()
    mine = parts("even", N, 4)[ring.rank]
    keys = torch.ones(N, dtype=torch.bool)
    keys[3] = ring.rank != 2
    try:
        from_query_key(q[:, mine], k[:, mine], ring, key_mask=keys)
    except DistributedError as error:
        return str(error)
    return ""


def test_masks_of_keys_that_differ(ranks: Ranks) -> None:
    for message in ranks.run(other_masks):
        assert "the mask of keys: the vectors of rank 2 are not those of rank 0" in message


def no_tensor() -> str:
    """What is no tensor on one rank, and what the others are told of it."""
    ring = ring_of(4)
    q, k = whole()
    mine = parts("even", N, 4)[ring.rank]
    given: Any = None if ring.rank == 1 else q[:, mine]
    try:
        from_query_key(given, k[:, mine], ring)
    except (ChainError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_any_error_of_a_rank_is_told(ranks: Ranks) -> None:
    first, own, *others = ranks.run(no_tensor)
    assert own.startswith("AttributeError: ")
    assert {first, *others} == {f"ChainError: rank 1: {own}"}


def of_own_keys() -> float:
    """Each rank's part of a mask of keys, of which one is added and in another place for each head."""
    ring = ring_of(4)
    q, k = whole()
    mine = parts("uneven", N, 4)[ring.rank]
    bias = torch.randn(HEADS, N, generator=torch.Generator().manual_seed(1))
    bias[1, 2] = -torch.inf
    chain = from_query_key(q[:, mine], k[:, mine], ring, key_mask=bias[..., mine], is_causal=True)
    expected = oracles.attention(q, k, mask=bias[:, None], is_causal=True)
    return float((chain.to_dense(torch.float64) - expected).abs().max())


def test_a_mask_of_keys_in_parts(ranks: Ranks) -> None:
    assert max(ranks.run(of_own_keys)) <= 1e-6


def of_dtensors(cut: int) -> float | str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (4,))
    q, k = whole()
    dq, dk = (distribute_tensor(t, mesh, [Shard(cut)]) for t in (q, k))
    try:
        chain = tr.distributed.from_qk(dq, dk, ring_of(4))
    except ChainError as error:
        return str(error)
    x = torch.rand(HEADS, N, generator=torch.Generator().manual_seed(0))
    one = tr.AttentionChain.from_qk(q, k)
    return float((chain.operator.T @ x - one.operator.T @ x).abs().max())


def test_dtensors_that_are_cut_along_their_tokens(ranks: Ranks) -> None:
    assert max(ranks.run(of_dtensors, 1)) <= 1e-6
    for message in ranks.run(of_dtensors, 2):
        assert "q is a DTensor with placements (Shard(dim=2),)" in message
        assert "expected (Shard(dim=1),) on one" in message


def grouped() -> float:
    """Fewer key heads than query heads, and leading dimensions."""
    ring = ring_of(4)
    generator = torch.Generator().manual_seed(5)
    q, k = torch.randn(2, 4, N, D, generator=generator), torch.randn(2, 2, N, D, generator=generator)
    mine = parts("even", N, 4)[ring.rank]
    chain = tr.distributed.from_qk(q[..., mine, :], k[..., mine, :], ring, layout=tr.TokenLayout({"text": N}))
    assert chain.layout is not None
    expected = oracles.attention(q, k)
    return float((chain.to_dense() - expected).abs().max())


def test_grouped_heads(ranks: Ranks) -> None:
    assert max(ranks.run(grouped)) <= 1e-6


def unpicklable() -> str:
    q, k = whole()
    ring = ring_of(2)
    mine = parts("even", N, 2)[ring.rank]
    chain = from_query_key(q[:, mine], k[:, mine], ring, is_causal=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenrank.operators.distributed.query_key.SUPPORT_BYTES", N)
        with pytest.raises(ChainError, match=r"takes .* of bools on every rank, expected at most"):
            chain.support()
    with pytest.raises(ChainError, match="spread over ranks cannot be pickled"):
        pickle.dumps(chain)
    return repr(tr.AttentionChain.from_operator(chain))


def test_what_it_says_of_itself(ranks: Ranks) -> None:
    assert ranks.run(unpicklable, ranks=[0, 1])[0] == "AttentionChain(shape=(2, 11, 11), RingQueryKey, causal)"


def test_a_process_without_a_group() -> None:
    assert not dist.is_initialized()
    with pytest.raises(DistributedError, match="there is no process group, expected one: start with torchrun"):
        Ring()
    with pytest.raises(DistributedError, match="timeout = 0, expected seconds above zero"):
        Ring(timeout=0)
    wrong: Any
    for wrong in ("60", None, math.inf):
        with pytest.raises(DistributedError, match=f"timeout = {wrong!r}, expected seconds"):
            Ring(timeout=wrong)
        with pytest.raises(ChainError, match=f"ring is a {type(wrong).__name__}, expected the ranks"):
            tr.distributed.from_qk(*whole(), wrong)


def test_zigzag_is_a_partition_with_even_work() -> None:
    for n, size in [(16, 4), (37, 4), (3, 2), (64, 8)]:
        tokens: Any = tr.distributed.zigzag(n, size)
        assert torch.equal(torch.cat(tokens).sort().values, torch.arange(n))
        work = [int((part + 1).sum()) for part in tokens]
        assert max(work) - min(work) <= 2 * n
    with pytest.raises(ChainError, match="ranks = 0"):
        tr.distributed.zigzag(8, 0)
    odd: Any
    for odd in (-1, 8.5):
        with pytest.raises(ChainError, match=f"num_tokens = {odd}, expected how many tokens"):
            tr.distributed.zigzag(odd, 2)

"""A rank that hangs, dies, fails or goes astray ends in a message on all the others, within the timeout."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tokenrank.errors import DistributedError
from tokenrank.operators.distributed import Ring, RingQueryKey, from_query_key, logits

from .ranks import Failed, Ranks, started

N, TIMEOUT = 12, 2.0
SLACK = 1.5  # seconds that a loaded machine may take more


@pytest.fixture(scope="module")
def mortals() -> Iterator[Ranks]:
    """Three processes of which not all will be left."""
    with started(3) as ranks:
        yield ranks


def chain_of(ring: Ring) -> tuple[RingQueryKey, Tensor]:
    q, k = torch.randn(2, 1, N, 4, generator=torch.Generator().manual_seed(0))
    mine = torch.arange(N).tensor_split(ring.size)[ring.rank]
    return from_query_key(q[:, mine], k[:, mine], ring), torch.ones(1, N, 1)


def trouble(kind: str, odd: int) -> tuple[str, float, str]:
    """What a rank is told, after how many seconds, and what it is told when it tries again."""
    ring = Ring(timeout=TIMEOUT)
    chain, x = chain_of(ring)
    chain.matmul(x)  # all is well
    is_odd, work = ring.rank == odd, logits.softmax_part
    hops = 0

    def worn(*args: object, **options: object) -> object:
        nonlocal hops
        hops += 1
        if is_odd and hops == 2:  # in the middle of a product
            if kind == "hangs":
                time.sleep(TIMEOUT + 2 * SLACK)
            if kind == "dies":
                os._exit(1)
            if kind == "fails":
                raise MemoryError("no room for a block")
        return work(*args, **options)  # type: ignore[arg-type]

    begun = time.monotonic()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logits, "softmax_part", worn)
            if kind == "absent" and is_odd:
                time.sleep(TIMEOUT + 2 * SLACK)
            if kind == "another product" and is_odd:
                chain.rmatmul(x)
            elif kind in ("rows", "columns"):
                getattr(chain, kind)(int(is_odd), 1 + int(is_odd))
            else:
                start = torch.nn.functional.one_hot(torch.tensor([int(is_odd)]), N)[..., None].to(x.dtype)
                chain.matmul(start if kind == "another start" else x + (kind == "another vector" and is_odd))
    except (DistributedError, MemoryError) as error:
        message, seconds = str(error), time.monotonic() - begun
    else:
        return "", 0.0, ""
    try:
        chain.matmul(x)
    except DistributedError as error:
        return message, seconds, str(error)
    return message, seconds, ""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hangs", "rank 2 did not answer within 2 s: dead, hanging or too slow"),
        ("absent", "rank 2 did not answer within 2 s: dead, hanging or too slow"),
        ("fails", "rank 2 stopped: MemoryError: no room for a block"),
    ],
)
def test_a_rank_that_does_not_answer(ranks: Ranks, kind: str, expected: str) -> None:
    found = ranks.run(trouble, kind, 2)
    for rank in (0, 1, 3):
        message, seconds, again = found[rank]
        assert expected in message, message
        assert "look at the output of that rank" in message
        assert seconds <= TIMEOUT + SLACK
        assert again == message
    own = found[2][0]
    assert ("no room for a block" if kind == "fails" else "did not answer") in own
    assert found[2][2]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("another product", "asked for another operation than rank 0"),
        ("rows", "asked for another operation than rank 0"),
        ("columns", "asked for another operation than rank 0"),
        ("another start", "A x: the vectors of rank 1 are not those of rank 0"),
        ("another vector", "A x: the vectors of rank 1 are not those of rank 0"),
    ],
)
def test_ranks_that_go_astray(ranks: Ranks, kind: str, expected: str) -> None:
    for message, seconds, again in ranks.run(trouble, kind, 1):
        assert expected in message
        assert "rank 1" in message
        assert seconds <= TIMEOUT / 2
        assert again == message


def test_all_is_well_afterwards(ranks: Ranks) -> None:
    assert ranks.run(well) == [True] * 4


def well() -> bool:
    chain, x = chain_of(Ring(timeout=TIMEOUT * 5))
    return bool((chain.matmul(x) - 1).abs().max() < 1e-6)


def test_a_rank_that_dies(mortals: Ranks) -> None:
    found = mortals.outcomes(trouble, "dies", 1)
    assert found[1] is None
    for rank in (0, 2):
        assert not isinstance(found[rank], Failed), found[rank].trace
        message, seconds, again = found[rank]
        assert "rank 1 did not answer within 2 s: dead, hanging or too slow" in message
        assert seconds <= TIMEOUT + SLACK
        assert again == message


def test_a_rank_that_never_comes(mortals: Ranks) -> None:
    """After the one before: rank 1 is gone."""
    for message, seconds in mortals.run(alone, ranks=[0, 2]):
        assert "the ring of ranks [0, 1, 2] was not made within 2 s" in message
        assert seconds <= TIMEOUT + SLACK


def alone() -> tuple[str, float]:
    begun = time.monotonic()
    try:
        Ring(timeout=TIMEOUT)
    except DistributedError as error:
        return str(error), time.monotonic() - begun
    return "", 0.0

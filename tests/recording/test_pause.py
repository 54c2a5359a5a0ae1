"""``paused``: what runs inside is in no trace that began before, acts go on; ``uncompiled`` sets the compiler aside."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import torch
from torch import nn
from torch._dynamo import eval_frame

import tokenrank as tr
from benchmarks.robustness.captures import Network, X
from tokenrank.errors import CaptureError
from tokenrank.recording import Act, Caller, FusedCall, acting, paused, uncompiled


class Count(Act):
    """Hides nothing, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        self.calls += 1
        return call


@pytest.fixture
def network() -> nn.Module:
    return Network(0).eval()


def test_a_pass_in_a_pause_is_not_recorded_and_not_counted(network: nn.Module) -> None:
    with tr.capture(network) as trace:
        network(X)
        with paused():
            network(X)
            network.forward(X)
        network(X)
    assert {record.step for record in trace.records} == {0, 1}
    with tr.capture(network) as alone:
        network(X)
    assert len(trace.records) == 2 * len(alone.records)


def test_a_capture_that_begins_in_a_pause_records(network: nn.Module) -> None:
    with tr.capture(network) as outer:
        with paused(), tr.capture(network) as inner:
            network(X)
            with paused():
                network(X)
        network(X)
    assert {record.step for record in inner.records} == {record.step for record in outer.records} == {0}


def test_acts_go_on(network: nn.Module) -> None:
    before, inside = Count(), Count()
    with acting(network, before):
        network(X)
        with paused(), acting(network, inside):
            network(X)
    assert before.calls == 2 * inside.calls > 0


def test_a_pause_ends_with_an_error(network: nn.Module) -> None:
    with tr.capture(network) as trace:
        with pytest.raises(ZeroDivisionError), paused():
            raise ZeroDivisionError
        network(X)
    assert trace.records


def test_a_capture_that_saw_a_pause_alone_is_empty(network: nn.Module) -> None:
    with pytest.raises(CaptureError), tr.capture(network), paused():
        network(X)


def test_another_task_is_not_paused(network: nn.Module) -> None:
    async def records() -> int:
        with tr.capture(network) as trace:
            await asyncio.sleep(0.01)
            network(X)
        return len(trace.records)

    async def pauses() -> None:
        with paused():
            await asyncio.sleep(0.05)

    async def both() -> int:
        _, found = await asyncio.gather(pauses(), records())
        return found

    assert asyncio.run(both()) > 0


def test_another_thread_is_not_paused(network: nn.Module) -> None:
    found: list[int] = []

    def records() -> None:
        with tr.capture(network) as trace:
            network(X)
        found.append(len(trace.records))

    with paused():
        thread = threading.Thread(target=records)
        thread.start()
        thread.join()
    assert found[0] > 0


def test_the_compiler_comes_back() -> None:
    before = eval_frame._stance.stance
    with contextlib.suppress(ZeroDivisionError), uncompiled(), torch.no_grad():
        assert eval_frame._stance.stance == "force_eager"
        raise ZeroDivisionError
    assert eval_frame._stance.stance == before

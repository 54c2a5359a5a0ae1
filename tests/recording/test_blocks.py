"""Captures that begin and end in any order: each gets its own records, and the process is as before."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack

import tokenrank as tr
from benchmarks.robustness.captures import Network, X, hooks
from tokenrank.errors import CaptureError
from tokenrank.recording.block import UNCOMPILED
from tokenrank.recording.quiet import Unnoticed


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Stance, mode stack, threads and holders of the process are those of before."""
    state = eval_frame._stance.stance, _get_current_function_mode_stack(), set(threading.enumerate())
    assert not UNCOMPILED._holders
    yield
    assert (eval_frame._stance.stance, _get_current_function_mode_stack(), set(threading.enumerate())) == state
    assert not UNCOMPILED._holders


def right(model: Network) -> list[Tensor]:
    """q of both layers, from a capture on its own."""
    with tr.capture(model) as trace:
        model(X)
    return [record.q for record in trace.records]


def same(trace: tr.Trace, model: Network, times: int = 1) -> bool:
    wanted = right(model) * times
    found = [record.q for record in trace.records]
    # threads that share the cores add up in another order
    return len(found) == len(wanted) and all(map(torch.allclose, found, wanted))


ORDERS = [order for order in itertools.permutations(range(3)) if order != (2, 1, 0)]


@pytest.mark.parametrize("order", ORDERS)
def test_context_objects_that_end_in_any_order(order: tuple[int, ...]):
    models = [Network(seed) for seed in range(3)]
    blocks = [tr.capture(model) for model in models]
    traces = []
    for block, model in zip(blocks, models, strict=True):
        traces.append(block.__enter__())
        model(X)
    for number, place in enumerate(order):
        blocks[place].__exit__(None, None, None)
        assert (eval_frame._stance.stance == "force_eager") == (number < 2)
        if number < 2:
            models[order[2]](X)
    assert same(traces[order[2]], models[order[2]], times=3)
    assert all(same(traces[place], models[place]) for place in order[:2])
    assert not any(map(hooks, models))


@pytest.mark.parametrize("same_model", [True, False])
def test_generators_that_end_in_the_order_in_which_they_began(same_model: bool):
    def run(model: Network) -> Iterator[tr.Trace]:
        with tr.capture(model) as trace:
            model(X)
            yield trace

    one = Network(0)
    two = one if same_model else Network(1)
    first, second = run(one), run(two)
    traces = [next(first), next(second)]
    assert next(first, None) is None
    assert next(second, None) is None
    # a block that is open sees what its thread runs, so that the first saw both where the model is one
    assert same(traces[0], one, times=2 if same_model else 1)
    assert same(traces[1], two)
    assert not hooks(one)


def test_a_foreign_mode_between_two_blocks_stays():
    one, two = Network(0), Network(1)
    first, foreign, second = tr.capture(one), BaseTorchFunctionMode(), tr.capture(two)
    trace = first.__enter__()
    one(X)
    with foreign:
        other = second.__enter__()
        two(X)
        first.__exit__(None, None, None)
        assert _get_current_function_mode_stack()[0] is foreign
        second.__exit__(None, None, None)
        assert _get_current_function_mode_stack() == [foreign]
    assert same(trace, one)
    assert same(other, two)


def test_threads_that_capture_one_model_at_a_time_in_any_order():
    model, gate, results = Network(0), threading.Barrier(3), {}

    def work(place: int) -> None:
        with tr.capture(model) as trace:
            gate.wait()
            for _ in range(place + 1):
                model(X)
            gate.wait()
        results[place] = trace

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, trace in results.items():
        assert same(trace, model, times=place + 1)
        assert [record.step for record in trace.records] == [s for s in range(place + 1) for _ in range(2)]
    assert not hooks(model)


@pytest.mark.parametrize("first_out", [0, 1])
def test_tasks_see_their_own_calls_alone(first_out: int):
    model, traces = Network(0), {}

    async def work(place: int, inside: asyncio.Event, go: asyncio.Event) -> None:
        with tr.capture(model) as trace:
            inside.set()
            await go.wait()
            model(X)
            await asyncio.sleep(0)
            model(X)
        traces[place] = trace

    async def everything() -> None:
        inside, go = [asyncio.Event() for _ in range(2)], [asyncio.Event() for _ in range(2)]
        tasks = [asyncio.create_task(work(place, inside[place], go[place])) for place in range(2)]
        await asyncio.gather(*(event.wait() for event in inside))
        for place in (first_out, 1 - first_out):
            go[place].set()
            await tasks[place]

    asyncio.run(everything())
    assert all(same(trace, model, times=2) for trace in traces.values())
    assert not hooks(model)


def test_a_task_sees_those_that_it_starts():
    model = Network(0)

    async def run() -> None:
        await asyncio.sleep(0)
        model(X)

    async def everything() -> tr.Trace:
        with tr.capture(model) as trace:
            await asyncio.gather(run(), run())
        return trace

    assert same(asyncio.run(everything()), model, times=2)


def test_a_block_that_a_task_opened_and_left_is_everybodys():
    """As in a notebook, whose cells are tasks."""
    model = Network(0)
    block = tr.capture(model)

    async def cell(run: Callable[[], Any]) -> Any:
        return run()

    async def cells() -> tr.Trace:
        trace = await asyncio.create_task(cell(block.__enter__))
        await asyncio.create_task(cell(lambda: model(X)))
        await asyncio.create_task(cell(lambda: block.__exit__(None, None, None)))
        return trace

    assert same(asyncio.run(cells()), model)


def test_a_model_that_ran_in_another_task_is_said_to():
    model = Network(0)

    async def run() -> None:
        await asyncio.sleep(0.01)
        model(X)

    async def everything() -> None:
        other = asyncio.create_task(run())
        with pytest.raises(CaptureError, match="another asyncio task"), tr.capture(model):
            await other

    asyncio.run(everything())


def test_ending_in_another_thread_is_refused_and_leaves_nothing_at_work():
    model, said = Network(0), []
    block = tr.capture(model)
    trace = block.__enter__()
    model(X)

    def end() -> None:
        try:
            block.__exit__(None, None, None)
        except CaptureError as error:
            said.append(str(error))

    thread = threading.Thread(target=end, name="other")
    thread.start()
    thread.join()
    assert "ends in thread 'other'" in said[0]
    assert "where you entered it" in said[0]
    assert eval_frame._stance.stance == "default"
    assert not hooks(model)
    model(X)
    assert same(trace, model)  # the next capture here takes the idle mode off the stack


def test_acts_end_in_any_order_too():
    from tokenrank.recording import Act, acting

    one, two = Network(0), Network(1)
    first, second = acting(one, Act()), acting(two, Act())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert len(_get_current_function_mode_stack()) == 1
    second.__exit__(None, None, None)


# what models and their owners do while they are watched


class Busy(nn.Module):
    """A model that does something in its forward."""

    def __init__(self, inner: nn.Module, what: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.inner, self.what = inner, what

    def forward(self, x: Tensor) -> Tensor:
        self.what(self)
        return self.inner(x)


def test_copies_made_inside_do_not_watch():
    model, copies = Network(0), []
    with tr.capture(model) as trace:
        copies.append(copy.deepcopy(model))
        model(X)
        copies.append(copy.deepcopy(model))
        copies[0](X)
    assert same(trace, model)
    for other in copies:
        assert torch.equal(other(X), model(X))
        assert hooks(other) == 0
        assert same(trace, other)


def test_saving_inside(tmp_path: Path):
    model = Network(0)
    with tr.capture(model) as trace:
        torch.save(model, tmp_path / "model.pt")
        torch.save(model.state_dict(), io.BytesIO())
        model(X)
    assert same(trace, model)
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(X), model(X))
    assert hooks(loaded) == 0


@pytest.mark.parametrize(
    "what",
    [copy.deepcopy, lambda model: torch.save(model.inner, io.BytesIO()), lambda model: copy.copy(model.inner)],
    ids=["deepcopy", "save", "copy"],
)
def test_a_forward_that_copies_its_model(what: Callable[[nn.Module], Any]):
    inner = Network(0)
    model = Busy(inner, what)
    with tr.capture(model) as trace:
        out = model(X)
    assert torch.equal(out, inner(X))
    assert same(trace, inner)


def test_averages_and_functional_calls():
    model = Network(0)
    with tr.capture(model) as trace:
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
        model(X)
        average.update_parameters(model)
        doubled = {name: 2 * value.detach() for name, value in model.named_parameters()}
        torch.func.functional_call(model, doubled, (X,))
    assert [record.step for record in trace.records] == [0, 0, 1, 1]
    assert torch.equal(trace.records[0].q, right(model)[0])
    assert torch.allclose(trace.records[2].q, 2 * right(model)[0])
    average(X)
    assert hooks(average) == 0


@pytest.mark.parametrize("before", [True, False])
def test_hooks_that_raise(before: bool):
    model = Network(0)

    def fail(*args: Any) -> None:
        raise RuntimeError("a hook of the user's")

    handle = (model[0].register_forward_pre_hook if before else model[0].register_forward_hook)(fail)
    with tr.capture(model) as trace:
        with pytest.raises(RuntimeError, match="a hook of the user's"):
            model(X)
        handle.remove()
        model(X)
    assert torch.equal(trace.records[-1].q, right(model)[1])
    assert trace.records[-1].step == 1
    assert hooks(model) == 0


def test_a_model_that_is_deleted_inside():
    model = Network(0)
    wanted = right(model)
    with tr.capture(model) as trace:
        model(X)
        del model
        gc.collect()
    assert all(map(torch.equal, [record.q for record in trace.records], wanted))


def test_a_block_that_is_let_go():
    block = tr.capture(Network(0))
    block.__enter__()
    assert eval_frame._stance.stance == "force_eager"
    del block
    gc.collect()


def test_a_block_that_is_collected_in_the_middle_of_anothers_work():
    """Its end leaves what is at work alone: gradients off, functions unseen."""
    blocks = [tr.capture(Network(0))]
    blocks[0].__enter__()
    with Unnoticed():
        blocks.clear()
        gc.collect()
        assert eval_frame._stance.stance == "default"
        assert not torch.is_grad_enabled()
        assert not torch._C._is_torch_function_enabled()
    assert torch.is_grad_enabled()
    assert torch._C._is_torch_function_enabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_inside():
    model = Network(0)
    with tr.capture(model) as trace:
        model(X)
        child = os.fork()
        if child == 0:  # the child ends its own copy of the block
            try:
                model[0].qkv.weight.sum()
                with UNCOMPILED._lock:
                    pass
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert same(trace, model)


# an interrupt between any two lines


class Interrupter:
    """Raises KeyboardInterrupt at the ``place``-th line of tokenrank that runs, once."""

    def __init__(self, place: int) -> None:
        self.place, self.lines = place, 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if "tokenrank/recording" not in frame.f_code.co_filename and "trace/capture" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.place:
                raise KeyboardInterrupt
        return self


@contextmanager
def interrupted_at(place: int) -> Iterator[Interrupter]:
    interrupter, before = Interrupter(place), sys.gettrace()
    sys.settrace(interrupter)
    try:
        yield interrupter
    finally:
        sys.settrace(before)


def captured(model: Network, place: int) -> int:
    """Lines that ran; a capture of one call that is interrupted at the ``place``-th."""
    with interrupted_at(place) as interrupter, tr.capture(model):
        model(X)
    return interrupter.lines


@pytest.mark.slow
def test_an_interrupt_at_any_line_leaves_nothing():
    model = Network(0)
    lines = captured(model, -1)
    assert lines > 300
    # every line of the first and last parts, where a block begins and ends, and a sample of those between
    places = [*range(1, 200), *range(200, lines - 120, 23), *range(lines - 120, lines + 1)]
    for place in places:
        with pytest.raises(KeyboardInterrupt):
            captured(model, place)
        assert hooks(model) == 0, place
        assert _get_current_function_mode_stack() == [], place
        assert eval_frame._stance.stance == "default", place
        assert torch._C._is_torch_function_enabled(), place
        assert torch.is_grad_enabled(), place
    assert same(_captured_again(model), model)


def _captured_again(model: Network) -> tr.Trace:
    with tr.capture(model) as trace:
        model(X)
    return trace


@pytest.mark.slow
def test_a_thousand_captures_do_not_grow():
    model = Network(0)

    def kept() -> tuple[int, int]:
        gc.collect()
        return len(gc.get_objects()), len([*Path("/proc/self/fd").glob("*")])

    for _ in range(20):
        _captured_again(model)
    objects, files = kept()
    for _ in range(1000):
        _captured_again(model)
    more, more_files = kept()
    assert more - objects < 200
    assert more_files <= files
    assert hooks(model) == 0

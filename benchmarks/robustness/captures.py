"""Captures under faults: what goes wrong in one block must change neither its neighbours' records nor the process.

Fourteen faults, each in one thread with its neighbours taking turns (generators), in threads, and in asyncio tasks::

    python benchmarks/robustness/captures.py --rounds 5 --out benchmarks/results/robustness-captures.json
"""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import os
import random
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch.overrides import _get_current_function_mode_stack

import tokenrank as tr
from tokenrank.errors import CaptureError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from facts import facts, parser, save

Steps = Generator[None, None, bool]
"""A piece of work that stops where others may go on; it returns whether its records were right."""

NEIGHBOURS = 2
TIMES = 3  # calls of the model in a neighbour's block


class Attention(nn.Module):
    """Two heads of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Network(nn.Sequential):
    """Two layers of attention."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(Attention(), Attention())


X = torch.linspace(-1, 1, 40).reshape(1, 5, 8).sin()


def queries(model: nn.Module, x: Tensor = X) -> list[Tensor]:
    """q of both layers, computed by hand."""
    with torch.no_grad():
        found = []
        for layer in model:
            found.append(layer.qkv(x)[..., :8].unflatten(-1, (2, 4)).transpose(1, 2))
            x = layer(x)
        return found


def right(trace: tr.Trace, model: nn.Module, times: int = 1) -> bool:
    """Whether a trace holds the queries of so many calls, and nothing else."""
    wanted = queries(model) * times
    return len(trace.records) == len(wanted) and all(
        torch.allclose(record.q, q, atol=1e-6) for record, q in zip(trace.records, wanted, strict=True)
    )


def neighbour(model: nn.Module) -> Steps:
    """An ordinary capture that takes its time."""
    with tr.capture(model) as trace:
        for _ in range(TIMES):
            model(X)
            yield
    return right(trace, model, TIMES)


def exception_in_the_block(model: nn.Module) -> Steps:
    trace = None
    try:
        with tr.capture(model) as trace:
            model(X)
            yield
            raise ValueError("of the user's")
    except ValueError:
        return right(trace, model)


def exception_in_forward(model: nn.Module) -> Steps:
    broken = nn.Sequential(*model, nn.Linear(7, 7))
    with tr.capture(broken) as trace:
        for _ in range(2):
            try:
                broken(X)
            except RuntimeError:
                yield
    return right(trace, model, 2)


def hook_that_raises(model: nn.Module) -> Steps:
    def fail(*args: Any) -> None:
        raise ValueError("of the user's")

    handle = model.register_forward_pre_hook(fail)
    with tr.capture(model) as trace:
        try:
            model(X)
        except ValueError:
            yield
        handle.remove()
        model(X)
    return right(trace, model)


def interrupt(model: nn.Module) -> Steps:
    trace = None
    try:
        with tr.capture(model) as trace:
            model(X)
            yield
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return right(trace, model)


def block_let_go(model: nn.Module) -> Steps:
    block = tr.capture(model)
    trace = block.__enter__()
    model(X)
    yield
    del block
    gc.collect()
    model(X)
    return right(trace, model)


def copy_in_the_block(model: nn.Module) -> Steps:
    with tr.capture(model) as trace:
        other = copy.deepcopy(model)
        yield
        model(X)
        other(X)
    return right(trace, model) and torch.equal(other(X), model(X)) and not hooks(other)


def saved_in_the_block(model: nn.Module) -> Steps:
    buffer = io.BytesIO()
    with tr.capture(model) as trace:
        torch.save(model, buffer)
        yield
        model(X)
    buffer.seek(0)
    other = torch.load(buffer, weights_only=False)
    return right(trace, model) and torch.equal(other(X), model(X)) and not hooks(other)


def averaged_weights(model: nn.Module) -> Steps:
    with tr.capture(model) as trace:
        average = torch.optim.swa_utils.AveragedModel(model)
        model(X)
        yield
        average.update_parameters(model)
    return right(trace, model) and torch.equal(average(X), model(X))


def functional_call(model: nn.Module) -> Steps:
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    with tr.capture(model) as trace:
        torch.func.functional_call(model, weights, (X,))
        yield
    return right(trace, model)


def model_deleted(model: nn.Module) -> Steps:
    own = copy.deepcopy(model)
    with tr.capture(own) as trace:
        own(X)
        del own
        gc.collect()
        yield
    return right(trace, model)


def forked(model: nn.Module) -> Steps:
    with tr.capture(model) as trace:
        model(X)
        yield
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    return right(trace, model)


def ends_in_another_thread(model: nn.Module) -> Steps:
    block, refused = tr.capture(model), []
    trace = block.__enter__()
    model(X)
    yield

    def end() -> None:
        try:
            block.__exit__(None, None, None)
        except CaptureError:
            refused.append(True)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    model(X)
    with tr.capture(model):  # takes what the other thread could not take off this one
        model(X)
    return right(trace, model) and bool(refused)


def nested_of_one_model(model: nn.Module) -> Steps:
    with tr.capture(model) as outer:
        model(X)
        with tr.capture(model) as inner:
            model(X)
            yield
        model(X)
    return right(outer, model, 3) and right(inner, model)


def ends_before_the_one_inside(model: nn.Module) -> Steps:
    outer, inner = tr.capture(model), tr.capture(model)
    first = outer.__enter__()
    model(X)
    second = inner.__enter__()
    model(X)
    yield
    outer.__exit__(None, None, None)
    model(X)
    inner.__exit__(None, None, None)
    return right(first, model, 2) and right(second, model, 2)


FAULTS: tuple[Callable[[nn.Module], Steps], ...] = (
    exception_in_the_block, exception_in_forward, hook_that_raises, interrupt, block_let_go, copy_in_the_block,
    saved_in_the_block, averaged_weights, functional_call, model_deleted, forked, ends_in_another_thread,
    nested_of_one_model, ends_before_the_one_inside,
)  # fmt: skip


def hooks(model: nn.Module) -> int:
    """Hooks on all its modules."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def in_turns(works: list[Steps], draw: random.Random) -> list[bool]:
    """One thread; which goes on is drawn."""
    results: dict[int, bool] = {}
    while len(results) < len(works):
        place = draw.choice([place for place in range(len(works)) if place not in results])
        try:
            next(works[place])
        except StopIteration as end:
            results[place] = bool(end.value)
    return [results[place] for place in range(len(works))]


def in_threads(works: list[Steps], draw: random.Random) -> list[bool]:
    """One thread each, at once."""
    results, gate = [False] * len(works), threading.Barrier(len(works))

    def work(place: int) -> None:
        gate.wait()
        results[place] = in_turns([works[place]], draw)[0]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def in_tasks(works: list[Steps], draw: random.Random) -> list[bool]:
    """One asyncio task each, which waits a while wherever others may go on."""

    async def work(steps: Steps) -> bool:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return bool(end.value)
            await asyncio.sleep(draw.uniform(0, 0.003))

    async def everything() -> list[bool]:
        return list(await asyncio.gather(*map(work, works)))

    return asyncio.run(everything())


WAYS = {"one thread": in_turns, "threads": in_threads, "asyncio": in_tasks}


def process() -> tuple[Any, ...]:
    """What a capture may leave behind."""
    gc.collect()
    stack, names = _get_current_function_mode_stack(), {thread.name for thread in threading.enumerate()}
    return eval_frame._stance.stance, len(stack), names, torch._C._is_torch_function_enabled(), torch.is_grad_enabled()


def main() -> None:
    """Run everything and write the counts."""
    given = parser(__doc__, rounds=5).parse_args()
    torch.set_num_threads(1)
    rows, draw = [], random.Random(0)
    for fault in FAULTS:
        for way, run in WAYS.items():
            wrong, left = 0, 0
            for _ in range(given.rounds):
                # in one thread, and with it in every block that is open there, each work has a model of its own
                models = [Network(seed) for seed in range(NEIGHBOURS + 1)]
                if way != "one thread":
                    models = [models[0]] * (NEIGHBOURS + 1) if fault is not hook_that_raises else models
                before = process()
                results = run([fault(models[0]), *map(neighbour, models[1:])], draw)
                wrong += results.count(False)
                left += (process() != before) + sum(map(hooks, set(models)))
            rows.append({"fault": fault.__name__, "way": way, "wrong": wrong, "left_behind": left})
            print(f"{fault.__name__:28} {way:10} wrong {wrong}  left behind {left}", file=sys.stderr)
    counts = {name: sum(row[name] for row in rows) for name in ("wrong", "left_behind")}
    runs = {"faults": len(FAULTS), "ways": list(WAYS), "rounds": given.rounds, "neighbours": NEIGHBOURS}
    print({**runs, **counts})
    save(given.out, {**facts(), **runs, **counts}, rows)
    sys.exit(1 if any(counts.values()) else 0)


if __name__ == "__main__":
    main()

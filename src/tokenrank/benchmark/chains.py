"""TokenRank and |λ2| from queries and keys, beside the paper's dense loop on the same heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..chain import AttentionChain, TokenMap
from .clock import Run
from .heads import HEADS, WIDTH, synthetic_heads
from .loop import STEPS, Reached, dense, error_of, exact, fastest, google, power_steps, steps_taken
from .rows import Row, short
from .task import Task

ALPHA, TOLERANCES = 0.99, (1e-4, 1e-6)
OURS, LOOP, PUBLISHED, EIGEN = "tokenrank", "dense loop, as exact", f"dense loop, {STEPS} steps", "dense eigenvalues"
LONG = 4096  # tokens from which on a call is made once


@dataclass(frozen=True)
class Size:
    """Heads and tokens of one measurement.

    Attributes:
        tolerances: of TokenRank.
        eigenvalues: whether dense ones are had in seconds.
    """

    heads: int
    tokens: int
    tolerances: tuple[float, ...] = TOLERANCES
    eigenvalues: bool = True


def sizes(task: Task) -> list[Size]:
    """What a device takes in the time there is; of long sequences three heads, one of each kind, stand for all."""
    if task.cuda:
        few = [Size(HEADS, 1024, eigenvalues=False)]
        return few if task.quick else [*few, Size(2 * HEADS, 4608, eigenvalues=False)]
    if task.quick:
        return [Size(HEADS, 256), Size(HEADS, 1024, TOLERANCES[:1], eigenvalues=False)]
    return [Size(HEADS, 256), Size(HEADS, 1024), Size(3, LONG, eigenvalues=False)]


def chains(task: Task) -> Iterator[Row]:
    """The section "chain": everything included, from queries and keys to a proved answer.

    On CUDA queries and keys are bfloat16, as models hand them over; elsewhere float32. The loop is read along the rows
    of the matrix, which on CPUs is up to twenty times faster than the published order.
    """
    dtype = torch.bfloat16 if task.cuda else torch.float32
    for number, size in enumerate(sizes(task)):
        if number and task.clock.left <= 0:
            return
        q, k = (x.to(task.device, dtype) for x in synthetic_heads(size.tokens, size.heads))
        yield from _ranks(task, q, k, size.tolerances)
        yield from _slow(task, q, k, size.eigenvalues)


def _ranks(task: Task, q: Tensor, k: Tensor, tolerances: tuple[float, ...]) -> Iterator[Row]:
    scale, rounds = WIDTH**-0.5, task.rounds if q.shape[-2] < LONG else 1
    right = exact(q, k, scale, ALPHA)
    for tol in tolerances:
        name = f"TokenRank to {short(tol)}, {q.shape[0]} × {q.shape[-2]:,}"
        reached = fastest(q, k, scale, ALPHA, tol, right, task.clock)
        ours = partial(_tokenrank, q, k, tol)
        others = {LOOP: partial(steps_taken, reached, q, k, scale, ALPHA)} if rounds > 1 and reached.enough else {}
        found = task.clock.in_turn({OURS: ours, **others}, rounds)
        answer = ours()
        proved = answer.certificate
        assert proved is not None
        bound = None if proved.error_bound is None else float(proved.error_bound.max())
        more = {"error": error_of(answer.values, right), "bound": bound, "applies": proved.applies}
        yield Row("chain", name, OURS, found[OURS].seconds, runs=found[OURS].runs, more=more)
        seconds = found[LOOP].seconds if LOOP in found else reached.seconds
        times = found[LOOP].over(found[OURS]) if LOOP in found else seconds / found[OURS].seconds
        runs = found[LOOP].runs if LOOP in found else 1
        yield Row("chain", name, LOOP, seconds, times, OURS, runs, _told(reached))
    yield _published(task, q, k, right)


def _published(task: Task, q: Tensor, k: Tensor, right: Tensor) -> Row:
    def run() -> Tensor:
        x = torch.full(right.shape, 1 / right.shape[-1], device=right.device)
        return power_steps(google(dense(q, k, WIDTH**-0.5), ALPHA), x, STEPS)

    seconds, answer = task.clock.once(run)
    name = f"TokenRank, {q.shape[0]} × {q.shape[-2]:,}"
    return Row("chain", name, PUBLISHED, seconds, more={"error": error_of(answer, right), "steps": STEPS})


def _slow(task: Task, q: Tensor, k: Tensor, eigenvalues: bool) -> Iterator[Row]:
    name = f"|λ2|, {q.shape[0]} × {q.shape[-2]:,}"
    runs: dict[str, Run] = {OURS: lambda: AttentionChain.from_qk(q, k).lambda2()}
    if eigenvalues:
        a = AttentionChain.from_qk(q, k).to_dense().float()
        runs[EIGEN] = lambda: torch.linalg.eigvals(a)
    found = task.clock.in_turn(runs, task.rounds if q.shape[-2] <= 256 else 1)
    ours = found[OURS]
    yield Row("chain", name, OURS, ours.seconds, runs=ours.runs)
    if EIGEN in found:
        yield Row("chain", name, EIGEN, found[EIGEN].seconds, found[EIGEN].over(ours), OURS, found[EIGEN].runs)


def _tokenrank(q: Tensor, k: Tensor, tol: float) -> TokenMap:
    return AttentionChain.from_qk(q, k).tokenrank(ALPHA, tol=tol)


def _told(reached: Reached) -> dict[str, object]:
    return {"error": reached.error, "steps": reached.steps, "dtype": reached.dtype, "reached": reached.enough}

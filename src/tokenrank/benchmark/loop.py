"""The paper's dense loop, and how far it has to go until it is as right as an answer of ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..markov.engine.lu import factor
from .clock import Clock

STEPS = 200
"""Power steps of the paper's code."""


def dense(q: Tensor, k: Tensor, scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """softmax(scale · q kᵀ) in ``dtype``, (heads, N, N)."""
    return torch.softmax(scale * (q.to(dtype) @ k.to(dtype).mT), -1)


def power_steps(google: Tensor, x: Tensor, steps: int) -> Tensor:
    """xᵀG so many times, along the rows of G as memory has them. google (heads, N, N), x (heads, N)."""
    row = x[:, None]
    for _ in range(steps):
        row = row @ google
    return row[:, 0]


def google(a: Tensor, alpha: float) -> Tensor:
    """αA + (1 − α)/N, dense, as the paper's code builds it."""
    return alpha * a + (1 - alpha) / a.shape[-1]


def exact(q: Tensor, k: Tensor, scale: float, alpha: float) -> Tensor:
    """TokenRank (heads, N) in float64 by LU of every head, from softmax in float64, refined once.

    For up to some thousand tokens: 16 N² bytes a head.
    """
    found = []
    for queries, keys in zip(q, k, strict=True):
        a = dense(queries.double(), keys.double(), scale, torch.float64)
        a /= a.sum(-1, keepdim=True)
        n = a.shape[-1]
        system = torch.eye(n, dtype=a.dtype, device=a.device) - alpha * a.mT
        jump = torch.full((n, 1), (1 - alpha) / n, dtype=a.dtype, device=a.device)
        factors = factor(system)
        x = factors.solve(jump)
        x += factors.solve(jump - system @ x)
        found.append(x[:, 0] / x.sum())
    return torch.stack(found)


def error_of(answer: Tensor, right: Tensor) -> float:
    """The largest ℓ1 error over heads, of answers scaled to a sum of one."""
    x = answer.double()
    return float((x / x.sum(-1, keepdim=True) - right).abs().sum(-1).max())


@dataclass(frozen=True)
class Reached:
    """Where the loop came to.

    Attributes:
        steps: that it took.
        seconds: of softmax, G and these steps; the comparison with the exact answer is not counted.
        error: the largest ℓ1 error over heads after them.
        enough: whether that is the error that was asked for.
        dtype: in which it was; float64 where float32 cannot become so exact.
    """

    steps: int
    seconds: float
    error: float
    enough: bool
    dtype: str


def until(
    q: Tensor,
    k: Tensor,
    scale: float,
    alpha: float,
    tol: float,
    right: Tensor,
    clock: Clock,
    *,
    dtype: torch.dtype = torch.float32,
    most: int = 4000,
    pause: int = 16,
) -> Reached:
    """The loop until the true error of every head is ``tol``, looked at after every ``pause`` steps.

    A step brings it down to its α-fold at least, in exact arithmetic; the loop ends early where it no longer falls like
    that, since rounding in ``dtype`` stands in the way, and where the clock's end is reached.

    Args:
        q: (heads, N, d).
        k: the same shape.
        scale: factor of the logits.
        alpha: probability of following attention.
        tol: ℓ1 error.
        right: the exact answer, (heads, N), float64.
        clock: of the device.
        dtype: of the matrix and of the steps.
        most: steps.
        pause: steps between two looks.
    """
    seconds, g = clock.once(lambda: google(dense(q, k, scale, dtype), alpha))
    x = torch.full(right.shape, 1 / right.shape[-1], dtype=dtype, device=right.device)
    steps, error, before, least = 0, error_of(x, right), float("inf"), (1 + alpha**pause) / 2
    while error > tol and error < least * before and steps < most and clock.left > 0:
        before = error
        taken, x = clock.once(partial(power_steps, g, x, pause))
        seconds, steps, error = seconds + taken, steps + pause, error_of(x, right)
    return Reached(steps, seconds, error, error <= tol, str(dtype).removeprefix("torch."))


def fastest(
    q: Tensor, k: Tensor, scale: float, alpha: float, tol: float, right: Tensor, clock: Clock, most: int = 4000
) -> Reached:
    """``until`` in float32, or in float64 where rounding in float32 stands in the way."""
    found = until(q, k, scale, alpha, tol, right, clock, most=most)
    if found.enough or found.steps >= most or clock.left <= 0:
        return found
    return until(q, k, scale, alpha, tol, right, clock, dtype=torch.float64, most=most)


def steps_taken(reached: Reached, q: Tensor, k: Tensor, scale: float, alpha: float) -> Tensor:
    """The loop once more with the number of steps that are known to be enough; for the clock."""
    g = google(dense(q, k, scale, getattr(torch, reached.dtype)), alpha)
    x = torch.full(q.shape[:-1], 1 / q.shape[-2], dtype=g.dtype, device=g.device)
    return power_steps(g, x, reached.steps)

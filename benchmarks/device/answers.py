"""TokenRank and |λ2| from queries and keys to a certificate, beside the paper's loop until it is as right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tokenrank.benchmark.loop import Reached, error_of, exact, fastest
from tokenrank.benchmark.rows import short
from tokenrank.operators.device.path import Path

from .floors import Floors
from .record import Record, floored, measured
from .sizes import ALPHA, Size, chain_of, drawn, exact_step

SLACK = 1e-12
"""What an ℓ1 error in float64 is off by itself."""
EIGENVALUES_UP_TO = 1024


def answers(record: Record, floors: Floors, sizes: Sequence[Size]) -> None:
    """Every size: the loop and the exact answer first, where they fit; then ours, by tolerance; then |λ2|."""
    for size in sizes:
        if record.over:
            record.put(size.words, skipped="the section's share of the time is over")
            continue
        _Answers(record, floors, size).run()
        if record.device.type == "cuda":
            torch.cuda.empty_cache()


class _Answers:
    """All answers of one size."""

    def __init__(self, record: Record, floors: Floors, size: Size) -> None:
        self.record, self.floors, self.size = record, floors, size
        self.q, self.k = drawn(size, record.device)

    def run(self) -> None:
        size, right = self.size, None
        if size.dense:
            right = exact(self.q, self.k, size.scale, ALPHA)
        for tol in size.tolerances:
            self._rank(tol, right)
        self._lambda2()
        if size.host:
            tol = size.tolerances[0]
            name = f"TokenRank to {short(tol)}, the host's path, {size.words}"
            self.record.attempt(name, partial(self._ranked, "host", tol, right, 1))

    def _rank(self, tol: float, right: Tensor | None) -> None:
        size, record, name = self.size, self.record, f"TokenRank to {short(tol)}, {self.size.words}"
        loop: dict[str, Any] = {}
        if right is None:
            bytes_needed = 4 * size.heads * size.tokens**2
            record.put(f"the paper's loop, {name}", skipped=f"A alone takes {bytes_needed / 1e9:,.0f} GB")
        else:
            record.attempt(f"the paper's loop, {name}", partial(self._loop, tol, right, loop))
        rounds = 5 if size.dense else 1

        def ours() -> dict[str, Any]:
            row = self._ranked("device", tol, right, rounds)
            return {**row, "loop_s": loop["seconds"], "times_loop": loop["seconds"] / row["seconds"]} if loop else row

        record.attempt(name, ours)

    def _loop(self, tol: float, right: Tensor, loop: dict[str, Any]) -> dict[str, Any]:
        found: Reached = fastest(self.q, self.k, self.size.scale, ALPHA, tol, right, self.record.clock)
        if found.enough:
            loop["seconds"] = found.seconds
        return {
            "seconds": found.seconds, "steps": found.steps, "dtype": found.dtype, "error": found.error,
            "reached": found.enough,
        }  # fmt: skip

    def _ranked(self, path: Path, tol: float, right: Tensor | None, rounds: int) -> dict[str, Any]:
        """Ours: the proved bound must hold what the answer is off by, as LU or one step of the benchmark's own says."""
        answer: list[Any] = []

        def run() -> None:
            answer[:] = [chain_of(self.q, self.k, path).tokenrank(ALPHA, tol=tol)]

        found = self.record.clock.timed(run, rounds)
        values, proved = answer[0].values.to(self.q.device), answer[0].certificate
        bound, applies = float(proved.error_bound.max()), int(proved.applies)
        size = self.size
        floor = self.floors.answer(size.heads, size.tokens, size.width, self.q.dtype, applies)
        more: dict[str, Any] = {"bound": bound, "applies": applies, "method": proved.method}
        if right is not None:
            more["error"] = error_of(values, right)
            more["right"] = more["error"] <= bound + SLACK and bound <= tol
        else:
            more["residual_bound"] = self._residual_bound(values)
            more["right"] = more["residual_bound"] <= 2 * tol and bound <= tol
        return floored(measured(found, **more), floor, "applications, and one proof in float64")

    def _residual_bound(self, values: Tensor) -> float:
        """‖π − x‖₁ ≤ ‖αAᵀx + (1 − α)/N − x‖₁ / (1 − α), of one head of each kind, in float64."""
        few = self.size.few
        x = values[few].double()
        step = exact_step(self.q[few], self.k[few], self.size.scale, x)
        return float((ALPHA * step + (1 - ALPHA) / self.size.tokens - x).abs().sum(-1).max() / (1 - ALPHA))

    def _lambda2(self) -> None:
        size, beside = self.size, dict[str, Any]()
        if size.tokens <= EIGENVALUES_UP_TO:
            self.record.attempt(f"dense eigenvalues of the host, |λ2|, {size.words}", partial(self._dense, beside))
        self.record.attempt(f"|λ2|, {size.words}", partial(self._slow, "device", beside, 3 if size.dense else 1))
        if size.host:
            self.record.attempt(f"|λ2|, the host's path, {size.words}", partial(self._slow, "host", beside, 1))

    def _dense(self, beside: dict[str, Any]) -> dict[str, Any]:
        """Of one head of each kind, scaled to all; the exact values by the way."""
        few, size = self.size.few, self.size
        a = torch.softmax(size.scale * (self.q[few].double() @ self.k[few].double().mT), -1).cpu()
        seconds, values = self.record.clock.once(lambda: torch.linalg.eigvals(a))
        beside["exact"] = values.abs().sort(-1, descending=True).values[:, 1]
        return {"seconds": seconds * size.heads / len(a), "scaled_from_heads": len(a)}

    def _slow(self, path: Path, beside: dict[str, Any], rounds: int) -> dict[str, Any]:
        answer: list[Any] = []

        def run() -> None:
            answer[:] = [chain_of(self.q, self.k, path).lambda2()]

        found, size = self.record.clock.timed(run, rounds), self.size
        values, proved = answer[0].values.double().cpu(), answer[0].certificate
        applies, sure = int(proved.applies), ~proved.uncertain.cpu()
        floor = applies * self.floors.apply(size.heads, size.tokens, size.width, self.q.dtype)
        more: dict[str, Any] = {
            "applies": applies, "residual": float(proved.residual.max()), "uncertain": int((~sure).sum()),
        }  # fmt: skip
        if "exact" in beside:
            off, residual = (values[size.few] - beside["exact"]).abs(), proved.residual.cpu()[size.few]
            more["error"] = float(off.max())
            # certain values are as far off as their residual says, times what their condition allows
            more["right"] = bool((off <= 100 * residual + 1e-4)[sure[size.few]].all())
        return floored(measured(found, **more), floor, "applications")

"""Passes of guidance are in nobody's trace; acts of others stay in force in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import tokenrank as tr
from tokenrank.models.pipelines import of_pipeline
from tokenrank.recording import Act, Caller, FusedCall, acting
from tokenrank.tasks import guide

from .classic import STEPS, denoiser_of, pipe_of, run

FAMILIES = ["SD1.5", "SD3", "FLUX.1", "Z-Image"]
KINDS = ["blur", "identity"]


def table(trace: Any) -> list[tuple[Any, ...]]:
    return [(r.name, r.step, r.timestep, r.branches, tuple(r.shape), str(r.layout)) for r in trace.records]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["around", "inside"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_trace_has_the_records_of_a_run_without_guidance(name: str, order: str, kind: str) -> None:
    pipe = pipe_of(name)
    with tr.capture(pipe) as plain:
        expected = run(name)
    if order == "around":
        with tr.capture(pipe) as trace, guide(pipe, kind) as guidance:
            made = run(name)
    else:
        with guide(pipe, kind) as guidance, tr.capture(pipe) as trace:
            made = run(name)
    assert guidance.passes == STEPS
    assert table(trace) == table(plain)
    for got, known in zip(trace.records, plain.records, strict=True):
        if got.step == 0:  # the first input is the same one
            assert got.q is not None
            assert torch.equal(got.q, known.q)
    assert not torch.equal(made, expected)


class Count(Act):
    """Hides nothing, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        self.calls += 1
        return call


@pytest.mark.parametrize("kind", KINDS)
def test_acts_of_others_go_on_in_the_passes_of_guidance(kind: str) -> None:
    pipe = pipe_of("FLUX.1")
    counts = []
    for guided in (False, True):
        act = Count()
        with acting(denoiser_of(pipe), act):
            if guided:
                with guide(pipe, kind):
                    run("FLUX.1")
            else:
                run("FLUX.1")
        counts.append(act.calls)
    assert counts[1] == counts[0] * 3 // 2  # two calls a step, and one more


def test_hooks_on_the_denoiser_do_not_see_the_passes_of_guidance() -> None:
    pipe, seen = pipe_of("SD1.5"), list[Tensor]()
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        with guide(pipe):
            run("SD1.5")
    finally:
        handle.remove()
    assert len(seen) == STEPS


def test_a_loaded_pipeline_is_guided_as_the_pipeline_itself() -> None:
    pipe = pipe_of("FLUX.1")
    with tr.tasks.guide(of_pipeline(pipe), scale=5.0) as loaded:
        ours = run("FLUX.1")
    with tr.tasks.guide(pipe, scale=5.0):
        theirs = run("FLUX.1")
    assert loaded.passes > 0
    assert torch.equal(ours, theirs)

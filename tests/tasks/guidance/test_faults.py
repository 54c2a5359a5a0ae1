"""Whatever goes wrong and wherever: no hook, no mode and no compiler setting is left behind."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

pytest.importorskip("diffusers")

from tokenrank.recording.block import UNCOMPILED
from tokenrank.tasks import guide
from tokenrank.tasks.guidance import engine, layer_attention

from .classic import denoiser_of, hooks, pipe_of, run

NAME = "FLUX.1"


class Stop(BaseException):
    """As an interrupt from the keyboard: no ``Exception``."""


@contextlib.contextmanager
def failing(owner: Any, name: str, error: type[BaseException], call: int) -> Any:
    """``owner.name`` raises in its call number ``call``."""
    real, calls = getattr(owner, name), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error("here")
        return real(*args, **kwargs)

    had = name in vars(owner)
    setattr(owner, name, broken)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, real)
        else:
            delattr(owner, name)
        assert calls >= call


def layer() -> Any:
    return denoiser_of(pipe_of(NAME)).get_submodule("single_transformer_blocks.0.attn")


PLACES: dict[str, Callable[[], tuple[Any, str, int]]] = {
    "own pass": lambda: (denoiser_of(pipe_of(NAME)), "forward", 1),
    "inner pass": lambda: (denoiser_of(pipe_of(NAME)), "forward", 3),
    "own layer": lambda: (layer(), "forward", 1),
    "layer of the second call": lambda: (layer(), "forward", 2),
    "inner layer": lambda: (layer(), "forward", 3),
    "projection in a layer": lambda: (layer().to_q, "forward", 1),
    "sampler": lambda: (pipe_of(NAME).scheduler, "step", 1),
    "levels": lambda: (engine, "level_of", 1),
    "the mask": lambda: (engine, "mask_of_layers", 1),
    "the mean over heads": lambda: (layer_attention, "mean_over", 1),
    "the blur": lambda: (engine, "degraded", 1),
    "the end of the first step": lambda: (engine, "with_prediction", 1),
    "the arguments": lambda: (engine, "by_name", 1),
}


def state() -> tuple[Any, ...]:
    return hooks(pipe_of(NAME)), tuple(_get_current_function_mode_stack()), UNCOMPILED._stance is None


@pytest.mark.parametrize("error", [RuntimeError, Stop])
@pytest.mark.parametrize("place", list(PLACES))
def test_nothing_is_left_behind(place: str, error: type[BaseException]) -> None:
    plain, before = run(NAME), state()
    owner, name, call = PLACES[place]()
    with pytest.raises(error, match="here"), failing(owner, name, error, call), guide(pipe_of(NAME)):
        run(NAME)
    assert state() == before
    assert torch.equal(run(NAME), plain)


@pytest.mark.parametrize("error", [RuntimeError, Stop])
def test_nor_by_a_perturbed_pass(error: type[BaseException]) -> None:
    plain, before = run(NAME), state()
    for owner, call in ((denoiser_of(pipe_of(NAME)), 2), (layer(), 2), (layer().to_q, 2)):
        with pytest.raises(error), failing(owner, "forward", error, call), guide(pipe_of(NAME), "identity"):
            run(NAME)
        assert state() == before
    assert torch.equal(run(NAME), plain)


def test_nor_by_the_block_itself() -> None:
    before = state()
    with contextlib.suppress(ZeroDivisionError), guide(pipe_of(NAME)):
        assert state() != before
        raise ZeroDivisionError
    assert state() == before


def test_a_run_goes_on_after_one_that_failed() -> None:
    with guide(pipe_of(NAME)):
        expected = run(NAME)
    with guide(pipe_of(NAME)) as guidance:
        with pytest.raises(RuntimeError), failing(layer(), "forward", RuntimeError, 4):
            run(NAME)
        assert torch.equal(run(NAME), expected)
    assert len(guidance.masks) == 3


def test_copies_of_the_denoiser_are_not_guided() -> None:
    pipe = pipe_of(NAME)
    with guide(pipe):
        run(NAME)
        twin = copy.deepcopy(denoiser_of(pipe))
    assert hooks(pipe) == 0
    inputs = {
        "hidden_states": torch.zeros(1, 24, 16), "encoder_hidden_states": torch.zeros(1, 7, 16),
        "pooled_projections": torch.zeros(1, 16), "timestep": torch.tensor([0.5]),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(6.0)),
        "txt_ids": torch.zeros(7, 3),
    }  # fmt: skip
    twin(**inputs)  # outside of any pipeline, where a guided one refuses
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in twin.modules()) == 0

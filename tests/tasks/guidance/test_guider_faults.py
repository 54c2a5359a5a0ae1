"""Whatever ends a step early: denoiser and attention are as before, and the next generation is right."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, texts  # noqa: E402

from .test_guider import marks  # noqa: E402

STEPS = 2
WATCHED, DEGRADED = 2, 3  # numbers of the calls in a step, from 1: conditional, unconditional, degraded


class Fault(Exception):  # noqa: N818  errors of this name are real ones
    """An error of somebody else's."""


def fail(error: type[BaseException] = Fault) -> None:
    raise error("here")


class Loop:
    """A generation that fails at one place.

    Attributes:
        at: what is done at a place, by its name.
    """

    def __init__(self, name: str = "SD3", **options: Any) -> None:
        self.denoiser = DENOISERS[name]
        self.module = self.denoiser.build()
        self.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        self.guider = tr.tasks.Guider(**options).attach(self.scheduler)
        self.at: dict[tuple[str, int], Callable[[], None]] = {}

    def place(self, name: str, number: int = 0) -> None:
        """A place of the loop that is reached."""
        self.at.get((name, number), lambda: None)()

    def run(self) -> Tensor:
        """Latents."""
        self.scheduler.set_timesteps(STEPS)
        x = torch.randn(self.denoiser.latents, generator=torch.Generator().manual_seed(1))
        for i, time in enumerate(self.scheduler.timesteps):
            self.guider.set_state(step=i, num_inference_steps=STEPS, timestep=time)
            passes = self.guider.prepare_inputs({"text": texts()})
            for number, one in enumerate(passes, 1):
                self.guider.prepare_models(self.module)
                self.place("prepared", number)
                with torch.no_grad():
                    one.noise_pred = self.denoiser.call(self.module, x, one.text)
                self.place("called", number)
                self.guider.cleanup_models(self.module)
                self.place("cleaned", number)
            x = self.scheduler.step(self.guider(passes)[0], time, x).prev_sample
            self.place("stepped")
        return x


def inside(loop: Loop, number: int, error: type[BaseException] = Fault, last: bool = False) -> Callable[[], None]:
    """Fail within call ``number`` of the denoiser, in the middle of it or at its end; what takes the fault away."""
    part = loop.module.norm_out if last else loop.module.transformer_blocks[1]
    return hooked(part, number, lambda: fail(error))


def hooked(part: nn.Module, number: int, what: Callable[[], None], before: bool = True) -> Callable[[], None]:
    calls: list[int] = []

    def met(*_: Any) -> None:
        calls.append(0)
        if len(calls) == number:
            what()

    handle = part.register_forward_pre_hook(met) if before else part.register_forward_hook(met)
    return handle.remove


def nothing() -> None:
    """No fault to take away."""


def at(place: str, number: int = 0, error: type[BaseException] = Fault) -> Callable[[Loop], Callable[[], None]]:
    def set_up(loop: Loop) -> Callable[[], None]:
        loop.at[place, number] = lambda: fail(error)
        return loop.at.clear

    return set_up


def unknown_time(loop: Loop) -> Callable[[], None]:
    """A timestep that the schedule does not have: found out between two passes."""

    def forget() -> None:
        loop.guider._time = torch.tensor(-5000.0)

    loop.at["cleaned", WATCHED] = forget
    return loop.at.clear


def two_shapes(loop: Loop) -> Callable[[], None]:
    """Predictions that cannot be added."""
    calls: list[int] = []

    def cut(module: Any, args: Any, out: Any) -> Any:
        calls.append(0)
        return (out[0][..., :-1],) if len(calls) == DEGRADED else None

    return loop.module.register_forward_hook(cut).remove


PLACES: dict[str, tuple[Callable[[Loop], Callable[[], None]], type[BaseException], dict[str, Any]]] = {
    "a hook before the watched pass": (lambda loop: hooked(loop.module, WATCHED, fail), Fault, {}),
    "in the first pass": (lambda loop: inside(loop, 1), Fault, {}),
    "in the watched pass": (lambda loop: inside(loop, WATCHED), Fault, {}),
    "in the watched pass, interrupted": (lambda loop: inside(loop, WATCHED, KeyboardInterrupt), KeyboardInterrupt, {}),
    "at the end of the watched pass": (lambda loop: inside(loop, WATCHED, last=True), Fault, {}),
    "a hook after the watched pass": (lambda loop: hooked(loop.module, WATCHED, fail, before=False), Fault, {}),
    "between its preparation and the watched pass": (at("prepared", WATCHED), Fault, {}),
    "between the watched pass and its cleaning up": (at("called", WATCHED), Fault, {}),
    "the mask": (lambda loop: nothing, tr.errors.InputError, {"layers": ["down*attn1", "mid*attn1"]}),
    "the noise schedule": (unknown_time, tr.errors.InputError, {}),
    "a hook before the degraded pass": (lambda loop: hooked(loop.module, DEGRADED, fail), Fault, {}),
    "between its preparation and the degraded pass": (
        at("prepared", DEGRADED, KeyboardInterrupt), KeyboardInterrupt, {},
    ),
    "in the degraded pass": (lambda loop: inside(loop, DEGRADED), Fault, {}),
    "in the degraded pass, perturbed": (lambda loop: inside(loop, DEGRADED), Fault, {"kind": "smooth"}),
    "in the degraded pass, interrupted": (
        lambda loop: inside(loop, DEGRADED, KeyboardInterrupt), KeyboardInterrupt, {"kind": "identity"},
    ),
    "the choice of heads": (lambda loop: nothing, tr.errors.InputError, {"kind": "identity", "heads": [9]}),
    "a hook after the degraded pass": (lambda loop: hooked(loop.module, DEGRADED, fail, before=False), Fault, {}),
    "the guided prediction": (two_shapes, RuntimeError, {}),
    "the sampler": (at("stepped"), Fault, {}),
}  # fmt: skip


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Nothing is left: at no module, on no stack, of the compiler."""
    before, modes = marks(module), len(_get_current_function_mode_stack())
    yield
    gc.collect()  # a step that ended between two calls is over when its inputs are gone
    assert marks(module) == before
    assert len(_get_current_function_mode_stack()) == modes
    assert torch._dynamo.eval_frame._stance.stance != "force_eager"


@pytest.mark.parametrize("where", PLACES)
def test_nothing_is_left(where: str) -> None:
    set_up, error, options = PLACES[where]
    name = "SD1.5" if where == "the mask" else "SD3"
    loop = Loop(name, **options)
    take_away = set_up(loop)
    with unchanged(loop.module), pytest.raises(error):
        loop.run()
    take_away()
    if set_up(Loop(name)) is nothing:  # what was asked for is wrong, and stays so
        return
    fresh = Loop(name, **options)
    with unchanged(loop.module):
        assert torch.equal(loop.run(), fresh.run())


@pytest.mark.parametrize("kind", ["blur", "smooth"])
@pytest.mark.parametrize("number", [WATCHED, DEGRADED])
def test_a_trace_that_goes_on_sees_what_comes_after(number: int, kind: str) -> None:
    loop = Loop(kind=kind)
    with tr.capture(loop.module) as trace:
        take_away = inside(loop, number)
        with pytest.raises(Fault):
            loop.run()
        take_away()
        gc.collect()
        before = len(trace.records)
        with torch.no_grad():
            loop.denoiser.call(loop.module, torch.randn(loop.denoiser.latents), texts()[0])
        assert len(trace.records) == before + 2


def test_the_error_keeps_its_traceback() -> None:
    loop = Loop()
    inside(loop, DEGRADED)
    with pytest.raises(Fault) as caught:
        loop.run()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[0] != "fail"
    assert names[-1] == "fail"
    assert "run" in names

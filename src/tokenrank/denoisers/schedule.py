"""How noisy the input of a denoiser is at a timestep, and what its output says is in it.

Every sampler of diffusers gives its denoiser ``x = signal · clean + noise · noise``; samplers differ in the two
factors, in what a timestep is, and in whether the input is scaled. ``level_of`` finds the factors **in the scale that
the denoiser is given**, ``parts`` takes an input and an output apart, ``mixed`` puts them together again.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a denoiser puts out: the noise ε, the velocity v = signal · ε - noise · clean of Salimans and Ho (2022, app. D),
the clean picture, or the flow ε - clean of rectified flows (Liu et al. 2023)."""

_SLACK = 2.0**-7
"""Of a timestep: as far as one rounded to bfloat16, as some pipelines give it, may lie from the sampler's."""


@dataclass(frozen=True)
class Level:
    """What an input of a denoiser is made of: ``x = signal · clean + noise · noise``."""

    signal: float
    noise: float


def prediction_of(scheduler: Any) -> Prediction:
    """What a denoiser that runs with ``scheduler`` puts out.

    Raises:
        InputError: a scheduler of another kind than those of ``level_of``.
    """
    if _is_flow(scheduler):
        return "flow"
    kind = _setting(scheduler, "prediction_type")
    known: dict[Any, Prediction] = {"epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "sample"}
    if kind not in known or not hasattr(scheduler, "alphas_cumprod"):
        raise _unknown(scheduler, f"prediction_type = {kind!r}")
    return known[kind]


def level_of(scheduler: Any, timestep: float | Tensor) -> Level:
    """The level of the input that a denoiser is given at a timestep of ``scheduler``.

    Where the scheduler runs (``set_timesteps`` was called), its own sigmas are looked up, so that Karras sigmas,
    shifted flows and timesteps without whole numbers are exact; a timestep between them is read off the schedule of
    the training. Of a timestep that occurs twice, as in Heun's method, the occurrence is taken at which the scheduler
    is.

    Args:
        scheduler: of diffusers, with ``alphas_cumprod`` (DDIM, DDPM, PNDM, DPM-Solver++, UniPC, Euler, Heun, LMS, …)
            or of a flow (``FlowMatch…``, or ``use_flow_sigmas``).
        timestep: in the scheduler's unit, that of ``scheduler.timesteps``; a tensor of equal values, one per sample,
            counts as one.

    Raises:
        InputError: another kind of scheduler, several timesteps, or one that the schedule does not have.
    """
    t = _one(timestep)
    if getattr(scheduler, "state_in_first_order", True) is False and hasattr(scheduler, "scale_model_input"):
        return _scaled(scheduler, t)
    sigma = _listed(scheduler, t)
    if _is_flow(scheduler):
        sigma = t / float(_setting(scheduler, "num_train_timesteps") or 1000) if sigma is None else sigma
        if not -1e-6 <= sigma <= 1 + 1e-6:
            raise InputError(f"timestep {t:g} is no time of a flow of {type(scheduler).__name__}: its share of noise "
                             f"would be {sigma:g}, expected 0 … 1")  # fmt: skip
        return Level(1.0 - sigma, sigma)
    if not hasattr(scheduler, "alphas_cumprod") or _is_preconditioned(scheduler):
        raise _unknown(scheduler, "another kind of noise schedule")
    if sigma is None:
        return _trained(scheduler, t)
    signal = 1.0 / math.sqrt(1.0 + sigma * sigma)
    return Level(signal, sigma * signal)


def place_of(scheduler: Any, timestep: float | Tensor) -> tuple[int, int]:
    """The number of the step that a timestep belongs to, from 0, and how many steps the run has.

    Args:
        scheduler: of diffusers, with ``timesteps``.
        timestep: as in ``level_of``.

    Raises:
        InputError: a timestep that is not in the list.
    """
    place = _index(scheduler, _one(timestep))
    if place is None:
        raise InputError(
            f"timestep {_one(timestep):g} is none of the scheduler's; expected one of scheduler.timesteps, which "
            "set_timesteps makes"
        )
    return place, len(scheduler.timesteps)


def parts(x: Tensor, output: Tensor, level: Level, kind: Prediction) -> tuple[Tensor, Tensor]:
    """The clean picture and the noise that an output says are in an input.

    Args:
        x: input of the denoiser, any shape.
        output: the denoiser's, shaped alike.
        level: of the input.
        kind: of the output.

    Returns:
        Clean and noise, shaped alike, in float32 or better: ``mixed`` of them is ``x``.

    Raises:
        InputError: an output that does not tell them, such as ε of an input that is nothing but noise.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    x, output, signal, noise = x.to(wide), output.to(wide), level.signal, level.noise
    if kind == "flow":
        return x - noise * output, x + signal * output
    if kind == "v_prediction":
        return signal * x - noise * output, noise * x + signal * output
    if kind == "epsilon":
        if signal == 0:
            raise InputError("an input without any signal does not tell the clean picture from its noise; expected a "
                             "prediction of v or of the sample, as networks trained to zero signal have")  # fmt: skip
        return (x - noise * output) / signal, output
    if kind == "sample":
        if noise == 0:
            return output, torch.zeros_like(output)
        return output, (x - signal * output) / noise
    raise InputError(f"kind = {kind!r} of an output, expected 'epsilon', 'v_prediction', 'sample' or 'flow'")


def mixed(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    """The input of a denoiser that has these two in it: ``signal · clean + noise · noise``."""
    return level.signal * clean + level.noise * noise


def _one(timestep: float | Tensor) -> float:
    if not isinstance(timestep, Tensor):
        return float(timestep)
    values = timestep.detach().double().flatten()
    if values.numel() == 0 or bool((values != values[0]).any()):
        raise InputError(f"timesteps {values.tolist()[:4]} of one call, expected one for all samples")
    return float(values[0])


def _listed(scheduler: Any, t: float) -> float | None:
    """The sigma that the scheduler has for a timestep of its list."""
    sigmas, place = getattr(scheduler, "sigmas", None), _index(scheduler, t)
    if place is None or not isinstance(sigmas, Tensor) or len(sigmas) < len(scheduler.timesteps):
        return None
    return float(sigmas[place])


def _index(scheduler: Any, t: float) -> int | None:
    """The place of a timestep in the scheduler's list; None where it is not in it."""
    times = getattr(scheduler, "timesteps", None)
    if not isinstance(times, Tensor) or not len(times):
        return None
    off = [abs(float(time) - t) for time in times.tolist()]
    least = min(off)
    slack = max(_SLACK * abs(t), 1e-6)
    if least > slack:
        return None
    at = getattr(scheduler, "step_index", None)
    at = getattr(scheduler, "begin_index", None) if at is None else at
    if isinstance(at, int) and 0 <= at < len(off):
        rounded = least > 1e-6 and off[at] <= slack  # the step that runs, rather than one that is nearer by rounding
        if off[at] == least or rounded:
            return at
    return off.index(least)


def _scaled(scheduler: Any, t: float) -> Level:
    """Between two steps of a method of second order, whose sigma only its scaling of inputs tells."""
    one = torch.ones((), dtype=torch.float64)
    signal = float(copy.copy(scheduler).scale_model_input(one, torch.tensor(t)))
    return Level(signal, math.sqrt(max(0.0, 1.0 - signal * signal)))


def _trained(scheduler: Any, t: float) -> Level:
    """Off the schedule of the training, between whole timesteps by the logarithm of sigma, as samplers do."""
    squares = scheduler.alphas_cumprod
    if not 0 <= t <= len(squares) - 1:
        raise InputError(f"timestep {t:g} is none of the {len(squares)} of {type(scheduler).__name__}, expected "
                         f"0 … {len(squares) - 1}")  # fmt: skip
    low = int(t)
    square = float(squares[low])
    if low != t:
        first, last = (math.log(float(squares[k])) - math.log1p(-float(squares[k])) for k in (low, low + 1))
        square = 1.0 / (1.0 + math.exp(-(first + (t - low) * (last - first))))
    return Level(math.sqrt(square), math.sqrt(max(0.0, 1.0 - square)))


def _is_flow(scheduler: Any) -> bool:
    named = any("FlowMatch" in c.__name__ for c in type(scheduler).__mro__)
    if named and _setting(scheduler, "invert_sigmas"):
        raise _unknown(scheduler, "invert_sigmas = True, a flow that runs from 0 to 1")
    return named or bool(_setting(scheduler, "use_flow_sigmas"))


def _is_preconditioned(scheduler: Any) -> bool:
    """Karras et al. (2022): the output is neither ε nor v."""
    return _setting(scheduler, "sigma_data") is not None and not hasattr(scheduler, "betas")


def _setting(scheduler: Any, name: str) -> Any:
    config = getattr(scheduler, "config", None)
    return config.get(name) if config is not None and hasattr(config, "get") else getattr(config, name, None)


def _unknown(scheduler: Any, found: str) -> InputError:
    return InputError(
        f"{type(scheduler).__name__} has {found}, expected a scheduler with alphas_cumprod that predicts epsilon, "
        "v_prediction or sample (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, …) or a flow "
        "(FlowMatchEulerDiscreteScheduler); pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config) is one"
    )

"""One pass of a denoiser over a real picture, as its pipeline itself would make it.

The pipeline is called with the prompt and stopped when it calls its denoiser for the first time: embeddings, places of
tokens, sizes and guidance are then those that it made. Latents and timestep are replaced by those of the picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import PIL.Image
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..recording.evidence import bound_inputs
from .encode import encoded
from .family import Family, family_of
from .pipeline import check_visible, denoiser_of, size_for, text_to_image
from .schedule import Level, level_of, mixed, prediction_of

Noise: TypeAlias = "float | tuple[int, int]"
"""How much noise: its share noise / (signal + noise), above 0 and at most 1, or (k, n): step k, from 0, of n."""

_STEPS = 10  # of a schedule that only its first call is wanted of


@dataclass(frozen=True)
class Pass:
    """One forward call of a denoiser, ready to be made: ``pass_.denoiser(**pass_.inputs)``.

    Attributes:
        denoiser: the module.
        inputs: keyword arguments, as the pipeline gives them.
        clean, noise: latents of the picture and noise that were mixed, float32, in the denoiser's shape but for lists.
        timestep: of the pipeline's scheduler.
        level: how the two were mixed.
    """

    denoiser: nn.Module
    inputs: Mapping[str, Any]
    clean: Tensor
    noise: Tensor
    timestep: float
    level: Level


def passes(
    pipe: Any,
    picture: PIL.Image.Image,
    prompt: str | None,
    *,
    noise: Noise = 0.5,
    samples: int = 1,
    seed: int = 0,
    size: int | None = None,
    call: Mapping[str, Any] | None = None,
) -> list[Pass]:
    """The forward calls over a picture at a noise level, one for each noise sample; the pipeline stays untouched.

    Args:
        pipe: a pipeline of a known family, see ``family_of``.
        picture: upright RGB.
        prompt: what the denoiser is told; None where embeddings are given in ``call``.
        noise: see ``Noise``. A share is the same mixture in every family; the timestep is the one where it occurs.
        samples: how many, each with noise of its own.
        seed: of the noise; sample i takes seed + i.
        size: long side in pixels; near the picture's own where None, see ``pipeline.size_for``.
        call: further arguments of the pipeline's call, such as ``prompt_embeds`` or ``max_sequence_length``, which is
            by default no more than what the pipeline's tokenizer takes.

    Raises:
        InputError: an unknown family, a video model, an attention backend that hides queries and keys, a size that does
            not fit, a noise level that does not exist, arguments that the pipeline refuses or that turn guidance on.
    """
    family = family_of(pipe)
    check_visible(pipe)
    if samples < 1:
        raise InputError(f"samples = {samples}, expected 1 or more, each with noise of its own")
    height, width = size_for(pipe, family, picture, size)
    twin = text_to_image(pipe, family)
    steps = _STEPS if isinstance(noise, int | float) else _step_of(noise)[1]
    given = _first_call(twin, family, prompt, height, width, steps, dict(call or {}))
    timestep, level = _at(twin.scheduler, noise)

    denoiser, latents = denoiser_of(pipe), _tensor(given[family.latents], family)
    clean = encoded(twin, family, picture, height, width).to(latents.device)
    if clean.shape != latents.shape:
        raise InputError(
            f"the pipeline gives its denoiser latents {tuple(latents.shape)} for {height} × {width} pixels, and its "
            f"autoencoder made {tuple(clean.shape)} of the picture; expected a denoiser from text to picture with its "
            "own autoencoder, not one that takes a mask or a second picture beside the latents"
        )
    time = family.told(timestep.to(latents.device).expand(1).to(given[family.timestep].dtype))
    made = []
    for sample in range(samples):
        drawn = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed + sample)).to(clean)
        x = mixed(clean, drawn, level).to(latents.dtype)
        own = {family.latents: _given(x, family), family.timestep: time.reshape(given[family.timestep].shape)}
        made.append(Pass(denoiser, given | own, clean, drawn, float(timestep), level))
    return made


class _Stopped(Exception):  # noqa: N818  no error
    """The denoiser was called, with these arguments by name."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.inputs = dict(inputs)


def _first_call(
    twin: Any, family: Family, prompt: str | None, height: int, width: int, steps: int, call: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of the pipeline's first call of its denoiser."""
    denoiser = denoiser_of(twin)
    known = inspect.signature(twin.__call__).parameters
    told = {"prompt": prompt, "height": height, "width": width, "num_inference_steps": steps, "output_type": "latent",
            "generator": torch.Generator().manual_seed(0)}  # fmt: skip
    arguments = shorter_text(twin, known) | dict(family.alone) | call
    for name in arguments:
        if name in told or name not in known:
            taken = f"{name} is set by this pass" if name in told else f"no argument {name!r}"
            free = ", ".join(key for key in known if key not in told)
            raise InputError(f"{taken}; arguments of {type(twin).__name__} that can be given are {free}")

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Stopped(bound_inputs(module, args, kwargs))

    hook = denoiser.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
    try:
        with torch.compiler.set_stance("force_eager"):
            twin(**told, **arguments)
    except _Stopped as stopped:
        given = stopped.inputs
    except (ValueError, TypeError) as error:
        raise InputError(f"{type(twin).__name__} refuses the call: {error}") from error
    else:
        raise InputError(f"{type(twin).__name__} made a picture without a call of its {type(denoiser).__name__}")
    finally:
        hook.remove()
    latents = given.get(family.latents)
    count = len(latents) if isinstance(latents, list | tuple | Tensor) else 0
    if count != 1:
        raise InputError(
            f"with {call} the pipeline gives its denoiser a batch of {count}, expected one prompt without guidance; "
            "leave out what turns guidance on"
        )
    return given


def shorter_text(pipe: Any, known: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """``max_sequence_length`` where the tokenizer that it is about takes less than the pipeline's default.

    Args:
        pipe: of a known family.
        known: parameters of its call.
    """
    reader = getattr(pipe, family_of(pipe).reader, None)
    length, limit = known.get("max_sequence_length"), getattr(reader, "model_max_length", None)
    if length is None or limit is None or not isinstance(length.default, int) or limit >= length.default:
        return {}
    return {"max_sequence_length": int(limit)}


def _step_of(noise: tuple[int, int]) -> tuple[int, int]:
    if len(noise) != 2 or not all(isinstance(n, int) for n in noise) or not 0 <= noise[0] < noise[1]:
        raise InputError(f"noise = {noise!r}, expected a share above 0 and at most 1, or (k, n): step k, from 0, of n")
    return noise


def _at(scheduler: Any, noise: Noise) -> tuple[Tensor, Level]:
    """The timestep and the level of a noise level, of a scheduler whose steps are set."""
    if not isinstance(noise, int | float):
        step, count = _step_of(noise)
        times = scheduler.timesteps
        if step >= len(times):
            raise InputError(f"step {step} of {count}, but the scheduler makes {len(times)} steps of them")
        return times[step], level_of(scheduler, times[step])
    if not 0 < noise <= 1:
        raise InputError(f"noise = {noise!r}, expected a share above 0 and at most 1, or (k, n): step k, from 0, of n")
    if prediction_of(scheduler) == "flow":
        return torch.tensor(noise * scheduler.config.num_train_timesteps), Level(1.0 - noise, float(noise))
    signal, other = (scheduler.alphas_cumprod.double() ** 0.5, (1 - scheduler.alphas_cumprod.double()) ** 0.5)
    step = int((other / (signal + other) - noise).abs().argmin())
    return torch.tensor(step), Level(float(signal[step]), float(other[step]))


def _tensor(latents: Any, family: Family) -> Tensor:
    """The latents that a denoiser is given, as one tensor."""
    if family.form == "listed":
        return torch.stack(list(latents))[:, :, 0]
    assert isinstance(latents, Tensor)
    return latents


def _given(latents: Tensor, family: Family) -> Any:
    return list(latents[:, :, None].unbind(0)) if family.form == "listed" else latents

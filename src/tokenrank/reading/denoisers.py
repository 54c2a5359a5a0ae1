"""Denoisers as sources: a real picture with noise through a pipeline, and the steps in which it made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image
import torch

from ..denoisers.family import family_of
from ..denoisers.look import Noise, Pass, passes
from ..denoisers.memory import size_that_fits
from ..denoisers.pipeline import cell, check_visible, denoiser_of, is_pipeline, size_for
from ..errors import CaptureError, InputError, first_line
from ..layout import LayoutChoice
from ..memory import is_out_of_memory
from ..models import Model
from ..observation import Denoised, Ran
from ..recording import LayerSelection
from ..select import whole_number
from ..trace import Trace, capture


@dataclass(frozen=True)
class Denoising:
    """How a picture is given to a denoiser; see ``tokenrank.denoisers.look.passes``."""

    prompt: str | None = None
    noise: Noise = 0.5
    samples: int = 1
    seed: int = 0
    size: int | None = None
    call: Mapping[str, Any] = field(default_factory=dict)


def pipeline_of(model: Any) -> Any:
    """The pipeline that a model is, or holds; None where there is none."""
    return model if is_pipeline(model) else model.pipeline if isinstance(model, Model) else None


def of_picture(
    picture: PIL.Image.Image, model: Model, how: Denoising, layers: LayerSelection, layout: LayoutChoice
) -> Denoised:
    """What a pipeline's denoiser attends to in a real picture; it runs when something is first asked.

    Raises:
        InputError: neither prompt nor embeddings, an unknown family, a video model, a hidden attention, a size that
            does not fit. What else ``passes`` may raise comes with the first question.
    """
    if how.prompt is None and "prompt_embeds" not in how.call:
        raise InputError(
            f"{model.name} denoises what a prompt says, and none was given; give one, prompt='a cat', or the empty "
            "one, prompt=''"
        )
    _check(how)
    check_visible(model.pipeline)
    size_for(model.pipeline, family_of(model.pipeline), picture, how.size)  # so that what does not fit is told at once

    def at(size: int | None) -> Ran:
        made = passes(
            model.pipeline, picture, how.prompt, noise=how.noise, samples=how.samples, seed=how.seed, size=size,
            call=how.call,
        )  # fmt: skip
        return _ran(made, layers, layout)

    def run() -> Ran:
        try:
            return at(how.size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failed = first_line(error)
        raise _does_not_fit(model, picture, how, at, failed)

    prompt = how.call.get("prompt_2", how.prompt)
    return Denoised(run, model.name, pipeline=model.pipeline, prompt=prompt, picture=picture, layout_choice=layout)


def _check(how: Denoising) -> None:
    """What can be told before anything runs."""
    if not isinstance(how.call, Mapping):
        raise InputError(
            f"call = {how.call!r}, expected arguments of the pipeline such as {{'max_sequence_length': 12}}"
        )
    if how.prompt is not None and not isinstance(how.prompt, str):
        raise InputError(f"prompt = {how.prompt!r}, expected one string: one picture has one prompt")
    if whole_number(how.samples) is None or how.samples < 1:
        raise InputError(
            f"samples = {how.samples!r}, expected a whole number from 1, each sample with noise of its own"
        )
    if whole_number(how.seed) is None:
        raise InputError(f"seed = {how.seed!r}, expected a whole number")


def _ran(made: list[Pass], layers: LayerSelection, layout: LayoutChoice) -> Ran:
    output = None
    denoiser = made[0].denoiser
    with capture(denoiser, layers, layout=layout) as trace:
        for one in made:
            with torch.no_grad():
                output = denoiser(**one.inputs)
    return Ran(trace, output, {call: one.inputs for call, one in enumerate(made)}, denoiser)


def _does_not_fit(
    model: Model, picture: PIL.Image.Image, how: Denoising, at: Callable[[int | None], Ran], failed: str
) -> CaptureError:
    """The error of a pass that ran out of memory; smaller ones are run to say what would fit."""
    pipe = model.pipeline
    family = family_of(pipe)
    height, width = size_for(pipe, family, picture, how.size)
    fits = size_that_fits(at, max(height, width), cell(pipe, family))
    cure = "not even the smallest picture fits" if fits is None else f"size={fits} fits, tried just now"
    fewer = "" if how.samples == 1 else f", fewer samples than {how.samples}"
    return CaptureError(
        f"{model.name} ran out of memory on a picture of {height} × {width} pixels ({failed}); {cure}. "
        f"Otherwise record fewer layers (layers=…){fewer}, or load the pipeline in half precision"
    )


def of_denoiser(
    trace: Trace,
    pipeline: Any,
    prompt: str | None,
    layout: LayoutChoice,
    picture: PIL.Image.Image | None,
    calls: Any = None,
) -> Denoised:
    """What a denoiser attended to in the steps of a trace.

    Args:
        pipeline: that made it, for the words of the prompt; None where it is not known.
        prompt: as the pipeline was given it.
        calls: number of the forward call → its arguments by name, for words outside of the prompt; None where they are
            not known.

    Raises:
        CaptureError: an empty trace. InputError: a prompt without its pipeline, or other calls.
    """
    if calls is not None and not (isinstance(calls, Mapping) and all(isinstance(v, Mapping) for v in calls.values())):
        raise InputError(
            f"inputs beside a trace are a {type(calls).__name__}, expected a mapping from the numbers of forward calls "
            "to their arguments by name, as tokenrank.denoisers.streams.inputs_of keeps them"
        )
    if not trace.records:
        raise CaptureError("the trace is empty; run the pipeline inside tr.capture")
    if prompt is not None and pipeline is None:
        raise InputError(
            "prompt= beside a trace needs the pipeline, whose tokenizers say which token is which word: "
            "tr.observe(trace, prompt=…, model=pipe)"
        )
    if layout is not None:
        trace = trace.select()
        trace.layout = layout
    name = "this trace" if pipeline is None else type(pipeline).__name__
    return Denoised(
        lambda: Ran(trace, None, calls or {}, None if pipeline is None else denoiser_of(pipeline)),
        name,
        pipeline=pipeline,
        prompt=prompt,
        picture=picture,
        layout_choice=layout,
    )

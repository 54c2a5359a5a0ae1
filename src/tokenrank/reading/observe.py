"""Reading of a source: ``observe`` makes an ``Observation`` of a picture, text or sound, a module, trace or chain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias, TypedDict

import PIL.Image
from torch import nn

from ..chain import AttentionChain
from ..denoisers.blocks import is_denoiser
from ..denoisers.look import Noise
from ..denoisers.pipeline import is_pipeline
from ..errors import (
    CaptureError,
    InputError,
    LayoutError,
    NotFoundError,
    nearest,
)
from ..layout import LayoutChoice, TokenLayout
from ..models import (
    ImageSource,
    Modality,
    Model,
    Sound,
    SoundSource,
    is_sound,
    load,
    of_pipeline,
    read_image,
    read_sound,
)
from ..models.texts import reads_as_text
from ..observation import Observation
from ..observation.layers import has_picture
from ..recording import LayerSelection
from ..select import whole_number
from ..trace import Trace
from ..trace.by_hand import checked_choice, layout_for
from .denoisers import Denoising, of_denoiser, of_picture, pipeline_of
from .modules import Inputs, captured, of_module
from .refusals import refuse_address, refuse_beside, refuse_denoising, refuse_endless, refuse_unreadable

Source: TypeAlias = "ImageSource | SoundSource | Observation | Trace | AttentionChain | Model | nn.Module"


class Reading(TypedDict, total=False):
    """What ``observe`` takes beside the source; tasks, baselines and ``analyze`` hand it on."""

    model: str | os.PathLike[str] | Model | nn.Module
    inputs: Inputs | None
    size: int | None
    kind: Modality | None
    layers: LayerSelection
    layout: LayoutChoice
    image: ImageSource | None
    rate: int | None
    part: tuple[float, float] | None
    said: str | None
    prompt: str | None
    noise: Noise | None
    samples: int | None
    seed: int | None
    call: Mapping[str, Any] | None


def observe(
    source: Source,
    model: str | os.PathLike[str] | Model | nn.Module = "bundled",
    *,
    inputs: Inputs | None = None,
    size: int | None = None,
    kind: Modality | None = None,
    layers: LayerSelection = None,
    layout: LayoutChoice = None,
    image: ImageSource | None = None,
    rate: int | None = None,
    part: tuple[float, float] | None = None,
    said: str | None = None,
    prompt: str | None = None,
    noise: Noise | None = None,
    samples: int | None = None,
    seed: int | None = None,
    call: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> Observation:
    """Read one source once; the model runs when something is first asked.

    ::

        tr.observe("cat.jpg")  # the bundled model of pictures
        tr.observe("The cat sat on the mat")  # the bundled model of texts
        tr.observe("The cat sat on the mat", model="bert-base-uncased")
        tr.observe("speech.wav", model="openai/whisper-tiny.en")  # writes down what is said, then reads it again
        tr.observe(module, inputs={"pixel_values": pixels})  # any torch module
        tr.observe(trace), tr.observe(chain, image="cat.jpg")  # what was captured before
        tr.observe("cat.jpg", model=pipe, prompt="a cat")  # a denoiser of diffusers, on a real picture with noise
        tr.observe(trace, model=pipe, prompt="a cat", image=made)  # all steps in which it made one

    Args:
        source: a picture (path, PIL image, array, tensor), a text, a sound (path, array, ``tr.Sound``) where the model
            reads sounds, a ``torch.nn.Module`` or loaded model with ``inputs``, a ``Trace`` of one forward call (of a
            denoiser: of any number), a chain with a layout, or an ``Observation``, which is returned as it is. A string
            is a text where the model reads text. Where no model is named, a string is a text if it has white space
            inside, no file or folder is called so, and it does not end like a picture, a video or a sound
            ("my cat.jpg"); all else is the path of a picture. ``kind`` says it outright.
        model: for pictures, texts and sounds: a name for ``tr.load``, a loaded model, or a pipeline of diffusers.
        inputs: of a module: keyword arguments, positional arguments, or the one tensor. They are read when something
            is first asked. Beside a trace of a denoiser the arguments of its forward calls, by number, for words
            outside of the prompt.
        size: long side in pixels that the model gets; its own default where None. Pictures only.
        kind: "text": a string is a text, whatever it looks like; "image": it is the path of a picture. Which of the
            bundled models to load, or which half of a dual encoder.
        layers: which layers to record, as in ``tr.capture``; all by default.
        layout: which token is what, where it cannot be found, or False for none.
        image: the picture behind a module's inputs, a trace or a chain: for its size and its looks.
        rate: samples a second of a sound that is an array.
        part: (from, to) in seconds, where not all of a sound is meant; its time counts from there.
        said: what is said in it, for a model that writes it down; the model's own transcript where None, "" for none.
        prompt: what a pipeline of diffusers is told, or was when it made the picture of a trace.
        noise: how much is added to the picture for a denoiser: its share, above 0 and at most 1 (½ where None), or
            (k, n) for step k, from 0, of n steps of the pipeline.
        samples: forward calls with noise of their own; one where None.
        seed: of the noise; 0 where None, sample i takes seed + i.
        call: further arguments of the pipeline's own call, such as ``max_sequence_length``.
        unknown: nothing; a word that is neither an option of the task or method that was called nor one of these.

    Raises:
        InputError: a source that cannot be read, or an argument that does not go with it; the message has the cure.
        NotFoundError: no such model, or no such option.
        CaptureError: a trace of several forward calls of no denoiser, or an empty one. LayoutError: a chain without a
            layout.
    """
    for option in unknown:
        known = Reading.__annotations__
        raise NotFoundError(
            f"no option {option!r}; {nearest(option, known)}; tr.observe takes {', '.join(known)}, and what was called "
            "has options of its own (help says them)"
        )
    layout = checked_choice(layout)
    sound = {"rate": rate, "part": part, "said": said}
    denoised = {"prompt": prompt, "noise": noise, "samples": samples, "seed": seed, "call": call}
    if size is not None and (whole_number(size) is None or size < 1):
        raise InputError(f"size = {size!r}, expected the long side in whole pixels, such as 224")
    if isinstance(source, Observation):
        refuse_beside(
            source.name, model=model, inputs=inputs, size=size, kind=kind, layers=layers, layout=layout, image=image,
            **sound, **denoised,
        )  # fmt: skip
        return source
    if isinstance(source, Trace):
        if is_denoiser(source) or pipeline_of(model) is not None:
            made = {name: value for name, value in denoised.items() if name != "prompt"}
            refuse_beside("a trace", size=size, kind=kind, layers=layers, **sound, **made)
            return of_denoiser(source, _denoiser_of_trace(model), prompt, layout, _picture(image), inputs)
        refuse_beside("a trace", model=model, inputs=inputs, size=size, kind=kind, layers=layers, **sound, **denoised)
        return _of_trace(source, layout, _picture(image))
    if isinstance(source, AttentionChain):
        refuse_beside("a chain", model=model, inputs=inputs, size=size, kind=kind, layers=layers, **sound, **denoised)
        return _of_chain(source, layout, _picture(image))
    if isinstance(source, Model | nn.Module):
        refuse_beside("a module", model=model, size=size, kind=kind, **sound, **denoised)
        return of_module(source, inputs, layers, layout, _picture(image))
    if kind != "text":
        refuse_endless(source)
    if inputs is not None:
        raise InputError(
            "inputs= go with a module, but the source is a picture or a text; give tr.observe(module, inputs=…)"
        )
    if image is not None:
        raise InputError("image= goes with a module, a trace or a chain; a picture is the source itself")
    heard = (kind != "text" and is_sound(source)) or (rate is not None and not isinstance(source, str))
    if _is_default(model) and (heard or isinstance(source, Sound)):
        raise InputError(
            "the source is a sound, and no bundled network reads sounds; name one: tr.observe(sound, "
            "model='openai/whisper-tiny.en'), or a folder with one"
        )
    guessed: Modality | None = "text" if _is_default(model) and reads_as_text(source) else None
    loaded = _loaded(model, kind or guessed)
    if loaded.pipeline is not None:
        for option, value in sound.items():
            if value is not None:
                raise InputError(f"{option} = {value!r} for a pipeline of pictures; leave {option} out")
        refuse_unreadable(source, loaded, kind)
        options = Denoising(
            prompt, 0.5 if noise is None else noise, 1 if samples is None else samples, seed or 0, size,
            {} if call is None else call,
        )  # fmt: skip
        return of_picture(read_image(source), loaded, options, layers, layout)  # type: ignore[arg-type]
    refuse_denoising(loaded, denoised)
    if loaded.kind == "audio":
        return _of_sound(source, loaded, size, layers, layout, rate, part, said)
    for option, value in sound.items():
        if value is not None:
            raise InputError(
                f"{option} = {value!r} for model {loaded.name!r}, which reads {loaded.kind}; leave {option} out"
            )
    return _of_content(source, loaded, size, layers, layout, kind)


def _of_sound(
    source: Any,
    model: Model,
    size: int | None,
    layers: LayerSelection,
    layout: LayoutChoice,
    rate: int | None,
    part: tuple[float, float] | None,
    said: str | None,
) -> Observation:
    if isinstance(source, str):
        refuse_address(source)
    sound = read_sound(source, rate, part)
    inputs = model.prepare(sound, size, said=said)

    run = partial(captured, model, layers=layers, layout=layout)
    return Observation(run, model.name, model, inputs, None, "audio", layout_choice=layout, sound=sound)


def _of_content(
    source: Any,
    model: Model,
    size: int | None,
    layers: LayerSelection,
    layout: LayoutChoice,
    kind: Modality | None,
) -> Observation:
    refuse_unreadable(source, model, kind)
    if model.kind == "text":
        picture, content = None, source
    else:
        picture = content = read_image(source)
    inputs = model.prepare(content, size)

    expected = model.layout_for(inputs) if layout is None else None
    run = partial(captured, model, layers=layers, layout=layout)
    return Observation(run, model.name, model, inputs, picture, model.kind, expected, layout_choice=layout)


def _of_trace(trace: Trace, layout: LayoutChoice, picture: PIL.Image.Image | None) -> Observation:
    steps = sorted({record.step for record in trace.records})
    if not steps:
        raise CaptureError("the trace is empty; run the model inside tr.capture")
    if len(steps) > 1:
        raise CaptureError(
            f"the trace holds {len(steps)} forward calls, expected one; take one with trace.select(step={steps[0]}), "
            "or join prefill and cached decoding with trace.decoded()"
        )
    if layout is not None:
        trace = trace.select()
        trace.layout = layout
    return Observation(partial(_as_captured, trace), "this trace", picture=picture)


def _as_captured(trace: Trace, _: Mapping[str, Any]) -> tuple[Trace, None]:
    """What was captured before, whatever the inputs."""
    return trace, None


def _of_chain(chain: AttentionChain, layout: LayoutChoice, picture: PIL.Image.Image | None) -> Observation:
    known = chain.layout if layout is None else layout_for(layout, "chain")
    if not isinstance(known, TokenLayout):
        raise LayoutError(
            f"the chain has {chain.num_tokens} tokens and no layout; say which token is what: tr.observe(chain, "
            "layout=tr.TokenLayout.image(rows, columns, cls_tokens=…)), or TokenLayout.text(tokens) for a text"
        )
    seen = picture or (chain.picture if has_picture(known) else None)
    laid_out = AttentionChain.from_operator(chain.operator, known, seen or chain.picture, chain.caption)
    return Observation(None, "this chain", picture=seen, chain=laid_out)


def _loaded(model: str | os.PathLike[str] | Model | nn.Module, kind: Modality | None) -> Model:
    if isinstance(model, nn.Module):
        raise InputError(
            f"model is a {type(model).__name__}, which does not say how a picture or a text is prepared; prepare it "
            "yourself: tr.observe(module, inputs=…), or load it by name with tr.load"
        )
    if is_pipeline(model):
        return of_pipeline(model)
    if not isinstance(model, Model):
        return load(model, kind=kind)
    if kind is not None and model.kind != kind:
        raise InputError(f"model {model.name!r} reads {model.kind}, but kind={kind!r} was asked; leave kind out")
    return model


def _denoiser_of_trace(model: Any) -> Any:
    """The pipeline beside a trace; None where none was named."""
    if _is_default(model):
        return None
    found = pipeline_of(model) or _loaded(model, None).pipeline
    if found is None:
        raise InputError(
            f"model = {model!r} beside a trace of a denoiser, expected the pipeline that made it: "
            "tr.observe(trace, model=pipe, prompt=…)"
        )
    return found


def _picture(image: ImageSource | None) -> PIL.Image.Image | None:
    return None if image is None else read_image(image)


def _is_default(model: Any) -> bool:
    return isinstance(model, str) and model == "bundled"

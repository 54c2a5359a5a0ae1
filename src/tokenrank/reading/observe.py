"""Reading of a source: ``observe`` makes an ``Observation`` of a picture, text or sound, a module, trace or chain."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
import PIL.Image
from torch import Tensor, nn

from ..chain import AttentionChain
from ..endings import TEXTS, VIDEOS
from ..errors import (
    CaptureError,
    InputError,
    LayoutError,
    NotFoundError,
    nearest,
    nearest_file,
    neighbours,
    printable,
)
from ..layout import LayoutChoice, TokenLayout
from ..models import ImageSource, Modality, Model, Sound, SoundSource, is_sound, load, read_image, read_sound
from ..models.texts import is_path, reads_as_text
from ..observation import Observation
from ..observation.layers import has_picture
from ..recording import AttentionRecord, LayerSelection
from ..select import whole_number
from ..trace import Trace
from ..trace.by_hand import checked_choice, layout_for
from ..untrusted.regular import check_kind
from .modules import Inputs, captured, of_module

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

    Args:
        source: a picture (path, PIL image, array, tensor), a text, a sound (path, array, ``tr.Sound``) where the model
            reads sounds, a ``torch.nn.Module`` or loaded model with ``inputs``, a ``Trace`` of one forward call, a
            chain with a layout, or an ``Observation``, which is returned as it is. A string is a text where the model
            reads text. Where no model is named, a string is a text if it has white space inside, no file or folder is
            called so, and it does not end like a picture, a video or a sound ("my cat.jpg"); all else is the path of
            a picture. ``kind`` says it outright.
        model: for pictures, texts and sounds: a name for ``tr.load``, or a loaded model.
        inputs: of a module: keyword arguments, positional arguments, or the one tensor. They are read when something
            is first asked.
        size: long side in pixels that the model gets; its own default where None. Pictures only.
        kind: "text": a string is a text, whatever it looks like; "image": it is the path of a picture. Which of the
            bundled models to load, or which half of a dual encoder.
        layers: which layers to record, as in ``tr.capture``; all by default.
        layout: which token is what, where it cannot be found, or False for none.
        image: the picture behind a module's inputs, a trace or a chain: for its size and its looks.
        rate: samples a second of a sound that is an array.
        part: (from, to) in seconds, where not all of a sound is meant; its time counts from there.
        said: what is said in it, for a model that writes it down; the model's own transcript where None, "" for none.
        unknown: nothing; a word that is neither an option of the task or method that was called nor one of these.

    Raises:
        InputError: a source that cannot be read, or an argument that does not go with it; the message has the cure.
        NotFoundError: no such model, or no such option.
        CaptureError: a trace of several forward calls, or an empty one. LayoutError: a chain without a layout.
    """
    for option in unknown:
        known = Reading.__annotations__
        raise NotFoundError(
            f"no option {option!r}; {nearest(option, known)}; tr.observe takes {', '.join(known)}, and what was called "
            "has options of its own (help says them)"
        )
    layout = checked_choice(layout)
    sound = {"rate": rate, "part": part, "said": said}
    if size is not None and (whole_number(size) is None or size < 1):
        raise InputError(f"size = {size!r}, expected the long side in whole pixels, such as 224")
    if isinstance(source, Observation):
        _refuse(
            source.name, model=model, inputs=inputs, size=size, kind=kind, layers=layers, layout=layout, image=image,
            **sound,
        )  # fmt: skip
        return source
    if isinstance(source, Trace):
        _refuse("a trace", model=model, inputs=inputs, size=size, kind=kind, layers=layers, **sound)
        return _of_trace(source, layout, _picture(image))
    if isinstance(source, AttentionChain):
        _refuse("a chain", model=model, inputs=inputs, size=size, kind=kind, layers=layers, **sound)
        return _of_chain(source, layout, _picture(image))
    if isinstance(source, Model | nn.Module):
        _refuse("a module", model=model, size=size, kind=kind, **sound)
        return of_module(source, inputs, layers, layout, _picture(image))
    if kind != "text":
        _refuse_endless(source)
    if inputs is not None:
        raise InputError(
            "inputs= go with a module, but the source is a picture or a text; give tr.observe(module, inputs=…)"
        )
    if image is not None:
        raise InputError("image= goes with a module, a trace or a chain; a picture is the source itself")
    heard = (kind != "text" and is_sound(source)) or (rate is not None and not isinstance(source, str))
    if model == "bundled" and (heard or isinstance(source, Sound)):
        raise InputError(
            "the source is a sound, and no bundled network reads sounds; name one: tr.observe(sound, "
            "model='openai/whisper-tiny.en'), or a folder with one"
        )
    guessed: Modality | None = "text" if model == "bundled" and reads_as_text(source) else None
    loaded = _loaded(model, kind or guessed)
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
        _refuse_address(source)
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
    _refuse_unreadable(source, model, kind)
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
    if not isinstance(model, Model):
        return load(model, kind=kind)
    if kind is not None and model.kind != kind:
        raise InputError(f"model {model.name!r} reads {model.kind}, but kind={kind!r} was asked; leave kind out")
    return model


def _refuse_endless(source: Any) -> None:
    """Raise for a pipe, a device or a socket, before a model is loaded for it."""
    if not isinstance(source, str | bytes | os.PathLike):
        return
    try:
        status = Path(os.fsdecode(source)).stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(status.st_mode):
        check_kind(status, printable(source))


def _refuse_unreadable(source: Any, model: Model, kind: Modality | None) -> None:
    """Raise for what is no picture and no text, with the way that it can be read; ``kind`` as it was given."""
    if isinstance(source, Mapping):
        raise InputError("the source is a mapping of inputs; give the module with it: tr.observe(module, inputs=…)")
    if isinstance(source, list | tuple):
        raise InputError(
            f"the source is a {type(source).__name__} of {len(source)}, expected one picture or text at a time"
        )
    if isinstance(source, Sound):
        raise InputError(
            f"the source is a sound, and model {model.name!r} reads {model.kind}; name one that reads sounds: "
            "tr.observe(sound, model='openai/whisper-tiny.en'), or a folder with one"
        )
    if not isinstance(source, str | bytes | os.PathLike | PIL.Image.Image | np.ndarray | Tensor | AttentionRecord):
        raise InputError(
            f"the source is {printable(type(source).__name__)}, expected a picture (path, PIL image, array, tensor), a "
            "text, a sound with model=, a module with inputs=, a Trace, a chain or an Observation"
        )
    if isinstance(source, AttentionRecord):
        raise InputError("the source is a record; give the trace that it belongs to: tr.observe(trace)")
    if isinstance(source, Tensor) and source.ndim == 4 and source.shape[0] > 1:
        raise InputError(f"the source has shape {tuple(source.shape)}, a batch or a video; give one picture (3, H, W)")
    if not isinstance(source, str | os.PathLike):
        return
    text = os.fspath(source)
    if model.kind == "text":
        if isinstance(source, os.PathLike) or (kind is None and is_path(text)):
            raise InputError(
                f"{printable(text)} is a file, and model {model.name!r} reads text; give its text: "
                "tr.observe(open(path).read(), model=…)"
            )
        return
    _refuse_address(text)
    suffix = Path(text).suffix.lower()
    if suffix in VIDEOS:
        raise InputError(f"{printable(text)} is a video; give one of its frames as a picture")
    if suffix in TEXTS and is_path(text):
        raise InputError(
            f"{printable(text)} is a file of text; give what is in it: tr.observe(open(path).read(), kind='text')"
        )
    word = text.strip() and not suffix and Path(text).parent == Path()
    if isinstance(source, str) and kind is None and (word or len(text.split()) > 1) and not is_path(text):
        names = [] if word or reads_as_text(text) else neighbours(Path(text))
        near = f"{nearest_file(Path(text).name, names)}; " if names else ""
        raise InputError(
            f"no file {printable(text)}; {near}if it is a text, say so: tr.observe(text, kind='text'), or name a model "
            "that reads text: tr.observe(text, model=…)"
        )


def _refuse_address(text: str) -> None:
    if re.match(r"[a-z][a-z0-9+]+://|data:", text):
        raise InputError(
            f"{printable(text)} is an address, and nothing is downloaded; fetch it and give the file's path"
        )


def _picture(image: ImageSource | None) -> PIL.Image.Image | None:
    return None if image is None else read_image(image)


def _refuse(what: str, **arguments: Any) -> None:
    """Raise for arguments that say how to run a model, where nothing runs any more."""
    default = {"model": "bundled"}
    given = [name for name, value in arguments.items() if value is not None and value is not False]
    given = [name for name in given if not (isinstance(arguments[name], str) and arguments[name] == default.get(name))]
    if given:
        raise InputError(f"{given[0]} = {arguments[given[0]]!r} beside {what}, which has its own; leave {given[0]} out")

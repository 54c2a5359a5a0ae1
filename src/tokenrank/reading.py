"""Reading of a source: ``observe`` makes an ``Observation`` of a picture, a text, a module, a trace or a chain."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from .chain import AttentionChain
from .errors import (
    CaptureError,
    InputError,
    LayoutError,
    NotFoundError,
    TokenRankError,
    nearest,
    printable,
)
from .layout import LayoutChoice, TokenLayout
from .models import ImageSource, Modality, Model, load, read_image
from .observation import Observation
from .recording import AttentionRecord, LayerSelection
from .select import whole_number
from .trace import Trace, capture
from .trace.running import cannot_run

Source: TypeAlias = "ImageSource | Observation | Trace | AttentionChain | Model | nn.Module"
Inputs: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | np.ndarray"

_VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"}


class Reading(TypedDict, total=False):
    """What ``observe`` takes beside the source; tasks, baselines and ``analyze`` hand it on."""

    model: str | os.PathLike[str] | Model | nn.Module
    inputs: Inputs | None
    size: int | None
    kind: Modality | None
    layers: LayerSelection
    layout: LayoutChoice
    image: ImageSource | None


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
    **unknown: Any,
) -> Observation:
    """Read one source once; the model runs when something is first asked.

    ::

        tr.observe("cat.jpg")  # the bundled model
        tr.observe("The cat sat on the mat", model="bert-base-uncased")
        tr.observe(module, inputs={"pixel_values": pixels})  # any torch module
        tr.observe(trace), tr.observe(chain, image="cat.jpg")  # what was captured before

    Args:
        source: a picture (path, PIL image, array, tensor), a text where the model reads text, a ``torch.nn.Module``
            or loaded model with ``inputs``, a ``Trace`` of one forward call, a chain with a layout, or an
            ``Observation``, which is returned as it is.
        model: for pictures and texts: a name for ``tr.load``, or a loaded model.
        inputs: of a module: keyword arguments, positional arguments, or the one tensor. They are read when something
            is first asked.
        size: long side in pixels that the model gets; its own default where None. Pictures only.
        kind: which half of a dual encoder to load, "image" or "text".
        layers: which layers to record, as in ``tr.capture``; all by default.
        layout: which token is what, where it cannot be found, or False for none.
        image: the picture behind a module's inputs, a trace or a chain: for its size and its looks.
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
    if layout is not None and layout is not False and not isinstance(layout, TokenLayout):
        raise InputError(f"layout is {layout!r}, expected a TokenLayout, False for none, or None to find it")
    if size is not None and (whole_number(size) is None or size < 1):
        raise InputError(f"size = {size!r}, expected the long side in whole pixels, such as 224")
    if isinstance(source, Observation):
        _refuse(
            source.name, model=model, inputs=inputs, size=size, kind=kind, layers=layers, layout=layout, image=image
        )
        return source
    if isinstance(source, Trace):
        _refuse("a trace", model=model, inputs=inputs, size=size, kind=kind, layers=layers)
        return _of_trace(source, layout, _picture(image))
    if isinstance(source, AttentionChain):
        _refuse("a chain", model=model, inputs=inputs, size=size, kind=kind, layers=layers)
        return _of_chain(source, layout, _picture(image))
    if isinstance(source, Model | nn.Module):
        _refuse("a module", model=model, size=size, kind=kind)
        return _of_module(source, inputs, layers, layout, _picture(image))
    if inputs is not None:
        raise InputError(
            "inputs= go with a module, but the source is a picture or a text; give tr.observe(module, inputs=…)"
        )
    if image is not None:
        raise InputError("image= goes with a module, a trace or a chain; a picture is the source itself")
    return _of_content(source, _loaded(model, kind), size, layers, layout)


def _of_content(
    source: Any, model: Model, size: int | None, layers: LayerSelection, layout: LayoutChoice
) -> Observation:
    _refuse_unreadable(source, model)
    if model.kind == "text":
        picture, content = None, source
    else:
        picture = content = read_image(source)
    inputs = model.prepare(content, size)

    def run(given: Mapping[str, Any]) -> tuple[Trace, Any]:
        return _seen(model, given, layers, layout)

    expected = model.layout_for(inputs) if layout is None else None
    return Observation(run, model.name, model, inputs, picture, model.kind, expected, layout_choice=layout)


def _of_module(
    source: Model | nn.Module,
    inputs: Inputs | None,
    layers: LayerSelection,
    layout: LayoutChoice,
    picture: PIL.Image.Image | None,
) -> Observation:
    if isinstance(source, Model) and inputs is None:
        raise InputError(f"model {source.name!r} was given nothing to look at; tr.observe(picture or text, model=…)")
    if inputs is None:
        raise InputError(
            f"{type(source).__name__} was given no inputs; tr.observe(module, inputs={{'pixel_values': …}}), or "
            "tr.observe(source, model=…) with a model of tr.load"
        )
    module = source.module if isinstance(source, Model) else source
    named = _named_inputs(module, inputs)
    kind: Modality = "image" if any(_is_picture(value) for value in named.values()) else "text"
    model = source if isinstance(source, Model) else Model(type(source).__name__, source, kind)

    def run(given: Mapping[str, Any]) -> tuple[Trace, Any]:
        trace, output = _seen(model, given, layers, layout)
        return _without_padding(trace, given), output

    _warn_if_random(module)
    modality = model.kind if isinstance(source, Model) else None
    return Observation(run, model.name, model, named, picture, modality, layout_choice=layout)


def _seen(model: Model, inputs: Mapping[str, Any], layers: LayerSelection, layout: LayoutChoice) -> tuple[Trace, Any]:
    """The forward of a model: what it attended to and what it returned.

    Raises:
        InputError: the module cannot run on these inputs, looked at or not; its own error is the cause.
    """
    try:
        with capture(model, layers, layout=layout) as trace:
            output = model.forward(inputs)
    except (TokenRankError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        try:
            model.forward(inputs)
        except Exception as own:
            raise cannot_run(model.module, inputs, own, "tr.observe") from own
        raise error
    return trace, output


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
    return Observation(lambda _: (trace, None), "this trace", picture=picture)


def _of_chain(chain: AttentionChain, layout: LayoutChoice, picture: PIL.Image.Image | None) -> Observation:
    known = chain.layout if layout is None else layout
    if not isinstance(known, TokenLayout):
        raise LayoutError(
            f"the chain has {chain.num_tokens} tokens and no layout; say which token is what: tr.observe(chain, "
            "layout=tr.TokenLayout.image(rows, columns, cls_tokens=…)), or TokenLayout.text(tokens) for a text"
        )
    seen = picture or chain.picture
    laid_out = AttentionChain.from_operator(chain.operator, known, seen, chain.caption)
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


def _refuse_unreadable(source: Any, model: Model) -> None:
    """Raise for what is no picture and no text, with the way that it can be read."""
    if isinstance(source, Mapping):
        raise InputError("the source is a mapping of inputs; give the module with it: tr.observe(module, inputs=…)")
    if isinstance(source, list | tuple):
        raise InputError(
            f"the source is a {type(source).__name__} of {len(source)}, expected one picture or text at a time"
        )
    if not isinstance(source, str | bytes | os.PathLike | PIL.Image.Image | np.ndarray | Tensor | AttentionRecord):
        raise InputError(
            f"the source is {printable(type(source).__name__)}, expected a picture (path, PIL image, array, tensor), a "
            "text, a module with inputs=, a Trace, a chain or an Observation"
        )
    if isinstance(source, AttentionRecord):
        raise InputError("the source is a record; give the trace that it belongs to: tr.observe(trace)")
    if isinstance(source, Tensor) and source.ndim == 4 and source.shape[0] > 1:
        raise InputError(f"the source has shape {tuple(source.shape)}, a batch or a video; give one picture (3, H, W)")
    if not isinstance(source, str | os.PathLike):
        return
    text = os.fspath(source)
    if model.kind == "text":
        _refuse_file(text, isinstance(source, os.PathLike), model)
        return
    if re.match(r"[a-z][a-z0-9+]+://|data:", text):
        raise InputError(
            f"{printable(text)} is an address, and nothing is downloaded; fetch it and give the file's path"
        )
    if Path(text).suffix.lower() in _VIDEOS:
        raise InputError(f"{printable(text)} is a video; give one of its frames as a picture")
    if " " in text and not Path(text).suffix and not _is_file(text):
        raise InputError(
            f"no file {printable(text)}; if it is a text, name a model that reads text: tr.observe(text, model=…)"
        )


def _refuse_file(text: str, path: bool, model: Model) -> None:
    if path or _is_file(text):
        raise InputError(
            f"{printable(text)} is a file, and model {model.name!r} reads text; give its text: "
            "tr.observe(open(path).read(), model=…)"
        )


def _is_file(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()  # the empty path is the folder at hand
    except (OSError, ValueError):
        return False


def _named_inputs(module: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Inputs as keyword arguments of the module's forward.

    Raises:
        InputError: they do not fit its signature.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Tensor | Sequence):
        raise InputError(
            f"inputs of {type(module).__name__} are a {type(inputs).__name__}, expected a mapping of names, a list in "
            "the order of its forward, or the one tensor; what is not prepared goes to tr.observe(source, model=…)"
        )
    positional = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    try:
        bound = inspect.signature(module.forward).bind(*positional)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"inputs do not fit {type(module).__name__}.forward: {error}; give a mapping of names"
        ) from None
    kinds = {bound.signature.parameters[name].kind for name in bound.arguments}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
        raise InputError(
            f"{type(module).__name__}.forward takes arguments without names; wrap it in a module that names them"
        )
    return dict(bound.arguments)


def _without_padding(trace: Trace, inputs: Mapping[str, Any]) -> Trace:
    """Padding of the one text is dropped; nothing attends to it, so that this is exact."""
    mask = inputs.get("attention_mask")
    padded = isinstance(mask, Tensor) and mask.ndim == 2 and len(mask) == 1 and bool((mask == 0).any())
    return trace.select(sample=0) if padded else trace


def _warn_if_random(module: nn.Module) -> None:
    """Warn of a module in train mode with dropout, whose attention is another one at each call."""
    active = [name for name, part in module.named_modules() if part.training and _is_random(part)]
    if active:
        warnings.warn(
            f"{type(module).__name__} is in train mode, with dropout or batch statistics in {active[0]!r}"
            f"{' and others' if len(active) > 1 else ''}: what it attends to is random; call module.eval() first",
            UserWarning,
            stacklevel=4,
        )


def _is_random(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.modules.batchnorm._BatchNorm)


def _is_picture(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4


def _picture(image: ImageSource | None) -> PIL.Image.Image | None:
    return None if image is None else read_image(image)


def _refuse(what: str, **arguments: Any) -> None:
    """Raise for arguments that say how to run a model, where nothing runs any more."""
    default = {"model": "bundled"}
    given = [name for name, value in arguments.items() if value is not None and value is not False]
    given = [name for name in given if not (isinstance(arguments[name], str) and arguments[name] == default.get(name))]
    if given:
        raise InputError(f"{given[0]} = {arguments[given[0]]!r} beside {what}, which has its own; leave {given[0]} out")

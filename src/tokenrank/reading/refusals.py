"""What ``observe`` refuses before a model runs: what is no picture and no text, arguments that say nothing here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor

from ..endings import TEXTS, VIDEOS
from ..errors import InputError, nearest_file, neighbours, printable
from ..models import Modality, Model, Sound
from ..models.texts import is_path, reads_as_text
from ..recording import AttentionRecord
from ..untrusted.regular import check_kind


def refuse_beside(what: str, **arguments: Any) -> None:
    """Raise for arguments that say how to run a model, where nothing runs any more."""
    default = {"model": "bundled"}
    given = [name for name, value in arguments.items() if value is not None and value is not False]
    given = [name for name in given if not (isinstance(arguments[name], str) and arguments[name] == default.get(name))]
    if given:
        raise InputError(f"{given[0]} = {arguments[given[0]]!r} beside {what}, which has its own; leave {given[0]} out")


def refuse_denoising(model: Model, options: Mapping[str, Any]) -> None:
    """Raise for options of a denoiser that were given to another model."""
    for option, value in options.items():
        if value is not None:
            raise InputError(
                f"{option} = {value!r} for model {model.name!r}, which does not denoise; give a pipeline of diffusers "
                f"or its folder, model=pipe, or leave {option} out"
            )


def refuse_endless(source: Any) -> None:
    """Raise for a pipe, a device or a socket, before a model is loaded for it."""
    if not isinstance(source, str | bytes | os.PathLike):
        return
    try:
        status = Path(os.fsdecode(source)).stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(status.st_mode):
        check_kind(status, printable(source))


def refuse_unreadable(source: Any, model: Model, kind: Modality | None) -> None:
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
    refuse_address(text)
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


def refuse_address(text: str) -> None:
    """Raise for an address in the place of a file."""
    if re.match(r"[a-z][a-z0-9+]+://|data:", text):
        raise InputError(
            f"{printable(text)} is an address, and nothing is downloaded; fetch it and give the file's path"
        )

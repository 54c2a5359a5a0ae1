"""``load``: from a name to a model, of transformers or of timm (an optional dependency)."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import PIL.Image
from torch import nn

from ..errors import InputError, MissingExtraError, NotFoundError, nearest, nearest_file, neighbours, printable
from ..progress import bars, doing
from ..untrusted import read_text
from ..untrusted.regular import check_kind
from .load_errors import explain
from .model import Modality, Model, bundled_head, own_logits
from .pipelines import is_pipeline_folder, load_hub_pipeline, load_pipeline
from .preprocess import ImageSettings, native_size, patch_size

Attention = Literal["sdpa", "eager"]
_JSON = 64  # bytes of memory that a byte of JSON becomes, at most: an empty list takes two of these
BUNDLED = "bundled"
"""Name of the models that come with the package: one for pictures, one for texts."""
_DIFFUSERS = "diffusers:"
_FORMS = "expected 'bundled', a folder, 'owner/name' on the Hugging Face hub, 'timm:NAME' or 'diffusers:OWNER/NAME'"


def load(
    name: str | os.PathLike[str] = BUNDLED,
    size: int | None = None,
    kind: Modality | None = None,
    attention: Attention = "sdpa",
    head: bool = False,
) -> Model:
    """A model in ``eval`` mode and float32 on the CPU, with its preprocessing or tokenizer.

    Args:
        name: ``"bundled"``, which reads pictures, or texts with ``kind="text"``; a local
            folder written by ``save_pretrained`` (or by timm); an id on the Hugging Face hub, or
            ``"owner/name@revision"`` for a commit, tag or branch of it; ``"timm:NAME"`` (needs
            ``pip install 'tokenrank[timm]'``), where NAME is timm's own, with or without a tag; a folder of a pipeline
            of diffusers (needs ``pip install 'tokenrank[diffusers]'``), which reads pictures with a prompt, or
            ``"diffusers:OWNER/NAME"`` for one on the hub (``"diffusers:OWNER/NAME@revision"``).
        size: long side in pixels of pictures where ``prepare`` gets none; the model's own where None.
        kind: which of the bundled models, or which half of a dual encoder (CLIP, SigLIP), to take: ``"image"``
            (also where None) or ``"text"``. Of encoder-decoders of text the encoder is taken, of those of speech
            (Whisper) both. A model of sounds is "audio".
        attention: the implementation asked of transformers. A model that refuses ``"sdpa"`` is loaded
            with ``"eager"``; ``Model.attention`` says which one it is.
        head: take the network with its classifier of pictures (``AutoModelForImageClassification``), so that
            ``Model.logits`` works. The bundled model and timm's classifiers have theirs in any case.

    Raises:
        NotFoundError: no such model, or the hub cannot be reached.
        InputError: what is there cannot be used.
        MissingExtraError: timm is asked for and not installed.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"the model's name is {name!r}, {_FORMS}")
    text = os.fspath(name)
    if not text.strip():
        raise InputError(f"the model's name is empty; {_FORMS}")
    if size is not None and size < 1:
        raise InputError(f"size = {size}; expected the long side in pixels, such as 224")
    with doing("loading the model"):
        return _loaded(text, size, kind, attention, head)


def _loaded(text: str, size: int | None, kind: Modality | None, attention: Attention, head: bool) -> Model:
    if text.startswith("timm:"):
        return _timm(text, text.removeprefix("timm:"), size, kind)
    if text.startswith("timm/"):
        return _timm(text, f"hf-hub:{text}", size, kind)
    if text.startswith(_DIFFUSERS):
        return _hub_pipeline(text, size, kind, head)
    folder = _bundled_folder(kind or "image") if text == BUNDLED else Path(text).expanduser()
    if not (text == BUNDLED or _is_folder(folder)):
        _refuse_paths(text, folder)
        repository, _, revision = text.partition("@")
        return _transformers(text, repository, revision or None, size, kind, attention, head)
    if is_pipeline_folder(folder):
        return _pipeline(text, folder, size, kind, head)
    if _model_type(folder, text) is None:
        return _timm(text, f"local-dir:{folder}", size, kind)
    model = _transformers(text, folder, None, size, kind, attention, head and text != BUNDLED)
    return replace(model, head=bundled_head(folder)) if text == BUNDLED and model.kind == "image" else model


def _hub_pipeline(text: str, size: int | None, kind: Modality | None, head: bool) -> Model:
    place = text.removeprefix(_DIFFUSERS)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place, re.ASCII) is None or _is_folder(Path(place)):
        raise NotFoundError(
            f"model {printable(text)} is no name on the hub, expected diffusers:OWNER/NAME; a folder is given without "
            f"{_DIFFUSERS!r}"
        )
    _check_options(text, size, kind, head)
    bars()
    repository, _, revision = place.partition("@")
    return load_hub_pipeline(text, repository, revision or None)


def _pipeline(name: str, folder: Path, size: int | None, kind: Modality | None, head: bool) -> Model:
    _check_options(name, size, kind, head)
    _check_files(folder, name)
    bars()
    return load_pipeline(name, folder)


def _check_options(name: str, size: int | None, kind: Modality | None, head: bool) -> None:
    """Raise for options that a pipeline of diffusers does not have."""
    for option, value in (("size", size), ("head", head or None)):
        if value is not None:
            raise InputError(f"{option} = {value!r} for a pipeline of diffusers; leave {option} out")
    if kind not in (None, "image"):
        raise InputError(f"model {printable(name)} makes pictures, but kind={kind!r} was asked; leave kind out")


def _timm(name: str, source: str, size: int | None, kind: Modality | None) -> Model:
    if kind not in (None, "image"):
        raise InputError(f"model {printable(name)} reads pictures, but kind={kind!r} was asked; leave kind out")
    return load_timm(name, source, size)


def _transformers(
    name: str,
    place: str | Path,
    revision: str | None,
    size: int | None,
    kind: Modality | None,
    attention: Attention,
    head: bool,
) -> Model:
    bars()
    # transformers takes a second to import, which `import tokenrank` should not cost
    from .hub import Source, load_transformers

    return load_transformers(name, Source(place, revision), size, kind, attention, head)


def _bundled_folder(kind: Modality) -> Path:
    if kind == "audio":
        raise InputError(
            "no bundled model reads sounds; name one, such as tr.load('openai/whisper-tiny.en'), or a folder with one"
        )
    if kind not in ("image", "text"):
        raise InputError(f"no bundled model reads {kind!r}, expected kind='image' or 'text'; {_FORMS}")
    folder = Path(__file__).parent / BUNDLED / kind
    if not folder.is_dir():
        raise NotFoundError(
            f"this installation has no bundled model: {printable(folder)} is missing; reinstall tokenrank"
        )
    return folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _refuse_paths(text: str, path: Path) -> None:
    """Raise for what can only be a path, or nothing at all, so that no hub is asked for it."""
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        raise InputError(f"model {printable(text)} is a file; give the folder that holds config.json and weights")
    if path.is_absolute() or text.startswith((".", "~")):
        names = [n for n in neighbours(path) if (path.parent / n).is_dir()]
        hint = nearest_file(path.name, names, "in the folder above")
        raise NotFoundError(f"no model folder {printable(text)}; {hint}")
    if re.fullmatch(r"[\w.-]+(/[\w.-]+(@[\w./-]+)?)?", text, re.ASCII) is None:
        raise NotFoundError(f"no model {printable(text)}, neither a folder nor a name a hub could know; {_FORMS}")


def _check_files(folder: Path, name: str) -> None:
    """Raise where something in a folder is no file and no folder: whoever opens a pipe waits for ever."""
    for path in sorted(folder.iterdir()):
        try:
            status = path.stat()
        except OSError:  # a link to nothing; what needs it says so
            continue
        if not stat.S_ISDIR(status.st_mode):
            check_kind(status, f"{printable(path.name)} in model folder {printable(name)}")


def _model_type(folder: Path, name: str) -> str | None:
    """``model_type`` of a folder's config.json; None where it is timm's."""
    _check_files(folder, name)
    path = folder / "config.json"
    if not path.is_file():
        names = ", ".join(printable(n) for n in neighbours(path)[:5]) or "nothing"
        raise InputError(
            f"model folder {printable(name)} has no config.json (it holds {names}); write one with save_pretrained"
        )
    try:
        config = json.loads(read_text(path, "a config.json", _JSON))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} is not valid JSON: {error}; write it with save_pretrained") from error
    if isinstance(config, dict) and isinstance(config.get("model_type"), str):
        return str(config["model_type"])
    if isinstance(config, dict) and "architecture" in config:
        return None
    raise InputError(
        f"{printable(path)} names neither a model_type (transformers) nor an architecture (timm); "
        "write it with save_pretrained"
    )


def load_timm(name: str, source: str, size: int | None) -> Model:
    """Load timm's model ``source``, called ``name`` in messages; see ``load``.

    Sizes other than the native one are allowed where the architecture takes ``dynamic_img_size``.

    Raises:
        MissingExtraError: timm is not installed.
        NotFoundError: timm has no such model, or its weights cannot be had.
        InputError: the weights do not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(
            f"model {printable(name)} needs timm, which is not installed: pip install 'tokenrank[timm]'"
        ) from error
    if ":" not in source and not timm.is_model(source):
        raise NotFoundError(f"timm has no model {printable(source)}; {nearest(source, timm.list_models())}")
    try:
        module, dynamic = _create(timm.create_model, source)
        data = timm.data.resolve_model_data_config(module)
    except Exception as error:
        raise explain(name, error) from error
    module = module.float().eval()
    settings = _timm_settings(name, module, data, fixed=not dynamic)
    head = own_logits if getattr(module, "num_classes", 0) else None
    return Model(name, module, "image", settings if size is None else settings.resized(size), head=head)


def _timm_settings(name: str, module: nn.Module, data: Mapping[str, Any], fixed: bool) -> ImageSettings:
    channels, *native = data["input_size"]
    if len(data["mean"]) != channels:
        raise InputError(
            f"model {printable(name)} states {len(data['mean'])} means for {channels} channels; correct its config"
        )
    return ImageSettings(
        size=max(native),
        patch=patch_size(module) or (32, 32),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        native=native_size(module) or (native[0], native[1]),
        fixed=fixed,
        resample=PIL.Image.Resampling[data["interpolation"].upper()],
    )


def _create(create: Any, source: str) -> tuple[nn.Module, bool]:
    """The network, and whether it takes pictures of any size."""
    try:
        return create(source, pretrained=True, dynamic_img_size=True), True
    except TypeError as refusal:
        if "dynamic_img_size" not in str(refusal):
            raise
    return create(source, pretrained=True), False

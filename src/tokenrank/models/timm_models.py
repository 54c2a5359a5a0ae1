"""Models of timm, an optional dependency."""

from __future__ import annotations

from typing import Any

import PIL.Image
from torch import nn

from ..errors import InputError, MissingExtraError, NotFoundError, nearest, printable
from .geometry import native_size, patch_size
from .heads import own_logits
from .hub_errors import explain
from .model import Model
from .preprocess import ImageSettings


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
    channels, *native = data["input_size"]
    if len(data["mean"]) != channels:
        raise InputError(
            f"model {printable(name)} states {len(data['mean'])} means for {channels} channels; correct its config"
        )
    settings = ImageSettings(
        size=max(native),
        patch=patch_size(module) or (32, 32),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        native=native_size(module) or (native[0], native[1]),
        fixed=not dynamic,
        resample=PIL.Image.Resampling[data["interpolation"].upper()],
    )
    head = own_logits if getattr(module, "num_classes", 0) else None
    return Model(name, module, "image", settings if size is None else settings.resized(size), head=head)


def _create(create: Any, source: str) -> tuple[nn.Module, bool]:
    """The network, and whether it takes pictures of any size."""
    try:
        return create(source, pretrained=True, dynamic_img_size=True), True
    except TypeError as refusal:
        if "dynamic_img_size" not in str(refusal):
            raise
    return create(source, pretrained=True), False

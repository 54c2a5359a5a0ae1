"""Sites of masking in a model: its picture's tokens and pixels, attention layers and blocks."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CaptureError, InputError
from ...layout import TokenLayout
from ...models import Model
from ...observation import Observation
from ...reading import observe


@dataclass(frozen=True, eq=False)
class Sites:
    """What masking needs to know of a model at one size of pictures.

    Attributes:
        layout: which token is what.
        grid: (rows, columns) of the patches.
        layers: names of the modules whose self-attention covers the picture.
        blocks: names of the blocks around them, in order; empty where they are not members of one list.
    """

    layout: TokenLayout
    grid: tuple[int, int]
    layers: tuple[str, ...]
    blocks: tuple[str, ...]

    @property
    def patches(self) -> range:
        """Indices of the patches among all tokens."""
        return self.layout.range(self.layout.picture)

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens."""
        return self.layout.num_tokens


_known: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Sites]] = weakref.WeakKeyDictionary()


def find_sites(observation: Observation) -> Sites:
    """The sites of a model for pictures of the size observed; one forward the first time, on the first picture.

    Raises:
        InputError: no picture among the inputs, or a model that does not read pictures.
        CaptureError: no self-attention over the picture, or one over windows of it.
    """
    model, inputs = observation.model, observation.inputs
    _, pixels = pixels_of(inputs)
    known = _known.setdefault(model.module, {}) if observation.layout_choice is None else {}
    shape = tuple(pixels.shape[1:])
    if shape not in known:
        # anew, since what is given may have recorded some layers only
        first = repeated(inputs, slice(0, 1))
        one = _checked(observe(model, inputs=first, layout=observation.layout_choice))
        known[shape] = Sites(one.layout, one.grid, one.layers, _blocks(model.module, one.layers))
    return known[shape]


def pixels_of(inputs: Mapping[str, Any]) -> tuple[str, Tensor]:
    """Name and tensor (B, C, H, W) of the pictures.

    Raises:
        InputError: there is none.
    """
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4:
            if not len(value):
                raise InputError(f"inputs {name!r} have shape {tuple(value.shape)}, expected one picture at least")
            return name, value
    raise InputError(
        f"inputs {list(inputs)} hold no pictures (B, C, H, W), expected those of a model that reads pictures: "
        "tr.observe(picture, model=…)"
    )


def repeated(inputs: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """The pictures at ``rows`` (indices or a slice) of a batch; what has no entry a picture stays as it is."""
    batch = pixels_of(inputs)[1].shape[0]
    return {
        name: value[rows] if isinstance(value, Tensor) and value.ndim and value.shape[0] == batch else value
        for name, value in inputs.items()
    }


def _checked(observation: Observation) -> Observation:
    """The observation of a model all of whose layers look at the whole picture, in which tokens stay what they are."""
    for record in observation.trace.records:
        windows = record.shape[:-3].numel()
        if record.is_square and windows > 1 and record.name not in observation.layers:
            raise CaptureError(
                f"layer {record.name!r} of model {observation.name!r} looks at {windows} windows of the picture apart, "
                "so that no token can be masked in all layers; use mask_pixels"
            )
    return observation


def _blocks(root: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The members of the one list of blocks that hold one layer each."""
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        parts = layer.split(".")
        for length in range(1, len(parts) + 1):
            parent = root.get_submodule(".".join(parts[: length - 1]))
            if isinstance(parent, nn.ModuleList | nn.Sequential):
                blocks.setdefault(".".join(parts[: length - 1]), []).append(".".join(parts[:length]))
                break
        else:
            return ()
    only = next(iter(blocks.values())) if len(blocks) == 1 else []
    return tuple(only) if len(set(only)) == len(layers) else ()


def black(model: Model) -> Tensor:
    """What RGB 0 becomes in a prepared picture, (C,): −mean / std.

    Raises:
        InputError: a model without settings for pictures.
    """
    if model.images is None:
        raise InputError(
            f"model {model.name!r} does not say how its pictures are prepared, so that it is unknown what black is; "
            "load it by name with tr.load, or mask tokens with how='keys'"
        )
    return -torch.tensor(model.images.mean) / torch.tensor(model.images.std)


def blackened(model: Model, inputs: Mapping[str, Any], pixels: Tensor) -> dict[str, Any]:
    """Inputs with some pixels black.

    Args:
        pixels: bool (B, H, W), True where they go.
    """
    name, values = pixels_of(inputs)
    dark = black(model).to(values)[None, :, None, None]
    return {**inputs, name: torch.where(pixels[:, None].to(values.device), dark, values)}


def patch_pixels(patches: Tensor, sites: Sites, size: tuple[int, int]) -> Tensor:
    """Pixels of patches: bool (B, P) → (B, H, W), every patch H / rows × W / columns pixels.

    Raises:
        InputError: the grid does not divide the picture.
    """
    rows, columns = sites.grid
    if size[0] % rows or size[1] % columns:
        raise InputError(
            f"a grid of {rows} × {columns} patches does not divide the picture of {size[0]} × {size[1]} pixels, so "
            "patches overlap; use mask_pixels, or how='keys'"
        )
    grid = patches.reshape(-1, rows, columns)
    return grid.repeat_interleave(size[0] // rows, 1).repeat_interleave(size[1] // columns, 2)

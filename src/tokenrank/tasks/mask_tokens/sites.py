"""Where in a model tokens can be masked: its picture's tokens, attention layers and blocks."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...errors import InputError
from ...layout import TokenLayout
from ...models import Model
from ...observation import Observation


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


def find_sites(model: Model, inputs: Mapping[str, Any]) -> Sites:
    """The sites of ``model`` for pictures like the first of ``inputs``; one forward the first time.

    Raises:
        InputError: no picture among the inputs, or a model that does not read pictures.
        CaptureError: no self-attention over the picture.
    """
    _, pixels = pixels_of(inputs)
    known = _known.setdefault(model.module, {})
    shape = tuple(pixels.shape[1:])
    if shape not in known:
        observation = Observation(model, first_of(inputs))
        layers = observation.layers
        known[shape] = Sites(observation.layout, observation.grid, layers, _blocks(model.module, layers))
    return known[shape]


def pixels_of(inputs: Mapping[str, Any]) -> tuple[str, Tensor]:
    """Name and tensor (B, C, H, W) of the pictures.

    Raises:
        InputError: there is none.
    """
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4:
            return name, value
    raise InputError(
        f"inputs {list(inputs)} hold no pictures (B, C, H, W), expected what model.prepare(picture) returns"
    )


def first_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first picture of a batch."""
    return repeated(inputs, slice(0, 1))


def repeated(inputs: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """The pictures at ``rows`` (indices or a slice) of a batch; what has no entry a picture stays as it is."""
    batch = pixels_of(inputs)[1].shape[0]
    return {
        name: value[rows] if isinstance(value, Tensor) and value.ndim and value.shape[0] == batch else value
        for name, value in inputs.items()
    }


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
    found = next(iter(blocks.values())) if len(blocks) == 1 else []
    return tuple(found) if len(set(found)) == len(layers) else ()

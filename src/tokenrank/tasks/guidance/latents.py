"""The picture in what a denoiser is given and returns: a grid, packed cells, or a list of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...denoisers.decode import unpacked
from ...denoisers.encode import packed
from ...denoisers.family import Family
from ...errors import InputError
from ...models.layouts.parts import parts_of_ids, parts_of_shapes

Raw = Tensor | list[Tensor]
"""Latents as a denoiser has them: (B, C, h, w), packed (B, tokens, 4 · C), or one (C, 1, h, w) a sample."""
_CELL = 2


class Latents:
    """Latents of one call, and their picture.

    Inpainting models are given more channels than they return, the picture's first; models with reference pictures
    more tokens, the picture's first. Only the picture is read and replaced.

    Args:
        denoiser: of a pipeline.
        family: of that.
        inputs: what the denoiser was given, by name.
        output: what it returned of the latents.
    """

    def __init__(self, denoiser: nn.Module, family: Family, inputs: Mapping[str, Any], output: Raw) -> None:
        self.raw: Raw = inputs[family.latents]
        self._form = family.form
        first = output if isinstance(output, Tensor) else output[0]
        given = self.raw if isinstance(self.raw, Tensor) else self.raw[0]
        dim = -1 if self._form == "packed" else 0 if self._form == "listed" else 1
        self._channels = min(first.shape[dim], given.shape[dim])
        self._grid = _packed_grid(inputs, given) if self._form == "packed" else None
        frames = given.shape[1] if self._form == "listed" else 1
        if (self._form == "grid" and given.ndim != 4) or frames != 1:
            raise InputError(f"latents of the shape {tuple(given.shape)} are a video, expected one picture a sample")

    @property
    def size(self) -> tuple[int, int] | None:
        """(rows, columns) of latents that are a grid; None of packed ones, whose tokens say it."""
        if self._form == "packed":
            return None
        first = self.raw if isinstance(self.raw, Tensor) else self.raw[0]
        return int(first.shape[-2]), int(first.shape[-1])

    def picture(self, raw: Raw) -> Tensor:
        """(B, C, rows, columns) of latents, or of an output, of this call."""
        if self._form == "grid":
            assert isinstance(raw, Tensor)
            return raw[:, : self._channels]
        if self._form == "listed":
            return torch.stack([sample[: self._channels, 0] for sample in raw])
        assert isinstance(raw, Tensor)
        assert self._grid is not None
        rows, columns = self._grid
        tokens = raw[:, : rows * columns, : self._channels]
        if self._channels % _CELL**2:
            return tokens.unflatten(1, self._grid).movedim(-1, 1)
        return unpacked(tokens, rows * _CELL, columns * _CELL)

    def replaced(self, raw: Raw, picture: Tensor) -> Raw:
        """The same latents with another picture (B, C, rows, columns) in them."""
        if self._form == "listed":
            return [
                torch.cat([new[:, None].to(sample), sample[self._channels :]])
                for sample, new in zip(raw, picture, strict=True)
            ]
        assert isinstance(raw, Tensor)
        out = raw.clone()
        if self._form == "grid":
            out[:, : self._channels] = picture.to(raw)
            return out
        assert self._grid is not None
        rows, columns = self._grid
        tokens = picture.flatten(2).mT if self._channels % _CELL**2 else packed(picture)
        out[:, : rows * columns, : self._channels] = tokens.to(raw)
        return out


def prediction_in(output: Any) -> Raw:
    """The prediction in what a denoiser returned: a tuple, or an output with a field ``sample``."""
    first = output[0] if isinstance(output, tuple | list) else output if isinstance(output, Tensor) else output.sample
    return first if isinstance(first, Tensor) else list(first)


def with_prediction(output: Any, prediction: Raw) -> Any:
    """What a denoiser returned, with another prediction in it."""
    if isinstance(output, Tensor):
        return prediction
    if isinstance(output, tuple | list):
        return type(output)([prediction, *output[1:]])
    return type(output)(**{**output, "sample": prediction})


def rows_of(value: Any, rows: slice, batch: int, listed: bool) -> Any:
    """Some samples of what a denoiser was given: of every tensor whose first dimension is the batch.

    Args:
        value: an argument; also dictionaries, lists and tuples of tensors.
        rows: which samples.
        batch: how many there are.
        listed: whether lists as long as the batch are batches.
    """
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and value.shape[0] == batch else value
    if isinstance(value, Mapping):
        return {key: rows_of(part, rows, batch, listed) for key, part in value.items()}
    if isinstance(value, list | tuple):
        if listed and len(value) == batch:
            return type(value)(value[rows])
        return type(value)(rows_of(part, rows, batch, listed) for part in value)
    return value


def count_of(raw: Raw) -> int:
    """Samples in latents."""
    return len(raw)


def taken(raw: Raw, rows: slice) -> Raw:
    """Some samples of latents."""
    return raw[rows]


def _packed_grid(inputs: Mapping[str, Any], latents: Tensor) -> tuple[int, int]:
    """(rows, columns) of the tokens of the picture, which is the first one where there are several."""
    ids = inputs.get("img_ids")
    if isinstance(ids, Tensor):
        found = parts_of_ids(ids[0] if ids.ndim == 3 else ids)
    else:
        found = parts_of_shapes(inputs.get("img_shapes")) or []
    grid = found[0].grid if found else None
    if grid is None or len(grid) != 2 or found[0].count > latents.shape[1]:
        raise InputError(
            f"where the {latents.shape[1]} packed latents are in the picture is told by neither img_ids nor img_shapes "
            f"(the first picture: {grid}), expected the rows and columns of one picture"
        )
    return int(grid[0]), int(grid[1])

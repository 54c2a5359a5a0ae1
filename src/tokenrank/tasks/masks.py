"""Masks of an object: narrowed to one connected part, from maps drawn to the picture's edges."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import PIL.Image

from ..chain import AttentionChain
from ..components import Mask, component_of
from ..errors import InputError, LayoutError

Refinement: TypeAlias = Literal["guided"]


def part_at(mask: Mask, values: np.ndarray, cell: tuple[int, int] | None = None) -> Mask:
    """The 4-connected part of a mask that holds ``cell``; that of the largest value where the cell is not in the mask.

    Args:
        mask: bool (H, W).
        values: (H, W), the map that it was cut from.
        cell: (row, column), or None.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    if not mask.any():
        return mask
    if cell is None or not mask[cell]:
        row, column = np.unravel_index(int(np.where(mask, values, -np.inf).argmax()), mask.shape)
        cell = int(row), int(column)
    return component_of(mask, *cell)


def check_refinement(refine: Refinement | None, picture: PIL.Image.Image | None) -> None:
    """Raise ``InputError`` for another way to refine than "guided", or for one without a picture to follow."""
    if refine not in (None, "guided"):
        raise InputError(f"refine = {refine!r}, expected None or 'guided'")
    if refine and picture is None:
        raise InputError(
            "refine='guided' follows the edges of the picture, but only its size is known; give it: "
            "tr.observe(…, image=…)"
        )


def refined(values: np.ndarray, picture: PIL.Image.Image, grid: tuple[int, int]) -> np.ndarray:
    """A map (H, W) that follows the picture's edges; see ``guided``.

    Args:
        values: upsampled from patches.
        picture: of the same size.
        grid: (rows, columns) of the patches: an upsampled map is wrong by as far as a patch reaches.
    """
    from .refine import guided

    radius = max(2, round(max(side / count for side, count in zip(values.shape, grid, strict=True))))
    return np.asarray(guided(picture, values, radius=radius, eps=1e-3))


def grid_of(chain: AttentionChain) -> tuple[int, int]:
    """(rows, columns) of the picture that a chain looks at.

    Raises:
        LayoutError: no layout, no picture in it, or a video.
    """
    if chain.layout is None or not chain.layout.grids:
        raise LayoutError(
            f"no picture is known among the {chain.num_tokens} tokens; give one with a model that reads pictures, or "
            "say which tokens it is: tr.observe(…, layout=tr.TokenLayout.image(rows, columns))"
        )
    grid = chain.layout.grids[chain.layout.picture]
    if len(grid) != 2:
        raise LayoutError(f"the grid is {grid}, frames of a video; expected (rows, columns) of one picture")
    return grid

"""Pictures told by the positions that a denoiser is given for its tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .parts import Part, picture_part

_ROW, _COLUMN = 1, 2


def parts_of_ids(ids: Tensor) -> list[Part]:
    """Pictures in position ids (N, 3 or 4): (picture or time, row, column, …), as FLUX takes them.

    A new picture begins where any number but row and column changes, as it does for reference pictures.
    A run whose rows and columns are not those of a full grid, row by row, has no grid.
    """
    ids = ids.double().cpu()
    others = [i for i in range(ids.shape[-1]) if i not in (_ROW, _COLUMN)]
    breaks = (ids[1:, others] != ids[:-1, others]).any(-1).nonzero().flatten() + 1
    return [_part(run) for run in torch.tensor_split(ids, breaks)] if len(ids) else []


def parts_of_shapes(shapes: Any) -> list[Part] | None:
    """Pictures in ``img_shapes``: for each sample (frames, rows, columns), or several of them.

    None where the samples differ or they are something else.
    """
    samples = [_triples(sample) for sample in shapes] if isinstance(shapes, list | tuple) else []
    if not samples or not samples[0] or any(sample != samples[0] for sample in samples):
        return None
    return [picture_part((r, c) if f == 1 else (f, r, c)) for f, r, c in samples[0]]


def _part(run: Tensor) -> Part:
    rows, columns = run[:, _ROW].unique(), run[:, _COLUMN].unique()
    full = torch.cartesian_prod(rows, columns).reshape(-1, 2)
    if full.shape[0] == len(run) and torch.equal(full, run[:, [_ROW, _COLUMN]]):
        return picture_part((len(rows), len(columns)))
    return Part("image", len(run))


def _triples(sample: Any) -> list[tuple[int, int, int]]:
    several = [sample] if isinstance(sample, list | tuple) and all(isinstance(n, int) for n in sample) else sample
    if not isinstance(several, list | tuple):
        return []
    return [tuple(s) for s in several if isinstance(s, list | tuple) and len(s) == 3]

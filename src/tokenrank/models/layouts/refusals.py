"""Pictures whose tokens are not where they seem to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...errors import LayoutError
from ...layout import Grid, TokenLayout
from ..geometry import pair
from .inputs import Inputs
from .words import cure, describe


def refuse_shuffled(model: nn.Module, inputs: Inputs) -> None:
    """A masked autoencoder sorts its patches by ``noise``: only rising noise keeps them in place.

    Raises:
        LayoutError: it does not rise, or is not known.
    """
    if getattr(getattr(model, "config", None), "model_type", None) != "vit_mae":
        return
    noise = inputs.get("noise")
    if not isinstance(noise, Tensor) or bool((noise.diff(dim=-1) <= 0).any()):
        raise LayoutError(
            "the masked autoencoder shuffles its patches, and in which order is not known; keep them in "
            "place: model.config.mask_ratio = 0 and model(pixel_values, noise=torch.arange(patches)[None])"
        )


def refuse_windows(model: nn.Module, num_tokens: int, grids: Sequence[Grid], readings: Sequence[TokenLayout]) -> None:
    """A window as large as the last, coarse grid looks like that grid while it is a part of a finer one.

    Raises:
        LayoutError: there is such a window.
    """
    windows = {w for m in model.modules() for n in ("window_size", "partition_size") if (w := pair(_of(m, n)))}
    window = next((w for w in windows if math.prod(w) == num_tokens), None)
    finer = [g for g in grids if math.prod(g) > num_tokens]
    if window is not None and finer:
        *_, rows, columns = finer[-1]
        raise LayoutError(
            f"ambiguous layout of {num_tokens} tokens: a {window[0]} × {window[1]} window of the "
            f"{rows} × {columns} grid; or {describe(readings[0])}; {cure(readings[0])}"
        )


def _of(module: nn.Module, name: str) -> Any:
    value = getattr(module, name, None)
    return tuple(value) if isinstance(value, list) else value

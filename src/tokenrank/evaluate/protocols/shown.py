"""Shown: what a method found in a picture, beside what was to be found, for the eye."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from ...components import Mask

Area: TypeAlias = "Mask | npt.NDArray[np.int64] | npt.NDArray[np.float64]"


@dataclass(frozen=True, eq=False)
class Shown:
    """One method on one sample, as it was measured, all in the pixels of ``image``.

    Attributes:
        image: what was measured on, (H, W) RGB.
        found: a mask, bool (H, W); segments, int64 (H, W), −1 for none; or a map, float64 (H, W).
        truth: of the same kind; None where the protocol has none.
        void: pixels that do not count, bool (H, W).
        start: the point that the method was given, as shares of width and height.
    """

    image: PIL.Image.Image
    found: Area
    truth: Area | None = None
    void: Mask | None = None
    start: tuple[float, float] | None = None

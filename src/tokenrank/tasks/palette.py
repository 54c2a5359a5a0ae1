"""A fixed palette of 256 colours that tell labels apart."""

from __future__ import annotations

from functools import cache

import numpy as np

GOLDEN = 137.50776405003785  # degrees; turns by the golden angle never meet again
LIGHTNESS = (0.72, 0.52, 0.86)  # three: after 8 and 13 turns hues come close again, and must differ in this


@cache
def palette() -> np.ndarray:
    """uint8 (256, 3) sRGB: black for 0, then hues a golden angle apart at three lightnesses of OKLCh.

    Colours of equal lightness look equally bright, so that no label stands out. Chroma is the largest up to 0.16
    that sRGB can show.

    Source: Ottosson, "A perceptual color space for image processing" (2020), OKLab.
    """
    places = np.arange(255)
    lightness = np.asarray(LIGHTNESS)[places % len(LIGHTNESS)] - 0.03 * (places // 64)  # late ones differ in this, too
    hue = np.deg2rad(GOLDEN * places + 30)
    colours = np.zeros((255, 3))
    open_ = np.ones(255, dtype=bool)
    for chroma in np.arange(0.16, -0.001, -0.005):
        rgb = _srgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
        shown = open_ & ((rgb >= 0) & (rgb <= 1)).all(-1)
        colours[shown] = rgb[shown]
        open_ &= ~shown
    table = np.zeros((256, 3), dtype=np.uint8)
    table[1:] = np.round(colours * 255)
    table.setflags(write=False)
    return table


def _srgb(lightness: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """OKLab to sRGB, (…, 3); beyond 0 … 1 where sRGB has no such colour."""
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        -1,
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = cones**3 @ to_linear.T
    bright = 1.055 * np.clip(linear, 0.0031308, None) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, bright)

"""Colours of labels: the same for everybody and every run, told apart by colour-blind readers, too."""

from __future__ import annotations

from functools import cache

import numpy as np

FIRST = ("#56b4e9", "#d55e00", "#f0e442", "#0072b2", "#e69f00", "#009e73", "#cc79a7")
"""The set of Okabe and Ito, so ordered that a few labels are further apart than many."""

# what is left of linear sRGB for those without long, middle or short cones
VISIONS = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)


@cache
def palette() -> np.ndarray:
    """uint8 (256, 3) sRGB: black for 0, then colours as different as can be from all before them.

    The first seven are those of Okabe and Ito. Each of the others is the one, of a grid of colours neither dark nor
    pale, whose distance to its nearest predecessor is largest, in OKLab, to whichever of four kinds of eye (with all
    cones, without the long, the middle or the short ones) sees least of it.

    Source: Okabe, Ito, "Color universal design" (2008); Machado, Oliveira, Fernandes, "A physiologically-based model
    for simulation of color vision deficiency" (2009); Ottosson, "A perceptual color space for image processing" (2020).
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[1 : len(FIRST) + 1] = [tuple(bytes.fromhex(colour[1:])) for colour in FIRST]
    candidates = _candidates()
    seen = appearances(candidates)
    distance = np.full(len(candidates), np.inf)
    for place in range(256):
        if place > len(FIRST):
            table[place] = candidates[int(distance.argmax())]
        apart = np.linalg.norm(seen - appearances(table[place : place + 1]), axis=-1).min(0)
        distance = np.minimum(distance, apart)
    table.setflags(write=False)
    return table


def appearances(colours: np.ndarray) -> np.ndarray:
    """sRGB (n, 3), 0 … 255, in OKLab as four kinds of eye see it, (4, n, 3): all cones, no long, middle, short ones."""
    share = np.asarray(colours, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return _oklab(np.clip(np.einsum("vij,nj->vni", VISIONS, linear), 0, 1))


def _candidates() -> np.ndarray:
    """Colours to choose from: a grid of sRGB without what is nearly black, white or grey."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = appearances(grid)[0].T
    return grid[(lightness > 0.4) & (lightness < 0.93) & (np.hypot(a, b) > 0.05)].astype(np.uint8)


def _oklab(linear: np.ndarray) -> np.ndarray:
    """Linear sRGB (…, 3) to OKLab."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_cones).T) @ np.array(to_lab).T

"""The waveform of a sound as a picture, for maps of its frames to lie on."""

from __future__ import annotations

import numpy as np
import PIL.Image
from torch import Tensor

SIZE = 960, 96
"""(width, height) in pixels."""


def waveform(samples: Tensor, seconds: float, size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    """A grey picture of samples (S,): for every column the range of its samples, light on dark, loudest at full height.

    Silence is a line in the middle. ``info["seconds"]`` of the picture is how long it is.
    """
    width, height = size
    heard = samples.detach().cpu().float().numpy()
    edges = np.linspace(0, len(heard), width + 1).astype(int)
    begins = np.minimum(edges[:-1], len(heard) - 1)
    # where there are more columns than samples, neighbours show the same one
    top, low = np.maximum.reduceat(heard, begins), np.minimum.reduceat(heard, begins)
    loudest = max(float(np.abs(heard).max()), 1e-9)
    rows = 1 - 2 * (np.arange(height) + 0.5) / height
    half = 1 / height
    inside = (rows[:, None] <= top / loudest + half) & (rows[:, None] >= low / loudest - half)
    picture = PIL.Image.fromarray(np.where(inside, 235, 40).astype(np.uint8)).convert("RGB")
    picture.info["seconds"] = seconds
    return picture

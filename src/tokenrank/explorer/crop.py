"""The picture as the model saw it: its crop and its proportions, as a JPEG that its patches lie on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor

from ..models import Sound
from ..models.images import is_pixels
from ..models.waveform import waveform
from ..observation import Observation

MOST_BYTES = 150_000
LEAST_SIDE, MOST_SIDE = 640, 1024  # pixels of the long side, where the source has as many
WAVEFORM = (1024, 256)
QUALITIES = (88, 80, 70, 60, 45, 30)

ALIKE = 0.97
"""Correlation with what the model was given from which on a crop is the one that it was made of."""

_COMPARED = 48  # pixels a side of what is compared
_STATISTICS = (  # mean and standard deviation of the channels, as processors have them
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


@dataclass(frozen=True)
class Seen:
    """A picture for the page.

    Attributes:
        jpeg: the file.
        width, height: of it, in pixels, in the proportions of the grid.
        note: crop and resize in words.
    """

    jpeg: bytes
    width: int
    height: int
    note: str


def seen_picture(observation: Observation, grid: tuple[int, int]) -> Seen | None:
    """The picture behind an observation, for a grid of (rows, columns); None where none is known.

    Where a model of ``tr.load`` prepared it, it is whole. Where prepared pixels were given, its crop is the one that
    they are alike to; where none is, or no picture is known, the pixels themselves are shown.
    """
    picture, pixels = observation.picture, _pixels(observation)
    model = observation.model if observation.can_run else None
    size = grid[1], grid[0]
    if pixels is not None:
        size = pixels.shape[1], pixels.shape[0]
    if picture is None:
        return None if pixels is None else _of_pixels(pixels)
    whole = f"the whole picture, {picture.width} × {picture.height} pixels"
    if pixels is None:
        stretched = _stretch(picture.size, size)
        return written(picture, size, f"{whole}{stretched}, if nothing was cut off, which is not known here")
    if model is not None and model.images is not None:
        return written(picture, size, f"{whole}, resized to {size[0]} × {size[1]}{_stretch(picture.size, size)}")
    parts = [(picture.crop(box), words) for box, words in _crops(picture.size, size)]
    likeness = [_alike(part, pixels) for part, _ in parts]
    best = max(range(len(parts)), key=likeness.__getitem__)
    if likeness[best] < ALIKE:
        return _of_pixels(pixels)
    part, words = parts[best]
    told = f"{words} of {picture.width} × {picture.height} pixels, resized to {size[0]} × {size[1]}"
    return written(part, size, told + _stretch(part.size, size))


def heard_sound(sound: Sound | None) -> Seen | None:
    """The waveform of a sound, for a grid of one row; None where it is not known."""
    if sound is None:
        return None
    drawn = waveform(sound.samples, sound.seconds, WAVEFORM)
    return written(drawn, WAVEFORM, f"the waveform of {sound.seconds:.2f} s, loudest at full height")


def _pixels(observation: Observation) -> np.ndarray | None:
    """What the model was given, (height, width, 3)."""
    if not observation.can_run:
        return None
    found = [value for value in observation.inputs.values() if is_pixels(value)]
    if len(found) != 1 or not isinstance(found[0], Tensor) or found[0].shape[0] != 1:
        return None
    values = found[0][0].detach().cpu().float().numpy()
    if values.shape[0] not in (1, 3):
        return None
    return np.repeat(values, 3 // values.shape[0], 0).transpose(1, 2, 0)


def _crops(have: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[tuple[float, float, float, float], str]]:
    """Crops that processors make: all of it, and the middle in the proportions of what the model was given."""
    width, height = have
    yield (0, 0, width, height), "the whole"
    across = min(width, height * size[0] / size[1])
    down = min(height, width * size[1] / size[0])
    for share in (1.0, 0.875, 224 / 236, 0.9, 0.95, 0.875 * 0.95):
        w, h = across * share, down * share
        words = "the middle" if share == 1 else f"the middle {share:.0%}"
        left, top = (width - w) / 2, (height - h) / 2
        yield (round(left), round(top), round(left + w), round(top + h)), words


def _alike(part: PIL.Image.Image, pixels: np.ndarray) -> float:
    """Correlation of a part of the picture with what the model was given, each channel for itself, the least."""
    small = (_COMPARED, _COMPARED)
    ours = np.asarray(part.convert("RGB").resize(small, PIL.Image.Resampling.BOX), np.float64)
    planes = [PIL.Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(3)]
    theirs = np.stack([np.asarray(p.resize(small, PIL.Image.Resampling.BOX), np.float64) for p in planes], -1)
    pairs = [(ours[..., c].ravel(), theirs[..., c].ravel()) for c in range(3)]
    if any(a.std() == 0 or b.std() == 0 for a, b in pairs):
        return 0.0
    return min(float(np.corrcoef(a, b)[0, 1]) for a, b in pairs)


def _of_pixels(pixels: np.ndarray) -> Seen:
    """What the model was given, its normalisation undone where it is one of the usual ones."""
    size = pixels.shape[1], pixels.shape[0]
    plain, how = _plain(pixels)
    picture = PIL.Image.fromarray(np.rint(255 * plain.clip(0, 1)).astype(np.uint8))
    return written(picture, size, f"what the model was given, {size[0]} × {size[1]} pixels{how}")


def _plain(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Colours from 0 to 1: of the usual means and deviations those that make whole bytes, or stretched to fit."""
    best, miss = None, 0.02
    for mean, std in _STATISTICS:
        values = pixels * np.array(std, np.float32) + np.array(mean, np.float32)
        if values.min() < -0.02 or values.max() > 1.02:
            continue
        off = float(np.abs(255 * values - np.rint(255 * values)).mean())
        if best is None or off < miss:
            best, miss = values, off
    if best is not None:
        return best, ""
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels - low) / max(high - low, 1e-12), ", colours stretched to what they hold"


def _stretch(have: tuple[int, int], size: tuple[int, int]) -> str:
    """How far the proportions were changed, in words, from one percent on."""
    ratio = (size[0] / size[1]) / (have[0] / have[1])
    if abs(ratio - 1) < 0.01:
        return ""
    return f", {ratio - 1:.0%} wider than it is" if ratio > 1 else f", {1 / ratio - 1:.0%} taller than it is"


def written(picture: PIL.Image.Image, size: tuple[int, int], note: str) -> Seen:
    """A JPEG of the picture in the proportions of ``size``, below ``MOST_BYTES``."""
    have = max(picture.size)
    side = min(MOST_SIDE, max(LEAST_SIDE, *size), max(have, min(LEAST_SIDE, *size)))
    while True:
        width, height = _fitting(size, side)
        shown = picture.convert("RGB").resize((width, height), PIL.Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            jpeg = _jpeg(shown, quality)
            if len(jpeg) <= MOST_BYTES:
                return Seen(jpeg, width, height, note)
        side = side * 3 // 4


def _fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _jpeg(picture: PIL.Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": quality, "optimize": True, "progressive": True}
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()

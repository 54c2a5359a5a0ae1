"""Writes tiny data sets in the exact published formats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tokenrank.errors import InputError


def noise(height: int = 6, width: int = 10, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(height: int = 6, width: int = 10) -> np.ndarray[Any, Any]:
    """A mask that no transposition or flip leaves as it is."""
    mask = np.zeros((height, width), dtype=bool)
    mask[1:4, 2:5] = mask[4, 2] = True
    return mask


def write(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def write_grey(path: Path, values: np.ndarray[Any, Any]) -> Path:
    return write(path, values.astype(np.uint8))


def write_palette(path: Path, indices: np.ndarray[Any, Any]) -> Path:
    """Numbers as palette indices, whose colours mean nothing, as PASCAL VOC stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(path)
    return path


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def cut(path: Path) -> None:
    """Leave half of a file, as a broken download does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **options)
    return str(error.value)

"""Segmentation: a label for every pixel, ready to look at and to hand on."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin

from ..errors import InputError
from ..models import ImageSource, read_image
from .coco import dataset
from .palette import palette

MOST_LABELS = 255  # of an indexed picture, beside the background


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label for every pixel of a picture.

    Attributes:
        labels: int64 (H, W); 0 is background.
        names: of every label, ``names[0]`` of the background.
        scores: float32 (len(names) − 1, H, W), the map that each label came from; None where there is none.

    Raises:
        InputError: labels of another shape or type, or without a name; scores that do not fit.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iub":
            raise InputError(f"labels have shape {labels.shape} and type {labels.dtype}, expected whole numbers (H, W)")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        if labels.min() < 0 or labels.max() >= len(self.names):
            raise InputError(
                f"labels go from {labels.min()} to {labels.max()}, expected 0 to {len(self.names) - 1}: there are "
                f"{len(self.names)} names, that of the background first"
            )
        if self.scores is not None and self.scores.shape != (len(self.names) - 1, *labels.shape):
            raise InputError(
                f"scores have shape {self.scores.shape}, expected {(len(self.names) - 1, *labels.shape)}: one map for "
                "each label above 0"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    def mask(self, label: int | str = 1) -> np.ndarray:
        """bool (H, W): the pixels of a label, given by number or name.

        Raises:
            InputError: no such label.
        """
        number = self.names.index(label) if label in self.names else label
        if isinstance(number, str) or not 0 <= number < len(self.names):
            raise InputError(f"no label {label!r}, expected one of {dict(enumerate(self.names))}")
        return self.labels == number

    def areas(self) -> dict[str, float]:
        """Share of the picture that each label covers, 0 … 1, background included."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {f"{name}": float(n) / self.labels.size for name, n in zip(self.names, counts, strict=True)}

    def indexed(self) -> PIL.Image.Image:
        """A picture of mode P whose pixel values are the labels, in a fixed palette.

        Raises:
            InputError: more than 255 labels.
        """
        if len(self.names) - 1 > MOST_LABELS:
            raise InputError(
                f"{len(self.names) - 1} labels do not fit an indexed png, which has {MOST_LABELS} at most; save as "
                ".json (COCO)"
            )
        picture = PIL.Image.fromarray(self.labels.astype(np.uint8))
        picture.putpalette(palette().tobytes())  # makes it mode P
        return picture

    def coco(self, file_name: str = "", description: str = "tokenrank") -> dict[str, Any]:
        """A COCO data set of this one picture, with uncompressed run lengths; see ``tokenrank.tasks.coco``."""
        return dataset(self.labels, self.names, file_name, description)

    def overlay(self, image: ImageSource, opacity: float = 0.55) -> PIL.Image.Image:
        """The labels above 0 in colour over their picture, in the labels' size.

        Args:
            image: as in ``read_image``.
            opacity: of the colours, 0 … 1.

        Raises:
            InputError: a picture that cannot be read, or an opacity beyond 0 … 1.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity = {opacity!r}, expected a number from 0 to 1")
        height, width = self.size
        picture = read_image(image)
        if picture.size != (width, height):
            picture = picture.resize((width, height), PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(picture, dtype=np.float64)
        colours = palette()[(self.labels - 1) % MOST_LABELS + 1]
        mixed = np.where(self.labels[..., None] > 0, (1 - opacity) * pixels + opacity * colours, pixels)
        return PIL.Image.fromarray(np.round(mixed).astype(np.uint8))

    def save(self, path: str | Path, file_name: str = "") -> Path:
        """Write the labels as an indexed .png, or as COCO .json; the ending says which.

        Args:
            file_name: name of the picture, for the json.

        Raises:
            InputError: another ending, a folder that does not exist, or more labels than a png has.
        """
        path = Path(path)
        if path.suffix not in (".png", ".json"):
            raise InputError(f"cannot write {path.name!r}: expected .png (indexed) or .json (COCO)")
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path.name!r}: no folder {str(path.parent)!r}; make it first")
        path.write_bytes(self.encoded(path.suffix, file_name))
        return path

    def encoded(self, form: str, file_name: str = "", maker: str = "tokenrank") -> bytes:
        """The bytes of ``save``: ``form`` is ".png" or ".json", ``maker`` stands in the file's own notes."""
        if form == ".json":
            return json.dumps(self.coco(file_name, maker), ensure_ascii=False).encode("utf-8", "backslashreplace")
        return png_bytes(self.indexed(), maker)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Segmentation({height} × {width}, {len(self.names) - 1} labels)"


def png_bytes(picture: PIL.Image.Image, maker: str) -> bytes:
    """A picture as png, with who made it."""
    notes, buffer = PIL.PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_text("Software", maker)
    picture.save(buffer, format="png", pnginfo=notes)
    return buffer.getvalue()

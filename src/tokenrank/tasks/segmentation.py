"""Segmentation: a label for every pixel, ready to look at and to hand on."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin

from ..errors import InputError, escaped
from ..html import escape, image, note, panel
from ..models import ImageSource, read_image
from ..writing import save_whole
from .marks import Mark, with_marks
from .palette import palette
from .strength import strength_words, total_strength

MOST_LABELS = 255  # of an indexed picture, beside the background
SHOWN = 4  # labels named by ``repr``
SMALL, LARGE = 240, 640  # pixels of a picture in a notebook, at least and at most
SHOWN_WIDE = 420  # CSS pixels that it is wide at most
LONGEST_NAME = 60  # characters of a label's name
MOST_NAMED = 40  # labels of a legend


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label for every pixel of a picture.

    Attributes:
        labels: int64 (H, W); 0 is background.
        names: of every label, ``names[0]`` of the background.
        scores: float32 (len(names) − 1, H, W), the map that each label came from; None where there is none.
        picture: what was divided, where that is known; shown beneath the labels.
        caption: how, in words: model, layer, heads, tokens, and what the task was told.
        strengths: how much each label above 0 stands out, from −1 to 1; 0 is what a picture of one colour gives, and
            below 0.1 there may be nothing (``tokenrank.tasks.strengths``). None where it is not known: attention that
            was captured before, so that the model cannot be asked what it makes of one colour.
        starts: where each label above 0 was started from: a point, a box in fractions, a bool mask (H, W), or None
            where that is no place, such as CLS; empty where nothing was started.

    Raises:
        InputError: labels of another shape or type, or without a name; scores or strengths that do not fit.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray | None = None
    picture: PIL.Image.Image | None = None
    caption: str = ""
    strengths: tuple[float, ...] | None = None
    starts: tuple[Mark, ...] = ()

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
        if self.strengths is not None and len(self.strengths) != len(self.names) - 1:
            raise InputError(f"{len(self.strengths)} strengths of {len(self.names) - 1} labels, expected one each")
        if self.starts and len(self.starts) != len(self.names) - 1:
            raise InputError(f"{len(self.starts)} starts of {len(self.names) - 1} labels, expected one each")

    @property
    def strength(self) -> float | None:
        """One number for all labels above 0: the mean of their strengths by area, 0 where none has any; or None."""
        if self.strengths is None:
            return None
        return total_strength(self.strengths, [*self.areas().values()][1:])

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
        """A COCO data set of this one picture, with uncompressed run lengths; see ``coco_dataset``."""
        data = coco_dataset(self.labels, self.names, file_name, description, self.strengths)
        if self.strength is not None:
            data["info"]["strength"] = round(self.strength, 6)
        return data

    def overlay(self, image: ImageSource | None = None, opacity: float = 0.55, starts: bool = True) -> PIL.Image.Image:
        """The labels above 0 in colour over their picture, in the labels' size, and where they were started from.

        Args:
            image: as in ``read_image``; ``picture`` where None, or white where that is not known either.
            opacity: of the colours, 0 … 1.
            starts: draw ``starts``, each in the colour of its label, on pictures of 48 pixels a side or more.

        Raises:
            InputError: a picture that cannot be read, or an opacity beyond 0 … 1.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity = {opacity!r}, expected a number from 0 to 1")
        height, width = self.size
        beneath = self.picture if image is None else read_image(image)
        if beneath is None:
            beneath = PIL.Image.new("RGB", (width, height), "white")
        if beneath.size != (width, height):
            beneath = beneath.resize((width, height), PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(beneath, dtype=np.float64)
        mixed = np.where(self.labels[..., None] > 0, (1 - opacity) * pixels + opacity * self._colours(), pixels)
        if starts:
            mixed = with_marks(mixed, self.starts, palette()[1:].astype(np.float64))
        return PIL.Image.fromarray(np.round(mixed).astype(np.uint8))

    def save(self, path: str | Path, file_name: str = "") -> Path:
        """Write the labels as an indexed .png, or as COCO .json, whole or not at all; the ending says which.

        Args:
            path: of the file. Where it is a link of yours, the file that it leads to is written.
            file_name: name of the picture, for the json.

        Raises:
            InputError: another ending, a file that cannot be written (a folder that does not exist, a full disk …), or
                more labels than a png has.
        """
        path = Path(path)
        if path.suffix not in (".png", ".json"):
            raise InputError(f"cannot write {path.name!r}: expected .png (indexed) or .json (COCO)")
        save_whole(path, self.encoded(path.suffix, file_name))
        return path

    def encoded(self, form: str, file_name: str = "", maker: str = "tokenrank") -> bytes:
        """The bytes of ``save``: ``form`` is ".png" or ".json", ``maker`` stands in the file's own notes."""
        if form == ".json":
            return json.dumps(self.coco(file_name, maker), ensure_ascii=False).encode("utf-8", "backslashreplace")
        return png_bytes(self.indexed(), maker, {} if self.strengths is None else {"Strength": f"{self.strength:.4f}"})

    def strength_words(self) -> str:
        """``strength`` as a person reads it."""
        return strength_words(self.strength)

    def __repr__(self) -> str:
        height, width = self.size
        shares = [f"{escaped(name, LONGEST_NAME)} {share:.0%}" for name, share in list(self.areas().items())[1:]]
        told = ", ".join(shares[:SHOWN]) + (f", … {len(shares)} labels" if len(shares) > SHOWN else "")
        known = "" if self.strengths is None else f"; {self.strength_words()}"
        return f"Segmentation({height} × {width} pixels: {told or 'background alone'}{known})"

    def _repr_html_(self) -> str:
        picture, photo = self.overlay(), self.picture is not None
        if max(picture.size) < SMALL:  # one pixel a patch: each as a square that can be seen
            factor = -(-SMALL // max(picture.size))
            picture = picture.resize((picture.width * factor, picture.height * factor), PIL.Image.Resampling.NEAREST)
        elif max(picture.size) > LARGE:
            picture.thumbnail((LARGE, LARGE), PIL.Image.Resampling.LANCZOS)
        names = " &nbsp; ".join(self._name(label) for label in range(1, min(len(self.names), MOST_NAMED + 1)))
        more = f" … and {len(self.names) - 1 - MOST_NAMED} more" if len(self.names) - 1 > MOST_NAMED else ""
        width = min(picture.width, SHOWN_WIDE)
        content = f"{image(picture, 'labels over their picture', width, photo)}<div>{names}{more}</div>"
        told = "" if self.strengths is None else self.strength_words()
        return panel(f"Segmentation of {self.size[0]} × {self.size[1]} pixels", content, note(self.caption), note(told))

    def _name(self, label: int) -> str:
        """A label's name and area, with its colour, as HTML."""
        red, green, blue = palette()[label]
        share = float((self.labels == label).mean())
        return f'<span style="color:rgb({red},{green},{blue})">■</span> {escape(self.names[label])} {share:.1%}'

    def _colours(self) -> np.ndarray:
        return palette()[(self.labels - 1) % MOST_LABELS + 1]


def png_bytes(picture: PIL.Image.Image, maker: str, told: Mapping[str, str] | None = None) -> bytes:
    """A picture as png, with who made it and what else is told about it."""
    notes, buffer = PIL.PngImagePlugin.PngInfo(), io.BytesIO()
    for name, words in {"Software": maker, **(told or {})}.items():
        notes.add_text(name, words)
    picture.save(buffer, format="png", pnginfo=notes)
    return buffer.getvalue()


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths of a bool mask (H, W): columns from left to right, each from top to bottom.

    Returns:
        ``{"size": [H, W], "counts": [...]}``; counts of pixels, outside and inside in turn, the first one outside
        (0 where the first pixel is inside).
    """
    flat = np.asarray(mask, dtype=bool).flatten(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def coco_dataset(
    labels: np.ndarray,
    names: Sequence[str],
    file_name: str,
    description: str,
    strengths: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Labels (H, W) of one picture as a COCO data set: one annotation for each label above 0 that occurs.

    Args:
        names: of every label from 0 on; ids of categories are the labels.
        file_name: of the picture.
        description: for the field ``info``.
        strengths: of every label from 1 on, for a field ``strength`` of its annotation.
    """
    height, width = labels.shape
    annotations: list[dict[str, Any]] = []
    for label in range(1, len(names)):
        mask = labels == label
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": label,
                "segmentation": run_lengths(mask),
                "area": int(mask.sum()),
                "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
                "iscrowd": 0,
            }
            | ({} if strengths is None else {"strength": round(strengths[label - 1], 6)})
        )
    return {
        "info": {"description": description},
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names) if i],
    }

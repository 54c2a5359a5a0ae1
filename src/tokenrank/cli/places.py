"""Places in pictures, texts and sounds as they are typed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NotFoundError, printable
from .meaning import seconds_of
from .report import MisuseError

if TYPE_CHECKING:
    from ..components import Mask
    from ..layout import Point, TokenLayout

_NUMBER = r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"
_FORMS = "give pixels as two whole numbers, such as 320,180, or fractions with a decimal point, such as 0.5,0.4"


@dataclass(frozen=True)
class Spot:
    """A point of an upright picture: a pixel, from 0,0 at the top left, or fractions of width and height.

    Two whole numbers are a pixel and mean its middle. Where one of the two has a decimal point both are fractions from
    0 to 1.

    Raises:
        MisuseError: not two numbers, or fractions beyond 0 … 1.
    """

    text: str

    def __post_init__(self) -> None:
        if re.fullmatch(f"{_NUMBER},{_NUMBER}", self.text, re.ASCII) is None:
            raise MisuseError(f"start {printable(self.text)} is not x,y; {_FORMS}")
        x, y = self._numbers
        if self.in_fractions and not (0 <= x <= 1 and 0 <= y <= 1):
            raise MisuseError(
                f"start {printable(self.text)} is outside the picture: numbers with a decimal point are fractions from "
                f"0 to 1; {_FORMS}"
            )

    @property
    def in_fractions(self) -> bool:
        """Whether it is a place of any picture, whatever its size."""
        return "." in self.text

    @property
    def _numbers(self) -> tuple[float, float]:
        x, y = self.text.split(",")
        return float(x), float(y)

    def at(self, width: int, height: int) -> Point:
        """The point of a picture of ``width`` × ``height`` pixels.

        Raises:
            InputError: it has no such pixel.
        """
        from ..layout import at

        x, y = self._numbers
        if self.in_fractions:
            return at(x, y)
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"start {printable(self.text)} is outside the picture of {width} × {height} pixels: x from 0 to "
                f"{width - 1}, y from 0 to {height - 1}"
            )
        return at((x + 0.5) / width, (y + 0.5) / height)


def start_of(text: str) -> Spot | str:
    """What ``--start`` means: a point, or the name of a span of tokens.

    Raises:
        MisuseError: neither.
    """
    return text if re.fullmatch(r"[A-Za-z_]\w*", text) else Spot(text)


def box_of(text: str) -> tuple[float, float, float, float]:
    """What ``--box`` means: four whole numbers in pixels, or fractions where one has a decimal point.

    Raises:
        MisuseError: not four numbers, or an empty box.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part) if "." in text else int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise MisuseError(
            f"box {printable(text)} is not x0,y0,x1,y1; give pixels as whole numbers, such as 20,10,200,180, or "
            "fractions with a decimal point, such as 0.1,0.1,0.6,0.9"
        )
    x0, y0, x1, y1 = numbers
    inside = x0 >= 0 and y0 >= 0 and x0 < x1 and y0 < y1 and ("." not in text or (x1 <= 1 and y1 <= 1))
    if not inside:
        unit = "fractions" if "." in text else "pixels"
        raise MisuseError(f"box {printable(text)} in {unit}: expected 0 ≤ x0 < x1 and 0 ≤ y0 < y1, inside the picture")
    return x0, y0, x1, y1


def check_box(box: tuple[float, float, float, float], width: int, height: int) -> None:
    """Raise ``InputError`` for a box in pixels that is not inside the picture."""
    whole = all(isinstance(number, int) for number in box)
    if whole and (box[2] > width or box[3] > height):
        raise InputError(f"box {tuple(box)} is not inside the picture of {width} × {height} pixels")


def mask_of(path: str, size: tuple[int, int]) -> Mask:
    """What ``--mask`` means: a picture of ``size`` = (width, height), white is inside.

    Raises:
        InputError: no picture, or one of another size.
    """
    import numpy as np

    from ..models import read_image

    picture = read_image(path)
    if picture.size != size:
        raise InputError(
            f"the mask {printable(path)} has {picture.width} × {picture.height} pixels, expected the picture's "
            f"{size[0]} × {size[1]}"
        )
    return np.asarray(np.asarray(picture.convert("L")) > 127)


def word_of(text: str, layout: TokenLayout) -> str | int:
    """A word of the text as it is; a whole number that is no word of it as the index of a token.

    Raises:
        NotFoundError: neither. LayoutError: a word that occurs several times. InputError: an
        index that is too large.
    """
    import torch

    from ..chain import start_distribution

    count = layout.num_tokens
    try:
        start_distribution(text, torch.Size((count, count)), layout)
    except NotFoundError:
        if re.fullmatch(r"-?\d+", text, re.ASCII) is None:
            raise
        if not -count <= int(text) < count:
            raise InputError(
                f"start {text} of a text of {count} tokens, expected 0 to {count - 1}, or a word"
            ) from None
        return int(text)
    return text


def part_of(text: str) -> tuple[float, float]:
    """What ``--part`` means: from and to, in seconds.

    Raises:
        MisuseError: not two numbers, or not from small to large.
    """
    parts = text.split(",")
    if len(parts) != 2:
        raise MisuseError(f"part {printable(text)} is not FROM,TO; give seconds, such as 0,30")
    begin, end = seconds_of(parts[0], "part"), seconds_of(parts[1], "part")
    if begin >= end:
        raise MisuseError(f"part {printable(text)} ends where it begins or before; give FROM,TO in seconds, as in 0,30")
    return begin, end


def named(places: list[Any]) -> Any:
    """One place as it is, several as a list, none as None."""
    return (places if len(places) > 1 else places[0]) if places else None

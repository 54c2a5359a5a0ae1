"""Where a walk starts, as it is typed: a point of a picture, a word of a text."""

from __future__ import annotations

import re

from ..errors import InputError, NotFoundError, printable
from ..layout import Point, TokenLayout, at

_NUMBER = r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"
_FORMS = "give pixels as two whole numbers, such as 320,180, or fractions with a decimal point, such as 0.5,0.4"


def point_of(text: str, width: int, height: int) -> Point:
    """The point ``x,y`` of an upright picture of ``width`` × ``height`` pixels.

    Two whole numbers are a pixel, from 0,0 at the top left, and mean its middle. Where one of the
    two has a decimal point both are fractions of width and height, from 0 to 1.

    Raises:
        InputError: not two numbers, or outside the picture.
    """
    found = re.fullmatch(f"{_NUMBER},{_NUMBER}", text, re.ASCII)
    if found is None:
        raise InputError(f"start {printable(text)} is not x,y; {_FORMS}")
    x, y = map(float, found.groups())
    if "." in text:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise InputError(
                f"start {printable(text)} is outside the picture: numbers with a decimal point are fractions from 0 "
                f"to 1; {_FORMS}"
            )
        return at(x, y)
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"start {printable(text)} is outside the picture of {width} × {height} pixels: x from 0 to {width - 1}, "
            f"y from 0 to {height - 1}"
        )
    return at((x + 0.5) / width, (y + 0.5) / height)


def word_of(text: str, layout: TokenLayout) -> str | int:
    """A word of the text as it is; a whole number that is no word of it as the index of a token.

    Raises:
        NotFoundError: neither. LayoutError: a word that occurs several times. InputError: an
        index that is too large.
    """
    from ..chain.starts import start_distribution

    count = layout.num_tokens
    import torch

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

"""Places in a source: a point of a picture or video, a moment of a sound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, overload

from ..errors import LayoutError

_AXES = {"x": "width", "y": "height", "t": "length"}


@dataclass(frozen=True)
class Point:
    """A place in the picture: fractions of its width (``x``) and height (``y``), from the top left.

    ``t`` is the fraction of a video's length, from its beginning; None for a picture.
    """

    x: float
    y: float
    t: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y), ("t", self.t)):
            if value is not None and not 0 <= value <= 1:
                frame, units = ("video", "frame numbers") if name == "t" else ("picture", "pixels")
                raise LayoutError(
                    f"point outside the {frame}: {name} = {value:g}, expected a fraction from 0 to 1; "
                    f"divide {units} by the {frame}'s {_AXES[name]}"
                )


@dataclass(frozen=True)
class Moment:
    """A moment of a sound, in seconds from its beginning."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise LayoutError(f"moment {self.seconds:g} s of a sound, expected seconds from its beginning, 0 or more")


Place: TypeAlias = Point | Moment
"""Where a token is looked for: a point of a picture or video, a moment of a sound."""


@overload
def at(x: float, y: float, t: float | None = None) -> Point: ...
@overload
def at(*, seconds: float) -> Moment: ...
def at(
    x: float | None = None, y: float | None = None, t: float | None = None, *, seconds: float | None = None
) -> Place:
    """A place, for ``chain.bounce``: a point of a picture or a moment of a sound.

    Args:
        x, y: fractions of the picture's width and height, from the top left.
        t: in a video, the fraction of its length.
        seconds: of a sound, from its beginning; alone.

    Raises:
        LayoutError: outside the picture, before the sound, or neither x and y nor seconds.

    Example:
        >>> import tokenrank as tr
        >>> tr.at(0.9, 0.1)
        Point(x=0.9, y=0.1, t=None)
        >>> tr.TokenLayout.image(2, 2).token_at(tr.at(0.9, 0.1))  # after CLS, top right
        2
        >>> tr.TokenLayout.audio(550, 0.02).token_at(tr.at(seconds=1.3))
        65
    """
    if seconds is not None and x is y is t is None:
        return Moment(float(seconds))
    if seconds is not None or x is None or y is None:
        raise LayoutError(
            f"at(x={x}, y={y}, t={t}, seconds={seconds}), expected x and y of a picture, or seconds of a sound alone: "
            "tr.at(0.4, 0.6) or tr.at(seconds=1.3)"
        )
    return Point(float(x), float(y), None if t is None else float(t))

"""Pictures of a command: read one by one, their places checked before any work."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError, NothingThereWarning, printable
from .places import Spot, check_box

if TYPE_CHECKING:
    import PIL.Image

    from .sources import Source


def picture_of(source: Source) -> PIL.Image.Image:
    """The upright picture; of one that is the same all over it is told that nothing is there.

    Raises:
        InputError: it cannot be read.
    """
    from ..models.images import read_image

    picture = read_image(source.path)
    bands = picture.getextrema()
    if all(low == high for low, high in bands):  # type: ignore[misc]
        colour = [low for low, _ in bands]  # type: ignore[misc]
        words = "black" if colour == [0] * 3 else "white" if colour == [255] * 3 else f"of colour {colour}"
        pixels = f"{picture.width} × {picture.height} pixels"
        warnings.warn(
            f"{printable(source.name)}, {pixels}, is {words} all over (what is transparent counts as white): nothing "
            "is there, and its maps tell of the model alone",
            NothingThereWarning,
            stacklevel=2,
        )
    return picture


def check_spots(
    sources: Sequence[Source],
    spots: Sequence[Spot | str],
    boxes: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Raise ``InputError`` where a place in pixels is outside one of the pictures.

    Their headers are read for it, and no more; pictures that cannot be read are told when it is their turn.
    """
    pixels = [spot for spot in spots if isinstance(spot, Spot) and not spot.in_fractions]
    whole = [box for box in boxes if all(isinstance(number, int) for number in box)]
    if not (pixels or whole):
        return
    from ..models.images import upright_size

    for source in sources:
        try:
            size = upright_size(source.path)
        except InputError:
            continue
        try:
            for spot in pixels:
                spot.at(*size)
            for box in whole:
                check_box(box, *size)
        except InputError as error:
            named = "" if len(sources) == 1 else f"{printable(source.path)}: "
            hint = "" if len(sources) == 1 else "; give fractions, which fit every picture"
            raise InputError(f"{named}{error}{hint}") from None

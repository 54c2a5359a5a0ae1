"""Options that several commands share, and what is meant by what is typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, NotFoundError, nearest, printable
from ..grammar import HEADS_HELP, LAYER_HELP, TOKENS_HELP

if TYPE_CHECKING:
    from ..chain.foreground import ForegroundRule
    from ..components import Mask
    from ..layout import Point, TokenLayout
    from ..markov import Bounces
    from ..select import Heads, Layer, Layers, Tokens

MOST_BOUNCES = 10_000
FORMATS = ("png", "pdf", "svg")
FIGURES = ("bounces", "lambda2")
"""What is drawn of every analysis."""


class TableFormat(str, Enum):
    """How tables are written."""

    json = "json"
    parquet = "parquet"


OutOption = Annotated[
    Path,
    typer.Option(
        help="Folder for the results. Files of the same names are replaced if tokenrank made them.", show_default=True
    ),
]
FormatsOption = Annotated[str, typer.Option(help="Formats of the figures: some of png,pdf,svg.")]
TableOption = Annotated[TableFormat, typer.Option(help="Format of the numbers; parquet needs pyarrow.")]
PictureArgument = Annotated[str, typer.Argument(metavar="PATH", help="A picture.", show_default=False)]
ModelOption = Annotated[
    str, typer.Option(help="bundled, a folder, OWNER/NAME on the Hugging Face hub (downloaded once), or timm:NAME.")
]
LayerOption = Annotated[str | None, typer.Option(help=f"Which layer: {LAYER_HELP}.", show_default=False)]
LayersOption = Annotated[
    list[str] | None,
    typer.Option("--layer", help=f"Which layer: {LAYER_HELP}. Several times for several.", show_default=False),
]
HeadsOption = Annotated[str, typer.Option(help=f"Which heads: {HEADS_HELP}.", show_default=False)]
TokensOption = Annotated[str | None, typer.Option(help=f"Which tokens: {TOKENS_HELP}.", show_default=False)]
BouncesOption = Annotated[int, typer.Option(help="The largest n; up to four maps are shown, from n = 1 to this.")]
AlphaOption = Annotated[float, typer.Option(help="Probability of following attention in TokenRank, 0 to 1.")]
SizeOption = Annotated[
    int | None, typer.Option(help="Long side in pixels that the model gets.", show_default="the model's own")
]


def layer_of(text: str | None) -> Layer:
    """What ``--layer`` means: a whole number is a number."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text


def layers_of(texts: Sequence[str] | None) -> Layers:
    """What ``--layer`` means where it may stand several times."""
    layers = [layer_of(text) for text in texts or ()]
    return layers if len(layers) > 1 else layers[0] if layers else None  # type: ignore[return-value]


def heads_of(text: str) -> Heads:
    """What ``--heads`` means: 3 is a head, 0+3+5 are several.

    Raises:
        InputError: neither whole numbers nor one of the words.
    """
    if text == "lambda2":
        return "lambda2"
    if text == "uniform":
        return "uniform"
    try:
        numbers = [int(part) for part in text.split("+")]
    except ValueError:
        near = nearest(text, ("lambda2", "uniform"))
        raise InputError(f"no heads {printable(text)}; {near}; or numbers of heads, such as 3 or 0+3+5") from None
    return numbers if len(numbers) > 1 else numbers[0]


def tokens_of(text: str | None) -> Tokens:
    """What ``--tokens`` means: the name of a span, or several with + between them."""
    return text if text is None or "+" not in text else [part.strip() for part in text.split("+")]


def bounces_of(most: int) -> tuple[int, ...]:
    """Up to four numbers from 1 to ``most``, at equal ratios: 8 → 1, 2, 4, 8.

    Raises:
        InputError: below 1 or above 10,000.
    """
    if not 1 <= most <= MOST_BOUNCES:
        raise InputError(f"bounces = {most}, expected 1 to {MOST_BOUNCES:,}; TokenRank is the limit of infinitely many")
    return tuple(sorted({round(most ** (k / 3)) for k in range(4)}))


def formats_of(text: str) -> tuple[str, ...]:
    """``png,pdf`` as a tuple.

    Raises:
        InputError: another format, or none.
    """
    forms = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for form in forms:
        if form not in FORMATS:
            raise InputError(f"no figure format {form!r}; {nearest(form, FORMATS)}")
    if not forms:
        raise InputError(f"no figure format given, expected some of {', '.join(FORMATS)}")
    return forms


def steps_of(text: str) -> Bounces:
    """What ``--n`` means.

    Raises:
        InputError: neither a whole number nor "halflife".
    """
    if text == "halflife":
        return "halflife"
    if not re.fullmatch(r"\d+", text) or int(text) > MOST_BOUNCES:
        raise InputError(f"n = {printable(text)}, expected 0 to {MOST_BOUNCES:,}, or halflife")
    return int(text)


def rule_of(text: str) -> ForegroundRule:
    """What ``--rule`` means.

    Raises:
        InputError: none of the words, and no share.
    """
    if text in ("mean", "all"):
        return None if text == "all" else "mean"
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"rule = {printable(text)}, expected mean, all, or a share of the mass such as 0.6")
    return share


def tau_of(text: str) -> Any:
    """What ``--tau`` means.

    Raises:
        InputError: neither auto nor a positive number.
    """
    if text == "auto":
        return "auto"
    try:
        distance = float(text)
    except ValueError:
        distance = 0.0
    if not 0 < distance < float("inf"):
        raise InputError(f"tau = {printable(text)}, expected auto, or a positive distance such as 1.1")
    return distance


_NUMBER = r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"
_FORMS = "give pixels as two whole numbers, such as 320,180, or fractions with a decimal point, such as 0.5,0.4"


def point_of(text: str, width: int, height: int) -> Point:
    """The point ``x,y`` of an upright picture of ``width`` × ``height`` pixels.

    Two whole numbers are a pixel, from 0,0 at the top left, and mean its middle. Where one of the
    two has a decimal point both are fractions of width and height, from 0 to 1.

    Raises:
        InputError: not two numbers, or outside the picture.
    """
    from ..layout import at

    numbers = re.fullmatch(f"{_NUMBER},{_NUMBER}", text, re.ASCII)
    if numbers is None:
        raise InputError(f"start {printable(text)} is not x,y; {_FORMS}")
    x, y = map(float, numbers.groups())
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


def seconds_of(text: str, option: str) -> float:
    """Seconds as typed.

    Raises:
        InputError: no number, or one below 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{option} = {printable(text)}, expected seconds from 0, such as 1.3")
    return value


def start_of(text: str, width: int, height: int) -> Any:
    """What ``--start`` means: a point, or the name of a span of tokens.

    Raises:
        InputError: neither.
    """
    return text if re.fullmatch(r"[A-Za-z_]\w*", text) else point_of(text, width, height)


def box_of(text: str) -> tuple[float, float, float, float]:
    """What ``--box`` means: four whole numbers in pixels, or fractions where one has a decimal point.

    Raises:
        InputError: not four numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part) if "." in text else int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise InputError(
            f"box {printable(text)} is not x0,y0,x1,y1; give pixels as whole numbers, such as 20,10,200,180, or "
            "fractions with a decimal point, such as 0.1,0.1,0.6,0.9"
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


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

"""What is meant by what is typed. A value that is wrong whatever the files hold is a misuse of the command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import nearest, printable
from .options import FORMATS
from .report import MisuseError

if TYPE_CHECKING:
    from ..chain.foreground import ForegroundRule
    from ..markov import Bounces
    from ..select import Heads, Layer, Layers, Tokens

MOST_BOUNCES = 10_000
MOST_MAPS = 8
"""Maps of one figure, from the start."""


@dataclass(frozen=True)
class RunNumbers:
    """The numbers that every run over a data set takes."""

    limit: int | None
    batch: int
    seed: int
    resamples: int


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


def heads_of(text: str | None) -> Heads:
    """What ``--heads`` means: 3 is a head, 0+3+5 are several; weights from |λ2| where nothing is typed.

    Raises:
        MisuseError: neither whole numbers nor one of the words.
    """
    if text is None or text == "lambda2":
        return "lambda2"
    if text == "uniform":
        return "uniform"
    try:
        numbers = [int(part) for part in text.split("+")]
    except ValueError:
        near = nearest(text, ("lambda2", "uniform"))
        raise MisuseError(f"no heads {printable(text)}; {near}; or numbers of heads, such as 3 or 0+3+5") from None
    return numbers if len(numbers) > 1 else numbers[0]


def tokens_of(text: str | None) -> Tokens:
    """What ``--tokens`` means: the name of a span, or several with + between them."""
    return text if text is None or "+" not in text else [part.strip() for part in text.split("+")]


def maps_of(text: str) -> tuple[int, ...] | None:
    """What ``--n`` means where several maps are shown: numbers of bounces, or None for "halflife".

    Raises:
        MisuseError: neither a number, nor a list of them, nor "halflife".
    """
    if text == "halflife":
        return None
    numbers = [_whole(part) for part in text.split(",")]
    if any(number is None or not 1 <= number <= MOST_BOUNCES for number in numbers):
        raise MisuseError(
            f"n = {printable(text)}, expected 1 to {MOST_BOUNCES:,} (TokenRank is the limit of infinitely many), a "
            "list such as 1,2,8, or halflife"
        )
    listed = sorted({number for number in numbers if number is not None})
    if len(listed) > MOST_MAPS:
        raise MisuseError(f"n = {printable(text)} are {len(listed)} maps, expected {MOST_MAPS} at most in one figure")
    return tuple(listed) if len(numbers) > 1 else maps_up_to(listed[0])


def maps_up_to(most: int) -> tuple[int, ...]:
    """Up to four numbers from 1 to ``most``, at equal ratios: 8 → 1, 2, 4, 8."""
    return tuple(sorted({round(most ** (k / 3)) for k in range(4)}))


def steps_of(text: str) -> Bounces:
    """What ``--n`` means where one number is asked for.

    Raises:
        MisuseError: neither a whole number nor "halflife".
    """
    if text == "halflife":
        return "halflife"
    number = _whole(text)
    if number is None or not 0 <= number <= MOST_BOUNCES:
        raise MisuseError(f"n = {printable(text)}, expected one number from 0 to {MOST_BOUNCES:,}, or halflife")
    return number


def whole_of(text: str, option: str, least: int, most: int | None = None, such_as: int | None = None) -> int:
    """A whole number as typed.

    Raises:
        MisuseError: none, or one outside ``least`` … ``most``.
    """
    number = _whole(text)
    if number is None or number < least or (most is not None and number > most):
        span = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
        hint = "" if such_as is None else f", such as {such_as}"
        raise MisuseError(f"{option} = {printable(text)}, expected a whole number, {span}{hint}")
    return number


def size_of(text: str | None) -> int | None:
    """What ``--size`` means.

    Raises:
        MisuseError: no whole number above 0.
    """
    return None if text is None else whole_of(text, "size", 1, such_as=224)


def share_of(text: str, option: str) -> float:
    """A probability as typed.

    Raises:
        MisuseError: no number from 0 to 1.
    """
    value = _number(text)
    if value is None or not 0 <= value <= 1:
        raise MisuseError(f"{option} = {printable(text)}, expected a number from 0 to 1, such as 0.99")
    return value


def choice_of(text: str, option: str, words: Sequence[str]) -> str:
    """One of a few words.

    Raises:
        MisuseError: another.
    """
    if text not in words:
        raise MisuseError(f"{option} = {printable(text)}; {nearest(text, words)}")
    return text


def formats_of(text: str, known: Sequence[str] = FORMATS, of: str = "figure format") -> tuple[str, ...]:
    """``png,pdf`` as a tuple.

    Raises:
        MisuseError: another format, or none.
    """
    forms = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for form in forms:
        if form not in known:
            raise MisuseError(f"no {of} {printable(form)}; {nearest(form, known)}")
    if not forms:
        raise MisuseError(f"no {of} given, expected some of {', '.join(known)}")
    return forms


def rule_of(text: str) -> ForegroundRule:
    """What ``--rule`` means.

    Raises:
        MisuseError: none of the words, and no share.
    """
    if text in ("mean", "all"):
        return None if text == "all" else "mean"
    share = _number(text)
    if share is None or not 0 < share <= 1:
        raise MisuseError(f"rule = {printable(text)}, expected mean, all, or a share of the mass such as 0.6")
    return share


def tau_of(text: str) -> Any:
    """What ``--tau`` means.

    Raises:
        MisuseError: neither auto nor a positive number.
    """
    if text == "auto":
        return "auto"
    distance = _number(text)
    if distance is None or not 0 < distance < float("inf"):
        raise MisuseError(f"tau = {printable(text)}, expected auto, or a positive distance such as 1.1")
    return distance


def seconds_of(text: str, option: str) -> float:
    """Seconds as typed.

    Raises:
        MisuseError: no number, or one below 0.
    """
    value = _number(text)
    if value is None or not 0 <= value < float("inf"):
        raise MisuseError(f"{option} = {printable(text)}, expected seconds from 0, such as 1.3")
    return value


def run_numbers(limit: str | None, batch: str, seed: str, resamples: str) -> RunNumbers:
    """The numbers of a run as typed.

    Raises:
        MisuseError: one that is none, or too small.
    """
    return RunNumbers(
        limit=None if limit is None else whole_of(limit, "limit", 1),
        batch=whole_of(batch, "batch", 1, such_as=8),
        seed=whole_of(seed, "seed", 0, such_as=0),
        resamples=whole_of(resamples, "resamples", 1, such_as=1000),
    )


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value != value else value


def seeds_of(text: str, most: int) -> list[int]:
    """What ``--seeds`` means: 3 is one, 1,5 are two, 0-7 are eight.

    Raises:
        MisuseError: anything else, or more than ``most``.
    """
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last or last - first >= most:
            raise MisuseError(
                f"seeds {printable(text)}, expected numbers from 0, such as 3, 1,5 or 0-7, {most:,} at most"
            )
        found += [seed for seed in range(first, last + 1) if seed not in found]
    if len(found) > most:
        raise MisuseError(f"seeds {printable(text)} are {len(found):,}, expected {most:,} at most")
    return found


def sides_of(text: str, option: str) -> tuple[int, int]:
    """Pixels as WIDTHxHEIGHT, or one number for both: (height, width).

    Raises:
        MisuseError: anything else.
    """
    sides = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", text.strip())
    if not sides or not int(sides[1]) or not int(sides[2] or 1):
        raise MisuseError(
            f"{option} = {printable(text)}, expected pixels as WIDTHxHEIGHT, such as 512x768, or one number"
        )
    return int(sides[2] or sides[1]), int(sides[1])


def strength_of(text: str, option: str) -> float:
    """A number of 0 or more, such as the scale of a guidance.

    Raises:
        MisuseError: anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise MisuseError(f"{option} = {printable(text)}, expected a number from 0")
    return value

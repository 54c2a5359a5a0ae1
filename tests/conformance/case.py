"""What a row of the conformance matrix is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from packaging.version import Version
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One model in one variant: what goes in, what capture has to see, and what it is compared with."""

    library: str  # distribution whose version is printed: "transformers", "transformer-lens"
    target: str  # what a row of the page says: "ViT", "SD1.5 UNet"
    variant: str  # "sdpa", "eager", "flex", "fused", "unfused", "sdpa, padded"
    build: Callable[[], nn.Module]  # tiny, weights large enough that attention is peaky
    inputs: Callable[[], dict[str, Any]]
    kinds: tuple[str, ...]  # kinds of record expected, sorted
    own: Callable[[nn.Module, dict[str, Any]], list[Tensor]] | None = None  # in order of records; None: output
    records: int | None = None  # how many are expected; with `own`, its length is
    note: str = ""  # goes to the page
    since: str = ""  # lowest version of the library that has it
    refused: str = ""  # a regex: capture must raise CaptureError with it, then `own` and `kinds` are not used


class NotAccepted(Exception):  # noqa: N818 - no error: the library says no, in its own words
    """Raised by ``Case.build`` where the library refuses a variant of a model; the row is skipped with its words."""


def refuse_up_to(library: str, last: str, words: str) -> None:
    """Raise ``NotAccepted`` where ``library`` is version ``last``, which was seen to fail, or older."""
    found = version(library)
    if Version(found) <= Version(last):
        raise NotAccepted(f"not accepted by {library} {found}: {words}")

"""Work on one batch of images: its rows, the images that failed, and random numbers that depend on the image alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import InputError, MissingExtraError, first_line
from ...models import Model

if TYPE_CHECKING:
    from ..datasets.sample import Dataset
    from ..methods import Method
    from ..protocols.base import Protocol

Row = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A batch that has been worked on.

    Attributes:
        keys: its images.
        rows: one an image and method, with "key" and "method" first.
        failures: key → what went wrong.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Work:
    """Keys → ``Done``. The rows of an image depend on it, the settings and the seed, not on other images."""

    protocol: Protocol
    dataset: Dataset
    model: Model
    methods: tuple[Method, ...]
    seed: int

    def __call__(self, keys: Sequence[str]) -> Done:
        """The rows of some images.

        Raises:
            MissingExtraError: a library is missing, which no other image would change.
            InputError: the protocol returned what cannot be stored.
        """
        rows: list[Row] = []
        failures: dict[str, str] = {}
        for key in keys:
            try:
                with seeded(image_seed(self.seed, key)):
                    found = self.protocol.rows(self.model, self.dataset.read(key), self.methods)
            except MissingExtraError:
                raise
            except Exception as error:  # one image must not cost the others
                failures[key] = f"{type(error).__name__}: {first_line(error)}"
                continue
            rows += [{"key": key, **row} for row in _checked(found, key, self.protocol.name)]
        return Done(tuple(keys), tuple(rows), failures)


def _checked(rows: Sequence[Mapping[str, Any]], key: str, protocol: str) -> list[Row]:
    """Rows of plain Python values, one a method."""
    methods = [row.get("method") for row in rows]
    if not rows or not all(isinstance(name, str) for name in methods) or len(set(methods)) < len(rows):
        raise InputError(
            f"protocol {protocol!r} gave the methods {methods} for image {key!r}, expected one row a method, each "
            "with its name"
        )
    return [
        {"method": row["method"], **{name: _plain(value, name) for name, value in row.items() if name != "method"}}
        for row in rows
    ]


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        values = [_plain(entry, name) for entry in value]
        # one type in a column: a list that holds a float holds floats
        return [float(v) for v in values] if any(isinstance(v, float) for v in values) else values
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"column {name!r} holds a {type(value).__name__}, expected numbers, text, or lists of numbers")


def digest_of(parts: Iterable[str]) -> bytes:
    """32 bytes that differ where any of the strings, or their order, does."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


def image_seed(seed: int, key: str) -> int:
    """The seed of one image, 0 … 2³¹ − 1, from the run's seed and the image's key."""
    return int.from_bytes(digest_of([str(seed), key])[:4], "little") % 2**31


def subset(keys: Sequence[str], limit: int | None, seed: int) -> tuple[str, ...]:
    """``limit`` of the keys, drawn by the seed, in the order that they have; all of them where there are no more.

    A larger limit keeps those of a smaller one. Drawn, since data sets are sorted: the first hundred images would be
    those of the first classes.
    """
    if limit is None or limit >= len(keys):
        return tuple(keys)
    drawn = set(sorted(keys, key=lambda key: digest_of(["subset", str(seed), key]))[:limit])
    return tuple(key for key in keys if key in drawn)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators start from ``seed`` inside the block; after it they go on."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

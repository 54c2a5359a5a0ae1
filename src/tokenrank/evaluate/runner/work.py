"""Work on one batch of images: its rows, the images that failed, and random numbers that depend on the image alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import InputError, MissingExtraError, first_line
from ...memory import is_out_of_memory
from ...models import Model
from ...plain import plain, utf8
from ...workers import Done, Row
from ...workers.device import model_on
from ..clock import FORWARD, timing
from .settings import digest_of

if TYPE_CHECKING:
    from ..datasets.sample import Dataset
    from ..methods import NamedMethod
    from ..protocols.base import Protocol


@dataclass(frozen=True)
class Work:
    """Keys → ``Done``. The rows of an image depend on it, the settings and the seed, not on other images."""

    protocol: Protocol
    dataset: Dataset
    model: Model
    methods: tuple[NamedMethod, ...]
    seed: int

    def __call__(self, items: Sequence[str]) -> Done:
        """The rows of some images.

        Raises:
            MissingExtraError: a library is missing, which no other image would change.
            InputError: the protocol returned what cannot be stored.
            MemoryError, torch.OutOfMemoryError: no memory is left.
        """
        rows: list[Row] = []
        failures: dict[str, str] = {}
        times: list[Row] = []
        for key in items:
            begin = perf_counter()
            try:
                with seeded(image_seed(self.seed, key)), timing() as spent:
                    found = self.protocol.rows(self.model, self.dataset.read(key), self.methods)
            except MissingExtraError:
                raise
            except Exception as error:  # one image must not cost the others
                if is_out_of_memory(error):  # it may be what the others left
                    raise
                failures[utf8(key)] = utf8(f"{type(error).__name__}: {first_line(error)}")
                continue
            rows += [{"key": utf8(key), **row} for row in _checked(found, key, self.protocol.name)]
            each = [spent.get(method.name, float("nan")) for method in self.methods]
            forward = spent.get(FORWARD, float("nan"))
            times.append({"key": utf8(key), "seconds": perf_counter() - begin, "forward": forward, "methods": each})
        return Done(tuple(map(utf8, items)), tuple(rows), failures, tuple(times))

    def key(self, item: str) -> str:
        """A key as rows have it."""
        return utf8(item)

    def on(self, device: str) -> Work:
        """The same work with the model on a device."""
        return replace(self, model=model_on(self.model, device))


def _checked(rows: Sequence[Mapping[str, Any]], key: str, protocol: str) -> list[Row]:
    """Rows of plain Python values, one a method."""
    methods = [row.get("method") for row in rows]
    if not rows or not all(isinstance(name, str) for name in methods) or len(set(methods)) < len(rows):
        raise InputError(
            f"protocol {protocol!r} gave the methods {methods} for image {key!r}, expected one row a method, each "
            "with its name"
        )
    return [{"method": row["method"]} | cells(row) for row in rows]


def cells(row: Mapping[str, Any]) -> Row:
    """A row of plain Python values, as a table holds them.

    Raises:
        InputError: a column holds something else than numbers, text or lists of numbers.
    """
    return {name: _cell(value, name) for name, value in plain(row, finite=False, other=_itself).items()}


def _cell(value: Any, name: str) -> Any:
    if isinstance(value, list):
        values = [_cell(entry, name) for entry in value]
        # one type in a column: a list that holds a float holds floats
        return [float(v) for v in values] if any(isinstance(v, float) for v in values) else values
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        bits = value.bit_length() + 1
        raise InputError(f"column {name!r} holds a whole number of {bits} bits, expected at most 64; make it a float")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"column {name!r} holds a {type(value).__name__}, expected numbers, text, or lists of numbers")


def _itself(value: Any) -> Any:
    return value


def image_seed(seed: int, key: str) -> int:
    """The seed of one image, 0 … 2³¹ − 1, from the run's seed and the image's key."""
    return int.from_bytes(digest_of([str(seed), key])[:4], "little") % 2**31


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

"""What one batch of images gives: rows, and the images that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import InputError, MissingExtraError, first_line
from ...models import Model
from .seeds import image_seed, seeded

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

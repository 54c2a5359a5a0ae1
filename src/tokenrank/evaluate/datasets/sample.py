"""Sample: one picture of a data set with its ground truth; Dataset: samples by key; half: a split of the keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from ...components import Mask
from ...errors import InputError

Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and what is known of it, all at the picture's own resolution.

    Attributes:
        key: names the sample, unique in its data set and stable.
        image: upright RGB, H high and W wide.
        mask: foreground, bool (H, W).
        void: pixels that do not count, bool (H, W).
        labels: class of every pixel, int64 (H, W), −1 where unlabelled.
        regions: one segmentation per annotator, int64 (H, W) each, labels 1 … K without gaps.
        target: class of the whole picture, an index in the data set's own order of classes.
        word: name of that class.
        box: x0, y0, x1, y1 in pixels; x1 and y1 are the first column and row outside, as in PIL.

    Raises:
        InputError: the key is empty; an array has another type or another size than the image; a box of other than
            four numbers.
    """

    key: str
    image: PIL.Image.Image
    mask: Mask | None = None
    void: Mask | None = None
    labels: Labels | None = None
    regions: tuple[Labels, ...] = ()
    target: int | None = None
    word: str | None = None
    box: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if not self.key:
            raise InputError("the key of a sample is empty; expected a name")
        self._check("mask", self.mask, np.bool_)
        self._check("void", self.void, np.bool_)
        self._check("labels", self.labels, np.int64)
        for number, segmentation in enumerate(self.regions):
            self._check(f"regions[{number}]", segmentation, np.int64)
        if self.box is not None and len(self.box) != 4:
            raise InputError(f"box of sample {self.key!r} is {self.box}, expected x0, y0, x1, y1")

    def _check(self, what: str, array: npt.NDArray[Any] | None, dtype: type[np.generic]) -> None:
        if array is None:
            return
        size = self.image.height, self.image.width
        if array.shape != size or array.dtype != dtype:
            raise InputError(
                f"{what} of sample {self.key!r} is {array.dtype} {array.shape}, expected {dtype.__name__} {size}: "
                "rows and columns of its image"
            )


class Dataset(ABC):
    """Samples by key.

    Attributes:
        name: of the data set.
        keys: of all samples that can be used, sorted.
        problems: key → why it cannot be used, as far as known at opening (an image without a mask …).
        classes: names of the classes that ``labels`` or ``target`` number; empty where there are none.
        options: choices at opening that make other samples of the same files.
    """

    name: str
    keys: tuple[str, ...]
    problems: Mapping[str, str]
    classes: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def read(self, key: str) -> Sample:
        """One sample from its files.

        Raises:
            NotFoundError: no such key.
            InputError: a file is broken, or does not fit its neighbours; the message names it.
        """

    def files(self, key: str) -> tuple[Path, ...]:
        """The files that ``read`` reads for a sample, so that a run knows when one has changed; empty where unknown.

        Raises:
            NotFoundError: no such key.
            InputError: a sample that cannot be used.
        """
        return ()

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        unusable = f", {len(self.problems)} unusable" if self.problems else ""
        return f"{type(self).__name__}({self.name!r}, {len(self)} samples{unusable})"


def half(keys: Sequence[str], part: Literal[0, 1]) -> tuple[str, ...]:
    """The keys at even (``part`` 0) or odd (1) places: choose layers and settings on one half, report on the other.

    Raises:
        InputError: ``part`` is neither.
    """
    if part not in (0, 1):
        raise InputError(f"part is {part!r}, expected 0 (even places) or 1 (odd places)")
    return tuple(keys[part::2])

"""Several objects in a picture: every labelled class is found from a seed on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...chain import TokenMap
from ...components import Mask
from ...errors import InputError
from ...layout import Point, at
from ...models import Model
from ...observation import Observation
from ..datasets.sample import Sample
from ..metrics.foreground import counts, iou
from .base import Protocol, means
from .observe import above_mean, at_pixels, check_native, maps, nearest_pixels, observe_image
from .saliency import component, seed_of
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from ..methods import NamedMethod

COCO_THINGS = 91
PARTS = ("iou", "iou_things", "iou_stuff", "iou_component", "iou_things_component", "iou_stuff_component")


@dataclass(frozen=True)
class Several(Protocol):
    """Objects and stuff of a picture, one after the other, each from a seed on it.

    Every class that covers the share ``least`` of the labelled pixels, and that is not the only one, is to be found,
    all of its instances together. The seed is that of ``Seed``. Foreground is what is above the map's mean at the
    picture's resolution; with the suffix "_component" what of the grid's foreground is connected to the seed. Pixels
    without a label do not count.

    A row has iou, the mean over the picture's classes, iou_things and iou_stuff, the same over the classes below
    ``things`` and the others (NaN where there are none), these with "_component", and classes, how many there were.
    Figures of the data set are means over pictures.

    Args:
        least: share of the labelled pixels that a class must cover.
        things: labels below it are things, the others stuff; 91 in ``coco-panoptic``.
        size, native: what the model gets; see ``Saliency``.
    """

    name: ClassVar[str] = "several"
    headline: ClassVar[str] = "iou"
    dataset: ClassVar[str] = "coco-panoptic"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    gives: ClassVar[frozenset[str]] = frozenset({"nothing", "class", "seed"})

    least: float = 0.01
    things: int = COCO_THINGS
    size: int | None = None
    native: bool = False

    def __post_init__(self) -> None:
        if self.native:
            check_native(self.size)
        if not 0 < self.least < 1 or self.things < 0:
            raise InputError(f"least = {self.least}, things = {self.things}; expected a share in (0, 1) and 0 or more")

    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        """One row a method; see the class."""
        self.check_sample(sample)
        self.check_methods(methods)
        assert sample.labels is not None
        targets = large_classes(sample.labels, self.least)
        if len(targets) < 2:
            raise InputError(
                f"sample {sample.key!r} has {len(targets)} classes that cover {self.least:.0%} of what is labelled, "
                "expected 2 at least: several things to tell apart; leave it out"
            )
        observation = observe_image(model, sample.image, self.size, self.native)
        found: dict[str, dict[str, list[float]]] = {method.name: {part: [] for part in PARTS} for method in methods}
        for target in targets:
            mask = sample.labels == target
            rows, columns = observation.grid
            row, column = seed_of(mask, rows, columns)
            start = at((column + 0.5) / columns, (row + 0.5) / rows)
            one = replace(sample, mask=mask, void=sample.labels < 0)
            for method, token_map in zip(methods, maps(observation, methods, start), strict=True):
                for part, value in self._figures(token_map, one, observation, start, target).items():
                    found[method.name][part].append(value)
        return [
            {"method": name, "classes": len(targets)}
            | {part: float(np.mean(values)) if values else float("nan") for part, values in parts.items()}
            for name, parts in found.items()
        ]

    def show(self, model: Model, sample: Sample, methods: Sequence[NamedMethod], place: int) -> Shown | None:
        """The plain mask of the class that covers most."""
        assert sample.labels is not None
        targets = large_classes(sample.labels, self.least)
        target = max(targets, key=lambda label: np.count_nonzero(sample.labels == label))
        observation = observe_image(model, sample.image, self.size, self.native)
        mask = sample.labels == target
        rows, columns = observation.grid
        row, column = seed_of(mask, rows, columns)
        x, y = (column + 0.5) / columns, (row + 0.5) / rows
        (found,) = maps(observation, methods[place : place + 1], at(x, y))
        plain = above_mean(at_pixels(found, (sample.image.height, sample.image.width)))
        return Shown(sample.image, plain, mask, sample.labels < 0, (x, y))

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Means over pictures."""
        return means(rows, ["classes", *PARTS])

    def _figures(
        self, token_map: TokenMap, sample: Sample, observation: Observation, start: Point, target: int
    ) -> dict[str, float]:
        assert sample.mask is not None
        size = (sample.image.height, sample.image.width)
        plain = above_mean(at_pixels(token_map, size))
        joined = nearest_pixels(component(token_map, observation, start), size)
        kind = "things" if target < self.things else "stuff"
        row = {}
        for post, mask in (("", plain), ("_component", joined)):
            row[f"iou{post}"] = row[f"iou_{kind}{post}"] = self._iou(mask, sample)
        return row

    def _iou(self, found: Mask, sample: Sample) -> float:
        assert sample.mask is not None
        return float(iou(counts(found, sample.mask, sample.void)))


def large_classes(labels: np.ndarray, least: float) -> list[int]:
    """Labels, 0 or more, that cover at least the share of all labelled pixels."""
    values, pixels = np.unique(labels[labels >= 0], return_counts=True)
    return [int(value) for value, count in zip(values, pixels, strict=True) if count >= least * pixels.sum()]

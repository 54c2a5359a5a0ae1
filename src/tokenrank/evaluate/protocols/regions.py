"""Regions: segmentations at several scales against several people's, as the BSDS benchmark compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...errors import InputError
from ...models import Model
from ..datasets.sample import Sample
from ..metrics.regions import Scales, ods_ois
from .base import Protocol
from .observe import list_of, observe
from .segmenters import Segmenter, parse_segmenters
from .tables import table

if TYPE_CHECKING:
    import pandas as pd

SCALES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


@dataclass(frozen=True)
class Regions(Protocol):
    """The region benchmark of BSDS500: covering, probabilistic Rand index, variation of information.

    Methods are segmenters (``parse_segmenters``), each asked for ``scales`` numbers of segments; one with a number or
    a distance of its own is asked once and is the same at all scales. Nothing is thrown away: fewer segments than
    asked for count as they come.

    A row has, a number a scale, covered (pixels), rand and information (bits), and for the picture best and area
    (pixels), in the parts that a data set sums. Figures of the data set: ODS at the best single scale, OIS at each
    picture's best, and covering with the best segment of any scale; *_k says which scale ODS chose. Scales are chosen
    by the ground truth, as in the benchmark, so choose on one half and report on the other, or compare OIS with OIS.

    Args:
        scales: numbers of segments.
        size, native: what the model gets; see ``Saliency``.

    Source: Arbeláez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation" (PAMI 2011).
    """

    name: ClassVar[str] = "regions"
    headline: ClassVar[str] = "covering_ods"
    dataset: ClassVar[str] = "bsds500"
    needs: ClassVar[tuple[str, ...]] = ("regions",)

    scales: tuple[int, ...] = SCALES
    size: int | None = None
    native: bool = False

    def __post_init__(self) -> None:
        if not self.scales or any(k < 1 for k in self.scales) or len(set(self.scales)) < len(self.scales):
            raise InputError(f"scales = {self.scales}, expected different numbers of segments, 1 or more")

    def methods(self, text: str) -> tuple[Any, ...]:
        """Segmenters; see ``parse_segmenters``."""
        return parse_segmenters(text)

    def rows(self, model: Model, sample: Sample, methods: Sequence[Any]) -> list[dict[str, Any]]:
        """One row a segmenter; see the class."""
        self.check_sample(sample)
        check_segmenters(methods)
        observation = observe(model, sample.image, self.size, self.native)
        size = (sample.image.height, sample.image.width)
        rows = []
        for segmenter in methods:
            if segmenter.fixed:
                divided = [segmenter.run(observation, size, None)] * len(self.scales)
            else:
                divided = [segmenter.run(observation, size, k) for k in self.scales]
            found = Scales.of(divided, sample.regions)
            rows.append(
                {
                    "method": segmenter.name,
                    "covered": list_of(found.covered),
                    "best": found.best,
                    "area": found.area,
                    "rand": list_of(found.rand),
                    "information": list_of(found.information),
                    "segments": [int(labels.max()) + 1 for labels in divided],
                }
            )
        return rows

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """ODS, OIS and best, pooled as the benchmark does."""
        lines: dict[str, dict[str, Any]] = {}
        for method, group in rows.groupby("method", sort=False):
            columns = (group[name].to_numpy() for name in ("covered", "best", "area", "rand", "information"))
            pictures = [
                Scales(np.asarray(covered), float(best), int(area), np.asarray(rand), np.asarray(information))
                for covered, best, area, rand, information in zip(*columns, strict=True)
            ]
            figures = asdict(ods_ois(pictures))
            for name in ("covering", "rand", "information"):
                figures[f"{name}_k"] = self.scales[figures.pop(f"{name}_scale")]
            lines[str(method)] = figures
        return table(lines)


def check_segmenters(methods: Sequence[Any]) -> None:
    """Raise ``InputError`` for methods that give maps."""
    for method in methods:
        if not isinstance(method, Segmenter):
            raise InputError(
                f"method {getattr(method, 'name', method)!r} gives a map, expected a segmenter: "
                "parse_segmenters('merge,metastable,kmeans')"
            )

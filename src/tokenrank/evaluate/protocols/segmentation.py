"""Segmentation of whole pictures: BSDS500's regions, and segments matched to the classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image

from ...errors import InputError
from ...models import Model
from ...observation import Observation
from ..clock import spent_on
from ..datasets.sample import Dataset, Labels, Sample
from ..metrics.hungarian import Matches, Spare, accuracy, histogram, match_histogram, mean_accuracy, miou
from ..metrics.regions import Scales, ods_ois
from .base import Protocol, stacked, sums, table
from .observe import forward, list_of, observe_image
from .segmenters import Segmenter, parse_segmenters
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

SCALES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
PARTS = ("tp", "fp", "fn")
SPARE: dict[str, Spare] = {"": "assigned", "_strict": "unassigned"}


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
        observation = observe_image(model, sample.image, self.size, self.native)
        size = (sample.image.height, sample.image.width)
        forward(observation)
        rows = []
        for segmenter in methods:
            divided = self._divided(segmenter, observation, size)
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

    def show(self, model: Model, sample: Sample, methods: Sequence[Any], place: int) -> Shown:
        """The segmentation of the scale that covers best, beside the first annotator's."""
        observation = observe_image(model, sample.image, self.size, self.native)
        size = (sample.image.height, sample.image.width)
        # those before it draw from the same random numbers
        *_, divided = (self._divided(segmenter, observation, size) for segmenter in methods[: place + 1])
        best = int(np.argmax(Scales.of(divided, sample.regions).covered))
        return Shown(sample.image, divided[best], sample.regions[0])

    def _divided(self, segmenter: Segmenter, observation: Observation, size: tuple[int, int]) -> list[Labels]:
        with spent_on(segmenter.name):
            if segmenter.fixed:
                return [segmenter.run(observation, size, None)] * len(self.scales)
            return [segmenter.run(observation, size, k) for k in self.scales]

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


@dataclass(frozen=True)
class Clustering(Protocol):
    """DiffSeg's scoring on COCO-Stuff-27 and Cityscapes.

    The picture is cropped to its central square and brought to ``pixels`` × ``pixels`` (labels by nearest neighbour).
    Methods are segmenters (``parse_segmenters``). Segments are matched to classes in every picture alone (Hungarian
    algorithm) and the counts summed. Two variants: without a suffix DiffSeg's own, in which spare segments go to
    absent classes and count as false positives there [V]; "_strict" leaves them without a class. Accuracy is the
    same in both, since an absent class wins no pixel.

    A row has histogram (classes × segments, row by row, from which every variant can be recomputed), segments,
    labelled, tp, fp and fn by class for both variants, and accuracy and miou of that one picture. Matching of the
    whole data set at once (STEGO, PiCIE) asks for clusters that mean the same in all pictures, which these do not.

    Args:
        classes: of the data set.
        pixels: side of the square that is scored.
        size: long side that the model gets; its own where None.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), the authors' code.
    """

    name: ClassVar[str] = "clustering"
    headline: ClassVar[str] = "miou"
    dataset: ClassVar[str] = "coco-stuff27"
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    classes: int = 27
    pixels: int = 512
    size: int | None = None

    def __post_init__(self) -> None:
        if self.classes < 1 or self.pixels < 1:
            raise InputError(f"classes = {self.classes}, pixels = {self.pixels}; expected 1 or more")

    def methods(self, text: str) -> tuple[Any, ...]:
        """Segmenters; see ``parse_segmenters``."""
        return parse_segmenters(text)

    def check(self, dataset: Dataset) -> None:
        """As ``Protocol.check``; the data set's classes must be as many as the protocol's."""
        if dataset.classes and len(dataset.classes) != self.classes:
            raise InputError(
                f"data set {dataset.name!r} has {len(dataset.classes)} classes, the protocol {self.classes}; give "
                f"classes={len(dataset.classes)}"
            )
        super().check(dataset)

    def rows(self, model: Model, sample: Sample, methods: Sequence[Any]) -> list[dict[str, Any]]:
        """One row a segmenter; see the class."""
        self.check_sample(sample)
        check_segmenters(methods)
        assert sample.labels is not None
        image, labels = central_square(sample.image, sample.labels, self.pixels)
        if not (labels >= 0).any():
            raise InputError(f"sample {sample.key!r} has no labelled pixel in its central square; leave it out")
        observation = self._observed(model, image)
        forward(observation)
        rows = []
        for segmenter in methods:
            found = self._divided(segmenter, observation)
            counted = histogram(found, labels, self.classes)
            row: dict[str, Any] = {
                "method": segmenter.name,
                "segments": int(found.max()) + 1,
                "labelled": int(counted.sum()),
                "histogram": counted.ravel().tolist(),
            }
            for suffix, spare in SPARE.items():
                matches = match_histogram(counted, spare)
                row |= {f"{part}{suffix}": getattr(matches, part).tolist() for part in PARTS}
                row |= {f"accuracy{suffix}": accuracy(matches), f"miou{suffix}": miou(matches)}
            rows.append(row)
        return rows

    def show(self, model: Model, sample: Sample, methods: Sequence[Any], place: int) -> Shown:
        """The segments in the central square, beside the classes."""
        assert sample.labels is not None
        image, labels = central_square(sample.image, sample.labels, self.pixels)
        observation = self._observed(model, image)
        # those before it draw from the same random numbers
        *_, found = (self._divided(segmenter, observation) for segmenter in methods[: place + 1])
        return Shown(image, found, labels)

    def _observed(self, model: Model, image: PIL.Image.Image) -> Observation:
        """The central square as the model sees it."""
        return observe_image(model, image, self.size)

    def _divided(self, segmenter: Segmenter, observation: Observation) -> Labels:
        with spent_on(segmenter.name):
            return segmenter.run(observation, (self.pixels, self.pixels), None)

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """From counts summed over the data set."""
        labelled = sums(rows, ("labelled", "segments"))
        images = rows.groupby("method", sort=False).size()
        counts = {f"{part}{suffix}": stacked(rows, f"{part}{suffix}") for part in PARTS for suffix in SPARE}
        lines: dict[str, dict[str, Any]] = {}
        for method in labelled.index:
            line: dict[str, Any] = {}
            for suffix in SPARE:
                tp, fp, fn = (counts[f"{part}{suffix}"][method].sum(0).astype(np.int64) for part in PARTS)
                matches = Matches(tp, fp, fn, int(labelled.at[method, "labelled"]))
                line[f"accuracy{suffix}"] = accuracy(matches)
                line[f"mean_accuracy{suffix}"] = mean_accuracy(matches)
                line[f"miou{suffix}"] = miou(matches)
            lines[method] = {**line, "segments": labelled.at[method, "segments"] / images[method]}
        return table(lines)


def central_square(image: PIL.Image.Image, labels: Labels, pixels: int) -> tuple[PIL.Image.Image, Labels]:
    """The central square of picture and labels at ``pixels`` × ``pixels``, bilinear and nearest neighbour."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    place = (np.arange(pixels) * side // pixels) if pixels != side else np.arange(side)
    square = labels[top : top + side, left : left + side][place[:, None], place]
    cropped = image.crop((left, top, left + side, top + side))
    return cropped.resize((pixels, pixels), PIL.Image.Resampling.BILINEAR), square

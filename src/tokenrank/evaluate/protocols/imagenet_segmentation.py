"""ImageNet-Segmentation and its like: foreground against background at 224 × 224, summed over the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...chain import TokenMap
from ...components import Mask
from ...errors import InputError
from ...models import Model
from ..datasets.sample import Sample
from ..metrics.curves import pooled_average_precision
from ..metrics.foreground import Counts, accuracy_ratio, counts, f_at, pixel_accuracy, stacked_accuracy, strict_miou
from .base import Protocol, means, sums, table
from .observe import above_mean, at_pixels, maps, observe_square, scores_of, squeezed, squeezed_mask
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from ..methods import NamedMethod

COUNTS = ("tp", "fp", "fn", "tn", "void")


@dataclass(frozen=True)
class ImageNetSegmentation(Protocol):
    """Chefer's protocol for ImageNet-Segmentation.

    Picture and mask are squeezed to ``side`` × ``side``, bilinear and nearest neighbour; class-specific methods
    explain the predicted class. A map goes to that size bilinearly and to 0 … 1 by min-max; foreground is what is
    above its mean. A row has tp, fp, fn, tn and void in pixels, ap (the pooled average precision), f1, and accuracy
    and miou of that one picture.

    Figures of the data set: accuracy and miou, from the summed counts (miou is the strict one, the mean of two IoUs);
    acc_ratio = accuracy / (2 − accuracy), which is what ConceptAttention prints as mIoU [V]; map and f1, means over
    pictures (no figure counts as 0, as in the reference code [V]). miou and acc_ratio must not be compared.

    Args:
        side: of the square in pixels; where the model's patch does not divide it, the model gets the nearest multiple.
        raw: average precision of the maps as they are, without min-max. It changes the figure; ConceptAttention does
            so on PascalVOC [V].

    Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), the authors'
    code.
    """

    name: ClassVar[str] = "imagenet-segmentation"
    headline: ClassVar[str] = "miou"
    dataset: ClassVar[str] = "imagenet-segmentation"
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    side: int = 224
    raw: bool = False

    def __post_init__(self) -> None:
        if self.side < 1:
            raise InputError(f"side = {self.side}, expected pixels, such as 224")

    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        """One row a method; see the class."""
        self.check_sample(sample)
        self.check_methods(methods)
        assert sample.mask is not None
        mask = squeezed_mask(sample.mask, self.side)
        void = None if sample.void is None else squeezed_mask(sample.void, self.side)
        if void is not None and void.all():
            raise InputError(f"every pixel of sample {sample.key!r} is void at {self.side} × {self.side}")
        found = self._maps(model, sample, methods)
        return [
            {"method": method.name, **self._figures(token_map, mask, void)}
            for method, token_map in zip(methods, found, strict=True)
        ]

    def show(self, model: Model, sample: Sample, methods: Sequence[NamedMethod], place: int) -> Shown:
        """The mask above the mean of the map from 0 to 1, at ``side`` × ``side``."""
        assert sample.mask is not None
        (found,) = self._maps(model, sample, methods[place : place + 1])
        return Shown(
            squeezed(sample.image, self.side),
            above_mean(scores_of(at_pixels(found, (self.side, self.side)))),
            squeezed_mask(sample.mask, self.side),
            None if sample.void is None else squeezed_mask(sample.void, self.side),
        )

    def _maps(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[TokenMap]:
        """Every method's map of the sample."""
        return maps(observe_square(model, sample.image, self.side), methods)

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """From summed counts, and means over pictures."""
        summed = sums(rows, COUNTS)
        averages = means(rows.fillna({"ap": 0.0, "f1": 0.0}), ("ap", "f1"))
        lines: dict[str, Mapping[str, Any]] = {}
        for method, (tp, fp, fn, tn, void) in zip(summed.index, summed.to_numpy(), strict=True):
            counted = Counts(int(tp), int(fp), int(fn), int(tn))
            figures = {"accuracy": pixel_accuracy(counted), "miou": strict_miou(counted)}
            figures["acc_ratio"] = accuracy_ratio(figures["accuracy"])
            if void:
                figures["stacked_accuracy"] = stacked_accuracy(counted, int(void))
            lines[method] = {**figures, "map": averages.at[method, "ap"], "f1": averages.at[method, "f1"]}
        return table(lines)

    def _figures(self, token_map: TokenMap, mask: Mask, void: Mask | None) -> dict[str, Any]:
        values = at_pixels(token_map, mask.shape)
        scores = scores_of(values)
        counted = counts(above_mean(scores), mask, void)
        return {
            **vars(counted),
            "void": 0 if void is None else int(np.count_nonzero(void)),
            "ap": pooled_average_precision(values if self.raw else scores, mask, void),
            "f1": f_at(counted, 1.0),
            "accuracy": pixel_accuracy(counted),
            "miou": strict_miou(counted),
        }


@dataclass(frozen=True)
class VocSingle(ImageNetSegmentation):
    """``ImageNetSegmentation`` on the pictures of PASCAL VOC 2012 with one class; void pixels do not count.

    stacked_accuracy is Acc as ConceptAttention counts it, where a void pixel is wrong in one of two channels.
    """

    name: ClassVar[str] = "voc-single"
    dataset: ClassVar[str] = "voc2012"
    dataset_options: ClassVar[Mapping[str, Any]] = {"single_class": True}

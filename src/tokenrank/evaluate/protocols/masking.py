"""Masking: how fast a classifier fails as the patches that a map calls important are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...chain import TokenMap
from ...errors import InputError
from ...models import Model
from ...observation import Observation
from ...tasks.mask_tokens import mask_pixels, mask_tokens, removal_order
from ...tasks.mask_tokens.sites import pixels_of, repeated
from ..datasets.sample import Sample
from ..metrics.curves import normalised_auc, perturbation_auc
from .base import Protocol, means, stacked, table
from .observe import at_pixels, list_of, maps, observe_square, squeezed
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from ..methods import NamedMethod

How = Literal["keys", "remove", "pixels", "single-pixels"]
Order = Literal["most", "least"]

RATIOS = tuple(round(0.05 * k, 2) for k in range(20))
"""0, 0.05, …, 0.95."""


@dataclass(frozen=True)
class Masking(Protocol):
    """Faithfulness by masking, on classified pictures.

    Every method ranks the patches of the clean picture once; then a growing share of them goes, the most important
    first ("most": a low curve is good) or the least important first ("least": a high one is), and the class of the
    data set must still come first. A row has for each way of masking and order correct_WAY_ORDER (0 or 1 at every
    ratio), probability_WAY_ORDER (of the class predicted for the clean picture) and auc_WAY_ORDER, 100 · ∫ correct
    d ratio with ratio 0 included (Chefer's figure, per picture); and base, whether the clean picture is right.

    Figures of the data set: base accuracy; accuracy_… the curve; auc_… as above, which is the AUC of that curve;
    normalised_…, the area under accuracy / base accuracy over the range of ratios; probability_auc_….

    Args:
        how: ways of masking, the first is the headline's. "keys", "remove" and "pixels" as in
            ``tokenrank.tasks.mask_tokens``; "single-pixels" ranks pixels of the bilinearly upsampled map in place of
            patches, which is Chefer's perturbation test.
        orders: "most", "least", or both.
        ratios: shares that go, 0 first. Chefer's are 0, 0.1, …, 0.9.
        side: the picture is squeezed to this square; the model's own size where None. Classifiers are best at the
            sizes they were trained at: 96 to 160 for the bundled model, also on pictures of 64 (Tiny-ImageNet).
        explain: which class the class-specific methods explain, the one "predicted" or the "target".
        batch: pictures in one forward.

    Source: "single-pixels" with ratios to 0.9: Chefer, Gur, Wolf (CVPR 2021); AUC with ratio 0 by the author's word
    [V]. How "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025) masks is not published in detail; "keys" and
    "remove" are this library's definition [I].
    """

    name: ClassVar[str] = "masking"
    dataset: ClassVar[str] = "imagenet-folder"
    needs: ClassVar[tuple[str, ...]] = ("target",)

    how: tuple[How, ...] = ("keys", "remove", "pixels")
    orders: tuple[Order, ...] = ("most", "least")
    ratios: tuple[float, ...] = RATIOS
    side: int | None = None
    explain: Literal["predicted", "target"] = "predicted"
    batch: int = 32

    def __post_init__(self) -> None:
        for field, given, known in (("how", self.how, How), ("orders", self.orders, Order)):
            unknown = [value for value in given if value not in get_args(known)]
            if unknown or not given:
                found = repr(unknown[0]) if unknown else "none"
                raise InputError(f"{field} of {self.name!r} has {found}, expected some of {', '.join(get_args(known))}")
        if self.explain not in ("predicted", "target"):
            raise InputError(f"explain = {self.explain!r}, expected 'predicted' or 'target'")
        rising = all(a < b for a, b in zip(self.ratios, self.ratios[1:], strict=False))
        if len(self.ratios) < 2 or self.ratios[0] != 0 or self.ratios[-1] > 1 or not rising:
            raise InputError(
                f"ratios = {self.ratios}, expected 0 first, then rising, at most 1, such as 0, 0.1, …, 0.9"
            )

    @property
    def headline(self) -> str:
        """auc_WAY_ORDER of the first way and order."""
        return f"auc_{self.how[0]}_{self.orders[0]}"

    @property
    def higher_is_better(self) -> bool:
        """Where the least important go first."""
        return self.orders[0] == "least"

    @property
    def curves(self) -> tuple[str, ...]:
        """WAY_ORDER of all curves."""
        return tuple(f"{how}_{order}" for how in self.how for order in self.orders)

    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        """One row a method; see the class."""
        self.check_sample(sample)
        self.check_methods(methods)
        target = sample.target
        assert target is not None
        side = self._side(model)
        observation = observe_square(model, sample.image, side)
        clean = model.classify(observation.output).double()
        if not 0 <= target < clean.shape[-1]:
            raise InputError(
                f"sample {sample.key!r} is of class {target}, and model {model.name!r} knows 0 to "
                f"{clean.shape[-1] - 1}; the data set's classes must be the model's"
            )
        label = None if self.explain == "predicted" else target
        found = maps(observation, methods, label=label)
        masked = {
            f"{how}_{order}": self._masked(found, observation, how, order == "least").double()
            for how in self.how
            for order in self.orders
        }
        return [
            {"method": method.name, **self._figures({name: m[:, k] for name, m in masked.items()}, clean, target)}
            for k, method in enumerate(methods)
        ]

    def show(self, model: Model, sample: Sample, methods: Sequence[NamedMethod], place: int) -> Shown:
        """The map that ranks the patches, bilinear."""
        side = self._side(model)
        observation = observe_square(model, sample.image, side)
        (found,) = maps(
            observation, methods[place : place + 1], label=None if self.explain == "predicted" else sample.target
        )
        return Shown(squeezed(sample.image, side), at_pixels(found, (side, side)))

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Accuracy curves and the areas under them."""
        averages = means(rows, ["base", *(f"auc_{curve}" for curve in self.curves)])
        correct = {curve: stacked(rows, f"correct_{curve}") for curve in self.curves}
        probability = {curve: stacked(rows, f"probability_{curve}") for curve in self.curves}
        lines: dict[str, Mapping[str, Any]] = {}
        for method in averages.index:
            line: dict[str, Any] = {"base": float(averages.at[method, "base"])}
            for curve in self.curves:
                accuracy = correct[curve][method].mean(0)
                line[f"auc_{curve}"] = float(averages.at[method, f"auc_{curve}"])
                line[f"normalised_{curve}"] = normalised_auc(accuracy, self.ratios)
                line[f"probability_auc_{curve}"] = perturbation_auc(probability[curve][method].mean(0), self.ratios)
            line |= {f"accuracy_{curve}": list_of(correct[curve][method].mean(0)) for curve in self.curves}
            lines[method] = line
        return table(lines)

    def _side(self, model: Model) -> int:
        side = self.side if self.side is not None else None if model.images is None else model.images.size
        if side is None:
            raise InputError(f"model {model.name!r} reads {model.kind}, expected one that reads pictures")
        return side

    def _figures(self, masked: Mapping[str, Tensor], clean: Tensor, target: int) -> dict[str, Any]:
        """A method's row from its logits (R − 1, classes), by curve."""
        predicted = int(clean[0].argmax())
        row: dict[str, Any] = {"base": int(predicted == target)}
        for curve, answers in masked.items():
            logits = torch.cat([clean.to(answers.device), answers])
            correct = (logits.argmax(-1) == target).long().tolist()
            probability = logits.softmax(-1)[:, predicted].clamp(0, 1)
            row[f"correct_{curve}"] = correct
            row[f"probability_{curve}"] = list_of(probability)
            row[f"auc_{curve}"] = perturbation_auc(np.asarray(correct, dtype=float), self.ratios)
        return row

    def _masked(self, found: Sequence[TokenMap], observation: Observation, how: How, least_first: bool) -> Tensor:
        """Logits at all ratios but 0, (R − 1, maps, classes), the maps of one picture run together; at 0 they are the
        clean picture's.
        """
        copies = observation.again(repeated(observation.inputs, torch.zeros(len(found), dtype=torch.long)))
        ratios = self.ratios[1:]
        if how == "single-pixels":
            size = pixels_of(observation.inputs)[1].shape[-2:]
            wide = torch.stack([token_map.upsample((size[0], size[1])) for token_map in found])
            return mask_pixels(copies, wide, ratios, least_first=least_first, batch=self.batch)
        order = torch.stack([removal_order(token_map, least_first) for token_map in found])
        return mask_tokens(copies, order, ratios, how, batch=self.batch)

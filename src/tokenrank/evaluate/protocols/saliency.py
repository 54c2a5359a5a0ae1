"""Saliency: how well a map finds the object of a picture, told nothing, or told a point on it (``Seed``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image

from ...chain import TokenMap
from ...components import Mask, component_of
from ...errors import InputError
from ...layout import Point, at
from ...models import Model
from ...observation import Observation
from ...tasks.refine import bilateral_solver, guided
from ..datasets.sample import Sample
from ..metrics.boxes import Box, box_of, localised
from ..metrics.foreground import (
    BETA2,
    SQUARED_BETA2,
    counts,
    f_at,
    f_curve,
    iou,
    max_of_mean,
    mean_of_max,
    pixel_accuracy,
)
from ..metrics.structure import e_measure, s_measure
from .base import Protocol, means, present, stacked
from .observe import above_mean, at_pixels, check_native, list_of, maps, nearest_pixels, observe_image, scores_of
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from ..methods import NamedMethod

POSTS = ("component", "refined", "solved")
ROUNDING = 1e-9


@dataclass(frozen=True)
class Saliency(Protocol):
    """Zero-shot saliency as TokenCut reports it, for ECSSD, DUTS-TE and DUT-OMRON.

    Each map is brought to the picture's resolution bilinearly. A binary mask comes from it in up to five ways, and
    each gives the columns iou, accuracy and f (β² = 0.3) of the picture, with a suffix:

    - "": above the map's mean at the picture's resolution;
    - "_component": above the mean on the grid of patches, and of that the 4-connected component of the patch with the
      largest value (TokenCut's step), by nearest neighbour to the picture;
    - "_refined": the map from 0 to 1 through the guided filter, above its mean;
    - "_component_refined": the component's mask through the guided filter, above 0.5;
    - "_solved": the component's mask through the bilateral solver, above 0.5: TokenCut's "+ BS".

    Beside these: tp, fp, fn, tn of the plain mask; corloc, whether the component's box has an IoU ≥ 0.5 with the
    object's; f_curve and f_curve_squared, F at 255 thresholds of the map from 0 to 1 with β² = 0.3 and 0.09, and
    f_curve_solved of the solver's answer; and with ``structure`` s_measure and e_measure. A constant map finds nothing.

    Figures of the data set are means over pictures. max_f is the maximum over thresholds of the mean curve (TokenCut,
    Deep Spectral); max_f_each the mean of each picture's maximum; the suffix _squared is for β² = 0.3² = 0.09, with
    which max_f_each_squared is SelfMask's and FOUND's maxF. They must not be compared with one another. What TokenCut
    prints as maxF of its binary masks is f_component, and max_f_solved after its bilateral solver [V].

    Args:
        size: long side that the model gets; its own where None.
        native: the picture's own size in place of it, rounded to patches, LANCZOS: TokenCut's preprocessing.
        posts: which of "component", "refined" and "solved" (slow) to compute.
        structure: S- and E-measure, which are slow.
        radius, eps: of the guided filter: pixels, and the squared contrast of an edge.

    Source: Wang et al., "Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut" (CVPR
    2022) and the authors' code.
    """

    name: ClassVar[str] = "saliency"
    headline: ClassVar[str] = "iou"
    dataset: ClassVar[str] = "ecssd"
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    size: int | None = None
    native: bool = False
    posts: tuple[str, ...] = ("component", "refined")
    structure: bool = False
    radius: int = 16
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.native:
            check_native(self.size)
        unknown = [post for post in self.posts if post not in POSTS]
        if unknown:
            raise InputError(f"no post-processing {unknown[0]!r} in {self.name!r}, expected some of {', '.join(POSTS)}")

    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        """One row a method; see the class."""
        self.check_sample(sample)
        self.check_methods(methods)
        observation = observe_image(model, sample.image, self.size, self.native)
        start = self.start(sample, observation)
        found = maps(observation, methods, start)
        assert sample.mask is not None
        truth = box_of(sample.mask) if "component" in self.posts else None
        return [
            {"method": method.name, **self._figures(token_map, sample, observation, start, truth)}
            for method, token_map in zip(methods, found, strict=True)
        ]

    def show(self, model: Model, sample: Sample, methods: Sequence[NamedMethod], place: int) -> Shown:
        """The plain mask: above the map's mean."""
        observation = observe_image(model, sample.image, self.size, self.native)
        start = self.start(sample, observation)
        (found,) = maps(observation, methods[place : place + 1], start)
        mask = above_mean(at_pixels(found, (sample.image.height, sample.image.width)))
        return Shown(sample.image, mask, sample.mask, sample.void, None if start is None else (start.x, start.y))

    def start(self, sample: Sample, observation: Observation) -> Point | None:
        """The seed that methods are given: none."""
        return None

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Means over pictures, and the maxima of F."""
        posts = ("", "_component", "_refined", "_component_refined", "_solved")
        columns = [f"{figure}{post}" for post in posts for figure in ("iou", "accuracy", "f")]
        result = means(rows, present(rows, [*columns, "corloc", "s_measure", "e_measure"]))
        for suffix in ("", "_squared"):
            curves = stacked(rows, f"f_curve{suffix}")
            result[f"max_f{suffix}"] = [max_of_mean(curves[method]) for method in result.index]
            result[f"max_f_each{suffix}"] = [mean_of_max(curves[method]) for method in result.index]
        if "f_curve_solved" in rows.columns:
            curves = stacked(rows, "f_curve_solved")
            result["max_f_solved"] = [max_of_mean(curves[method]) for method in result.index]
        return result

    def _figures(
        self, token_map: TokenMap, sample: Sample, observation: Observation, start: Point | None, truth: Box | None
    ) -> dict[str, Any]:
        assert sample.mask is not None
        size = (sample.image.height, sample.image.width)
        values = at_pixels(token_map, size)
        scores = scores_of(values)
        plain = above_mean(values)
        counted = counts(plain, sample.mask, sample.void)
        row: dict[str, Any] = {**self._of(plain, sample, ""), **vars(counted)}
        joined = nearest_pixels(component(token_map, observation, start), size)
        if "component" in self.posts:
            row |= self._of(joined, sample, "_component")
            row["corloc"] = _located(joined, truth)
        if "refined" in self.posts:
            row |= self._of(above_mean(self._guided(sample.image, scores)), sample, "_refined")
            if "component" in self.posts:
                soft = self._guided(sample.image, joined.astype(np.float64))
                row |= self._of(soft > 0.5, sample, "_component_refined")
        if "solved" in self.posts:
            # the solver may leave 0 … 1 by a little
            solved = np.clip(bilateral_solver(sample.image, joined), 0, 1)
            row |= self._of(solved > 0.5, sample, "_solved")
            row["f_curve_solved"] = list_of(f_curve(solved, sample.mask, BETA2, sample.void))
        row["f_curve"] = list_of(f_curve(scores, sample.mask, BETA2, sample.void))
        row["f_curve_squared"] = list_of(f_curve(scores, sample.mask, SQUARED_BETA2, sample.void))
        if self.structure:
            row["s_measure"] = s_measure(scores, sample.mask)
            row["e_measure"] = e_measure(scores, sample.mask)
        return row

    def _of(self, found: Mask, sample: Sample, post: str) -> dict[str, float]:
        assert sample.mask is not None
        counted = counts(found, sample.mask, sample.void)
        return {
            f"iou{post}": iou(counted),
            f"accuracy{post}": pixel_accuracy(counted),
            f"f{post}": f_at(counted),
        }

    def _guided(self, image: PIL.Image.Image, values: np.ndarray) -> np.ndarray:
        return np.asarray(guided(image, values, self.radius, self.eps))


def component(token_map: TokenMap, observation: Observation, start: Point | None) -> Mask:
    """The foreground's component that holds the seed, bool in the shape of the grid.

    Without a start the seed is the patch of the largest value. A seed counts as foreground even where its value is
    not above the mean, so that there always is a component.
    """
    grid = token_map.grid().detach().double().cpu().numpy()
    foreground = above_mean(grid)
    place = int(grid.argmax()) if start is None else observation.picture_layout.token_at(start)
    row, column = divmod(place, grid.shape[1])
    foreground[row, column] = True
    return np.asarray(component_of(foreground, row, column))


def _located(found: Mask, truth: Box | None) -> float:
    """1 where the box around the largest component and the object's have an IoU of 0.5 or more; NaN without one."""
    return float("nan") if truth is None else float(localised(box_of(found), [truth]))


@dataclass(frozen=True)
class Seed(Saliency):
    """``Saliency`` with a seed on the object.

    The seed is the middle of one patch: of those that are mostly object (or as much as any is), the one nearest to
    the object's centre of mass. Methods that walk start there; others ignore it, and the "_component" columns take
    the component that holds it for all of them, so that what the seed tells is told to all.
    """

    name: ClassVar[str] = "seed"
    gives: ClassVar[frozenset[str]] = frozenset({"nothing", "class", "seed"})

    def start(self, sample: Sample, observation: Observation) -> Point:
        """The middle of the seed's patch."""
        assert sample.mask is not None
        rows, columns = observation.grid
        row, column = seed_of(sample.mask, rows, columns)
        return at((column + 0.5) / columns, (row + 0.5) / rows)


def seed_of(mask: Mask, rows: int, columns: int) -> tuple[int, int]:
    """(row, column) of the patch, of those that are mostly object, that is nearest to the centre of mass.

    Where no patch is mostly object, those count that are so to the largest share. Of equally near ones the first in
    reading order.

    Raises:
        InputError: an empty mask.
    """
    if not mask.any():
        raise InputError("the mask is empty, so there is no seed on the object; leave the picture out")
    share = _down(_down(mask.astype(np.float64), rows).T, columns).T
    height, width = mask.shape
    y, x = (places.mean() for places in np.nonzero(mask))
    i = np.arange(rows)[:, None] - ((y + 0.5) / height * rows - 0.5)
    j = np.arange(columns) - ((x + 0.5) / width * columns - 0.5)
    # a patch that is object to one half, or two patches equally near, must not be told apart by rounding
    mostly = share >= min(0.5, float(share.max())) - ROUNDING
    place = int(np.where(mostly, np.round((i**2 + j**2) / ROUNDING), np.inf).argmin())
    return place // columns, place % columns


def _down(values: np.ndarray, count: int) -> np.ndarray:
    """Means of ``count`` equal parts along the first axis; a pixel that two parts share counts in both by its share."""
    edges = np.linspace(0, len(values), count + 1)
    totals = np.concatenate([np.zeros((1, *values.shape[1:])), values.cumsum(0)])
    below = np.floor(edges).astype(int)
    part = (edges - below)[:, None] * values[np.minimum(below, len(values) - 1)]
    return np.diff(totals[below] + part, axis=0) * count / len(values)

"""Segmenters: what the protocols for whole segmentations compare, in place of maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...errors import InputError, NotFoundError, nearest, require
from ...observation import Observation
from ...select import HEADS
from ...tasks.cluster import cluster
from ..datasets.sample import Labels

Divide = Callable[[Observation, "tuple[int, int]", "int | None"], Labels]


@dataclass(frozen=True)
class Segmenter:
    """A way to divide a picture.

    Attributes:
        name: with its options, as typed.
        run: (observation, (height, width), k or None) → int64 (height, width), labels from 0 without gaps.
        fixed: the number of segments is part of the name, or is the segmenter's own affair.
        asks: nothing; as for the methods that give maps.
    """

    name: str
    run: Divide = field(repr=False)
    fixed: bool = False
    asks: str = "nothing"


def parse_segmenters(text: str) -> tuple[Segmenter, ...]:
    """Segmenters from "merge:anchors=8:grid=tokenrank,metastable,kmeans".

    - merge: DiffSeg's merging (options k, tau, anchors, grid, sort, iterations, n, layer, heads of
      ``tokenrank.tasks.cluster``); metastable: PCCA+ (k, layer, heads).
    - kmeans: on the keys of a layer (k, layer), without any chain: what clustering features gives.
    - blocks: a grid of k rectangles, which looks at nothing: what a metric gives for free.

    Raises:
        NotFoundError: no such segmenter. InputError: an option that it does not have, or no value for it; no
            segmenter; a name twice.
    """
    found = tuple(_parsed(part.strip()) for part in text.split(",") if part.strip())
    names = [segmenter.name for segmenter in found]
    if not names or len(set(names)) < len(names):
        raise InputError(f"segmenters {names}, expected one at least, and none twice; such as merge,metastable,kmeans")
    return found


def _parsed(text: str) -> Segmenter:
    name, *assignments = text.split(":")
    if name not in _DIVIDE:
        raise NotFoundError(f"no segmenter {name!r}; {nearest(name, _DIVIDE)}")
    divide, types = _DIVIDE[name]
    options: dict[str, Any] = {}
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        if option not in types or not equals:
            raise InputError(f"segmenter {name!r} has no option {assignment!r}; its options: {', '.join(types)}")
        try:
            options[option] = types[option](value)
        except ValueError as error:
            raise InputError(f"option {assignment!r} of segmenter {name!r}: {error}") from None
    # merging finds a number of its own where none is asked
    fixed = "k" in options or "tau" in options
    return Segmenter(text, partial(divide, **options), fixed)


def _chain(
    observation: Observation, size: tuple[int, int], scale: int | None, *, how: str, k: int | None = None,
    layer: Any = None, heads: Any = HEADS, **options: Any,
) -> Labels:  # fmt: skip
    if "tau" not in options:
        options["k"] = scale if k is None else k
    found = cluster(observation, how=how, layer=layer, heads=heads, **options)  # type: ignore[arg-type]
    return found.labels - 1


def _kmeans(
    observation: Observation, size: tuple[int, int], scale: int | None, *, k: int | None = None, layer: Any = -1
) -> Labels:
    count = _count("kmeans", scale if k is None else k, len(observation.patches))
    cluster = require("sklearn.cluster", "evaluate").KMeans
    keys = F.normalize(observation.features(layer).double(), dim=-1).cpu().numpy()
    # drawn from the generator that a run seeds by image
    random = int(torch.randint(2**31 - 1, ()))
    labels = torch.from_numpy(cluster(count, n_init=4, random_state=random).fit_predict(keys).astype(np.int64))
    members = F.one_hot(labels).double().mT.reshape(1, -1, *observation.grid)
    winner = F.interpolate(members, size, mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    return without_gaps(winner)


def _blocks(observation: Observation, size: tuple[int, int], scale: int | None, *, k: int | None = None) -> Labels:
    count = _count("blocks", scale if k is None else k, size[0] * size[1])
    height, width = size
    # of all r × c = count grids the one whose rectangles are nearest to squares
    pairs = [(r, count // r) for r in range(1, count + 1) if count % r == 0 and r <= height and count // r <= width]
    if not pairs:
        raise InputError(f"blocks: no grid of {count} rectangles fits a picture of {width} × {height} pixels")
    rows, columns = min(pairs, key=lambda pair: abs(np.log(height / pair[0] * pair[1] / width)))
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.asarray(y[:, None] * columns + x, dtype=np.int64)


def without_gaps(labels: np.ndarray) -> Labels:
    """Labels renumbered 0, 1, … in their order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def _count(name: str, k: int | None, most: int) -> int:
    if k is None:
        raise InputError(f"segmenter {name!r} needs the number of segments: {name}:k=6")
    if not 1 <= k <= most:
        raise InputError(f"segmenter {name!r}: k = {k}, expected 1 to {most}")
    return k


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None
    if value < 1:
        raise ValueError("expected 1 or more")
    return value


def _number(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise ValueError("expected a number, or auto") from None


def _layer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _heads(text: str) -> int | str:
    if text in ("uniform", "lambda2"):
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected uniform, lambda2 or the number of a head") from None


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("expected yes or no")
    return text == "yes"


_COMMON: Mapping[str, Callable[[str], Any]] = {"k": _whole, "layer": _layer, "heads": _heads}
_DIVIDE: dict[str, tuple[Callable[..., Labels], Mapping[str, Callable[[str], Any]]]] = {
    "merge": (
        partial(_chain, how="merge"),
        {**_COMMON, "tau": _number, "anchors": _whole, "grid": str, "sort": _yes, "iterations": _whole, "n": _whole},
    ),
    "metastable": (partial(_chain, how="metastable"), _COMMON),
    "kmeans": (_kmeans, {"k": _whole, "layer": _layer}),
    "blocks": (_blocks, {"k": _whole}),
}
SEGMENTERS = tuple(_DIVIDE)
"""Names that ``parse_segmenters`` knows."""

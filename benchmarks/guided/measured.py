"""What is measured on the pictures of the arms, and how sure the differences between arms are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tokenrank as tr
from tokenrank.evaluate.quality import (
    Drawn,
    Features,
    Gaussian,
    Network,
    bundled,
    counts,
    difference,
    extract,
    frechet_drawn,
    kernel_drawn,
    of_model,
    open_pictures,
    probabilities,
    score_drawn,
)
from tokenrank.evaluate.quality.distances import NEIGHBOURS, checked, radii, within
from tokenrank.evaluate.statistics import Interval, compare, holm, interval

PAIRS = (
    ("tokenrank", "random"), ("tokenrank", "colsum"), ("tokenrank", "none"), ("tokenrank", "all"),
    ("tokenrank", "bounce"), ("colsum", "random"), ("all", "random"), ("random", "none"),
)  # fmt: skip
HIGHER = {"score", "probability", "accuracy", "precision", "recall"}
"""Of the figures, those of which more is better; of the others less is."""


@dataclass(frozen=True)
class Real:
    """Real pictures uint8 (N, 32, 32, 3) that distances are to: ``train`` the network has seen, ``val`` it has not."""

    train: np.ndarray
    val: np.ndarray


def networks(dino: Path) -> list[Network]:
    """DINOv2-small at 112 pixels and the bundled network at 64, which has a classifier."""
    return [of_model(tr.load(dino, kind="image"), "dinov2-small", 112), bundled(64)]


@dataclass(frozen=True)
class Arm:
    """All figures of one arm.

    Attributes:
        drawn: figure → estimate and what it is on seeds drawn again: fd_NAME, kid_NAME, score_bundled.
        each: figure → a number a picture: probability and accuracy of the right class, precision_NAME (of generated
            pictures), recall_NAME (of real ones).
    """

    drawn: Mapping[str, Drawn]
    each: Mapping[str, np.ndarray]


def keep_real(real: Real, dino: Path, store: Path, place: int) -> None:
    """Features of real pictures in network number ``place``, kept in ``store``."""
    for pictures in (real.train, real.val):
        extract(open_pictures(pictures), networks(dino)[place], store, batch=64)


def measured(pictures: np.ndarray, labels: Sequence[int], real: Real, dino: Path, store: Path, resamples: int) -> Arm:
    """Figures of generated pictures; ``labels`` are the classifier's numbers of what was asked for."""
    nets = networks(dino)
    draws = counts(len(pictures), resamples)
    drawn: dict[str, Drawn] = {}
    each: dict[str, np.ndarray] = {}
    for network in nets:
        made = extract(open_pictures(pictures), network, store, batch=64)
        train, val = (extract(open_pictures(p), network, store, batch=64) for p in (real.train, real.val))
        name = network.name
        drawn[f"fd_{name}"] = frechet_drawn(made.values, Gaussian.of(train.values), draws)
        drawn[f"fd_{name}_unseen"] = frechet_drawn(made.values, Gaussian.of(val.values), draws)
        drawn[f"kid_{name}"] = kernel_drawn(made.values, train.values, draws)
        drawn[f"kid_{name}_unseen"] = kernel_drawn(made.values, val.values, draws)
        each |= _alike(made, _as_many(train, len(made)), name)
        if made.logits is not None:
            each["probability"] = probabilities(made.logits, labels)
            each["accuracy"] = (made.logits.argmax(1) == np.asarray(labels)).astype(np.float64)
            drawn[f"score_{name}"] = score_drawn(made.logits, draws)
    return Arm(drawn, each)


def _as_many(features: Features, count: int) -> Features:
    """So many of them, drawn once: precision and recall depend on how many there are."""
    order = np.random.default_rng(0).permutation(len(features))[:count]
    return features[np.sort(order)]


def _alike(made: Features, real: Features, name: str) -> dict[str, np.ndarray]:
    x, y = checked(made.values, 2), checked(real.values, 2)
    return {
        f"precision_{name}": within(x, y, radii(y, NEIGHBOURS)).astype(np.float64),
        f"recall_{name}": within(y, x, radii(x, NEIGHBOURS)).astype(np.float64),
    }


def row_of(arm: Arm) -> dict[str, Any]:
    """Figure → value, low, high of 95 %."""
    found = {name: drawn.interval for name, drawn in arm.drawn.items()}
    for name, values in arm.each.items():
        found[name] = _mean(values)
    return {name: [sure.estimate, sure.low, sure.high] for name, sure in found.items()}


def _mean(values: np.ndarray) -> Interval:
    draws = counts(len(values), 1000) @ values / len(values)
    return interval(float(values.mean()), draws)


def comparisons(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """First minus second for the pairs that are there, figure by figure; p is corrected by Holm over the pairs of each.

    Numbers a picture are compared by Wilcoxon's test over seeds (recall: over real pictures), distances by bootstrap
    over seeds, both paired.
    """
    pairs = [pair for pair in PAIRS if set(pair) <= set(arms)]
    rows = []
    names = [*next(iter(arms.values())).drawn, *next(iter(arms.values())).each]
    for figure in names:
        found = [_compared(arms[one], arms[two], figure) for one, two in pairs]
        corrected = holm([row["p"] for row in found])
        rows += [
            {"figure": figure, "first": one, "second": two, **row, "p_holm": p}
            for (one, two), row, p in zip(pairs, found, corrected, strict=True)
        ]
    return rows


def _compared(one: Arm, two: Arm, figure: str) -> dict[str, float]:
    if figure in one.drawn:
        found = asdict(difference(one.drawn[figure], two.drawn[figure]))
        sure = found["interval"]
        return {"difference": sure["estimate"], "low": sure["low"], "high": sure["high"], "p": found["p"]}
    paired = compare(one.each[figure], two.each[figure])
    sure_of = paired.difference
    return {"difference": sure_of.estimate, "low": sure_of.low, "high": sure_of.high, "p": paired.p}

"""Choices on the development half, figures of the other half, and tests between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tokenrank.evaluate.metrics.foreground import accuracy_ratio
from tokenrank.evaluate.statistics import bootstrap, compare, holm

from .scores import NAMES, accuracy, strict_iou
from .variants import EVERY, Variant

AP, RANK, COUNTS, POINTING = NAMES.index("ap"), NAMES.index("rank_ap"), slice(2, 6), NAMES.index("pointing")
MEAN = "mean"
"""Instead of a share of noise: attention, or maps, averaged over all of them."""


@dataclass(frozen=True)
class Measured:
    """Scores of every variant at every noise.

    Attributes:
        scores: (variant, noise) → (M, 2, 7), a mosaic's two words, in the order of ``scores.NAMES``.
        development: bool (M,).
    """

    scores: Mapping[tuple[Variant, str], np.ndarray]
    development: np.ndarray

    def figures(self, key: tuple[Variant, str], development: bool) -> dict[str, float]:
        """Means over a half, word by word.

        From summed counts IoU would be acc / (2 − acc) and nothing else: two words share out a picture between them, so
        that one's word is the other's rest.
        """
        found = self.scores[key][self.development == development].astype(np.float64)
        right = float(accuracy(found[..., COUNTS]).mean())
        return {
            "ap": float(found[..., AP].mean()),
            "rank_ap": float(found[..., RANK].mean()),
            "iou": float(strict_iou(found[..., COUNTS]).mean()),
            "acc": right,
            "acc_ratio": accuracy_ratio(right),
            "pointing": float(found[..., POINTING].mean()),
        }

    def by_mosaic(self, key: tuple[Variant, str]) -> np.ndarray:
        """AP of each mosaic of the reported half, the mean of its two words."""
        return np.asarray(self.scores[key][~self.development][..., AP].mean(1, dtype=np.float64))

    def best(self, keys: Sequence[tuple[Variant, str]]) -> tuple[Variant, str]:
        """The highest AP on the development half; the first of equal ones."""
        return max(keys, key=lambda key: self.figures(key, True)["ap"])


def families(keys: Sequence[tuple[Variant, str]]) -> dict[str, list[tuple[Variant, str]]]:
    """Methods as the table names them → what each may be chosen from.

    A bounce is one method for each n. DAAM is what it is over all steps: it is not chosen by noise.
    """
    found: dict[str, list[tuple[Variant, str]]] = {}
    for variant, noise in keys:
        name = variant.method
        if name == "bounce":
            name = f"bounce n = {variant.settings['n']}"
        if name == "daam" and noise != MEAN and any(other == MEAN for _, other in keys):
            continue
        found.setdefault(name, []).append((variant, noise))
    return found


def chosen(measured: Measured) -> list[dict[str, Any]]:
    """The best variant of each method on the development half, and its figures on the other; best first."""
    rows = []
    for method, keys in families([*measured.scores]).items():
        key = measured.best(keys)
        interval = bootstrap(measured.by_mosaic(key))
        rows.append({
            "method": method, "variant": str(key[0]), "noise": key[1], "tried": len(keys),
            "development_ap": measured.figures(key, True)["ap"], **measured.figures(key, False),
            "ap_low": interval.low, "ap_high": interval.high,
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["ap"])


def tests(measured: Measured, pairs: Sequence[tuple[str, tuple[Variant, str], str, tuple[Variant, str]]]) -> list[dict]:
    """Paired Wilcoxon tests of AP on the reported half, p corrected for their number by Holm."""
    made = [(one, two, compare(measured.by_mosaic(a), measured.by_mosaic(b))) for one, a, two, b in pairs]
    corrected = holm([found.p for _, _, found in made])
    return [
        {
            "first": one, "second": two, "n": found.n, "difference": found.difference.estimate,
            "low": found.difference.low, "high": found.difference.high, "p": found.p, "holm": p, "effect": found.effect,
        }
        for (one, two, found), p in zip(made, corrected, strict=True)
    ]  # fmt: skip


def between_all(measured: Measured, rows: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Tests between every two of the ``chosen`` methods."""
    keys = {row["method"]: (Variant.read(row["variant"]), row["noise"]) for row in rows}
    return tests(measured, [(a, keys[a], b, keys[b]) for a, b in combinations(keys, 2)])


def heads_compared(measured: Measured) -> list[dict]:
    """|λ2| against equal heads, all else equal: at the development half's best uniform variant of each walk."""
    pairs = []
    both = [key for key in measured.scores if key[0].settings.get("heads") == "lambda2"]
    for method, keys in families(both).items():
        twins = [(_with(key[0], "uniform"), key[1]) for key in keys]
        best = measured.best([twin for twin in twins if twin in measured.scores])
        pairs.append((f"{method}, λ2", (_with(best[0], "lambda2"), best[1]), f"{method}, uniform", best))
    return tests(measured, pairs) if pairs else []


def defaults(measured: Measured) -> list[dict[str, Any]]:
    """Walks over all layers, heads alike, by AP of the development half averaged over all shares of noise; best first.

    What ``concept_maps`` does where nothing is said should be right for any picture: no layer of one network, no noise.
    """
    by: dict[Variant, list[str]] = {}
    for variant, noise in measured.scores:
        walk = variant.method in ("bounce", "tokenrank", "absorption")
        if walk and variant.layer == EVERY and variant.settings["heads"] == "uniform" and noise != MEAN:
            by.setdefault(variant, []).append(noise)
    rows = []
    for variant, noises in by.items():
        both = [np.mean([measured.figures((variant, noise), half)["ap"] for noise in noises]) for half in (True, False)]
        rows.append({"variant": str(variant), "development_ap": float(both[0]), "ap": float(both[1])})
    return sorted(rows, key=lambda row: -row["development_ap"])


def rivals_compared(measured: Measured) -> dict[str, dict[str, Any]]:
    """Each map alone against shares of the words, of every method that has both: the best of each by development."""
    best: dict[str, dict[str, tuple[Variant, str]]] = {}
    for method, keys in families([*measured.scores]).items():
        shared = [key for key in keys if key[0].settings.get("cut") == "softmax"]
        alone = [key for key in keys if key not in shared]
        if shared and alone:
            best[method] = {"alone": measured.best(alone), "softmax": measured.best(shared)}
    rows = (
        tests(measured, [(name, two["softmax"], "alone", two["alone"]) for name, two in best.items()]) if best else []
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found[row["first"]] = {"test": row}
        for way, key in best[row["first"]].items():
            found[row["first"]][way] = {"variant": str(key[0]), "noise": key[1], **measured.figures(key, False)}
    return found


def _with(variant: Variant, heads: str) -> Variant:
    options = tuple((name, heads if name == "heads" else value) for name, value in variant.options)
    return Variant(variant.method, variant.layer, options)

"""What the rows of ``benchmarks/diffseg.py`` say: distances chosen on one half, compared on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from tokenrank.evaluate.metrics.hungarian import accuracy, miou
from tokenrank.evaluate.statistics import compare, holm

REFERENCE = "uniform"
COLUMNS = ("segments", "covering", "miou", "miou_strict", "accuracy")
COMPARED = ("covering", "miou_strict", "accuracy")
SHARED = ("blocks",)  # follow the distance of the reference


def summaries(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The choices, and one line a method: at the reference's distance, and at its own."""
    keys = sorted({row["key"] for row in rows})
    even, odd = set(keys[::2]), set(keys[1::2])
    methods = list(dict.fromkeys(row["method"] for row in rows))
    own = {method: best(rows, method, even) for method in methods}
    reference = of(rows, REFERENCE, own[REFERENCE], odd)
    lines = []
    for method in methods:
        known = tried(rows, method) == tried(rows, REFERENCE)
        for at in dict.fromkeys([own[REFERENCE], own[method]] if known else [own[method]]):
            if method in SHARED and at != own[REFERENCE]:
                continue
            found = of(rows, method, at, odd)
            line = {"method": method, "at": at, "shared": known and at == own[REFERENCE], "own": at == own[method]}
            line |= {column: rounded(np.mean([row[column] for row in found])) for column in COLUMNS}
            for suffix in ("", "_strict"):
                if f"counts{suffix}" in found[0]:
                    counts = reduce(add, (row[f"counts{suffix}"] for row in found))
                    line |= {f"data_miou{suffix}": rounded(miou(counts)), "data_accuracy": rounded(accuracy(counts))}
            if method != REFERENCE:
                line |= {f"{column}_pair": paired(found, reference, column) for column in COMPARED}
            lines.append(line)
    shared = [line for line in lines if line["shared"]]
    corrected(shared)
    corrected([line for line in lines if not line["shared"]])
    about = {"pictures": len(keys), "reported": len(odd), "tau": own[REFERENCE], "own": own}
    return about | {"everywhere": everywhere(rows)}, lines


def everywhere(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every grid less the reference at every distance, on all pictures: nothing is chosen."""
    keys = {row["key"] for row in rows}
    distances = tried(rows, REFERENCE)
    methods = dict.fromkeys(row["method"] for row in rows)
    lines = []
    for at in sorted(distances):
        reference = of(rows, REFERENCE, at, keys)
        for method in methods:
            if method not in (REFERENCE, *SHARED) and tried(rows, method) == distances:
                found = of(rows, method, at, keys)
                pairs = {f"{column}_pair": paired(found, reference, column) for column in COMPARED}
                lines.append({"method": method, "at": at, **pairs})
    corrected(lines)
    return lines


def tried(rows: Sequence[Mapping[str, Any]], method: str) -> set[float]:
    """Distances of a method; of cuts their thresholds, which are none."""
    return {row["at"] for row in rows if row["method"] == method}


def of(rows: Sequence[Mapping[str, Any]], method: str, at: float, keys: set[str]) -> list[Mapping[str, Any]]:
    """Rows of a method at one distance, of some pictures, in the order of their keys."""
    found = (row for row in rows if row["method"] == method and row["at"] == at and row["key"] in keys)
    return sorted(found, key=lambda row: row["key"])


def best(rows: Sequence[Mapping[str, Any]], method: str, keys: set[str]) -> float:
    """The distance of the largest mean covering, the first of equal ones."""
    return max(
        sorted(tried(rows, method)), key=lambda at: np.mean([row["covering"] for row in of(rows, method, at, keys)])
    )


def paired(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    """Difference over pictures with its 95 % interval, Wilcoxon's p, the rank-biserial effect."""
    assert [row["key"] for row in first] == [row["key"] for row in second]
    found = compare([row[column] for row in first], [row[column] for row in second])
    difference = found.difference
    return {
        "difference": rounded(difference.estimate),
        "low": rounded(difference.low),
        "high": rounded(difference.high),
        "p": float(f"{found.p:.2g}"),
        "effect": rounded(found.effect),
    }


def corrected(lines: Sequence[dict[str, Any]]) -> None:
    """Holm's correction over the lines, of every column by itself."""
    for column in (f"{name}_pair" for name in COMPARED):
        pairs = [line[column] for line in lines if column in line]
        for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair["holm"] = float(f"{p:.2g}")


def rounded(value: Any) -> float:
    return round(float(value), 4)

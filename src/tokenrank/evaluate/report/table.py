"""The numbers of a report as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .collect import Line, Results
from .words import without_paths

FORMAT = 1


def as_json(results: Results) -> str:
    """All of a report: what is not finite becomes null, paths become names, and nothing depends on when or where."""
    made = {
        "format": FORMAT,
        "headline": results.headline,
        "higher_is_better": results.higher_is_better,
        "reference": results.reference,
        "per_image": results.per_image,
        "statistics": {
            "interval": "percentile bootstrap over images",
            "level": results.level,
            "resamples": results.resamples,
            "seed": results.seed,
            "test": "two-sided Wilcoxon signed-rank, zeros dropped",
            "correction": "Holm",
            "effect": "matched-pairs rank-biserial correlation",
        },
        "images": {"all": results.images, "done": results.done, "failed": len(results.failures)},
        "methods": [_line(line) for line in results.lines],
        "failures": {key: without_paths(error) for key, error in results.failures.items()},
        "problems": {key: without_paths(problem) for key, problem in results.problems.items()},
        "settings": results.settings,
        "installations": list(results.starts),
    }
    return json.dumps(_finite(made), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _line(line: Line) -> dict[str, Any]:
    # level stands once, above
    found = {name: value for name, value in asdict(line).items() if value is not None}
    for name in ("headline", "difference"):
        if name in found:
            del found[name]["level"]
    if "paired" in found:
        del found["paired"]["difference"]["level"]
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

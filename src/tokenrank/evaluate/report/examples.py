"""Examples of a report: what each method found in the image where it is best, in a middling one, and in its worst.

A run keeps numbers, no pictures, so that these few are computed once more, from the data set, when the report is
written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import first_line
from ...plain import utf8
from ..protocols.shown import Shown
from ..runner.work import image_seed, seeded
from .words import without_paths

if TYPE_CHECKING:
    from ...models import Model
    from ..datasets.sample import Dataset
    from ..protocols.base import Protocol
    from .collect import Results


@dataclass(frozen=True)
class Example:
    """One method on one image.

    Attributes:
        which: "best", "median", "worst", or "only".
        key: of the image.
        value: the headline of this image.
        shown: what to look at.
    """

    which: str
    key: str
    value: float
    shown: Shown


@dataclass(frozen=True)
class Examples:
    """Examples by method.

    Attributes:
        found: method → its examples, best first.
        missing: in words, why there are none, or not all; empty where nothing is missing.
    """

    found: Mapping[str, tuple[Example, ...]]
    missing: str = ""


NONE_GIVEN = Examples({}, "No example pictures: this report was written from the run's numbers alone.")


def find_examples(
    results: Results, protocol: Protocol, dataset: Dataset, model: Model, methods: Sequence[Any]
) -> Examples:
    """Best, median and worst image of every method, computed once more as they were measured.

    An image that can no longer be read costs its example, not the report. Takes up to three forwards and three maps a
    method.

    Args:
        results: of the run.
        protocol, dataset, model, methods: of the run, as given to ``run``.
    """
    places = {method.name: place for place, method in enumerate(methods)}
    keys = {utf8(key): key for key in dataset.keys}
    found: dict[str, tuple[Example, ...]] = {}
    lost: dict[str, str] = {}
    for line in results.lines:
        if line.method not in places:
            continue
        examples = []
        for which, stored, value in chosen(results, line.method):
            try:
                # as in the run: the same random numbers for this image
                with seeded(image_seed(results.seed, keys[stored])):
                    shown = protocol.show(model, dataset.read(keys[stored]), methods, places[line.method])
            except Exception as error:  # the data may be gone, or changed; the numbers stay
                lost[stored] = "it is not in the data set" if isinstance(error, KeyError) else first_line(error)
                continue
            if shown is None:
                return Examples(
                    {}, f"No example pictures: protocol {protocol.name!r} has nothing for a picture to show."
                )
            examples.append(Example(which, stored, value, shown))
        if examples:
            found[line.method] = tuple(examples)
    return Examples(found, _why(lost))


def chosen(results: Results, method: str) -> list[tuple[str, str, float]]:
    """(which, key, value) of the images to show; two or one where there are no three with a value."""
    values = results.values[method].dropna()
    values = values[np.isfinite(values.to_numpy())]
    ranked = values.sort_values(ascending=not results.higher_is_better, kind="stable")
    last = len(ranked) - 1
    if last < 0:
        return []
    names = {0: {"only": 0}, 1: {"best": 0, "worst": 1}}.get(last, {"best": 0, "median": last // 2, "worst": last})
    return [(which, str(ranked.index[place]), float(ranked.iloc[place])) for which, place in names.items()]


def _why(lost: Mapping[str, str]) -> str:
    if not lost:
        return ""
    key, problem = next(iter(lost.items()))
    which, problem = (
        f"image {key}" if len(lost) == 1 else f"{len(lost):,} images, the first {key}",
        without_paths(problem),
    )
    return f"Some examples could not be computed any more ({which}: {problem}); the numbers are those of the run."

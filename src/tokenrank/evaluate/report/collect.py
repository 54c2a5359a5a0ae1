"""From the rows of a run to the numbers of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, NotFoundError, nearest, require
from ...plain import plain
from ..statistics import Interval, Paired, compare, holm, interval, resampled

if TYPE_CHECKING:
    import pandas as pd

    from ..protocols.base import Protocol
    from ..runner import Run

LEVEL, RESAMPLES = 0.95, 1000
_PROBES = 3  # resamples on which a summary must equal the mean to be taken for it


@dataclass(frozen=True)
class Line:
    """One method.

    Attributes:
        method: its name.
        images: that it has rows of.
        headline: of the data set, with a bootstrap interval over images.
        figures: all other figures of the protocol's summary: numbers, or lists of numbers.
        difference: of the headline to the reference's, resampled together; None for the reference.
        paired: image by image against the reference; None for the reference, or where no image can be compared.
        p_holm: the Wilcoxon test's p, corrected for the number of methods compared.
    """

    method: str
    images: int
    headline: Interval
    figures: Mapping[str, Any]
    difference: Interval | None = None
    paired: Paired | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Times:
    """What a run took, in seconds.

    Attributes:
        images: with times.
        methods: method → mean of an image, NaN where it was not measured.
        forward: of the model, which methods share, mean of an image.
        image: all of an image, reading and scoring included, mean.
    """

    images: int
    methods: Mapping[str, float]
    forward: float
    image: float


@dataclass(frozen=True)
class Results:
    """What a report says.

    Attributes:
        lines: one a method, in the run's order.
        headline: the figure that methods are compared by.
        higher_is_better: of the headline.
        reference: the method that the others are compared with.
        given: whether the reference was asked for; otherwise it is the best of them.
        per_image: what the paired tests compare, in words.
        level, resamples, seed: of the intervals.
        images: of the run.
        done: images with rows.
        failures: image → what went wrong.
        problems: image that the data set left out → why.
        settings: of the run.
        starts: versions and hardware of the run's starts, those that differ.
        set_aside: parts of the run that could not be read and were run anew.
        about: the protocol in a sentence; empty where it has no documentation.
        values: the headline of every image, a frame of images × methods, NaN where there is none.
        times: None where nothing was measured.
    """

    lines: tuple[Line, ...]
    headline: str
    higher_is_better: bool
    reference: str
    given: bool
    per_image: str
    level: float
    resamples: int
    seed: int
    images: int
    done: int
    failures: Mapping[str, str]
    problems: Mapping[str, str]
    settings: Mapping[str, Any]
    starts: tuple[Mapping[str, Any], ...]
    set_aside: tuple[str, ...]
    about: str = ""
    values: Any = field(default=None, repr=False, compare=False)
    times: Times | None = field(default=None, compare=False)


def collect(
    run: Run,
    protocol: Protocol,
    reference: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Results:
    """The figures of a run with their intervals, and every method against a reference.

    Args:
        run: finished or not; the images that are done count.
        protocol: of the run, for its ``summary``.
        reference: a method's name; the one with the best headline where None. Mind that comparing with the best of
            several favours it: it was chosen by the numbers that it is compared by.
        level: of the confidence intervals.
        resamples: of the images, for the intervals; drawn with the run's seed.

    Raises:
        InputError: no rows, or a run of another protocol. NotFoundError: no such method.
    """
    settings = run.settings
    stated = settings["protocol"]["name"]
    if stated != protocol.name:
        raise InputError(f"the run is of protocol {stated!r}, not of {protocol.name!r}; give the run's own")
    rows, seed = run.rows(), int(settings["seed"])
    summary = _summary(protocol, rows)
    methods = list(summary.index)
    if reference is not None and reference not in methods:
        raise NotFoundError(f"no method {reference!r} in this run; {nearest(reference, methods)}")
    draws = _draws(protocol, rows, summary, resamples, seed)
    column = summary[protocol.headline].astype(float)
    best = _best(column, protocol.higher_is_better)
    against = best if reference is None else reference
    values, words = _per_image(protocol, rows, methods)
    paired = {
        method: compare(values[method], values[against], level=level, resamples=resamples, seed=seed)
        for method in methods
        if method != against and np.isfinite(values[method].to_numpy() - values[against].to_numpy()).any()
    }
    corrected = dict(zip(paired, holm([entry.p for entry in paired.values()]), strict=True))
    counts = rows.groupby("method")["key"].nunique()
    others = [name for name in summary.columns if name != protocol.headline]
    lines = tuple(
        Line(
            method=method,
            images=int(counts[method]),
            headline=interval(float(column[method]), draws[method], level),
            figures={name: plain(summary.at[method, name], finite=False) for name in others},
            difference=None
            if method == against
            else interval(float(column[method] - column[against]), draws[method] - draws[against], level),
            paired=paired.get(method),
            p_holm=corrected.get(method),
        )
        for method in methods
    )
    return Results(
        lines=lines,
        headline=protocol.headline,
        higher_is_better=protocol.higher_is_better,
        reference=against,
        given=reference is not None,
        per_image=words,
        level=level,
        resamples=resamples,
        seed=seed,
        images=len(run.keys),
        done=int(rows["key"].nunique()),
        failures=dict(zip(run.failures["key"], run.failures["error"], strict=True)),
        problems=run.problems,
        settings=settings,
        starts=_different(run.starts),
        set_aside=tuple(name for start in run.starts for name in start["set_aside"]),
        about=(type(protocol).__doc__ or "").strip().split("\n")[0],
        values=values,
        times=_times(run, methods),
    )


def _times(run: Run, methods: Sequence[str]) -> Times | None:
    found = run.times()
    if not len(found):
        return None
    each = np.stack([np.asarray(line, dtype=np.float64) for line in found["methods"]])
    named = dict(zip(run.settings["methods"], each.T, strict=True))
    return Times(
        images=len(found),
        methods={name: _mean(named[name]) for name in methods},
        forward=_mean(found["forward"].to_numpy(dtype=np.float64)),
        image=float(found["seconds"].mean()),
    )


def _mean(seconds: Any) -> float:
    measured = seconds[np.isfinite(seconds)]
    return float(measured.mean()) if len(measured) else float("nan")


def _summary(protocol: Protocol, rows: pd.DataFrame) -> pd.DataFrame:
    """The protocol's figures with methods as the index, in the order of the rows."""
    summary = protocol.summary(rows)
    if "method" in summary.columns:
        summary = summary.set_index("method")
    if protocol.headline not in summary.columns:
        raise InputError(
            f"protocol {protocol.name!r} has no figure {protocol.headline!r}, its headline; "
            f"{nearest(protocol.headline, map(str, summary.columns))}"
        )
    return summary.loc[list(dict.fromkeys(rows["method"]))]


def _draws(protocol: Protocol, rows: pd.DataFrame, summary: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Method → its headline in every resample of the images, (resamples,); the same images for all methods."""
    methods = list(summary.index)
    found = rows.groupby("key").indices
    groups = [found[key] for key in rows["key"].unique()]
    places = resampled(len(groups), resamples, seed)

    def figures(chosen: Any) -> Any:
        taken = rows.iloc[np.concatenate([groups[place] for place in chosen])].copy()
        # an image drawn twice is two images
        taken["key"] = np.repeat(np.arange(len(chosen)), [len(groups[place]) for place in chosen]).astype(str)
        return _summary(protocol, taken)[protocol.headline].reindex(methods).to_numpy(dtype=float)

    means = _means(rows, methods, protocol.headline, groups)
    if means is not None:
        probes = places[:_PROBES]
        same = [np.allclose(figures(row), means[row].mean(0), rtol=1e-12, atol=1e-12) for row in probes]
        if all(same) and np.allclose(summary[protocol.headline].to_numpy(dtype=float), means.mean(0), rtol=1e-12):
            # the summary is the mean over images, which needs no data frame a resample
            return {method: means[:, i][places].mean(1) for i, method in enumerate(methods)}
    drawn = np.stack([figures(row) for row in places])
    return {method: drawn[:, i] for i, method in enumerate(methods)}


def _means(rows: pd.DataFrame, methods: list[str], column: str, groups: list[Any]) -> Any:
    """The column as (images, methods); None where it is no column of finite numbers, one an image and method."""
    if column not in rows.columns or len(rows) != len(groups) * len(methods):
        return None
    numbers = require("pandas", "evaluate").to_numeric(rows[column], errors="coerce")
    table = rows.assign(**{column: numbers}).pivot(index="key", columns="method", values=column)
    values = table.loc[list(dict.fromkeys(rows["key"])), methods].to_numpy(dtype=float)
    return values if np.isfinite(values).all() else None


def _per_image(protocol: Protocol, rows: pd.DataFrame, methods: list[str]) -> tuple[Any, str]:
    """The headline of every image, (images × methods) with NaN where there is none, and how it was made."""
    pandas = require("pandas", "evaluate")
    name = protocol.headline
    if name in rows.columns and pandas.api.types.is_numeric_dtype(rows[name]):
        values = rows.pivot(index="key", columns="method", values=name)
        return values.reindex(columns=methods).astype(float), f"{name} of each image"
    alone = {key: _summary(protocol, image)[name] for key, image in rows.groupby("key", sort=False)}
    values = pandas.DataFrame(alone).T.reindex(columns=methods).astype(float)
    return values, f"{name} of each image taken as a data set of its own"


def _best(column: pd.Series, higher_is_better: bool) -> str:
    ranked = column.dropna()
    if not len(ranked):
        return str(column.index[0])
    return str(ranked.idxmax() if higher_is_better else ranked.idxmin())


def _different(starts: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Versions and hardware, each pair of them once."""
    found: list[dict[str, Any]] = []
    for start in starts:
        entry = {"versions": start["versions"], "hardware": start["hardware"]}
        if entry not in found:
            found.append(entry)
    return tuple(found)

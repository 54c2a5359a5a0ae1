"""Outcome of an experiment: what was measured against what was expected, as an object and as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ...errors import InputError, printable
from ...plain import plain
from ...writing import write_whole
from ..runner.folder import writing
from ..statistics import Paired, compare
from .experiment import Check, Experiment, Figure, Gain, Order

if TYPE_CHECKING:
    import pandas as pd

Verdict: TypeAlias = Literal["agrees", "differs", "undecided", "not judged"]

LEVEL = 0.05
"""A difference with a larger p is undecided."""


@dataclass(frozen=True)
class Judged:
    """A check and what came of it.

    Attributes:
        check: what was expected.
        measured: a figure; or the mean difference over images, positive in favour of the claim.
        verdict: "agrees"; "differs" (a figure beyond its tolerance, or a significant difference against the claim);
            "undecided" (a difference that is not significant); "not judged" (a figure of a part of the data).
        words: one line.
        paired: the test behind an order or a gain.
    """

    check: Check
    measured: float
    verdict: Verdict
    words: str
    paired: Paired | None = None


def judge(
    experiment: Experiment, check: Check, rows: Sequence[pd.DataFrame], summaries: Sequence[pd.DataFrame], seed: int
) -> Judged:
    """Compare a check with the rows and summaries of the experiment's models, in their order."""
    if isinstance(check, Figure):
        return _figure(experiment, check, rows[check.model], summaries[check.model])
    if isinstance(check, Order):
        sign = 1 if check.higher else -1
        first, second = (sign * _column(rows[check.model], m, check.column) for m in (check.better, check.worse))
        better = "higher" if check.higher else "lower"
        words = f"{check.better} against {check.worse}: {check.column} ({better} is better)"
    else:
        first = _gain(rows[check.more], check)
        second = _gain(rows[check.less], check)
        words = f"gain of {check.better} over {check.worse} in {check.column}, {experiment.models[check.more]} against "
        words += experiment.models[check.less]
    keys = first.index.intersection(second.index)
    paired = compare(first[keys].to_numpy(dtype=float), second[keys].to_numpy(dtype=float), seed=seed)
    mean = paired.difference.estimate
    verdict: Verdict = "undecided" if not paired.p < LEVEL or mean == 0 else "agrees" if mean > 0 else "differs"
    interval = f"[{paired.difference.low:+.4f}, {paired.difference.high:+.4f}]"
    line = f"{words} [{check.mark}]: {mean:+.4f} {interval} in favour, p = {paired.p:.2g}, {paired.n} images: {verdict}"
    return Judged(check, mean, verdict, line, paired)


def _figure(experiment: Experiment, check: Figure, rows: pd.DataFrame, summary: pd.DataFrame) -> Judged:
    measured = float(summary.at[check.method, check.column])
    done = int(rows["key"].nunique())
    known = f"{check.method}, {check.column}: {measured:.4f}, published {check.value:.4f} [{check.mark}]"
    if done != experiment.images:
        words = f"{known}: not judged, {done:,} of {experiment.images:,} images"
        return Judged(check, measured, "not judged", words)
    verdict: Verdict = "agrees" if np.abs(measured - check.value) <= check.tolerance else "differs"
    return Judged(check, measured, verdict, f"{known} ± {check.tolerance:g}: {verdict}")


def _column(rows: pd.DataFrame, method: str, column: str) -> pd.Series:
    """Key → value of one method."""
    return rows[rows["method"] == method].set_index("key")[column].astype(float)


def _gain(rows: pd.DataFrame, check: Gain) -> pd.Series:
    return _column(rows, check.better, check.column) - _column(rows, check.worse, check.column)


FILE = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """Measured against expected.

    Attributes:
        experiment: what was run.
        models: names of the models that ran, in the experiment's order.
        judged: every check and what came of it.
        measured: model → method → figure → value, all of the protocol's summary that are single numbers.
        images: done, of every model's run.
        failures: images that failed, in all runs.
        folders: of the runs, with rows and report.
        files: the reports and this outcome.
    """

    experiment: Experiment
    models: tuple[str, ...]
    judged: tuple[Judged, ...]
    measured: Mapping[str, Mapping[str, Mapping[str, float]]]
    images: tuple[int, ...]
    failures: int
    folders: tuple[Path, ...]
    files: tuple[Path, ...] = ()

    @property
    def agrees(self) -> bool | None:
        """False where a check differs; True where one agrees and none differs; None where nothing could be told."""
        verdicts = {judged.verdict for judged in self.judged}
        if "differs" in verdicts:
            return False
        return True if "agrees" in verdicts else None

    def as_json(self) -> str:
        """All of it as JSON; names, no paths."""
        experiment = asdict(self.experiment)
        del experiment["expected"]  # stands under "checks"
        made = {
            "experiment": {**experiment, "command": self.experiment.command},
            "agrees": self.agrees,
            "models": self.models,
            "images": self.images,
            "failures": self.failures,
            "checks": [_check(judged) for judged in self.judged],
            "measured": self.measured,
        }
        return json.dumps(plain(made), indent=1, ensure_ascii=False)

    def write(self, folder: Path) -> Path:
        """``outcome.json`` in the folder.

        Raises:
            InputError: it cannot be written.
        """
        path = folder / FILE
        with writing(path, "all rows and reports are kept"):
            write_whole(path, (self.as_json() + "\n").encode())
        return path


def check_folder(folder: Path) -> None:
    """Raise ``InputError`` for a folder that is a file, or holds links under the names of a run or the outcome."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name!r} is a file, expected a folder for the experiment; choose another with --out")
    for path in [*sorted(folder.glob("run-*")), folder / FILE]:
        if path.is_symlink():
            raise InputError(f"{printable(path)} is a link, which is not followed; remove it, or give another --out")


def _check(judged: Judged) -> dict[str, Any]:
    return {
        "kind": type(judged.check).__name__.lower(),
        **asdict(judged.check),
        "measured": judged.measured,
        "verdict": judged.verdict,
        "paired": None if judged.paired is None else asdict(judged.paired),
        "words": judged.words,
    }

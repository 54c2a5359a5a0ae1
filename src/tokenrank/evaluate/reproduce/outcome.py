"""Outcome: what came out of an experiment, as an object and as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import InputError
from ..runner.files import refusal, write_whole
from .experiment import Experiment
from .judge import Judged

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
        return json.dumps(
            {
                "experiment": {**experiment, "command": self.experiment.command},
                "agrees": self.agrees,
                "models": list(self.models),
                "images": list(self.images),
                "failures": self.failures,
                "checks": [
                    {
                        "kind": type(judged.check).__name__.lower(),
                        **asdict(judged.check),
                        "measured": judged.measured,
                        "verdict": judged.verdict,
                        "paired": None if judged.paired is None else asdict(judged.paired),
                        "words": judged.words,
                    }
                    for judged in self.judged
                ],
                "measured": self.measured,
            },
            indent=1,
            ensure_ascii=False,
        )

    def write(self, folder: Path) -> Path:
        """``outcome.json`` in the folder.

        Raises:
            InputError: it cannot be written.
        """
        path = folder / FILE
        try:
            write_whole(path, (self.as_json() + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise refusal(path, error, "all rows and reports are kept") from error
        return path


def check_folder(folder: Path) -> None:
    """Raise ``InputError`` for a folder that is a file; others are the runs' affair."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name!r} is a file, expected a folder for the experiment; choose another with --out")

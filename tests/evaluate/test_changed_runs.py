"""The short form of benchmarks/robustness/runs.py: files of a run that were changed, and that the campaign can fail."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.robustness.runs import BITS, CHANGES, FALSE, attacked
from tokenrank.evaluate.runner import parts

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and alarms are of POSIX")
NONE = dict.fromkeys(FALSE[:-1], 0)


def false(row: dict[str, Any]) -> dict[str, int]:
    return {word: row[word] for word in NONE}


@pytest.mark.parametrize("name", BITS)
def test_a_flipped_bit_is_told_or_mended(name: str):
    row = attacked(name, BITS[name], 4)
    assert false(row) == NONE
    assert row["told"] + row["mended"] + row["unchanged"] == 4


FEW = (
    "a part cut off", "a part under two numbers", "another part's content", "another run's parts, all",
    "a pipe for a part", "a link to another run's for run.json", "a folder for run.lock", "nothing for run.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_what_a_run_did_not_write_is_told_or_mended(name: str):
    row = attacked(name, CHANGES[name], 1)
    assert false(row) == NONE
    assert row["told"] + row["mended"] + row["unchanged"] == 1


def test_the_campaign_sees_what_is_not_told(monkeypatch: pytest.MonkeyPatch):
    def rescored(run: Path, other: Path, draw: random.Random) -> None:
        path = min((run / "parts").glob("part-*"))
        table = parquet.read_table(path)
        place = table.column_names.index("score")
        scores = pyarrow.array([score + 1 for score in table.column("score").to_pylist()])
        parquet.write_table(table.set_column(place, "score", scores), path)

    assert attacked("other scores", rescored, 1)["mended"] == 1
    monkeypatch.setattr(parts, "_digest", lambda content: "0" * 16)
    row = attacked("other scores", rescored, 1)
    assert row["changed"] == 2 * 9  # read, and read after the run was started again
    assert row["told"] == row["mended"] == 0

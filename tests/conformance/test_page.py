"""The page of what is supported is what the committed results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from .check import TOLERANCE
from .page import NEWEST, OLDEST, PAGE, page
from .results import read
from .test_conformance import CASES


def test_page_is_made_of_the_committed_results() -> None:
    made = page(read(NEWEST), read(OLDEST))
    assert PAGE.read_text(encoding="utf-8") == made, "run python -m tests.conformance.page"


@pytest.mark.parametrize("file", [NEWEST, OLDEST], ids=lambda file: file.stem)
def test_committed_results_are_whole(file: Path) -> None:
    rows = read(file)["rows"]
    found = sorted((row["library"], row["target"], row["variant"]) for row in rows)
    assert found == sorted((case.library, case.target, case.variant) for case in CASES)  # a failed case has no row
    for row in rows:
        assert row["status"] in ("passed", "skipped", "refused")
        if row["status"] == "passed":
            assert 0 <= row["error"] <= TOLERANCE
            assert row["kinds"]
            assert row["records"] > 0
        else:
            assert row["note"], "every row that did not pass says why"

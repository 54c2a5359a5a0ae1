"""Pages whose tables are made of results of benchmarks say what the results say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import PIL.Image
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import filled  # noqa: E402
import performance_page  # noqa: E402
import robustness_page  # noqa: E402

sys.path.remove(str(BENCHMARKS))

from benchmarks import concepts_page, diffseg_page, gpu_page, guidance_page, machines_page  # noqa: E402
from tokenrank.benchmark import read_report  # noqa: E402
from tokenrank.cli.bench import SECTIONS  # noqa: E402

PAGES = {
    "performance.md": performance_page.TABLES,
    "robustness.md": robustness_page.TABLES,
    "machines.md": machines_page.TABLES,
    "gpu.md": gpu_page.TABLES,
    "diffusion.md": {**concepts_page.TABLES, **diffseg_page.TABLES, **guidance_page.TABLES},
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_agrees_with_its_results(page: str) -> None:
    text = (filled.DOCS / page).read_text(encoding="utf-8")
    assert filled.filled(text, PAGES[page]) == text, "the page's script in benchmarks writes it anew"
    assert {name for name, _ in filled.MARKS.findall(text)} == set(PAGES[page])


def test_a_changed_number_is_seen() -> None:
    text = (filled.DOCS / "robustness.md").read_text(encoding="utf-8")
    changed = re.sub(r"\*\*0 false\*\*", "**1 false**", text)
    assert changed != text
    assert filled.filled(changed, robustness_page.TABLES) == text


def test_the_figure_of_machines_is_drawn_from_their_results(tmp_path: Path) -> None:
    committed = PIL.Image.open(machines_page.FIGURE)
    assert committed.text[machines_page.DIGEST] == machines_page.digest(), "python -m benchmarks.machines_page"
    machines_page.draw(tmp_path / "machines.png")
    drawn = PIL.Image.open(tmp_path / "machines.png")
    assert drawn.text == committed.text
    assert drawn.size == committed.size


def test_results_of_machines_are_whole_and_name_nobody() -> None:
    assert machines_page.files()
    for path in machines_page.files():
        report = read_report(path.read_text(encoding="utf-8"))
        assert report.about["complete"]
        assert not report.failed
        assert {row.section for row in report.rows} == set(SECTIONS)
        assert not re.search(r"/(home|root|work|Users|tmp)/|@", path.read_text(encoding="utf-8"))


def test_the_campaign_found_nothing_false() -> None:
    found = filled.result("campaign")
    assert found["made"]["chains"] >= 2000
    assert found["made"]["false"] == 0
    assert not [row for row in found["rows"] if row["false"]]


def test_no_damaged_file_did_anything_else() -> None:
    rows = filled.result("robustness-readers")["rows"]
    assert sum(row["files"] for row in rows) >= 2000
    for row in rows:
        assert row["refused"] + row["same"] + row["read"] == row["files"], row
        assert not any(row[name] for name in robustness_page.FALSE), row


def test_no_fault_changed_a_neighbour_or_the_process() -> None:
    found = filled.result("robustness-captures")
    assert found["faults"] >= 14
    assert found["wrong"] == found["left_behind"] == 0
    assert len(found["rows"]) == found["faults"] * len(found["ways"])


@pytest.mark.parametrize(
    ("value", "words"), [(0.0077, "7.7 ms"), (0.0117, "12 ms"), (0.249, "249 ms"), (4.86, "4.9 s"), (303.3, "303.3 s")]
)
def test_seconds(value: float, words: str) -> None:
    assert filled.seconds(value) == words.replace(" ", filled.SPACE)


@pytest.mark.parametrize(("value", "words"), [(6.03e-15, "6e−15"), (1.3e-7, "1e−7"), (0.0101, "1e−2")])
def test_powers(value: float, words: str) -> None:
    assert filled.power(value) == words

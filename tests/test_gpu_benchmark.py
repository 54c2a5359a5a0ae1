"""benchmarks/gpu.py without a GPU: every section runs, what is wrong or fails is said, and it ends in time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.device.floors import Floors
from benchmarks.device.goals import GOALS, TIMES_LOOP, judged
from benchmarks.device.record import Record
from benchmarks.device.sizes import SIZES, SMALL, chain_of, drawn, exact_step, uneven
from benchmarks.gpu import BUDGET, SECTIONS, run, told

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    made = Record(out, {"small": True}, CPU, BUDGET)  # shares that are enough on a busy machine, too
    with torch.no_grad():
        run(made, SMALL, list(SECTIONS))
    return made


def test_every_section_runs_in_a_minute_and_is_right(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert BUDGET - record.left < 60
    assert not [row for row in record.rows if "failed" in row]
    assert not [row for row in record.rows if row.get("right") is False]
    assert {row["section"] for row in record.rows} == set(SECTIONS)
    skipped = {row["skipped"] for row in record.rows if "skipped" in row}
    assert skipped <= {"no Triton for this device", "A alone takes 0 GB"}
    assert told(record) == 0
    assert "0 failed, 0 wrong" in capsys.readouterr().out
    assert record.out is not None
    assert json.loads(record.out.read_text("utf-8"))["rows"] == json.loads(json.dumps(record.rows))


def test_answers_stand_beside_a_floor_the_loop_and_what_they_prove(record: Record) -> None:
    ranks = [row for row in record.rows if row["name"].startswith("TokenRank to") and row["section"] == "answers"]
    assert len(ranks) == 5  # one of them on the host's path
    for row in ranks:
        assert row["floor_s"] > 0
        assert row.get("error", row.get("residual_bound")) <= row["bound"] + 1e-6
    beside = [row for row in ranks if "times_loop" in row]
    assert len(beside) == 3
    for row in beside:
        loop = next(other for other in record.rows if other["name"] == f"the paper's loop, {row['name']}")
        assert loop["reached"]
        assert row["times_loop"] == pytest.approx(loop["seconds"] / row["seconds"])


def test_goals_are_about_rows_that_a_whole_run_has(record: Record) -> None:
    """The small sizes have the names of the whole ones, but for the numbers."""
    words = [size.words for size in SIZES]
    names = {row["name"] for row in record.rows}
    for goal in GOALS:
        what, size = goal.row.rsplit(", ", 1)
        assert size in words
        assert any(name.startswith(f"{what}, ") for name in names), goal


def test_goals_are_judged() -> None:
    rows = [
        {"name": GOALS[2].row, "seconds": 2e-3, "times_loop": 4.9},
        {"name": GOALS[3].row, "seconds": 6e-3, "times_loop": 5.1},
    ]
    by = {(row["name"], row["field"]): row["met"] for row in judged(rows)}
    assert by[GOALS[2].row, "seconds"]
    assert not by[GOALS[3].row, "seconds"]
    assert not by[GOALS[0].row, "times_forward"]  # not measured is not met
    assert [met for (_, field), met in by.items() if field == "times_loop"] == [False, TIMES_LOOP < 5.1]


def test_a_failure_is_a_row_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(tmp_path / "gpu.json", {"small": True}, CPU, 60.0)

    def part(record: Record) -> None:
        record.attempt("divides", lambda: {"seconds": 1 / 0})
        record.attempt("is wrong", lambda: {"seconds": 1.0, "right": False})
        raise ValueError("no such size")

    record.section("part", 0.5, part)
    assert [row.get("failed") for row in record.rows] == [
        "ZeroDivisionError: division by zero", None, "ValueError: no such size", None,
    ]  # fmt: skip
    assert told(record) == 1
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert (found["failed"], found["wrong"]) == (["divides", "whole section"], ["is wrong"])
    assert "1 wrong" in capsys.readouterr().out


def test_what_has_no_time_is_skipped() -> None:
    record = Record(None, {}, CPU, 60.0)
    record.section("late", 0.0, lambda record: record.attempt("never", lambda: {"seconds": 1.0}))
    assert "skipped" in record.rows[0]
    record.begin = time.perf_counter() - 50
    record.section("later", 1.0, lambda record: record.attempt("never", lambda: {"seconds": 1.0}))
    assert [row["name"] for row in record.rows if row["section"] == "later"] == ["whole section"]


def test_the_plain_step_is_that_of_a_dense_matrix() -> None:
    size = SMALL[0]
    q, k = drawn(size, CPU)
    x = uneven(size, CPU, torch.float64)
    a = (size.scale * (q.double() @ k.double().mT)).softmax(-1)
    assert torch.allclose(exact_step(q, k, size.scale, x, room=10_000), (x[:, None] @ a)[:, 0], atol=1e-15)
    assert torch.allclose(chain_of(q, k).operator.rmatmul(x[..., None])[..., 0], (x[:, None] @ a)[:, 0], atol=1e-12)


def test_floors_count_operations_and_bytes() -> None:
    floors = Floors(copy=4e12, matrix={"bfloat16": 800e12, "float32": 50e12, "float64": 60e12})
    assert floors.attention(24, 4608, 128, torch.bfloat16) == pytest.approx(0.326e-3, rel=1e-2)
    assert floors.stored(24, 4608) == pytest.approx(0.255e-3, rel=1e-2)
    assert floors.apply(24, 4608, 128, torch.bfloat16) == pytest.approx(0.163e-3, rel=1e-2)
    assert floors.proof(24, 4608, 128) == pytest.approx(2.17e-3, rel=1e-2)
    assert floors.rate(torch.float16) == 50e12

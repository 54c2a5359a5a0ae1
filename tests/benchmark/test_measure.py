"""A run keeps what it measured, whatever happens, and its file says what it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tokenrank.benchmark import Report, Row, Task, measure, read_report
from tokenrank.benchmark.clock import Clock
from tokenrank.benchmark.measure import SHARES, device_of, sections
from tokenrank.cli.bench import SECTIONS
from tokenrank.errors import InputError


def works(task: Task) -> Iterator[Row]:
    yield Row("works", "one", "tokenrank", 0.5, runs=3, more={"error": 1.23456789e-7, "applies": 7})
    yield Row("works", "one", "other", 1.0, 2.0, "tokenrank", 3)


def fails(task: Task) -> Iterator[Row]:
    yield Row("fails", "begun", "tokenrank", 0.5)
    raise ValueError("no such thing\nand more")


def interrupts(task: Task) -> Iterator[Row]:
    yield Row("interrupts", "begun", "tokenrank", 0.5)
    raise KeyboardInterrupt


def test_a_part_that_fails_is_a_row_and_the_rest_is_measured() -> None:
    heard: list[Row] = []
    found = measure(device="cpu", parts={"fails": fails, "works": works}, heard=heard.append)
    assert [row.section for row in found.rows] == ["fails", "fails", "works", "works"]
    assert [row.failed for row in found.failed] == ["ValueError: no such thing"]
    assert found.about["complete"]
    assert tuple(heard) == found.rows
    assert "failed" in found.table()


def test_an_interrupt_keeps_what_was_measured() -> None:
    found = measure(device="cpu", parts={"works": works, "interrupts": interrupts, "fails": fails})
    assert [row.section for row in found.rows] == ["works", "works", "interrupts"]
    assert not found.about["complete"]
    assert json.loads(found.json())["complete"] is False


def test_a_file_is_read_as_it_was_written() -> None:
    found = measure(True, "cpu", parts={"works": works})
    text = found.json(made="made by tokenrank", command="tokenrank bench --quick")
    again = read_report(text)
    assert again.about == found.about
    assert again.table() == found.table()
    rounded = replace(found.rows[0], more={"error": 1.23457e-7, "applies": 7})
    assert again.rows == (rounded, found.rows[1])
    assert {"quick", "device", "versions", "hardware", "load"} <= set(json.loads(text))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rows": [{"wrong": 1}]}'])
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no result of tokenrank bench"):
        read_report(text)


def test_a_file_of_another_format_is_refused() -> None:
    text = Report("2026-11-29", 1.0, {}, ()).json().replace('"format": 1', '"format": 2')
    with pytest.raises(InputError, match="format 2, expected 1"):
        read_report(text)


@pytest.mark.parametrize("name", ["none", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used"):
        device_of(name)


def test_the_command_knows_the_parts() -> None:
    assert tuple(sections()) == SECTIONS == tuple(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_part_yields_rows_that_compare(name: str) -> None:
    """With no time left, so that everything runs once."""
    rows = list(sections()[name](Task(Clock("cpu", time.perf_counter()), quick=True)))
    assert rows
    for row in rows:
        assert row.section == name
        assert row.seconds is not None
        assert row.seconds > 0
        if row.against:
            assert row.ratio is not None
            assert row.against in {other.by for other in rows if other.name == row.name}
    assert any(row.ratio for row in rows) or name == "machine"
    if name == "chain":
        ours = [row for row in rows if row.by == "tokenrank" and row.name.startswith("TokenRank")]
        assert len(ours) == 2
        assert all(row.more["error"] <= row.more["bound"] for row in ours)
    if name == "page":
        assert rows[1].more["bytes"] > 1e6

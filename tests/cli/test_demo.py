from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, check_refused
from tokenrank import Observation, samples
from tokenrank.errors import InputError

Run = Callable[..., Ran]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_sample_from_its_own_start(run: Run, vit: Path, tmp_path: Path):
    ran = run("demo", "--model", vit, "--size", 32, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    parts = ("-bounces.png", "-lambda2.png", "-table.json", ".jpg")
    expected = [f"{name}{part}" for name in samples.names() for part in parts]
    assert names_in(tmp_path) == sorted([*expected, "astronaut-explorer.html"])
    assert sorted(ran.names) == names_in(tmp_path)
    for name in samples.names():
        facts = json.loads((tmp_path / f"{name}-table.json").read_text("utf-8"))["analysis"]
        assert facts["start"] == [samples.start(name).x, samples.start(name).y]
    lines = [line.split(":")[0] for line in ran.stderr.split("\n\n")[0].splitlines()]
    # what was chosen, and how long it took
    assert lines == [f"{name}.jpg" for name in samples.names() for _ in range(2)]


def test_bundled_model(run: Run, tmp_path: Path):
    ran = run("demo", "--size", 48, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    facts = json.loads((tmp_path / "chelsea-table.json").read_text("utf-8"))["analysis"]
    assert facts["model"] == "bundled"
    assert facts["layers"] == 12


def test_foreign_files_are_safe(run: Run, vit: Path, tmp_path: Path):
    (tmp_path / "rocket-table.json").write_text("{}")
    check_refused(run("demo", "--model", vit, "--out", tmp_path), "rocket-table.json' exists and was not made by")
    assert names_in(tmp_path) == ["rocket-table.json"]


def test_the_last_line_names_the_page(run: Run, vit: Path, tmp_path: Path):
    out = tmp_path / "a folder"
    ran = run("demo", "--model", vit, "--size", 32, "--out", out)
    assert ran.code == 0, ran.stderr
    line = ran.stderr.splitlines()[-1]
    _, page, *words = shlex.split(line)
    assert Path(page) == out / "astronaut-explorer.html"
    assert " ".join(words) == "in a browser: attention walks where you click."
    assert Path(page) in ran.paths
    assert "astronaut.jpg" in Path(page).read_text("utf-8")


def test_a_model_that_no_page_can_show_is_told(run: Run, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Observation, **options: object) -> None:
        raise InputError("too large, take fewer heads")

    monkeypatch.setattr(Observation, "explore", refuse)
    ran = run("demo", "--model", vit, "--size", 32, "--out", tmp_path)
    assert ran.code == 0
    assert "astronaut.jpg: no explorer: too large, take fewer heads" in ran.stderr
    assert "Open" not in ran.stderr


def test_three_commands_to_try_next_that_run(run: Run, vit: Path, tmp_path: Path):
    out = tmp_path / "a folder"
    ran = run("demo", "--model", vit, "--size", 32, "--out", out)
    head, *commands = ran.stderr.split("\n\n")[1].splitlines()
    assert head == "Try next:"
    assert [line.split()[:2] for line in commands] == [["tokenrank", c] for c in ("saliency", "segment", "text")]
    for line in commands:
        _, *words = shlex.split(line)
        tried = run(*words)
        assert tried.code == 0, tried.stderr
        assert all(path.parent == out for path in tried.paths)


def test_photographs_that_are_there_stay(run: Run, vit: Path, tmp_path: Path):
    options = ["--model", vit, "--size", 32, "--out", tmp_path, "--quiet"]
    assert run("demo", *options).code == 0
    again = run("demo", *options)
    assert again.code == 0
    assert not [name for name in again.names if name.endswith(".jpg")]
    assert again.stderr == ""
    (tmp_path / "coffee.jpg").write_bytes(b"mine")
    check_refused(run("demo", *options), "coffee.jpg' is another file than the photograph of that name")
    assert run("demo", *options, "--no-copy").code == 0
    assert (tmp_path / "coffee.jpg").read_bytes() == b"mine"

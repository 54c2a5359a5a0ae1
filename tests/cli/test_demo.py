from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Ran
from tests.cli.test_image import check_refused
from tokenrank import samples

Run = Callable[..., Ran]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_sample_from_its_own_start(run: Run, vit: Path, tmp_path: Path):
    ran = run("demo", "--model", vit, "--size", 32, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    parts = ("bounces.png", "lambda2.png", "table.json")
    assert names_in(tmp_path) == sorted(f"{name}-{part}" for name in samples.names() for part in parts)
    assert sorted(path.name for path in ran.paths) == names_in(tmp_path)
    for name in samples.names():
        facts = json.loads((tmp_path / f"{name}-table.json").read_text("utf-8"))["analysis"]
        assert facts["start"] == [samples.start(name).x, samples.start(name).y]
    lines = [line.split(":")[0] for line in ran.stderr.splitlines()]
    # what was chosen, and how long it took
    assert lines == ["model", *(name for name in samples.names() for _ in range(2))]


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

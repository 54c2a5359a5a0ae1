"""tokenrank bench as a stranger calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, check_refused
from tests.cli.test_terminal import ENVIRONMENT, heed_interrupts, unix


def test_a_part_of_it(tmp_path: Path, run: Callable[..., Ran]) -> None:
    out = tmp_path / "mine.json"
    for again in (False, True):
        ran = run("bench", "--quick", "--only", "machine", "--device", "cpu", "--out", out)
        assert ran.code == 0, ran.stderr
        assert ran.paths == [out]
        assert "matrix product, float32" in ran.stderr
        assert ("replaced 1 file" in ran.stderr) == again
    found = json.loads(out.read_text("utf-8"))
    assert found["command"] == "tokenrank bench --quick --only machine"
    assert str(tmp_path) not in out.read_text("utf-8")
    assert {row["section"] for row in found["rows"]} == {"machine"}


def test_quiet(tmp_path: Path, run: Callable[..., Ran]) -> None:
    ran = run("bench", "--quick", "--only", "machine", "--quiet", "--out", tmp_path / "a.json")
    assert (ran.code, ran.stderr) == (0, "")


def test_what_cannot_be_done_is_refused_before_it_is_measured(tmp_path: Path, run: Callable[..., Ran]) -> None:
    (tmp_path / "other.json").write_text("{}")
    for arguments, words, code in (
        (["--out", tmp_path / "a.txt"], "ends in .json", 2),
        (["--only", "chains"], "no part 'chains'", 2),
        (["--device", "cuda:99", "--out", tmp_path / "a.json"], "device 'cuda:99' cannot be used", 1),
        (["--out", tmp_path / "other.json"], "was not made by tokenrank", 1),
    ):
        check_refused(run("bench", "--quick", *arguments), words, code)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


@unix
@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    code = "import sys; from tokenrank.cli import main; sys.argv[0] = 'tokenrank'; main()"
    command = [sys.executable, "-c", code, "bench", "--only", "machine,page", "--out", str(out)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("machine: "):  # it is done, and pages are begun
                break
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines() == [str(out)]
    found = json.loads(out.read_text("utf-8"))
    assert found["complete"] is False
    assert {row["section"] for row in found["rows"]} == {"machine"}

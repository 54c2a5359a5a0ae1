"""The short form of benchmarks/robustness/strings.py and commands.py: hostile strings everywhere, command lines at
random."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tokenrank.errors import InputError, escaped, first_line, printable

FOLDER = Path(__file__).parents[2] / "benchmarks" / "robustness"
LINES = 18  # command lines, two a command
EACH = 3  # strings a place
unix = pytest.mark.skipif(sys.platform == "win32", reason="file names, pipes and signals of Unix")


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the campaign, by name; gone afterwards."""
    names = ("strings", "commands")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENRANK_PROGRESS", "0")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.syspath_prepend(FOLDER.parent)
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield {name: import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@unix
def test_hostile_strings_are_text_wherever_they_come_in(robustness: Any, vit: Path, tmp_path: Path):
    attack = robustness["strings"]
    for row, shown in attack.attack(attack.strings(200), tmp_path, vit, EACH):
        assert not shown, shown[:3]
        assert not any(row[kind] for kind in attack.KINDS)
    assert row["strings"] == EACH


@unix
def test_command_lines_at_random(robustness: Any, tmp_path: Path):
    campaign = robustness["commands"]
    rows, wrong = campaign.campaign(tmp_path.resolve(), range(1000, 1000 + LINES))
    assert wrong == []
    assert sum(row["lines"] for row in rows) == LINES


def test_the_campaigns_can_fail(robustness: Any, tmp_path: Path):
    watch, verdicts = robustness["strings"].Watch(), robustness["commands"].verdicts
    watch.page("page", "<p class='a'>x</p>", usual=True)
    watch.page("page", "<p class='a' onclick='x'>x</p>")
    watch.page("page", "<p>\u202ex</p>")
    watch.terminal("a\nb", 1)
    watch.terminal("\x1b[31m")
    watch.terminal("x" * 10**6)
    watch.error(lambda: int("x"))
    watch.drawing("svg", "<svg></svg", usual=True)
    assert watch.wrong == {"elements": 2, "acts": 2, "lines": 1, "endless": 1, "foreign": 1}
    assert verdicts(0, "") == verdicts(1, "error: no file\n") == verdicts(2, "error: x (see tokenrank --help)\n") == []
    assert verdicts(1, "Traceback (most recent call last):\n") == ["tracebacks"]
    assert verdicts(7, "error: x\n") == ["codes"]
    for end, said in ((1, "libtiff: x\n"), (0, "error: x\n"), (1, "error: \x1b[31m\n"), (2, "error: x\nmore\n")):
        assert verdicts(end, said) == ["noise"]
    before = robustness["commands"].tree(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    assert robustness["commands"].tree(tmp_path, tmp_path / "out") == before
    (tmp_path / "x").touch()
    assert robustness["commands"].tree(tmp_path, tmp_path / "out") != before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 漢字 🦆", "café 漢字 🦆"),
        ("\x1b[31m\n\0\x85", "\\x1b[31m\\n\\x00\\x85"),
        ("\u202e\u2066\u200e\u061c\ufeff\u2028", "\\u202e\\u2066\\u200e\\u061c\\ufeff\\u2028"),
        ("\ud800\udcff", "\\ud800\\udcff"),
    ],
)
def test_characters_that_act_are_shown(text: str, shown: str):
    assert escaped(text) == shown
    assert printable(text) == f"'{shown}'"
    assert str(InputError(f"no {text}")) == f"no {shown}".replace("\\n", "\n")
    assert first_line(ValueError(f"a{text}")).startswith("a")
    assert first_line(ValueError(f"a{text}")).isprintable()


@unix
def test_a_command_to_paste_acts_in_the_shell_alone():
    from tokenrank.cli.demo import _quoted

    bash = shutil.which("bash") or pytest.skip("no bash")
    for name in ("a b", "it's", "\x1b[31m\n'\\\u202e$(id)", "\udcff"):
        quoted = _quoted(Path(name))
        assert quoted.isprintable()
        assert subprocess.run([bash, "-c", f"printf %s {quoted}"], stdout=-1, check=True).stdout == os.fsencode(name)


def test_what_has_no_end_is_shortened():
    for long in ("x" * 10**6, "\x1b" * 10**6, "\n" * 10**6 + "x"):
        assert len(escaped(long, 100)) <= 103
        assert len(str(InputError(long))) < 40_000
        assert str(InputError(*InputError(long).args)) == str(InputError(long))
    assert escaped("x" * 104, 100) == "x" * 50 + " … " + "x" * 50

from __future__ import annotations

import os
import re
import select
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tests.cli.conftest import Ran
from tokenrank.cli.bars import progress
from tokenrank.cli.report import about, misuse, note, one_line, print_path, reported
from tokenrank.errors import InputError, NotConvergedWarning, NotFoundError, NothingThereWarning
from tokenrank.progress import track


def test_debug_shows_the_traceback(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENRANK_DEBUG", "1")
    ran = run("image", tmp_path / "none.png", "--out", tmp_path)
    assert isinstance(ran.error, InputError)
    assert "error:" not in ran.stderr


def test_errors_become_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as end, reported():
        raise InputError("first\n  second \x1b[31m \udce9")
    assert end.value.exit_code == 1
    assert capsys.readouterr().err == "error: first second \\x1b[31m \\udce9\n"


def test_what_nobody_thought_of_says_how_to_see_more(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as end, reported():
        raise ZeroDivisionError("division by zero")
    assert end.value.exit_code == 1
    line = capsys.readouterr().err
    assert line.startswith("error: unexpected ZeroDivisionError: division by zero; TOKENRANK_DEBUG=1 shows")
    assert line.count("\n") == 1


def test_an_interrupt_is_told_in_a_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as end, reported():
        raise KeyboardInterrupt
    assert end.value.exit_code == 130
    assert capsys.readouterr().err == "error: interrupted; nothing was finished\n"


def test_misuse_has_a_code_of_its_own(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as end, reported(), misuse():
        raise NotFoundError("no such method")
    assert end.value.exit_code == 2
    assert capsys.readouterr().err == "error: no such method\n"


def test_quiet_says_errors_and_warnings_alone(capsys: pytest.CaptureFixture[str]):
    with reported(quiet=True):
        note("chosen")
        with progress(1) as report:
            report("picture", "running")
        warnings.warn("nothing there", NothingThereWarning, stacklevel=1)
    note("heard again")
    assert capsys.readouterr().err == "warning: nothing there\nheard again\n"


def test_warnings_name_what_they_are_about(capsys: pytest.CaptureFixture[str]):
    with reported(), about("a.png"):
        warnings.warn("nothing there", NothingThereWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: a.png: nothing there\n"


def test_only_warnings_about_the_answer_are_shown(capsys: pytest.CaptureFixture[str]):
    with reported():
        warnings.warn("library chatter", FutureWarning, stacklevel=1)
        warnings.warn("TokenRank did not\nreach tol", NotConvergedWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: TokenRank did not reach tol\n"


def test_libraries_are_quieted_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    with reported():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
        assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_every_finished_item_leaves_a_line(capsys: pytest.CaptureFixture[str]):
    with progress(2) as report:
        report("a [bold]picture[/]", "running")
        report("a [bold]picture[/]", "drawing")
        report("second", "running")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.rsplit(":", 1)[0] for line in captured.err.splitlines()] == ["a [bold]picture[/]", "second"]


def test_nothing_is_called_finished_when_it_failed(capsys: pytest.CaptureFixture[str]):
    def fail() -> None:
        with progress(1) as report:
            report("picture", "running")
            raise InputError("no")

    with pytest.raises(InputError):
        fail()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 10_000).decode(errors="replace")
    except OSError:  # nobody writes any more
        return ""


def test_a_terminal_sees_the_stage(monkeypatch: pytest.MonkeyPatch):
    import pty

    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress(1) as report:
            report("cat.png", "bounces and TokenRank")
            time.sleep(0.2)
            list(track(["a", "b"], "|λ2| of layers"))
    shown = ""
    while select.select([leader], [], [], 0.5)[0] and (part := _read(leader)):  # a terminal hands on piece by piece
        shown += part
    os.close(leader)
    assert "cat.png: bounces and TokenRank" in shown
    assert "cat.png: |λ2| of layers 2 of 2" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_paths_and_the_bar_share_a_terminal(monkeypatch: pytest.MonkeyPatch):
    import pty
    import threading

    leader, follower = pty.openpty()
    shown: list[str] = []

    def watch() -> None:
        while part := _read(leader):
            shown.append(part)

    watching = threading.Thread(target=watch)
    watching.start()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress(2) as report:
            for name in ("a.png", "b.png"):
                report(name, "at work")
                time.sleep(0.2)
                print_path(Path(f"out/{name}"))
    watching.join(10)
    os.close(leader)
    left = [line for line in screen("".join(shown)) if line]
    assert [line.split(": ")[0] for line in left] == ["out/a.png", "a.png", "out/b.png", "b.png"], left


def screen(written: str) -> list[str]:
    """What is left on a terminal: of its codes, those that move up a line and erase one."""
    rows, row, column = [""], 0, 0
    for code in re.finditer(r"\x1b\[([\d;?]*)([A-Za-z])|(.)", written, re.DOTALL):
        number, letter, character = code.groups()
        if letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            rows[row] = "" if number == "2" else rows[row][:column]
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif character:
            rows[row] = rows[row].ljust(column)[:column] + character + rows[row][column + 1 :]
            column += 1
    return rows


def test_one_line():
    assert one_line("  a\n\tb\u2028c ") == "a b c"
    assert one_line("λ₂ ≈ 漢") == "λ₂ ≈ 漢"

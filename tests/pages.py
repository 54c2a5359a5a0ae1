"""Pages of the documentation as steps: Python, lines for a shell, and what they print, run from top to bottom.

How a page says what it means:

- A fence of ``python`` is run. With ``title="mine.py"`` it is a file of that name instead, for others to import.
- A fence without a language, or of ``console``, ``bash`` or ``sh``, holds lines for a shell. Those that begin with
  ``tokenrank`` are run, in this process, from where the Python is run; other lines are for the reader. Of those that
  ``.ci/run`` takes out of the README (``<!-- ci: NAME -->``) the parts are run that are ours.
- A fence of ``text`` right below one of these is what it prints: ``...`` stands for anything, numbers with a point are
  compared up to their last digits.
- ``<!-- not run: why -->`` above a fence leaves it out. Words in capitals that stand for something (``DIR``) and models
  of a hub (``owner/name``) leave out a line of a shell by themselves.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests import tally
from tests.output import FLAGS, Checker

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|ci): (?P<why>[^\n]+) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?[^\n]*\n(?P<code>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
HIDDEN = re.compile(r"^(?:[ \t]+|> ?)```(?:python|console|bash|sh)?\b.*$|^~~~.*$", re.MULTILINE)
OURS = re.compile(r"(\S+/)?tokenrank ")
SHELL = ("", "console", "bash", "sh")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b")
OF_A_HUB = re.compile(r"--model [\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Step:
    """A fence: the line that it begins on, and why it is not run, where it is not."""

    line: int
    language: str
    code: str
    why: str | None
    title: str | None
    prints: str | None = None


def steps(page: Path) -> list[Step]:
    """The fences of Python and of shells, each with what it prints."""
    text = page.read_text(encoding="utf-8")
    found = []
    fences = list(FENCE.finditer(text))
    for m, after in zip_longest(fences, fences[1:]):
        if m["language"] not in (*SHELL, "python"):
            continue
        prints = None
        if after and after["language"] == "text" and not text[m.end() : after.start()].strip():
            prints = after["code"]
        why = m["why"] if m["mark"] == "not run" else None
        found.append(
            Step(text[: m.start("code")].count("\n"), m["language"] or "console", m["code"], why, m["title"], prints)
        )
    return found


def python(page: Path) -> list[Step]:
    return [step for step in steps(page) if step.language == "python"]


def lines(step: Step) -> Iterator[str]:
    """Lines of a shell, without what a comment says; lines that go on are one."""
    for line in step.code.replace("\\\n", " ").splitlines():
        words = re.split(r"(?:^|\s+)#\s", line.removeprefix("$ "))[0].strip()
        if words:
            yield words


def left_out(line: str) -> str | None:
    """Why this line of a shell is not run; None where it is."""
    if PLACEHOLDER.search(re.sub(r'"[^"]*"', "", line)):
        return "needs files of yours"
    return "needs a model of a hub" if OF_A_HUB.search(line) else None


def run(page: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Every step in the folder that is the current one; returns the names that its Python knows in the end.

    Raises:
        AssertionError: a command ends badly, or something else is printed than the page says.
    """
    namespace = {"__name__": "page", **names}
    try:
        _run(page, namespace)
    finally:
        for step in python(page):
            sys.modules.pop((step.title or "").removesuffix(".py"), None)
    return namespace


def _run(page: Path, namespace: dict[str, Any]) -> None:
    for step in steps(page):
        if step.why is not None:
            tally.blocks[step.why] += 1
            continue
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n", write_through=True)
        with contextlib.redirect_stdout(printed):
            if step.language == "python":
                _python(page, step, namespace)
            else:
                _shell(page, step)
        if step.prints is not None:
            printed.seek(0)
            seen = printed.read()
            same = Checker().check_output(step.prints, seen, FLAGS)
            assert same, f"{page.name}:{step.line} prints\n{seen}\nand not\n{step.prints}"


def _python(page: Path, step: Step, namespace: dict[str, Any]) -> None:
    tally.blocks[None] += 1
    if step.title is not None:
        Path(step.title).write_text(step.code, encoding="utf-8")
        return
    exec(compile("\n" * step.line + step.code, str(page), "exec"), namespace)


def _shell(page: Path, step: Step) -> None:
    from tokenrank.cli import main

    for line in (part.strip() for whole in lines(step) for part in whole.split(" && ")):
        if not OURS.match(line):
            continue
        why = left_out(line)
        tally.commands[why] += 1
        if why is not None:
            continue
        said, code = io.StringIO(), None
        try:
            with contextlib.redirect_stderr(said):
                main(shlex.split(line)[1:])
        except SystemExit as end:
            code = end.code
        assert code in (0, None), f"{page.name}:{step.line} {line}\n{said.getvalue()}"

"""Tables of a page, between ``<!-- table: NAME -->`` and ``<!-- / -->``, made from the files of ``results``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
SPACE = "\N{NO-BREAK SPACE}"
MARKS = re.compile(r"<!-- table: ([^\n]+) -->\n(.*?)<!-- / -->", re.DOTALL)

Tables = Mapping[str, Callable[[], str]]


def result(name: str) -> dict[str, Any]:
    """What a benchmark wrote: the facts, and its rows."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def filled(text: str, tables: Tables) -> str:
    """The text of a page with every table made anew.

    Raises:
        KeyError: a mark that no table has.
    """
    return MARKS.sub(lambda m: f"<!-- table: {m[1]} -->\n{tables[m[1]]()}\n<!-- / -->", text)


def fill(page: str, tables: Tables) -> None:
    """Write a page of ``docs`` anew."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    path.write_text(filled(text, tables), encoding="utf-8")
    print(f"{page}: {len(MARKS.findall(text))} tables")


def refill(page: str, tables: Tables) -> None:
    """Write some tables of a page of ``docs`` anew; others are left as they are."""
    text = (DOCS / page).read_text(encoding="utf-8")
    others = {name: (lambda kept=kept: kept.removesuffix("\n")) for name, kept in MARKS.findall(text)}
    fill(page, {**others, **tables})


def table(head: list[str], rows: list[list[str]], right: int = 0) -> str:
    """In Markdown; columns from ``right`` on hold numbers."""
    rule = ["---:" if right and place >= right else "---" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def once(rows: list[list[str]]) -> list[list[str]]:
    """Rows whose first cell says what that of the row above says, without it."""
    return [["" if n and rows[n - 1][0] == row[0] else row[0], *row[1:]] for n, row in enumerate(rows)]


def seconds(value: float) -> str:
    """7.7 ms, 249 ms, 4.9 s; number and unit stay in one line."""
    if value >= 1:
        return f"{value:.1f}{SPACE}s"
    return f"{value * 1e3:.1f}{SPACE}ms" if value < 0.01 else f"{value * 1e3:.0f}{SPACE}ms"


def power(value: float) -> str:
    """6e−15, 1e−7; the sign does not break a line."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def counted(number: int, what: str) -> str:
    """1 head, 27 heads."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def source(about: Mapping[str, Any]) -> str:
    """The command, the day, and what it ran on."""
    words = [f"`{about['command']}`", about["date"]]
    hardware = about.get("hardware")
    if hardware:
        words.append(f"{hardware['processor']}, {counted(hardware['cores'], 'core')}")
        words.append(counted(hardware["threads"], "thread"))
    versions = about.get("versions", {"torch": about.get("torch")})
    words.append(f"torch {versions['torch']}")
    return f"*{'; '.join(words)}.*"

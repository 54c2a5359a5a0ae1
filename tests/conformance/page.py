"""Writes docs/supported.md from the committed results: ``python -m tests.conformance.page``."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from .results import read

HERE = Path(__file__).parent
NEWEST, OLDEST = HERE / "results" / "newest.json", HERE / "results" / "oldest.json"
PAGE = HERE.parents[1] / "docs" / "supported.md"
LIBRARIES = ("transformers", "timm", "diffusers", "torch", "transformer-lens")

INTRO = """# What is supported

Every row below was run: a small model of the library's own class with random weights, once without
and once with capture. Three things are checked.

- The outputs with and without capture are bit for bit the same. FlexAttention is compared with its
  uncompiled run.
- Attention is seen in the way that the column "seen as" names (see [capture](capture.md)), once for
  every call.
- The softmax of each record is the model's own attention, to 1e-5: compared with the weights that
  the library reports itself, or, where it reports none (marked \\*), with what each attention call
  returned. Fused calls are compared with what they returned in any case, relative to its size.

Queries that may attend to nothing, such as padding, are a matter of implementation: fused calls
return zeros for them, hand-written attention is even. A record says zero.

To make the results and this page again; the second line in an environment with the oldest versions:

```console
python -m pytest tests/conformance --conformance-out tests/conformance/results/newest.json
python -m pytest tests/conformance --conformance-out tests/conformance/results/oldest.json
python -m tests.conformance.page
```

The column "oldest" says what is different with the oldest versions; "same" where nothing is.
"""

Rows = list[dict[str, Any]]


def page(newest: dict[str, Any], oldest: dict[str, Any]) -> str:
    """The page's text from two results."""
    old = {_key(row): row for row in oldest["rows"]}
    parts = [INTRO, _versions(newest, oldest)]
    found = {row["library"] for row in newest["rows"]}
    for library in (*LIBRARIES, *sorted(found - {*LIBRARIES})):
        rows = [row for row in newest["rows"] if row["library"] == library]
        if rows:
            parts.append(_section(library, rows, old, library in oldest["versions"]))
    return "\n".join(parts)


def _versions(newest: dict[str, Any], oldest: dict[str, Any]) -> str:
    lines = ["| | newest | oldest |", "|---|---|---|", f"| Python | {newest['python']} | {oldest['python']} |"]
    for name in sorted({*newest["versions"], *oldest["versions"]}):
        lines.append(f"| {name} | {newest['versions'].get(name, '–')} | {oldest['versions'].get(name, '–')} |")
    return "\n".join(lines) + "\n"


def _section(library: str, rows: Rows, old: dict[tuple[str, ...], dict[str, Any]], has_old: bool) -> str:
    passed, refused = _with_status(rows, "passed"), _with_status(rows, "refused")
    lines = [f"## {library}", ""]
    if passed:
        lines += ["| target | variants | seen as | records | max error | oldest | |", "|---|---|---|---|---|---|---|"]
        lines += [_line(group, old, has_old) for group in _groups(passed)]
    if refused:
        lines += [
            "",
            "Not captured; the block ends with an error instead of an empty trace:",
            "",
            "| target | reason |",
            "|---|---|",
        ]
        lines += [f"| {row['target']} | {_cell(row['note'])} |" for row in refused]
    skipped = defaultdict(list)
    for row in _with_status(rows, "skipped"):
        skipped[_reason(row["note"])].append(f"{row['target']} ({row['variant']})")
    if skipped:
        lines += ["", "Not run with the newest versions:", ""]
        lines += [f"- {reason}: {', '.join(names)}" for reason, names in sorted(skipped.items())]
    return "\n".join(lines) + "\n"


def _groups(rows: Rows) -> list[Rows]:
    """Rows of one target that were compared in the same way."""
    groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[row["target"], row["records"], row["oracle"], row["note"]].append(row)
    return list(groups.values())


def _line(group: Rows, old: dict[tuple[str, ...], dict[str, Any]], has_old: bool) -> str:
    first = group[0]
    star = "" if first["oracle"] == "own weights" else " \\*"
    error = f"{max(row['error'] for row in group):.0e}{star}"
    cells = [
        first["target"],
        "; ".join(row["variant"] for row in group),
        "; ".join(dict.fromkeys(", ".join(f"`{kind}`" for kind in row["kinds"]) for row in group)),
        str(first["records"]),
        error,
        _compared(group, old) if has_old else "–",
        first["note"],
    ]
    return f"| {' | '.join(map(_cell, cells))} |"


def _compared(group: Rows, old: dict[tuple[str, ...], dict[str, Any]]) -> str:
    """What is different with the oldest versions."""
    notes = []
    for row in group:
        before = old.get(_key(row))
        if before is None:
            notes.append(f"{row['variant']}: not run")
        elif before["status"] == "skipped":
            notes.append(f"{row['variant']}: {_reason(before['note'])}")
        elif (before["kinds"], before["records"]) != (row["kinds"], row["records"]):
            notes.append(f"{row['variant']}: {', '.join(before['kinds'])}, {before['records']} records")
    return "; ".join(notes) or "same"


def _reason(note: str) -> str:
    """Why a case was skipped, without the model's class or what else would tell equal reasons apart."""
    words = re.sub(r"(not accepted by \S+): \S+ does not support .*", r"\1", note)
    return re.sub(r"^(not in \S+ [^:,]+)[:,].*", r"\1", words)


def _with_status(rows: Rows, status: str) -> Rows:
    return [row for row in rows if row["status"] == status]


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["library"], row["target"], row["variant"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(read(NEWEST), read(OLDEST)), encoding="utf-8")

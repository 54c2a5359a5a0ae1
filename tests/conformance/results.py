"""Results as files: one JSON document, one row a line, sorted."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .check import Row, installed


def write(file: Path, rows: Iterable[Row]) -> None:
    """Write what a run showed, with the versions it ran on."""
    lines = [_line(row) for row in sorted(rows, key=lambda r: (r.library, r.target.lower(), r.variant))]
    libraries = sorted({"torch", *(json.loads(line)["library"] for line in lines)})
    versions = {name: found for name in libraries if (found := installed(name)) is not None}
    head = f'{{"versions": {json.dumps(versions)},\n "python": {json.dumps(platform.python_version())},\n "rows": [\n'
    file.write_text(head + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def read(file: Path) -> dict[str, Any]:
    """What ``write`` wrote."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _line(row: Row) -> str:
    values = asdict(row)
    if row.error is not None:
        values["error"] = float(f"{row.error:.1e}")
    return json.dumps(values, ensure_ascii=False)

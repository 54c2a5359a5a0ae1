"""Facts beside the figures of a benchmark (command, date, versions, hardware), the options that benchmarks share, and
figures that need a process of their own."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenrank.evaluate.hardware import hardware, versions
from tokenrank.plain import plain

HERE = Path(__file__).resolve().parent


def parser(
    description: str | None,
    *,
    sizes: str | None = None,
    rounds: int | None = None,
    threads: int | None = None,
    out: bool = True,
) -> argparse.ArgumentParser:
    """Those of ``--sizes``, ``--rounds`` and ``--threads`` that have a default here, and ``--out``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if sizes is not None:
        made.add_argument("--sizes", default=sizes, help="numbers of tokens, commas between")
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    if threads is not None:
        made.add_argument("--threads", type=int, default=threads)
    if out:
        made.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return made


def facts(*packages: str, hidden: Mapping[Path | str, str] | None = None) -> dict[str, Any]:
    """What a figure depends on.

    Args:
        packages: whose versions are stated beside those of ``tokenrank.evaluate.hardware``, where installed.
        hidden: argument, such as a folder of this machine → the word that stands for it in the command; none where
            it is empty.
    """
    words = {str(argument): word for argument, word in (hidden or {}).items()}
    module = getattr(sys.modules["__main__"].__spec__, "name", "")
    script = Path(sys.argv[0]).resolve()
    under = script.relative_to(HERE) if script.is_relative_to(HERE) else script.name
    start = ["-m", module] if module.startswith("benchmarks.") else [f"benchmarks/{under}"]
    arguments = [*start, *(words.get(argument, argument) for argument in sys.argv[1:])]
    return {
        "command": shlex.join(["python", *filter(None, arguments)]),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(*packages),
        "hardware": hardware(),
    }


def save(path: Path | None, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the figures depend on, then the rows, one a line; nothing without a path."""
    if path is None:
        return
    lines = ",\n".join("  " + json.dumps(plain(row), ensure_ascii=False) for row in rows)
    head = json.dumps(plain(about), indent=1, ensure_ascii=False).removesuffix("\n}")
    path.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def in_new_process(script: str, *arguments: object) -> Any:
    """What the script prints in its last line, as JSON, when it is started anew with the arguments."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])

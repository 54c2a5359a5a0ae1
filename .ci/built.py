"""Looks into a built wheel and sdist: what must be in them, what must not, and how large they are.

python .ci/built.py DIST
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

WHEEL_BYTES, SDIST_BYTES = 20 * 10**6, 45 * 10**6
"""At most; the sdist has the figures of the documentation, the small FLUX and the networks of the tests, too."""

WHEEL = (
    "tokenrank/__init__.py", "tokenrank/py.typed", "tokenrank/evaluate/report/page.css",
    "tokenrank/models/bundled/image/model.safetensors", "tokenrank/models/bundled/image/heads.safetensors",
    "tokenrank/models/bundled/text/packed.safetensors", "tokenrank/models/bundled/text/LICENSE",
    "tokenrank/models/bundled/text/tokenizer.json", "tokenrank/samples/LICENSES.md", "tokenrank/samples/astronaut.jpg",
    "tokenrank/samples/chelsea.jpg", "tokenrank/samples/coffee.jpg", "tokenrank/samples/rocket.jpg",
    "tokenrank/explorer/page/main.js", "tokenrank/explorer/page/style.css", "tokenrank/explorer/page/kernel.wasm",
)  # fmt: skip
SDIST = (
    "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "LICENSES.md", "CITATION.cff",
    "mkdocs.yml", ".ci/run", ".ci/release", ".ci/oldest.txt", "docs/design.md", "docs/figures/floors.png",
    "tests/conftest.py", "benchmarks/floor_figure.py", "training/README.md",
    *(f"src/{name}" for name in WHEEL),
)  # fmt: skip
ENDINGS = {
    ".py", ".typed", ".md", ".json", ".safetensors", ".jpg", ".css", ".js", ".wat", ".wasm",
}  # fmt: skip
"""Of files in the wheel's package; anything else is stray."""


def wheel_problems(names: Sequence[str], size: int) -> list[str]:
    """What is wrong with a wheel, in words: names of its files, bytes of all."""
    found = [f"lacks {name}" for name in WHEEL if name not in names]
    for name in names:
        top = name.split("/")[0]
        if top.endswith(".dist-info"):
            continue
        if top != "tokenrank" or "__pycache__" in name or name.endswith("/"):
            found.append(f"has {name}")
        elif Path(name).suffix not in ENDINGS and Path(name).name != "LICENSE":
            found.append(f"has {name}, a kind of file that no part of the package needs")
    licences = [name for name in names if ".dist-info/licenses/" in name]
    found += [f"has no licence {name}" for name in ("LICENSE",) if not any(n.endswith(f"/{name}") for n in licences)]
    return found + too_large(size, WHEEL_BYTES)


def sdist_problems(names: Sequence[str], size: int) -> list[str]:
    """What is wrong with an sdist: names of its files without the folder that all lie in, bytes of all."""
    found = [f"lacks {name}" for name in SDIST if name not in names]
    stray = (
        "__pycache__",
        ".pyc",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".networks",
        "tokenrank-out",
        ".venv",
    )
    found += [f"has {name}" for name in names if any(part in name for part in stray)]
    return found + too_large(size, SDIST_BYTES)


def too_large(size: int, most: int) -> list[str]:
    """A complaint where a file has more bytes than it may have."""
    return [f"is {size / 1e6:.1f} MB, expected {most / 1e6:.0f} at most"] if size > most else []


def main(folder: Path) -> int:
    """Say what is wrong with the files in a folder; 0 where nothing is."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.namelist()
    with tarfile.open(sdist) as packed:
        source = [member.name.partition("/")[2] for member in packed.getmembers() if member.isfile()]
    code = 0
    for path, names, problems in (
        (wheel, inside, wheel_problems(inside, wheel.stat().st_size)),
        (sdist, source, sdist_problems(source, sdist.stat().st_size)),
    ):
        print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.1f} MB")
        for problem in problems:
            print(f"{path.name} {problem}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

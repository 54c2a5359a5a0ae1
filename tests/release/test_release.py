"""What a release consists of agrees with itself: one version, bounds that were tried, licences, contents."""

from __future__ import annotations

import re
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import tokenrank

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


def script(name: str) -> Any:
    """A module of ``.ci``."""
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(ROOT / ".ci"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def citation() -> dict[str, Any]:
    return yaml.safe_load(text("CITATION.cff"))


def test_the_version_is_said_once_and_the_others_agree():
    assert PROJECT["dynamic"] == ["version"]
    assert TOOLS["hatch"]["version"]["path"] == "src/tokenrank/__init__.py"
    assert str(citation()["version"]) == tokenrank.__version__
    newest = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tokenrank.__version__


def test_the_citation_has_what_its_format_asks_for():
    found = citation()
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "license"} <= set(found)
    assert found["license"] == PROJECT["license"]
    assert all("name" in author or "family-names" in author for author in found["authors"])
    (paper,) = found["references"]
    assert paper["title"] in text("README.md")
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in text("README.md")


def bounds() -> dict[str, str]:
    """Package → its lower bound, of the core and of what the tests and the models need."""
    lines = [*PROJECT["dependencies"]]
    for extra in ("timm", "diffusers", "evaluate", "quality", "refine", "audio", "test"):
        lines += PROJECT["optional-dependencies"][extra]
    return dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(line for line in lines if "tokenrank[" not in line), re.M))


def padded(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))


def test_the_oldest_dependencies_are_the_bounds():
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text(".ci/oldest.txt"), re.MULTILINE))
    needed = bounds()
    assert set(pinned) == set(needed)
    assert not {name: (pinned[name], low) for name, low in needed.items() if padded(pinned[name]) < padded(low)}
    # the first release that a bound allows need not have its very number: typer 0.23 is 0.23.0, scipy 1.11 is 1.11.1
    assert not {name: (pinned[name], low) for name, low in needed.items() if not pinned[name].startswith(low)}


def test_every_dependency_that_is_installed_with_an_extra_has_a_bound():
    for extra in ("timm", "diffusers", "evaluate", "quality", "refine", "audio", "test", "docs", "browser"):
        for line in PROJECT["optional-dependencies"][extra]:
            assert ">=" in line or line.startswith("tokenrank["), f"{extra}: {line}"


def test_every_dependency_has_its_licence():
    licences = script("licences")
    page = text("LICENSES.md")
    assert not list(licences.problems(page))
    assert set(licences.listed(page)) == set(licences.dependencies())
    assert list(licences.problems(page.replace("| `torch` |", "| `torche` |"))) == [
        "torch has no line",
        "torche is no dependency any more",
    ]
    assert list(licences.problems(page.replace("| `rich` | core | MIT |", "| `rich` | core | WTFPL |"))) == [
        "rich is under MIT, the page says WTFPL"
    ]


def test_everything_that_is_shipped_beside_code_has_its_licence():
    page = text("LICENSES.md")
    package = ROOT / "src" / "tokenrank"
    data = {path.parent for end in ("safetensors", "jpg", "woff2", "ttf") for path in package.rglob(f"*.{end}")}
    assert len(data) >= 3
    for folder in data:
        assert f"`{folder.relative_to(ROOT)}/`" in page, folder
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (ROOT / link).is_file(), link
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_what_is_published_is_in_the_tree_and_small():
    built = script("built")
    included = TOOLS["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in built.SDIST:
        assert (ROOT / name).is_file(), name
        assert any(name == part or name.startswith(f"{part}/") for part in [*included, "pyproject.toml"]), name
    package = ROOT / "src" / "tokenrank"
    files = [f for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    names = [f"tokenrank/{f.relative_to(package)}" for f in files]
    licence = "tokenrank-0.1.0.dist-info/licenses/LICENSE"
    deflated = sum(len(zlib.compress(f.read_bytes())) for f in files)  # as in a wheel
    assert built.wheel_problems([*names, licence], deflated) == []


def test_stray_missing_and_large_files_are_seen():
    built = script("built")
    licence = "tokenrank-0.1.0.dist-info/licenses/LICENSE"
    good = [*built.WHEEL, licence]
    assert built.wheel_problems(good, 10**6) == []
    assert built.wheel_problems(good[1:], 0) == ["lacks tokenrank/__init__.py"]
    assert built.wheel_problems([*good, "tests/a.py", "tokenrank/__pycache__/a.pyc"], 0) == [
        "has tests/a.py",
        "has tokenrank/__pycache__/a.pyc",
    ]
    assert built.wheel_problems([*good, "tokenrank/data.parquet"], 0)[0].startswith(
        "has tokenrank/data.parquet, a kind"
    )
    assert built.wheel_problems(good[:-1], 0) == ["has no licence LICENSE"]
    assert built.wheel_problems(good, 21_000_000) == ["is 21.0 MB, expected 20 at most"]
    assert built.sdist_problems(built.SDIST, 45_000_000) == []
    assert built.sdist_problems(built.SDIST, 45_100_000) == ["is 45.1 MB, expected 45 at most"]
    assert built.sdist_problems([*built.SDIST[1:], "src/tokenrank/__pycache__/a.pyc"], 0) == [
        "lacks pyproject.toml",
        "has src/tokenrank/__pycache__/a.pyc",
    ]

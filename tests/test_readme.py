"""The README's promises that a test can hold: its two commands, its files, its names."""

from __future__ import annotations

import re
from pathlib import Path

import tokenrank as tr

ROOT = Path(__file__).parent.parent


def test_both_commands_stand_after_their_markers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, ending in (("demo", "tokenrank demo"), ("test", "pytest")):
        command = re.search(rf"<!-- ci: {name} -->\n```\n(.+)\n```", text)
        assert command, f"README.md has no command marked 'ci: {name}'"
        assert command[1].endswith(ending)


def test_linked_files_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            if (page.parent / target).name != "commands.md":  # made with the site
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_public_names_exist_and_are_documented():
    for name in tr.__all__:
        assert getattr(tr, name).__doc__, name


def test_bundled_models_fit_their_budget():
    """20 MB of wheel, a megabyte of which are code and photographs."""
    files = (ROOT / "src/tokenrank/models/bundled").rglob("*")
    assert sum(file.stat().st_size for file in files if file.is_file()) < 19_000_000

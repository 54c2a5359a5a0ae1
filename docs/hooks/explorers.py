"""Explorers that the site embeds, made when it is built: the package's own network, photographs and a text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # this source, whatever is installed
import tokenrank as tr

TEXT = (
    "The old bridge across the river was closed because the engineers found deep cracks in it. Nobody had looked at it "
    "for twenty years, although the lorries that crossed it grew heavier every winter."
)
MADE: dict[str, Callable[[], tr.Explorer]] = {
    "astronaut": lambda: tr.explore(tr.samples.path("astronaut"), layers=[-1], title="astronaut.jpg"),
    "text": lambda: tr.explore(TEXT, layers=[-1], title="a text"),
}
"""Name of the page below explorers/ → what makes it."""
MOST = 1_500_000
"""Bytes of one of them."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; a site that is built again in the same process has them already."""
    for name in MADE:
        files.append(File.generated(config, f"explorers/{name}.html", content=_page(name)))
    return files


@cache
def _page(name: str) -> str:
    page = MADE[name]().html()
    size = len(page.encode())
    assert size < MOST, f"the explorer of {name} has {size:,} bytes, expected below {MOST:,}"
    return page

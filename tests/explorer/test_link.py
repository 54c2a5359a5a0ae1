"""State and link of the page, in Node."""

from __future__ import annotations

import json

from tests.explorer import nodes
from tests.explorer.pages import tiny


def test_state_and_link() -> None:
    index, _ = tiny()
    nodes.run("link.test.js", TOKENRANK_INDEX=json.dumps(index))

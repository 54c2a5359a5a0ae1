"""An explorer in a browser as a test drives it: gestures, what is seen, what must not happen."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.browser import Browser, Shown

# before anything of the page runs: what its policy refused, and what went into the live region
WATCH = """() => {
  window.refused = []
  document.addEventListener('securitypolicyviolation', e => window.refused.push(e.violatedDirective))
}"""
STILL = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60))))"""


class Driven:
    """One page with an explorer in ``main``, ready when its first walk is there.

    Args:
        browser: of the fixture.
        path: of the file.
        link: what follows #.
        more: for ``Browser.open``; ``watch`` in place of what listens for refusals.
    """

    def __init__(self, browser: Browser, path: Path, link: str = "", **more: Any) -> None:
        self.shown: Shown = browser.open(f"{path.resolve().as_uri()}#{link}", before=more.pop("watch", WATCH), **more)
        self.page = self.shown.page
        self.ready()

    def ready(self) -> None:
        """Wait until chain and limit are there."""
        self.page.wait_for_function(
            "() => /from TokenRank/.test(document.querySelector('main').shadowRoot"
            "?.querySelector('input[aria-label=\"Number of bounces\"]')?.getAttribute('aria-valuetext') ?? '')"
        )
        self.still()

    def still(self) -> None:
        """Wait for two pictures and a little more."""
        self.page.evaluate(STILL)

    @property
    def said(self) -> str:
        """The sentence below the picture."""
        return str(self.page.inner_text("#sentence"))

    @property
    def value(self) -> str:
        """What the slider says of itself."""
        return str(self.page.get_attribute("input[aria-label='Number of bounces']", "aria-valuetext"))

    @property
    def link(self) -> dict[str, str]:
        """The state in the address, by name."""
        hash = str(self.page.evaluate("() => location.hash")).removeprefix("#")
        return dict(part.split("=", 1) for part in hash.split("&") if "=" in part)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place of the stage in the window, from fractions."""
        box = self.page.locator(".picture canvas").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def click(self, x: float, y: float, *keys: str) -> None:
        """Click on the picture with keys held."""
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.at(x, y))
        for key in keys:
            self.page.keyboard.up(key)
        self.still()

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
            self.still()

    def numbers(self) -> np.ndarray:
        """The map on screen as the page hands it out: (N,)."""
        self.opened("Export")
        with self.page.expect_download() as download:
            self.page.click("button:has-text('Numbers')")
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
        assert [int(row["token"]) for row in rows] == list(range(len(rows)))
        return np.array([float(row["probability"]) for row in rows])

    def opened(self, name: str) -> None:
        """Open a closed part of the page."""
        details = self.page.locator(f"details:has(> summary:text-is('{name}'))")
        if details.get_attribute("open") is None:
            details.locator("summary").first.click()

    def check(self) -> None:
        """No error, no request, nothing refused by the policy, nothing wider than the window."""
        self.shown.check()
        assert self.page.evaluate("() => window.refused") == []


def policy_without(text: str, *words: str) -> str:
    """A page whose policy lacks some of its words: a host that forbids workers, or WebAssembly."""
    for word in words:
        assert word in text
        text = text.replace(word, "worker-src 'none'" if word.startswith("worker") else "", 1)
    return text


def with_index(text: str, change: Any) -> str:
    """A page whose index was changed after it was written."""
    found = re.search(r'(<script type="application/json" id="index">)(.*?)(</script>)', text, re.S)
    assert found
    index = json.loads(found[2])
    change(index)
    return text[: found.start(2)] + json.dumps(index).replace("<", "\\u003c") + text[found.end(2) :]

"""A real browser for tests of pages: Chromium through playwright, offline.

Tests take the fixture ``browser`` and carry the marker of that name; they are skipped where no Chromium is on the PATH
or playwright is missing (``pip install "tokenrank[browser]"`` and the system's package ``chromium``).

    @pytest.mark.browser
    def test_a_page(browser):
        shown = browser.open(path, width=360, scheme="dark")
        shown.page.click("text=More")  # playwright's page
        shown.check()  # no error, nothing from outside, nothing wider than the window
        shown.screenshot("page")
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
PHONE, DESK = 360, 1280
"""Widths in CSS pixels that every page is held to."""
SCHEMES = ("light", "dark")

# elements that reach beyond the window and are not scrolled inside a parent of theirs
_WIDE = """() => {
  const width = document.documentElement.clientWidth
  if (document.documentElement.scrollWidth <= width) return []
  const scrolled = e => { for (let p = e.parentElement; p && p !== document.documentElement; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== 'visible') return true; return false }
  const found = [...document.body.querySelectorAll('*')].filter(
    e => e.getBoundingClientRect().right > width + 1 && !scrolled(e))
  return [`page ${document.documentElement.scrollWidth} > ${width}`, ...found.slice(0, 5).map(
    e => `${e.tagName.toLowerCase()}.${e.className}: ${(e.textContent || '').trim().slice(0, 40)}`)]
}"""


@dataclass
class Shown:
    """A page that is open in the browser.

    Attributes:
        page: of playwright.
        folder: where screenshots go.
        errors: errors of the console, uncaught exceptions, files that were not found.
        outside: addresses beyond this machine that the page asked for, none of which was answered.
    """

    page: Any
    folder: Path
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def too_wide(self) -> list[str]:
        """What makes the page scroll sideways; empty where nothing does."""
        return list(self.page.evaluate(_WIDE))

    def check(self) -> None:
        """Fail on an error, on a request that leaves the page, and where the page scrolls sideways."""
        assert not self.errors, self.errors
        assert not self.outside, self.outside
        assert not self.too_wide(), self.too_wide()

    def screenshot(self, name: str, full: bool = True) -> Path:
        """The page as ``NAME.png`` in the test's folder; the whole of it, or what the window shows."""
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=full)
        return path


class Browser:
    """Opens pages in windows of their own.

    Args:
        chromium: playwright's browser.
        folder: where screenshots go.
    """

    def __init__(self, chromium: Any, folder: Path) -> None:
        self._chromium, self._folder, self._stack = chromium, folder, ExitStack()

    def open(
        self,
        where: str | Path,
        width: int = DESK,
        height: int = 900,
        scheme: str = "light",
        before: str | None = None,
        **more: Any,
    ) -> Shown:
        """A file, or an address of a server on this machine, when it has loaded.

        Args:
            where: a path, or an address that ``serve`` gave, with what follows.
            width, height: of the window in CSS pixels.
            scheme: the colours that the reader's system prefers, "light" or "dark".
            before: a function of JavaScript that runs in the page before anything of its own.
            more: of playwright's ``new_context``, such as ``reduced_motion="reduce"``.
        """
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, **more
        )
        if before is not None:
            context.add_init_script(f"({before})()")
        self._stack.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(20_000)
        shown = Shown(page, self._folder)
        context.route("**/*", partial(_route, shown.outside))
        page.on("console", lambda message: shown.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: shown.errors.append(str(error)))
        page.goto(where.resolve().as_uri() if isinstance(where, Path) else where, wait_until="load")
        return shown

    def serve(self, folder: Path) -> str:
        """A server of the folder's files on this machine, until the test ends; its address, with / at the end."""
        return self._stack.enter_context(_serving(folder))

    def close(self) -> None:
        """Close every window and server."""
        self._stack.close()


def _route(outside: list[str], route: Any) -> None:
    address = urlsplit(route.request.url)
    if address.scheme in ("file", "data", "blob", "about") or address.hostname == "127.0.0.1":
        route.continue_()
    else:
        outside.append(route.request.url)
        route.abort()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """playwright's browser; for one file of tests, since its event loop must not meet those of others."""
    playwright = pytest.importorskip("playwright.sync_api", reason='no playwright: pip install "tokenrank[browser]"')
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser on the PATH (none of {', '.join(NAMES)}): install the system's package chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture
def browser(chromium: Any, tmp_path: Path) -> Iterator[Browser]:
    """A browser that opens files and pages of this machine, and nothing else."""
    found = Browser(chromium, tmp_path)
    yield found
    found.close()

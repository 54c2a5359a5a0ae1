"""A ``.trx`` beside the module on a site of one's own: an index, then a range for every layer that is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from tests.browser import Browser
from tests.explorer import made

HOST = """<!doctype html><html lang=en><meta charset=utf-8><title>mine</title><style>p { color: rgb(1, 2, 3) }</style>
<p id=mine>mine</p><div id=one></div><div id=other></div>
<script type=module>
import {mount} from './explorer.js'
window.one = await mount(one, 'page.trx', {state: {layer: 1, bounces: 4}})
window.other = await mount(other, 'page.trx')
</script>"""


class Ranges(SimpleHTTPRequestHandler):
    """A server that answers ``Range``, and writes down what it was asked for."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append((self.path, wanted))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        if not found:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        begin, end = int(found[1]), min(int(found[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        self.send_header("Content-Length", str(end - begin + 1))
        self.end_headers()
        self.wfile.write(content[begin : end + 1])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    found = made.explorer()
    found.save(tmp_path / "page.trx")
    (tmp_path / "explorer.js").write_text(found.module(), encoding="utf-8")
    (tmp_path / "index.html").write_text(HOST, encoding="utf-8")
    handler = type("Asked", (Ranges,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", handler.asked
        server.shutdown()


@pytest.mark.browser
def test_layers_are_fetched_when_they_are_looked_at(site: Any, browser: Browser) -> None:
    address, asked = site
    index = made.explorer().index
    shown = browser.open(f"{address}index.html")
    shown.page.wait_for_function("() => [window.one, window.other].every(shown => shown.view?.walk?.limit)")
    state = shown.page.evaluate("() => [one, other].map(({view: {state}}) => [state.layer, state.bounces])")
    assert state == [[1, 4], [2, 2]]
    assert shown.page.evaluate("() => location.hash") == ""
    ranges = [wanted for path, wanted in asked if path == "/page.trx"]
    assert all(ranges)
    before = len(ranges)
    shown.page.evaluate("() => window.one.view.set({layer: 2})")
    shown.page.wait_for_function("() => window.one.view.work.building === 1 && window.one.view.state.layer === 2")
    shown.page.wait_for_timeout(200)
    new = [wanted for path, wanted in asked if path == "/page.trx"][before:]
    (place,) = [layer["stored"]["bytes"] for layer in index["sheets"][0]["layers"] if layer["number"] == 2]
    assert len(new) == 1
    begin, end = map(int, re.findall(r"\d+", new[0]))
    assert end - begin + 1 == place[1]
    # neither page reaches the other's styles or state
    assert shown.page.evaluate("() => getComputedStyle(mine).color") == "rgb(1, 2, 3)"
    assert shown.page.evaluate("() => window.other.view.state.layer") == 2
    shown.check()


@pytest.mark.browser
def test_a_server_without_ranges_sends_the_file_once(browser: Browser, tmp_path: Path) -> None:
    found = made.explorer()
    found.save(tmp_path / "page.trx")
    (tmp_path / "explorer.js").write_text(found.module(), encoding="utf-8")
    (tmp_path / "index.html").write_text(HOST, encoding="utf-8")
    shown = browser.open(f"{browser.serve(tmp_path)}index.html")
    shown.page.wait_for_function("() => [window.one, window.other].every(shown => shown.view?.walk?.limit)")
    sums = shown.page.evaluate("() => [one, other].map(({view}) => view.at(1).reduce((a, b) => a + b, 0))")
    assert sums == pytest.approx([1, 1], abs=1e-5)
    shown.check()

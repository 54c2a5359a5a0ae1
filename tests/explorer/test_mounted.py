"""Explorers on pages of others, by ``mount``: several, their numbers, addresses and ranges, the theme around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import Browser, Shown
from tests.explorer.pages import COUNT, tiny, walked
from tokenrank.explorer.blob import as_trx
from tokenrank.explorer.module import joined

pytestmark = pytest.mark.browser

MOUNTED = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>%s<script type="module">
import {mount} from './joined.mjs'
const open = host => mount(host, host.dataset.at, JSON.parse(host.dataset.options))
const all = [...document.querySelectorAll('div')].map(open)
window.shown = await Promise.all(all.map(one => one.catch(error => error.message)))
</script>"""


def mounted(browser: Browser, folder: Path, *hosts: tuple[str, dict[str, Any]]) -> Shown:
    """A page of a site with an explorer for each address and its options, as ``window.shown``."""
    (folder / "joined.mjs").write_text(joined(), encoding="utf-8")
    index, parts = tiny()
    (folder / "page.trx").write_bytes(as_trx(index, parts))
    body = "".join(f"<div data-at=\"{at}\" data-options='{json.dumps(options)}'></div>" for at, options in hosts)
    (folder / "site.html").write_text(MOUNTED % body, encoding="utf-8")
    shown = browser.open(browser.serve(folder) + "site.html")
    shown.page.wait_for_function("() => window.shown")
    return shown


@pytest.mark.parametrize("engine", [{}, {"worker": False}, {"wasm": False}, {"worker": False, "wasm": False}])
def test_the_numbers_are_those_of_the_chain(browser: Browser, tmp_path: Path, engine: dict[str, bool]) -> None:
    shown = mounted(browser, tmp_path, ("page.trx", {"engine": engine, "state": {"layer": 1, "starts": [5]}}))
    shown.page.wait_for_function("() => shown[0].view.walk?.limit")
    maps = shown.page.evaluate("() => [...shown[0].view.walk.maps]")
    found = np.array(maps).reshape(21, COUNT)
    _, parts = tiny()
    assert np.abs(found - walked(parts, 0, 5, 0.99, 20, [0.5, 0.3, 0.2])).max() < 1e-6
    foot = shown.page.inner_text(".foot")
    assert ("slower here: no" in foot) == bool(engine), foot
    blend = shown.page.evaluate("() => [...shown[0].view.at(1.25)]")
    assert np.abs(np.array(blend) - (0.75 * found[1] + 0.25 * found[2])).max() < 1e-7
    assert shown.page.evaluate("() => shown[0].view.at(21) === shown[0].view.walk.limit")
    shown.check()


def test_several_on_a_page_and_one_link(browser: Browser, tmp_path: Path) -> None:
    shown = mounted(browser, tmp_path, ("page.trx", {}), ("page.trx", {"link": True}), ("page.trx", {}))
    shown.page.evaluate("() => { shown[0].view.set({bounces: 5}); shown[1].view.set({bounces: 7}) }")
    shown.page.wait_for_function("() => location.hash === '#bounces=7'")
    assert shown.page.evaluate("() => shown.map(one => one.view.state.bounces)") == [5, 7, 2]
    shown.page.locator(".sentence >> nth=2").click()
    shown.page.keyboard.press(".")
    assert shown.page.evaluate("() => shown.map(one => one.view.state.bounces)") == [5, 7, 3]
    shown.page.evaluate("() => shown[1].remove()")
    shown.page.evaluate("() => { location.hash = '#bounces=1' }")
    shown.page.wait_for_timeout(100)
    assert shown.page.evaluate("() => shown.map(one => one.view.state.bounces)") == [5, 7, 3]
    assert shown.page.evaluate("() => document.querySelectorAll('div')[1].shadowRoot.childElementCount") == 0
    shown.check()


def test_what_an_address_may_answer(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "not.trx").write_bytes(b"<!doctype html>")
    (tmp_path / "torn.trx").write_bytes(as_trx(*tiny())[:500])
    shown = mounted(browser, tmp_path, ("not.trx", {}), ("torn.trx", {}), ("none.trx", {}))
    assert shown.page.evaluate("() => shown") == [
        "not.trx is no file of the explorer: it does not begin with TRX1.",
        "torn.trx ends within its index; fetch it again.",
        "none.trx cannot be fetched: the server says 404.",
    ]
    assert shown.page.locator("[role=alert]").all_inner_texts() == shown.page.evaluate("() => shown")


def test_ranges_are_fetched_where_there_are_some(browser: Browser, tmp_path: Path) -> None:
    """A server with ranges sends the index, the picture and the layer that is looked at, and no other layer."""
    shown = mounted(browser, tmp_path)
    whole = as_trx(*tiny())
    asked = []

    def answer(route: Any) -> None:
        first, last = map(int, route.request.headers["range"].removeprefix("bytes=").split("-"))
        asked.append((first, last))
        route.fulfill(status=206, body=whole[first : last + 1], headers={"Content-Type": "application/octet-stream"})

    shown.page.route("**/ranges.trx", answer)
    shown.page.evaluate(
        """async () => {
        const {mount} = await import('./joined.mjs'), host = document.body.appendChild(document.createElement('div'))
        window.one = await mount(host, 'ranges.trx') }"""
    )
    shown.page.wait_for_function("() => one.view.walk?.limit")
    index, parts = tiny()
    blob = len(whole) - sum(map(len, parts))
    (start, length) = index["sheets"][0]["layers"][1]["stored"]["bytes"]
    beyond = [(a, b) for a, b in asked if a > 0]
    assert asked[0][0] == 0
    assert beyond
    assert not any(a < blob + start + length and b >= blob + start for a, b in beyond)


def test_the_theme_is_that_of_the_page_around(browser: Browser, tmp_path: Path) -> None:
    """A dark notebook on a light system, and a reader who switches it; what the reader of the explorer chose stays."""
    shown = mounted(browser, tmp_path, ("page.trx", {}), ("page.trx", {"state": {"theme": "light"}}))
    themes = "() => [...document.querySelectorAll('div')].map(host => host.dataset.theme)"
    assert shown.page.evaluate(themes) == ["light", "light"]
    shown.page.evaluate("() => { document.body.style.background = 'rgb(17, 17, 17)' }")
    shown.page.wait_for_function("() => document.querySelector('div').dataset.theme === 'dark'")
    assert shown.page.evaluate(themes) == ["dark", "light"]
    shown.page.evaluate("() => { document.body.style.background = 'rgba(250, 250, 250, 0.9)' }")
    shown.page.wait_for_function("() => document.querySelector('div').dataset.theme === 'light'")
    shown.page.evaluate("() => { document.body.style.background = '' }")
    shown.page.emulate_media(color_scheme="dark")
    shown.page.wait_for_function("() => document.querySelector('div').dataset.theme === 'dark'")
    assert shown.page.evaluate(themes) == ["dark", "light"]


def test_what_a_removed_explorer_leaves(browser: Browser, tmp_path: Path) -> None:
    shown = mounted(browser, tmp_path, ("page.trx", {}), ("page.trx", {"link": True}))
    shown.page.wait_for_function("() => shown.every(one => one.view.walk?.limit)")
    assert len(shown.page.workers) == 2
    shown.page.evaluate(
        "() => { shown[0].view.play(); shown[0].remove(); shown[1].view.set({starts: [3]}); shown[1].remove() }"
    )
    shown.page.wait_for_timeout(400)
    assert shown.page.workers == []
    assert shown.page.evaluate("() => location.hash") == ""
    shown.check()


@pytest.mark.parametrize("width", [280, 360, 700])
def test_a_narrow_place_on_a_wide_page(browser: Browser, tmp_path: Path, width: int) -> None:
    shown = mounted(browser, tmp_path, ("page.trx", {}))
    shown.page.wait_for_function("() => shown[0].view.walk?.limit")
    shown.page.evaluate("width => { document.querySelector('div').style.width = `${width}px` }", width)
    wide = """width => {
        const scrolled = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolled(e.parentElement))
        return [...document.querySelector('div').shadowRoot.querySelectorAll('.explorer *')].filter(e =>
            e.getClientRects().length && e.getBoundingClientRect().right > width + 9 && !scrolled(e.parentElement)
        ).map(e => e.outerHTML.slice(0, 90)) }"""
    for tab in ("walk", "heads", "chain", "groups"):
        shown.page.evaluate("tab => shown[0].view.set({tab})", tab)
        shown.page.wait_for_selector(f"#panel-{tab}:not([hidden])")
        assert shown.page.evaluate(wide, width) == []

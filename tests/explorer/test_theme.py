"""Colours of an explorer: what the reader chose, else those of what is around it, else the system's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import SCHEMES, Browser
from tests.explorer import made

PAGE = """<!doctype html><meta charset=utf-8><title>host</title><body style="background:transparent">
<div style="background:{background}"><div id=place></div></div>
<script type=module>import {{mount}} from './explorer.js'; window.shown = await mount(place, 'page.trx')</script>"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("background", "scheme", "expected"),
    [
        ("#111111", "light", "dark"), ("rgb(250, 250, 240)", "dark", "light"), ("#ffffff1a", "dark", "dark"),
        ("transparent", "light", "light"),
    ],
)  # fmt: skip
def test_colours_are_those_around(
    browser: Browser, tmp_path: Path, background: str, scheme: str, expected: str
) -> None:
    assert scheme in SCHEMES
    found = made.explorer()
    found.save(tmp_path / "page.trx")
    (tmp_path / "explorer.js").write_text(found.module(), encoding="utf-8")
    (tmp_path / "index.html").write_text(PAGE.format(background=background), encoding="utf-8")
    shown = browser.open(f"{browser.serve(tmp_path)}index.html", scheme=scheme)
    place = shown.page.locator("#place")
    place.locator("canvas").first.wait_for()
    assert place.get_attribute("data-theme") == expected
    shown.page.evaluate("() => window.shown.view.set({theme: 'light'})")
    assert place.get_attribute("data-theme") == "light"
    shown.page.evaluate("() => { window.shown.view.set({theme: null}); place.parentElement.style.background = '#000' }")
    shown.page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
    shown.page.wait_for_function("() => place.dataset.theme === 'dark'")
    shown.check()

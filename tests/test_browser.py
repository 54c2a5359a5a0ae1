"""The browser that pages are tested in sees what it has to see."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from tests.browser import DESK, PHONE, Browser

pytestmark = pytest.mark.browser


def page(folder: Path, body: str, head: str = "") -> Path:
    path = folder / "a page.html"
    head = f'<meta charset="utf-8"><link rel="icon" href="data:,">{head}'
    path.write_text(f"<!doctype html><html><head>{head}</head><body>{body}</body></html>")
    return path


def test_a_good_page_passes_at_both_widths_and_in_both_schemes(tmp_path: Path, browser: Browser):
    style = "<style>@media (prefers-color-scheme: dark) { body { background: rgb(1, 2, 3) } }</style>"
    scrolled = '<div style="overflow-x: auto"><div style="width: 3000px">inside</div></div>'
    path = page(tmp_path, f"<h1>Title</h1>{scrolled}", style)
    for width in (PHONE, DESK):
        shown = browser.open(path, width=width, scheme="dark")
        shown.check()
        assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(1, 2, 3)"
        assert PIL.Image.open(shown.screenshot(f"at-{width}")).width == width


def test_errors_of_a_page_are_seen(tmp_path: Path, browser: Browser):
    shown = browser.open(page(tmp_path, "<script>console.error('told'); undefined_name()</script>"))
    assert any("told" in error for error in shown.errors)
    assert any("undefined_name" in error for error in shown.errors)
    with pytest.raises(AssertionError, match="told"):
        shown.check()


def test_what_leaves_the_page_is_seen_and_not_answered(tmp_path: Path, browser: Browser):
    shown = browser.open(page(tmp_path, '<img src="http://example.org/a.png">'))
    assert shown.outside == ["http://example.org/a.png"]
    with pytest.raises(AssertionError):
        shown.check()


def test_what_is_too_wide_is_named(tmp_path: Path, browser: Browser):
    shown = browser.open(page(tmp_path, '<p class="long" style="width: 500px">words</p>'), width=PHONE)
    assert shown.too_wide()[0].startswith("page 5")
    assert "p.long: words" in shown.too_wide()
    assert browser.open(page(tmp_path, '<p style="width: 500px">words</p>'), width=DESK).too_wide() == []


def test_folders_are_served(tmp_path: Path, browser: Browser):
    page(tmp_path, '<img alt="" src="missing.png"><h1>Served</h1>')
    shown = browser.open(browser.serve(tmp_path) + "a%20page.html")
    assert shown.page.inner_text("h1") == "Served"
    assert shown.errors  # the missing file
    assert not shown.outside

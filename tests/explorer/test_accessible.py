"""For everyone: names of controls, contrast, focus that is seen, order of Tab, a live region that does not chatter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import DESK, PHONE, SCHEMES, Browser

from .driven import Driven

pytestmark = pytest.mark.browser

TABS = ("Walk", "Heads", "Chain", "Groups")
LOOKING = (Path(__file__).parent / "accessible.js").read_text("utf-8")


def seen_by(page: Driven, what: str) -> Any:
    """What a function of accessible.js finds."""
    return page.page.evaluate(f"() => {{ {LOOKING}; return {what}() }}")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["picture", "text"])
def test_names_and_contrast(browser: Browser, picture_page: Path, text_page: Path, kind: str, scheme: str) -> None:
    page = Driven(browser, picture_page if kind == "picture" else text_page, scheme=scheme)
    for details in page.page.locator("details > summary").all():
        details.click()
    for tab in TABS:
        page.page.click(f"[role=tab]:has-text('{tab}')")
        page.still()
        assert seen_by(page, "nameless") == [], tab
        assert seen_by(page, "faint") == [], tab


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_tab_reaches_everything_and_is_seen(browser: Browser, picture_page: Path, width: int) -> None:
    page = Driven(browser, picture_page, width=width)
    page.page.keyboard.press("Tab")
    seen: list[str] = []
    for _ in range(60):
        active = seen_by(page, "active")
        if active is None:
            break
        assert active["seen"], active
        seen.append(active["what"])
        page.page.keyboard.press("Tab")
    text = " | ".join(seen)
    for wanted in ("rows of", "Play", "Number of bounces", "Follow attention", "|λ2|", "Walk", "Keys and reading"):
        assert wanted in text, (wanted, text)
    assert len(seen) == len(set(seen)) or len(seen) < 60


def test_the_live_region_says_one_sentence_after_a_drag(browser: Browser, picture_page: Path) -> None:
    page = Driven(browser, picture_page)
    page.page.evaluate(
        """() => {
      window.told = []
      const live = document.querySelector('main').shadowRoot.querySelector('[aria-live=polite]')
      new MutationObserver(() => live.textContent.trim() && window.told.push(live.textContent))
        .observe(live, {childList: true, characterData: true, subtree: true})
    }"""
    )
    page.page.mouse.move(*page.at(0.05, 0.5))
    page.page.mouse.down()
    for step in range(1, 20):
        page.page.mouse.move(*page.at(0.05 + 0.045 * step, 0.5))
        page.page.wait_for_timeout(30)
    page.page.mouse.up()
    page.page.wait_for_timeout(1500)
    told = page.page.evaluate("() => window.told")
    assert len(told) == 1, told
    assert "row" in told[0]


def test_only_one_place_is_live(browser: Browser, picture_page: Path) -> None:
    page = Driven(browser, picture_page)
    live = page.page.evaluate(
        "() => [...document.querySelector('main').shadowRoot.querySelectorAll('[aria-live]')].map(e => e.className)"
    )
    assert live == ["unseen"]


def test_the_looks_find_what_is_bad(browser: Browser, picture_page: Path) -> None:
    page = Driven(browser, picture_page)
    page.page.evaluate(
        """() => {
      const root = document.querySelector('main').shadowRoot
      root.querySelector('#sentence').style.color = '#999'
      root.querySelector('.explorer').style.background = '#bbb'
      root.querySelector('.play').removeAttribute('aria-label')
      const seen = [...root.querySelectorAll('.segments button')].find(e => e.checkVisibility())
      seen.removeAttribute('aria-pressed')
    }"""
    )
    assert any("sentence" in found for found in seen_by(page, "faint"))
    nameless = seen_by(page, "nameless")
    assert any("no name" in found and "play" in found for found in nameless)
    assert any("not pressed" in found for found in nameless)

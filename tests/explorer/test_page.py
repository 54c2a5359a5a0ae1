"""The file of the explorer in a browser: its state and link, keys, what is missing, what is hostile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser import DESK, PHONE, SCHEMES, Browser, Shown
from tests.explorer.pages import tiny
from tokenrank.explorer import file

pytestmark = pytest.mark.browser

READY = "() => document.querySelector('main').shadowRoot.querySelector('.foot')?.textContent.includes('chain')"


def opened(browser: Browser, folder: Path, link: str = "", text: str = "", **more: Any) -> Shown:
    """The tiny page, or another text of a page, when its chain is there."""
    path = folder / "page.html"
    path.write_text(text or file.html(*tiny()), encoding="utf-8")
    shown = browser.open(path.as_uri() + link, **more)
    if not text:
        shown.page.wait_for_function(READY)
    return shown


def sentence(shown: Shown) -> str:
    return str(shown.page.inner_text(".sentence"))


def until(shown: Shown, words: str) -> None:
    shown.page.wait_for_function(
        "words => document.querySelector('main').shadowRoot.querySelector('.sentence').textContent.includes(words)",
        arg=words,
    )


@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_picture(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    shown = opened(browser, tmp_path, width=width, scheme=scheme)
    assert sentence(shown) == (
        "2 bounces following attention from row 2, column 3; at each bounce 1 % goes anywhere instead"
    )
    assert shown.page.get_attribute("main", "data-theme") == scheme
    assert "25 tokens · the whole picture, 192 × 128 pixels · layer 2" in shown.page.inner_text(".foot")
    assert (
        "stored as int16: probabilities are off by up to 9e-5, TokenRank at α = 0.99 by 9e-5 in sum"
        in shown.page.inner_text(".foot")
    )
    assert "slower" not in shown.page.inner_text(".foot")
    shown.check()


def test_every_tab_and_what_is_closed_at_first(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path, width=PHONE)
    for name in ("Heads", "Chain", "Groups", "Walk"):
        shown.page.get_by_role("tab", name=name, exact=True).click()
        shown.page.wait_for_selector(f"#panel-{name.lower()}:not([hidden])")
        assert shown.page.get_by_role("tabpanel").count() == 1
        assert "failed" not in shown.page.inner_text(f"#panel-{name.lower()}")
    for name in ("Export", "Keys and reading"):
        shown.page.click(f"summary:has-text('{name}')")
    shown.check()
    shown.page.keyboard.press("Tab")


def test_keys(browser: Browser, tmp_path: Path) -> None:
    """The file has the keyboard from the beginning; nothing is taken with modifiers or from who types."""
    shown = opened(browser, tmp_path)
    for key, words in [
        (".", "3 bounces"), (",", "2 bounces"), (",", "1 bounce"), ("i", "∞ bounces TokenRank"),
        ("b", "reverse TokenRank"), ("b", "bounces TokenRank"),
    ]:  # fmt: skip
        shown.page.keyboard.press(key)
        until(shown, words)
    shown.page.keyboard.press("Control+,")
    shown.page.keyboard.press("1")
    shown.page.wait_for_function(
        "() => document.querySelector('main').shadowRoot.querySelector('.foot').textContent.includes('head 1')"
    )
    assert "∞" in sentence(shown)
    shown.page.keyboard.press("9")  # there is none
    shown.page.keyboard.press("m")
    shown.page.wait_for_function(
        "() => document.querySelector('main').shadowRoot.querySelector('.foot').textContent.includes('all heads by')"
    )
    shown.page.focus("canvas")
    shown.page.keyboard.press("ArrowLeft")
    shown.page.keyboard.press("ArrowDown")
    shown.page.keyboard.press(",")
    until(shown, "row 3, column 2")
    shown.page.keyboard.press("t")
    shown.page.wait_for_function("() => document.querySelector('main').dataset.theme === 'dark'")
    shown.page.keyboard.press("?")
    assert shown.page.is_visible("text=play and pause")
    shown.page.keyboard.press("f")
    shown.page.wait_for_function("() => document.fullscreenElement?.localName === 'main'")
    shown.page.keyboard.press("f")
    shown.page.wait_for_function("() => !document.fullscreenElement")
    shown.check()


def test_playing_ends_at_tokenrank_and_says_so_once(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path, "#bounces=18")
    live = "() => document.querySelector('main').shadowRoot.querySelector('[aria-live]').textContent"
    shown.page.keyboard.press("Space")
    until(shown, "∞ bounces")
    shown.page.wait_for_function("() => location.hash === '#bounces=inf'")
    shown.page.wait_for_function(f"() => ({live})().startsWith('∞ bounces, TokenRank')")
    shown.page.keyboard.press("Space")  # again, from the start
    until(shown, "1 bounce")
    shown.page.keyboard.press("Space")
    shown.check()


def test_reduced_motion_steps(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path)
    shown.page.emulate_media(reduced_motion="reduce")
    shown.page.evaluate(
        """() => { window.seen = new Set()
        const b = document.querySelector('main').shadowRoot.querySelector('.sentence')
        new MutationObserver(() => seen.add(b.textContent.split(' ')[0])).observe(b, {childList: true}) }"""
    )
    shown.page.keyboard.press("Space")
    until(shown, "4 bounces")
    shown.page.keyboard.press("Space")
    assert shown.page.evaluate("() => [...seen]") == ["2", "3", "4"]


def test_the_link_is_the_state(browser: Browser, tmp_path: Path) -> None:
    link = "#layer=1&head=2&starts=3,7&bounces=4&direction=backward&alpha=0.9&tab=chain&theme=dark&colours=viridis"
    shown = opened(browser, tmp_path, link)
    assert sentence(shown).startswith("4 bounces tracing attention back from 2 tokens; at each bounce 10 %")
    assert "layer 1, head 2" in shown.page.inner_text(".foot")
    assert shown.page.get_attribute("main", "data-theme") == "dark"
    assert shown.page.is_visible("#panel-chain")
    shown.page.keyboard.press(".")
    shown.page.wait_for_function("() => location.hash.includes('bounces=5')")
    for part in ("layer=1", "head=2", "starts=3,7", "direction=backward", "alpha=0.9", "theme=dark"):
        assert part in shown.page.evaluate("() => location.hash")
    shown.page.evaluate("() => { location.hash = '#a-heading' }")
    shown.page.evaluate("() => { location.hash = '#bounces=3' }")  # what it does not name is as at first
    until(shown, "3 bounces following attention from row 2, column 3; at each bounce 1 %")
    shown.check()


@pytest.mark.parametrize(
    "link",
    [
        "#layer=99&head=77&starts=-1,1e9,NaN&bounces=-5&alpha=7&direction=up&unknown=1&tab=__proto__&constructor=2",
        "#starts=&opacity=x&sheet=3&step=9&bounces=NaN",
        "#%E0%A4%A&&&===&starts=" + ",".join(["1"] * 5000),
        "#theme=%3Cscript%3E&colours=jet&head=%22%3E%3Cimg%3E",
    ],
)
def test_links_that_ask_for_what_there_is_not(browser: Browser, tmp_path: Path, link: str) -> None:
    shown = opened(browser, tmp_path, link)
    assert re.match(r"(2 bounces|The start)", sentence(shown))
    assert shown.page.locator(".notices .notice").count() == 0
    shown.check()


def test_a_layer_that_is_not_in_the_page(browser: Browser, tmp_path: Path) -> None:
    """The walk stays, and the command stands there; the notice goes when something else is chosen."""
    shown = opened(browser, tmp_path)
    shown.page.evaluate("() => { location.hash = '#layer=0&head=1' }")
    shown.page.wait_for_selector(".notice:visible")
    assert "layer 0 is a thumbnail here" in shown.page.inner_text(".notice:visible")
    assert shown.page.inner_text(".notices code") == "tokenrank explore a.jpg --layers 0 --heads 1"
    assert "layer 2, all heads" in shown.page.inner_text(".foot")
    shown.page.keyboard.press(".")
    shown.page.wait_for_function("() => !document.querySelector('main').shadowRoot.querySelector('.notices .notice')")
    shown.check()


def cut(text: str, part: str) -> str:
    """The page up to the middle of a part."""
    at = {
        "last layer": text.rindex("</script>") - 200,
        "first layer": [m.start() for m in re.finditer('data-at="', text)][2] - 2000,
        "picture": text.index('data-at="0"') + 400,
        "index": text.index('id="index"') + 300,
        "before the index": text.index('<script type="application/json"'),
    }[part]
    return text[:at]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("last layer", "Missing in this page: layer 2. The file was cut off on its way: copy or save it again."),
        ("first layer", "Missing in this page: layer 1, layer 2."),
        ("picture", "Missing in this page: layer 1, layer 2, the picture of a picture."),
        ("index", "The index of this page ends in the middle. The file was cut off"),
        ("before the index", "This page has no index of what it holds. The file was cut off"),
    ],
)
def test_a_file_that_was_cut_off(browser: Browser, tmp_path: Path, part: str, words: str) -> None:
    shown = opened(browser, tmp_path, text=cut(file.html(*tiny()), part))
    shown.page.wait_for_selector(".notice:visible")
    assert shown.page.inner_text(".notice:visible >> nth=0").startswith(words)
    assert not shown.errors
    if part == "last layer":  # the other layer still walks
        shown.page.wait_for_function(READY)
        assert "layer 1" in shown.page.inner_text(".foot")
        shown.check()


def test_a_file_cut_off_in_its_module_keeps_a_sentence(browser: Browser, tmp_path: Path) -> None:
    text = file.html(*tiny())
    shown = opened(browser, tmp_path, text=text[: text.index('<script type="module">') + 5000])
    assert "the file is incomplete" in shown.page.inner_text("main")


def test_a_page_without_javascript_has_a_sentence(browser: Browser, tmp_path: Path, chromium: Any) -> None:
    path = tmp_path / "page.html"
    path.write_text(file.html(*tiny()), encoding="utf-8")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "needs JavaScript" in page.inner_text("main")
    context.close()


def test_a_browser_that_is_too_old_says_so(tmp_path: Path, chromium: Any) -> None:
    path = tmp_path / "page.html"
    path.write_text(file.html(*tiny()), encoding="utf-8")
    page = chromium.new_page()
    page.add_init_script("delete CSSStyleSheet.prototype.replaceSync")
    page.goto(path.as_uri())
    page.wait_for_selector("[role=alert]")
    assert page.inner_text("[role=alert]").startswith("The explorer failed: TypeError")
    page.close()


def test_the_policy_holds(browser: Browser, tmp_path: Path) -> None:
    """No violation by the page itself; what somebody puts into it does not run."""
    text = file.html(*tiny()).replace(
        "</body>", "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'></body>"
    )
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    shown = browser.open(path)
    shown.page.wait_for_function(READY)
    assert shown.page.evaluate("() => window.ran") is None
    assert all("Content Security Policy" in error for error in shown.errors)
    assert {re.search(r"directive[:\s'\"]+([\w-]+)", error)[1] for error in shown.errors} == {"script-src", "img-src"}  # type: ignore[index]


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)> \u2028 \u202e ' \" & <!--"
    index, parts = tiny(title=hostile)
    index["sheets"][0]["name"] = index["model"] = index["cure"] = hostile
    index["sheets"] = [index["sheets"][0], {**index["sheets"][0], "name": "b"}]
    shown = opened(browser, tmp_path, text=file.html(index, parts))
    shown.page.wait_for_function(READY)
    assert shown.page.inner_text("h1").endswith(hostile) or hostile in shown.page.text_content("h1")
    assert shown.page.text_content(".top .segments button >> nth=0") == hostile
    assert shown.page.locator("img").count() == 0
    shown.check()


def test_a_part_that_fails_leaves_the_others_alone(browser: Browser, tmp_path: Path) -> None:
    index, parts = tiny()
    index["sheets"][0]["layers"][2]["heads"][0]["lambda2"] = "not a number"
    shown = opened(browser, tmp_path, text=file.html(index, parts))
    shown.page.wait_for_function(READY)
    assert "This part of the page failed (Heads: TypeError" in shown.page.inner_text(".notice:visible")
    assert sentence(shown).startswith("2 bounces")


def test_two_sheets(browser: Browser, tmp_path: Path) -> None:
    index, parts = tiny()
    index["sheets"].append({**index["sheets"][0], "name": "another", "start": 20})
    shown = opened(browser, tmp_path, text=file.html(index, parts))
    shown.page.wait_for_function(READY)
    shown.page.click(".top .segments button:has-text('another')")
    until(shown, "row 4, column 2")
    shown.page.wait_for_function("() => location.hash === '#sheet=1'")
    shown.check()


def test_many_sheets_are_a_list(browser: Browser, tmp_path: Path) -> None:
    index, parts = tiny()
    index["sheets"] = [{**index["sheets"][0], "name": f"picture {i} with a long name", "start": i} for i in range(3, 9)]
    shown = opened(browser, tmp_path, text=file.html(index, parts), width=PHONE)
    shown.page.wait_for_function(READY)
    shown.page.select_option(".top select", label="picture 7 with a long name")
    until(shown, "row 2, column 1")
    shown.check()


def test_too_many_tokens_for_a_matrix(browser: Browser, tmp_path: Path) -> None:
    """One bounce is there at once, and no more can be chosen."""
    shown = opened(browser, tmp_path, text=file.html(*tiny(layers=1, stored=(0,), rows=61, columns=100)))
    until(shown, "1 bounce what is attended to")
    assert "6,101 tokens are too many for more bounces than one" in shown.page.inner_text(".notices")
    shown.page.keyboard.press("i")
    shown.page.keyboard.press(",")
    until(shown, "The start")
    shown.check()


def test_live_text_is_silent_while_things_move(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path)
    shown.page.evaluate(
        """() => { window.told = []; const live = document.querySelector('main').shadowRoot.querySelector('[aria-live]')
        new MutationObserver(() => told.push(live.textContent)).observe(live, {childList: true}) }"""
    )
    box = shown.page.locator("canvas").first.bounding_box()
    shown.page.mouse.move(box["x"] + 20, box["y"] + 20)
    shown.page.mouse.down()
    for step in range(12):
        shown.page.mouse.move(box["x"] + 20 + 40 * step, box["y"] + 20)
        shown.page.wait_for_timeout(60)
    shown.page.mouse.up()
    assert shown.page.evaluate("() => told") == []
    shown.page.wait_for_function("() => told.length")
    assert shown.page.evaluate("() => told") == [sentence(shown).replace(" following", ", following")]

"""Texts in the explorer, in a browser: what is drawn, how it is read by pointer and keys, how light it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tokenrank as tr

from . import nodes
from .driven import Driven

HOSTILE = (
    "[CLS]", "</script><b>bold</b>", "<!--", "\u202eturned", "a\u2028b", "\ud800", "&amp;",
    "\"'><img src=x onerror=x()>", "q" * 1_000_000, "e\u0301", "👩‍👩‍👧", "[SEP]",
)  # fmt: skip
HEBREW = ("[CLS]", "הגשר", "הישן", "(", "John", "Smith", ")", "נסגר", "1987", ".", "[SEP]")


def chain_of(tokens: tuple[str, ...], seed: int = 0, causal: bool = False, special: tuple[int, ...] = ()) -> Any:
    """A chain of random queries and keys on these tokens."""
    made = torch.Generator().manual_seed(seed)
    q, k = (1.5 * torch.randn(2, len(tokens), 8, generator=made) for _ in range(2))
    layout = tr.TokenLayout({"text": len(tokens)}, tokens=tokens, special=special)
    return tr.AttentionChain.from_qk(q, k, is_causal=causal, layout=layout)


def shown_text(browser: Any, folder: Path, tokens: tuple[str, ...], link: str = "", **more: Any) -> Driven:
    path = folder / "page.html"
    tr.explore(chain_of(tokens, **more), title="a text").save(path)
    return Driven(browser, path, link)


def units(shown: Driven) -> list[str]:
    return list(shown.page.locator(".flow span").all_text_contents())


def starts(shown: Driven) -> list[str]:
    return list(shown.page.locator(".flow .start").all_text_contents())


def test_texts_without_a_browser() -> None:
    nodes.run("text.test.js")


@pytest.mark.browser
def test_hostile_tokens_are_text(browser: Any, tmp_path: Path) -> None:
    shown = shown_text(browser, tmp_path, HOSTILE, special=(0, 11))
    seen = units(shown)
    assert seen[1:8] == [
        "</script><b>bold</b>", "<!--", "⟨U+202E⟩turned", "a⟨U+2028⟩b", "⟨U+D800⟩", "&amp;",
        "\"'><img src=x onerror=x()>",
    ]  # fmt: skip
    assert seen[8].startswith("qqq")
    assert 20 < len(seen[8]) < 100
    assert seen[9:11] == ["e\u0301", "👩‍👩‍👧"]
    assert shown.page.locator(".flow b, .flow img, .flow script").count() == 0
    shown.check()


@pytest.mark.browser
def test_a_text_is_read_by_click_shift_and_arrows(browser: Any, tmp_path: Path) -> None:
    words = ("The", "old", "bridge", "across", "the", "river", "was", "closed")
    shown = shown_text(browser, tmp_path, words, link="starts=0")
    flow = shown.page.locator(".flow span")
    flow.nth(2).click()
    assert starts(shown) == ["bridge"]
    flow.nth(5).click(modifiers=["Shift"])
    assert starts(shown) == ["bridge", "river"]
    flow.nth(5).click(modifiers=["Shift"])
    assert starts(shown) == ["bridge"]
    shown.page.keyboard.press("ArrowRight")
    assert starts(shown) == ["across"]
    shown.page.keyboard.press("Shift+ArrowRight")
    assert starts(shown) == ["across", "the"]
    flow.nth(0).hover()
    told = shown.page.locator(".tip").inner_text()
    assert "even" in told
    assert "rank" in told
    focused = shown.page.locator(".flow [tabindex]")
    assert focused.count() == 1
    assert "%" in (focused.get_attribute("aria-label") or "")
    shown.check()


@pytest.mark.browser
def test_arrows_go_from_line_to_line_and_a_drag_moves_the_start(browser: Any, tmp_path: Path) -> None:
    shown = shown_text(browser, tmp_path, tuple(f"word{i}" for i in range(60)), link="starts=2")
    spans = shown.page.locator(".flow span")
    spans.nth(2).focus()
    shown.page.keyboard.press("ArrowDown")
    box, below = spans.nth(2).bounding_box(), shown.page.locator(".flow .start").bounding_box()
    assert box and below  # noqa: PT018
    assert box["y"] + 10 < below["y"] < box["y"] + 60
    assert abs(below["x"] - box["x"]) < 60
    shown.page.keyboard.press("ArrowUp")
    assert starts(shown) == ["word2"]
    shown.page.keyboard.press("Space")
    assert shown.page.get_by_role("button", name="Pause").count() == 1
    spans.nth(4).hover()
    shown.page.mouse.down()
    for i in (5, 6, 7):
        spans.nth(i).hover()
    shown.page.mouse.up()
    spans.nth(9).hover()
    assert starts(shown) == ["word7"]
    shown.check()


@pytest.mark.browser
def test_a_text_from_the_right(browser: Any, tmp_path: Path) -> None:
    shown = shown_text(browser, tmp_path, HEBREW, link="starts=1", special=(0, 10))
    assert shown.page.locator(".flow p").get_attribute("dir") == "rtl"
    places = [box["x"] for box in (one.bounding_box() for one in shown.page.locator(".flow span").all()) if box]
    assert places[1] > places[2] > places[7], "words run from the right"
    assert places[4] < places[5], "and Latin words within them from the left"
    shown.page.locator(".flow .start").focus()
    shown.page.keyboard.press("ArrowLeft")
    assert starts(shown) == [HEBREW[2]]


@pytest.fixture(scope="module")
def text_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.html"
    tr.explore("The engineers found deep cracks in the piers of the old bridge.", layers=[-1]).save(path)
    return path


@pytest.mark.browser
def test_words_are_sums_of_pieces(browser: Any, text_page: Path) -> None:
    shown = Driven(browser, text_page, "bounces=3&pieces=true")
    shown.opened("Export")
    pieces, values = units(shown), shown.numbers()
    assert len(pieces) == len(values)
    shown.page.get_by_role("button", name="words").click()
    words = units(shown)
    assert len(words) < len(pieces)
    assert "".join(words) == "".join(pieces)
    place = next(i for i, (word, piece) in enumerate(zip(words, pieces, strict=False)) if word != piece)
    shown.page.locator(".flow span").nth(place).hover()
    told = shown.page.locator(".tip").inner_text()
    share = float(told.removeprefix(words[place]).split("%")[0]) / 100
    assert share == pytest.approx(values[place : place + 2].sum(), rel=0.06)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heads_of_a_text_have_the_colours_of_its_words(browser: Any, text_page: Path, scheme: str) -> None:
    shown = Driven(browser, text_page, scheme=scheme)
    shown.page.wait_for_function(STRIPS)
    assert shown.page.evaluate(STRIPS) == {"coloured": True, "strange": []}


@pytest.mark.browser
def test_what_is_said_of_words(browser: Any, text_page: Path) -> None:
    shown = Driven(browser, text_page, "without=sinks")
    said = shown.page.locator(".passage .note").inner_text()
    assert "struck through" in said
    assert "underlined" not in said, "what is left out is struck through instead"
    shown = Driven(browser, text_page, "bounces=0")
    word, share, times = shown.page.locator(".reading li").first.locator("span").all_inner_texts()
    count = shown.page.locator(".flow span").count()
    shown.page.get_by_role("button", name="pieces").click()
    tokens, pieces = shown.page.locator(".flow span").count(), shown.page.locator(".flow .start").count()
    assert (tokens > count, share) == (True, "100 %"), word
    assert float(times.split()[0]) == pytest.approx(tokens / pieces, abs=0.5), "each of its pieces has an even share"


STRIPS = """() => {
  const root = document.querySelector('main').shadowRoot
  const pixels = canvas => { const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, 1)
    return Array.from({length: canvas.width}, (_, x) => [...data.slice(4 * x, 4 * x + 4)]) }
  const bar = pixels(root.querySelector('.scale canvas'))
  const strips = [...root.querySelectorAll('.heads button:not(.absent) canvas')].flatMap(pixels)
  if (!strips.length || strips.some(pixel => !pixel[3])) return null
  const coloured = strips.filter(([r, g, b]) => Math.abs(r - g) + Math.abs(g - b) > 12)
  const strange = coloured.filter(pixel => !bar.some(other => other.every((x, c) => Math.abs(x - pixel[c]) < 3)))
  return {coloured: coloured.length > 0, strange: strange.slice(0, 3)}
}"""


@pytest.mark.browser
def test_high_contrast_keeps_the_heat_and_what_is_chosen(browser: Any, text_page: Path) -> None:
    shown = Driven(browser, text_page)
    shown.page.emulate_media(forced_colors="active")
    seen = shown.page.evaluate("""() => {
      const root = document.querySelector('main').shadowRoot, back = e => getComputedStyle(e).backgroundColor
      const [on, off] = ['true', 'false'].map(is => back(root.querySelector(`.segments [aria-pressed=${is}]`)))
      return {units: [...root.querySelectorAll('.flow span')].map(back), on, off}
    }""")
    assert len(set(seen["units"])) > 3
    assert seen["on"] != seen["off"]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("colours", ["magma", "viridis", "greys"])
def test_letters_stand_out_from_their_heat(browser: Any, text_page: Path, scheme: str, colours: str) -> None:
    shown = Driven(browser, text_page, f"colours={colours}", scheme=scheme)
    worst = shown.page.evaluate(CONTRAST)
    assert worst >= 4.5


CONTRAST = """() => {
  const flow = document.querySelector('main').shadowRoot.querySelector('.flow'), probe = flow.querySelector('span')
  const numbers = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number)
  const linear = x => x / 255 <= 0.03928 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4
  const light = c => { const [r, g, b] = numbers(c).map(linear)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  let worst = 21
  for (let i = 1; i < 64; i++) {
    probe.className = `h${i}`
    const style = getComputedStyle(probe), a = light(style.color), b = light(style.backgroundColor)
    worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05))
  }
  return worst
}"""


@pytest.mark.browser
def test_a_long_text_is_few_nodes_and_scrolls(browser: Any, tmp_path: Path) -> None:
    words = tuple(f"word{i}." if i % 9 == 8 else f"word{i}" for i in range(512))
    shown = shown_text(browser, tmp_path, words, link="starts=400", causal=True)
    count = """() => { const walker = document.createTreeWalker(document.querySelector('main').shadowRoot)
      let n = 0; while (walker.nextNode()) n++; return n }"""
    assert shown.page.evaluate(count) <= 2000
    assert "Causal" in shown.page.locator(".below").inner_text()
    sight = shown.page.locator(".sight")
    top = shown.page.locator(".flow").evaluate("flow => flow.scrollTop")
    assert top > 0, "the start is in sight"
    before = sight.bounding_box()
    shown.page.locator(".ribbon canvas").first.click(position={"x": 5, "y": 5})
    shown.page.wait_for_timeout(100)
    after = sight.bounding_box()
    assert shown.page.locator(".flow").evaluate("flow => flow.scrollTop") < top
    assert before
    assert after
    assert after["x"] < before["x"]
    shown.check()

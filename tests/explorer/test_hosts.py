"""Hosts that forbid something, files that were cut off anywhere, tokens that would be more than text, and memory."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tokenrank as tr
from tests.browser import Browser

from .driven import STILL, WATCH, Driven, policy_without

pytestmark = pytest.mark.browser

HOSTILE = [
    "</script><script>window.ran = 1</script>", "<!--", "<img src=x onerror='window.ran = 2'>", "\u202eabc\u202c",
    "a\u2028b", "\ud800", "nul\x00", "=cmd|' /C calc'!A0", '"><svg onload=window.ran=3>', "javascript:window.ran=4",
    "${window.ran=5}", "\u200b", "\ufeff", "&lt;b&gt;", "ك\u0301", "👩‍👩‍👧", "\x1b[31m",
]  # fmt: skip
LONG = "w" * 1_000_000


def changed(path: Path, folder: Path, text: str) -> Path:
    found = folder / path.name
    found.write_text(text, encoding="utf-8")
    return found


@pytest.mark.parametrize("lacking", ["worker", "wasm", "both", "fromBase64"])
def test_a_host_that_forbids_gives_the_same_numbers(
    browser: Browser, picture_page: Path, tmp_path: Path, lacking: str
) -> None:
    whole = Driven(browser, picture_page, "starts=40&bounces=3")
    wanted = whole.numbers()
    text = picture_page.read_text("utf-8")
    words = {"worker": ["worker-src blob:"], "wasm": [" 'wasm-unsafe-eval'"]}
    text = policy_without(
        text, *words.get(lacking, [" 'wasm-unsafe-eval'", "worker-src blob:"] if lacking == "both" else [])
    )
    before = f"() => {{ ({WATCH})(); delete Uint8Array.fromBase64 }}" if lacking == "fromBase64" else WATCH
    poor = Driven(browser, changed(picture_page, tmp_path, text), "starts=40&bounces=3", watch=before)
    assert np.abs(poor.numbers() - wanted).max() < 1e-6
    foot = poor.page.inner_text(".foot")
    assert ("slower here" in foot) == (lacking != "fromBase64")
    if lacking in ("worker", "both"):
        assert "workers are forbidden" in foot
    if lacking in ("wasm", "both"):
        assert "WebAssembly" in foot
    assert not poor.shown.outside


def test_cut_off_anywhere_it_says_a_sentence(browser: Browser, picture_page: Path, tmp_path: Path) -> None:
    text = picture_page.read_text("utf-8")
    body = text.index("<body>")
    path = tmp_path / "cut.html"
    for share in np.linspace(0.001, 0.999, 20):
        path.write_text(text[: body + int(share * (len(text) - body))], encoding="utf-8")
        shown = browser.open(path, before=WATCH)
        shown.page.evaluate(STILL)
        shown.page.wait_for_function(
            """() => {
          const main = document.querySelector('main'), root = main?.shadowRoot
          return /cut off|incomplete|Missing/.test(root ? root.textContent : document.body.innerText)
        }"""
        )
        assert [error for error in shown.errors if "Unexpected" not in error] == [], share
        shown.page.context.close()


def test_tokens_are_text_wherever_they_stand(browser: Browser, tmp_path: Path) -> None:
    tokens = [*HOSTILE, *("word" for _ in range(20)), LONG]
    count = len(tokens)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(count, 0.3), (2, count))
    chain = tr.AttentionChain(weights, layout=tr.TokenLayout.text(tokens))
    path = tmp_path / 'host\'s "file" & <b>.html'
    tr.explore(chain, title="</title><script>window.ran = 6</script>" + "t" * 10_000).save(path)
    page = Driven(browser, path)
    for tab in ("Heads", "Chain", "Groups", "Walk"):
        page.page.click(f"[role=tab]:has-text('{tab}')")
        page.still()
    for details in page.page.locator("details > summary").all():
        details.click()
    page.numbers()
    with page.page.expect_download() as download:
        page.page.click("button:text-is('SVG')")
    drawing = ElementTree.fromstring(Path(download.value.path()).read_text("utf-8"))
    drawn = {element.tag.rpartition("}")[2] for element in drawing.iter()}
    assert drawn <= {
        "svg",
        "g",
        "title",
        "rect",
        "text",
        "tspan",
        "image",
        "use",
        "filter",
        "feColorMatrix",
        "defs",
        "pattern",
    }
    page.page.click("button:has-text('Copy as Python')")
    page.still()
    root = "document.querySelector('main').shadowRoot"
    assert page.page.evaluate("() => window.ran") is None
    assert page.page.evaluate(f"() => {root}.querySelectorAll('img, script, b.x, iframe').length") == 0
    seen = str(page.page.evaluate(f"() => {root}.textContent"))
    assert HOSTILE[0] in seen  # as text
    assert len(seen) < 400_000  # what is too long for an eye is cut
    for bidi in ("\u202e", "\x00", "\x1b"):
        assert bidi not in seen
    page.check()


@pytest.mark.slow
def test_memory_is_flat_over_many_heads(browser: Browser, picture_page: Path) -> None:
    page = Driven(browser, picture_page)
    session = page.page.context.new_cdp_session(page.page)
    session.send("Performance.enable")
    session.send("HeapProfiler.enable")

    def held() -> tuple[float, float]:
        session.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return metrics["JSHeapUsedSize"] / 2**20, metrics["Nodes"]

    def heads(times: int) -> None:
        for turn in range(times):
            page.page.keyboard.press(str(turn % 6))
            page.page.evaluate("() => new Promise(done => requestAnimationFrame(done))")
        page.ready()

    page.page.locator(".picture canvas").focus()
    heads(30)
    before = held()
    heads(200)
    after = held()
    assert after[0] < before[0] + 3, (before, after)
    assert after[1] < before[1] + 50, (before, after)
    assert len(page.page.workers) == 1

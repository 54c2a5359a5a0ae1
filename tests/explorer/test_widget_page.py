"""The module as anywidget uses it, in a browser, with a model by hand: two views, no worker, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, Shown
from tests.explorer import made, nodes
from tokenrank.explorer.state import defaults

HOST = """<!doctype html><html lang=en><meta charset=utf-8><title>a notebook</title>{policy}
<div id=one></div><div id=other></div>
<script type=module>
import widget from './explorer.js'
import {{answer, modelOf}} from './model.js'
const [index, state] = await (await fetch('index.json')).json()
const blob = new Uint8Array(await (await fetch('blob.bin')).arrayBuffer())
window.models = [0, 1].map(() => {{
  const model = modelOf({{index: JSON.stringify(index), ...state}})
  model.python = ({{want}}) => want && setTimeout(() => {{
    const part = answer(want.at(-1), blob)
    model.receive({{part: new DataView(part.buffer)}})
  }})
  return model
}})
window.stops = [one, other].map((el, i) => widget.render({{model: window.models[i], el}}))
</script>"""
NO_WORKERS = "<meta http-equiv=Content-Security-Policy content=\"worker-src 'none'\">"


def opened(browser: Browser, folder: Path, policy: str = "") -> Shown:
    found = made.explorer()
    (folder / "index.json").write_text(json.dumps([found.index, defaults(found.index)]), encoding="utf-8")
    (folder / "blob.bin").write_bytes(b"".join(found.parts))
    (folder / "explorer.js").write_text(found.module(), encoding="utf-8")
    (folder / "model.js").write_text((nodes.FOLDER / "model.js").read_text("utf-8"), encoding="utf-8")
    (folder / "index.html").write_text(HOST.format(policy=policy), encoding="utf-8")
    shown = browser.open(f"{browser.serve(folder)}index.html")
    for place in ("#one", "#other"):
        shown.page.locator(f"{place} canvas").first.wait_for()
    return shown


def values(shown: Shown, name: str) -> list[Any]:
    return list(shown.page.evaluate("name => window.models.map(model => model.get(name))", name))


@pytest.mark.browser
def test_a_click_is_told_and_a_trait_moves_one_page(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path)
    canvas = shown.page.locator("#one canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 1.5 / made.COLUMNS * box["width"], "y": 2.5 / made.ROWS * box["height"]})
    shown.page.wait_for_function("() => window.models[0].get('starts')[0] === 14")  # CLS, two rows of six, one column
    assert values(shown, "starts")[1] != [14]
    shown.page.evaluate("() => window.models[1].receive({bounces: 7, direction: 'backward'})")
    shown.page.locator("#other .sentence", has_text="7 bounces").wait_for()
    assert values(shown, "bounces") == [2, 7]
    assert shown.page.evaluate("() => location.hash") == ""
    shown.page.evaluate("() => window.models[1].receive({layer: 0})")  # a thumbnail here
    shown.page.wait_for_function("() => window.models[1].get('layer') === 2")
    shown.check()


@pytest.mark.browser
def test_keys_of_one_view_are_its_own(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path)
    shown.page.evaluate("() => { window.heard = []; document.addEventListener('keydown', e => heard.push(e.key)) }")
    shown.page.locator("#one canvas").first.focus()
    shown.page.keyboard.press("b")
    shown.page.wait_for_function("() => window.models[0].get('direction') === 'backward'")
    assert values(shown, "direction") == ["backward", "forward"]
    assert shown.page.evaluate("() => one.dataset.lmSuppressShortcuts") == "true"


@pytest.mark.browser
def test_where_workers_are_forbidden_the_numbers_are_the_same(browser: Browser, tmp_path: Path) -> None:
    found = []
    for policy in ("", NO_WORKERS):
        folder = tmp_path / ("without" if policy else "with")
        folder.mkdir()
        shown = opened(browser, folder, policy)
        shown.page.evaluate("() => window.models[0].receive({bounces: 5})")
        shown.page.locator("#one .sentence", has_text="5 bounces").wait_for()
        shown.page.locator("#one").get_by_text("from TokenRank").first.wait_for()
        assert bool(shown.page.locator("#one").get_by_text("slower here").count()) == bool(policy)
        found.append(shown.page.locator("#one").get_by_label("Largest tokens").inner_text())
    assert found[0] == found[1]
    assert "%" in found[0]


@pytest.mark.browser
def test_nothing_is_left_behind(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path)
    shown.page.evaluate("() => window.stops[0]()")
    assert shown.page.evaluate("() => window.models.map(model => model.count() > 0)") == [False, True]
    assert shown.page.evaluate("() => one.shadowRoot.childElementCount") == 0
    shown.page.evaluate("() => window.models[0].receive({bounces: 3})")
    shown.page.locator("#other canvas").first.click(position={"x": 4, "y": 4})
    shown.page.wait_for_function("() => window.models[1].get('starts')[0] === 1")
    shown.check()

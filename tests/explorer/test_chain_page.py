"""The tabs Heads, Chain and Groups in a browser: what they show is what Python computed, and says of which chain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr
from tests.browser import DESK, PHONE, SCHEMES
from tokenrank.explorer.file import html
from tokenrank.explorer.index import build

from .driven import Driven
from .nodes import run

WORDS = (
    "the", "cat", "sat", "on", "the", "mat", "and", "then", "the", "dog", "ran", "off", "into", "the", "wide", "green",
    "park", "again",
)  # fmt: skip


def pairs(count: int, sizes: tuple[int, ...]) -> tr.AttentionChain:
    """Groups of tokens that attend to themselves, two heads, on a text."""
    torch.manual_seed(0)
    logits = torch.randn(2, count, count)
    begin = 0
    for size in sizes:
        logits[:, begin : begin + size, begin : begin + size] += 5
        begin += size
    return tr.AttentionChain.from_scores(logits, tr.TokenLayout.text(WORDS[:count]))


def shown_chain(
    browser: Any, folder: Path, chain: tr.AttentionChain, link: str, change: Any = None, **window: Any
) -> Any:
    """The page of a chain at a link, and its index."""
    index, parts = build(tr.observe(chain))
    if change:
        change(index)
    path = folder / "chain.html"
    path.write_text(html(index, parts), encoding="utf-8")
    return Driven(browser, path, link), index["sheets"][0]["layers"]


def column(shown: Driven, number: int) -> list[str]:
    return list(shown.page.locator(f".list tbody td:nth-child({number})").all_text_contents())


def test_words_of_numbers() -> None:
    run("mixture.test.js")


@pytest.mark.browser
def test_the_table_has_all_heads_sorts_them_and_chooses_one(browser: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    q, k = 2 * torch.randn(5, 18, 8), torch.randn(5, 18, 8)
    chain = tr.AttentionChain.from_qk(q, k, layout=tr.TokenLayout.text(WORDS[:18]))
    shown, layers = shown_chain(browser, tmp_path, chain, "tab=heads")
    heads = layers[0]["heads"]
    assert column(shown, 2) == ["0", "1", "2", "3", "4"]
    assert column(shown, 3) == [f"{head['lambda2']:.3f}" for head in heads]
    assert column(shown, 4) == [head["certificate"] for head in heads]
    assert column(shown, 5) == [f"{math.log(2) / -math.log(head['lambda2']):.1f}" for head in heads]
    assert column(shown, 6) == [f"{head['entropy']:.2f}" for head in heads]
    by_modulus = shown.page.get_by_role("button", name="|λ2|:")
    by_modulus.focus()
    shown.page.keyboard.press("Enter")
    order = sorted(range(5), key=lambda head: -heads[head]["lambda2"])
    assert column(shown, 2) == [str(head) for head in order]
    sorts = shown.page.locator(".list th").evaluate_all("cells => cells.map(cell => cell.getAttribute('aria-sort'))")
    assert sorts == ["none", "none", "descending", *["none"] * 6]
    shown.page.keyboard.press("Enter")
    assert column(shown, 2) == [str(head) for head in order[::-1]]

    shown.page.locator(".list tbody tr").nth(1).click()
    current = shown.page.locator(".list [aria-current=true]")
    assert current.locator("td").nth(1).inner_text() == str(order[-2])
    shown.page.wait_for_function(f"() => location.hash.includes('head={order[-2]}')")
    current.locator("button").focus()
    shown.page.keyboard.press("ArrowDown")
    shown.page.keyboard.press("Enter")
    assert current.locator("td").nth(1).inner_text() == str(order[-3])
    assert shown.page.locator(".list tbody button[tabindex='0']").count() == 1
    shown.check()


@pytest.mark.browser
def test_doubt_is_marked_in_the_table_and_in_the_plane(browser: Any, tmp_path: Path) -> None:
    def doubt(index: Any) -> None:
        layer = index["sheets"][0]["layers"][0]
        layer["heads"][1]["certificate"] = "uncertain"
        layer["chain"]["spectrum"][2]["certificate"] = "uncertain"

    shown, layers = shown_chain(browser, tmp_path, pairs(12, (6, 6)), "tab=heads", doubt)
    assert column(shown, 3)[1].startswith("≈ ")
    assert not column(shown, 3)[0].startswith("≈")
    assert "≈ marks 1 whose |λ2| is uncertain" in shown.page.inner_text(".list + .note")
    shown.page.get_by_role("tab", name="Chain").click()
    values = shown.page.locator(".plots .value")
    spectrum = layers[0]["chain"]["spectrum"]
    assert values.count() == len(spectrum)
    assert shown.page.locator(".plots .open").count() == 1
    values.nth(2).focus()
    told = shown.page.locator(".plots .note").inner_text()
    assert told.startswith(f"λ3 = {spectrum[2]['real']:.4f}".replace("-", "−"))
    assert "uncertain" in told
    assert told == values.nth(2).get_attribute("aria-label")
    shown.check()


@pytest.mark.browser
def test_eigenvalues_stand_where_they_are(browser: Any, tmp_path: Path) -> None:
    shown, layers = shown_chain(browser, tmp_path, pairs(12, (6, 6)), "tab=chain")
    places = shown.page.locator(".plots .value").evaluate_all(
        "all => all.map(c => [+c.getAttribute('cx'), +c.getAttribute('cy')])"
    )
    unit = float(shown.page.locator(".plots .unit").get_attribute("r"))
    for (x, y), value in zip(places, layers[0]["chain"]["spectrum"], strict=True):
        assert x == pytest.approx(120 + unit * value["real"], abs=0.01)
        assert y == pytest.approx(120 - unit * value["imaginary"], abs=0.01)
    second = shown.page.locator("circle.second").get_attribute("r")
    assert float(second) == pytest.approx(unit * layers[0]["chain"]["lambda2"])


@pytest.mark.browser
def test_the_chain_says_what_is_on_screen_instead(browser: Any, tmp_path: Path) -> None:
    shown, layers = shown_chain(browser, tmp_path, pairs(12, (6, 6)), "tab=chain")
    chain, heads = layers[0]["chain"], layers[0]["heads"]
    facts, decay = shown.page.locator(".facts"), shown.page.locator(".plots figcaption").nth(1)
    assert facts.inner_text().startswith(f"|λ2| = {chain['lambda2']:.3f}, proved.")
    assert "On screen" not in shown.page.inner_text("#panel-chain")
    assert f"α|λ2| = {0.99 * chain['lambda2']:.3f}" in decay.inner_text()
    assert shown.page.locator("path.second").count() == 1
    shown.page.keyboard.press("1")
    note = f"On screen: head 1, |λ2| {heads[1]['lambda2']:.3f} (proved)."
    shown.page.get_by_text(note).wait_for()
    assert f"α|λ2| = {0.99 * heads[1]['lambda2']:.3f}" in decay.inner_text()
    assert facts.inner_text().startswith(f"|λ2| = {chain['lambda2']:.3f}")  # still of the mixture, as the note says
    shown.page.keyboard.press("b")
    shown.page.get_by_text("attention traced back").wait_for()
    assert "no |λ2| is known" in decay.inner_text()
    assert shown.page.locator("path.second").count() == 0


@pytest.mark.browser
def test_groups_of_a_text_start_the_walk(browser: Any, tmp_path: Path) -> None:
    shown, layers = shown_chain(browser, tmp_path, pairs(12, (5, 7)), "tab=groups")
    found = layers[0]["chain"]["groups"]
    assert sorted(map(len, found["members"])) == [5, 7]
    legend = shown.page.locator(".legend button")
    assert legend.count() == 2
    assert f"{len(found['members'][0])} tokens" in legend.nth(0).inner_text()
    assert "".join(shown.page.locator(".partition span").all_text_contents()) == " ".join(WORDS[:12])
    colours = shown.page.locator(".partition span").evaluate_all(
        "all => all.map(s => getComputedStyle(s).borderBottomColor)"
    )
    assert len(set(colours)) == 2
    legend.nth(1).focus()
    assert shown.page.locator(".partition .faint").count() == 1
    shown.page.keyboard.press("Enter")
    starts = ",".join(map(str, found["members"][1]))
    shown.page.wait_for_function(f"() => location.hash.includes('starts={starts}')")
    assert legend.nth(1).get_attribute("aria-pressed") == "true"
    assert f"{len(found['members'][1])} tokens" in shown.page.inner_text("#sentence")
    cells = shown.page.locator(".coarse td").all_text_contents()
    assert len(cells) == 4
    assert cells[0].endswith("%")
    shown.check()


@pytest.mark.browser
def test_groups_of_a_picture_have_the_colours_of_the_legend(browser: Any, tmp_path: Path) -> None:
    rows = np.kron(np.eye(2), np.full((8, 8), 1 / 8)) * 0.98 + 0.02 / 16
    shown, _ = shown_chain(
        browser, tmp_path, tr.AttentionChain(rows[None], tr.TokenLayout.image(4, 4, 0)), "tab=groups"
    )
    pixels = shown.page.locator("canvas.partition").evaluate(
        """canvas => [0.25, 0.75].map(y => Array.from(canvas.getContext('2d')
        .getImageData(canvas.width / 2, y * canvas.height, 1, 1).data.slice(0, 3)))"""
    )
    swatches = shown.page.locator(".legend i").evaluate_all("all => all.map(i => i.style.background)")
    assert sorted(f"rgb({', '.join(map(str, pixel))})" for pixel in pixels) == sorted(swatches)
    shown.check()


@pytest.mark.browser
def test_a_chain_with_several_ends_shows_its_classes(browser: Any, tmp_path: Path) -> None:
    rows = np.eye(6)
    rows[2:, :] = 1 / 6
    chain = tr.AttentionChain(rows[None], tr.TokenLayout.text(WORDS[:6]))
    shown, layers = shown_chain(browser, tmp_path, chain, "tab=chain")
    assert not layers[0]["chain"]["unique"]
    panel = shown.page.inner_text("#panel-chain")
    assert "Without jumps (α = 1) the walk has no limit of its own" in panel
    assert "2 classes that are never left, 2 of a single absorbing token" in panel
    kinds = shown.page.locator(".kind")
    assert kinds.locator("b").all_text_contents() == ["2 absorbing", "4 transient"]
    assert kinds.nth(0).locator("button").all_text_contents() == ["the", "cat"]
    kinds.nth(0).locator("button").nth(1).click()
    shown.page.wait_for_function("() => location.hash.includes('starts=1')")
    assert shown.page.locator(".plots text", has_text="1 (2 ×)").count() == 1
    shown.check()


@pytest.mark.browser
def test_a_layer_without_chain_says_what_brings_it(browser: Any, tmp_path: Path) -> None:
    def without(index: Any) -> None:
        index["sheets"][0]["layers"][0]["chain"] = None

    shown, _ = shown_chain(browser, tmp_path, pairs(12, (6, 6)), "tab=chain", without)
    assert "Layer 0 is a thumbnail here, without spectrum and groups" in shown.page.inner_text("#panel-chain")
    shown.page.get_by_role("tab", name="Groups").click()
    assert "Layer 0 is a thumbnail here, without spectrum and groups" in shown.page.inner_text("#panel-groups")
    shown.check()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_tabs_fit(browser: Any, picture_page: Path, width: int, scheme: str) -> None:
    for tab in ("heads", "chain", "groups"):
        shown = Driven(browser, picture_page, f"tab={tab}", width=width, scheme=scheme)
        shown.shown.screenshot(f"{tab}-{width}-{scheme}")
        shown.check()
    wide = shown.page.locator(".list").count() and shown.page.locator(".list").evaluate(
        "e => e.scrollWidth > e.clientWidth"
    )
    assert not wide

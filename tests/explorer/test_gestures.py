"""The page of a picture, driven in a browser: every gesture and every control, and what they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import DESK, PHONE, SCHEMES, Browser

from .driven import Driven

pytestmark = pytest.mark.browser

TABS = ("Walk", "Heads", "Chain", "Groups")


@pytest.fixture
def opened(browser: Browser, picture_page: Path) -> Driven:
    return Driven(browser, picture_page)


def test_the_first_picture_says_what_it_is(opened: Driven) -> None:
    assert opened.said.startswith("2 bounces")
    assert re.match(r"2 bounces; 0\.\d\d from TokenRank", opened.value)
    assert opened.page.locator(".strip button").count() == 6
    opened.check()


def test_a_click_starts_the_walk_there(opened: Driven) -> None:
    opened.click(0.9, 0.1)
    before = opened.said
    opened.click(0.01, 0.99)
    assert "row 1, column" in before
    assert "row 8, column 1;" in opened.said
    opened.check()


def test_a_drag_answers_on_its_way(opened: Driven) -> None:
    opened.page.mouse.move(*opened.at(0.05, 0.5))
    opened.page.mouse.down()
    said = set()
    for step in range(1, 16):
        opened.page.mouse.move(*opened.at(0.05 + 0.06 * step, 0.5))
        opened.still()
        said.add(opened.said)
    opened.page.mouse.up()
    assert len(said) >= 8
    opened.check()


def test_shift_adds_a_start_and_takes_it_away(opened: Driven) -> None:
    opened.click(0.1, 0.1)
    alone = opened.said
    opened.click(0.9, 0.9, "Shift")
    assert "2 tokens" in opened.said
    opened.press("0")  # one head: the start is even over both
    opened.page.locator(".strip button").first.click()
    opened.still()
    assert sorted(opened.numbers())[-2:] == pytest.approx([0.5, 0.5])
    opened.click(0.9, 0.9, "Shift")
    opened.page.locator(".strip button").nth(2).click()
    opened.still()
    assert opened.said == alone


def test_arrows_move_the_start_and_stop_at_the_border(opened: Driven) -> None:
    opened.click(0.5, 0.5)
    here = opened.said
    opened.press("ArrowRight", "ArrowDown")
    moved = opened.said
    opened.press("ArrowLeft", "ArrowUp")
    assert moved != here
    assert opened.said == here
    opened.press(*["ArrowLeft"] * 10)
    assert "column 1;" in opened.said
    opened.press("Home")
    opened.check()


def test_the_slider_by_keyboard(opened: Driven) -> None:
    slider = opened.page.locator("input[aria-label='Number of bounces']")
    slider.focus()
    opened.press("Home")
    assert opened.said.startswith("The start")
    opened.press("End")
    assert opened.said.startswith("∞ bounces")
    opened.press("ArrowLeft")
    assert opened.said.startswith("20 bounces")


def test_direction_alpha_and_left_out_change_the_numbers(opened: Driven) -> None:
    first = opened.numbers()
    opened.page.click("text=Trace back")
    opened.still()
    back = opened.numbers()
    assert np.abs(first - back).max() > 1e-3
    opened.page.click("text=Follow attention")
    opened.page.locator("button:has-text('special tokens')").click()
    opened.ready()
    without = opened.numbers()
    assert first[0] > 0
    assert without[0] == 0
    assert without.sum() == pytest.approx(1, abs=1e-4)
    opened.page.wait_for_function("() => /special/.test(location.hash)")
    opened.check()


def test_the_board_is_a_grid_of_keys(opened: Driven) -> None:
    cell = opened.page.locator("[role=gridcell][tabindex='0']")
    assert cell.count() == 1
    cell.focus()
    before = opened.page.evaluate("() => document.querySelector('main').shadowRoot.activeElement.title")
    opened.press("ArrowDown")
    after = opened.page.evaluate("() => document.querySelector('main').shadowRoot.activeElement.title")
    assert after != before
    opened.press("Enter")
    opened.ready()
    assert opened.page.locator("[role=gridcell][aria-selected=true]").count() == 1


def test_the_list_of_largest_tokens_starts_the_walk(opened: Driven) -> None:
    name = opened.page.locator("ol[aria-label='Largest tokens'] button").nth(1)
    words = name.locator("span").first.inner_text()
    name.click()
    opened.still()
    assert words in opened.said


def test_the_table_of_heads_sorts_and_chooses(opened: Driven) -> None:
    opened.page.click("[role=tab]:has-text('Heads')")
    opened.still()
    header = opened.page.locator("th button:has-text('λ')").first
    header.click()
    opened.still()
    column = opened.page.locator("tbody tr td:nth-child(3)").all_inner_texts()
    values = [float(re.sub(r"[^\d.]", "", text)) for text in column]
    assert values in (sorted(values), sorted(values, reverse=True))
    assert opened.page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1
    opened.page.locator("tbody tr:not(.absent)").nth(2).click()
    opened.ready()
    assert re.search(r"head \d", opened.page.inner_text(".foot"))
    opened.check()


def test_chain_and_groups(opened: Driven) -> None:
    opened.page.click("[role=tab]:has-text('Chain')")
    opened.still()
    assert opened.page.locator("svg circle.value").count() >= 2
    opened.page.click("[role=tab]:has-text('Groups')")
    opened.still()
    groups = opened.page.locator("[aria-label='Groups'] button")
    if groups.count():
        groups.first.click()
        opened.still()
        assert "tokens" in opened.said or "row" in opened.said
    else:
        assert opened.page.locator("#panel-groups .note").first.inner_text()
    opened.check()


def test_exports(opened: Driven, tmp_path: Path) -> None:
    opened.opened("Export")
    for name, ending in (("PNG", "png"), ("SVG", "svg")):
        with opened.page.expect_download() as download:
            opened.page.click(f"button:text-is('{name}')")
        path = tmp_path / f"view.{ending}"
        download.value.save_as(path)
        assert download.value.suggested_filename.endswith(f".{ending}")
        if name == "PNG":
            image = np.asarray(Image.open(path).convert("RGB"))
            assert image.shape[1] >= 800
            assert image.std() > 20
        else:
            assert "<svg" in path.read_text("utf-8")
            assert "2 bounces" in path.read_text("utf-8")
    opened.check()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, 700, DESK])
def test_every_tab_fits_its_window(browser: Browser, picture_page: Path, width: int, scheme: str) -> None:
    page = Driven(browser, picture_page, width=width, scheme=scheme)
    for details in page.page.locator("details > summary").all():
        details.click()
    for tab in TABS:
        page.page.click(f"[role=tab]:has-text('{tab}')")
        page.still()
        page.check()


def test_dark_and_light(opened: Driven) -> None:
    colour = "() => getComputedStyle(document.querySelector('main').shadowRoot.querySelector('.explorer')).color"
    before = opened.page.evaluate(colour)
    opened.page.locator(".picture canvas").focus()
    opened.press("t")
    assert opened.page.evaluate(colour) != before


def test_full_screen(opened: Driven) -> None:
    opened.page.click("button[aria-label='Full screen']")
    opened.page.wait_for_function("() => document.fullscreenElement !== null")
    opened.check()

"""The picture view in a browser: gestures, slider, strip, board, reading, by what is on the screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser import PHONE, SCHEMES, Shown
from tests.explorer.pages import COLUMNS, COUNT, HEADS, ROWS, tiny
from tokenrank.explorer import file

CYAN, WHITE = (111, 227, 255), (255, 255, 255)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A page of 4 × 6 patches behind CLS, layers 1 and 2 of three."""
    made = tmp_path / "page.html"
    made.write_text(file.html(*tiny()), encoding="utf-8")
    return made


def opened(browser: Any, path: Path, link: str = "", **options: Any) -> Shown:
    """The page at a link, when its walk is there."""
    shown: Shown = browser.open(path, **options)
    if link:
        shown.page.goto(f"{path.as_uri()}#{link}")
        shown.page.reload()
    shown.page.locator(".curve span", has_text="from TokenRank").wait_for()
    return shown


def starts(shown: Shown) -> list[int]:
    """Where the walk starts, by the cyan marks on the canvas: tokens."""
    return marked(shown, CYAN)


def marked(shown: Shown, colour: tuple[int, int, int]) -> list[int]:
    """Tokens whose cells have a frame of this colour on all four sides."""
    found: list[int] = shown.page.evaluate(
        """([rows, columns, colour, near]) => new Promise(done => setTimeout(() => {
          const canvas = document.querySelector('main').shadowRoot.querySelector('.picture canvas')
          const {width, height} = canvas, {data} = canvas.getContext('2d').getImageData(0, 0, width, height), found = []
          const is = (x, y) => [-1, 0, 1].some(dx => [-1, 0, 1].some(dy => {
            const at = 4 * (Math.max(0, Math.min(height - 1, Math.round(y) + dy)) * width +
              Math.max(0, Math.min(width - 1, Math.round(x) + dx)))
            return colour.every((level, c) => Math.abs(data[at + c] - level) < near)
          }))
          for (let k = 0; k < rows * columns; k++) {
            const x = k % columns * width / columns, y = Math.floor(k / columns) * height / rows
            const w = width / columns, h = height / rows
            if (is(x, y + h / 2) && is(x + w, y + h / 2) && is(x + w / 2, y) && is(x + w / 2, y + h)) found.push(k + 1)
          }
          done(found)
        }, 150))""",
        [ROWS, COLUMNS, colour, 12 if colour == CYAN else 70],  # a line of white is thin
    )
    return found


def place(shown: Shown, token: int) -> dict[str, float]:
    """The middle of a patch on the canvas."""
    box = shown.page.locator(".picture canvas").bounding_box()
    k = token - 1
    return {"x": (k % COLUMNS + 0.5) * box["width"] / COLUMNS, "y": (k // COLUMNS + 0.5) * box["height"] / ROWS}


def click(shown: Shown, token: int, **options: Any) -> None:
    shown.page.locator(".picture canvas").click(position=place(shown, token), **options)


@pytest.mark.browser
def test_click_shift_click_and_keys_move_the_start(browser: Any, path: Path) -> None:
    shown = opened(browser, path)
    assert starts(shown) == [9]
    click(shown, 17)
    assert starts(shown) == [17]
    click(shown, 3, modifiers=["Shift"])
    assert starts(shown) == [3, 17]
    click(shown, 17, modifiers=["Shift"])
    assert starts(shown) == [3]
    click(shown, 3, modifiers=["Shift"])
    assert starts(shown) == [3], "the last start stays"
    for key, token in [("ArrowDown", 9), ("ArrowRight", 10), ("ArrowUp", 4), ("ArrowUp", 4), ("ArrowLeft", 3)]:
        shown.page.keyboard.press(key)
        assert starts(shown) == [token], key
    shown.page.keyboard.press("Shift+ArrowDown")
    assert starts(shown) == [3, 9]
    click(shown, 24)
    shown.page.keyboard.press("ArrowRight")
    assert starts(shown) == [24], "no way out of the picture"
    shown.page.keyboard.press("Home")
    assert starts(shown) == [9]
    shown.check()


@pytest.mark.browser
def test_every_crossed_cell_answers(browser: Any, path: Path) -> None:
    shown = opened(browser, path)
    box = shown.page.locator(".picture canvas").bounding_box()
    for token in range(13, 19):  # the third row, from left to right
        at = place(shown, token)
        shown.page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
        if token == 13:
            shown.page.mouse.down()
        assert starts(shown) == [token]
    shown.page.mouse.up()
    shown.page.mouse.move(box["x"] + 5, box["y"] + 5)
    assert starts(shown) == [18], "no button, no answer"


@pytest.mark.browser
def test_a_hover_is_marked_and_told(browser: Any, path: Path) -> None:
    shown = opened(browser, path)
    shown.page.locator(".picture canvas").hover(position=place(shown, 5))
    assert marked(shown, WHITE) == [5]
    told = shown.page.locator(".picture p").first
    assert re.fullmatch(rf"row 1, column 5: [\d.]+ %, [\d.]+ × even, rank \d+ of {COUNT}", told.inner_text())
    shown.page.mouse.move(2, 2)
    assert "Click or drag" in told.inner_text()


@pytest.mark.browser
def test_ranks_are_among_what_is_not_left_out(browser: Any, path: Path) -> None:
    shown = opened(browser, path, "without=special")
    shown.page.locator(".picture canvas").hover(position=place(shown, 5))
    assert shown.page.locator(".picture p").first.inner_text().endswith(f"of {COUNT - 1}")


@pytest.mark.browser
def test_a_finger_scrolls_the_page_taps_and_drags(browser: Any, path: Path) -> None:
    shown = opened(browser, path, width=PHONE, height=500)
    session = shown.page.context.new_cdp_session(shown.page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(*points: tuple[int, float, float]) -> None:
        box = shown.page.locator(".picture canvas").bounding_box()
        for i, (token, dx, dy) in enumerate(points):
            at = place(shown, token)
            where = [{"x": box["x"] + at["x"] + dx, "y": box["y"] + at["y"] + dy}]
            session.send("Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": where})
            shown.page.wait_for_timeout(20)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    touch((11, 0, 0))
    assert starts(shown) == [11]
    touch((13, 0, 0), *[(13, 20.0 * i, 0) for i in range(1, 6)])
    assert starts(shown)[0] in range(14, 19)
    touch((10, 0, 0))
    touch((14, 0, 0), *[(14, 0, -15.0 * i) for i in range(1, 9)])
    shown.page.wait_for_timeout(300)
    assert starts(shown) == [10]
    assert shown.page.evaluate("() => scrollY") > 0


@pytest.mark.browser
def test_slider_strip_and_curve_agree(browser: Any, path: Path) -> None:
    shown = opened(browser, path)
    slider = shown.page.get_by_role("slider", name="Number of bounces")
    strip = shown.page.get_by_role("group", name="The walk at a glance").get_by_role("button")
    assert strip.count() == 6
    for i, (n, words) in enumerate([(0, "The start"), (1, "1 bounce;"), (2, "2 bounces"), (4, "4 bounces"),
                                    (8, "8 bounces"), (21, "infinitely many bounces, TokenRank")]):  # fmt: skip
        strip.nth(i).click()
        assert slider.input_value() == str(n)
        assert words in slider.get_attribute("aria-valuetext")
        assert [strip.nth(j).get_attribute("aria-pressed") for j in range(6)] == [str(i == j).lower() for j in range(6)]
    assert slider.get_attribute("aria-valuetext").endswith("0.00 from TokenRank")
    slider.press("ArrowLeft")
    assert slider.input_value() == "20"
    point, svg = shown.page.locator(".curve i").bounding_box(), shown.page.locator(".curve svg").bounding_box()
    middle = (point["x"] + point["width"] / 2 - svg["x"]) / svg["width"]
    assert middle == pytest.approx(20 / 21, abs=0.01), "the point stands above the thumb"


@pytest.mark.browser
def test_playing_goes_to_tokenrank(browser: Any, path: Path) -> None:
    shown = opened(browser, path, "bounces=12")
    shown.page.get_by_role("button", name="Play the bounces").click()
    shown.page.get_by_role("button", name="Pause").wait_for()
    shown.page.get_by_role("button", name="Play the bounces").wait_for(timeout=6000)
    assert shown.page.get_by_role("slider", name="Number of bounces").input_value() == "21"


@pytest.mark.browser
def test_the_board_chooses_heads_and_explains_absent_ones(browser: Any, path: Path) -> None:
    shown = opened(browser, path)
    board = shown.page.get_by_role("grid", name="TokenRank and |λ2| of every head")
    cells = board.get_by_role("gridcell")
    assert cells.count() == 3 * HEADS
    cell = board.get_by_role("gridcell", name="layer 1, head 2")
    cell.click()
    assert cell.get_attribute("aria-selected") == "true"
    assert shown.page.get_by_role("combobox", name="Layer").input_value() == "1"
    assert board.locator("[tabindex='0']").count() == 1
    shown.page.keyboard.press("ArrowRight")  # layers stand side by side
    assert shown.page.evaluate("document.querySelector('main').shadowRoot.activeElement.ariaLabel").startswith(
        "layer 2, head 2"
    )
    shown.page.keyboard.press("ArrowUp")
    shown.page.keyboard.press("Enter")
    assert board.get_by_role("gridcell", name="layer 2, head 1").get_attribute("aria-selected") == "true"
    board.get_by_role("gridcell", name="layer 0, head 0").click()
    said = shown.page.locator(".board .notice")
    assert "tokenrank explore a.jpg --layers 0" in said.inner_text()
    assert board.get_by_role("gridcell", name="layer 2, head 1").get_attribute("aria-selected") == "true"
    shown.page.get_by_role("group", name="All heads").get_by_role("button", name="equally").click()
    assert board.locator("[aria-selected='true']").count() == 0
    assert not said.is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_phone_shows_the_layers_next_to_the_current_one(browser: Any, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "deep.html"
    path.write_text(file.html(*tiny(layers=9, stored=(1, 5))), encoding="utf-8")
    shown = opened(browser, path, "layer=5", width=PHONE, scheme=scheme)
    cells = shown.page.locator(".heads button:visible")
    assert cells.count() == 3 * HEADS
    shown.page.get_by_role("button", name="all layers").click()
    assert cells.count() == 9 * HEADS
    shown.page.locator(".heads button[aria-label^='layer 5, head 0']").focus()
    shown.page.keyboard.press("ArrowDown")  # layers stand below each other
    assert shown.page.evaluate("document.querySelector('main').shadowRoot.activeElement.ariaLabel").startswith(
        "layer 6, head 0"
    )
    shown.check()


@pytest.mark.browser
def test_a_list_entry_is_a_start(browser: Any, path: Path) -> None:
    shown = opened(browser, path, "bounces=1")
    rows = shown.page.get_by_role("list", name="Largest tokens").get_by_role("button")
    assert rows.count() == 5
    shares = [float(re.search(r"([\d.]+) %", row.inner_text())[1]) for row in rows.all()]  # type: ignore[index]
    assert shares == sorted(shares, reverse=True)
    chosen = next(row for row in rows.all() if row.inner_text().startswith("row"))
    y, x = map(int, re.match(r"row (\d), column (\d)", chosen.inner_text()).groups())  # type: ignore[union-attr]
    chosen.hover()
    token = 1 + (y - 1) * COLUMNS + x - 1
    assert marked(shown, WHITE) == [token] or starts(shown) == [token]
    chosen.click()
    assert starts(shown) == [token]


@pytest.mark.browser
def test_opacity_zero_is_the_picture_and_hidden_cells_are_grey(browser: Any, path: Path) -> None:
    shown = opened(browser, path, "bounces=1&opacity=0")
    colour = (
        "() => { const c = document.querySelector('main').shadowRoot.querySelector('.picture canvas')\n"
        "return [...c.getContext('2d').getImageData(c.width * 0.92, c.height * 0.1, 1, 1).data] }"
    )
    r, g, b, _ = shown.page.evaluate(colour)
    assert max(r, g, b) - min(r, g, b) > 40, "the picture of the test has colours"
    shown = opened(browser, path, "bounces=1&starts=6&hide=true")
    r, g, b, _ = shown.page.evaluate(colour)
    assert max(r, g, b) - min(r, g, b) <= 2


@pytest.mark.browser
def test_without_a_picture_a_map_is_not_drawn_over_the_last_one(browser: Any, tmp_path: Path) -> None:
    index, parts = tiny()
    index["sheets"][0]["picture"] = None
    path = tmp_path / "plain.html"
    path.write_text(file.html(index, parts), encoding="utf-8")
    shown = opened(browser, path, "bounces=2")
    pixel = """() => { const c = document.querySelector('main').shadowRoot.querySelector('.picture canvas')
      return [...c.getContext('2d').getImageData(c.width * 0.92, c.height * 0.1, 1, 1).data] }"""
    before = shown.page.evaluate(pixel)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"):
        shown.page.get_by_role("slider", name="Number of bounces").press(key)
    shown.page.wait_for_timeout(150)
    assert shown.page.evaluate(pixel) == before
    assert before[3] < 255, "there is something to see through"
    box = shown.page.locator(".picture canvas").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(COLUMNS / ROWS, abs=0.01)

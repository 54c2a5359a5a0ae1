"""What leaves the explorer, in a browser: copied lines of Python make the map on screen again; drawings are whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import tokenrank as tr

from .driven import Driven

TEXT = "The old bridge was closed because the engineers found deep cracks in it."
MOST = 2e-4  # largest difference of page and library

STATES = [
    "bounces=1", "bounces=4&direction=backward", "bounces=inf", "bounces=inf&direction=backward&alpha=0.9",
    "bounces=3&starts=2,5,9&alpha=0.85", "bounces=2&head=1", "bounces=2&head=uniform&starts=4", "bounces=0",
    "bounces=5&without=special&starts=3,7", "bounces=inf&without=special",
    "bounces=2&without=special&direction=backward&starts=6", "bounces=3&without=sinks&starts=4",
]  # fmt: skip


def lines_of(shown: Driven) -> str:
    """What is copied as Python."""
    shown.page.get_by_role("button", name="Copy as Python").click()
    lines = shown.page.get_by_label("Lines to copy").input_value()
    return str(lines)


def run(lines: str, observe: Callable[..., Any], count: int) -> np.ndarray:
    """The map that the lines make, zero where tokens were left out: (count,)."""
    body, last = lines.rsplit("\n", 1)
    assert last == "shown.show()"
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tr, "observe", observe)
        exec(body, names)
    values = np.zeros(count)
    values[names.get("kept", slice(None))] = names["shown"].values.double().numpy()
    return values


@pytest.fixture(scope="module")
def text_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.html"
    tr.explore(TEXT, layers=[-1]).save(path)
    return path


@pytest.fixture(scope="module")
def picture_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.html"
    tr.explore(tr.samples.path("chelsea"), size=112, layers=[-1], heads=[0, 2]).save(path)
    return path


@pytest.fixture(scope="module")
def observe() -> Callable[..., Any]:
    return cache(tr.observe)


@pytest.mark.browser
@pytest.mark.parametrize("link", STATES)
def test_the_lines_of_a_text_make_its_map(browser: Any, text_page: Path, observe: Any, link: str) -> None:
    shown = Driven(browser, text_page, link)
    shown.opened("Export")
    seen = shown.numbers()
    assert seen.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(run(lines_of(shown), observe, len(seen)) - seen).max() <= MOST
    shown.check()


@pytest.mark.browser
@pytest.mark.parametrize(
    "link", ["bounces=2", "bounces=3&head=2&direction=backward", "bounces=inf&head=uniform", "starts=0,20"]
)
def test_the_lines_of_a_picture_make_its_map(browser: Any, picture_page: Path, observe: Any, link: str) -> None:
    """Two of its heads are in the page: their weights stand in the lines."""
    shown = Driven(browser, picture_page, link)
    shown.opened("Export")
    seen, lines = shown.numbers(), lines_of(shown)
    assert ("weights = [" in lines) == ("head=" not in link)
    assert np.abs(run(lines, observe, len(seen)) - seen).max() <= MOST
    shown.check()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_drawings_of_a_text_and_of_a_picture(browser: Any, text_page: Path, picture_page: Path, width: int) -> None:
    for path, wanted in [(text_page, "bridge"), (picture_page, "<image")]:
        shown = Driven(browser, path, width=width)
        shown.opened("Export")
        found = {}
        for kind in ("SVG", "PNG"):
            with shown.page.expect_download() as download:
                shown.page.get_by_role("button", name=kind, exact=True).click()
            found[kind] = Path(download.value.path()).read_bytes()
            assert download.value.suggested_filename.endswith(f"-n2.{kind.lower()}")
        drawing = ElementTree.fromstring(found["SVG"])
        assert wanted in found["SVG"].decode()
        assert "stored as int16" in found["SVG"].decode()
        picture = Image.open(io.BytesIO(found["PNG"])).convert("RGB")
        assert picture.size == tuple(round(2 * float(drawing.get(side, ""))) for side in ("width", "height"))
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100, "something is on it"
        shown.check()


@pytest.mark.browser
def test_of_several_sources_the_lines_of_the_one_on_screen(browser: Any, tmp_path: Path, observe: Any) -> None:
    path = tmp_path / "two.html"
    tr.explore([TEXT, "It was closed for a year."], layers=[-1]).save(path)
    for sheet in (0, 1):
        shown = Driven(browser, path, f"sheet={sheet}")
        shown.opened("Export")
        seen, lines = shown.numbers(), lines_of(shown)
        assert lines.count("tr.observe") == 1
        assert np.abs(run(lines, observe, len(seen)) - seen).max() <= MOST


@pytest.mark.browser
def test_where_copying_is_forbidden_the_lines_are_selected(browser: Any, text_page: Path) -> None:
    shown = Driven(browser, text_page)
    shown.opened("Export")
    shown.page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError')) }"
    )
    lines = lines_of(shown)
    selected = shown.page.get_by_label("Lines to copy").evaluate(
        "box => box.value.slice(box.selectionStart, box.selectionEnd)"
    )
    assert selected == lines
    assert "may not copy" in shown.page.locator(".exporting [role=status]").inner_text()
    shown.check()

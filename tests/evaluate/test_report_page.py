"""The page of a report in a real browser: both widths, both themes, keyboard, print, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.browser import DESK, PHONE, SCHEMES, Browser, Shown
from tests.evaluate.protocol_cases import Listed, block, picture
from tests.evaluate.runs import Pictures, run_pictures
from tests.evaluate.test_report import Ratio
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.protocols import Saliency
from tokenrank.evaluate.report import collect, find_examples, write_report, write_results
from tokenrank.evaluate.runner import run
from tokenrank.models import load

pytestmark = pytest.mark.browser

METHODS = "tokenrank:layer=3:heads=uniform,column_sum,random,tokencut:layer=10,centre_prior"
HOSTILE = '<img src=x onerror="document.title=1">&' + "x" * 60


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with examples, of pictures with odd names and formats."""
    folder = tmp_path_factory.mktemp("report")
    sizes = [(64, 48), (48, 64), (96, 24), (64, 48)]
    keys = [HOSTILE, "b", "c", "d"]
    data = Listed(
        *(
            Sample(key, picture(w, h, seed), block(h, w, slice(h // 4, h // 2 + seed), slice(w // 4, w // 2 + seed)))
            for seed, (key, (w, h)) in enumerate(zip(keys, sizes, strict=True))
        )
    )
    protocol, model = Saliency(size=64, posts=("component",)), load("bundled")
    methods = protocol.methods(METHODS)
    done = run(protocol, data, model, methods, folder)
    results = collect(done, protocol, resamples=20)
    write_results(results, folder, find_examples(results, protocol, data, model, methods))
    return folder / "report.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_fits_and_needs_nothing_else(report: Path, browser: Browser, width: int, scheme: str):
    shown = browser.open(report, width=width, scheme=scheme)
    shown.check()
    assert shown.page.title() == "Saliency on listed: bundled"
    pictures = shown.page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt, i.clientWidth])")
    assert len(pictures) == 5 * 3 * 3
    assert all(complete and natural > 0 and alt and 20 < wide < width for complete, natural, alt, wide in pictures)
    assert contrast(shown) > 7
    assert shown.page.locator("text=onerror").count() > 0  # as text


def contrast(shown: Shown) -> float:
    """Of text on the page, as WCAG counts it."""
    style = shown.page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    levels = []
    for text in style:
        channels = np.array([int(x) for x in text[text.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        levels.append(float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(levels) / min(levels)


def test_themes_differ_and_follow_the_reader(report: Path, browser: Browser):
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = (browser.open(report, scheme=scheme).page.evaluate(paper) for scheme in SCHEMES)
    assert light == "rgb(255, 255, 255)"
    assert dark != light


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_dots_lie_where_their_numbers_say(report: Path, browser: Browser, width: int):
    page = browser.open(report, width=width).page
    ticks = page.evaluate(
        "[...document.querySelectorAll('.dots')[0].querySelectorAll('tfoot span span')].map(e => "
        "[parseFloat(e.textContent), (r => r.left + r.width / 2)(e.getBoundingClientRect())])"
    )
    dots = page.evaluate(
        "[...document.querySelectorAll('.dots')[0].querySelectorAll('tbody tr')].map(r => "
        "[parseFloat(r.cells[2].textContent), (b => b.left + b.width / 2)(r.querySelector('b').getBoundingClientRect())"
        "])"
    )
    (low, left), *_, (high, right) = ticks
    drawn = page.evaluate("document.querySelector('.dots .scale').clientWidth")
    assert drawn > (0.3 if width == DESK else 0.85) * width
    for value, place in dots:
        assert place == pytest.approx(left + (value - low) / (high - low) * (right - left), abs=1.5)


def test_tables_scroll_inside_themselves_by_keyboard(report: Path, browser: Browser):
    page = browser.open(report, width=PHONE).page
    wide = page.evaluate(
        "[...document.querySelectorAll('.table')].map(e => [e.scrollWidth > e.clientWidth, e.tabIndex, e.ariaLabel])"
    )
    assert any(scrolls for scrolls, _, _ in wide)
    assert all(index == 0 and label for _, index, label in wide)
    page.locator(".table[aria-label='All figures of the protocol']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")


def test_contents_lead_to_their_sections(report: Path, browser: Browser):
    page = browser.open(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#results"
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash))")
    assert len(targets) >= 6
    assert all(targets)
    page.click("nav a >> text=Run time")
    assert page.evaluate("document.querySelector('#run-time').getBoundingClientRect().top") < 900


def test_it_prints_on_white_without_cutting_tables(report: Path, browser: Browser, tmp_path: Path):
    page = browser.open(report, width=720, scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(
        "[...document.querySelectorAll('.table')].every(e => getComputedStyle(e).overflowX == 'visible')"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_report_of_few_images_warns_and_one_without_examples_opens(tmp_path: Path, browser: Browser):
    write_report(run_pictures(tmp_path, Pictures(19), protocol=Ratio()), Ratio(), resamples=10)
    shown = browser.open(tmp_path / "report.html", width=PHONE)
    shown.check()
    assert "These are figures of 19 images." in shown.page.inner_text(".warning")
    write_report(run_pictures(tmp_path / "more", Pictures(20), protocol=Ratio()), Ratio(), resamples=10)
    assert browser.open(tmp_path / "more" / "report.html").page.locator(".warning").count() == 0

"""Letters and the fonts that have them: fonts are looked at by what they contain."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from tokenrank.view import paper_style, render
from tokenrank.view.glyphs import drawable, fonts, glyph_notes, laid_out

RARE = "\U00010380"  # a cuneiform letter, which few machines have
OTHER = "\U000103a0"


def make_font(path: Path, name: str, letters: str, ink: bool = True) -> Path:
    """A font whose glyphs are full squares, or nothing."""
    names = [".notdef", *(f"u{ord(c):X}" for c in letters)]
    pen = TTGlyphPen(None)
    for i, point in enumerate([(50, 0), (50, 900), (950, 900), (950, 0)]):
        (pen.lineTo if i else pen.moveTo)(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in letters})
    builder.setupGlyf({glyph: square if ink and glyph != ".notdef" else nothing for glyph in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-200, usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def install(tmp_path: Path) -> Iterator[object]:
    """Installs made fonts for one test."""
    before = list(fontManager.ttflist)
    if drawable(RARE + OTHER) != "□□":
        pytest.skip("an installed font has the letters of this test")

    def add(name: str, letters: str, ink: bool = True) -> None:
        fontManager.addfont(str(make_font(tmp_path / f"{name}.ttf", name, letters, ink)))

    yield add
    fontManager.ttflist[:] = before


def test_a_letter_that_no_font_has_becomes_a_box_and_a_caption_says_so(install):
    assert drawable(f"a{RARE}b") == "a□b"
    (note,) = glyph_notes([f"a{RARE}b", RARE])
    assert note == (
        "2 characters that no font here has are drawn as □ (U+10380): install a font that has them, such as Noto Sans "
        "Ugaritic"
    )
    assert glyph_notes(["plain", "⏎"]) == []
    assert fonts(drawable(RARE)) == fonts() == ("DejaVu Sans",)


@pytest.mark.parametrize(
    ("letter", "font"),
    [("猫", "Noto Sans CJK"), ("ह", "Noto Sans Devanagari"), ("ก", "Noto Sans Thai"), ("🦥", "Noto Emoji")],
)
def test_the_font_to_install_is_named(letter: str, font: str):
    told = glyph_notes([letter])
    assert not told if drawable(letter) == letter else font in told[0]


def test_an_installed_font_is_found_by_its_letters(install):
    install("Any Name", RARE)
    assert drawable(RARE + OTHER) == RARE + "□"
    assert fonts(RARE + "a") == ("DejaVu Sans", "Any Name")
    assert fonts("a") == ("DejaVu Sans",)
    figure = Figure(figsize=(1, 1))
    with paper_style(RARE):
        figure.text(0.1, 0.1, drawable(RARE), fontsize=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = render(figure, "png", dpi=50)
    dark = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("L")) < 100
    assert dark.sum() > 300  # the square
    assert dark[dark.any(1)][:, dark.any(0)].all()


def test_which_font_draws_a_letter_does_not_depend_on_what_was_asked_before(install):
    install("B Sans", RARE + OTHER)
    install("C", RARE)
    assert fonts(RARE) == ("DejaVu Sans", "B Sans")
    assert fonts(OTHER) == ("DejaVu Sans", "B Sans")


def test_fonts_without_ink_and_fonts_of_signs_for_blocks_are_no_fonts(install):
    install("Empty Emoji", RARE, ink=False)
    install("Last Anything", RARE + "\U0010fffe")
    assert drawable(RARE) == "□"


def test_a_broken_font_is_passed_over(install, tmp_path: Path):
    install("Broken", RARE)
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    assert drawable(RARE) == "□"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [("a\nb", "a⏎b"), ("\x1b[0m", "⟨ESC⟩[0m"), ("e\u0301", "e\u0301"), ("שלום", "שלום"), ("a\u200db", "a\u200db")],
)
def test_drawable(text: str, drawn: str):
    assert drawable(text) == drawn


@given(st.text(max_size=20))
def test_whatever_is_drawable_has_a_glyph(text: str):
    drawn = drawable(text)
    assert len(drawn) >= len([c for c in text if unicodedata.category(c) not in ("Cf", "Mn")])
    figure = Figure(figsize=(2, 1))
    with paper_style(drawn):
        figure.text(0, 0, drawn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render(figure, "svg")


def test_letters_are_turned_where_matplotlib_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 11, 0, "final", 0))
    assert laid_out("שלום") == "שלום"
    assert not glyph_notes(["مرحبا"])
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 0, "final", 0))
    assert laid_out("שלום") == "םולש"
    assert laid_out("(בְּ)") == "(בְּ)"  # marks stay on their letter, brackets are turned
    assert laid_out("plain") == "plain"
    assert "should join" in glyph_notes(["مرحبا"])[0]
    assert not glyph_notes(["שלום"])

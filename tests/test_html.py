"""HTML pieces: what comes from outside is text, whatever it holds."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenrank import html


class Reader(HTMLParser):
    """Tags in order, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style", "alt", "src"}
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open, page
    page.encode("utf-8")  # notebooks are files
    return reader


HOSTILE = [
    "<script>alert(1)</script>",
    "'\" onload=x",
    "&lt;",
    "\ud800",
    "\x00\x1b[31m",
    "a\nb",
    "\u202eevil",
    "]]>",
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_outside_strings_are_text(text: str) -> None:
    empty = Image.new("RGB", (2, 2))
    pieces = [
        html.table([(text, text)], (text, text)),
        html.figure(html.image(empty, text), text),
        html.panel(text, html.note(text)),
        html.words([text, "##" + text, "Ġ" + text], [0.0, 0.5, 1.0]),
    ]
    for piece in pieces:
        assert not {"script", "b"} & set(read(piece).tags) or piece is pieces[2]
        assert "<script" not in piece


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    shown = read(f"<div>{html.escape(text)}</div>").text
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_table() -> None:
    page = read(html.table([("a", 1), ("b", 2.5)], ("", "number")))
    assert page.tags.count("tr") == 3
    assert page.tags.count("th") == 2
    assert page.text == "numbera1b2.5"


def test_board_says_how_many_are_left_out() -> None:
    assert "… and 1,008 more" in html.board(["<i>x</i>"], 1008)
    assert "more" not in html.board(["<i>x</i>"])


def test_words() -> None:
    assert read(html.words(["Ġcat", "s", "Ġ"], [0, 1, -1])).text == "cats ␣"
    assert read(html.words(["cat", "##s", "sat"], [0, 1, 0.5])).text == "cats sat"
    assert read(html.words(["▁cat", "on"], [0, 2])).text == "caton"
    assert "and 3 more tokens" in html.words(["x"] * 5, [0.5] * 5, most=2)
    assert "x" * 60 not in html.words(["x" * 5000], [1.0])


def test_words_that_run_from_the_right() -> None:
    assert "direction:rtl" in html.words(["שלום", "hello"], [0, 1])
    assert "direction:rtl" not in html.words(["hello", "שלום"], [0, 1])
    assert "inline-block" not in html.words(["שלום"], [0])  # which would stand in the order of the page, not the text's


def test_letters_of_a_cut_word_keep_their_forms() -> None:
    assert ">مرح\u200d</span><span" in html.words(["مرح", "##با"], [0, 0])


def test_words_that_outshine_the_others_have_no_tint() -> None:
    page = html.words(["[CLS]", "a", "b"], [1.0, 1.0, 0.0], outshining={0: "97 %"})
    first, second = page.split("<span")[1:3]
    assert "background" not in first
    assert "dashed" in first
    assert "97 %" in first
    assert "#8250dc99" in second


def test_five_thousand_words_are_below_300_kilobytes() -> None:
    words = [f"word{i % 97}" for i in range(5000)]
    page = html.words(words, [i / 5000 for i in range(5000)], most=5000)
    assert len(page.encode()) < 300_000
    assert read(page).text.split() == words
    assert "overflow:auto" in page

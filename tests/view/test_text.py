from __future__ import annotations

import dataclasses
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tests.tiny import SENTENCE, save_bert
from tokenrank import AttentionChain, TokenLayout, TokenMap
from tokenrank.analysis import Analysis, analyze
from tokenrank.errors import InputError
from tokenrank.models import load
from tokenrank.view import COLUMN, FULL, render, text_figure
from tokenrank.view.style import luminance

HOSTILE = [
    "$5",
    "$x_1$",
    "\\frac{1}",
    "<b>&amp;</b>",
    "new\nline",
    "tab\there",
    "\x1b[31m",
    "漢字",
    "\u202ertl",
    "😀",
    "%d{}",
]


def rows(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "scale"]


def tokens(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts[2:]]


def test_one_row_for_every_n_and_both_tokenranks(of_text: Analysis):
    figure = text_figure(of_text)
    heads = [(axes.texts[0].get_text(), axes.texts[1].get_text()) for axes in rows(figure)]
    assert heads == [
        ("n = 1", "row selection"),
        ("n = 2", "2 bounces"),
        ("n = 4", "4 bounces"),
        ("n = 8", "8 bounces"),
        ("TokenRank", "forward"),
        ("TokenRank", "backward"),
    ]
    for axes in rows(figure):
        assert tokens(axes) == SENTENCE.split()
    assert "layer 2 of 0–2" in " ".join(text.get_text() for text in figure.texts)


def test_no_row_is_selected_where_the_walk_starts_everywhere(of_text: Analysis):
    everywhere = analyze(of_text.observation)
    assert rows(text_figure(everywhere))[0].texts[1].get_text() == "one bounce"


def test_shade_follows_the_values_and_the_start_is_framed(of_text: Analysis):
    for axes, values in zip(
        rows(text_figure(of_text)), [m.values for m in (*of_text.bounces.values(), of_text.forward)], strict=False
    ):
        light = [luminance(torch.tensor(to_rgb(box.get_facecolor())).numpy()) for box in axes.patches]
        assert light[int(values.argmax())] == min(light)
        assert light[int(values.argmin())] == max(light)
    framed = [[box.get_linewidth() > 0 for box in axes.patches] for axes in rows(text_figure(of_text))]
    assert [row.index(True) for row in framed[:4]] == [1] * 4
    assert not any(map(any, framed[4:]))


def test_hostile_strings_are_drawn_as_they_are(tmp_path: Path):
    found = analyze(" ".join(HOSTILE), model=load(save_bert(tmp_path, HOSTILE)))
    assert found.source == tuple(HOSTILE)
    figure = text_figure(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as a glyph that no font has
        for form in ("png", "pdf", "svg"):
            assert render(figure, form)
    drawn = tokens(rows(figure)[0])
    for token in (
        "$5",
        "$x_1$",
        "\\frac{1}",
        "<b>&amp;</b>",
        "new⏎line",
        "tab⇥here",
        "\\x1b[31m",
        "\\u202ertl",
        "%d{}",
    ):
        assert token in drawn
    assert not any("\n" in token or "\x1b" in token for token in drawn)


def test_tokens_stay_on_the_page_and_do_not_overlap(tmp_path: Path):
    words = [*SENTENCE.split(), "W" * 300, "漢" * 40, "i"]
    found = analyze(" ".join(words), model=load(save_bert(tmp_path, words)))
    for width in (FULL, COLUMN):
        figure = text_figure(found, width)
        render(figure, "png", dpi=100)  # the figure's own, in which extents are given
        for axes in rows(figure):
            boxes = [box.get_window_extent() for box in axes.patches]
            assert max(box.x1 for box in boxes) <= figure.bbox.x1
            for one, other in pairwise(boxes):
                assert not one.overlaps(other)
            for text, box in zip(axes.texts[2:], boxes, strict=True):
                assert text.get_window_extent().width <= 1.03 * box.width + 1  # hinting


def test_short_texts_take_one_column(of_text: Analysis):
    assert text_figure(of_text).get_size_inches()[0] == COLUMN


def test_long_texts_are_cut_and_say_so(of_text: Analysis):
    count = 700
    values = torch.full((count,), 1 / count)
    even = TokenMap(values)
    long = dataclasses.replace(
        of_text,
        chain=AttentionChain(torch.eye(count), TokenLayout.text([f"w{i}" for i in range(count)])),
        bounces={1: even},
        forward=even,
        backward=even,
        start_values=values.double(),
    )
    figure = text_figure(long)
    assert len(tokens(rows(figure)[0])) == 600
    assert any("the first 600 of 700 tokens" in text.get_text() for text in figure.texts)
    assert figure.get_size_inches()[0] == FULL


def test_pictures_are_refused(of_picture: Analysis):
    with pytest.raises(InputError, match="use bounces_figure"):
        text_figure(of_picture)

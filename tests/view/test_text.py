from __future__ import annotations

import dataclasses
import io
import warnings
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import tokenrank as tr
from tests.tiny import SENTENCE, save_bert
from tokenrank import AttentionChain, TokenLayout, TokenMap
from tokenrank.analysis import Analysis, analyze
from tokenrank.errors import InputError
from tokenrank.markov.sinks import outshining
from tokenrank.models import load
from tokenrank.view import COLUMN, FULL, render, render_pages, save, text_figure, text_pages
from tokenrank.view.style import INK, Scale, luminance
from tokenrank.view.text import SINK

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


def placed(axes: Axes) -> list[tuple[float, float, str, str]]:
    """(left end, base line, text, colour) of all words, in inches, from left to right and down."""
    words = [(x, y, text, to_hex(artist.colour)) for artist in axes.artists for text, x, y in artist.words]
    return sorted(words, key=lambda word: (round(word[1] / 0.1), word[0]))


def tokens(axes: Axes) -> list[str]:
    return [text for _, _, text, _ in placed(axes)]


def boxes(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """(left, top, right, bottom) in inches of every token's box, and its luminance."""
    found = axes.collections[0]
    corners = np.array([[*path.vertices.min(0), *path.vertices.max(0)] for path in found.get_paths()])
    return corners, np.array([luminance(colour) for colour in found.get_facecolors()])


def frames(axes: Axes, colour: str) -> list[np.ndarray]:
    """Middles of the boxes that are framed in a colour."""
    return [
        (path.vertices.min(0) + path.vertices.max(0)) / 2
        for found in axes.collections
        if len(found.get_edgecolors()) and to_hex(found.get_edgecolors()[0]) == colour
        for path in found.get_paths()
    ]


def caption_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def made(of_text: Analysis, words: list[str], values: torch.Tensor | None = None, start: int | None = None) -> Analysis:
    """An analysis of other words, every map with the same values."""
    count = len(words)
    shown = TokenMap(torch.full((count,), 1 / count) if values is None else values)
    begin = torch.ones(count).double() if start is None else torch.eye(count)[start].double()
    chain = AttentionChain(torch.eye(count), TokenLayout.text(words))
    return dataclasses.replace(
        of_text, chain=chain, bounces={1: shown}, forward=shown, backward=shown, start_values=begin
    )


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
    assert "layer 2 of 0–2" in caption_of(figure)


def test_no_row_is_selected_where_the_walk_starts_everywhere(of_text: Analysis):
    everywhere = analyze(of_text.observation)
    figure = text_figure(everywhere)
    assert rows(figure)[0].texts[1].get_text() == "one bounce"
    assert "framed" not in caption_of(figure)


def test_shade_follows_the_values_and_the_start_is_framed(of_text: Analysis):
    figure = text_figure(of_text)
    maps = [m.values for m in (*of_text.bounces.values(), of_text.forward)]
    for axes, values in zip(rows(figure), maps, strict=False):
        _, light = boxes(axes)
        assert light[int(values.argmax())] == min(light)
        assert light[int(values.argmin())] == max(light)
    for axes in rows(figure)[:4]:
        (middle,) = frames(axes, INK)
        left, _, right, _ = boxes(axes)[0][1]
        assert middle[0] == pytest.approx((left + right) / 2)
    assert not any(frames(axes, INK) for axes in rows(figure)[4:])
    assert "framed: where the walk starts" in caption_of(figure)


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
        "⟨ESC⟩[31m",
        "⟨U+202E⟩rtl",
        "😀",
        "%d{}",
    ):
        assert token in drawn
    assert not any("\n" in token or "\x1b" in token or "\\u" in token for token in drawn)


def test_tokens_stay_on_the_page_and_do_not_overlap(tmp_path: Path):
    words = [*SENTENCE.split(), "W" * 300, "漢" * 40, "i"]
    found = analyze(" ".join(words), model=load(save_bert(tmp_path, words)))
    for width in (FULL, COLUMN):
        for axes in rows(text_figure(found, width)):
            corners, _ = boxes(axes)
            assert corners[:, 2].max() <= width
            for one, other in pairwise(corners):
                assert one[2] < other[0] or one[3] < other[1]
    narrow = text_figure(found, COLUMN)
    render(narrow, "png", dpi=100)
    assert all(text.get_window_extent().x0 >= 0 for text in narrow.texts)
    assert all(text.get_window_extent().x1 <= narrow.bbox.x1 + 1 for text in narrow.texts)


def test_words_lie_in_their_boxes(of_text: Analysis):
    """Measured in the picture: between the boxes there is no ink."""
    figure = text_figure(made(of_text, ["Wide", "jump", "ÄÖ", "i"], torch.tensor([0.1, 0.2, 0.3, 0.2])), COLUMN)
    corners, _ = boxes(rows(figure)[0])
    ink = np.asarray(PIL.Image.open(io.BytesIO(render(figure, "png", dpi=300))).convert("L")) < 140
    line = ink[round(300 * 0.05) : round(300 * 0.2)].any(0)
    for left, _, right, _ in corners:
        assert line[round(300 * left) : round(300 * right)].any()
    for before, after in pairwise(corners):
        assert not line[round(300 * before[2]) + 1 : round(300 * after[0]) - 1].any()


def test_words_are_not_broken_where_they_fit_the_next_line(of_text: Analysis):
    figure = text_figure(made(of_text, ["word", "##piece", "##s"] * 40), COLUMN)
    for axes in rows(figure):
        lines: dict[float, list[str]] = {}
        for _, base, text, _ in placed(axes):
            lines.setdefault(round(base, 3), []).append(text)
        assert all(line[-1] == "s" for line in lines.values())


def test_a_few_lines_are_equally_long(of_text: Analysis):
    for count in (12, 13, 20):
        ends: dict[float, float] = {}
        for left, base, _, _ in placed(rows(text_figure(made(of_text, ["word"] * count), COLUMN))[0]):
            ends[base] = max(ends.get(base, 0.0), left)
        assert len(ends) > 1
        assert max(ends.values()) - min(ends.values()) < 1.0


@pytest.mark.parametrize(
    ("words", "from_the_left"),
    [
        (["שלום", "עולם", "hello", "you", "12", "."], [".", "hello", "you", "12", "עולם", "שלום"]),
        (["hello", "שלום", "עולם", "."], ["hello", "עולם", "שלום", "."]),
    ],
)
def test_tokens_stand_in_reading_order(of_text: Analysis, words: list[str], from_the_left: list[str]):
    figure = text_figure(made(of_text, words), FULL)
    axes = rows(figure)[0]
    if matplotlib.__version_info__ >= (3, 11):
        assert tokens(axes) == from_the_left
    corners, _ = boxes(axes)
    if from_the_left[-1] == words[0]:
        assert corners[:, 2].max() == pytest.approx(FULL - 0.05)
    else:
        assert corners[:, 0].min() == pytest.approx(0.86)


def test_brackets_are_turned_and_letters_joined_where_a_line_runs_from_the_right(of_text: Analysis):
    drawn = tokens(rows(text_figure(made(of_text, ["مرح", "##با", "(", "ب", ")"])))[0])
    assert drawn[0] == "("
    assert drawn[2] == ")"
    if matplotlib.__version_info__ >= (3, 11):
        assert drawn[3:] == ["\u200dبا", "مرح\u200d"]


def test_sinks_are_hatched_named_and_left_out_of_the_scale(of_text: Analysis):
    values = torch.tensor([0.9, 0.01, 0.02, 0.03, 0.04])
    figure = text_figure(made(of_text, ["[CLS]", "a", "b", "c", "d"], values, start=1))
    axes = rows(figure)[0]
    _, light = boxes(axes)
    assert light[0] == pytest.approx(1)
    assert len(set(light[1:])) == 4  # all shades are for the others
    assert light[4] < 0.15
    assert "90 %" in tokens(axes)
    assert [found.get_hatch() for found in axes.collections if found.get_hatch()]
    assert len(frames(axes, SINK)) == 1
    assert "hatched: holds over 30 % of its map" in caption_of(figure)
    even = text_figure(made(of_text, ["[CLS]", "a", "b", "c", "d"]))
    assert "hatched" not in caption_of(even)
    assert "90 %" not in tokens(rows(even)[0])


@pytest.mark.parametrize(
    ("shares", "sinks"),
    [
        ([0.31, 0.29, 0.2, 0.1, 0.05, 0.05, 0.0], [True] + 6 * [False]),
        ([0.5, 0.5], [False, False]),  # an even share
        ([1.0], [False]),
        ([0.9, 0.05, -0.05, 0.1], 4 * [False]),  # no parts of a whole
        ([9.0, 0.5, 0.5, float("nan")], [True, False, False, False]),
        ([float("inf"), 0.1, 0.1, 0.1], 4 * [False]),
    ],
)
def test_what_outshines_a_map(shares: list[float], sinks: list[bool]):
    assert outshining(torch.tensor(shares)).tolist() == sinks
    assert outshining(torch.tensor([shares, shares])).tolist() == [sinks, sinks]


def test_one_scale_for_all_maps(of_text: Analysis):
    quiet = TokenMap(torch.tensor([0.24, 0.25, 0.25, 0.26]))
    loud = TokenMap(torch.tensor([0.05, 0.25, 0.25, 0.45]))
    found = dataclasses.replace(made(of_text, ["a", "b", "c", "d"]), bounces={1: quiet, 2: loud})

    def spread(scale: Scale) -> list[float]:
        return [float(np.ptp(boxes(axes)[1])) for axes in rows(text_figure(found, scale=scale))[:2]]

    each, shared = spread("each"), spread("shared")
    assert each[0] == pytest.approx(each[1], abs=0.05)
    assert shared[0] < 0.3 * shared[1]
    assert "one scale for all maps" in caption_of(text_figure(found, scale="shared"))
    with pytest.raises(InputError, match="expected 'each'"):
        text_figure(found, scale="both")


def test_short_texts_take_one_column(of_text: Analysis):
    assert text_figure(of_text).get_size_inches()[0] == COLUMN
    (page,) = text_pages(of_text)
    assert "page" not in caption_of(page)


@pytest.mark.parametrize("words", [["word"], ["", " ", "\n"], ["x" * 1000], ["\u200d"], ["漢"]])
def test_next_to_nothing(of_text: Analysis, words: list[str]):
    figure = text_figure(made(of_text, words))
    assert all(tokens(rows(figure)[0]))
    assert PIL.Image.open(io.BytesIO(render(figure, "png", dpi=50))).size[1] < 200


def test_long_texts_are_pages(of_text: Analysis):
    words = [f"w{i}" for i in range(700)]
    pages = text_pages(made(of_text, words, start=699))
    assert len(pages) > 1
    heights = {round(page.get_size_inches()[1], 3) for page in pages}
    assert len(heights) == 1
    assert heights.pop() <= 9.71
    seen = [tokens(rows(page)[0]) for page in pages]
    assert [token for page in seen for token in page] == words
    assert f"page 2 of {len(pages)}: tokens {len(seen[0])} to {len(seen[0]) + len(seen[1]) - 1} of 700" in caption_of(
        pages[1]
    )
    assert frames(rows(pages[-1])[0], INK)
    assert not frames(rows(pages[0])[0], INK)
    assert caption_of(text_figure(made(of_text, words))).startswith(caption_of(pages[0])[:60])


def test_pages_are_one_pdf_and_several_pictures(of_text: Analysis, tmp_path: Path):
    pages = text_pages(made(of_text, [f"word {i}" for i in range(300)]))[:2]
    names = [path.name for path in save(pages, tmp_path / "text", ("png", "pdf", "svg"), dpi=40)]
    pictures = [f"text{'' if n == 1 else f'-{n}'}" for n in range(1, len(pages) + 1)]
    assert names == [f"{name}.png" for name in pictures] + ["text.pdf"] + [f"{name}.svg" for name in pictures]
    pdf = (tmp_path / "text.pdf").read_bytes()
    assert f"/Count {len(pages)}".encode() in pdf
    (once,), (again,) = (render_pages(pages, "pdf", "made by a test") for _ in range(2))
    assert once == again
    assert b"made by a test" in once
    with pytest.raises(InputError, match="no figures"):
        render_pages([], "png")


def test_pages_end_somewhere_and_say_so(of_text: Analysis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tr.view.text, "MOST", 30)
    figure = text_figure(made(of_text, [f"w{i}" for i in range(40)]))
    assert "the first 30 of 40 tokens" in caption_of(figure)
    assert len(tokens(rows(figure)[0])) == 30


@pytest.mark.slow
def test_five_thousand_tokens_are_pages(of_text: Analysis):
    words = [f"{'abcdefghij'[i % 10] * (i % 7 + 1)}" for i in range(5000)]
    pages = text_pages(made(of_text, words))
    assert 5 < len(pages) < 40
    for form in ("png", "pdf"):
        assert render_pages(pages[:2], form, dpi=100)


def test_pictures_are_refused(of_picture: Analysis):
    with pytest.raises(InputError, match="use bounces_figure"):
        text_figure(of_picture)

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.analysis import Analysis
from tokenrank.chain.heat import heat_over
from tokenrank.errors import InputError, NotFoundError
from tokenrank.layout import TokenLayout
from tokenrank.markov import Lambda2
from tokenrank.view import FULL, board_figure, board_pages, render

GRID = (4, 6)


def trace_of(layers: int, heads: int, sink: tuple[int, int, int] | None = None, picture=None) -> tr.Observation:
    """Random attention of a picture; head ``sink[1]`` of layer ``sink[0]`` puts nearly all on patch ``sink[2]``."""
    generator = torch.Generator().manual_seed(layers)
    weights = []
    for layer in range(layers):
        logits = 2 * torch.randn(1, heads, 24, 24, generator=generator, dtype=torch.float64)
        if sink is not None and layer == sink[0]:
            logits[0, sink[1], :, sink[2]] += 9
        weights.append(logits.softmax(-1))
    layout = TokenLayout.image(*GRID, cls_tokens=0)
    image = picture or PIL.Image.new("RGB", (60, 40), "teal")
    return tr.observe(tr.from_attentions(weights, layout=layout), image=image)


def board(figure: Figure):
    return next(axes for axes in figure.axes if axes.get_label() == "board")


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_a_map_of_every_head_with_its_modulus(of_picture: Analysis):
    seen = of_picture.observation
    axes = board(board_figure(seen))
    assert len(axes.images) == 3 * 2
    ranks = [seen.head_chains(layer).tokenrank(0.99) for layer in (2, 1, 0)]  # the last layer stands at the top
    for place, image in enumerate(axes.images):
        drawn = image.get_array()
        grid = ranks[place // 2].grid()[place % 2]
        assert np.allclose(drawn, heat_over(seen.picture, grid, drawn.shape[:2]))
    moduli = [f"{float(value):.2f}" for layer in (2, 1, 0) for value in seen.lambda2(layer).values]
    shown = [text.get_text() for text in axes.texts]
    assert [word for word in shown if "." in word] == moduli
    assert {"head", "layer", "0", "1", "2"} <= set(shown)


def test_the_caption_says_what_is_seen(of_picture: Analysis):
    told = words(board_figure(of_picture.observation))
    assert "TokenRank forward of every head: where attention arrives" in told
    assert "below each: its |λ₂|, what each bounce keeps of the start" in told
    assert "colour: attention on a patch, each map on its own scale" in told
    assert "page" not in told
    assert "30 %" not in told
    back = words(board_figure(of_picture.observation, direction="backward", alpha=0.9, scale="shared"))
    assert "TokenRank backward" in back
    assert "α = 0.9" in back
    assert "1 = an even share (1/24), one scale for all maps" in back


def test_sinks_are_marked_and_left_out_of_the_scale():
    plain, marked = trace_of(3, 2), trace_of(3, 2, (1, 1, 9))
    axes = board(board_figure(marked))
    (ring,) = axes.lines
    image = axes.images[3]  # layer 1 is the second of three rows
    left, right, bottom, top = image.get_extent()
    x, y = ring.get_xydata()[0]
    assert (x - left) / (right - left) == pytest.approx((9 % 6 + 0.5) / 6)
    assert (y - top) / (bottom - top) == pytest.approx((9 // 6 + 0.5) / 4)
    held = float(marked.head_chains(1).tokenrank(0.99).values[1, 9])
    assert held > 0.9
    assert f"{held:.0%}" in [text.get_text() for text in axes.texts]
    assert "○ holds over 30 % of its map, together as written, and is left out of the colours" in words(
        board_figure(marked)
    )
    others = image.get_array()[: 20 * 4 // 10].reshape(-1, 3)
    assert np.ptp(others, axis=0).max() > 0.3, "the other patches have the whole scale"
    for of in (plain, marked):  # the shared scale does not know of it
        numbers = [text.get_text() for text in board_figure(of, scale="shared").texts if "×" in text.get_text()]
        assert float(numbers[0].removesuffix(" ×")) < 12


def test_uncertain_moduli_are_marked(of_picture: Analysis, monkeypatch: pytest.MonkeyPatch):
    seen = of_picture.observation

    def doubtful(layer=None, tokens=None) -> Lambda2:
        found = type(seen).lambda2(seen, layer, tokens)
        doubt = torch.ones_like(found.certificate.uncertain)
        certificate = type(found.certificate)(**{**vars(found.certificate), "uncertain": doubt})
        return Lambda2(found.values, certificate)

    monkeypatch.setattr(seen, "lambda2", doubtful)
    figure = board_figure(seen)
    assert sum(text.get_text().startswith("≈") for text in board(figure).texts) == 6
    assert "≈ uncertain" in words(figure)


@pytest.mark.parametrize(
    ("layers", "heads", "size", "pages"),
    [
        (1, 1, (60, 40), 1),
        (12, 12, (60, 60), 1),
        (3, 2, (400, 30), 1),
        (3, 2, (30, 400), 1),
        (24, 16, (60, 60), 2),
        pytest.param(24, 16, (60, 40), 1, marks=pytest.mark.slow),
        pytest.param(24, 16, (40, 60), 2, marks=pytest.mark.slow),
    ],
)
def test_many_heads_fit_pages(layers: int, heads: int, size: tuple[int, int], pages: int):
    seen = trace_of(layers, heads, picture=PIL.Image.new("RGB", size, "teal"))
    figures = board_pages(seen)
    assert len(figures) == pages
    assert words(board_figure(seen)) == words(figures[0])
    shown = []
    for page, figure in enumerate(figures, 1):
        width, height = figure.get_size_inches()
        assert width <= FULL
        assert height <= 9.4
        axes = board(figure)
        for image in axes.images:
            left, right, bottom, top = image.get_extent()
            assert (bottom - top) / (right - left) == pytest.approx(size[1] / size[0])
        drawn = PIL.Image.open(io.BytesIO(render(figure, "png", dpi=100)))
        assert drawn.size == pytest.approx((width * 100, height * 100), abs=1)
        for text in [*axes.texts, *figure.texts]:
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1 + 1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1 + 1
        first, last = (page - 1) * layers // pages, page * layers // pages - 1
        assert pages == 1 or f"page {page} of {pages}: layers {first}–{last} of {layers}; board_pages has all" in words(
            figure
        )
        shown += [image.get_array().shape for image in axes.images]
    assert len(shown) == layers * heads


def test_some_layers_can_be_chosen():
    seen = trace_of(6, 2)
    texts = [text.get_text() for text in board(board_figure(seen, layer=[1, -1])).texts]
    assert texts.index("5") < texts.index("1", texts.index("5"))
    assert len(board(board_figure(seen, layer=[1, -1])).images) == 4
    with pytest.raises(NotFoundError):
        board_figure(seen, layer=9)


def test_what_cannot_be_drawn_is_refused(of_text: Analysis, of_picture: Analysis):
    with pytest.raises(InputError, match="scale = 'all'"):
        board_figure(of_text.observation, scale="all")  # type: ignore[arg-type]
    weights = [torch.rand(1, 2, 9, 9).softmax(-1)]
    with pytest.raises(InputError, match=r"of a sound, .* sound_figure"):
        board_figure(tr.observe(tr.from_attentions(weights, layout=TokenLayout({"audio": 9}))))
    with pytest.raises(InputError, match="have no strings"):
        board_figure(tr.observe(tr.from_attentions(weights, layout=TokenLayout({"text": 9}))))
    with pytest.raises(InputError, match=r"give it: tr\.observe"):
        board_figure(tr.observe(of_picture.observation.trace))
    with pytest.raises(InputError, match="scale = 'all'"):
        board_figure(of_picture.observation, scale="all")  # type: ignore[arg-type]


def test_a_text_has_a_row_of_tokens_for_every_head(of_text: Analysis):
    seen = of_text.observation
    axes = board(board_figure(seen))
    ranks = [seen.head_chains(layer).tokenrank(0.99).values.numpy() for layer in range(len(seen.layers))][::-1]
    assert len(axes.images) == len(ranks)
    for image, values in zip(axes.images, ranks, strict=True):
        drawn = image.get_array()
        assert drawn.shape == (*values.shape, 3)
        light = drawn.mean(-1)
        for head in range(len(values)):  # the darker, the more
            assert light[head].argmin() == values[head].argmax() or values[head].max() > 0.3
    shown = [text.get_text() for text in axes.texts]
    assert "cat" in shown
    told = words(board_figure(seen))
    assert "on the right: its |λ₂|" in told
    assert "colour: attention on a token" in told


def test_sinks_of_a_text_are_framed_and_left_out_of_the_colours():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 9, 9, generator=generator, dtype=torch.float64)
    logits[0, 1, :, 4] += 9
    layout = TokenLayout({"text": 9}, tokens=tuple("abcdefghi"))
    seen = tr.observe(tr.from_attentions([logits.softmax(-1)], layout=layout))
    axes = board(board_figure(seen))
    (frame,) = axes.patches
    image = axes.images[0]
    left, right, bottom, top = image.get_extent()
    assert (frame.get_x() - left) / (right - left) == pytest.approx(4 / 9)
    assert (frame.get_y() - top) / (bottom - top) == pytest.approx(1 / 2)
    others = np.delete(image.get_array()[1].mean(-1), 4)
    assert np.ptp(others) > 0.5, "the other tokens have the whole scale"
    assert "framed: holds over 30 %" in words(board_figure(seen))


def test_long_texts_and_many_layers_fit_pages():
    generator = torch.Generator().manual_seed(0)
    tokens = tuple(f"word-{i}" for i in range(90))
    weights = [torch.randn(1, 12, 90, 90, generator=generator).softmax(-1) for _ in range(14)]
    seen = tr.observe(tr.from_attentions(weights, layout=TokenLayout({"text": 90}, tokens=tokens)))
    pages = board_pages(seen)
    assert len(pages) == 2
    places = []
    for figure in pages:
        width, height = figure.get_size_inches()
        assert width <= FULL
        assert height <= 9.4
        render(figure, "png", dpi=100)
        for text in [*board(figure).texts, *figure.texts]:
            box = text.get_window_extent()
            assert box.x0 >= figure.bbox.x0
            assert box.x1 <= figure.bbox.x1 + 1
            assert box.y1 <= figure.bbox.y1 + 1
        assert "the first 76 of 90 tokens" in words(figure)
        places.append(len(board(figure).images))
    assert sum(places) == 14

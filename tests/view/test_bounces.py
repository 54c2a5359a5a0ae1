from __future__ import annotations

import dataclasses
import io

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenrank import TokenLayout, TokenMap, at
from tokenrank.analysis import Analysis, analyze
from tokenrank.errors import InputError, LayoutError
from tokenrank.models import Model
from tokenrank.view import COLUMN, FULL, bounces_figure, map_figure, render
from tokenrank.view.bounces import heat_over


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "scale"]


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_one_panel_for_the_picture_every_n_and_both_tokenranks(of_picture: Analysis):
    figure = bounces_figure(of_picture)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles == ["picture", "n = 1", "n = 2", "n = 4", "n = 8", "TokenRank", "TokenRank"]
    below = [axes.texts[0].get_text() for axes in panels(figure)]
    assert below == ["start", "row selection", "2 bounces", "4 bounces", "8 bounces", "forward", "backward"]


def test_what_is_written_under_it(of_picture: Analysis):
    caption = words(bounces_figure(of_picture))
    assert "layer 2 of 0–2 (model.layer.2.attention)" in caption
    assert "2 heads weighted by |λ₂|" in caption
    assert f"|λ₂| = {float(of_picture.chain_lambda2.values):.2f}" in caption
    assert "α = 0.99" in caption


def test_one_head_is_named_and_uncertainty_shown(vit: Model, picture: PIL.Image.Image):
    found = analyze(picture, model=vit, heads=1, layer=0)
    doubt = dataclasses.replace(found.chain_lambda2.certificate, uncertain=torch.tensor(True))
    doubtful = dataclasses.replace(found.chain_lambda2, certificate=doubt)
    caption = words(bounces_figure(dataclasses.replace(found, chain_lambda2=doubtful)))
    assert "head 1 of 0–1" in caption
    assert "|λ₂| ≈" in caption
    assert "weighted evenly" in words(bounces_figure(analyze(picture, model=vit, heads="uniform")))
    some = words(bounces_figure(analyze(picture, model=vit, heads=[0, -1])))
    assert "heads 0, 1 of 0–1 weighted evenly, together |λ₂|" in some


def test_start_is_marked_where_the_walk_begins_and_not_on_tokenrank(of_picture: Analysis):
    marks = [[line.get_xydata().tolist() for line in axes.lines] for axes in panels(bounces_figure(of_picture))]
    assert all(point == [[0.9, 0.1]] for panel in marks for point in panel)
    assert [bool(panel) for panel in marks] == [True] * 5 + [False] * 2


def test_start_tokens_are_framed(vit: Model, picture: PIL.Image.Image):
    first = panels(bounces_figure(analyze(picture, model=vit, start=[0, 23])))[0]
    corners = [patch.get_xy() for patch in first.patches]
    assert corners == [(0, 0), pytest.approx((5 / 6, 3 / 4))]
    everywhere = panels(bounces_figure(analyze(picture, model=vit, start="image")))[0]
    assert not everywhere.patches
    assert everywhere.texts[0].get_text() == "start: everywhere"


def test_sizes(of_picture: Analysis):
    for width, panels_in_a_row in ((FULL, 7), (COLUMN, 4)):
        figure = bounces_figure(of_picture, width)
        drawn = PIL.Image.open(io.BytesIO(render(figure, "png", dpi=200)))
        assert drawn.size[0] == round(width * 200)
        assert drawn.size[1] == pytest.approx(figure.get_size_inches()[1] * 200, abs=1)
        tops = [round(axes.get_position().y1, 3) for axes in panels(figure)]
        assert tops.count(tops[0]) == panels_in_a_row
        first = panels(figure)[0].get_window_extent()
        assert first.height / first.width == pytest.approx(40 / 60, rel=0.01)


def test_nothing_overlaps_or_leaves_the_page(of_picture: Analysis):
    for width in (FULL, COLUMN):
        figure = bounces_figure(of_picture, width)
        render(figure, "png", dpi=100)  # the figure's own, in which extents are given
        boxes = [axes.get_tightbbox() for axes in panels(figure)]
        page = figure.bbox
        for box in [*boxes, *(text.get_window_extent() for text in figure.texts)]:
            assert box.x0 >= page.x0
            assert box.x1 <= page.x1 + 1
            assert box.y0 >= page.y0
            assert box.y1 <= page.y1 + 1
        for i, one in enumerate(boxes):
            assert not any(one.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("size", [(2000, 20), (20, 2000), (1, 1)])
def test_slim_pictures_get_panels_that_can_be_seen(vit: Model, size: tuple[int, int]):
    figure = bounces_figure(analyze(PIL.Image.new("RGB", size, "teal"), model=vit))
    box = panels(figure)[0].get_window_extent()
    assert 0.3 < box.height / box.width < 3
    assert PIL.Image.open(io.BytesIO(render(figure, "png"))).size[1] < 1500


def test_many_bounces_are_wrapped(vit: Model, picture: PIL.Image.Image):
    figure = bounces_figure(analyze(picture, model=vit, bounces=range(1, 12)))
    assert len(panels(figure)) == 14
    assert len({round(axes.get_position().y1, 3) for axes in panels(figure)}) == 4


def test_heat_lies_where_the_map_is_high():
    values = torch.zeros(24)
    values[1 * 6 + 4] = 1
    heat = TokenMap(values, TokenLayout({"image": 24}, {"image": (4, 6)}))
    drawn = heat_over(PIL.Image.new("RGB", (60, 40)), heat, (80, 120)).sum(-1)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (row // 20, column // 20) == (1, 4)
    assert drawn[60:, :60].max() < 0.1 * drawn.max()


def test_a_map_is_drawn_with_its_picture(picture: PIL.Image.Image):
    values = torch.zeros(24)
    values[1 * 6 + 4] = 1
    heat = TokenMap(values, TokenLayout({"image": 24}, {"image": (4, 6)}), picture=picture)
    figure = map_figure(heat, "rollout", "layer 1 of 3, heads lambda2")
    (panel,) = panels(figure)
    assert panel.get_title() == "rollout"
    assert "layer 1 of 3, heads lambda2" in words(figure)
    box = panel.get_window_extent()
    assert box.height / box.width == pytest.approx(40 / 60, rel=0.01)
    size = panel.images[0].get_array().shape[:2]
    assert (panel.images[0].get_array() == heat_over(picture, heat, size)).all()
    render(figure, "png", dpi=100)
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1 + 1
    with pytest.raises(InputError, match="does not know its picture"):
        map_figure(TokenMap(values, heat.layout))


def test_grey_picture_shines_through():
    flat = TokenMap(torch.full((24,), 1 / 24), TokenLayout({"image": 24}, {"image": (4, 6)}))
    half = np.zeros((40, 60, 3), dtype=np.uint8)
    half[:, 30:] = 255
    drawn = heat_over(PIL.Image.fromarray(half), flat, (40, 60))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (drawn[:, 50] - drawn[:, 10]).min() > 0.3


def test_names_with_markup_are_drawn_as_they_are(vit: Model, picture: PIL.Image.Image):
    renamed = dataclasses.replace(vit, name="my $\\frac{1$ <b>\nmodel")
    figure = bounces_figure(analyze(picture, model=renamed))
    assert "my $\\frac{1$ <b>⏎model" in words(figure)
    for form in ("png", "pdf", "svg"):
        assert render(figure, form)


def test_text_and_unknown_grids_are_refused(of_text: Analysis, of_picture: Analysis):
    with pytest.raises(InputError, match="use text_figure"):
        bounces_figure(of_text)
    with pytest.raises(InputError, match=r"give it: tr\.observe"):
        bounces_figure(analyze(of_picture.observation.trace))
    blind = {n: TokenMap(found.values) for n, found in of_picture.bounces.items()}
    with pytest.raises(LayoutError):
        bounces_figure(dataclasses.replace(of_picture, bounces=blind, start=at(0.5, 0.5)))

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
from tokenrank.chain import Start
from tokenrank.chain.heat import heat_over
from tokenrank.errors import InputError, LayoutError
from tokenrank.models import Model
from tokenrank.tasks import segment
from tokenrank.view import COLUMN, FULL, bounces_figure, map_figure, render
from tokenrank.view.bounces import _mask
from tokenrank.view.caption import draw_scale, times_words


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "scale"]


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_one_panel_for_the_picture_every_n_and_both_tokenranks(of_picture: Analysis):
    figure = bounces_figure(of_picture)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles == ["picture", "n = 1", "n = 2", "n = 4", "n = 8", "mask, n = 2", "TokenRank", "TokenRank"]
    below = [axes.texts[0].get_text() for axes in panels(figure)]
    steps = ["row selection", "2 bounces", "4 bounces", "8 bounces"]
    assert below == ["start", *steps, "above the mean", "forward", "backward"]


def test_what_is_written_under_it(of_picture: Analysis):
    caption = words(bounces_figure(of_picture))
    assert "layer 2 of 0–2 (model.layer.2.attention)" in caption
    assert "2 heads weighted by |λ₂|" in caption
    assert f"|λ₂| = {float(of_picture.chain_lambda2.values):.2f}" in caption
    assert "|λ₂|: what each bounce keeps of the start" in caption
    assert "α = 0.99" in caption
    assert "colour: attention on a patch, each map on its own scale" in caption
    assert "percentiles of each map" in caption


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
    assert [bool(panel) for panel in marks] == [True] * 6 + [False] * 2


def test_start_tokens_are_framed(vit: Model, picture: PIL.Image.Image):
    first = panels(bounces_figure(analyze(picture, model=vit, start=[0, 23])))[0]
    corners = [patch.get_xy() for patch in first.patches]
    assert corners == [(0, 0), pytest.approx((5 / 6, 3 / 4))]
    everywhere = panels(bounces_figure(analyze(picture, model=vit, start="image")))[0]
    assert not everywhere.patches
    assert everywhere.texts[0].get_text() == "start: everywhere"


def test_sizes(of_picture: Analysis):
    for width, panels_in_a_row in ((FULL, 8), (COLUMN, 4)):
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


@pytest.mark.parametrize("width", [FULL, COLUMN])
@pytest.mark.parametrize(
    "size", [(1300, 100), (100, 1300), (60, 60), (60, 40), (40, 60), (2000, 20), (20, 2000), (1, 1)]
)
def test_pictures_keep_their_aspect(vit: Model, size: tuple[int, int], width: float):
    figure = bounces_figure(analyze(PIL.Image.new("RGB", size, "teal"), model=vit), width)
    for axes in panels(figure):
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(size[1] / size[0], rel=1e-6)
        if max(size) / min(size) < 20:
            assert min(box.width, box.height) / figure.dpi > 0.15  # inches: it can be seen
    drawn = PIL.Image.open(io.BytesIO(render(figure, "png", dpi=100)))
    assert drawn.size[1] < 900
    boxes = [axes.get_tightbbox() for axes in panels(figure)]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0
        assert one.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 <= one.y0
        assert one.y1 <= figure.bbox.y1 + 1
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("start", [at(0.9, 0.1), at(0.2, 0.6), [0, 23]])
@pytest.mark.parametrize("bounces", [(1, 2, 4), (1, 3)])
def test_the_mask_is_what_segment_cuts_out(
    vit: Model, picture: PIL.Image.Image, start: Start, bounces: tuple[int, ...]
):
    found = analyze(picture, model=vit, start=start, bounces=bounces)
    panel = panels(bounces_figure(found))[-3]
    steps = 2 if 2 in bounces else max(bounces)
    assert panel.get_title() == f"mask, n = {steps}"
    if isinstance(start, list):
        place = found.start_values.reshape(4, 6).numpy().repeat(10, 0).repeat(10, 1) > 0
    else:
        place = start
    cut = segment(found.observation, place, layer=found.layer, heads=found.heads, n=steps).labels == 1
    assert cut.shape == (40, 60)
    assert (_mask(found.bounces[steps], found.observation.size) == cut).all()
    assert not (cut[::10, ::10].repeat(10, 0).repeat(10, 1) == cut).all(), "at the picture's resolution"
    drawn = panel.images[0].get_array()
    grey = np.ptp(drawn, axis=-1) < 1e-9  # red and blue in the mask, grey beyond
    rows, columns = (
        ((np.arange(count) + 0.5) / count * of).astype(int) for count, of in zip(grey.shape, (40, 60), strict=True)
    )
    assert (~grey == cut[rows][:, columns]).mean() > 0.93, "but for the soft border"
    assert panel.collections, "its line"


def test_without_two_bounces_the_mask_is_of_the_most(vit: Model, picture: PIL.Image.Image):
    titles = [axes.get_title() for axes in panels(bounces_figure(analyze(picture, model=vit, bounces=(1, 3))))]
    assert titles == ["picture", "n = 1", "n = 3", "mask, n = 3", "TokenRank", "TokenRank"]


def test_an_even_map_has_no_mask(of_picture: Analysis):
    even = dataclasses.replace(of_picture.bounces[2], values=torch.full((24,), 1 / 24))
    panel = panels(bounces_figure(dataclasses.replace(of_picture, bounces={2: even})))[2]
    assert panel.texts[0].get_text() == "empty"
    assert not panel.collections


def test_maps_on_one_scale_can_be_compared(of_picture: Analysis):
    each, shared = (panels(bounces_figure(of_picture, scale=scale)) for scale in ("each", "shared"))
    heats = [*of_picture.bounces.values(), of_picture.forward, of_picture.backward]
    ends = np.percentile(np.concatenate([heat.grid().numpy().ravel() for heat in heats]), (1, 99))
    drawn = [axes.images[0].get_array() for place, axes in enumerate(shared) if place not in (0, 5)]
    for heat, image in zip(heats, drawn, strict=True):
        expected = heat_over(of_picture.observation.picture, heat.grid(), image.shape[:2], tuple(ends))
        assert np.allclose(image, expected)
    assert not np.allclose(each[1].images[0].get_array(), drawn[0])
    caption = words(bounces_figure(of_picture, scale="shared"))
    assert "1 = an even share (1/24), one scale for all maps" in caption
    for end in ends:
        assert f"{24 * end:.2g}" in caption
    assert [times_words(value) for value in (0, 1e-5, 0.0193, 5.52, 99.7, 1234.5)] == [
        "0", "0", "0.019", "5.5", "100", "1,234",
    ]  # fmt: skip
    with pytest.raises(InputError, match="scale = 'all'"):
        bounces_figure(of_picture, scale="all")  # type: ignore[arg-type]


def test_a_scale_of_large_multiples_stays_on_the_page(of_picture: Analysis):
    peak = torch.full((24,), 1e-9)
    peak[3] = 1 - 23e-9
    maps = {2: dataclasses.replace(of_picture.bounces[2], values=peak)}
    figure = Figure(figsize=(2, 1))
    draw_scale(figure, "magma", 1.96, 0.1, ends=(0.0, 0.9), count=100_000)
    for drawn in (figure, bounces_figure(dataclasses.replace(of_picture, bounces=maps), COLUMN, "shared")):
        render(drawn, "png", dpi=100)
        for text in drawn.texts:
            assert text.get_window_extent().x1 <= drawn.bbox.x1 + 1


def test_many_bounces_are_wrapped(vit: Model, picture: PIL.Image.Image):
    figure = bounces_figure(analyze(picture, model=vit, bounces=range(1, 12)))
    assert len(panels(figure)) == 15
    assert len({round(axes.get_position().y1, 3) for axes in panels(figure)}) == 4


def test_heat_lies_where_the_map_is_high():
    values = torch.zeros(24)
    values[1 * 6 + 4] = 1
    heat = TokenMap(values, TokenLayout({"image": 24}, {"image": (4, 6)}))
    drawn = heat_over(PIL.Image.new("RGB", (60, 40)), heat.grid(), (80, 120)).sum(-1)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (row // 20, column // 20) == (1, 4)
    assert drawn[60:, :60].max() < 0.1 * drawn.max()


def test_a_map_is_drawn_with_its_picture(picture: PIL.Image.Image):
    values = torch.zeros(24)
    values[1 * 6 + 4] = 1
    heat = TokenMap(values, TokenLayout({"image": 24}, {"image": (4, 6)}), picture=picture)
    figure = map_figure(heat, "rollout", "layer 1 of 0–2, heads lambda2")
    (panel,) = panels(figure)
    assert panel.get_title() == "rollout"
    assert "layer 1 of 0–2, heads lambda2" in words(figure)
    box = panel.get_window_extent()
    assert box.height / box.width == pytest.approx(40 / 60, rel=0.01)
    size = panel.images[0].get_array().shape[:2]
    assert (panel.images[0].get_array() == heat_over(picture, heat.grid(), size)).all()
    render(figure, "png", dpi=100)
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1 + 1
    with pytest.raises(InputError, match="does not know its picture"):
        map_figure(TokenMap(values, heat.layout))


def test_grey_picture_shines_through():
    flat = TokenMap(torch.full((24,), 1 / 24), TokenLayout({"image": 24}, {"image": (4, 6)}))
    half = np.zeros((40, 60, 3), dtype=np.uint8)
    half[:, 30:] = 255
    drawn = heat_over(PIL.Image.fromarray(half), flat.grid(), (40, 60))
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

from __future__ import annotations

import dataclasses
import io

import PIL.Image
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenrank.analysis import Analysis
from tokenrank.markov import Certificate, Lambda2
from tokenrank.view import COLUMN, FULL, lambda2_figure, render


def table(figure: Figure) -> Axes:
    return figure.axes[0]


def with_lambda2(analysis: Analysis, values: torch.Tensor, uncertain: torch.Tensor | None = None) -> Analysis:
    chain = next(iter(analysis.chains.values()))
    doubt = torch.zeros_like(values, dtype=torch.bool) if uncertain is None else uncertain
    return dataclasses.replace(
        analysis,
        chains={f"layer.{i}": chain for i in range(len(values))},
        layer=f"layer.{len(values) // 2}",
        lambda2=Lambda2(values, Certificate(~doubt, torch.zeros_like(values), None, 1, "arnoldi")),
    )


def test_every_head_has_its_number(of_picture: Analysis):
    figure = lambda2_figure(of_picture)
    cells = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in table(figure).texts}
    expected = of_picture.lambda2.values
    assert cells == {(i, h): f"{float(expected[i, h]):.2f}" for i in range(3) for h in range(2)}
    assert table(figure).get_xlabel() == "head"
    assert table(figure).get_ylabel() == "layer"
    assert figure.get_size_inches()[0] == COLUMN


def test_the_layer_of_the_maps_is_pointed_at(of_picture: Analysis):
    (mark,) = table(lambda2_figure(of_picture)).lines
    assert mark.get_ydata() == [of_picture.layer_index]
    assert mark.axes.get_xlim() == (-0.5, 1.5)


def test_the_mark_and_the_number_of_all_heads_are_explained(of_picture: Analysis):
    told = " ".join(text.get_text() for text in lambda2_figure(of_picture).texts)
    together = float(of_picture.chain_lambda2.values)
    assert "◂ layer 2, which the other figures show: 2 heads weighted by |λ₂|, together" in told
    assert f"= {together:.2f}" in told
    assert "|λ₂|: what each bounce keeps of the start in the long run, from 0 to 1" in told


def test_uncertain_and_missing_heads(of_picture: Analysis):
    values = torch.tensor([[0.5, float("nan")], [0.9, 0.2]])
    uncertain = torch.tensor([[False, False], [True, False]])
    figure = lambda2_figure(with_lambda2(of_picture, values, uncertain))
    assert sorted(t.get_text() for t in table(figure).texts) == ["0.20", "0.50", "≈0.90"]
    assert any("uncertain" in t.get_text() for t in figure.texts)
    assert not any("uncertain" in t.get_text() for t in lambda2_figure(of_picture).texts)


def test_colours_have_one_fixed_scale(of_picture: Analysis):
    assert table(lambda2_figure(of_picture)).images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("layers", "heads", "width"), [(1, 1, COLUMN), (12, 6, COLUMN), (12, 12, FULL), (24, 20, FULL)]
)
def test_numbers_stay_within_their_cells(of_picture: Analysis, layers: int, heads: int, width: float):
    figure = lambda2_figure(with_lambda2(of_picture, torch.rand(layers, heads)))
    drawn = PIL.Image.open(io.BytesIO(render(figure, "png", dpi=100)))
    assert drawn.size[0] == round(width * 100)
    axes = table(figure)
    cell = axes.get_window_extent().width / heads
    assert len(axes.texts) == layers * heads
    assert max(text.get_window_extent().width for text in axes.texts) < cell
    page = figure.bbox
    for text in [*axes.texts, *figure.texts]:
        box = text.get_window_extent()
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1


def test_no_numbers_where_they_could_not_be_read(of_picture: Analysis):
    figure = lambda2_figure(with_lambda2(of_picture, torch.rand(8, 128)))
    assert not table(figure).texts
    assert len(table(figure).get_xticks()) < 60


def test_numbers_contrast_with_their_cells(of_picture: Analysis):
    figure = lambda2_figure(with_lambda2(of_picture, torch.tensor([[0.0, 1.0]])))
    dark, light = (text.get_color() for text in table(figure).texts)
    assert dark == "white"
    assert light != "white"

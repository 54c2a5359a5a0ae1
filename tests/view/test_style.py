from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from tokenrank.analysis import Analysis
from tokenrank.errors import InputError
from tokenrank.view import bounces_figure, lambda2_figure, paper_style, render, save, text_figure
from tokenrank.view.style import scaled, scales, shares


def test_scale_runs_between_the_percentiles():
    values = np.arange(1001.0)
    shares = scaled(values)
    assert shares[10] == pytest.approx(0)
    assert shares[990] == pytest.approx(1)
    assert shares[500] == pytest.approx(0.5)
    assert shares.min() == 0
    assert shares.max() == 1


def test_one_huge_token_does_not_blacken_the_others():
    values = np.linspace(0, 1, 400)
    values[7] = 1e6
    assert scaled(values)[200] == pytest.approx(0.5, abs=0.02)


def test_constant_and_nearly_constant_maps():
    assert scaled(np.full(10, 0.3)).tolist() == [0.5] * 10
    spike = np.full(1000, 0.1)
    spike[3] = 0.9
    assert scaled(spike).argmax() == 3
    assert scaled(spike).max() == 1


def test_maps_have_a_scale_each_or_one_together():
    high, low = np.linspace(0.2, 1, 500), np.linspace(0, 0.1, 500)
    assert scales([high, low]) == [pytest.approx((0.208, 0.992)), pytest.approx((0.001, 0.099))]
    one, other = scales([high, low], "shared")
    assert one == other
    assert shares(low, other).max() < 0.2 < shares(high, one).min() + 0.05
    with pytest.raises(InputError, match="scale = 'all', expected 'each'"):
        scales([high], "all")  # type: ignore[arg-type]


def test_settings_do_not_leak(of_picture: Analysis, of_text: Analysis):
    before = dict(matplotlib.rcParams)
    for figure in (bounces_figure(of_picture), lambda2_figure(of_picture), text_figure(of_text)):
        render(figure, "svg")
    with paper_style():
        assert not matplotlib.rcParams["text.parse_math"]
    with pytest.raises(InputError), paper_style():
        raise InputError("inside")
    assert dict(matplotlib.rcParams) == before


def small() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "x")
    return figure


@pytest.mark.parametrize(("form", "begin"), [("png", b"\x89PNG"), ("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_files_are_what_they_say_and_the_same_every_time(form: str, begin: bytes):
    content = render(small(), form, maker="made by a test")
    assert content.startswith(begin)
    assert b"made by a test" in content
    assert render(small(), form, maker="made by a test") == content


def test_size_and_resolution():
    drawn = PIL.Image.open(io.BytesIO(render(small(), "png", dpi=150)))
    assert drawn.size == (300, 150)


def test_save(tmp_path: Path):
    paths = save(small(), tmp_path / "a.b", ("png", "svg"))
    assert paths == [tmp_path / "a.b.png", tmp_path / "a.b.svg"]
    assert all(path.stat().st_size for path in paths)
    with pytest.raises(InputError, match="no figure format 'jpg'; nearest: 'png'"):
        save(small(), tmp_path / "other", ("png", "jpg"))
    assert sorted(tmp_path.iterdir()) == sorted(paths)

"""Figures of a sound: what they show, and what they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.tasks.word_times import TimedWord, WordTimes
from tokenrank.view.audio import spectrogram

from .speech import SAID, save_wav2vec2, tone


def lines_of(figure: Figure) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    return [[line.get_data() for line in axes.lines] for axes in figure.axes]


@pytest.fixture(scope="module")
def analysis(heard: tr.Observation) -> tr.Analysis:
    return tr.analyze(heard, heads="uniform", start=tr.at(seconds=0.5), bounces=(1, 3))


def test_curves_are_the_maps_over_their_seconds(analysis: tr.Analysis):
    figure = tr.view.sound_figure(analysis)
    _, *panels = lines_of(figure)
    maps = [*analysis.bounces.values(), analysis.forward, analysis.backward]
    assert len(panels) == len(maps)
    for panel, shown in zip(panels, maps, strict=True):
        times, curve = panel[0]
        np.testing.assert_allclose(times, 0.02 * (np.arange(60) + 0.5))
        np.testing.assert_allclose(curve, shown.values / shown.values.max())
    assert panels[0][1][0] == [0.5, 0.5]  # where the walk starts
    assert len(panels[-1]) == 1  # TokenRank knows no start
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == SAID.split()


def test_curves_on_one_scale(analysis: tr.Analysis):
    shared = [panel[0][1] for panel in lines_of(tr.view.sound_figure(analysis, scale="shared"))[1:]]
    maps = [*analysis.bounces.values(), analysis.forward, analysis.backward]
    most = max(float(shown.values.max()) for shown in maps)
    for curve, shown in zip(shared, maps, strict=True):
        np.testing.assert_allclose(curve, shown.values / most)
    with pytest.raises(InputError, match="expected 'each'"):
        tr.view.sound_figure(analysis, scale="both")


def test_a_frame_that_outshines_the_others_is_cut_off_and_named(analysis: tr.Analysis):
    values = torch.full((60,), 0.5 / 59)
    values[59] = 0.5
    loud = dataclasses.replace(analysis, forward=tr.TokenMap(values, analysis.layout))
    panel = tr.view.sound_figure(loud).axes[3]
    assert panel.lines[0].get_ydata()[:59] == pytest.approx(np.ones(59))
    assert [text.get_text().strip() for text in panel.texts] == ["50 %"]
    told = " ".join(text.get_text() for text in tr.view.sound_figure(loud).texts)
    assert "are cut off" in told
    assert "are cut off" not in " ".join(text.get_text() for text in tr.view.sound_figure(analysis).texts)


@pytest.mark.parametrize("width", [tr.view.FULL, tr.view.COLUMN])
def test_words_stay_on_the_page_and_off_each_other(analysis: tr.Analysis, width: float):
    spoken = [f"word{'y' * (i % 12)}" for i in range(40)] + ["שלום"]
    times = tuple(TimedWord(text, 1.2 * i / 41, 1.2) for i, text in enumerate(spoken))
    figure = tr.view.sound_figure(analysis, width, times=WordTimes(times, ""))
    tr.view.render(figure, "png", dpi=100)
    labels = figure.axes[0].texts
    assert len(labels) > 10
    told = " ".join(text.get_text() for text in figure.texts)
    assert (f"{len(labels)} of 41 words have room above" in told) == (len(labels) < 41)
    for label in labels:
        box = label.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    places = [label.get_position()[0] for label in labels]
    inch = 1.2 / (width - 0.9)
    assert min(np.diff(places)) >= 0.1 * inch


def test_words_over_frames(heard: tr.Observation):
    figure = tr.view.words_figure(heard)
    shown = figure.axes[1].images[0].get_array()
    right = heard.cross().weights.numpy()
    np.testing.assert_allclose(shown, right / right.max(1, keepdims=True))
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == SAID.split()
    assert tr.view.render(figure, "png") == tr.view.render(tr.view.words_figure(heard), "png")


def test_a_model_that_writes_nothing(tmp_path: Path):
    observation = tr.observe(tone(1.0), model=tr.load(save_wav2vec2(tmp_path)), rate=16000)
    figure = tr.view.sound_figure(tr.analyze(observation, heads="uniform"), width=tr.view.COLUMN)
    assert not figure.axes[0].texts
    with pytest.raises(InputError, match="writes no text"):
        tr.view.words_figure(observation)


def test_of_a_picture():
    with pytest.raises(InputError, match="no sound is known here"):
        tr.view.sound_figure(tr.analyze(tr.samples.path("coffee"), size=64))


def test_the_spectrogram_of_a_tone():
    values, bands = spectrogram(tr.Sound(torch.sin(torch.arange(16000) * 2 * np.pi * 1000 / 16000).float(), 16000))
    loudest = bands[values[:, 100].argmax()]
    assert abs(loudest - 1000) < 60
    assert values.max() == 0
    assert values.min() >= -80


@pytest.mark.parametrize("count", [1, 10, 399])
def test_the_spectrogram_of_next_to_nothing(count: int):
    values, bands = spectrogram(tr.Sound(torch.zeros(count), 16000))
    assert np.isfinite(values).all()
    assert len(values) == len(bands)


def test_a_map_of_frames_is_a_curve_over_seconds(analysis: tr.Analysis):
    (axes,) = analysis.forward.figure().axes
    times, curve = axes.lines[0].get_data()
    np.testing.assert_allclose(times, analysis.layout.times())
    np.testing.assert_allclose(curve, analysis.forward.values)


def test_table_and_words_of_an_analysis(analysis: tr.Analysis):
    rows = analysis.tokens_table()
    assert rows[25]["seconds"] == 0.5
    assert rows[25]["start"] == 1
    assert analysis.facts()["start"] == {"seconds": 0.5}
    assert analysis.source is analysis.observation.sound
    assert "a sound" in analysis._repr_html_()

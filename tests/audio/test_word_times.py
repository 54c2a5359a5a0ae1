"""Times of words: the same as Whisper's own recipe, and exact where the answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import CaptureError, InputError
from tokenrank.observation import Word
from tokenrank.tasks.word_times import first_frames, standardised, warped

from .speech import tone

generation = pytest.importorskip("transformers.models.whisper.generation_whisper")


@given(st.integers(1, 9), st.integers(1, 14), st.booleans())
def test_the_path_is_whispers(rows: int, columns: int, ties: bool):
    cost = np.random.randn(rows, columns).astype(np.float32).astype(np.float64)
    if ties:
        cost = np.round(cost)
    right = generation._dynamic_time_warping(cost)
    for found, expected in zip(warped(cost), right, strict=True):
        np.testing.assert_array_equal(found, expected)


@given(st.integers(1, 5), st.integers(1, 6))
def test_the_path_is_the_cheapest(rows: int, columns: int):
    cost = np.random.rand(rows, columns)

    def cheapest(i: int, j: int) -> float:
        before = [cheapest(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        return float(cost[i, j]) + min(before, default=0.0)

    found = warped(cost)
    assert cost[found].sum() == pytest.approx(cheapest(rows - 1, columns - 1))
    steps = set(zip(np.diff(found[0]).tolist(), np.diff(found[1]).tolist(), strict=True))
    assert steps <= {(1, 1), (1, 0), (0, 1)}


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 12))
def test_smoothing_is_whispers(heads: int, tokens: int, frames: int):
    weights = torch.rand(heads, tokens, frames, dtype=torch.float64)
    std, mean = torch.std_mean(weights, -2, keepdim=True, unbiased=False)
    right = generation._median_filter((weights - mean) / std.clamp_min(1e-12), 7)
    torch.testing.assert_close(standardised(weights), right)


def test_words_that_stand_one_after_the_other():
    """Word k is heard in ten frames from 10 · k on: rows that predict its tokens look nowhere else."""
    weights = torch.full((2, 5, 40), 1e-3)
    for row, begin in enumerate((0, 0, 10, 20, 30)):  # the first row predicts a special token
        weights[:, row, begin : begin + 10] = 1.0
    weights /= weights.sum(-1, keepdim=True)
    weights[:, 0] = 1 / 40
    words = [Word("a", range(2, 3)), Word("bc", range(3, 5))]
    found = first_frames(weights, words)
    assert found[0][0] == 0
    assert abs(found[0][1] - 10) <= 1
    assert abs(found[1][0] - 10) <= 1
    assert abs(found[1][1] - 30) <= 1


def test_of_an_observation(heard: tr.Observation):
    times = tr.tasks.word_times(heard)
    assert [word.text for word in times] == [word.text for word in heard.words]
    assert times[0].begin == 0
    assert all(0 <= word.begin <= word.end <= 1.2 for word in times)
    assert all(a.end == b.begin for a, b in pairwise(times))
    assert "all 4 heads" in times.caption
    assert times[2:4] == times.words[2:4]


def test_nothing_said(whisper: tr.Model):
    with pytest.raises(InputError, match="no word"):
        tr.tasks.word_times(tr.Sound(tone(1.0), 16000), model=whisper, said="")


def test_of_a_picture():
    with pytest.raises((InputError, CaptureError)):
        tr.tasks.word_times(tr.samples.path("coffee"))

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from py_sod_metrics import Emeasure, Smeasure

from tokenrank.errors import InputError, MissingExtraError, NotFoundError
from tokenrank.evaluate.metrics.structure import e_curve, e_measure, s_measure

from .pictures import MASK, UNIT, same_shape


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    mask = np.zeros((16, 20), bool)
    top, left = generator.integers(1, 6, 2)
    mask[top : top + 7, left : left + 8] = True
    return np.clip(mask * 0.6 + generator.random(mask.shape) * 0.4, 0, 1), mask


def test_equality_with_pysodmetrics_over_a_data_set():
    structure, alignment = Smeasure(), Emeasure()
    ours = []
    for seed in range(4):
        scores, mask = picture(seed)
        structure.step(scores, mask, normalize=False)
        alignment.step(scores, mask, normalize=False)
        ours.append((s_measure(scores, mask), e_measure(scores, mask, "adaptive"), e_curve(scores, mask)))
    s, adaptive, curves = zip(*ours, strict=True)
    theirs = alignment.get_results()["em"]
    assert np.mean(s) == pytest.approx(structure.get_results()["sm"])
    assert np.mean(adaptive) == pytest.approx(theirs["adp"])
    np.testing.assert_allclose(np.mean(curves, axis=0), theirs["curve"])


def test_a_perfect_map_scores_one():
    _, mask = picture(0)
    perfect = mask.astype(float)
    assert s_measure(perfect, mask) == pytest.approx(1)
    # the last level takes every pixel as found; all other levels are the perfect mask, over H·W − 1
    over = mask.size / (mask.size - 1)
    assert e_curve(perfect, mask)[:255].tolist() == pytest.approx([over] * 255)
    assert e_measure(perfect, mask, "max") == pytest.approx(over)
    assert e_measure(perfect, mask, "adaptive") == pytest.approx(over)
    assert s_measure(1 - perfect, mask) < 0.1


def test_the_mean_and_the_maximum_are_those_of_the_curve():
    scores, mask = picture(1)
    curve = e_curve(scores, mask)
    assert curve.shape == (256,)
    assert e_measure(scores, mask) == pytest.approx(curve.mean())
    assert e_measure(scores, mask, "max") == curve.max()


def test_answers_for_empty_and_full_masks():
    scores = np.array([[0.25, 0.75], [0.5, 0.5]])
    empty = np.zeros((2, 2), bool)
    assert s_measure(scores, empty) == pytest.approx(0.5)
    assert s_measure(scores, ~empty) == pytest.approx(0.5)
    assert s_measure(np.zeros((2, 2)), empty) == 1
    assert e_curve(scores, empty)[0] == pytest.approx(4 / 3)
    assert e_curve(scores, ~empty)[0] == 0


@pytest.mark.parametrize(("row", "column"), [(3, 4), (0, 4), (3, 0), (0, 0)])
def test_an_object_in_a_corner_has_a_figure(row, column):
    mask = np.zeros((4, 5), bool)
    mask[row, column] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert s_measure(mask.astype(float), mask) == pytest.approx(1)
        assert 0 <= s_measure(np.full(mask.shape, 0.5), mask) < 1


@given(same_shape(UNIT, MASK))
def test_ranges(pair):
    scores, mask = pair
    assert 0 <= s_measure(scores, mask) <= 1 + 1e-9
    if mask.size > 1:
        for variant in ("mean", "max", "adaptive"):
            assert 0 <= e_measure(scores, mask, variant) <= mask.size / (mask.size - 1) + 1e-9


def test_float32_gives_the_figure_of_float64():
    scores, mask = picture(2)
    half = scores.astype(np.float32)
    assert s_measure(half, mask) == pytest.approx(s_measure(half.astype(np.float64), mask), abs=1e-12)


def test_bad_input_is_named():
    scores, mask = picture(0)
    with pytest.raises(InputError, match="0 to 1"):
        s_measure(scores * 255, mask)
    with pytest.raises(InputError, match="NaN"):
        e_measure(np.where(mask, np.nan, scores), mask)
    with pytest.raises(InputError, match="mask has dtype uint8"):
        s_measure(scores, mask.astype(np.uint8))
    with pytest.raises(InputError, match="but scores has"):
        e_curve(scores, mask[:-1])
    with pytest.raises(InputError, match=r"expected \(H, W\)"):
        s_measure(scores[None], mask[None])
    with pytest.raises(InputError, match="alpha = 2"):
        s_measure(scores, mask, alpha=2)
    with pytest.raises(InputError, match="at least two pixels"):
        e_measure(np.ones((1, 1)), np.ones((1, 1), bool))
    with pytest.raises(NotFoundError, match="'maximum'; nearest: 'max'"):
        e_measure(scores, mask, "maximum")


def test_a_missing_pysodmetrics_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        e_measure(*picture(0))

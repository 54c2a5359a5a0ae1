from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from py_sod_metrics import FmeasureHandler, FmeasureV2
from sklearn.metrics import fbeta_score

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.foreground import (
    BETA2,
    SQUARED_BETA2,
    Counts,
    counts,
    f_at,
    f_curve,
    max_of_mean,
    mean_of_max,
    precision,
    recall,
)

from .pictures import LEVELS, MASK, UNIT, same_shape


def one_threshold_at_a_time(scores: np.ndarray, mask: np.ndarray, beta2: float) -> list[float]:
    steps = np.arange(255, dtype=scores.dtype) / scores.dtype.type(255)
    return [f_at(counts(scores > step, mask), beta2) for step in steps]


def test_known_answer_of_a_hand_made_mask():
    c = Counts(tp=2, fp=2, fn=1, tn=5)
    assert (precision(c), recall(c)) == (0.5, pytest.approx(2 / 3))
    assert f_at(c, 0.3) == pytest.approx(1.3 * 0.5 * (2 / 3) / (0.3 * 0.5 + 2 / 3))
    assert f_at(c, 1) == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))


def test_beta_squared_is_not_squared_again_unless_asked():
    c = Counts(tp=2, fp=2, fn=1, tn=5)
    assert BETA2 == 0.3
    assert pytest.approx(0.09) == SQUARED_BETA2
    assert f_at(c, SQUARED_BETA2) < f_at(c, BETA2)  # precision is below recall here and weighs more


def test_precision_is_one_where_nothing_is_found_and_recall_one_without_foreground():
    assert precision(Counts(fn=3, tn=1)) == 1
    assert f_at(Counts(fn=3, tn=1)) == 0
    assert recall(Counts(fp=3, tn=1)) == 1
    assert f_at(Counts(fp=3, tn=1)) == 0
    assert f_at(Counts(tn=4)) == 1


@given(same_shape(MASK, MASK))
def test_f_at_equals_scikit_learn(pair):
    found, mask = pair
    if mask.any():
        expected = fbeta_score(mask.ravel(), found.ravel(), beta=0.3**0.5, zero_division=0)
        assert f_at(counts(found, mask)) == pytest.approx(expected)


@given(same_shape(UNIT, MASK))
def test_the_curve_equals_a_loop_over_the_thresholds(pair):
    scores, mask = pair
    for dtype in (np.float64, np.float32):
        given_scores = scores.astype(dtype)
        expected = one_threshold_at_a_time(given_scores, mask, 0.3)
        assert f_curve(given_scores, mask).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_on_a_threshold_does_not_pass_it(dtype):
    levels = np.arange(256, dtype=dtype) / dtype(255)
    neighbours = np.concatenate([levels, np.nextafter(levels, dtype(0)), np.nextafter(levels, dtype(1))])
    scores = np.clip(neighbours, 0, 1)[None]
    mask = (np.arange(scores.size) % 3 == 0)[None]
    assert f_curve(scores, mask).tolist() == pytest.approx(one_threshold_at_a_time(scores, mask, 0.3))
    single = np.array([[dtype(7) / dtype(255)]])
    assert f_curve(single, np.array([[True]])).tolist() == [1.0] * 7 + [0.0] * 248


@given(same_shape(LEVELS, MASK))
def test_the_curve_equals_pysodmetrics_on_eight_bit_maps(pair):
    scores, mask = pair
    if mask.any():
        handler = FmeasureHandler(with_adaptive=False, with_dynamic=True, beta=0.3)
        package = FmeasureV2({"f": handler})
        # half a level up: the package cuts down to whole levels, and the product may lie just below one
        shifted = np.clip(scores + 0.25 / 255, 0, 1)
        package.step(shifted, mask, normalize=False)
        theirs = package.get_results()["f"]["dynamic"]
        # theirs has 256 levels with score >= (255 − j) / 255; ours has score > k / 255
        np.testing.assert_allclose(f_curve(scores, mask), theirs[:255][::-1])


def test_a_binary_mask_has_one_f_at_every_threshold():
    found, mask = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    curve = f_curve(found.astype(float), mask)
    assert set(curve) == {f_at(counts(found, mask))}
    assert curve.shape == (255,)


def test_void_pixels_do_not_count():
    generator = np.random.default_rng(0)
    scores, mask = generator.random((6, 6)), generator.random((6, 6)) < 0.4
    void = generator.random((6, 6)) < 0.3
    expected = f_curve(scores[~void][None], mask[~void][None])
    np.testing.assert_array_equal(f_curve(scores, mask, void=void), expected)
    assert np.isnan(f_curve(scores, mask, void=np.ones_like(mask))).all()


@given(same_shape(UNIT, MASK))
def test_ranges_and_the_perfect_map(pair):
    scores, mask = pair
    curve = f_curve(scores, mask)
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (f_curve(mask.astype(float), mask) == 1).all()


def test_the_two_maxima_differ_as_they_should():
    curves = np.array([[0.2, 0.8, 0.1], [0.9, 0.4, 0.3]])
    assert max_of_mean(curves) == pytest.approx(0.6)
    assert mean_of_max(curves) == pytest.approx(0.85)
    assert max_of_mean(list(curves)) == max_of_mean(curves)
    assert max_of_mean(curves[:1]) == mean_of_max(curves[:1]) == 0.8


@given(same_shape(UNIT, MASK), same_shape(UNIT, MASK))
def test_the_maximum_per_picture_is_never_smaller(one, two):
    curves = [f_curve(*one), f_curve(*two)]
    assert mean_of_max(curves) >= max_of_mean(curves) - 1e-12


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ([], "at least one image"),
        ([np.zeros(3), np.zeros(4)], "one length for all"),
        ([np.array([np.nan, 1])], "NaN"),
        (np.zeros(3), "expected .images, thresholds."),
    ],
)
def test_bad_curves_are_named(curves, words):
    for figure in (max_of_mean, mean_of_max):
        with pytest.raises(InputError, match=words):
            figure(curves)


@pytest.mark.parametrize(
    ("scores", "beta2", "words"),
    [
        ([[0.5, np.nan]], 0.3, "NaN"),
        ([[0.5, 1.5]], 0.3, "scores go from 0.5 to 1.5, expected 0 to 1"),
        ([[-0.1, 0.5]], 0.3, "min_max"),
        ([[0.5, 0.5]], 0, "beta2 = 0"),
        ([[0.5, 0.5, 0.5]], 0.3, "but scores has"),
    ],
)
def test_bad_input_is_named(scores, beta2, words):
    with pytest.raises(InputError, match=words):
        f_curve(np.array(scores), np.array([[True, False]]), beta2)

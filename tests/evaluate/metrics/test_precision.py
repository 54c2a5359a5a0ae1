from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import average_precision_score

from tokenrank.errors import InputError, MissingExtraError
from tokenrank.evaluate.metrics.checks import min_max
from tokenrank.evaluate.metrics.curves import average_precision, pooled_average_precision

from .pictures import MASK, UNIT, same_shape


def test_plain_average_precision_by_hand():
    scores = np.array([[0.9, 0.8, 0.7, 0.1]])
    mask = np.array([[True, False, True, False]])
    # recall rises to 1/2 at precision 1 and to 1 at precision 2/3
    assert average_precision(scores, mask) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_pooled_average_precision_by_hand():
    scores = np.array([[0.9, 0.6]])
    mask = np.array([[True, False]])
    # the ranking is 0.9 (right), 0.6 (wrong), 0.4 (right), 0.1 (wrong)
    assert pooled_average_precision(scores, mask) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@given(same_shape(UNIT, MASK))
def test_equality_with_scikit_learn(pair):
    scores, mask = pair
    labels = np.concatenate([1 - mask.ravel().astype(int), mask.ravel().astype(int)])
    pooled = np.concatenate([1 - scores.ravel(), scores.ravel()])
    assert pooled_average_precision(scores, mask) == pytest.approx(average_precision_score(labels, pooled))
    if mask.any():
        assert average_precision(scores, mask) == pytest.approx(average_precision_score(mask.ravel(), scores.ravel()))


@given(same_shape(UNIT, MASK))
def test_ranges_and_the_exchange_of_the_two_classes(pair):
    scores, mask = pair
    exact = np.round(scores * 64) / 64  # 1 − s is then exact, so no ties come or go
    figure = pooled_average_precision(exact, mask)
    assert 0 < figure <= 1
    assert figure == pytest.approx(pooled_average_precision(1 - exact, ~mask))
    assert pooled_average_precision(mask.astype(float), mask) == 1


def test_only_the_pooled_figure_changes_under_a_monotone_rescaling():
    generator = np.random.default_rng(0)
    scores, mask = generator.random((20, 20)), generator.random((20, 20)) < 0.3
    assert average_precision(scores**4, mask) == pytest.approx(average_precision(scores, mask))
    assert abs(pooled_average_precision(scores**4, mask) - pooled_average_precision(scores, mask)) > 0.02
    twice = pooled_average_precision(min_max(3 * scores - 1), mask)
    assert twice == pytest.approx(pooled_average_precision(min_max(scores), mask))


def test_void_pixels_do_not_count():
    scores = np.array([[0.9, 0.8, 0.7, 0.1]])
    mask = np.array([[True, False, True, False]])
    void = np.array([[False, True, False, False]])
    assert average_precision(scores, mask, void) == 1
    kept = pooled_average_precision(scores[:, [0, 2, 3]], mask[:, [0, 2, 3]])
    assert pooled_average_precision(scores, mask, void) == kept


def test_empty_and_full_masks_and_pictures_without_a_pixel_that_counts():
    scores, full = np.array([[0.2, 0.6]]), np.ones((1, 2), bool)
    assert math.isnan(average_precision(scores, ~full))
    assert average_precision(scores, full) == 1
    assert 0 < pooled_average_precision(scores, ~full) < 1
    assert math.isnan(pooled_average_precision(scores, full, full))


def test_scores_beyond_zero_to_one_are_taken_as_they_are():
    scores, mask = np.array([[-3.0, 5.0]]), np.array([[False, True]])
    assert pooled_average_precision(scores, mask) == 1


def test_bad_input_is_named():
    scores, mask = np.array([[0.2, np.nan]]), np.array([[False, True]])
    for figure in (average_precision, pooled_average_precision):
        with pytest.raises(InputError, match="1 of 2 values"):
            figure(scores, mask)
        with pytest.raises(InputError, match="mask has dtype int64"):
            figure(np.zeros((1, 2)), mask.astype(int))
        with pytest.raises(InputError, match="mask has shape"):
            figure(np.zeros((2, 2)), mask)


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        average_precision(np.array([[0.2]]), np.array([[True]]))

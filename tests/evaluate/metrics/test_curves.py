from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.curves import deletion, insertion, normalised_auc, perturbation_auc

TENTHS = [k / 10 for k in range(10)]
CURVES = st.lists(st.floats(0, 1), min_size=10, max_size=10)


def test_perturbation_of_hand_made_curves():
    assert perturbation_auc([1] * 10, TENTHS) == pytest.approx(90)
    assert perturbation_auc([0.8, 0.4], [0, 0.5]) == pytest.approx(30)
    # leaving out the clean accuracy would be another figure
    assert perturbation_auc([0.8, 0.4, 0.2], [0, 0.5, 0.9]) == pytest.approx(100 * (0.3 + 0.12))


def test_normalised_auc_does_not_depend_on_the_clean_accuracy_or_the_range():
    assert normalised_auc([0.6] * 10, TENTHS) == pytest.approx(1)
    assert normalised_auc([0.8, 0.4], [0, 0.5]) == pytest.approx(0.75)
    assert normalised_auc([0.4, 0.2], [0, 1]) == pytest.approx(0.75)
    assert normalised_auc([0.4, 0.8], [0, 1]) == pytest.approx(1.5)
    assert math.isnan(normalised_auc([0, 0.5], [0, 1]))


@given(CURVES)
def test_areas_equal_scikit_learn(curve):
    assert perturbation_auc(curve, TENTHS) == pytest.approx(100 * auc(TENTHS, curve))
    assert 0 <= perturbation_auc(curve, TENTHS) <= 90 + 1e-9
    if curve[0] > 1e-3:
        expected = auc(TENTHS, curve) / 0.9 / curve[0]
        assert normalised_auc(np.array(curve), np.array(TENTHS)) == pytest.approx(expected)


@given(CURVES, CURVES)
def test_the_area_of_the_mean_curve_is_the_mean_of_the_areas(one, two):
    mean = (np.array(one) + np.array(two)) / 2
    areas = [perturbation_auc(c, TENTHS) for c in (one, two)]
    assert perturbation_auc(mean, TENTHS) == pytest.approx(np.mean(areas))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_deletion_in_equal_steps_is_the_formula_of_rise(curve):
    expected = (sum(curve) - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)
    assert deletion(curve) == pytest.approx(expected)
    assert insertion(curve) == deletion(curve)
    assert insertion(curve[::-1]) == pytest.approx(deletion(curve))
    assert 0 <= deletion(curve) <= 1 + 1e-9


def test_deletion_over_given_fractions():
    assert deletion([1, 0, 0], [0, 0.2, 1]) == pytest.approx(0.1)
    assert insertion([0, 1, 1], [0, 0.2, 1]) == pytest.approx(0.9)
    with pytest.raises(InputError, match=r"end at 0\.9, expected 1"):
        deletion([1, 0], [0, 0.9])


@pytest.mark.parametrize(
    ("values", "ratios", "words"),
    [
        ([0.5], [0], "at least two points"),
        ([0.5, 0.4], [0, 0.1, 0.2], "expected .R,. over .R,."),
        ([[0.5, 0.4]], [[0, 0.1]], "expected .R,. over .R,."),
        ([50, 40], [0, 0.1], "divide percent by 100"),
        ([0.5, np.nan], [0, 0.1], "nan"),
        ([0.5, 0.4], [0.1, 0.2], "expected 0 first"),
        ([0.5, 0.4, 0.3], [0, 0.2, 0.2], "then increasing"),
        ([0.5, 0.4], [0, 1.1], "at most 1"),
        ([0.5, 0.4], [0, np.nan], "expected 0 first"),
    ],
)
def test_bad_curves_are_named(values, ratios, words):
    for figure in (perturbation_auc, normalised_auc):
        with pytest.raises(InputError, match=words):
            figure(values, ratios)

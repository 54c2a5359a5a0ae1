from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.preprocessing import minmax_scale

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.checks import min_max


def test_known_answer_and_dtype():
    assert min_max(np.array([[2.0, 4.0, 3.0]])).tolist() == [[0.0, 1.0, 0.5]]
    assert min_max(np.array([1, 2], np.float32)).dtype == np.float32
    assert min_max(np.array([1, 2], np.float16)).dtype == np.float64
    assert min_max(np.array([3, 5, 7])).tolist() == [0, 0.5, 1]


def test_a_map_of_one_value_marks_nothing():
    assert min_max(np.full((2, 2), 0.7)).tolist() == [[0, 0], [0, 0]]


@given(arrays.arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3)))
def test_equals_scikit_learn_and_keeps_the_order(scores):
    scaled = min_max(scores)
    assert scaled.min() == 0
    if np.ptp(scores) > 1e-9:
        assert scaled.max() == 1
        np.testing.assert_allclose(scaled.ravel(), minmax_scale(scores.ravel()), atol=1e-6)
    order = np.argsort(scores.ravel(), kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


def test_the_widest_range_of_floats_does_not_overflow():
    widest = np.finfo(np.float64).max
    assert min_max(np.array([-widest, 0, widest])).tolist() == [0, 0.5, 1]


def test_the_input_is_left_alone():
    scores = np.array([1.0, 3.0])
    min_max(scores)
    assert scores.tolist() == [1, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(InputError, match="1 of 3 values that are NaN or infinite"):
        min_max(np.array([0, bad, 1]))


def test_complex_scores_are_refused():
    with pytest.raises(InputError, match="complex128, expected real numbers"):
        min_max(np.array([1j]))

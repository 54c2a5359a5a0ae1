from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.metrics.hungarian import (
    accuracy,
    assign,
    histogram,
    match,
    match_histogram,
    mean_accuracy,
    miou,
)

from .pictures import LABELS, PARTLY, same_shape

CLASSES = 6


def test_two_segments_of_hand_made_classes():
    found = np.array([[0, 0, 0, 1, 1]])
    labels = np.array([[2, 2, 1, 1, -1]])
    m = match(found, labels, classes=3)
    assert m.tp.tolist() == [0, 1, 2]
    assert m.fp.tolist() == [0, 0, 1]
    assert m.fn.tolist() == [0, 1, 0]
    assert m.labelled == 4
    assert accuracy(m) == pytest.approx(3 / 4)
    assert mean_accuracy(m) == pytest.approx((1 / 2 + 1) / 2)
    assert miou(m) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_spare_segments_count_against_absent_classes_only_in_the_first_variant():
    found = np.array([[0, 0, 0, 1]])
    labels = np.array([[0, 0, 0, 0]])
    quirk, strict = match(found, labels, 2), match(found, labels, 2, spare="unassigned")
    assert quirk.tp.tolist() == strict.tp.tolist() == [3, 0]
    assert quirk.fn.tolist() == strict.fn.tolist() == [1, 0]
    assert quirk.fp.tolist() == [0, 1]
    assert strict.fp.tolist() == [0, 0]
    assert accuracy(quirk) == accuracy(strict) == 0.75
    assert miou(quirk) == pytest.approx(0.75 / 2)  # the absent class counts with 0
    assert miou(strict) == pytest.approx(0.75)


def test_segments_beyond_the_classes_add_false_negatives_only():
    found, labels = np.array([[0, 0, 1, 2]]), np.array([[0, 0, 0, 0]])
    m = match(found, labels, classes=1)
    assert (m.tp.tolist(), m.fp.tolist(), m.fn.tolist()) == ([2], [0], [2])


def test_the_data_set_level_is_stricter_than_the_picture_level():
    pictures = [(np.array([[0, 1]]), np.array([[0, 1]])), (np.array([[1, 0]]), np.array([[0, 1]]))]
    single = [match(found, labels, 2) for found, labels in pictures]
    assert accuracy(single[0] + single[1]) == 1
    together = sum(histogram(found, labels, 2, clusters=2) for found, labels in pictures)
    assert accuracy(match_histogram(together)) == 0.5


@given(same_shape(LABELS, PARTLY))
def test_the_assignment_is_the_best_of_all(pair):
    found, labels = pair
    table = histogram(found, labels, CLASSES)
    best = max(sum(table[c, s] for c, s in enumerate(order)) for order in itertools.permutations(range(CLASSES)))
    m = match(found, labels, CLASSES)
    assert m.tp.sum() == best
    assert m.labelled == (labels >= 0).sum()


@given(same_shape(LABELS, LABELS))
def test_figures_equal_scikit_learn_on_the_renamed_segments(pair):
    found, labels = pair
    segments = assign(histogram(found, labels, CLASSES))
    renamed = np.argsort(segments)[found].ravel()  # all six segments have a class
    truth = labels.ravel()
    m = match(found, labels, CLASSES)
    assert accuracy(m) == pytest.approx(accuracy_score(truth, renamed))
    occurring = np.union1d(truth, renamed)
    assert miou(m) == pytest.approx(jaccard_score(truth, renamed, average="macro", labels=occurring))
    if len(set(truth)) > 1 and set(renamed) <= set(truth):
        assert mean_accuracy(m) == pytest.approx(balanced_accuracy_score(truth, renamed))


@given(same_shape(LABELS, PARTLY), st.permutations(range(CLASSES)))
def test_ranges_names_of_segments_and_the_order_of_the_variants(pair, names):
    found, labels = pair
    for spare in ("assigned", "unassigned"):
        m = match(found, labels, CLASSES, spare)
        assert ((m.tp >= 0) & (m.fp >= 0) & (m.fn >= 0)).all()
        assert m.tp.sum() + m.fn.sum() == m.labelled
        if m.labelled:
            assert all(0 <= figure(m) <= 1 for figure in (accuracy, mean_accuracy, miou))
            assert accuracy(match(np.array(names)[found], labels, CLASSES, spare)) == accuracy(m)
    strict, quirk = match(found, labels, CLASSES, "unassigned"), match(found, labels, CLASSES)
    assert (strict.fp <= quirk.fp).all()
    np.testing.assert_array_equal(strict.tp, quirk.tp)


@given(same_shape(LABELS))
def test_a_perfect_segmentation_scores_one_in_both_variants(pictures):
    (labels,) = pictures
    for spare in ("assigned", "unassigned"):
        m = match((labels + 1) % CLASSES, labels, CLASSES, spare)
        assert accuracy(m) == mean_accuracy(m) == miou(m) == 1


@given(same_shape(LABELS, PARTLY), same_shape(LABELS, PARTLY))
def test_the_sum_of_histograms_is_that_of_the_concatenation(one, two):
    summed = histogram(*one, CLASSES, clusters=8) + histogram(*two, CLASSES, clusters=8)
    whole = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(one, two, strict=True)]
    np.testing.assert_array_equal(summed, histogram(*whole, CLASSES, clusters=8))
    assert summed.shape == (6, 8)


def test_a_picture_without_labels_adds_nothing():
    empty = match(np.array([[0, 1]]), np.array([[-1, -1]]), 3)
    assert empty.labelled == 0
    assert all(math.isnan(figure(empty)) for figure in (accuracy, mean_accuracy, miou))
    full = match(np.array([[0, 1]]), np.array([[0, 1]]), 3)
    assert accuracy(full + empty) == 1


def test_a_histogram_of_few_segments_leaves_classes_without_one():
    assert assign(np.array([[1], [5]]), "unassigned").tolist() == [-1, 0]
    m = match_histogram(np.array([[1], [5]]))
    assert (m.tp.tolist(), m.fp.tolist(), m.fn.tolist()) == ([0, 5], [0, 1], [1, 0])


@pytest.mark.parametrize(
    ("found", "labels", "classes", "words"),
    [
        ([[0, 1]], [[0, 255]], 3, "the class 255, expected at most 2, and −1"),
        ([[0, -1]], [[0, 1]], 3, "found has the label -1"),
        ([[0, 1]], [[0, -2]], 3, "labels has the label -2"),
        ([[0, 1]], [[0]], 3, "labels has shape"),
        ([[0.0, 1.0]], [[0, 1]], 3, "found has dtype float64"),
        ([[0, 1]], [[0, 1]], 0, "classes = 0"),
    ],
)
def test_bad_segmentations_are_named(found, labels, classes, words):
    with pytest.raises(InputError, match=words):
        match(np.array(found), np.array(labels), classes)


def test_other_bad_input_is_named():
    labels = np.array([[0, 1]])
    with pytest.raises(InputError, match="the segment 1, expected at most 0"):
        histogram(labels, labels, 2, clusters=1)
    with pytest.raises(InputError, match=r"expected \(classes, segments\)"):
        match_histogram(np.array([1, 2]))
    with pytest.raises(InputError, match="3 classes added to 2"):
        match(labels, labels, 2) + match(labels, labels, 3)
    with pytest.raises(NotFoundError, match="'left'"):
        match(labels, labels, 2, spare="left")

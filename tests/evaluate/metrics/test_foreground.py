from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.foreground import (
    Counts,
    accuracy_ratio,
    background_iou,
    counts,
    iou,
    pixel_accuracy,
    stacked_accuracy,
    strict_miou,
)

from .pictures import MASK, same_shape

FOUND = np.array([[1, 1, 0], [0, 0, 0]], bool)
TRUTH = np.array([[1, 0, 1], [0, 0, 0]], bool)
EMPTY, FULL = np.zeros((2, 3), bool), np.ones((2, 3), bool)


def test_known_answers_of_a_hand_made_mask():
    c = counts(FOUND, TRUTH)
    assert c == Counts(tp=1, fp=1, fn=1, tn=3)
    assert c.total == 6
    assert pixel_accuracy(c) == pytest.approx(4 / 6)
    assert iou(c) == pytest.approx(1 / 3)
    assert background_iou(c) == pytest.approx(3 / 5)
    assert strict_miou(c) == pytest.approx((1 / 3 + 3 / 5) / 2)


def test_void_pixels_do_not_count():
    void = np.array([[0, 1, 0], [0, 0, 1]], bool)
    c = counts(FOUND, TRUTH, void)
    assert c == Counts(tp=1, fp=0, fn=1, tn=2)
    assert all(type(n) is int for n in (c.tp, c.fp, c.fn, c.tn))


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [(EMPTY, EMPTY, 1.0), (FULL, EMPTY, 0.0), (EMPTY, FULL, 0.0), (FULL, FULL, 1.0)],
)
def test_iou_of_empty_and_full_masks(found, truth, expected):
    assert iou(counts(found, truth)) == expected
    assert strict_miou(counts(found, truth)) == (1.0 if expected else 0.0)


def test_figures_of_a_picture_that_is_all_void_are_nan():
    c = counts(FOUND, TRUTH, FULL)
    assert c == Counts()
    assert all(math.isnan(figure(c)) for figure in (pixel_accuracy, iou, background_iou, strict_miou))


@given(same_shape(MASK, MASK))
def test_counts_and_figures_equal_scikit_learn(pair):
    found, truth = pair
    c = counts(found, truth)
    tn, fp, fn, tp = confusion_matrix(truth.ravel(), found.ravel(), labels=[False, True]).ravel()
    assert c == Counts(int(tp), int(fp), int(fn), int(tn))
    assert pixel_accuracy(c) == pytest.approx(accuracy_score(truth.ravel(), found.ravel()))
    expected = jaccard_score(truth.ravel(), found.ravel(), average=None, labels=[False, True], zero_division=1)
    assert [background_iou(c), iou(c)] == pytest.approx(expected.tolist())


@given(same_shape(MASK, MASK))
def test_figures_lie_in_zero_to_one_and_are_symmetric(pair):
    found, truth = pair
    there, back = counts(found, truth), counts(truth, found)
    for figure in (pixel_accuracy, iou, strict_miou):
        assert 0 <= figure(there) <= 1
        assert figure(there) == figure(back)
        assert figure(counts(truth, truth)) == 1
    assert strict_miou(there) == pytest.approx(strict_miou(counts(~found, ~truth)))


@given(same_shape(MASK, MASK, MASK), same_shape(MASK, MASK, MASK))
def test_the_sum_of_two_pictures_is_their_concatenation(one, two):
    pictures = [counts(found, truth, void) for found, truth, void in (one, two)]
    whole = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(one, two, strict=True)]
    assert sum(pictures, Counts()) == counts(*whole)


@pytest.mark.parametrize(
    ("accuracy", "published"), [(83.07, 71.04), (81.97, 69.44), (78.47, 64.56), (64.52, 47.62), (74.92, 59.90)]
)
def test_accuracy_ratio_gives_the_published_pairs(accuracy, published):
    assert 100 * accuracy_ratio(accuracy / 100) == pytest.approx(published, abs=0.01)


@given(same_shape(MASK, MASK))
def test_accuracy_ratio_is_the_iou_of_both_stacked_channels(pair):
    found, truth = pair
    stacked = counts(np.stack([~found, found]), np.stack([~truth, truth]))
    assert accuracy_ratio(pixel_accuracy(counts(found, truth))) == pytest.approx(iou(stacked))


def test_accuracy_ratio_refuses_percent_and_keeps_nan():
    with pytest.raises(InputError, match="expected a share from 0 to 1"):
        accuracy_ratio(83.07)
    assert math.isnan(accuracy_ratio(float("nan")))


@given(same_shape(MASK, MASK, MASK))
def test_stacked_accuracy_is_that_of_two_channels_with_void_wrong_in_one(triple):
    found, truth, void = triple
    labels = np.where(void, -1, truth.astype(int))
    right = labelled = 0
    for channel, target in ((found.astype(int), labels), (1 - found.astype(int), 1 - labels)):
        right += int(((channel == target) & (target >= 0)).sum())
        labelled += int((target >= 0).sum())
    result = stacked_accuracy(counts(found, truth, void), int(void.sum()))
    assert result == pytest.approx(right / labelled)
    if not void.any():
        assert result == pixel_accuracy(counts(found, truth))


def test_stacked_accuracy_refuses_a_negative_number_of_pixels():
    with pytest.raises(InputError, match="void = -1"):
        stacked_accuracy(Counts(1, 1, 1, 1), -1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((FOUND, TRUTH[:, :2]), r"mask has shape \(2, 2\), but found has \(2, 3\)"),
        ((FOUND, TRUTH, EMPTY[:1]), r"void has shape \(1, 3\)"),
        ((FOUND.astype(np.uint8), TRUTH), "found has dtype uint8, expected bool"),
        ((FOUND, TRUTH.astype(float)), "mask has dtype float64, expected bool"),
        ((FOUND, TRUTH, EMPTY.astype(int)), "void has dtype int64, expected bool"),
        ((torch.from_numpy(FOUND), TRUTH), "found is a Tensor, expected a NumPy array"),
        ((np.zeros((0, 3), bool), np.zeros((0, 3), bool)), "at least one pixel"),
    ],
)
def test_bad_masks_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        counts(*arguments)

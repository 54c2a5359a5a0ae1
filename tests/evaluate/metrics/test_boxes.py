from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from torchvision.ops import box_iou as torchvision_box_iou

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.boxes import box_iou, box_of, corloc, localised

from .pictures import MASK, same_shape

BOXES = st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 4, 4), 1.0),
        ((2, 0, 6, 4), 8 / 24),
        ((4, 0, 8, 4), 0.0),
        ((9, 9, 10, 10), 0.0),
        ((1, 1, 2, 2), 1 / 16),
    ],
)
def test_known_overlaps(other, expected):
    assert box_iou((0, 0, 4, 4), other) == pytest.approx(expected)


@given(BOXES, BOXES)
def test_overlap_equals_torchvision_and_is_symmetric(one, two):
    a, b = (torch.tensor([box], dtype=torch.float64) for box in (one, two))
    assert box_iou(one, two) == pytest.approx(float(torchvision_box_iou(a, b)))
    assert box_iou(one, two) == box_iou(two, one)
    assert box_iou(one, one) == 1


def test_box_of_the_largest_component():
    mask = np.zeros((6, 8), bool)
    mask[0, 0:2] = True
    mask[2:5, 3:7] = True
    assert box_of(mask) == (3, 2, 7, 5)
    assert mask[2:5, 3:7].all()


def test_corners_connect_only_when_asked():
    mask = np.eye(3, dtype=bool)
    assert box_of(mask) == (0, 0, 1, 1)
    assert box_of(mask, diagonal=True) == (0, 0, 3, 3)


def test_empty_and_full_masks():
    assert box_of(np.zeros((2, 3), bool)) is None
    assert box_of(np.ones((2, 3), bool)) == (0, 0, 3, 2)


@given(same_shape(MASK))
def test_box_has_the_size_of_the_largest_component_of_scikit_image(pictures):
    (mask,) = pictures
    components = regionprops(label(mask, connectivity=1))
    if components:
        largest = max(components, key=lambda c: c.area)  # the first of equals
        top, left, bottom, right = largest.bbox
        assert box_of(mask) == (left, top, right, bottom)


def test_corloc_counts_half_and_more_and_any_of_the_true_boxes():
    truths = [[(0, 0, 4, 4)], [(50, 50, 60, 60), (0, 0, 4, 8)], [(0, 0, 4, 4)], [(0, 0, 4, 4)]]
    found = [(0, 0, 4, 8), (0, 0, 4, 4), (0, 0, 4, 9), None]  # IoU 1/2, 1/2 with the second, 4/9, nothing
    assert [localised(f, t) for f, t in zip(found, truths, strict=True)] == [True, True, False, False]
    assert corloc(found, truths) == 0.5
    assert corloc(found, truths, threshold=0.4) == 0.75


@pytest.mark.parametrize(
    ("found", "truths", "threshold", "words"),
    [
        ([], [], 0.5, "at least one"),
        ([None], [], 0.5, "1 found boxes for 0 pictures"),
        ([None], [[]], 0.5, "no true box"),
        ([(0, 0, 0, 4)], [[(0, 0, 4, 4)]], 0.5, "x0 < x1"),
        ([None], [[(4, 0, 0, 4)]], 0.5, "x0 < x1"),
        ([(0, 0, float("nan"), 4)], [[(0, 0, 4, 4)]], 0.5, "nan"),
        ([(0, 0, 4)], [[(0, 0, 4, 4)]], 0.5, "expected .x0, y0, x1, y1."),
        ([None], [[(0, 0, 4, 4)]], 0, "threshold = 0"),
    ],
)
def test_bad_boxes_are_named(found, truths, threshold, words):
    with pytest.raises(InputError, match=words):
        corloc(found, truths, threshold)


def test_bad_masks_are_named():
    with pytest.raises(InputError, match="expected bool"):
        box_of(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"expected \(H, W\)"):
        box_of(np.zeros((1, 2, 2), bool))

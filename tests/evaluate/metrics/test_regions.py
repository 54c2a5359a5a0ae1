from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import variation_of_information as skimage_information
from sklearn.metrics import mutual_info_score, rand_score
from sklearn.metrics.cluster import contingency_matrix

from tokenrank.errors import InputError
from tokenrank.evaluate.metrics.regions import (
    Scales,
    contingency,
    covering,
    ods_ois,
    rand_index,
    variation_of_information,
)

from .pictures import LABELS, same_shape

HALVES = np.array([[1, 1, 2, 2]])
QUARTERS = np.array([[1, 2, 3, 4]])
WHOLE = np.array([[1, 1, 1, 1]])


def covering_by_hand(segmentation: np.ndarray, annotators: list[np.ndarray]) -> float:
    above = below = 0.0
    for annotator in annotators:
        for region in (annotator == r for r in np.unique(annotator)):
            segments = [segmentation == s for s in np.unique(segmentation)]
            above += region.sum() * max((region & s).sum() / (region | s).sum() for s in segments)
            below += region.sum()
    return above / below


def entropy(labels: np.ndarray) -> float:
    return mutual_info_score(labels.ravel(), labels.ravel())


def test_covering_of_hand_made_segmentations():
    assert covering(HALVES, [HALVES]) == 1
    assert covering(WHOLE, [HALVES]) == pytest.approx(0.5)
    assert covering(QUARTERS, [HALVES]) == pytest.approx(0.5)
    # over both annotators' regions: two of size 2 at 1, one of size 4 at 1/2
    assert covering(HALVES, [HALVES, WHOLE]) == pytest.approx((2 + 2 + 4 * 0.5) / 8)


def test_rand_index_of_hand_made_segmentations():
    # of the 6 pairs, the 4 across the halves are apart in one and together in the other
    assert rand_index(WHOLE, [HALVES]) == pytest.approx(2 / 6)
    assert rand_index(QUARTERS, [HALVES]) == pytest.approx(4 / 6)
    assert rand_index(HALVES, [HALVES, WHOLE]) == pytest.approx((1 + 2 / 6) / 2)
    assert rand_index(np.array([[1]]), [np.array([[5]])]) == 1


def test_variation_of_information_is_in_bits():
    assert variation_of_information(WHOLE, [HALVES]) == pytest.approx(1)
    assert variation_of_information(QUARTERS, [WHOLE]) == pytest.approx(2)
    assert variation_of_information(HALVES, [np.array([[1, 2, 1, 2]])]) == pytest.approx(2)
    assert variation_of_information(HALVES, [HALVES]) == 0


@given(same_shape(LABELS, LABELS))
def test_equality_with_scikit_learn_and_scikit_image(pair):
    found, truth = pair
    table = contingency(found, truth)
    np.testing.assert_array_equal(
        table[table.any(1)][:, table.any(0)], contingency_matrix(found.ravel(), truth.ravel())
    )
    if found.size > 1:
        assert rand_index(found, [truth]) == pytest.approx(rand_score(truth.ravel(), found.ravel()))
    nats = entropy(found) + entropy(truth) - 2 * mutual_info_score(truth.ravel(), found.ravel())
    assert variation_of_information(found, [truth]) == pytest.approx(nats / np.log(2), abs=1e-9)
    assert variation_of_information(found, [truth]) == pytest.approx(sum(skimage_information(truth, found)), abs=1e-9)


@given(same_shape(LABELS, LABELS, LABELS))
def test_covering_equals_its_definition(triple):
    found, one, two = triple
    assert covering(found, [one, two]) == pytest.approx(covering_by_hand(found, [one, two]))


@given(same_shape(LABELS, LABELS), st.permutations(range(6)))
def test_ranges_symmetry_and_names_of_labels(pair, names):
    found, truth = pair
    renamed = np.array(names)[found] + 3
    for figure in (covering, rand_index, variation_of_information):
        assert figure(renamed, [truth]) == pytest.approx(figure(found, [truth]), abs=1e-12)
    for symmetric in (rand_index, variation_of_information):
        assert symmetric(found, [truth]) == pytest.approx(symmetric(truth, [found]), abs=1e-12)
    assert 0 < covering(found, [truth]) <= 1
    assert 0 <= rand_index(found, [truth]) <= 1
    assert 0 <= variation_of_information(found, [truth]) <= 2 * np.log2(found.size) + 1e-9
    assert (covering(truth, [truth]), rand_index(truth, [truth])) == (1, 1)
    assert variation_of_information(truth, [truth]) == pytest.approx(0, abs=1e-9)


def test_labels_far_apart_need_no_huge_table():
    far = HALVES * 10**12
    assert contingency(far, far).shape == (2, 2)
    assert covering(far, [HALVES]) == 1


def test_ods_ois_and_best_of_two_pictures():
    # picture one is best at scale 0, picture two at scale 1
    one = Scales.of([HALVES, QUARTERS], [HALVES])
    two = Scales.of([WHOLE, HALVES], [HALVES])
    assert one.covered.tolist() == [4, 2]
    assert two.covered.tolist() == [2, 4]
    figures = ods_ois([one, two])
    assert figures.covering_ods == pytest.approx(6 / 8)
    assert figures.covering_ois == 1
    assert figures.covering_best == 1
    assert figures.rand_ods == pytest.approx((4 / 6 + 1) / 2)
    assert figures.rand_ois == 1
    assert figures.information_ods == pytest.approx(0.5)
    assert figures.information_ois == 0
    assert (figures.covering_scale, figures.rand_scale, figures.information_scale) == (0, 1, 0)


def test_best_takes_each_region_from_its_own_scale():
    truth = np.array([[1, 1, 2, 2, 2, 2]])
    left, right = np.array([[1, 1, 2, 3, 4, 5]]), np.array([[1, 2, 3, 3, 3, 3]])
    scales = Scales.of([left, right], [truth])
    assert scales.best == 6
    assert scales.covered.max() < 6
    figures = ods_ois([scales])
    assert figures.covering_best == 1
    assert figures.covering_ois == figures.covering_ods < 1


def test_covering_is_pooled_over_pixels_and_the_others_over_pictures():
    small, large = Scales.of([WHOLE], [HALVES]), Scales.of([np.ones((4, 4), int)], [np.ones((4, 4), int)])
    figures = ods_ois([small, large])
    assert figures.covering_ods == pytest.approx((4 * 0.5 + 16) / 20)
    assert figures.rand_ods == pytest.approx((2 / 6 + 1) / 2)


@given(same_shape(LABELS, LABELS, LABELS, LABELS), same_shape(LABELS, LABELS, LABELS, LABELS))
def test_ods_is_never_better_than_ois_nor_that_than_best(one, two):
    pictures = [Scales.of(list(p[:2]), list(p[2:])) for p in (one, two)]
    f = ods_ois(pictures)
    assert f.covering_ods <= f.covering_ois + 1e-12 <= f.covering_best + 2e-12 <= 1 + 3e-12
    assert f.rand_ods <= f.rand_ois + 1e-12
    assert f.information_ods >= f.information_ois - 1e-12
    assert one[0].size + two[0].size == sum(p.area for p in pictures) // 2
    for picture, (coarse, fine, *annotators) in zip(pictures, (one, two), strict=True):
        assert picture.covered / picture.area == pytest.approx(
            [covering(coarse, annotators), covering(fine, annotators)]
        )
        assert picture.rand[1] == rand_index(fine, annotators)
        assert picture.information[0] == variation_of_information(coarse, annotators)


def test_one_scale_makes_ods_equal_ois():
    f = ods_ois([Scales.of([WHOLE], [HALVES]), Scales.of([QUARTERS], [HALVES])])
    assert (f.covering_ods, f.rand_ods, f.information_ods) == (f.covering_ois, f.rand_ois, f.information_ois)
    assert set(dataclasses.asdict(f)) >= {"covering_ods", "rand_ois", "information_scale"}


def test_a_published_size_of_picture_does_not_overflow():
    one = np.ones((481, 321), np.int32)
    two = np.arange(481 * 321).reshape(481, 321)
    assert rand_index(one, [two]) == pytest.approx(0)
    assert variation_of_information(one, [two]) == pytest.approx(np.log2(one.size))


@pytest.mark.parametrize(
    ("segmentation", "annotators", "words"),
    [
        (HALVES, [], "no annotator"),
        (HALVES, [HALVES[:, :3]], "but found has"),
        (HALVES.astype(float), [HALVES], "found has dtype float64, expected integer labels"),
        (HALVES, [HALVES - 2], "truth has the label -1"),
        (HALVES.tolist(), [HALVES], "found is a list"),
        (HALVES == 1, [HALVES], "found has dtype bool"),
    ],
)
def test_bad_segmentations_are_named(segmentation, annotators, words):
    for figure in (covering, rand_index, variation_of_information):
        with pytest.raises(InputError, match=words):
            figure(segmentation, annotators)


def test_bad_scales_are_named():
    with pytest.raises(InputError, match="no segmentation"):
        Scales.of([], [HALVES])
    with pytest.raises(InputError, match="no pictures"):
        ods_ois([])
    with pytest.raises(InputError, match=r"\[1, 2\] scales"):
        ods_ois([Scales.of([HALVES], [HALVES]), Scales.of([HALVES, WHOLE], [HALVES])])

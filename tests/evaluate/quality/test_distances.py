from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from tokenrank.errors import InputError
from tokenrank.evaluate.quality import Gaussian, frechet, inception_score, kernel_distance, precision_recall
from tokenrank.evaluate.quality.distances import radii


def drawn(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) @ random.normal(size=(d, d)) / np.sqrt(d) + shift


def gaussian(d: int, seed: int) -> Gaussian:
    random = np.random.default_rng(seed)
    factor = random.normal(size=(d, d))
    return Gaussian(random.normal(size=d), factor @ factor.T)


@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_frechet_of_gaussians_is_the_formula(d: int):
    one, two = gaussian(d, 1), gaussian(d, 2)
    common = scipy.linalg.sqrtm(one.covariance @ two.covariance).real
    expected = ((one.mean - two.mean) ** 2).sum() + np.trace(one.covariance + two.covariance - 2 * common)
    assert frechet(one, two) == pytest.approx(expected, rel=1e-6)
    assert frechet(two, one) == pytest.approx(expected, rel=1e-6)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9 * np.trace(one.covariance))


def test_frechet_of_gaussians_that_commute_is_known_in_closed_form():
    one = Gaussian(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    two = Gaussian(np.array([3.0, 1.0]), np.diag([1.0, 16.0]))
    assert frechet(one, two) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 4) ** 2)


def test_frechet_of_fewer_pictures_than_numbers_is_finite_and_symmetric():
    one, two = Gaussian.of(drawn(5, 20, 0)), Gaussian.of(drawn(9, 20, 1))
    assert frechet(one, two) == pytest.approx(frechet(two, one))
    assert frechet(one, two) > 0


def test_a_gaussian_is_numpys():
    x = drawn(30, 4, 0)
    found = Gaussian.of(x)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.mean, x.mean(0))


def kid_by_pairs(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    inner = [k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
    others = [k(y[i], y[j]) for i in range(len(y)) for j in range(len(y)) if i != j]
    return float(np.mean(inner) + np.mean(others) - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_kernel_distance_is_the_mean_over_pairs():
    x, y = drawn(9, 5, 0), drawn(14, 5, 1, 0.5)
    assert kernel_distance(x, y) == pytest.approx(kid_by_pairs(x, y), rel=1e-10)


def test_kernel_distance_is_unbiased():
    """Two halves of one population: on average nothing, though each has few pictures."""
    found = [kernel_distance(*np.split(np.random.default_rng(seed).normal(size=(16, 3)), 2)) for seed in range(4000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    biased = [np.mean(found) + 2 / 8]  # what counting a picture as its own pair would add, and more
    assert biased[0] > 3 * error


def by_balls(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    inside = []
    for point in points:
        hit = False
        for place, centre in enumerate(centres):
            others = np.sort(np.linalg.norm(np.delete(centres, place, 0) - centre, axis=1))
            hit |= bool(np.linalg.norm(point - centre) <= others[k - 1])
        inside.append(hit)
    return float(np.mean(inside))


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_of_balls_around_neighbours(k: int):
    generated, real = drawn(40, 3, 0), drawn(60, 3, 1, 0.7)
    precision, recall = precision_recall(generated, real, k)
    assert precision == pytest.approx(by_balls(generated, real, k))
    assert recall == pytest.approx(by_balls(real, generated, k))
    assert 0 < precision < 1
    assert 0 < recall < 1


def test_radii_in_blocks_are_those_of_all_at_once():
    x = drawn(1500, 4, 0)
    some = np.random.default_rng(0).integers(0, 1500, 20)
    expected = [np.sort(((x - x[i]) ** 2).sum(1))[3] for i in some]
    np.testing.assert_allclose(radii(x, 3)[some], expected, rtol=1e-9)


def test_inception_score_of_certain_and_even_classes_is_their_number():
    classes = np.tile(np.arange(5), 20)
    assert inception_score(1000.0 * np.eye(5)[classes], 10) == pytest.approx((5.0,) * 10)
    assert inception_score(np.zeros((20, 5)), 2) == pytest.approx((1.0, 1.0))
    assert inception_score(1000.0 * np.eye(5)[np.zeros(20, int)], 2) == pytest.approx((1.0, 1.0))


def test_inception_score_is_the_formula():
    logits = np.random.default_rng(0).normal(size=(50, 7))
    p = scipy.special.softmax(logits, axis=1)
    expected = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(0)), 1))) for q in np.split(p, 5)]
    assert inception_score(logits, 5) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Gaussian.of(np.zeros((1, 3))), "2 pictures or more"),
        (lambda: Gaussian.of(np.full((4, 3), np.nan)), "4 of 4 pictures are not finite"),
        (lambda: frechet(gaussian(2, 0), gaussian(3, 0)), "2 and 3 numbers"),
        (lambda: kernel_distance(np.zeros((4, 2)), np.zeros((4, 3))), "2 and 3 numbers"),
        (lambda: precision_recall(np.zeros((3, 2)), np.zeros((9, 2))), "neighbours = 3 of 3 generated"),
        (lambda: inception_score(np.zeros((3, 2))), "splits = 10 of 3 pictures"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, words: str):
    with pytest.raises(InputError, match=words):
        call()

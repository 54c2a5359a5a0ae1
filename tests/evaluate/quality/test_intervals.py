from __future__ import annotations

import numpy as np
import pytest

from tests.evaluate.quality.test_distances import drawn as made
from tokenrank.errors import InputError
from tokenrank.evaluate.quality import (
    Gaussian,
    counts,
    difference,
    frechet,
    frechet_drawn,
    kernel_distance,
    kernel_drawn,
)


def test_counts_are_draws_with_replacement():
    found = counts(50, 300, 1)
    assert (found.sum(1) == 50).all()
    assert abs(found.mean() - 1) < 1e-12
    assert (found == counts(50, 300, 1)).all()
    assert (found != counts(50, 300, 2)).any()


def test_draws_are_distances_of_the_pictures_that_were_drawn():
    x, y = made(30, 4, 0), made(40, 4, 1, 0.3)
    drawn = counts(30, 5)
    found = frechet_drawn(x, Gaussian.of(y), drawn)
    assert found.estimate == pytest.approx(frechet(Gaussian.of(x), Gaussian.of(y)))
    again = [frechet(Gaussian.of(np.repeat(x, row, axis=0)), Gaussian.of(y)) for row in drawn]
    np.testing.assert_allclose(found.draws, again, rtol=1e-8)


def test_draws_of_the_kernel_distance_leave_out_pairs_of_one_picture():
    x, y = made(12, 4, 0), made(20, 4, 1, 0.3)
    found = kernel_drawn(x, y, counts(12, 3))
    assert found.estimate == pytest.approx(kernel_distance(x, y))
    for row, value in zip(counts(12, 3), found.draws, strict=True):
        places = np.repeat(np.arange(12), row)
        k = (x @ x.T / 4 + 1) ** 3
        inner = np.mean([k[i, j] for i in places for j in places if i != j])
        other = (y @ y.T / 4 + 1) ** 3
        outer = (other.sum() - np.trace(other)) / (20 * 19)
        assert value == pytest.approx(inner + outer - 2 * ((x[places] @ y.T / 4 + 1) ** 3).mean())


def test_intervals_cover_what_another_sample_gives():
    """Of a hundred samples of one population, some 95 intervals hold the mean distance of all samples."""
    y = np.random.default_rng(0).normal(size=(400, 3))
    found = [
        frechet_drawn(np.random.default_rng(seed).normal(0.4, 1.2, (200, 3)), Gaussian.of(y), counts(200, 100, seed))
        for seed in range(1, 101)
    ]
    centre = np.mean([one.estimate for one in found])
    held = sum(one.interval.low <= centre <= one.interval.high for one in found)
    assert 86 <= held <= 100
    for one in found:
        assert one.interval.low < one.estimate < one.interval.high


def test_pairs_find_a_difference_that_apart_would_be_lost():
    random = np.random.default_rng(0)
    y = Gaussian.of(random.normal(size=(500, 4)))
    base = random.normal(0.7, 1.3, (300, 4))
    drawn = counts(300, 200)
    near, far = frechet_drawn(base, y, drawn), frechet_drawn(base + 0.03, y, drawn)
    found = difference(far, near)
    assert found.interval.estimate == pytest.approx(far.estimate - near.estimate)
    assert found.interval.low > 0
    assert found.p < 1e-3
    assert near.interval.high > far.interval.low  # the intervals themselves overlap
    same = difference(near, near)
    assert (same.interval.estimate, same.p) == (0, 1)
    turned = difference(near, far)
    assert turned.p == found.p
    assert turned.interval.estimate == -found.interval.estimate


def test_p_is_even_where_there_is_no_difference():
    found = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        y, drawn = Gaussian.of(random.normal(size=(200, 2))), counts(100, 60, seed)
        one, two = random.normal(0.7, 1.3, (2, 100, 2))
        found.append(difference(frechet_drawn(one, y, drawn), frechet_drawn(two, y, drawn)).p)
    assert 0.005 < np.mean(np.array(found) < 0.05) < 0.12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: counts(1), "1 pictures and 200 resamples"),
        (lambda: frechet_drawn(made(5, 2, 0), Gaussian.of(made(5, 3, 0)), counts(5)), "2 and 3 numbers"),
        (lambda: frechet_drawn(made(5, 2, 0), Gaussian.of(made(5, 2, 0)), counts(6)), r"expected counts\(5\)"),
        (lambda: kernel_drawn(made(5, 2, 0), made(5, 2, 0), counts(6)), r"expected counts\(5\)"),
        (
            lambda: difference(
                kernel_drawn(made(5, 2, 0), made(5, 2, 0), counts(5, 3)),
                kernel_drawn(made(5, 2, 0), made(5, 2, 0), counts(5, 4)),
            ),
            "3 and 4 draws",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, words: str):
    with pytest.raises(InputError, match=words):
        call()

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats

from tokenrank.errors import InputError
from tokenrank.evaluate.statistics import bootstrap, compare, holm, interval, rank_biserial, wilcoxon

ZEROS = [0.0] * 5


def test_wilcoxon_by_hand():
    assert wilcoxon([1, 2, 3, 4, 5], ZEROS) == (0, 2 / 32)
    # R⁻ = 4; of the 32 signs of the ranks 1 … 5 seven have a sum of 4 or less: {}, 1, 2, 3, 1+2, 4, 1+3
    assert wilcoxon([1, 2, 3, -4, 5], ZEROS) == (4, 2 * 7 / 32)
    assert wilcoxon(ZEROS, [1, 2, 3, -4, 5]) == (4, 2 * 7 / 32)


def test_wilcoxon_drops_equal_pairs():
    assert wilcoxon([5, 7, 1, 2, 3], [5, 7, 0, 0, 0]) == (0, 2 / 8)


def test_wilcoxon_of_equal_values_is_one():
    assert wilcoxon([0.3, 0.4], [0.3, 0.4]) == (0, 1)
    assert wilcoxon([0, 0], [0, 0]) == (0, 1)
    # 0.1 + 0.2 is not 0.3 in binary
    assert wilcoxon([0.1 + 0.2, 0.7], [0.3, 0.7])[1] == 1


def test_rounding_does_not_break_ties():
    # three differences of 0.1, and none of them the same float
    a, b = [0.3, 0.4, 0.8, 0.2], [0.2, 0.3, 0.7, 0.4]
    assert len({x - y for x, y in zip(a[:3], b[:3], strict=True)}) == 3
    assert rank_biserial(a, b) == pytest.approx((2 + 2 + 2 - 4) / 10)


def test_wilcoxon_of_many_is_scipys():
    a, b = np.random.default_rng(0).normal(size=(2, 80))
    assert wilcoxon(a, b) == pytest.approx(tuple(scipy.stats.wilcoxon(a, b)))


def test_rank_biserial_by_hand():
    assert rank_biserial([1, 2, 3, -4, 5], ZEROS) == pytest.approx((11 - 4) / 15)
    assert rank_biserial([1, -1, 2], [0, 0, 0]) == pytest.approx((1.5 + 3 - 1.5) / 6)
    assert rank_biserial([2, 3, 9], [1, 1, 9]) == 1
    assert rank_biserial([1, 1, 9], [2, 3, 9]) == -1
    assert rank_biserial([4, 5], [4, 5]) == 0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.5, 0.9]) == (1, 1)
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()


def test_holm_never_changes_the_order_nor_goes_beyond_bonferroni():
    p = np.random.default_rng(1).random(30) ** 3
    corrected = np.array(holm(p.tolist()))
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, 30 * p) + 1e-15).all()


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(p: list[float]):
    with pytest.raises(InputError, match=r"expected numbers from 0 to 1|not finite"):
        holm(p)


def test_bootstrap_is_the_distribution_of_all_resamples():
    values = [0.0, 1.0, 5.0]
    every = [np.mean(drawn) for drawn in product(values, repeat=3)]
    found = bootstrap(values, level=0.8, resamples=20_000)
    assert found.estimate == 2
    assert (found.low, found.high) == pytest.approx(np.quantile(every, [0.1, 0.9]))
    median = bootstrap(values, lambda x: float(np.median(x)), level=0.4, resamples=4000)
    medians = [np.median(drawn) for drawn in product(values, repeat=3)]
    assert (median.low, median.estimate, median.high) == (*np.quantile(medians, [0.3]), 1, np.quantile(medians, 0.7))


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(2).gamma(2, size=60)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    found = bootstrap(values, resamples=20_000)
    width = found.high - found.low
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=width / 40)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=width / 40)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    found = [bootstrap(rng.normal(size=60), resamples=300, seed=i) for i in range(300)]
    assert 0.90 <= np.mean([entry.low <= 0 <= entry.high for entry in found]) <= 0.98


def test_one_seed_draws_the_same_images():
    values = np.random.default_rng(4).random(20)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    assert bootstrap(values) == bootstrap(values, lambda x: float(x.mean()))


def test_a_constant_has_no_width():
    found = bootstrap([3.0] * 7)
    assert (found.low, found.estimate, found.high) == (3, 3, 3)
    assert bootstrap([3.0]).high == 3


def test_interval_leaves_out_what_is_not_finite():
    found = interval(0.5, [float("nan"), *np.linspace(0, 1, 101), float("inf")], level=0.9)
    assert (found.low, found.high) == pytest.approx((0.05, 0.95))
    assert np.isnan(interval(float("nan"), [float("nan")]).low)


def test_compare_by_hand():
    nan = float("nan")
    found = compare([1, 2, 3, -4, 5, nan, 7, 8], [0, 0, 0, 0, 0, 0, nan, 8])
    assert (found.n, found.equal) == (6, 1)
    assert found.difference.estimate == pytest.approx(7 / 6)
    assert found.difference.low < 7 / 6 < found.difference.high
    assert (found.statistic, found.p) == (4, 2 * 7 / 32)
    assert found.effect == pytest.approx(7 / 15)


def test_compare_the_other_way_round():
    a, b = np.random.default_rng(5).random((2, 30))
    there, back = compare(a, b), compare(b, a)
    assert there.difference.estimate == pytest.approx(-back.difference.estimate)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.p == back.p
    assert there.effect == pytest.approx(-back.effect)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compare([1, 2], [1]), r"shapes \(2,\) and \(1,\)"),
        (lambda: compare([], []), r"n ≥ 1"),
        (lambda: compare([float("nan")], [1]), "none of 1 images has a finite value"),
        (lambda: wilcoxon([1, float("nan")], [1, 2]), "1 of 2 values are not finite"),
        (lambda: bootstrap([]), "n ≥ 1"),
        (lambda: bootstrap([[1.0]]), r"shape \(1, 1\)"),
        (lambda: bootstrap([1.0], resamples=0), "0 resamples"),
        (lambda: bootstrap([1.0], level=95), "level = 95"),
    ],
)
def test_bad_input_is_named(call, words: str):
    with pytest.raises(InputError, match=words):
        call()

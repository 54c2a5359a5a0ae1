"""The choices and comparisons of `benchmarks/evidence.py`, and that every plan names methods that there are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tokenrank.baselines import registry
from tokenrank.evaluate.protocols import find

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import evidence  # noqa: E402
import evidence_page  # noqa: E402
from evidence_plans import PLANS, register_methods  # noqa: E402

sys.path.remove(str(BENCHMARKS))

MEANS = pd.Series(
    {"rank:layer=0:heads=uniform": 0.2, "rank:layer=1:heads=lambda2": 0.4, "rank:n=2:layer=1": 0.3, "centre": 0.4}
)


@pytest.mark.parametrize("plan", PLANS)
def test_every_method_and_pair_of_a_plan_exists(plan: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))  # other tests know the package's methods alone
    register_methods()
    made = PLANS[plan]
    methods = made.methods(range(12))
    assert len(find(made.protocol, **made.options).methods(",".join(methods))) == len(methods)
    if plan == "arrival":  # measured beside the other methods that are told nothing
        methods += PLANS["saliency"].methods(range(12))
    means = pd.Series(np.linspace(0, 1, len(methods)), index=methods)
    for first, second in (*made.pairs(range(12)), *made.everywhere(range(12))):
        assert evidence.resolved(first, means, True) in methods, first
        assert evidence.resolved(second, means, True) in methods, second
    for layers in ((5,), range(6)):
        assert len(set(made.methods(layers))) == len(made.methods(layers))


def test_layer_heads_and_distance_are_chosen_within_a_family_and_nothing_else():
    assert evidence.family("bounce:n=2:direction=backward:layer=3:heads=uniform") == "bounce:n=2:direction=backward"
    assert evidence.family("merge:layer=1:heads=uniform:tau=0.3:grid=uniform") == "merge:grid=uniform"
    assert evidence.chosen(MEANS, True) == ["rank:layer=1:heads=lambda2", "rank:n=2:layer=1", "centre"]
    assert evidence.chosen(MEANS, False)[0] == "rank:layer=0:heads=uniform"


def test_patterns_are_the_best_of_what_they_match():
    assert evidence.resolved("@rank:layer=.*", MEANS, True) == "rank:layer=1:heads=lambda2"
    assert evidence.resolved("@rank.*", MEANS, False) == "rank:layer=0:heads=uniform"
    assert evidence.resolved("centre", MEANS, True) == "centre"
    assert evidence.resolved("@other.*", MEANS, True) is None
    assert evidence.resolved("other", MEANS, True) is None


def test_comparisons_are_paired_and_leave_out_pictures_that_one_of_the_two_lacks():
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.random((40, 2)), columns=["rank:n=2:layer=1", "centre"])
    table.iloc[3, 0] = np.nan
    (pair,) = evidence.compared([("@rank:n=2.*", "centre"), ("@none", "centre")], table, MEANS, True)
    kept = table.drop(index=3).to_numpy()
    assert pair["n"] == 39
    assert pair["difference"] == pytest.approx((kept[:, 0] - kept[:, 1]).mean(), abs=1e-5)
    assert pair["low"] < pair["difference"] < pair["high"]
    assert pair["p"] == pytest.approx(scipy.stats.wilcoxon(kept[:, 0], kept[:, 1]).pvalue, rel=0.05)
    assert (pair["first"], pair["second"]) == ("rank:n=2:layer=1", "centre")


def test_runs_beside_each_other_have_the_same_pictures_and_each_method_once():
    rows = pd.DataFrame({"key": ["a", "b"], "method": "x", "iou": [0.1, 0.2]})
    beside = pd.DataFrame({"key": ["a", "b"] * 2, "method": ["x", "x", "y", "y"], "iou": [0.9, 0.9, 0.3, 0.4]})
    found = evidence.joined(rows, beside)
    assert found["iou"].tolist() == [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(SystemExit, match="other pictures"):
        evidence.joined(rows[:1], beside)


def test_counts_of_layers_are_corrected_for_their_number():
    pairs = [{"difference": d, "p": p} for d, p in ((0.1, 0.001), (-0.2, 0.002), (0.05, 0.04), (0.0, 1.0))]
    # 0.04 is no finding among four
    assert evidence_page.better(pairs) == "1 better, 1 worse of 4 (−0.200 … +0.100)"


def test_numbers_and_choices_as_the_page_writes_them():
    pair = {"difference": 0.0184, "low": -0.0102, "high": 0.0268, "p": 0.0012}
    assert evidence_page.difference(pair) == "+0.018 [−0.010, +0.027], p 1e-3"
    assert evidence_page.difference(pair | {"p": 0.25}).endswith("p 0.25")
    assert evidence_page.choice("tokencut:layer=9:what=h") == " (9, h)"
    assert evidence_page.choice("rollout") == ""


def test_the_command_of_a_table_can_be_typed():
    about = {"command": "python benchmarks/evidence.py seed DATA --model clip_vit_b16 --only (a|b)$ --runs RUNS"}
    about |= {"network": "clip_vit_b16", "images": 9, "failures": 1, "date": "2026-11-28"}
    words = "python benchmarks/evidence.py seed DATA --model NETWORKS/clip-vit-b16 --only '(a|b)$' --runs RUNS"
    assert evidence_page.command(evidence_page.Result(about)) == f"`{words}`: 9 pictures, 1 left out, 2026-11-28."


def test_every_table_of_the_page_is_what_the_results_say():
    page = (BENCHMARKS.parent / "docs" / "evidence.md").read_text(encoding="utf-8")
    marks = evidence_page.MARKS.findall(page)
    assert len(marks) == page.count("<!-- / -->")
    for mark, written in marks:
        assert written.strip() == evidence_page.made(mark), f"{mark}: run python benchmarks/evidence_page.py"

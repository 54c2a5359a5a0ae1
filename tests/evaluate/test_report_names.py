from __future__ import annotations

import re

import numpy as np
import pytest

from tests.evaluate.protocol_cases import picture, rows_of
from tests.evaluate.test_report_examples import MAPS, samples
from tokenrank.baselines import methods as registered
from tokenrank.evaluate.protocols import (
    PROTOCOLS,
    SEGMENTERS,
    Clustering,
    ImageNetSegmentation,
    Masking,
    Protocol,
    Regions,
    Saliency,
    Several,
)
from tokenrank.evaluate.protocols.concept_methods import concept_functions
from tokenrank.evaluate.report.names import METHODS, about_method, figure_name, method_names
from tokenrank.evaluate.report.names import PROTOCOLS as TITLES
from tokenrank.evaluate.report.words import duration
from tokenrank.models import load


def test_every_protocol_and_method_of_ours_has_a_name():
    assert set(TITLES) == set(PROTOCOLS)
    assert set(METHODS) == set(registered()) | set(SEGMENTERS) | set(concept_functions())
    assert all(about_method(name) and "`" not in about_method(name) for name in registered())


@pytest.mark.parametrize(
    ("protocol", "methods"),
    [
        (Saliency(size=64, posts=("component", "refined"), structure=True), MAPS),
        (ImageNetSegmentation(side=48), MAPS),
        (Several(size=64), "bounce"),
        (Regions(size=64, scales=(2, 3)), "kmeans:layer=3"),
        (Clustering(classes=3, pixels=48, size=64), "kmeans:k=3"),
        (Masking(ratios=(0, 0.5), side=48), "column_sum:layer=3"),
    ],
)
def test_every_figure_of_ours_has_a_name(protocol: Protocol, methods: str):
    model, data = load("bundled", head=True), samples()
    rows = rows_of(protocol, model, [data.read(key) for key in data.keys[:2]], protocol.methods(methods))
    summary = protocol.summary(rows)
    keys = [name for name in summary.columns if np.isscalar(summary[name].iloc[0])]
    names = [figure_name(key) for key in keys]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "_" in name or re.fullmatch(r"[a-z]+", name)], names
    assert picture().size == (64, 48)


def test_methods_read_well_and_stay_apart():
    assert method_names(["tokenrank:layer=3:heads=uniform", "bounce:n=2", "tokencut:tau=0.2", "mine:norm"]) == {
        "tokenrank:layer=3:heads=uniform": "TokenRank, layer 3, heads uniform",
        "bounce:n=2": "Bounces, n = 2",
        "tokencut:tau=0.2": "TokenCut, τ = 0.2",
        "mine:norm": "mine:norm",
    }
    # two names for one would not be told apart
    twins = ["pytorch_grad_cam:target_layer=3", "pytorch_grad_cam:target layer=3"]
    assert method_names(twins) == {name: name for name in twins}
    assert figure_name("my_own_figure") == "my_own_figure"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0018, "1.8 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"),
        (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"), (7845, "2 h 10 min"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str):
    assert duration(seconds) == words

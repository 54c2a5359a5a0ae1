from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.evaluate.protocol_cases import Listed, gives, picture, rows_of, tells
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.methods import Query
from tokenrank.evaluate.protocols import Masking
from tokenrank.evaluate.protocols.observe import observe_square
from tokenrank.models import Model, load
from tokenrank.tasks.mask_tokens import mask_tokens

RATIOS = (0, 0.25, 0.5, 0.9)
MAP = np.random.default_rng(2).permutation(16).astype(float)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


def predicted(model: Model, seed: int = 0) -> int:
    return int(model.classify(model.forward(observe_square(model, picture(seed=seed), 32).inputs)).argmax())


@pytest.mark.parametrize("how", ["keys", "remove", "pixels"])
def test_curves_are_those_of_masking_in_the_order_of_the_map(model: Model, how: str):
    sample = Sample("a", picture(), target=predicted(model))
    protocol = Masking(how=(how,), ratios=RATIOS, side=32)
    (row,) = protocol.rows(model, sample, [gives("map", MAP)])
    observation = observe_square(model, sample.image, 32)
    falling = np.argsort(-MAP)
    for name, order in (("most", falling), ("least", falling[::-1].copy())):
        logits = mask_tokens(observation, torch.from_numpy(order), RATIOS, how)[:, 0].double()
        assert row[f"correct_{how}_{name}"] == (logits.argmax(-1) == sample.target).long().tolist()
        assert row[f"probability_{how}_{name}"] == pytest.approx(
            logits.softmax(-1)[:, sample.target].tolist(), abs=1e-6
        )
        correct = row[f"correct_{how}_{name}"]
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(RATIOS, RATIOS[1:], correct, correct[1:], strict=False))
        assert row[f"auc_{how}_{name}"] == pytest.approx(100 * area)
    assert row["base"] == 1
    most, least = row[f"probability_{how}_most"], row[f"probability_{how}_least"]
    assert most[0] == least[0]
    assert most[1] != least[1]


def test_single_pixels_are_a_way_of_their_own(model: Model):
    sample = Sample("a", picture(), target=0)
    protocol = Masking(how=("pixels", "single-pixels"), orders=("most",), ratios=RATIOS, side=32)
    (row,) = protocol.rows(model, sample, [gives("map", MAP)])
    assert row["probability_pixels_most"][0] == row["probability_single-pixels_most"][0]
    assert row["probability_pixels_most"][2] != row["probability_single-pixels_most"][2]


@pytest.mark.parametrize("how", ["keys", "remove", "pixels", "single-pixels"])
def test_a_method_has_the_row_that_it_has_alone(model: Model, how: str):
    sample = Sample("a", picture(), target=predicted(model))
    protocol = Masking(how=(how,), ratios=RATIOS, side=32, batch=3)
    methods = [gives("one", MAP), gives("two", -MAP), gives("three", np.roll(MAP, 5))]
    together = protocol.rows(model, sample, methods)
    for method, row in zip(methods, together, strict=True):
        (alone,) = protocol.rows(model, sample, [method])
        assert set(alone) == set(row)
        for name, value in alone.items():
            assert row[name] == (value if name == "method" else pytest.approx(value, abs=1e-5)), name
    one, two, _ = together
    assert one[f"probability_{how}_most"] == pytest.approx(two[f"probability_{how}_least"], abs=1e-5)
    assert one[f"probability_{how}_most"] != pytest.approx(one[f"probability_{how}_least"], abs=1e-3)


def test_summary_is_the_area_under_the_accuracy_of_all_pictures(model: Model):
    samples = [
        Sample(key, picture(seed=seed), target=predicted(model, seed) if key != "c" else 7)
        for seed, key in enumerate("abc")
    ]
    protocol = Masking(how=("keys",), ratios=RATIOS, side=32)
    rows = rows_of(protocol, model, samples, protocol.methods("tokenrank,random,grad_cam"))
    summary = protocol.summary(rows)
    for method in ("tokenrank", "random", "grad_cam"):
        accuracy = np.stack(rows[rows.method == method].correct_keys_least.to_list()).mean(0)
        assert summary.at[method, "accuracy_keys_least"] == pytest.approx(accuracy)
        assert summary.at[method, "base"] == pytest.approx(accuracy[0]) == pytest.approx(2 / 3)
        area = np.trapezoid(accuracy, RATIOS)
        assert summary.at[method, "auc_keys_least"] == pytest.approx(100 * area)
        assert summary.at[method, "normalised_keys_least"] == pytest.approx(area / accuracy[0] / 0.9)


def test_headline_is_the_first_way_and_order():
    assert Masking().headline == "auc_keys_most"
    assert not Masking().higher_is_better
    assert Masking(how=("remove",), orders=("least",)).headline == "auc_remove_least"
    assert Masking(orders=("least", "most")).higher_is_better
    assert Masking().ratios[:3] == (0, 0.05, 0.1)
    assert Masking().ratios[-1] == 0.95


def test_class_methods_explain_the_predicted_class_or_the_target(model: Model):
    heard: list[Query] = []
    sample = Sample("a", picture(), target=5)
    for explain in ("predicted", "target"):
        Masking(how=("pixels",), ratios=(0, 0.5), side=16, explain=explain).rows(model, sample, [tells("class", heard)])
    assert [query.label for query in heard] == [None, 5]


def test_what_cannot_be_used_is_refused(model: Model):
    with pytest.raises(InputError, match="how of 'masking' has 'values', expected some of keys"):
        Masking(how=("values",))
    with pytest.raises(InputError, match="orders of 'masking' has none"):
        Masking(orders=())
    with pytest.raises(InputError, match=r"ratios = \(0.1, 0.2\), expected 0 first"):
        Masking(ratios=(0.1, 0.2))
    with pytest.raises(InputError, match="explain = 'all'"):
        Masking(explain="all")
    with pytest.raises(InputError, match="has no target"):
        Masking().check(Listed(Sample("a", picture())))
    with pytest.raises(InputError, match="is of class 200, and model 'bundled' knows 0 to 199"):
        Masking(side=16).rows(model, Sample("a", picture(), target=200), [gives("map", np.zeros(4))])

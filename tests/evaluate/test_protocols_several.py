from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluate.protocol_cases import gives, picture, rows_of
from tokenrank.baselines import Method
from tokenrank.chain import TokenMap
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.methods import NamedMethod
from tokenrank.evaluate.protocols import Several
from tokenrank.evaluate.protocols.several import large_classes
from tokenrank.layout import Point
from tokenrank.models import Model, load
from tokenrank.observation import Observation


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


def quarters() -> np.ndarray:
    """48 × 64: thing 3 on the left half, thing 5 top right, stuff 150 bottom right, and a strip without a label."""
    labels = np.full((48, 64), 3, dtype=np.int64)
    labels[:24, 32:], labels[24:, 32:], labels[40:] = 5, 150, -1
    return labels


SAMPLE = Sample("a", picture(), labels=quarters())


def around() -> NamedMethod:
    """A method that finds all patches of its seed's quarter, the whole left half in the case of the left."""

    def quarter(observation: Observation, *, start: Point | None = None) -> TokenMap:
        rows, columns = observation.grid
        row, column = divmod(observation.picture_layout.token_at(start), columns)
        values = np.zeros((rows, columns))
        if column < columns // 2:
            values[:, : columns // 2] = 1
        else:
            half = slice(None, rows // 2) if row < rows // 2 else slice(rows // 2, None)
            values[half, columns // 2 :] = 1
        return observation.map(torch.from_numpy(values.flatten()))

    return NamedMethod("around", Method.of("around", quarter, ("seed",)))


def test_every_class_is_found_from_a_seed_on_it(model: Model):
    (row,) = Several(size=64).rows(model, SAMPLE, [around()])
    assert row["classes"] == 3
    # whole patches on the grid, and what has no label does not count
    assert row["iou_component"] == row["iou_things_component"] == row["iou_stuff_component"] == 1


def test_things_and_stuff_are_means_over_their_classes(model: Model):
    left = np.zeros((6, 8))
    left[:, :4] = 1
    (row,) = Several(size=64).rows(model, SAMPLE, [gives("left", left)])
    # a seed that is no foreground is a component of its own patch, 8 × 8 of the 24 × 32 and 16 × 32 labelled pixels,
    # or joins the left half where it lies beside it
    things, stuff = row["iou_things"], row["iou_stuff"]
    assert row["iou"] == pytest.approx((2 * things + stuff) / 3)
    assert stuff < 0.1 < things


def test_a_kind_that_is_not_there_is_nan_and_left_out_of_the_mean(model: Model):
    things = replace(SAMPLE, key="b", labels=np.where(SAMPLE.labels == 150, 7, SAMPLE.labels))
    rows = rows_of(Several(size=64), model, [SAMPLE, things], [around()])
    assert np.isnan(rows["iou_stuff"][1])
    figures = Several(size=64).summary(rows).loc["around"]
    assert figures["iou_stuff_component"] == 1
    assert figures["classes"] == 3


def test_small_classes_and_pictures_of_one_class_are_refused(model: Model):
    labels = np.full((48, 64), 3, dtype=np.int64)
    labels[0, :20] = 5
    with pytest.raises(InputError, match="has 1 classes that cover 1% of what is labelled, expected 2 at least"):
        Several(size=64).rows(model, Sample("a", picture(), labels=labels), [around()])
    with pytest.raises(InputError, match=r"least = 1\.5"):
        Several(least=1.5)
    with pytest.raises(InputError, match="native"):
        Several(size=64, native=True)


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.floats(0.01, 0.9))
@settings(max_examples=60, deadline=None)
def test_large_classes_are_those_of_a_plain_count(values: list[int], least: float):
    labelled = [value for value in values if value >= 0]
    expected = sorted({value for value in labelled if labelled.count(value) >= least * len(labelled)})
    assert large_classes(np.array(values), least) == expected

"""The data themselves, where the environment variable TOKENRANK_DATA says in which folder they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tokenrank.evaluate.datasets.opening import open_dataset
from tokenrank.evaluate.datasets.sample import half

DATA = os.environ.get("TOKENRANK_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="TOKENRANK_DATA is not set")


def folder(name: str) -> Path:
    return Path(str(DATA)) / name


def test_ecssd():
    dataset = open_dataset("ecssd", folder("ecssd"))
    assert not dataset.problems
    assert len(half(dataset.keys, 0)) + len(half(dataset.keys, 1)) == len(dataset)
    means = [dataset.read(key).mask.mean() for key in dataset.keys[::10]]
    assert 0.1 < np.mean(means) < 0.4  # 0.23 is published


def test_bsds500():
    dataset = open_dataset("bsds500", folder("bsds500"))
    assert not dataset.problems
    for key in dataset.keys[::10]:
        sample = dataset.read(key)
        assert sorted(sample.image.size) == [321, 481]
        assert len(sample.regions) >= 4
        for regions in sample.regions:
            assert np.unique(regions).tolist() == list(range(1, regions.max() + 1))


def test_tiny_imagenet():
    dataset = open_dataset("parquet", folder("tiny-imagenet"))
    assert len(dataset) == 5000
    assert len(dataset.classes) == 200
    for key in dataset.keys[::250]:
        sample = dataset.read(key)
        assert sample.image.size == (64, 64)
        assert sample.word == dataset.classes[sample.target]
        x0, y0, x1, y1 = sample.box
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 64

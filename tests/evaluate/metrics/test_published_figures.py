"""On the real annotations: people against people score as the benchmark reports."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from tokenrank.evaluate.metrics.regions import Scales, ods_ois

DATA = os.environ.get("TOKENRANK_DATA")


@pytest.mark.skipif(DATA is None, reason="TOKENRANK_DATA is not set: no folder that holds bsds500/")
def test_people_against_the_other_people_of_bsds500():
    files = sorted((Path(str(DATA)) / "bsds500" / "groundTruth").glob("*.mat"))[:100]
    assert files
    scales = []
    for file in files:
        people = [p["Segmentation"][0, 0].astype(np.int64) for p in scipy.io.loadmat(file)["groundTruth"][0]]
        scales += [Scales.of([person], people[:i] + people[i + 1 :]) for i, person in enumerate(people)]
    figures = ods_ois(scales)
    # .72, .88 and 1.17 are the figures of the literature [R], over the test images; here it is the validation images
    assert figures.covering_ods == pytest.approx(0.72, abs=0.02)
    assert figures.rand_ods == pytest.approx(0.88, abs=0.02)
    assert figures.information_ods == pytest.approx(1.17, abs=0.05)

"""torch-fidelity, and ours beside it. Its network has random weights here, in a file as the real ones are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluate.quality.test_distances import drawn
from tests.evaluate.quality.test_measure import pictures
from tokenrank.errors import InputError, MissingExtraError
from tokenrank.evaluate.quality import (
    Gaussian,
    frechet,
    inception,
    inception_score,
    kernel_distance,
    measure,
    precision_recall,
)
from tokenrank.evaluate.quality.features import Features
from tokenrank.evaluate.quality.inception import scores


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.manual_seed(0)

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **options):
            return None

    empty = file.with_name("empty.pth")
    torch.save({}, empty)
    made = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(empty))
    torch.save(made.state_dict(), file)
    return file


def test_distances_are_torch_fidelitys():
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    kid, prc, isc = (pytest.importorskip(f"torch_fidelity.metric_{name}") for name in ("kid", "prc", "isc"))
    x, y = drawn(300, 24, 0), drawn(300, 24, 1, 0.4)
    one, two = (torch.from_numpy(z) for z in (x, y))
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(z) for z in (one, two)), False)
    assert frechet(Gaussian.of(x), Gaussian.of(y)) == pytest.approx(next(iter(theirs.values())), rel=1e-6)
    (mean, _) = kid.kid_features_to_metric(one, two, kid_subsets=2, kid_subset_size=300, verbose=False).values()
    assert kernel_distance(x, y) == pytest.approx(mean, rel=1e-9)
    alike = prc.prc_features_to_metric(one, two, verbose=False)
    assert precision_recall(x, y) == pytest.approx((alike["precision"], alike["recall"]), abs=1 / 300)
    (mean, deviation) = isc.isc_features_to_metric(one, 5, shuffle=False).values()
    assert (np.mean(inception_score(x, 5)), np.std(inception_score(x, 5))) == pytest.approx((mean, deviation))


def test_numbers_on_inception_are_computed_by_torch_fidelity(weights: Path, tmp_path: Path):
    network = inception(weights)
    one, two = pictures(8, 0), pictures(8, 1, 60)
    found = measure(one, two, [network], store=tmp_path, splits=2)
    assert set(found.values) == {
        "inception_score", "inception_score_deviation", "fid", "kid", "kid_deviation", "precision", "recall",
    }  # fmt: skip
    x, y = network.run(one), network.run(two)
    assert x.values.shape == (8, 2048)
    assert x.logits is not None
    assert x.logits.shape == (8, 1008)
    assert found.values["fid"] == pytest.approx(frechet(Gaussian.of(x.values), Gaussian.of(y.values)), rel=1e-4)
    alone = measure(one, None, [network], store=tmp_path, splits=2).values  # of features that are stored by now
    assert alone == {name: found.values[name] for name in ("inception_score", "inception_score_deviation")}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.metric_isc", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[quality\]'"):
        inception(tmp_path / "weights.pth")
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[quality\]'"):
        scores(Features(np.zeros((12, 2), np.float32), np.zeros((12, 2), np.float32)), None)


class Harm:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


def test_files_that_are_no_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch_fidelity")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"none\.pth"):
        inception(tmp_path / "none.pth")
    for name, content in (("harm", {"a": Harm()}), ("other", {"a": torch.zeros(2)}), ("list", [1])):
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match="fetch it again"):
            inception(tmp_path / name)
    assert not Path("harmed").exists()


def test_features_without_logits_have_no_inception_score():
    with pytest.raises(InputError, match="no logits"):
        scores(Features(np.zeros((12, 2), np.float32)), None)
    with pytest.raises(InputError, match="splits = 10 of 2 pictures"):
        scores(Features(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)), None)

"""The linear classifier that is trained on a network for masking (`benchmarks/classifier.py`)."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
classifier = import_module("classifier")
sys.path.pop(0)


def test_the_layer_is_scikit_learns_discriminant(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    monkeypatch.setattr(classifier, "CLASSES", 5)
    generator = torch.Generator().manual_seed(1)
    label = torch.arange(5).repeat(12)
    features = torch.randn(60, 7, generator=generator) @ torch.randn(7, 7, generator=generator)
    features += 3 * torch.randn(5, 7, generator=generator)[label]
    for shrinkage in (0.03, 0.5):
        tensors = classifier.trained(features, label, shrinkage)
        theirs = analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        theirs.fit(features.double().numpy(), label.numpy())
        found = classifier.logits(features, tensors).double().numpy()
        expected = theirs.decision_function(features.double().numpy())
        assert np.ptp(found - expected, axis=-1).max() < 1e-3  # priors, alike for all classes, are left out
        right = (theirs.predict(features.double().numpy()) == label.numpy()).mean()
        assert classifier.accuracy(features, label, tensors) == pytest.approx(right)


def test_products_are_rounded_unless_exact_ones_are_asked_for() -> None:
    own = nn.Linear(64, 5)
    rounded, x = classifier.RoundedLinear.of(own), torch.randn(3, 64)
    expected = nn.functional.linear(x.bfloat16(), own.weight.bfloat16(), own.bias.bfloat16()).float()
    assert torch.equal(rounded(x), expected)
    assert rounded(x).dtype == torch.float32
    assert not torch.equal(rounded(x), own(x))
    with classifier.exactly():
        assert torch.equal(rounded(x), own(x))
        with classifier.exactly(False):
            assert torch.equal(rounded(x), expected)
        assert torch.equal(rounded(x), own(x))
    assert torch.equal(rounded(x), expected)
    assert set(rounded.state_dict()) == {"weight", "bias"}

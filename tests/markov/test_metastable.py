"""PCCA+: planted groups are found, memberships are feasible, and the chain between states is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tokenrank.markov import metastable
from tokenrank.operators import Dense, from_weights

from . import heads, strategies


@pytest.mark.parametrize(("name", "count"), [("3 clusters", 3), ("8 clusters", 8)])
def test_planted_groups(name: str, count: int) -> None:
    a = heads.nine_heads()[name]
    found = metastable(Dense(torch.from_numpy(a)), largest=9)
    assert int(found.count) == count
    assert float(found.crispness) > 0.9
    labels = found.labels.numpy()
    # tokens of one state see each other far more than those of others
    same = labels[:, None] == labels
    assert (a * same).sum(1).min() > 0.9
    assert found.candidates is not None
    assert {"minchi", "crispness", "gap"} <= set(vars(found.candidates))


def test_two_closed_blocks() -> None:
    """deeptime's PCCA+ raises on this one."""
    a = torch.zeros(6, 6, dtype=torch.float64)
    a[:4, :4] = 0.25
    a[4:, 4:] = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    found = metastable(from_weights(a), 2)
    expected = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2, dtype=torch.float64)
    assert torch.allclose(found.memberships, expected, atol=1e-9)
    assert torch.allclose(found.coarse, torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert float(found.crispness) == pytest.approx(1, abs=1e-9)


def test_batch_is_as_each_alone() -> None:
    weights = heads.stacked()[[1, 3, 5, 6]]
    together = metastable(Dense(weights), 3)
    for i in range(4):
        alone = metastable(Dense(weights[i]), 3)
        assert int(alone.count) == int(together.count[i])
        assert float(alone.crispness) == pytest.approx(float(together.crispness[i]), abs=1e-6)


def test_relabelling_tokens_changes_nothing() -> None:
    a = torch.from_numpy(heads.nine_heads()["3 clusters"])
    order = torch.randperm(256)
    found, moved = metastable(Dense(a), 3), metastable(Dense(a[order][:, order]), 3)
    assert torch.allclose(found.memberships[order], moved.memberships, atol=1e-6)


def test_a_pair_is_not_cut_silently() -> None:
    """A cycle of five: one real eigenvalue, then pairs. Two states would cut one, so that there are three."""
    a = torch.eye(5, dtype=torch.float64).roll(1, 1)
    assert int(metastable(from_weights(a), 2).count) == 3


@settings(max_examples=60, deadline=None)
@given(a=strategies.chains())
def test_feasible_on_adversarial_chains(a: np.ndarray) -> None:
    found = metastable(from_weights(torch.from_numpy(a)))
    count = int(found.count)
    chi = found.memberships[..., :count].numpy()
    assert chi.min() >= -1e-9
    assert np.abs(chi.sum(-1) - 1).max() < 1e-9
    assert (found.labels.numpy() == chi.argmax(-1)).all()
    assert 0 < float(found.crispness) <= 1 + 1e-9
    kept = found.weights[:count] > 0
    assert torch.allclose(
        found.coarse[:count].sum(-1)[kept], torch.ones(int(kept.sum()), dtype=torch.float64), atol=1e-6
    )

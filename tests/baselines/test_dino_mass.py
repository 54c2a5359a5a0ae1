from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.baselines.conftest import TOLERANCE
from tokenrank.baselines.dino_mass import dino_mass, dino_mass_mask, kept_mass
from tokenrank.errors import ChainError, LayoutError
from tokenrank.observation import Observation

Observe = Callable[[str], Observation]
Weights = Callable[[str], list[Tensor]]


def dinos_mask(row: Tensor, share: float) -> list[bool]:
    """As DINO draws it: sorted upwards, keep what lies beyond the lowest 1 − share of the mass."""
    order = sorted(range(len(row)), key=lambda j: float(row[j]))
    kept, passed = [False] * len(row), 0.0
    for j in order:
        passed += float(row[j]) / float(row.sum())
        kept[j] = passed > 1 - share
    return kept


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("head", [0, 1])
def test_one_heads_mask_is_dinos(observe: Observe, own_weights: Weights, head: int, share: float) -> None:
    seen = observe("DINOv3")
    expected = dinos_mask(own_weights("DINOv3")[-1][head, 0, 3:], share)
    mask = dino_mass_mask(seen.model, seen.inputs, observation=seen, heads=head, share=share)
    soft = dino_mass(seen.model, seen.inputs, observation=seen, heads=head, share=share)
    assert mask.flatten().tolist() == expected
    assert (soft.values > 0).tolist() == expected
    assert 0 < sum(expected) < 16


def test_the_map_is_the_mean_of_the_heads_kept_attention(observe: Observe, own_weights: Weights) -> None:
    seen = observe("ViT")
    expected = torch.zeros(16, dtype=torch.float64)
    for head in own_weights("ViT")[-1]:
        row = head[0, 1:]
        for j, kept in enumerate(dinos_mask(row, 0.6)):
            expected[j] += float(row[j] / row.sum()) / 2 if kept else 0.0
    found = dino_mass(seen.model, seen.inputs, observation=seen)
    assert (found.values - expected).abs().max() < TOLERANCE["ViT"]
    assert 0.6 <= float(found.values.sum()) <= 1


def test_a_vote_needs_more_than_half_of_the_heads(observe: Observe) -> None:
    seen = observe("ViT")
    first, second = (dino_mass_mask(seen.model, seen.inputs, observation=seen, heads=h) for h in (0, 1))
    assert torch.equal(dino_mass_mask(seen.model, seen.inputs, observation=seen), first & second)
    assert not torch.equal(first, second)


def test_a_worked_example() -> None:
    rows = torch.tensor([[4.0, 1.0, 3.0, 2.0], [0.0, 0.0, 5.0, 0.0]], dtype=torch.float64)
    assert kept_mass(rows, 0.6).tolist() == [[0.4, 0.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.0]]
    assert kept_mass(rows, 0.4).tolist() == [[0.4, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def test_of_equal_patches_the_first_are_kept_and_no_mass_keeps_none() -> None:
    assert kept_mass(torch.ones(4, dtype=torch.float64), 0.5).tolist() == [0.25, 0.25, 0.0, 0.0]
    assert kept_mass(torch.zeros(4, dtype=torch.float64)).tolist() == [0.0] * 4


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan"), True])
def test_a_share_beyond_the_mass_is_refused(share: float) -> None:
    with pytest.raises(ChainError, match="share"):
        kept_mass(torch.ones(4), share)


def test_a_model_without_cls_is_refused(observe: Observe) -> None:
    seen = observe("timm without CLS")
    with pytest.raises(LayoutError, match="CLS"):
        dino_mass(seen.model, seen.inputs, observation=seen)

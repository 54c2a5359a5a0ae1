from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.baselines.conftest import TOLERANCE
from tokenrank import AttentionChain
from tokenrank.baselines.raw_row import attention_row, raw_row
from tokenrank.errors import ChainError, InputError, NotFoundError
from tokenrank.observation import Observation

Observe = Callable[[str], Observation]
Weights = Callable[[str], list[Tensor]]


def renormalised(weights: Tensor, first: int) -> Tensor:
    """Rows and columns of the patches, each row divided by its sum, entry by entry."""
    n = weights.shape[-1]
    kept = torch.zeros(n - first, n - first, dtype=torch.float64)
    for i in range(first, n):
        total = sum(float(weights[i, j]) for j in range(first, n))
        for j in range(first, n):
            kept[i - first, j - first] = float(weights[i, j]) / total
    return kept


@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm", 1), ("timm without CLS", 0)])
def test_it_is_the_row_of_the_librarys_own_weights(
    observe: Observe, own_weights: Weights, name: str, first: int
) -> None:
    seen = observe(name)
    found = raw_row(seen.model, seen.inputs, 6, observation=seen, layer=1)
    expected = sum(renormalised(head, first)[6] for head in own_weights(name)[1]) / 2
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.grid().shape == (4, 4)


def test_a_point_is_the_patch_that_holds_it(observe: Observe) -> None:
    seen = observe("ViT")
    by_point = raw_row(seen.model, seen.inputs, tr.at(0.6, 0.3), observation=seen)
    by_number = raw_row(seen.model, seen.inputs, 1 * 4 + 2, observation=seen)
    assert torch.equal(by_point.values, by_number.values)


def test_several_patches_average_their_rows(observe: Observe) -> None:
    seen = observe("ViT")
    rows = [raw_row(seen.model, seen.inputs, i, observation=seen).values for i in (3, 9)]
    both = raw_row(seen.model, seen.inputs, [3, 9], observation=seen).values
    assert (both - (rows[0] + rows[1]) / 2).abs().max() < 1e-14


@pytest.mark.parametrize("heads", [0, 1, "lambda2"])
def test_heads_are_taken_as_asked(observe: Observe, own_weights: Weights, heads: Any) -> None:
    seen = observe("DINOv3")
    found = raw_row(seen.model, seen.inputs, 2, observation=seen, layer=0, heads=heads).values
    rows = [renormalised(head, 3) for head in own_weights("DINOv3")[0]]
    moduli = [torch.linalg.eigvals(a).abs().sort(descending=True).values[1] for a in rows]
    shares = {0: (1, 0), 1: (0, 1), "lambda2": [m / sum(moduli) for m in moduli]}[heads]
    assert (found - sum(w * a[2] for w, a in zip(shares, rows, strict=True))).abs().max() < 1e-9


def test_without_an_observation_the_forward_runs_here(observe: Observe) -> None:
    seen = observe("timm")
    again = raw_row(seen.model, seen.inputs, 5)
    assert torch.equal(again.values, raw_row(seen.model, seen.inputs, 5, observation=seen).values)


def test_a_batch_of_chains_gives_a_batch_of_rows() -> None:
    weights = torch.rand(3, 5, 5, dtype=torch.float64).softmax(-1)
    assert torch.equal(attention_row(AttentionChain(weights), 4), weights[:, 4])


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (None, {}, InputError, "target is None"),
        (16, {}, ChainError, "token 16 of a chain of 16"),
        (0, {"layer": 3}, NotFoundError, "no layer 3"),
        (0, {"heads": 2}, ChainError, "2"),
    ],
)
def test_it_refuses(
    observe: Observe, target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        raw_row(seen.model, seen.inputs, target, observation=seen, **options)

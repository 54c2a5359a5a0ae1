"""Rows and columns of attention, against the weights that each library gives out itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.baselines.conftest import TOLERANCE
from tokenrank import AttentionChain, TokenLayout
from tokenrank.baselines import cls_row, column_sum, dino_mass, raw_row
from tokenrank.baselines.rows import cls_rows, kept_mass
from tokenrank.errors import ChainError, InputError, LayoutError, NotFoundError

Observe = Callable[[str], tr.Observation]
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
def test_raw_row_is_the_row_of_the_librarys_own_weights(
    observe: Observe, own_weights: Weights, name: str, first: int
) -> None:
    seen = observe(name)
    found = raw_row(seen, start=6, layer=1, heads="uniform")
    expected = sum(renormalised(head, first)[6] for head in own_weights(name)[1]) / 2
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.grid().shape == (4, 4)


def test_a_point_is_the_patch_that_holds_it(observe: Observe) -> None:
    seen = observe("ViT")
    by_point = raw_row(seen, start=tr.at(0.6, 0.3))
    by_number = raw_row(seen, start=1 * 4 + 2)
    assert torch.equal(by_point.values, by_number.values)


def test_several_patches_average_their_rows(observe: Observe) -> None:
    seen = observe("ViT")
    rows = [raw_row(seen, start=i).values for i in (3, 9)]
    both = raw_row(seen, start=[3, 9]).values
    assert (both - (rows[0] + rows[1]) / 2).abs().max() < 1e-14


@pytest.mark.parametrize("heads", [0, 1, "lambda2"])
def test_heads_are_taken_as_asked(observe: Observe, own_weights: Weights, heads: Any) -> None:
    seen = observe("DINOv3")
    found = raw_row(seen, start=2, layer=0, heads=heads).values
    rows = [renormalised(head, 3) for head in own_weights("DINOv3")[0]]
    moduli = [torch.linalg.eigvals(a).abs().sort(descending=True).values[1] for a in rows]
    shares = {0: (1, 0), 1: (0, 1), "lambda2": [m / sum(moduli) for m in moduli]}[heads]
    assert (found - sum(w * a[2] for w, a in zip(shares, rows, strict=True))).abs().max() < 1e-9


def test_without_an_observation_the_forward_runs_here(observe: Observe) -> None:
    seen = observe("timm")
    again = raw_row(seen.model, inputs=seen.inputs, start=5)
    assert torch.equal(again.values, raw_row(seen, start=5).values)


def test_a_chain_of_one_head_gives_its_row() -> None:
    weights = torch.rand(6, 6, dtype=torch.float64).softmax(-1)
    found = raw_row(AttentionChain(weights), start=4, layout=TokenLayout.image(2, 3, cls_tokens=0)).values
    assert (found - weights[4]).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("start", "options", "error", "message"),
    [
        (None, {}, InputError, "start is None"),
        (16, {}, ChainError, "token 16 of a chain of 16"),
        (0, {"layer": 3}, NotFoundError, "no layer 3"),
        (0, {"heads": 2}, NotFoundError, "no head 2"),
    ],
)
def test_raw_row_refuses(
    observe: Observe, start: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        raw_row(seen, start=start, **options)


def test_columns_of_a_worked_example() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.25, 0.5, 0.25]], dtype=torch.float64)
    found = column_sum(AttentionChain(weights), layout=TokenLayout.image(1, 3, cls_tokens=0))
    assert found.values.tolist() == [0.75, 1.75, 0.5]


@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm without CLS", 0)])
def test_it_adds_what_every_patch_gives(
    observe: Observe, own_weights: Callable[[str], list[Tensor]], name: str, first: int
) -> None:
    seen = observe(name)
    found = column_sum(seen, layer=2, heads="uniform")
    expected = torch.zeros(16, dtype=torch.float64)
    for head in own_weights(name)[2]:
        for row in head[first:, first:]:
            expected += row / row.sum() / 2
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.layout == seen.picture_layout


def test_it_is_the_first_bounce_from_everywhere(observe: Observe) -> None:
    seen = observe("DINOv3")
    found = column_sum(seen).values
    bounce = seen.chain().bounce("image", n=1).values
    assert (found / 16 - bounce).abs().max() < 1e-14


@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm", 1)])
def test_cls_row_is_what_cls_gives_to_the_patches_in_the_last_layer(
    observe: Observe, own_weights: Weights, name: str, first: int
) -> None:
    seen, last = observe(name), own_weights(name)[-1]
    found = cls_row(seen)
    expected = [(float(last[0, 0, j]) + float(last[1, 0, j])) / 2 for j in range(first, first + 16)]
    assert (found.values - torch.tensor(expected, dtype=torch.float64)).abs().max() < TOLERANCE[name]
    left_out = float(last[:, 0, :first].sum()) / 2
    assert float(found.values.sum()) == pytest.approx(1 - left_out, abs=1e-6)


def test_cls_row_of_one_head_of_another_layer(observe: Observe, own_weights: Weights) -> None:
    seen = observe("ViT")
    found = cls_row(seen, layer=0, heads=-1)
    assert (found.values - own_weights("ViT")[0][1, 0, 1:]).abs().max() < TOLERANCE["ViT"]


def test_heads_weigh_as_the_second_eigenvalue_of_their_patches(observe: Observe, own_weights: Weights) -> None:
    seen = observe("DINOv3")
    found = seen.head_weights(1, "lambda2")
    moduli = []
    for head in own_weights("DINOv3")[1]:
        kept = head[3:, 3:] / head[3:, 3:].sum(-1, keepdim=True)
        moduli.append(torch.linalg.eigvals(kept).abs().sort(descending=True).values[1])
    expected = torch.stack(moduli) / sum(moduli)
    assert (found - expected).abs().max() < 1e-9
    weighed = cls_row(seen, layer=1, heads="lambda2").values
    assert (weighed - expected @ own_weights("DINOv3")[1][:, 0, 3:]).abs().max() < 1e-9


def test_heads_are_kept_apart_and_several_cls_tokens_averaged() -> None:
    weights = torch.rand(3, 6, 6, dtype=torch.float64).softmax(-1)
    seen = tr.observe(AttentionChain(weights), layout=TokenLayout.image(2, 2, cls_tokens=2))
    assert (cls_rows(seen) - weights[:, :2, 2:].mean(1)).abs().max() < 1e-15


def test_cls_row_refuses_a_model_without_cls_with_the_cure(observe: Observe) -> None:
    seen = observe("timm without CLS")
    with pytest.raises(LayoutError, match="use column_sum or rollout"):
        cls_row(seen)


@pytest.mark.parametrize(
    ("heads", "error", "message"),
    [(2, NotFoundError, "no head 2 in layer .*: it has 2"), ("mean", InputError, "'mean'"), (True, InputError, "True")],
)
def test_heads_that_do_not_exist_are_refused(
    observe: Observe, heads: Any, error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        cls_row(seen, heads=heads)


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
    found = dino_mass(seen, heads=head, share=share)
    assert found.foreground.flatten().tolist() == expected
    assert (found.values > 0).tolist() == expected
    assert 0 < sum(expected) < 16


def test_dino_mass_is_the_mean_of_the_heads_kept_attention(observe: Observe, own_weights: Weights) -> None:
    seen = observe("ViT")
    expected = torch.zeros(16, dtype=torch.float64)
    for head in own_weights("ViT")[-1]:
        row = head[0, 1:]
        for j, kept in enumerate(dinos_mask(row, 0.6)):
            expected[j] += float(row[j] / row.sum()) / 2 if kept else 0.0
    found = dino_mass(seen)
    assert (found.values - expected).abs().max() < TOLERANCE["ViT"]
    assert 0.6 <= float(found.values.sum()) <= 1


def test_a_vote_needs_more_than_half_of_the_heads(observe: Observe) -> None:
    seen = observe("ViT")
    first, second = (dino_mass(seen, heads=h).foreground for h in (0, 1))
    assert torch.equal(dino_mass(seen).foreground, first & second)
    assert not torch.equal(first, second)


def test_kept_mass_of_a_worked_example() -> None:
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


def test_dino_mass_refuses_a_model_without_cls(observe: Observe) -> None:
    seen = observe("timm without CLS")
    with pytest.raises(LayoutError, match="CLS"):
        dino_mass(seen)

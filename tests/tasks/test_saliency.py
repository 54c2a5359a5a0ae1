"""The object of a picture without a seed."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank import samples
from tokenrank.errors import InputError, NotFoundError
from tokenrank.models import read_image
from tokenrank.tasks.absorbed import POWER, border, border_times
from tokenrank.tasks.halves import oriented, slow_mode

HOW = ("arrival", "border", "slow", "metastable", "tokenrank")


@pytest.fixture(scope="module")
def seen() -> tr.Observation:
    return tr.observe(samples.path("coffee"), tr.load("bundled", size=64))


def two_groups(grid: int, object_: torch.Tensor, leak: float) -> tr.AttentionChain:
    """A walk that stays in its group with probability 1 − leak."""
    same = (object_[:, None] == object_[None]).double()
    weights = (1 - leak) * same / same.sum(-1, keepdim=True) + leak * (1 - same) / (1 - same).sum(-1, keepdim=True)
    return tr.AttentionChain(weights, tr.TokenLayout.image(grid, grid, cls_tokens=0))


def square(grid: int) -> torch.Tensor:
    inside = torch.zeros(grid, grid, dtype=torch.bool)
    inside[2:5, 3:5] = True
    return inside.flatten()


def test_the_border_of_a_grid() -> None:
    assert border(3, 4).view(3, 4).int().tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]


def test_times_equal_the_linear_system_in_float64() -> None:
    torch.manual_seed(0)
    weights = torch.rand(3, 25, 25, dtype=torch.float64).softmax(-1)
    edge = border(5, 5)
    inside = ~edge
    found = border_times(tr.AttentionChain(weights), edge)
    for a, times in zip(weights, found, strict=True):
        expected = torch.zeros(25, dtype=torch.float64)
        system = torch.eye(9, dtype=torch.float64) - a[inside][:, inside]
        expected[inside] = torch.linalg.solve(system, torch.ones(9, dtype=torch.float64))
        torch.testing.assert_close(times, expected / expected.mean(), rtol=1e-6, atol=1e-9)


def test_a_head_that_never_leaves_the_object() -> None:
    object_ = square(7)
    chain = two_groups(7, object_, 0.0)
    times = border_times(tr.AttentionChain(chain.to_dense()[None]), border(7, 7))
    assert torch.equal(times[0] > 0, object_)
    assert times.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("side", ["tokenrank", "border", "seed"])
def test_the_slow_mode_finds_the_object(side: str) -> None:
    object_ = square(7)
    chain = two_groups(7, object_, 0.05)
    if side == "tokenrank":  # of two groups that hold each other alike neither is where attention arrives
        chain = tr.AttentionChain(0.9 * chain.to_dense() + 0.1 * object_ / object_.sum(), chain.layout)
    for mode in (slow_mode(chain), -slow_mode(chain)):
        found = oriented(mode, chain, side)  # type: ignore[arg-type]
        assert torch.equal(found > found.mean(), object_)


def test_tokenrank_finds_an_object_at_the_border() -> None:
    """Which the border takes for the background."""
    object_ = torch.zeros(7, 7, dtype=torch.bool)
    object_[:, :2] = True
    object_ = object_.flatten()
    chain = two_groups(7, object_, 0.05)
    chain = tr.AttentionChain(0.9 * chain.to_dense() + 0.1 * object_ / object_.sum(), chain.layout)
    mode = slow_mode(chain)
    assert torch.equal(oriented(mode, chain, "tokenrank") > 0, object_)
    assert not torch.equal(oriented(mode, chain, "border") > 0, object_)


def test_weights_are_lambda2_to_a_power(seen: tr.Observation) -> None:
    weights = torch.cat([seen.lambda2(name).values for name in seen.layers]).double() ** POWER
    dense = torch.cat([seen.head_chains(name).to_dense().double() for name in seen.layers])
    expected = (weights / weights.sum()) @ border_times(tr.AttentionChain(dense), border(*seen.grid))
    torch.testing.assert_close(tr.tasks.saliency_map(seen, "border").values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
def test_every_way_gives_a_mask_of_the_pictures_size(how: str, seen: tr.Observation) -> None:
    found = tr.tasks.saliency(seen, how=how)  # type: ignore[arg-type]
    picture = read_image(samples.path("coffee"))
    assert found.size == (picture.height, picture.width)
    assert 0 < found.mask("object").mean() < 1
    assert found.scores is not None
    assert found.scores.min() == 0
    part = tr.tasks.saliency(seen, how=how, component=True)  # type: ignore[arg-type]
    assert part.mask("object").sum() <= found.mask("object").sum()
    assert not (part.mask("object") & ~found.mask("object")).any()


def test_one_layer_and_one_head(seen: tr.Observation) -> None:
    single = tr.tasks.saliency_map(seen, "border", layer=1, heads=2).values
    expected = border_times(tr.AttentionChain(seen.chain(1, 2).to_dense()[None]), border(*seen.grid))[0]
    torch.testing.assert_close(single, expected, rtol=1e-4, atol=1e-6)


def test_refined_by_the_picture(seen: tr.Observation) -> None:
    pytest.importorskip("kornia")
    plain = tr.tasks.saliency(seen)
    refined = tr.tasks.saliency(seen, refine="guided")
    assert np.isfinite(refined.scores).all()
    assert (refined.labels != plain.labels).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"how": "magic"}, "magic"),
        ({"how": "tokenrank-backward"}, "'tokenrank'$"),
        ({"side": "left"}, "left"),
        ({"layer": []}, "no layers"),
        ({"refine": "crf"}, "crf"),
    ],
)
def test_bad_arguments(options: dict[str, object], words: str, seen: tr.Observation) -> None:
    with pytest.raises(InputError, match=words):
        tr.tasks.saliency(seen, **options)  # type: ignore[arg-type]


def test_heads_and_layers_of_the_grammar(seen: tr.Observation) -> None:
    def of(heads: object) -> torch.Tensor:
        return tr.tasks.saliency_map(seen, "border", layer=[1, 4], heads=heads).values  # type: ignore[arg-type]

    pairs = [(layer, head) for layer in (1, 4) for head in range(6)]
    single = [tr.tasks.saliency_map(seen, "border", layer=layer, heads=head).values for layer, head in pairs]
    torch.testing.assert_close(of("uniform"), torch.stack(single).mean(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(of([0, 3]), torch.stack([single[i] for i in (0, 3, 6, 9)]).mean(0), rtol=1e-6, atol=1e-9)
    with pytest.raises(NotFoundError, match="no head 99"):
        of(99)
    with pytest.raises(InputError, match="heads = True"):
        of(True)


def test_a_chain_that_forgets_at_once_marks_nothing() -> None:
    chain = tr.AttentionChain(torch.full((25, 25), 1 / 25), tr.TokenLayout.image(5, 5, cls_tokens=0))
    found = tr.tasks.saliency(chain, how="tokenrank")
    assert found.size == (5, 5)
    assert not found.labels.any()
    assert tr.tasks.saliency(chain, how="border").labels.reshape(-1).astype(bool).tolist() == (~border(5, 5)).tolist()


def test_the_picture_and_the_choice_are_remembered(seen: tr.Observation) -> None:
    words = tr.tasks.arrival(seen).caption
    assert tr.tasks.saliency(seen).caption == f"bundled, arrival ({words}), rule mean"
    found = tr.tasks.saliency(seen, how="border")
    assert found.caption == "bundled, border (layers 0 to 11 of 0–11, heads lambda2), rule mean"
    found = tr.tasks.saliency(seen, how="slow", layer=[2, 5], rule=0.6)
    assert found.caption == "bundled, slow (layers 2, 5 of 0–11, heads lambda2), rule 0.6"
    assert found.picture is seen.picture


def test_any_map_of_patches_can_be_cut(seen: tr.Observation) -> None:
    found = tr.tasks.saliency(seen, how=tr.baselines.cls_row)
    assert "cls_row" in found.caption
    expected = tr.baselines.cls_row(seen).upsample(seen.size).double()
    assert (found.mask("object") == (expected > expected.mean()).numpy()).mean() > 0.999
    found = tr.tasks.saliency(seen, how=functools.partial(tr.tasks.arrival, start="cls"))
    assert "the row of CLS over backward TokenRank" in found.caption


@pytest.mark.parametrize("how", ["slow", "metastable", "tokenrank"])
def test_layers_are_the_last_quarter(how: str, seen: tr.Observation) -> None:
    default = tr.tasks.saliency_map(seen, how)  # type: ignore[arg-type]
    named = tr.tasks.saliency_map(seen, how, layer=[9, 10, 11])  # type: ignore[arg-type]
    assert torch.equal(default.values, named.values)
    assert "layers 9 to 11 of 0–11" in default.caption


def test_tokenrank_is_the_geometric_mean_of_layers(seen: tr.Observation) -> None:
    ranks = [seen.chain(layer, "uniform").tokenrank().values.double() for layer in (9, 10, 11)]
    expected = torch.stack(ranks).prod(0) ** (1 / 3)
    found = tr.tasks.saliency_map(seen, "tokenrank").values
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-6, atol=1e-12)


def test_a_picture_of_too_few_patches() -> None:
    with pytest.raises(InputError, match="3 × 3"):
        tr.tasks.saliency_map(tr.observe(samples.path("coffee"), size=16))


@pytest.mark.parametrize("option", ["start", "backward", "n", "what", "features_layer", "tau"])
def test_options_of_arrival_are_given_to_arrival(option: str) -> None:
    with pytest.raises(NotFoundError, match=rf"'{option}' of saliency: .*partial\(tr\.tasks\.arrival, {option}="):
        tr.tasks.saliency(samples.path("coffee"), **{option: 1})

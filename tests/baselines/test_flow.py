"""Rollout against the explicit product, maximum flows against graphs drawn by hand and networkx."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tokenrank as tr
from tests.baselines.conftest import TOLERANCE
from tokenrank import AttentionChain, TokenLayout
from tokenrank.baselines import attention_flow, flow, rollout
from tokenrank.baselines.flow import flow_values, pooled, pooling_factor, token_groups
from tokenrank.errors import ChainError, InputError

Observe = Callable[[str], tr.Observation]
Weights = Callable[[str], list[Tensor]]


def composed(layers: list[Tensor], start_layer: int = 0) -> Tensor:
    """The paper's recipe: average heads, add the identity, divide rows by their sums, multiply from the left."""
    n = layers[0].shape[-1]
    joint = torch.eye(n, dtype=torch.float64)
    for heads in layers[start_layer:]:
        mixed = torch.eye(n, dtype=torch.float64)
        for head in heads:
            mixed = mixed + head / len(heads)
        joint = (mixed / mixed.sum(-1, keepdim=True)) @ joint
    return joint


@pytest.mark.parametrize("start_layer", [0, 1])
@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm", 1)])
def test_rollout_is_the_row_of_cls_in_the_explicit_product(
    observe: Observe, own_weights: Weights, name: str, first: int, start_layer: int
) -> None:
    seen = observe(name)
    found = rollout(seen, start_layer=start_layer)
    expected = composed(own_weights(name), start_layer)[0, first:]
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.layout == seen.picture_layout


def test_rollout_without_cls_is_the_mean_of_the_columns(observe: Observe, own_weights: Weights) -> None:
    seen = observe("timm without CLS")
    found = rollout(seen).values
    assert (found - composed(own_weights("timm without CLS")).mean(0)).abs().max() < 1e-12
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.parametrize("start", [6, tr.at(0.6, 0.3)])
def test_a_start_asks_for_the_row_of_a_patch(observe: Observe, own_weights: Weights, start: Any) -> None:
    seen = observe("DINOv3")
    found = rollout(seen, start=start).values
    assert (found - composed(own_weights("DINOv3"))[3 + 6, 3:]).abs().max() < 1e-12


def test_without_residual_layers_multiply_as_they_are() -> None:
    first, second = torch.rand(2, 2, 5, 5, dtype=torch.float64).softmax(-1)
    trace = tr.from_attentions([first[None], second[None]], layout=TokenLayout.image(2, 2))
    expected = (second.mean(0) @ first.mean(0))[0, 1:]
    assert (rollout(trace, residual=0).values - expected).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("start", "options", "error", "message"),
    [
        (None, {"start_layer": 3}, InputError, "start_layer = 3, expected a layer from 0 to 2"),
        (None, {"start_layer": -1}, InputError, "start_layer = -1"),
        (None, {"residual": 1.5}, ChainError, "residual = 1.5"),
        (16, {}, ChainError, "token 16"),
    ],
)
def test_rollout_refuses(
    observe: Observe, start: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        rollout(seen, start=start, **options)


def by_networkx(layers: list[Tensor], source: int, token: int) -> float:
    """Edmonds–Karp in floats on the graph drawn edge by edge."""
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph()
    for depth, layer in enumerate(layers, start=1):
        for i, j in product(range(len(layer)), repeat=2):
            graph.add_edge((depth, i), (depth - 1, j), capacity=float(layer[i, j]))
    flow = networkx.algorithms.flow.edmonds_karp
    return float(networkx.maximum_flow_value(graph, (len(layers), source), (0, token), flow_func=flow))


def sparse_weights(count: int, n: int) -> list[Tensor]:
    """Rows that sum to one, most of each on few tokens, so that the smallest cuts lie anywhere."""
    return list((4 * torch.randn(count, n, n, dtype=torch.float64)).softmax(-1))


def test_a_graph_drawn_by_hand() -> None:
    #        top                 first layer below
    #   0 ─0.5→ 0   0 ─0.5→ 0    0 ─0.25→ 0   0 ─0.75→ 1
    #   0 ─0.5→ 1   1 ─0.25→ 0   1 ─1.0→ 1    ...
    top = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    middle = torch.tensor([[0.5, 0.0], [0.25, 0.125]], dtype=torch.float64)
    first = torch.tensor([[0.25, 0.75], [0.0, 1.0]], dtype=torch.float64)
    # to 0 all goes through the edge of 0.25; to 1: 0.5 through 0 and 0.25 + 0.125 through 1, 0.75 of it by way of 0
    assert flow_values([first, middle, top]).tolist() == [0.25, 0.875]
    # from token 1 at the top no more than 0.25 + 0.125 gets through the middle
    assert flow_values([first, middle, top], source=1).tolist() == [0.25, 0.375]


def test_flow_is_turned_back_where_the_first_path_was_a_dead_end() -> None:
    # 0 → 0 → 0 is the only way for what 1 could carry as well: an augmenting path must undo it
    top = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    middle = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert flow_values([first, middle, top]).tolist() == [2.0, 0.0]


@pytest.mark.parametrize(("count", "n"), [(1, 5), (2, 6), (3, 5), (4, 7)])
@pytest.mark.parametrize("residual", [0.0, 0.5])
def test_it_equals_edmonds_and_karp(count: int, n: int, residual: float) -> None:
    layers = [residual * torch.eye(n).double() + (1 - residual) * a for a in sparse_weights(count, n)]
    found = flow_values(layers, source=2)
    expected = [by_networkx(layers, 2, token) for token in range(n)]
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-7
    assert found.unique().numel() > 2


def test_rounding_only_ever_takes_away_and_within_its_bound() -> None:
    layers = sparse_weights(4, 6)
    found = flow_values(layers, source=0)
    exact = torch.tensor([by_networkx(layers, 0, token) for token in range(6)], dtype=torch.float64)
    edges = 6 * (6 * (4 - 2) + 2)
    assert (found <= exact + 1e-15).all()
    assert (exact - found <= edges * 2.0**-30).all()


def test_large_and_small_capacities_do_not_overflow() -> None:
    layers = sparse_weights(3, 5)
    expected = flow_values(layers, source=1)
    for factor in (2.0**40, 2.0**-40):
        assert torch.equal(flow_values([factor * a for a in layers], source=1), factor * expected)


def test_a_distribution_sends_the_mean_of_its_rows() -> None:
    layers = sparse_weights(3, 5)
    weights = torch.tensor([0.5, 0.0, 0.25, 0.0, 0.25], dtype=torch.float64)
    top = layers[-1].clone()
    top[0] = weights @ layers[-1]
    assert torch.equal(flow_values(layers, weights), flow_values([*layers[:-1], top], 0))


def test_some_tokens_alone_are_asked() -> None:
    layers = sparse_weights(3, 5)
    assert torch.equal(flow_values(layers, tokens=[3, -1]), flow_values(layers)[[3, 4]])


def test_nothing_leaves_an_empty_source() -> None:
    assert flow_values(sparse_weights(2, 3), torch.zeros(3)).tolist() == [0.0] * 3


@pytest.mark.parametrize("residual", [0.0, 0.5])
@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3)])
def test_a_models_map_is_the_flow_from_cls_divided_by_its_sum(
    observe: Observe, own_weights: Weights, name: str, first: int, residual: float
) -> None:
    seen = observe(name)
    found = attention_flow(seen, residual=residual)
    layers = [(1 - residual) * a.mean(0) for a in own_weights(name)]
    layers = [a + residual * torch.eye(len(a)).double() for a in layers]
    asked = range(0, 16, 5)
    flows = torch.tensor([by_networkx(layers, 0, first + patch) for patch in asked], dtype=torch.float64)
    total = flow_values(layers, 0, range(first, first + 16)).sum()
    assert (found.values[list(asked)] - flows / total).abs().max() < 1e-7
    assert float(found.values.sum()) == pytest.approx(1)


def test_a_start_asks_for_the_flow_from_a_patch(observe: Observe, own_weights: Weights) -> None:
    seen = observe("DINOv3")
    found = attention_flow(seen, start=6, residual=0).values
    flows = flow_values([a.mean(0) for a in own_weights("DINOv3")], 3 + 6)[3:]
    assert (found - flows / flows.sum()).abs().max() < 1e-7


def test_without_cls_all_patches_send_evenly(observe: Observe, own_weights: Weights) -> None:
    seen = observe("timm without CLS")
    found = attention_flow(seen, residual=0).values
    even = torch.full((16,), 1 / 16, dtype=torch.float64)
    flows = flow_values([a.mean(0) for a in own_weights("timm without CLS")], even)
    assert (found - flows / flows.sum()).abs().max() < 1e-7


def test_a_large_grid_is_pooled_to_the_patches_asked(observe: Observe, own_weights: Weights) -> None:
    seen = observe("ViT")
    found = attention_flow(seen, residual=0, patches=4).grid()
    squares = [[0], *([1 + 4 * r + c for r in (y, y + 1) for c in (x, x + 1)] for y in (0, 2) for x in (0, 2))]
    layers = []
    for heads in own_weights("ViT"):
        small = torch.zeros(5, 5, dtype=torch.float64)
        for i, j in product(range(5), repeat=2):
            small[i, j] = sum(heads.mean(0)[a, b] for a in squares[i] for b in squares[j]) / len(squares[i])
        layers.append(small)
    flows = flow_values(layers, 0, range(1, 5))
    expected = (flows / flows.sum() / 4).reshape(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert (found - expected).abs().max() < 1e-7


def test_squares_at_the_edge_are_smaller_and_rows_still_sum_to_one() -> None:
    layout = TokenLayout({"cls": 1, "image": 15, "detection": 2}, {"image": (3, 5)})
    groups = token_groups(layout, 2)
    assert groups.sum(0).tolist() == [1, 4, 4, 2, 2, 2, 1, 1, 1]
    assert groups[:, 3].nonzero().flatten().tolist() == [1 + 4, 1 + 9]
    small = pooled(AttentionChain(torch.rand(18, 18, dtype=torch.float64).softmax(-1)).operator, groups)
    assert (small.sum(-1) - 1).abs().max() < 1e-14


def test_the_smallest_factor_that_suffices_is_taken() -> None:
    assert pooling_factor((14, 14), 196) == 1
    assert pooling_factor((14, 14), 195) == 2
    assert pooling_factor((60, 60), 256) == 4
    assert pooling_factor((3, 5), 1) == 5


def test_all_residual_reaches_no_patch_from_cls(observe: Observe) -> None:
    seen = observe("ViT")
    assert attention_flow(seen, residual=1).values.tolist() == [0.0] * 16


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([], {}, "no layers given"),
        ([torch.rand(3, 3), torch.rand(4, 4)], {}, "layer 1 has shape"),
        ([torch.rand(3, 4)], {}, "layer 0 has shape"),
        ([-torch.eye(3)], {}, "capacities of layer 0 go from -1"),
        ([torch.full((3, 3), float("nan"))], {}, "capacities of layer 0"),
        ([torch.eye(3)], {"tokens": [3]}, "token 3 of 3"),
        ([torch.eye(3)], {"source": 3}, "token 3 of 3"),
        ([torch.eye(3)], {"source": torch.ones(2)}, "source of shape"),
    ],
)
def test_what_is_no_graph_is_refused(layers: list[Tensor], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        flow_values(layers, **options)


def test_no_patch_at_all_is_refused(observe: Observe) -> None:
    seen = observe("ViT")
    with pytest.raises(InputError, match="patches = 0"):
        attention_flow(seen, patches=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 12), st.integers(4, 9), st.floats(0, 0.8), st.sampled_from([0.0, 0.5]))
def test_what_is_proved_on_a_few_layers_is_the_flow_through_all(
    seed: int, n: int, count: int, masked: float, residual: float
) -> None:
    generator = np.random.default_rng(seed)
    layers = []
    for _ in range(count):
        weights = np.exp(2 * generator.normal(size=(n, n))) * (generator.random((n, n)) >= masked)
        weights += 1e-6 * np.eye(n)
        layers.append(residual * np.eye(n) + (1 - residual) * weights / weights.sum(1, keepdims=True))
    given = [torch.from_numpy(layer) for layer in layers]
    expected = [by_networkx(given, 0, token) for token in range(n)]
    assert flow_values(given, 0).tolist() == pytest.approx(expected, abs=1e-7)


def test_most_flows_of_the_bundled_network_need_few_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tr.observe(tr.samples.path("chelsea"), size=64)
    whole = []
    solved = flow._solved

    def counted(inner: Any, above: Any, wanted: Any) -> Any:
        if len(inner) == len(seen.layers) - 2:
            whole.append(wanted.shape[1])
        return solved(inner, above, wanted)

    monkeypatch.setattr(flow, "_solved", counted)
    found = attention_flow(seen).values
    assert sum(whole) <= 4
    monkeypatch.setattr(flow, "SHORTCUTS", ())
    assert (attention_flow(seen).values - found).abs().max() < 1e-7
    assert sum(whole) >= 40

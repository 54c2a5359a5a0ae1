from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import InputError, LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.tasks.cluster import aggregate_resolutions, cluster, from_proposals
from tokenrank.tasks.merging import (
    FLOOR,
    absorbed,
    auto_tau,
    merge,
    symmetric_kl,
    tau_for,
    tokenrank_grid,
    uniform_grid,
)


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(count, width, generator=generator, dtype=torch.float64)).softmax(-1)


def kl_by_loops(p: list[float], q: list[float]) -> float:
    p, q = ([max(x, FLOOR) for x in v] for v in (p, q))
    there = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    back = sum(b * np.log(b / a) for a, b in zip(p, q, strict=True))
    return 0.5 * (there + back)


def merged_by_loops(maps: list[list[float]], anchors: list[int], tau: float, iterations: int) -> list[list[float]]:
    def mean(chosen: list[list[float]]) -> list[float]:
        return [sum(column) / len(chosen) for column in zip(*chosen, strict=True)]

    proposals = [mean([m for m in maps if kl_by_loops(maps[a], m) < tau]) for a in anchors]
    for _ in range(iterations - 1):
        visited, new = set(), []
        for i, one in enumerate(proposals):
            if i in visited:
                continue
            near = [j for j, other in enumerate(proposals) if kl_by_loops(one, other) < tau]
            visited.update(near)
            new.append(mean([proposals[j] for j in near]))
        proposals = new
    return proposals


@pytest.fixture(scope="module")
def two_halves() -> tr.AttentionChain:
    """A grid of 4 × 6 whose left and right half hardly attend to each other."""
    side = torch.arange(24) % 6 < 3
    logits = 6.0 * (side[:, None] == side) + 0.5 * torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    return tr.AttentionChain(logits.double().softmax(-1), TokenLayout({"image": 24}, {"image": (4, 6)}))


def test_distances_are_those_of_the_sum_written_out():
    p, q = rows(4, 7), rows(3, 7, 1)
    p[0, 2] = 0.0
    expected = [[kl_by_loops(a, b) for b in q.tolist()] for a in p.tolist()]
    assert torch.allclose(symmetric_kl(p, q), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    assert symmetric_kl(q, q).diagonal().abs().max() < 1e-12
    assert torch.allclose(symmetric_kl(p, q), symmetric_kl(q, p).mT)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("tau", [0.2, 0.9, 1.4, 50.0])
def test_merging_is_the_loop_written_out(iterations: int, tau: float):
    maps, anchors = rows(20, 6, 2), torch.tensor([3, 0, 7, 19, 12, 5])
    expected = torch.tensor(merged_by_loops(maps.tolist(), anchors.tolist(), tau, iterations), dtype=torch.float64)
    found = merge(maps, anchors, tau, iterations)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(found.sum(-1), torch.ones(len(found)).double())


def test_merging_depends_on_the_order_of_the_anchors():
    # the middle one is near both ends, which are apart: from an end two are left, from the middle one
    ends_first = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    tau = 1.2 * float(symmetric_kl(ends_first[:1], ends_first[1:2]))
    assert tau < float(symmetric_kl(ends_first[:1], ends_first[2:]))
    expected = torch.tensor([[0.65, 0.35], [0.35, 0.65]], dtype=torch.float64)  # the middle is averaged in twice
    assert torch.allclose(absorbed(ends_first, tau), expected)
    assert torch.allclose(absorbed(ends_first[[1, 0, 2]], tau), torch.tensor([[0.5, 0.5]], dtype=torch.float64))


def test_bad_merges_are_refused():
    maps = rows(4, 4)
    for anchors, tau, iterations in (([0], 0.0, 3), ([0], float("nan"), 3), ([0], 1.0, 0), ([], 1.0, 3)):
        with pytest.raises(InputError, match="expected one anchor"):
            merge(maps, torch.tensor(anchors, dtype=torch.long), tau, iterations)


def test_the_grid_of_the_paper_is_found():
    grid = uniform_grid(64, 64, 16)
    assert len(grid) == 256
    assert (grid[:16] - 64).tolist() == list(range(1, 62, 4))
    assert (grid[::16] // 64).tolist() == list(range(1, 62, 4))


@pytest.mark.parametrize(
    ("size", "anchors", "expected"),
    [
        (5, 16, [0, 1, 2, 3, 4]),
        (5, 1, [2]),
        (1, 16, [0]),
        (10, 4, [0, 3, 6, 9]),
        (11, 4, [0, 3, 6, 9]),
        (12, 2, [0, 11]),
    ],
)
def test_sides_of_any_length_have_their_anchors(size: int, anchors: int, expected: list[int]):
    assert uniform_grid(1, size, anchors).tolist() == expected
    assert uniform_grid(size, 1, anchors).tolist() == expected


def test_no_anchor_is_refused():
    with pytest.raises(InputError, match="anchors = 0"):
        uniform_grid(4, 4, 0)


def test_anchors_by_tokenrank():
    grid = (4, 6)
    rank = rows(1, 24, 3)[0]
    falling = sorted(range(24), key=lambda i: -float(rank[i]))
    assert tokenrank_grid(rank, grid, 2, "tokenrank-top").tolist() == falling[:4]

    apart: list[int] = []
    for i in falling:  # half a stride of 2 anchors: one row of 4, 1.5 of 6 columns; at least two of both
        if all(abs(i // 6 - j // 6) >= 2 or abs(i % 6 - j % 6) >= 2 for j in apart) and len(apart) < 4:
            apart.append(i)
    assert tokenrank_grid(rank, grid, 2, "tokenrank-nms").tolist() == apart

    cells = [
        max((r * 6 + c for r in range(top, top + 2) for c in range(left, left + 3)), key=lambda i: float(rank[i]))
        for top in (0, 2)
        for left in (0, 3)
    ]
    assert tokenrank_grid(rank, grid, 2, "tokenrank-cells").tolist() == cells
    assert tokenrank_grid(rank, grid, 2, "tokenrank").tolist() == cells

    drawn = tokenrank_grid(rank, grid, 2, "tokenrank-sample", seed=5)
    assert len(set(drawn.tolist())) == 4
    assert (drawn == tokenrank_grid(rank, grid, 2, "tokenrank-sample", seed=5)).all()
    with pytest.raises(InputError, match="grid = 'best'"):
        tokenrank_grid(rank, grid, 2, "best")


def test_drawing_goes_by_tokenrank():
    rank = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    first = [int(tokenrank_grid(rank, (2, 2), 1, "tokenrank-sample", seed=s)[0]) for s in range(300)]
    assert first.count(0) / 300 == pytest.approx(0.7, abs=0.08)


def test_more_anchors_than_tokens_are_all_tokens():
    rank = rows(1, 6)[0]
    for how in ("tokenrank-top", "tokenrank-sample", "tokenrank-cells"):
        assert sorted(tokenrank_grid(rank, (2, 3), 16, how).tolist()) == [0, 1, 2, 3, 4, 5]


def test_resolutions_are_joined_as_written_out():
    coarse, fine, other = rows(6, 6), rows(24, 24, 1), rows(24, 24, 2)
    found = aggregate_resolutions([(coarse, (2, 3)), (fine, (4, 6)), (other, (4, 6))])
    expected = torch.zeros(24, 24, dtype=torch.float64)
    for query in range(24):
        row, column = divmod(query, 6)
        keys = coarse[(row // 2) * 3 + column // 2].reshape(1, 1, 2, 3)
        up = torch.nn.functional.interpolate(keys, (4, 6), mode="bilinear", align_corners=False).flatten()
        side = 6**0.5, 24**0.5
        mean = (fine[query] + other[query]) / 2
        expected[query] = (side[0] * up / up.sum() + side[1] * mean) / sum(side)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(found.sum(-1), torch.ones(24).double())


def test_weights_of_the_paper_are_the_sides():
    maps = [(torch.full((s * s, s * s), 1 / (s * s)).double(), (s, s)) for s in (1, 2)]
    maps[0] = (torch.ones(1, 1).double(), (1, 1))
    maps[1] = (torch.eye(4).double(), (2, 2))
    found = aggregate_resolutions(maps)
    assert torch.allclose(found, (torch.full((4, 4), 0.25) + 2 * torch.eye(4)).double() / 3)


def test_maps_that_do_not_fit_their_grid_are_refused():
    with pytest.raises(InputError, match="2 × 2"):
        aggregate_resolutions([(rows(6, 6), (2, 2))])
    with pytest.raises(InputError, match="no attention"):
        aggregate_resolutions([])


@pytest.mark.parametrize(
    "options",
    [
        {"tau": 0.5},
        {"k": 2},
        {"tau": 0.5, "grid": "tokenrank", "sort": True},
        {"tau": 0.5, "grid": "tokenrank-nms", "anchors": 3},
        {"tau": 0.3, "n": 2},
        {"how": "metastable"},
        {"how": "metastable", "k": 2},
    ],
)
def test_two_halves_are_found(two_halves: tr.AttentionChain, options):
    found = cluster(two_halves, image=np.zeros((40, 60, 3), np.uint8), **options)
    assert len(found.names) == 3
    left, right = found.labels[:, :25], found.labels[:, 35:]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0] != right[0, 0]
    assert set(np.unique(found.labels)) == {1, 2}


def test_auto_never_joins_the_halves(two_halves: tr.AttentionChain):
    labels = cluster(two_halves).labels
    assert not set(labels[:, :3].flat) & set(labels[:, 3:].flat)


def test_a_picture_that_agrees_with_itself_is_one_segment():
    chain = tr.AttentionChain(torch.full((12, 12), 1 / 12).double(), TokenLayout({"image": 12}, {"image": (3, 4)}))
    found = cluster(chain, image=np.zeros((6, 8, 3), np.uint8))
    assert (found.labels == 1).all()
    assert auto_tau(chain.to_dense(), torch.arange(12)) > 0
    assert auto_tau(chain.to_dense(), torch.tensor([0])) > 0


def test_auto_is_a_quantile_of_the_pairs():
    maps, anchors = rows(30, 8, 4), torch.arange(0, 30, 3)
    pairs = sorted(kl_by_loops(maps[i].tolist(), maps[j].tolist()) for i in anchors for j in anchors if i < j)
    assert auto_tau(maps, anchors) == pytest.approx(pairs[int(0.05 * len(pairs))], rel=1e-9)


def test_k_is_reached_or_nearly(two_halves: tr.AttentionChain):
    maps, anchors = rows(30, 8, 4), torch.arange(30)
    counts = [len(merge(maps, anchors, tau_for(maps, anchors, k))) for k in (1, 2, 3, 5, 8)]
    assert counts[:2] == [1, 2]
    assert all(abs(found - k) <= 1 for found, k in zip(counts, (1, 2, 3, 5, 8), strict=True))
    for k in (0, True):
        with pytest.raises(InputError, match="whole number"):
            tau_for(maps, anchors, k)


def test_proposals_that_win_nowhere_leave_no_gap():
    proposals = torch.tensor([[0.9, 0.1], [0.0, 0.0], [0.1, 0.9]])
    found = from_proposals(proposals, (1, 2), (2, 4))
    assert found.names == ("background", "segment 1", "segment 2")
    assert found.labels.tolist() == [[1, 1, 2, 2]] * 2
    assert found.scores.shape == (2, 2, 4)


def test_the_bundled_model_divides_a_picture():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    for options in ({}, {"layer": [1, 3]}, {"layer": 2, "heads": "uniform"}, {"k": 3}):
        found = cluster(image, size=48, **options)
        assert found.size == (40, 56)
        assert found.labels.min() == 1
        assert set(np.unique(found.labels)) == set(range(1, len(found.names)))


def test_several_layers_of_one_grid_are_their_mean():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    model = tr.load("bundled")
    inputs = model.prepare(image, 48)
    with tr.capture(model) as trace:
        model.forward(inputs)
    chains = [trace[i][0].restrict("image").aggregate("uniform").to_dense() for i in (1, 3)]
    layout = trace[1].restrict("image").layout
    expected = cluster(tr.AttentionChain(torch.stack(chains).mean(0), layout), image=image, tau=0.5)
    found = cluster(trace, image=image, layer=[1, 3], heads="uniform", tau=0.5)
    assert np.abs(found.scores - expected.scores).max() < 1e-5
    assert (found.labels == expected.labels).mean() > 0.99


def test_the_picture_and_the_choice_are_remembered():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    found = cluster(image, size=48, layer=1, heads=2)
    assert found.picture.size == (56, 40)
    assert found.caption == "bundled, layer 1 of 0–11 (model.layer.1.attention), heads 2, tokens image, merge"


def test_what_cannot_be_is_refused(two_halves: tr.AttentionChain):
    for options, message in (
        ({"how": "kmeans"}, "how = 'kmeans'"),
        ({"n": 0}, "n = 0"),
        ({"tau": "high"}, "tau = 'high'"),
        ({"tau": -1.0}, "positive distance"),
        ({"grid": "hexagons"}, "grid = 'hexagons'"),
        ({"anchors": 0}, "anchors = 0"),
    ):
        with pytest.raises(InputError, match=message):
            cluster(two_halves, **options)
    with pytest.raises(LayoutError, match="layout"):
        cluster(tr.AttentionChain(torch.eye(4)))


@pytest.mark.parametrize("k", [0, 2.5, True, 10_000])
def test_a_number_of_segments_that_cannot_be(k: object) -> None:
    with pytest.raises(InputError, match=rf"k = {k} segments of 40 patches"):
        tr.tasks.cluster(tr.samples.path("chelsea"), k=k, size=64)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"how": "metastable"}, {"layer": [0, 0]}], ids=str)
def test_a_chain_without_a_picture_is_refused_as_by_the_other_tasks(options: dict[str, Any]) -> None:
    text = tr.AttentionChain(rows(5, 5), TokenLayout({"text": 5}))
    with pytest.raises(LayoutError) as expected:
        tr.tasks.saliency(text)
    with pytest.raises(LayoutError) as found:
        cluster(text, **options)
    assert str(found.value) == str(expected.value)
    assert "no picture is known among the 5 tokens; give one with a model that reads pictures" in str(found.value)

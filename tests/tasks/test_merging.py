from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tasks.test_cluster import rows
from tokenrank.errors import InputError
from tokenrank.tasks.merging import FLOOR, ROWS, absorbed, auto_tau, merge, symmetric_kl, tau_for


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


def test_auto_is_a_quantile_of_the_pairs():
    maps, anchors = rows(30, 8, 4), torch.arange(0, 30, 3)
    pairs = sorted(kl_by_loops(maps[i].tolist(), maps[j].tolist()) for i in anchors for j in anchors if i < j)
    found = auto_tau(symmetric_kl(maps[anchors], maps[anchors]))
    assert found == pytest.approx(pairs[int(0.05 * len(pairs))], rel=1e-9)


def test_k_is_reached_or_nearly():
    maps, anchors = rows(30, 8, 4), torch.arange(30)
    counts = [len(merge(maps, anchors, tau_for(maps, anchors, k))) for k in (1, 2, 3, 5, 8)]
    assert counts[:2] == [1, 2]
    assert all(abs(found - k) <= 1 for found, k in zip(counts, (1, 2, 3, 5, 8), strict=True))
    for k in (0, True):
        with pytest.raises(InputError, match="whole number"):
            tau_for(maps, anchors, k)


def test_maps_of_many_blocks_are_merged_as_at_once():
    maps = rows(2 * ROWS + 7, 5, 6)
    anchors = torch.arange(0, len(maps), 40)
    p, q = maps[anchors, None], maps[None]
    expected = 0.5 * ((p - q) * (p.log() - q.log())).sum(-1)
    found = symmetric_kl(maps[anchors], maps)
    assert torch.allclose(found, expected, atol=1e-12)
    near = (expected < 0.3).double()
    once = near @ maps / near.sum(-1, keepdim=True)
    assert torch.allclose(merge(maps, anchors, 0.3, 1), once, atol=1e-12)
    assert torch.equal(merge(maps, anchors, 0.3, distances=found), merge(maps, anchors, 0.3))
    assert tau_for(maps, anchors, 4, distances=found) == tau_for(maps, anchors, 4)


def test_maps_in_single_precision_are_compared_in_double():
    maps = rows(40, 300, 7).float()
    expected = symmetric_kl(maps.double(), maps.double())
    assert (symmetric_kl(maps, maps) - expected).abs().max() < 1e-14
    assert merge(maps, torch.arange(5), 0.5).dtype == torch.float64

from __future__ import annotations

from collections.abc import Callable

import torch

from tokenrank.baselines.random_map import random_map, uniform_values
from tokenrank.observation import Observation


def test_a_seed_gives_one_map_of_all_patches(observe: Callable[[str], Observation]) -> None:
    seen = observe("DINOv3")
    one, same, other = (random_map(seen.model, seen.inputs, observation=seen, seed=s) for s in (4, 4, 5))
    assert one.grid().shape == (4, 4)
    assert torch.equal(one.values, same.values)
    assert not torch.equal(one.values, other.values)


def test_other_random_numbers_go_on_as_if_nothing_happened() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    uniform_values(10, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_values_are_uniform() -> None:
    values = uniform_values(20_000).sort().values
    assert 0 <= values[0] <= values[-1] < 1
    # distance to the uniform distribution (Kolmogorov–Smirnov); 1.63 / sqrt(n) is its 1 % point
    distance = (values - torch.linspace(0, 1, 20_000, dtype=torch.float64)).abs().max()
    assert distance < 1.63 / 20_000**0.5

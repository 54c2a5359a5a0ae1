"""Controls: chance, the middle of the picture, its border."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import tokenrank as tr
from tokenrank.baselines import centre_prior, lattice, random_map
from tokenrank.baselines.controls import bounces_to_border, centred_gaussian, uniform_values
from tokenrank.errors import InputError

Observe = Callable[[str], tr.Observation]


def test_a_seed_gives_one_map_of_all_patches(observe: Observe) -> None:
    seen = observe("DINOv3")
    one, same, other = (random_map(seen, random=s) for s in (4, 4, 5))
    assert one.grid().shape == (4, 4)
    assert torch.equal(one.values, same.values)
    assert not torch.equal(one.values, other.values)


def test_other_random_numbers_go_on_as_if_nothing_happened() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    uniform_values(10, random=1)
    assert torch.equal(torch.rand(3), expected)


def test_values_are_uniform() -> None:
    values = uniform_values(20_000).sort().values
    assert 0 <= values[0] <= values[-1] < 1
    # distance to the uniform distribution (Kolmogorov–Smirnov); 1.63 / sqrt(n) is its 1 % point
    distance = (values - torch.linspace(0, 1, 20_000, dtype=torch.float64)).abs().max()
    assert distance < 1.63 / 20_000**0.5


def test_values_follow_the_formula_at_the_patches_centres() -> None:
    found = centred_gaussian((2, 3), sigma=0.3).reshape(2, 3)
    for row, y in enumerate((0.25, 0.75)):
        for column, x in enumerate((1 / 6, 3 / 6, 5 / 6)):
            distance = (x - 0.5) ** 2 + (y - 0.5) ** 2
            assert float(found[row, column]) == pytest.approx(math.exp(-distance / (2 * 0.3**2)), abs=1e-15)


def test_an_odd_grid_peaks_at_one_and_wider_ones_are_flatter() -> None:
    narrow, wide = centred_gaussian((5, 7), 0.1), centred_gaussian((5, 7), 1.0)
    assert float(narrow[17]) == float(wide[17]) == 1.0
    assert (narrow <= wide).all()
    assert narrow.argmax() == 17


def test_the_mask_is_the_middle_of_the_picture(observe: Observe) -> None:
    seen = observe("timm")
    mask = centre_prior(seen).mask()
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, 1:3] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), True])
def test_a_width_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        centred_gaussian((2, 2), sigma)


@pytest.mark.parametrize("random", [1.5, "one", True, None])
def test_a_seed_that_is_none_is_refused(random: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        uniform_values(3, random)


def test_the_lattice_knows_nothing_of_attention(observe: Observe) -> None:
    grid = lattice(observe("DINOv3")).grid()
    torch.testing.assert_close(grid, grid.flip(0))
    torch.testing.assert_close(grid, grid.flip(1))
    assert grid[0].abs().max() == 0
    assert torch.equal(grid, lattice(observe("timm without CLS")).grid())


def test_bounces_to_the_border_by_hand() -> None:
    # one inner patch: it stays with 1/5, so that it takes 5/4 bounces; two of them reach each other with 1/5
    assert bounces_to_border(3, 3).tolist() == pytest.approx([0, 0, 0, 0, 5 / 4, 0, 0, 0, 0])
    assert bounces_to_border(3, 4).reshape(3, 4)[1].tolist() == pytest.approx([0, 5 / 3, 5 / 3, 0])

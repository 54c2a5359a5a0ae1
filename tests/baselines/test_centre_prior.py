from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tokenrank.baselines.centre_prior import centre_prior, centred_gaussian
from tokenrank.errors import InputError
from tokenrank.observation import Observation


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


def test_the_mask_is_the_middle_of_the_picture(observe: Callable[[str], Observation]) -> None:
    seen = observe("timm")
    mask = centre_prior(seen.model, seen.inputs, observation=seen).mask()
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, 1:3] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), True])
def test_a_width_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        centred_gaussian((2, 2), sigma)

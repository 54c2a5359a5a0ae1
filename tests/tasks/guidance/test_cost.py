"""The benchmark of guidance runs, and says what it measures; its numbers are not tested on busy machines."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("diffusers")

from benchmarks.guidance_cost import cost

from .classic import FAMILIES


def tiny() -> tuple[Any, dict[str, Any]]:
    family = FAMILIES["FLUX.1"]
    first, second = family.texts()
    return family.build(), {
        **first, **{f"negative_{name}": value for name, value in second.items()}, **family.size, **family.on,
    }  # fmt: skip


def test_the_cost_of_every_arm() -> None:
    found = cost(rounds=1, steps=1, models={"tiny": tiny})["tiny"]
    assert set(found["ratio to a step of classifier-free guidance"]) == {
        "cfg",
        "all",
        "colsum",
        "tokenrank",
        "identity",
    }
    assert found["ratio to a step of classifier-free guidance"]["cfg"] == 1.0
    assert set(found["share of the mask in a guided step"]) == {"colsum", "tokenrank"}
    assert all(seconds >= 0 for seconds in found["cpu seconds a step"].values())

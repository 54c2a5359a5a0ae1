"""Reading q and k off an equation."""

from __future__ import annotations

import pytest
import torch

from tokenrank.recording.lineage.logits import product

SIZES = {"b": 2, "h": 3, "g": 2, "i": 4, "j": 5, "d": 6, "e": 2}


@pytest.mark.parametrize(
    "equation",
    [
        "id,jd->ij",
        "bid,bjd->bij",
        "bhid,bhjd->bhij",
        "bihd,bjhd->bhij",
        "ibhd,jbhd->bhij",
        "bhjd,bhid->bhij",
        "bhid,bjd->bhij",
        "hid,bhjd->bhij",
        "bhide,bhjde->bhij",
        "b g h i d, b g j d -> b g h i j",
        "...id,...jd->...ij",
        "b...id,b...jd->b...ij",
    ],
)
def test_product_of_queries_and_keys(equation: str) -> None:
    letters = equation.replace(" ", "").replace("...", "h")
    inputs = letters.split("->")[0].split(",")
    a, b = (torch.randn([SIZES[c] for c in operand]) for operand in inputs)
    reading = product(equation, a.ndim, b.ndim)
    assert reading is not None
    q, k = reading.operands(a, b)
    torch.testing.assert_close(q @ k.mT, torch.einsum(equation, a, b))


@pytest.mark.parametrize(
    ("equation", "dimensions"),
    [
        ("bhij,bhjd->bhid", (4, 4)),  # weights times values: read as a product, too, but of i and d
        ("bij->bji", (3, 3)),
        ("bid,bjd", (3, 3)),
        ("bid,bjd->bi", (3, 3)),
        ("bid,bje->bij", (3, 3)),
        ("i,j->ij", (1, 1)),
        ("bii,bij->bij", (3, 3)),
        ("bid,bjd,bkd->bij", (3, 3)),
        ("bid,bjd->bij", (2, 3)),
    ],
)
def test_other_sums(equation: str, dimensions: tuple[int, int]) -> None:
    reading = product(equation, *dimensions)
    if equation == "bhij,bhjd->bhid":
        assert reading is not None
        assert (reading.row, reading.column, reading.summed) == ("i", "d", ("j",))
    else:
        assert reading is None

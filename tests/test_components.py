"""Parts of a mask: a cross of neighbours, empty masks."""

from __future__ import annotations

import numpy as np
import pytest

from tokenrank.components import component_of
from tokenrank.errors import InputError


def mask(drawing: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in drawing.split()])


def drawn(found: np.ndarray) -> str:
    assert found.dtype == bool
    return " ".join("".join("#" if cell else "." for cell in row) for row in found.tolist())


def test_diagonal_neighbours_are_apart():
    assert drawn(component_of(mask("##. ..# ..#"), 0, 1)) == "##. ... ..."


def test_a_part_follows_its_bends():
    snake = "#### ...# #### #... ####"
    assert drawn(component_of(mask(snake), 4, 3)) == snake


def test_negative_cells_count_from_the_end():
    assert drawn(component_of(mask("#.# ... #.#"), -1, -1)) == "... ... ..#"


def test_a_cell_beside_the_mask_has_no_part():
    assert drawn(component_of(mask("##. ..."), 1, 0)) == "... ..."


def test_the_mask_is_left_alone():
    given = mask("#.#")
    component_of(given, 0, 0)
    assert drawn(given) == "#.#"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: component_of(np.ones((2, 2)), 0, 0), "bool"),
        (lambda: component_of(np.ones(3, bool), 0, 0), "rows, columns"),
        (lambda: component_of(np.ones((2, 2), bool), 2, 0), "row 2"),
        (lambda: component_of(np.ones((2, 2), bool), 0, -3), "column -3"),
        (lambda: component_of(np.ones((1, 2, 2), bool), 0, 0), "rows, columns"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

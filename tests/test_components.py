"""Parts of a mask: a cross of neighbours, ties, empty masks."""

from __future__ import annotations

import numpy as np
import pytest

from tokenrank.components import component_of, largest_component, peak_of
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
    largest_component(given)
    assert drawn(given) == "#.#"


def test_the_largest_part():
    assert drawn(largest_component(mask("#.## ..## #..."))) == "..## ..## ...."


def test_of_equal_parts_the_first():
    assert drawn(largest_component(mask(".#.# .#.#"))) == ".#.. .#.."


@pytest.mark.parametrize("shape", [(0, 0), (2, 3)])
def test_an_empty_mask_stays_empty(shape):
    found = largest_component(np.zeros(shape, bool))
    assert found.shape == shape
    assert not found.any()


def test_the_seed_is_the_largest_value_and_the_first_of_equal_ones():
    assert peak_of([[0, 1, 5], [7, 7, 2]]) == (1, 0)
    assert peak_of(np.array([[-3.0, -1.0]])) == (0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: component_of(np.ones((2, 2)), 0, 0), "bool"),
        (lambda: component_of(np.ones(3, bool), 0, 0), "rows, columns"),
        (lambda: component_of(np.ones((2, 2), bool), 2, 0), "row 2"),
        (lambda: component_of(np.ones((2, 2), bool), 0, -3), "column -3"),
        (lambda: largest_component(np.ones((1, 2, 2), bool)), "rows, columns"),
        (lambda: peak_of(np.ones(3)), "rows, columns"),
        (lambda: peak_of(np.ones((0, 3))), "one cell"),
        (lambda: peak_of([[1.0, float("nan")]]), "1 of 2 values"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

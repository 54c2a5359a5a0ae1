"""Which token is what."""

from __future__ import annotations

import math

import pytest

from tokenrank import TokenLayout, at
from tokenrank.errors import LayoutError, NotFoundError, TokenRankError
from tokenrank.layout import Point

VIT = TokenLayout.image(3, 5, cls_tokens=1, registers=4)


def test_spans_in_order() -> None:
    assert VIT.num_tokens == 20
    assert VIT.range("cls") == range(0, 1)
    assert VIT.range("registers") == range(1, 5)
    assert VIT.range("image") == range(5, 20)
    assert VIT.picture == "image"
    assert VIT.grids == {"image": (3, 5)}


def test_empty_spans_are_dropped() -> None:
    layout = TokenLayout.image(2, 2, cls_tokens=0)
    assert list(layout.spans) == ["image"]
    with pytest.raises(NotFoundError, match="no span 'cls'"):
        layout.range("cls")


def test_unknown_span_names_the_near_ones() -> None:
    with pytest.raises(NotFoundError, match="no span 'imag' in this layout; nearest: 'image'"):
        VIT.range("imag")


def test_text() -> None:
    layout = TokenLayout.text(["[CLS]", "a", "cat", "[SEP]"])
    assert layout.range("text") == range(0, 4)
    assert layout.tokens == ("[CLS]", "a", "cat", "[SEP]")
    with pytest.raises(LayoutError, match="no span has a grid"):
        _ = layout.picture


@pytest.mark.parametrize(
    ("point", "token"),
    [
        ((0, 0), 5),
        ((1, 1), 19),
        ((0.999, 0), 9),
        ((0.2, 0), 6),  # on an edge: the patch to the right
        ((0.5, 0.5), 12),
        ((0, 0.34), 10),
        ((0, 1), 15),
    ],
)
def test_points_on_a_grid_that_is_not_square(point: tuple[float, float], token: int) -> None:
    assert VIT.token_at(at(*point)) == token


@pytest.mark.parametrize("x", [-0.01, 1.01, 224, math.nan, math.inf])
def test_points_outside_the_picture(x: float) -> None:
    with pytest.raises(LayoutError, match=f"x = {x:g}, expected a fraction from 0 to 1; divide pixels"):
        at(x, 0.5)
    with pytest.raises(LayoutError, match="picture's height"):
        at(0.5, x)


def test_at_takes_whole_numbers() -> None:
    assert at(0, 1) == Point(0.0, 1.0)


def test_a_grid_has_to_fill_its_span() -> None:
    with pytest.raises(LayoutError, match=r"grid of span 'image': 3 × 4 = 12 tokens, but the span has 13"):
        TokenLayout({"image": 13}, {"image": (3, 4)})
    with pytest.raises(LayoutError, match="but the span has 0"):
        TokenLayout({"text": 12}, {"image": (3, 4)})


def test_one_string_a_token() -> None:
    with pytest.raises(LayoutError, match="2 token strings for 3 tokens"):
        TokenLayout({"text": 3}, {}, ("a", "b"))


def test_a_negative_span_is_an_error() -> None:
    with pytest.raises(LayoutError, match="-1"):
        TokenLayout({"cls": -1, "image": 5})


def test_several_pictures_are_ambiguous() -> None:
    layout = TokenLayout({"left": 4, "right": 4}, {"left": (2, 2), "right": (2, 2)})
    with pytest.raises(LayoutError, match=r"several spans have one: \['left', 'right'\]; pass the span's name"):
        layout.token_at(at(0.5, 0.5))


def test_select_keeps_the_grid_of_what_is_whole() -> None:
    image = VIT.select(list(VIT.range("image")))
    assert dict(image.spans) == {"image": 15}
    assert image.grids == {"image": (3, 5)}
    part = VIT.select([0, 1, 5, 6, 7])
    assert dict(part.spans) == {"cls": 1, "registers": 1, "image": 3}
    assert part.grids == {}


def test_select_keeps_the_strings() -> None:
    layout = TokenLayout.text(["[CLS]", "a", "cat", "[SEP]"]).select([1, 2])
    assert layout.tokens == ("a", "cat")
    assert layout.num_tokens == 2


def test_layouts_do_not_change() -> None:
    with pytest.raises(AttributeError):
        VIT.spans = {}  # type: ignore[misc]


def test_errors_are_ours() -> None:
    assert issubclass(LayoutError, TokenRankError)
    assert issubclass(LayoutError, ValueError)
    assert issubclass(NotFoundError, LookupError)

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


VIDEO = TokenLayout.video(2, 3, 4, cls_tokens=1)


@pytest.mark.parametrize(
    ("point", "token"),
    [((0, 0, 0), 1), ((1, 1, 1), 24), ((0, 0, 0.5), 13), ((0.3, 0.4, 0.49), 6), ((0.3, 0.4, 0.51), 18)],
)
def test_points_in_a_video(point: tuple[float, float, float], token: int) -> None:
    assert VIDEO.token_at(at(*point)) == token


def test_a_video_needs_a_time_and_a_picture_has_none() -> None:
    with pytest.raises(
        LayoutError, match=r"without a time, but span 'video' is a video of 2 frames.*tr\.at\(x, y, t\)"
    ):
        VIDEO.token_at(at(0.5, 0.5))
    with pytest.raises(LayoutError, match=r"time t = 0\.5, but span 'image' is a picture of 3 × 5.*leave t out"):
        VIT.token_at(at(0.5, 0.5, 0.5))
    assert TokenLayout.video(1, 3, 4).token_at(at(1, 1)) == 11  # one frame: no question


@pytest.mark.parametrize("t", [-0.01, 1.01, math.nan])
def test_times_outside_the_video(t: float) -> None:
    with pytest.raises(LayoutError, match=r"outside the video: t = .*divide frame numbers by the video's length"):
        at(0.5, 0.5, t)


def test_a_point_in_one_of_several_pictures() -> None:
    layout = TokenLayout({"text": 2, "image": 4, "image_2": 6}, {"image": (2, 2), "image_2": (2, 3)})
    assert layout.token_at(at(1, 0), "image") == 3
    assert layout.token_at(at(1, 0), "image_2") == 8
    with pytest.raises(LayoutError, match=r"span 'text' has no grid; spans with one: \['image', 'image_2'\]"):
        layout.token_at(at(1, 0), "text")
    with pytest.raises(NotFoundError, match="no span 'picture'"):
        layout.token_at(at(1, 0), "picture")


@pytest.mark.parametrize("grid", [(6,), (1, 1, 2, 3), ()], ids=str)
def test_a_grid_has_two_or_three_axes(grid: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"expected \(rows, columns\) of a picture or \(frames, rows, columns\)"):
        TokenLayout({"image": 6}, {"image": grid})  # type: ignore[dict-item]


def test_a_video_has_to_fill_its_span() -> None:
    with pytest.raises(LayoutError, match=r"2 × 3 × 4 = 24 tokens, but the span has 23; give frames × rows × columns"):
        TokenLayout({"video": 23}, {"video": (2, 3, 4)})
    with pytest.raises(LayoutError, match=r"-2 × -3 = 6 tokens"):
        TokenLayout({"image": 6}, {"image": (-2, -3)})


def test_special_tokens_and_content() -> None:
    layout = TokenLayout.text(["[CLS]", "a", "cat", "[SEP]", "[PAD]"], special=[0, 3, 4])
    assert layout.special == (0, 3, 4)
    assert layout.indices("special") == [0, 3, 4]
    assert layout.indices("content") == [1, 2]
    assert layout.indices("text") == [0, 1, 2, 3, 4]
    assert VIT.indices("registers") == [1, 2, 3, 4]
    assert VIT.indices("content") == list(range(20))  # no token is special


def test_names_of_tokens_that_are_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"no special tokens are known.*TokenLayout\(…, special=\(0, …\)\)"):
        VIT.indices("special")
    with pytest.raises(NotFoundError, match="no tokens 'contents' in this layout; nearest: 'content'"):
        VIT.indices("contents")


@pytest.mark.parametrize("special", [(-1,), (3,), (0, 0), (2, 1)], ids=str)
def test_special_tokens_are_checked(special: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"of 3 tokens, expected indices from 0 to 2, each once and increasing"):
        TokenLayout({"text": 3}, special=special)


def test_select_keeps_special_tokens_and_videos() -> None:
    layout = TokenLayout.text(["[CLS]", "a", "cat", "[SEP]"], special=[0, 3])
    assert layout.select([1, 2, 3]).special == (2,)
    assert layout.select([1, 2]).special == ()
    assert VIDEO.select(list(VIDEO.range("video"))) == TokenLayout.video(2, 3, 4)


def test_layouts_do_not_change() -> None:
    with pytest.raises(AttributeError):
        VIT.spans = {}  # type: ignore[misc]


def test_errors_are_ours() -> None:
    assert issubclass(LayoutError, TokenRankError)
    assert issubclass(LayoutError, ValueError)
    assert issubclass(NotFoundError, LookupError)


ORDERED = TokenLayout({"cls": 1, "image": 6}, {"image": (2, 3)}, special=(3,), order=(3, 0, 4, 1, 5, 2, 6))


def test_tokens_in_an_order_of_their_own() -> None:
    assert ORDERED.indices("image") == [0, 4, 1, 5, 2, 6]
    assert ORDERED.indices("cls") == [3]
    assert ORDERED.token_at(at(0.9, 0.1)) == 1
    assert ORDERED.token_at(at(0.1, 0.9)) == 5
    assert str(ORDERED) == "cls 1, image 2 × 3, in an order of their own"
    with pytest.raises(LayoutError, match=r"span 'image' do not follow each other.*layout\.indices\('image'\)"):
        ORDERED.range("image")


def test_an_order_through_selection_and_one_more_token() -> None:
    patches = ORDERED.select([0, 1, 2, 4, 5, 6])
    assert patches == TokenLayout({"image": 6}, {"image": (2, 3)}, order=(0, 3, 1, 4, 2, 5))
    assert ORDERED.select([0, 3, 4]).indices("image") == [0, 2]
    after = ORDERED.after("sink", "<sink>")
    assert after.indices("image") == [1, 5, 2, 6, 3, 7]
    assert after.special == (0, 4)


def test_the_order_of_the_spans_is_none() -> None:
    assert TokenLayout({"image": 4}, {"image": (2, 2)}, order=(0, 1, 2, 3)) == TokenLayout(
        {"image": 4}, {"image": (2, 2)}
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 1, 2, 2), (1, 2, 3, 4), (0, 1, 2, 3, 4)])
def test_an_order_names_each_token_once(order: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"order has \d indices, .* expected each of the 4 tokens once"):
        TokenLayout({"image": 4}, {"image": (2, 2)}, order=order)

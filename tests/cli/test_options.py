from __future__ import annotations

import pytest

from tokenrank import TokenLayout, at
from tokenrank.cli.options import bounces_of, heads_of, layer_of, layers_of, point_of, tokens_of, word_of
from tokenrank.errors import InputError, LayoutError, NotFoundError


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [
        ("0,0", 0.5 / 200, 0.5 / 100),
        ("1,1", 1.5 / 200, 1.5 / 100),
        ("199,99", 199.5 / 200, 99.5 / 100),
        (" 20 , 30 ", 20.5 / 200, 30.5 / 100),
        ("0.25,0.5", 0.25, 0.5),
        ("1.0,0", 1, 0),
        ("1,.5", 1, 0.5),
        ("0.,1.", 0, 1),
    ],
)
def test_points(text: str, x: float, y: float):
    assert point_of(text, 200, 100) == at(x, y)


@pytest.mark.parametrize("text", ["", "5", "1,2,3", "a,b", "1;2", "1e2,3", "nan,0.5", "٣,٤", "0x1,2", "1 2,3"])
def test_no_points(text: str):
    with pytest.raises(InputError, match="is not x,y; give pixels as two whole numbers, such as 320,180, or fractions"):
        point_of(text, 200, 100)


@pytest.mark.parametrize("text", ["200,0", "0,100", "-1,5", "0.5,1.01", "0.5,50", "-0.1,0.5", "99999999999999999999,1"])
def test_points_outside(text: str):
    with pytest.raises(InputError, match="outside the picture"):
        point_of(text, 200, 100)


def test_words_and_token_numbers():
    layout = TokenLayout.text(["[CLS]", "the", "cat", "##s", "3", "the", "[SEP]"])
    assert word_of("cats", layout) == "cats"
    assert word_of("3", layout) == "3"
    assert word_of("5", layout) == 5
    assert word_of("-7", layout) == -7
    with pytest.raises(LayoutError, match="occurs 2 times"):
        word_of("the", layout)
    with pytest.raises(NotFoundError, match="no word 'dog'"):
        word_of("dog", layout)
    with pytest.raises(InputError, match="expected 0 to 6"):
        word_of("7", layout)


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 3, 4)),
        (5, (1, 2, 3, 5)),
        (8, (1, 2, 4, 8)),
        (64, (1, 4, 16, 64)),
        (10_000, (1, 22, 464, 10_000)),
    ],
)
def test_bounces(most: int, steps: tuple[int, ...]):
    assert bounces_of(most) == steps


@pytest.mark.parametrize("most", [0, -1, 10_001])
def test_no_bounces(most: int):
    with pytest.raises(InputError, match="expected 1 to 10,000"):
        bounces_of(most)


def test_heads_layers_and_tokens():
    assert [heads_of(t) for t in ("lambda2", "uniform", "3", "-1")] == ["lambda2", "uniform", 3, -1]
    assert [heads_of(t) for t in ("0+3+5", "1 + -1")] == [[0, 3, 5], [1, -1]]
    for text in ("", "best", "0+", "1,2", "0+best"):
        with pytest.raises(InputError, match=r"no heads '.*'; .*or numbers of heads, such as 3 or 0\+3\+5"):
            heads_of(text)
    assert [layer_of(t) for t in (None, "3", "-1", "encoder.layer.3")] == [None, 3, -1, "encoder.layer.3"]
    assert [layers_of(t) for t in (None, [], ["*.3"], ["0", "x"])] == [None, None, "*.3", [0, "x"]]
    assert [tokens_of(t) for t in (None, "all", "cls+image")] == [None, "all", ["cls", "image"]]

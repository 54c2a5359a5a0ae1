from __future__ import annotations

import pytest

from tokenrank import TokenLayout, at
from tokenrank.cli import options
from tokenrank.cli.cluster import MOST_SEGMENTS
from tokenrank.cli.evaluate import PROTOCOLS
from tokenrank.cli.meaning import (
    formats_of,
    heads_of,
    layer_of,
    layers_of,
    maps_of,
    rule_of,
    share_of,
    steps_of,
    tau_of,
    tokens_of,
    whole_of,
)
from tokenrank.cli.places import Spot, box_of, part_of, word_of
from tokenrank.cli.report import MisuseError
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
    assert Spot(text).at(200, 100) == at(x, y)


@pytest.mark.parametrize("text", ["", "5", "1,2,3", "a,b", "1;2", "1e2,3", "nan,0.5", "٣,٤", "0x1,2", "1 2,3"])
def test_no_points(text: str):
    with pytest.raises(InputError, match="is not x,y; give pixels as two whole numbers, such as 320,180, or fractions"):
        Spot(text).at(200, 100)


@pytest.mark.parametrize("text", ["200,0", "0,100", "-1,5", "0.5,1.01", "0.5,50", "-0.1,0.5", "99999999999999999999,1"])
def test_points_outside(text: str):
    with pytest.raises(InputError, match="outside the picture"):
        Spot(text).at(200, 100)


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
    ("text", "steps"),
    [
        ("1", (1,)),
        ("2", (1, 2)),
        ("3", (1, 2, 3)),
        ("4", (1, 2, 3, 4)),
        ("5", (1, 2, 3, 5)),
        ("8", (1, 2, 4, 8)),
        ("64", (1, 4, 16, 64)),
        ("10000", (1, 22, 464, 10_000)),
        ("8,1, 2", (1, 2, 8)),
        ("3,3", (3,)),
        ("halflife", None),
    ],
)
def test_maps(text: str, steps: tuple[int, ...] | None):
    assert maps_of(text) == steps


@pytest.mark.parametrize("text", ["0", "-1", "10001", "1,0", "1,", "", "two", "2.5", "1e2", "nan", "half", "9" * 30])
def test_no_maps(text: str):
    with pytest.raises(MisuseError, match=r"expected 1 to 10,000 .*, a list such as 1,2,8, or halflife"):
        maps_of(text)


def test_more_maps_than_a_figure_shows():
    with pytest.raises(MisuseError, match="are 9 maps, expected 8 at most"):
        maps_of("1,2,3,4,5,6,7,8,9")


def test_steps():
    assert [steps_of(text) for text in ("0", "2", "halflife")] == [0, 2, "halflife"]
    for text in ("-1", "1,2", "many", "10001"):
        with pytest.raises(MisuseError, match="expected one number from 0 to 10,000, or halflife"):
            steps_of(text)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "2", "nan", "inf", "", "much"])
def test_no_share(text: str):
    with pytest.raises(MisuseError, match=r"alpha = '.*', expected a number from 0 to 1, such as 0.99"):
        share_of(text, "alpha")
    assert share_of("1", "alpha") == 1


def test_whole_numbers():
    assert whole_of(" 7 ", "k", 1, MOST_SEGMENTS) == 7
    for text in ("0", "256", "1.5", "x", "١"):
        with pytest.raises(MisuseError, match=r"k = '.*', expected a whole number, 1 to 255"):
            whole_of(text, "k", 1, MOST_SEGMENTS)


def test_rule_and_tau():
    assert [rule_of(text) for text in ("mean", "all", "0.6")] == ["mean", None, 0.6]
    assert [tau_of(text) for text in ("auto", "1.1")] == ["auto", 1.1]
    for text in ("nan", "-1", "0", "some"):
        with pytest.raises(MisuseError, match="rule ="):
            rule_of(text)
        with pytest.raises(MisuseError, match="tau ="):
            tau_of(text)


def test_boxes_and_parts():
    assert box_of("1,2,30,40") == (1, 2, 30, 40)
    assert box_of("0.1,0.2,0.3,1.") == (0.1, 0.2, 0.3, 1.0)
    for text in ("5,5", "5,5,5,9", "0.1,0.1,0.5,1.5", "-1,0,5,5", "a,b,c,d"):
        with pytest.raises(MisuseError, match="box"):
            box_of(text)
    assert part_of("0,1.5") == (0, 1.5)
    for text in ("0", "a,b", "1,1", "2,1", "-1,2"):
        with pytest.raises(MisuseError, match="part"):
            part_of(text)


def test_formats():
    assert formats_of("png, SVG,png") == ("png", "svg")
    for text in ("gif", "png,gif"):
        with pytest.raises(MisuseError, match="no figure format 'gif'; expected one of 'png', 'pdf', 'svg'"):
            formats_of(text)
    with pytest.raises(MisuseError, match="no figure format given"):
        formats_of(",")


def test_words_that_are_known_before_anything_is_loaded_are_all_there_are():
    """Help and completion know them without torch; here they are held to what knows them really."""
    from typing import get_args

    from tokenrank.evaluate.protocols import PROTOCOLS as KNOWN
    from tokenrank.tasks.anchors import AnchorGrid
    from tokenrank.tasks.cluster import ClusterWay
    from tokenrank.tasks.halves import Side
    from tokenrank.tasks.saliency import SaliencyWay
    from tokenrank.tasks.segmentation import MOST_LABELS
    from tokenrank.view.style import FORMATS, Scale

    assert set(KNOWN) == set(PROTOCOLS)
    assert get_args(ClusterWay) == options.CLUSTER_WAYS
    assert set(get_args(AnchorGrid)) == set(options.ANCHORS)
    assert get_args(SaliencyWay) == options.SALIENCY_WAYS
    assert set(get_args(Side)) == set(options.SIDES)
    assert get_args(Scale) == options.SCALES
    assert FORMATS == options.FORMATS
    assert MOST_LABELS == MOST_SEGMENTS


def test_heads_layers_and_tokens():
    assert [heads_of(t) for t in ("lambda2", "uniform", "3", "-1")] == ["lambda2", "uniform", 3, -1]
    assert [heads_of(t) for t in ("0+3+5", "1 + -1")] == [[0, 3, 5], [1, -1]]
    for text in ("", "best", "0+", "1,2", "0+best"):
        with pytest.raises(InputError, match=r"no heads '.*'; .*or numbers of heads, such as 3 or 0\+3\+5"):
            heads_of(text)
    assert [layer_of(t) for t in (None, "3", "-1", "encoder.layer.3")] == [None, 3, -1, "encoder.layer.3"]
    assert [layers_of(t) for t in (None, [], ["*.3"], ["0", "x"])] == [None, None, "*.3", [0, "x"]]
    assert [tokens_of(t) for t in (None, "all", "cls+image")] == [None, "all", ["cls", "image"]]

"""The widget from Python: traits that hold what a reader chose, bytes that are asked for, and a frame without it."""

from __future__ import annotations

import html
import json
import re
import struct
from typing import Any

import pytest

import tokenrank as tr
from tests.explorer import made, nodes
from tokenrank.explorer import explorer as shown
from tokenrank.explorer.blob import cut
from tokenrank.explorer.state import NAMES, checked, defaults

anywidget = pytest.importorskip("anywidget", reason='no anywidget: pip install "tokenrank[notebook]"')


@pytest.fixture(scope="module")
def page() -> tr.Explorer:
    return made.explorer(heads=[0])


@pytest.fixture
def widget(page: tr.Explorer) -> Any:
    return tr.Explorer(page.index, page.parts).widget()  # an explorer has one widget


def test_it_begins_as_the_page_does(widget: Any) -> None:
    index = widget._index
    assert widget.state == defaults(index)
    assert (widget.layer, widget.head, widget.bounces, widget.starts) == (
        2,
        "lambda2",
        2,
        [index["sheets"][0]["start"]],
    )
    assert set(NAMES) <= set(widget.keys)


def test_every_view_is_of_one_widget() -> None:
    found = made.explorer()
    assert found.widget() is found.widget()
    assert (
        found._repr_mimebundle_()[0]["application/vnd.jupyter.widget-view+json"]["model_id"] == found.widget().model_id
    )
    assert found._repr_html_() is None
    assert made.explorer().widget().model_id != found.widget().model_id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer", 1), ("head", 0), ("head", "uniform"), ("starts", [3]), ("starts", [0, 24]), ("bounces", 21),
        ("direction", "backward"), ("alpha", 0.9), ("alpha", 1), ("without", "sinks"), ("scale", "shared"),
        ("opacity", 0.5), ("smooth", True), ("hide", True), ("pieces", True), ("colours", "greys"), ("tab", "heads"),
        ("theme", "dark"), ("theme", None),
    ],
)  # fmt: skip
def test_what_the_page_has(widget: Any, name: str, value: Any) -> None:
    setattr(widget, name, value)
    assert getattr(widget, name) == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("layer", 0, r"layer = 0 is a thumbnail in this page, expected one of 1, 2; this brings it: tr.explore"),
        ("layer", 9, r"layer = 9, expected one that is in the page: 1, 2"),
        ("layer", "2", r"layer = '2', expected one"),
        ("head", 1, r"head = 1 of layer 2 is a thumbnail in this page, expected one of 0; this brings it"),
        ("head", 2, r"head = 2, expected 'lambda2' or 'uniform' for all of them, or a number from 0 to 1"),
        ("head", "lambda", r"head = 'lambda', expected"),
        ("starts", [], r"starts = \[\], expected a list of tokens from 0 to 24"),
        ("starts", [25], r"starts = \[25\], expected a list of tokens from 0 to 24"),
        ("starts", 3, r"starts = 3, expected a list of tokens .*, such as \[3\]"),
        ("starts", "3", r"starts = '3', expected a list"),
        ("bounces", 22, r"bounces = 22, expected a whole number from 0 to 21 \(21 for infinitely many, TokenRank\)"),
        ("bounces", 2.5, r"bounces = 2.5, expected a whole number"),
        ("bounces", True, r"bounces = True, expected"),
        ("direction", "forwards", r"direction = 'forwards', expected one of 'forward', 'backward'; nearest: 'forward'"),
        ("alpha", 0.2, r"alpha = 0.2, expected a probability from 0.5 to 0.999, or 1"),
        ("opacity", 2, r"opacity = 2, expected a number from 0 to 1"),
        ("smooth", 1, r"smooth = 1, expected one of False, True"),
        ("sheet", 1, r"sheet = 1, expected a whole number from 0 to 0"),
        ("theme", "blue", r"theme = 'blue', expected one of None, 'dark', 'light'"),
    ],
)
def test_what_it_has_not_is_refused(widget: Any, name: str, value: Any, words: str) -> None:
    before = widget.state
    with pytest.raises(tr.errors.InputError, match=words):
        setattr(widget, name, value)
    assert widget.state == before


def test_another_sheet_begins_with_its_own() -> None:
    found = tr.explore([made.trace(), made.trace(layers=2, seed=1)], layers=-1, heads=[0])
    widget = found.widget()
    widget.starts = [4, 5]
    widget.sheet = 1
    assert (widget.layer, widget.starts) == (1, [found.index["sheets"][1]["start"]])
    widget.head = 0
    widget.sheet = 0
    assert (widget.layer, widget.head) == (2, 0)


def test_what_the_page_says_is_taken_as_it_is() -> None:
    widget = tr.explore([made.trace(), made.trace(layers=2, seed=1)]).widget()
    widget.set_state({"sheet": 1, "layer": 0, "starts": [7], "bounces": 5})
    assert (widget.sheet, widget.layer, widget.starts, widget.bounces) == (1, 0, [7], 5)


def test_bytes_are_sent_once_with_the_number_of_the_ask(widget: Any) -> None:
    sent: list[bytes] = []
    widget.observe(lambda change: sent.append(change["new"]), "part")
    parts = widget._parts
    widget.set_state({"want": [[4_000_000_001, 16, 40], [7, 0, 8]]})
    widget.set_state({"want": [[4_000_000_001, 16, 40], [7, 0, 8], [8, 3, 5]]})
    expected = [(4_000_000_001, 16, 40), (7, 0, 8), (8, 3, 5)]
    assert sent == [struct.pack("<I", number) + cut(parts, offset, length) for number, offset, length in expected]


@pytest.mark.parametrize("ask", [[1, 0, 0], [1, 0, 4_000_001], [1, -4, 8], [1, 10**9, 8], ["1", 0, 8], [1, 0], "x"])
def test_asks_that_mean_nothing_are_passed_over(widget: Any, ask: Any) -> None:
    widget.set_state({"want": [ask, [2, 0, 4]]})
    assert widget.part == struct.pack("<I", 2) + cut(widget._parts, 0, 4)


def test_what_is_seen_first_needs_no_kernel(widget: Any) -> None:
    sheet = widget._index["sheets"][0]
    assert sheet["layers"][2]["stored"]["bytes"] in widget.places
    assert all(layer["thumbs"] in widget.places for layer in sheet["layers"])
    assert widget.held == b"".join(cut(widget._parts, *place) for place in widget.places)


def test_no_message_is_longer_than_hosts_take(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenrank.explorer import widget

    found = made.explorer()
    layer = found.index["sheets"][0]["layers"][2]["stored"]["bytes"]
    monkeypatch.setattr(widget, "MOST", layer[1] - 1)
    assert layer not in widget.first_places(found.index)


def test_the_module_holds_no_data() -> None:
    one, other = made.explorer(), made.explorer(title="another")
    assert one.widget()._esm == other.widget()._esm == tr.Explorer.module()
    assert one.index["title"] != other.index["title"]


def test_without_anywidget_a_page_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_has_anywidget", lambda: False)
    found = made.explorer(title="'</iframe>&")
    bundle = found._repr_mimebundle_()
    assert bundle["text/html"] == found._repr_html_()
    frame = re.fullmatch(r"<iframe (.*?) srcdoc='([^']*)'></iframe><div .*>(.*)</div>", bundle["text/html"], re.DOTALL)
    assert frame is not None
    assert html.unescape(frame[2]) == found.html()
    assert "sandbox='allow-scripts allow-downloads'" in frame[1]
    assert "anywidget is not installed" in frame[3]
    assert "pip install 'tokenrank[notebook]'" in frame[3]


@pytest.mark.node
def test_the_page_against_a_model_without_a_host() -> None:
    nodes.run("widget.test.js")


def test_joiners_stay_in_the_name_of_a_text() -> None:
    index = tr.explore("a 👩\u200d🚀 in \u202espace", layers=-1).index
    assert index["title"] == index["sheets"][0]["name"] == "a 👩\u200d🚀 in ⟨U+202E⟩space"


def test_a_walk_begins_at_a_whole_word() -> None:
    index = tr.explore("The engineers found deep cracks", layers=-1).index
    sheet = index["sheets"][0]
    word = max(sheet["words"], key=lambda word: word["count"])
    assert word["count"] > 1
    sheet["start"] = word["first"] + 1
    assert defaults(index)["starts"] == list(range(word["first"], word["first"] + word["count"]))


@pytest.mark.node
def test_the_page_begins_with_what_python_says() -> None:
    index = tr.explore([made.trace(), made.trace(layers=2, seed=1)], layers=[0, -1], heads=[0]).index
    index["sheets"][1]["words"] = [{"text": "deepest", "first": index["sheets"][1]["start"] - 1, "count": 3}]
    state = defaults(index)
    taken = [
        ("layer", 0), ("head", 0), ("head", "uniform"), ("starts", [3, 24]), ("bounces", 21), ("direction", "backward"),
        ("alpha", 0.5), ("alpha", 0.999), ("without", "sinks"), ("scale", "shared"), ("opacity", 0), ("smooth", True),
        ("hide", True), ("pieces", True), ("colours", "greys"), ("tab", "chain"), ("theme", "dark"), ("sheet", 1),
    ]  # fmt: skip
    assert {name for name, _ in taken} == set(NAMES) - {"step"}
    assert all(checked(index, state, name, value) == value for name, value in taken)
    expected = [defaults(index, number) for number in range(2)]
    nodes.run("state.test.js", TOKENRANK_STATE=json.dumps({"index": index, "expected": expected, "taken": taken}))

"""What can be explored, and what is refused before a model runs."""

from __future__ import annotations

import inspect
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import tokenrank as tr
from tests.explorer import made
from tests.tiny import SENTENCE, save_bert, save_vit
from tokenrank.explorer.blob import cut


def test_whatever_can_be_observed(tmp_path: Path) -> None:
    trace = made.trace()
    trace.save(tmp_path / "mine.safetensors")
    chain = trace["block.0"]
    found = [
        tr.explore(trace),
        trace.explore(),
        tr.observe(trace).explore(),
        tr.explore(tmp_path / "mine.safetensors"),
        tr.explore(str(tmp_path / "mine.safetensors")),
        tr.explore(chain, layout=tr.TokenLayout.image(made.ROWS, made.COLUMNS)),
    ]
    for one in found:
        sheet = one.index["sheets"][0]
        assert (sheet["count"], sheet["grid"]["rows"], sheet["grid"]["columns"]) == (25, made.ROWS, made.COLUMNS)
        assert sheet["layers"][-1]["stored"]["kind"] == "qk"
    assert found[3].index["sheets"][0]["name"] == "mine.safetensors"
    assert [layer["name"] for layer in found[0].index["sheets"][0]["layers"]] == ["block.0", "block.1", "block.2"]


def test_a_picture_and_a_text_by_their_models(tmp_path: Path) -> None:
    vit, bert = save_vit(tmp_path / "vit"), save_bert(tmp_path / "bert")
    picture = tr.explore(tr.samples.path("coffee"), model=vit, size=48, layers=-1, heads=1)
    sheet = picture.index["sheets"][0]
    assert (sheet["name"], sheet["kind"], picture.index["title"]) == ("coffee.jpg", "picture", "coffee.jpg")
    assert [layer["stored"] is not None for layer in sheet["layers"]] == [False, False, True]
    assert sheet["layers"][-1]["stored"]["heads"] == [1]
    text = tr.explore(SENTENCE, model=bert, title="A cat").index
    assert (text["sheets"][0]["kind"], text["title"]) == ("text", "A cat")
    assert [token["text"] for token in text["sheets"][0]["tokens"]][1:-1] == SENTENCE.split()


def test_a_list_is_one_sheet_each() -> None:
    found = tr.explore([made.trace(), made.trace(layers=2, seed=1)]).index["sheets"]
    assert [len(sheet["layers"]) for sheet in found] == [3, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 1.0}, r"alpha = 1.0, expected a probability from 0.5 to 0.999"),
        ({"alpha": True}, r"alpha = True, expected"),
        ({"alpha": "0.9"}, r"alpha = '0.9', expected"),
        ({"small": 1}, r"small = 1, expected True for a byte a number"),
        ({"limit": 12}, r"limit = 12, expected most bytes of the page, from 100_000 on, such as 12_000_000"),
        ({"limit": 1e7}, r"limit = 10000000.0, expected"),
        ({"heads": "lambda2"}, r"heads = 'lambda2', expected the number of a head.*chosen in the page"),
        ({"heads": []}, r"heads = \[\], expected"),
        ({"heads": [0, "1"]}, r"heads = \[0, '1'\], expected"),
        ({"heads": 0.0}, r"heads = 0.0, expected"),
        ({"title": " "}, r"title = ' ', expected some words"),
    ],
)
def test_options_are_refused_before_anything_runs(options: dict[str, Any], words: str) -> None:
    model = torch.nn.Module()  # would fail if it ran
    with pytest.raises(tr.errors.InputError, match=words):
        tr.explore(model, inputs={}, **options)


@pytest.mark.parametrize(("source", "words"), [([], "an empty list"), ([["cat.jpg"]], "a list that holds a list")])
def test_lists_that_are_none(source: Any, words: str) -> None:
    with pytest.raises(tr.errors.InputError, match=words):
        tr.explore(source)


def test_several_samples_are_refused_with_the_cure() -> None:
    trace = made.trace(samples=2)
    with pytest.raises(tr.errors.CaptureError, match=r"trace.select\(sample=0\)"):
        tr.explore(trace)
    assert tr.explore(trace.select(sample=1)).index["sheets"][0]["count"] == 25


def test_names_that_there_are_not() -> None:
    for options, words in (
        ({"layers": 7}, "no layer 7"),
        ({"layers": "blok.1"}, "nearest: 'block"),
        ({"heads": 5}, "no head 5"),
        ({"laeyrs": 1}, "no option 'laeyrs'"),
    ):
        with pytest.raises(tr.errors.NotFoundError, match=words):
            tr.explore(made.trace(), **options)


def test_more_than_the_limit_says_what_helps() -> None:
    with pytest.raises(tr.errors.InputError, match=r"expected at most 0.4 MB.*--layers.*small=True.*limit="):
        tr.explore(tr.from_query_key([_long(400)] * 2), layers="all", limit=400_000)


def _long(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    q, k = torch.randn(2, 1, 2, count, 32, generator=torch.Generator().manual_seed(0))
    return q, k


def test_doors_know_every_option() -> None:
    """The docstrings of ``explore`` on other objects name what ``tr.explore`` takes."""
    options = [n for n, p in inspect.signature(tr.explore).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for door in (tr.Observation.explore, tr.Trace.explore):
        assert not [name for name in options if f"``{name}``" not in (door.__doc__ or "") and name != "size"]


def test_saved_as_a_page_and_as_data(tmp_path: Path) -> None:
    found = made.explorer()
    found.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == found.html()
    assert found.size == (tmp_path / "page.html").stat().st_size
    found.save(tmp_path / "page.trx")
    data = (tmp_path / "page.trx").read_bytes()
    assert data[:4] == b"TRX1"
    (length,) = struct.unpack("<I", data[4:8])
    assert json.loads(data[8 : 8 + length]) == found.index
    blob = data[-(-(8 + length) // 16) * 16 :]
    assert blob == b"".join(found.parts)
    for name in ("page.png", "page"):
        with pytest.raises(tr.errors.InputError, match=r"expected \.html for a page, or \.trx"):
            found.save(tmp_path / name)
    with pytest.raises(tr.errors.InputError, match="no folder"):
        found.save(tmp_path / "nowhere" / "page.html")


def test_bytes_are_cut_across_parts() -> None:
    parts = [b"abcd", b"", b"efgh", b"ij"]
    whole = b"".join(parts)
    for begin in range(len(whole) + 1):
        for end in range(begin, len(whole) + 1):
            assert cut(parts, begin, end - begin) == whole[begin:end]
    for begin, length in ((8, 3), (-1, 2), (0, 11)):
        with pytest.raises(tr.errors.InputError, match="of a blob of 10"):
            cut(parts, begin, length)

"""The index and the blob: the fields of page/types.js, offsets that fit, and answers that the library gives, too."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr
from tests.explorer.test_kinds import read_back
from tests.tiny import SENTENCE, save_bert, save_gpt2, save_vit
from tokenrank.explorer.blob import as_trx
from tokenrank.explorer.index import LINE, build

TYPES = Path(tr.__file__).parent / "explorer" / "page" / "types.js"
OPTIONAL = {"names"}  # of denoisers


def fields(name: str) -> set[str]:
    """Names of the properties of a type of the page."""
    text = TYPES.read_text(encoding="utf-8")
    inline = re.search(r"@typedef \{\{([^}]*)\}\} " + name + r"\b", text)
    if inline:
        return {part.split(":")[0].strip() for part in inline[1].split(",")}
    block = re.search(r"@typedef \{object\} " + name + r"\b(.*?)\n \*\n", text, re.DOTALL)
    assert block is not None, name
    return {found[1] for found in re.finditer(r"@property \{(?:[^{}]|\{[^{}]*\})*\} \[?(\w+)", block[1])}


def check(value: dict[str, Any], name: str) -> None:
    assert set(value) - OPTIONAL == fields(name) - OPTIONAL, name


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[list[tr.Observation], dict[str, Any], list[bytes]]:
    folder = tmp_path_factory.mktemp("models")
    observations = [
        tr.observe(tr.samples.path("coffee"), model=str(save_vit(folder / "vit"))),
        tr.observe(SENTENCE, model=str(save_bert(folder / "bert"))),
        tr.observe(SENTENCE, model=str(save_gpt2(folder / "gpt2"))),
    ]
    return observations, *build(observations, sources=[tr.samples.path("coffee"), SENTENCE, SENTENCE], alpha=0.9)


def test_the_fields_are_those_of_the_page(built):
    _, index, _ = built
    check(index, "Index")
    assert index["model"] == "vit, bert, gpt2"
    for sheet in index["sheets"]:
        check(sheet, "Sheet")
        for name, values in (("Span", sheet["spans"]), ("Token", sheet["tokens"] or []), ("Word", sheet["words"]),
                             ("Step", sheet["steps"])):  # fmt: skip
            for value in values:
                check(value, name)
        for name in ("grid", "picture"):
            if sheet[name] is not None:
                check(sheet[name], name.capitalize())
        for layer in sheet["layers"]:
            check(layer, "Layer")
            check(layer["stored"], "Stored")
            check(layer["stored"]["errors"], "Errors")
            check(layer["chain"], "Chain")
            for head in layer["heads"]:
                check(head, "Head")


def test_it_is_json_and_the_offsets_tile_the_blob(built):
    _, index, parts = built
    assert json.loads(json.dumps(index, allow_nan=False)) == index
    assert all(len(part) % LINE == 0 for part in parts)
    blob, ranges = b"".join(parts), []
    for sheet in index["sheets"]:
        ranges += [sheet["picture"]["bytes"]] if sheet["picture"] else []
        for layer in sheet["layers"]:
            cells = len(layer["heads"]) * (
                sheet["count"] if sheet["grid"] is None else sheet["grid"]["rows"] * sheet["grid"]["columns"]
            )
            assert layer["thumbs"][1] == cells
            ranges += [layer["thumbs"], layer["stored"]["bytes"]]
    begins = [0]
    for part in parts:
        begins.append(begins[-1] + len(part))
    end = 0
    for at, length in sorted(ranges):
        assert at - end < LINE  # nothing overlaps, and nothing is lost in between
        assert at == end or at in begins
        end = at + length
    assert end <= len(blob) < end + LINE
    for sheet in index["sheets"]:
        for layer in sheet["layers"]:
            assert layer["stored"]["bytes"][0] in begins
    head = as_trx(index, parts)
    size = struct.unpack("<I", head[4:8])[0]
    assert head[:4] == b"TRX1"
    assert json.loads(head[8 : 8 + size]) == index
    assert head.endswith(blob)
    assert (len(head) - len(blob)) % 16 == 0


def test_walks_on_what_is_stored_are_those_of_the_library(built):
    """The page's arithmetic: M = A or the reverse of A, v ← α vM + (1 − α) / N, heads by the mixture's weights."""
    observations, index, parts = built
    for observation, sheet in zip(observations, index["sheets"], strict=True):
        n = sheet["count"]
        for layer in sheet["layers"]:
            heads = layer["stored"]["heads"]
            share = np.array(layer["chain"]["mixture"]["weights"])
            matrix = sum(share[h] * read_back(layer, parts, n, place) for place, h in enumerate(heads))
            for heads_asked, a in (("lambda2", matrix), (0, read_back(layer, parts, n, 0))):
                chain = observation.chain(layer["number"], heads_asked, tokens="all")
                for direction in ("forward", "backward"):
                    m = a if direction == "forward" else a.T / a.sum(0)[:, None]
                    given = chain if direction == "forward" else chain.reverse()
                    v = np.eye(n)[sheet["start"]]
                    for bounce in range(1, 9):
                        v = 0.9 * v @ m + 0.1 / n
                        exact = given.teleport(0.9).bounce(sheet["start"], bounce).values.numpy()
                        assert np.abs(v - exact).sum() < 5e-4
                    limit = np.linalg.solve(np.eye(n) - 0.9 * m.T, np.full(n, 0.1 / n))
                    exact = chain.tokenrank(alpha=0.9, direction=direction).values.numpy()
                    assert np.abs(limit - exact).sum() < 5e-4


def test_numbers_of_heads_are_those_of_the_library(built):
    observations, index, parts = built
    for observation, sheet in zip(observations, index["sheets"], strict=True):
        for layer in sheet["layers"]:
            chains = observation.head_chains(layer["number"], tokens="all")
            moduli = chains.lambda2().values.tolist()
            np.testing.assert_allclose([head["lambda2"] for head in layer["heads"]], moduli, atol=1e-4)
            ranks = chains.tokenrank(alpha=0.9).values
            at, length = layer["thumbs"]
            shown = np.frombuffer(parts[0][at : at + length], np.uint8).reshape(len(moduli), -1)
            cells = observation.layout.indices("image") if sheet["kind"] == "picture" else list(range(sheet["count"]))
            assert shown.max(-1).tolist() == [255] * len(moduli)
            # the brightest that is no sink, as thumbs show it
            for head, row in enumerate(shown):
                assert row[int(ranks[head][cells].argmax())] == 255


def test_layers_by_number_name_and_glob(built):
    (picture, *_), _, _ = built

    def kept(layers: Any) -> list[int]:
        return [of["number"] for of in build(picture, layers=layers)[0]["sheets"][0]["layers"] if of["stored"]]

    assert kept(None) == kept("all") == [0, 1, 2]
    assert kept(1) == [1]
    assert kept([-1, 0]) == [0, 2]
    assert kept("*layer.1.*") == [1]
    with pytest.raises(tr.errors.NotFoundError):
        kept("nothing")


@pytest.mark.parametrize("alpha", [0.4, 1.0, float("nan")])
def test_an_alpha_that_the_page_does_not_have(built, alpha):
    with pytest.raises(tr.errors.InputError, match=r"from 0.5 to 0.999"):
        build(built[0][0], alpha=alpha)


def test_nothing_and_a_trace_of_several_samples_are_refused():
    with pytest.raises(tr.errors.InputError, match="one at least"):
        build([])
    q, k = (torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    trace = tr.from_query_key({"a": (q, k)})
    with pytest.raises(tr.errors.CaptureError, match=r"trace\.select\(sample=0\)"):
        build(tr.observe(trace))
    one = build(tr.observe(trace.select(sample=1)))[0]["sheets"][0]
    assert one["tokens"] is None
    assert one["spans"] == [{"name": "tokens", "first": 0, "count": 5}]


def test_a_token_alone():
    chain = tr.AttentionChain(np.ones((2, 1, 1)), tr.TokenLayout.text(["a"]))
    index, _ = build(tr.observe(chain))
    json.dumps(index, allow_nan=False)
    assert index["sheets"][0]["start"] == 0

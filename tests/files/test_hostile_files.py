"""Broken and hostile files: InputError, whatever their bytes are, and never a trace that differs."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tokenrank.errors import InputError
from tokenrank.files import manifest
from tokenrank.files.write import KEY, summary
from tokenrank.layout import TokenLayout
from tokenrank.recording import AttentionRecord, Forward
from tokenrank.trace import Trace, load_trace

from .traces import assert_same_trace

fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def tiny() -> Trace:
    torch.manual_seed(0)
    q, k, mask = torch.randn(1, 2, 2), torch.randn(1, 2, 2), torch.tensor([True, False])
    record = AttentionRecord("a", "A", "sdpa", 0, Forward(0), q, k, 0.5, mask)
    weights = AttentionRecord("b", "B", "weights", 1, record.forward, weights=torch.full((2, 2), 0.5))
    return Trace([record, weights], layout=TokenLayout({"text": 2}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny().save(tmp_path / "trace")
    return tmp_path / "trace"


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()[KEY])
    description.pop("crc32")
    return tensors, description


def damaged(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> Path:
    """The file, changed by somebody who knows how to make its checksums fit."""
    tensors, description = read(path)
    change(tensors, description)
    save_file(tensors, path, {KEY: manifest.dump(description)})
    return path


def refused_or_same(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        loaded = load_trace(path)
    except InputError:
        return True
    assert_same_trace(tiny(), loaded)
    return False


def test_cut_at_every_byte(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        assert refused_or_same(saved, whole[:length])


def test_every_byte_inverted_is_noticed_or_changes_nothing(saved):
    whole = saved.read_bytes()
    unnoticed = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        unnoticed += not refused_or_same(saved, bytes(flipped))
    assert unnoticed <= 1  # the byte of a True, which any other number but zero means as well


@given(place=st.integers(0), bit=st.integers(0, 7))
@settings(fuzz, max_examples=300)
def test_single_bits_flipped(place, bit, tmp_path):
    tiny().save(tmp_path / "trace")
    content = bytearray((tmp_path / "trace").read_bytes())
    content[place % len(content)] ^= 1 << bit
    refused_or_same(tmp_path / "trace", bytes(content))


@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", struct.pack("<Q", 20) + b'{"']), rest=st.binary()
)
@settings(fuzz, max_examples=200)
def test_bytes_without_sense(start, rest, tmp_path):
    (tmp_path / "x").write_bytes(start + rest)
    with pytest.raises(InputError, match=r"'.*x'"):
        load_trace(tmp_path / "x")


@given(junk=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                         lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3)),
       where=st.integers(0))  # fmt: skip
@settings(fuzz, max_examples=300)
def test_any_json_in_any_place_of_the_description(junk, where, tmp_path):
    text = TokenLayout.text("ab", (1,))
    Trace([replace(r, layout=text, texts=(text,), batch_size=1) for r in tiny().records]).save(tmp_path / "trace")
    tensors, description = read(tmp_path / "trace")
    paths = list(_places(description))
    *above, last = paths[where % len(paths)]
    node: Any = description
    for key in above:
        node = node[key]
    node[last] = junk
    save_file(tensors, tmp_path / "trace", {KEY: manifest.dump(description)})
    message = ""
    try:
        load_trace(tmp_path / "trace").summary()
    except InputError as error:
        message = str(error)
    assert message.isprintable()


def _places(node: Any, above: tuple[Any, ...] = ()) -> Any:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield (*above, key)
        yield from _places(value, (*above, key))


CHANGES = {
    "newer version": (lambda t, d: d.update(version=2), "newer tokenrank wrote it"),
    "version zero": (lambda t, d: d.update(version=0), "version is '0'"),
    "version as text": (lambda t, d: d.update(version="1"), "expected a whole number"),
    "unknown kind": (lambda t, d: d["records"][0].update(kind="linear"), "kind of record 0 .*'\"linear\"'"),
    "missing tensor": (lambda t, d: t.pop("0.k"), "tensor '0.k' is missing"),
    "unknown tensor": (lambda t, d: t.update(more=torch.ones(2)), "tensor 'more' is not described"),
    "reference to nothing": (lambda t, d: d["records"][0]["tensors"].update(q="9.q"), "q of record 0"),
    "unknown part": (lambda t, d: d["records"][0]["tensors"].update(v="0.q"), "a tensor of record 0"),
    "q without k": (lambda t, d: d["records"][0]["tensors"].pop("k"), r"expected q and k, or weights"),
    "no tensors": (lambda t, d: d["records"][0].update(tensors={}), r"expected q and k, or weights"),
    "orphan": (lambda t, d: d["records"].pop(), "'1.weights' belongs to no record"),
    "no records": (lambda t, d: d.update(records=[]), "no records"),
    "forward of nothing": (lambda t, d: d["records"][0].update(forward=7), "forward of record 0 .* less than 1"),
    "negative step": (lambda t, d: d["forwards"][0].update(step=-1), "step of forward 0"),
    "scale as text": (lambda t, d: d["records"][0].update(scale="1"), "scale of record 0 .* expected a number"),
    "scale beyond floats": (lambda t, d: d["records"][0].update(scale=10**400), "scale of record 0"),
    "causal as number": (lambda t, d: d["records"][0].update(is_causal=1), "expected true or false"),
    "name as number": (lambda t, d: d["records"][0].update(name=1), "name of record 0 .* expected a string"),
    "layout of nothing": (lambda t, d: d["records"][0].update(layout=0), "layout of record 0"),
    "batch of a word": (lambda t, d: d["records"][0].update(batch_size="2"), "batch_size of record 0"),
    "texts of nothing": (lambda t, d: d["records"][0].update(texts=[0]), "a text of record 0 .* less than 0"),
    "text without strings": (
        lambda t, d: (d.update(layouts=[d["layout"]]), d["records"][0].update(texts=[0])),
        "no layout with the strings of its 2 queries",
    ),
    "text of another size": (
        lambda t, d: (d.update(layouts=[{"spans": [["text", 1]], "grids": [], "tokens": ["a"], "special": []}]),
                      d["records"][0].update(texts=[0])),
        "no layout with the strings of its 2 queries",
    ),
    "text of an error": (
        lambda t, d: (d.update(layouts=[{"error": "either or"}]), d["records"][0].update(texts=[0])),
        "no layout with the strings of its 2 queries",
    ),
    "layout of another size": (
        lambda t, d: (d.update(layouts=[d["layout"]]), d["layouts"][0].update(spans=[["text", 3]]),
                      d["records"][0].update(layout=0)),
        "has 3 tokens, expected the record's 2",
    ),
    "grid that does not fill": (lambda t, d: d["layout"].update(grids=[["text", [3, 3]]]), "does not fit"),
    "negative grid": (lambda t, d: d["layout"].update(grids=[["text", [-1, -2]]]), "whole number from 0"),
    "grid of four": (lambda t, d: d["layout"].update(grids=[["text", [1, 1, 1, 2]]]), "two or three numbers"),
    "span twice": (lambda t, d: d["layout"].update(spans=[["a", 1], ["a", 1]]), "each name once"),
    "too many strings": (lambda t, d: d["layout"].update(tokens=["a"] * 3), "does not fit"),
    "layout of the future": (lambda t, d: d["layout"].update(colours=[]), "unknown entry 'colours'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_descriptions_that_do_not_fit(name, saved):
    change, message = CHANGES[name]
    with pytest.raises(InputError, match=message) as caught:
        load_trace(damaged(saved, change))
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("0.q", torch.ones(1, 2, 3), "the same d"),
        ("0.q", torch.ones(2), "expected"),
        ("0.k", torch.ones(2, 2, 2), "multiple of the key heads"),
        ("0.q", torch.ones(1, 0, 2), "not empty"),
        ("0.q", torch.ones(1, 2, 2, dtype=torch.int64), "int64"),
        ("0.q", torch.ones(1, 2, 2, dtype=torch.complex64), "complex64"),
        ("0.q", torch.ones(1, 2, 2).to(torch.float8_e4m3fn), "float8"),
        ("0.mask", torch.ones(3, dtype=torch.bool), "broadcasts"),
        ("0.mask", torch.ones(2, dtype=torch.int64), "zeros and ones"),
        ("1.weights", torch.ones(3), "shape"),
        ("1.weights", torch.ones(2, 2, dtype=torch.bool), "bool"),
    ],
)
def test_tensors_that_do_not_fit(part, tensor, message, saved):
    def change(tensors, description):
        tensors[part] = tensor
        description["tensors"][part] = summary(tensor)

    with pytest.raises(InputError, match=message):
        load_trace(damaged(saved, change))


@pytest.mark.parametrize(
    ("index", "entry", "message"),
    [
        (torch.tensor([[0, 1], [2, 2]]), {}, "no order of its layout's 4 tokens"),
        (torch.tensor([[0, 1], [2, 4]]), {}, "no order"),
        (torch.tensor([[0, 1], [2, -3]]), {}, "no order"),
        (torch.tensor([0, 1, 2, 3]), {}, "expected int64 of shape"),
        (torch.tensor([[0.0, 1.0], [2.0, 3.0]]), {}, "expected int64 of shape"),
        (torch.tensor([[0, 1, 2, 3]]), {}, "windows of record 1 are"),
        (torch.tensor([[0, 1], [2, 3]]), {"heads": 7}, "windows of record 1 are"),
        (torch.tensor([[0, 1], [2, 3]]), {"shift": [1]}, "expected rows and columns"),
        (torch.tensor([[0, 1], [2, 3]]), {"index": "none"}, "index of windows 0"),
        (torch.tensor([[0, 1], [2, 3]]), {}, "windows of record 1 are"),
    ],
)
def test_windows_that_do_not_fit(index, entry, message, saved):
    def change(tensors, description):
        layout = {"spans": [["image", 4]], "grids": [["image", [2, 2]]], "tokens": None, "special": []}
        description["layouts"] = [layout]
        description["windows"] = [{"index": "windows.0", "layout": 0, "shift": None, "heads": None, **entry}]
        description["records"][1].update(layout=0, windows=0)
        tensors["windows.0"], description["tensors"]["windows.0"] = index, summary(index)

    with pytest.raises(InputError, match=message):
        load_trace(damaged(saved, change))


def test_a_description_of_another_name_is_damage_wherever_else_it_is_damaged(saved):
    """Without its description a trace would be arrays of another program: other names, another scale, no mask."""
    whole = saved.read_bytes()
    at = whole.index(b'"tokenrank"') + 1
    described = whole.index(b"crc32", at)
    for place in range(described, described + 200):
        content = bytearray(whole)
        content[at] ^= 0x20
        content[place] = ord("x")
        assert refused_or_same(saved, bytes(content)), place


def test_changed_numbers_are_noticed_by_their_checksum(saved):
    tensors, description = read(saved)
    tensors["0.q"][0, 0, 0] += 1e-6
    save_file(tensors, saved, {KEY: manifest.dump(description)})
    with pytest.raises(InputError, match=r"tensor '0.q' has .*crc32"):
        load_trace(saved)


def test_deep_and_doubled_json(saved):
    tensors, _ = read(saved)
    for text, message in [
        ("[" * 100_000, "no JSON"),
        ('{"a":' * 100_000, "no JSON"),
        ('{"version":1,"version":1}', "stands twice"),
        ('{"version":' + "9" * 5000 + "}", "no JSON|expected"),
        ("null", "expected an object"),
        ("", "no JSON"),
    ]:
        save_file(tensors, saved, {KEY: text})
        with pytest.raises(InputError, match=message):
            load_trace(saved)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8, 200])
def test_headers_of_a_claimed_length_allocate_nothing(length, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"F64","shape":[99999999999],"data_offsets":[0,8]}}')
    tracemalloc.start()
    with pytest.raises(InputError, match="no safetensors file"):
        load_trace(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_names_with_control_characters_are_data_and_are_printable_in_errors(tmp_path):
    name = "\x1b[2J\n\u202eb\ud800"
    record = AttentionRecord(name, "", "weights", 0, Forward(0), weights=torch.full((2, 2), 0.5))
    Trace([record]).save(tmp_path / "trace")
    assert load_trace(tmp_path / "trace").names == [name]
    path = damaged(tmp_path / "trace", lambda t, d: d["records"][0].update(kind=name))
    with pytest.raises(InputError) as caught:
        load_trace(path)
    assert str(caught.value).isprintable()


def test_names_may_repeat(tmp_path):
    forwards = [Forward(0), Forward(1)]
    records = [AttentionRecord("a", "", "weights", 0, f, weights=torch.full((2, 2), 0.5)) for f in forwards]
    Trace(records).save(tmp_path / "trace")
    assert_same_trace(Trace(records), load_trace(tmp_path / "trace"))


def npz(path: Path, **arrays: Any) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return path


def test_npz_cut_and_flipped_everywhere(tmp_path):
    weights = np.full((2, 2), 0.5, np.float32)
    whole = npz(tmp_path / "x", weights=weights).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(InputError):
            load_trace(tmp_path / "x")
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        (tmp_path / "x").write_bytes(flipped)
        try:
            loaded = load_trace(tmp_path / "x")
        except InputError:
            continue
        assert np.array_equal(loaded.records[0].weights.numpy(), weights)


def claim(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize("shape", ["(100000, 100000, 100000)", "(10000, 10000)", "(-1,)", "(" * 3000, "(1e9,)"])
def test_npz_headers_of_a_claimed_size_allocate_nothing(shape, tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("weights.npy", claim(shape))
    tracemalloc.start()
    with pytest.raises(InputError):
        load_trace(tmp_path / "x")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_pickles_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    npz(tmp_path / "x", weights=np.array([Trap()], dtype=object))
    with pytest.raises(InputError, match="pickled objects"):
        load_trace(tmp_path / "x")
    torch.save({"q": Trap()}, tmp_path / "y")
    with pytest.raises(InputError, match=r"torch\.load"):
        load_trace(tmp_path / "y")
    np.save(tmp_path / "z.npy", np.eye(2))
    with pytest.raises(InputError, match="single array"):
        load_trace(tmp_path / "z.npy")
    assert not (tmp_path / "opened").exists()

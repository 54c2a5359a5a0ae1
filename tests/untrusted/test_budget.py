"""One budget for all readers: the numbers, the cure, and that nothing is allocated before it is asked."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.masks import read_labels, read_mask
from tokenrank.models import read_image
from tokenrank.models.load import _model_type
from tokenrank.untrusted import allowed, budget, check

MIB = 2**20


def test_the_default_is_a_gibibyte_or_what_the_file_occupies(monkeypatch):
    monkeypatch.delenv("TOKENRANK_MAX_BYTES", raising=False)
    assert allowed() == 2**30
    assert allowed(occupied=3 * 2**30) == 3 * 2**30


def test_what_is_stated_counts_alone(monkeypatch):
    monkeypatch.setenv("TOKENRANK_MAX_BYTES", "3 MiB")
    assert allowed(occupied=9 * MIB) == 3 * MIB
    with tr.reading_budget(5 * MIB):
        assert allowed(occupied=9 * MIB) == 5 * MIB
        with tr.reading_budget(MIB):
            assert allowed() == MIB
    assert allowed() == 3 * MIB


@pytest.mark.parametrize(
    ("text", "nbytes"), [("7", 7), ("2KiB", 2048), ("4GiB", 4 * 2**30), (" 1 tib ", 2**40), ("", 2**30)]
)
def test_numbers_of_the_variable(text, nbytes, monkeypatch):
    monkeypatch.setenv("TOKENRANK_MAX_BYTES", text)
    assert allowed() == nbytes


@pytest.mark.parametrize("text", ["much", "-3", "0", "1.5GiB", "3 GB", "9" * 30])
def test_a_variable_that_is_no_number_is_told(text, monkeypatch):
    monkeypatch.setenv("TOKENRANK_MAX_BYTES", text)
    with pytest.raises(InputError, match=r"TOKENRANK_MAX_BYTES is .*, expected a number of bytes above 0"):
        allowed()


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5, "1GiB", None])
def test_a_budget_that_is_no_number_is_refused(wrong):
    with pytest.raises(InputError, match="expected a whole number of bytes"), tr.reading_budget(wrong):
        pass


def test_the_error_has_both_numbers_and_the_cure_works(monkeypatch):
    with pytest.raises(InputError) as error, tr.reading_budget(MIB):
        check(3 * MIB + 1, "'a.npz'", "3 arrays")
    message = str(error.value)
    assert "'a.npz' would take 3.0 MiB once read (3 arrays), expected 1.0 MiB at most" in message
    setting = message.split("set ")[1].split(",")[0]
    name, value = setting.split("=")
    monkeypatch.setenv(name, value)
    check(3 * MIB + 1, "'a.npz'", "3 arrays")


def refused(call: Any, *arguments: Any, most: int = 2 * MIB) -> str:
    """The message of the budget; hardly anything was allocated before it."""
    call_error = None
    tracemalloc.start()
    try:
        call(*arguments)
    except InputError as error:
        call_error = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert call_error is not None
    assert "TOKENRANK_MAX_BYTES=" in call_error
    assert peak < most
    return call_error


def png(path: Path, side: int, depth: int = 1) -> Path:
    """A black picture."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (depth * side + 7) // 8) * side))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("read", [read_image, read_mask, read_labels])
def test_pictures_masks_and_labels_count_sixteen_bytes_a_pixel(read, tmp_path):
    path = png(tmp_path / "a.png", 1000, 8)
    with tr.reading_budget(16_000_000):
        read(path)
    with tr.reading_budget(15_999_999):
        assert "would take 15.3 MiB once read (1,000 × 1,000 = 1,000,000 pixels)" in refused(read, path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "JPEG2000"])
def test_every_format_is_held_to_it(form, tmp_path):
    path = tmp_path / "a"
    PIL.Image.new("RGB", (300, 200)).save(path, form)
    assert read_image(path).size == (300, 200)
    with tr.reading_budget(MIB // 2):
        assert "300 × 200 = 60,000 pixels" in refused(read_image, path)


def test_a_mask_is_compared_in_the_type_that_it_is_stored_in(tmp_path):
    path = png(tmp_path / "a.png", 2000)
    tracemalloc.start()
    mask = read_mask(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.nbytes == 4_000_000
    assert peak < 3 * mask.nbytes


def npz(path: Path, nbytes: int) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (nbytes,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.weights.npy", header.getvalue() + bytes(nbytes))
    return path


def test_arrays_of_an_npz(tmp_path):
    path = npz(tmp_path / "a.npz", 40 * MIB)
    with tr.reading_budget(30 * MIB):
        assert "would take 40.0 MiB once read" in refused(tr.load_trace, path)


def test_a_directory_that_is_most_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}.npy", b"")
    with tr.reading_budget(MIB):
        assert "a directory of" in refused(tr.load_trace, tmp_path / "a.npz")


def test_a_tensor_in_a_file_of_holes(tmp_path):
    path, size = tmp_path / "a.safetensors", 100_000_000_000
    head = json.dumps({"a.weights": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + size)
    assert "would take 93.1 GiB once read" in refused(tr.load_trace, path)


def test_a_description_of_empty_lists(tmp_path):
    text = '{"crc32":0,"records":[' + ",".join(["[]"] * 100_000) + '],"version":1}'
    head = json.dumps({"__metadata__": {"tokenrank": text}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(head)) + head.encode() + b"\0")
    with tr.reading_budget(4 * MIB):
        assert "of a header" in refused(tr.load_trace, tmp_path / "a")


def test_a_config_of_brackets(tmp_path):
    (tmp_path / "config.json").write_bytes(b"[" * 3_000_000)
    with tr.reading_budget(64 * MIB):
        refused(_model_type, tmp_path, "folder")
    with pytest.raises(InputError, match="is not valid JSON"):
        _model_type(tmp_path, "folder")


def test_a_jpeg_of_many_scans(tmp_path):
    stored = io.BytesIO()
    PIL.Image.new("L", (4000, 4000), 90).save(stored, "JPEG", progressive=True)
    data = stored.getvalue()
    last = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:last] + data[last:-2] * 500 + data[-2:])
    with pytest.raises(InputError, match="scans of 4,000 × 4,000 pixels, which would take minutes"):
        read_image(tmp_path / "a.jpg")


def test_sixteen_bytes_are_what_the_largest_turn_takes():
    """Four copies of four bytes: as stored, turned, white beneath, and the two of them in one."""
    from tokenrank.models.decoding import PIXEL

    assert PIXEL * 8_000 * 8_000 < budget.DEFAULT < PIXEL * 8_400 * 8_400

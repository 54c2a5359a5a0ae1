"""Our reader of MATLAB v5 beside SciPy's: the same answers on good files, an error or the same on damaged ones."""

from __future__ import annotations

import io
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.bsds500 import read_regions

io_of_scipy = pytest.importorskip("scipy.io")

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def saved(*segmentations: Any, compressed: bool = True) -> bytes:
    cells = np.empty((1, len(segmentations)), dtype=object)
    for place, segmentation in enumerate(segmentations):
        cells[0, place] = {"Boundaries": np.zeros((3, 2)), "Segmentation": segmentation, "more": "words"}
    stored = io.BytesIO()
    io_of_scipy.savemat(stored, {"x": np.eye(3), "groundTruth": cells, "y": "z"}, do_compression=compressed)
    return stored.getvalue()


def without_gaps(array: Any) -> Any:
    return np.unique(array, return_inverse=True)[1].reshape(array.shape) + 1


def with_scipy(path: Path) -> list[Any]:
    return [np.asarray(cell["Segmentation"][0, 0]) for cell in io_of_scipy.loadmat(path)["groundTruth"].flat]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "i8", "u8"])
def test_every_type_of_numbers(dtype, compressed, tmp_path):
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 100, shape).astype(dtype) for shape in ((5, 7), (1, 1), (3, 1), (9, 4))]
    (tmp_path / "a.mat").write_bytes(saved(*labels, compressed=compressed))
    regions = read_regions(tmp_path / "a.mat")
    assert len(regions) == 4
    for found, stored in zip(regions, labels, strict=True):
        np.testing.assert_array_equal(found, without_gaps(stored))


def test_the_other_order_of_bytes(tmp_path):
    """The same elements as a big-endian machine writes them."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(kind: int, shape: tuple[int, int], inside: bytes, name: bytes = b"") -> bytes:
        start = element(6, struct.pack(">II", kind, 0)) + element(5, struct.pack(">2i", *shape)) + element(1, name)
        return element(14, start + inside)

    numbers = matrix(11, (2, 3), element(4, np.array([1, 1, 300, 300, 7, 7], ">u2").tobytes()))
    cell = matrix(2, (1, 1), element(5, struct.pack(">i", 32)) + element(1, b"Segmentation".ljust(32, b"\0")) + numbers)
    whole = matrix(1, (1, 1), cell, b"groundTruth")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + whole)
    (found,) = read_regions(tmp_path / "a.mat")
    assert found.tolist() == [[1, 3, 2], [1, 3, 2]]
    np.testing.assert_array_equal(found, without_gaps(with_scipy(tmp_path / "a.mat")[0]))


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        read_regions(path)
    message = str(error.value)
    assert message.isprintable()
    return message


def test_labels_that_are_no_numbers(tmp_path):
    path = tmp_path / "a.mat"
    assert "holds NaN or infinite" in refused(path, saved(np.array([[1.0, np.nan]])))
    assert "expected numbers (rows, columns)" in refused(path, saved(np.array([[1j, 2]])))
    assert "expected numbers (rows, columns)" in refused(path, saved(np.zeros((2, 2, 2))))


def test_headers(tmp_path):
    path, good = tmp_path / "a.mat", saved(np.eye(3))
    assert "the header alone 128" in refused(path, good[:100])
    assert "says no byte order" in refused(path, good[:126] + b"XX" + good[128:])
    assert "version 7.3 (HDF5)" in refused(path, good[:124] + b"\x00\x02" + good[126:])
    assert "stands in it twice" in refused(path, good + good[128:])


def test_a_matrix_that_is_longer_than_it_says(tmp_path):
    path, good = tmp_path / "a.mat", saved(np.eye(3), compressed=False)
    start = good.index(b"groundTruth") - 48
    (length,) = struct.unpack_from("<I", good, start + 4)
    inner = good[start : start + 8 + length]
    for change in (inner + bytes(16), inner[:-8]):
        packed = zlib.compress(change)
        assert "cannot be read" in refused(path, HEADER + struct.pack("<II", 15, len(packed)) + packed)


def test_a_length_is_asked_before_it_is_made(tmp_path):
    packed = zlib.compress(
        struct.pack("<II", 14, 2**31 - 8) + saved(np.eye(3), compressed=False)[136:] + bytes(10_000_000)
    )
    tracemalloc.start()
    message = refused(tmp_path / "a.mat", HEADER + struct.pack("<II", 15, len(packed)) + packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "groundTruth" in message or "GiB" in message
    assert peak < 11_000_000


def test_many_labels_are_held_to_the_budget(tmp_path):
    (tmp_path / "a.mat").write_bytes(saved(np.zeros((1000, 1000), np.uint8)))
    assert len(read_regions(tmp_path / "a.mat")) == 1
    with pytest.raises(InputError, match="TOKENRANK_MAX_BYTES"), tr.reading_budget(20_000_000):
        read_regions(tmp_path / "a.mat")


@pytest.mark.parametrize("count", [400, pytest.param(4000, marks=pytest.mark.slow)])
def test_insides_under_a_checksum_that_fits(count, tmp_path):
    """Files whose tags are changed: an error or an array, never a crash."""
    good = saved(np.arange(12).reshape(3, 4), np.ones((5, 2)))
    # the second compressed element is that of groundTruth
    (first,) = struct.unpack_from("<I", good, 132)
    place = 136 + first
    (length,) = struct.unpack_from("<I", good, place + 4)
    inside = zlib.decompress(good[place + 8 : place + 8 + length])
    chance, read, path = random.Random(0), 0, tmp_path / "a.mat"
    for _ in range(count):
        changed = bytearray(inside)
        for _ in range(chance.randint(1, 3)):
            value = chance.choice((*range(16), 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, chance.randrange(2**32)))
            struct.pack_into("<I", changed, 4 * chance.randrange(len(changed) // 4), value)
        packed = zlib.compress(bytes(changed))
        path.write_bytes(HEADER + struct.pack("<II", 15, len(packed)) + packed)
        try:
            regions = read_regions(path)
        except InputError:
            continue
        read += 1
        assert all(labels.ndim == 2 and labels.min() == 1 for labels in regions)
    assert 0 < read < count


DATA = os.environ.get("TOKENRANK_DATA")


@pytest.mark.skipif(not DATA, reason="TOKENRANK_DATA is not set")
def test_the_benchmark_s_own_files():
    paths = sorted(Path(str(DATA), "bsds500", "groundTruth").rglob("*.mat"))
    assert len(paths) == 100
    for path in paths[::10]:
        for found, stored in zip(read_regions(path), with_scipy(path), strict=True):
            np.testing.assert_array_equal(found, without_gaps(stored))

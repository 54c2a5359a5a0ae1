"""What the parsers of the process apart refuse, or keep small, each through the reader that asks them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.models import read_image, read_sound
from tokenrank.untrusted import apart

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
soundfile = pytest.importorskip("soundfile")

MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def none_left() -> Any:
    yield
    apart._end()


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert str(error.value).isprintable()
    return str(error.value)


# ------------------------------------------------------------------------------------------- HDF5


def matlab73(path: Path, picture: Any) -> Path:
    """One entry, whose picture ``picture(file, refs)`` makes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        mask = refs.create_dataset("mask", data=np.zeros((4, 3), np.uint8))
        cell = refs.create_dataset("cell", data=np.array([[mask.ref]], dtype=h5py.ref_dtype))
        word = refs.create_dataset("word", data=np.array([[110], [48]], np.uint16))
        for name, node in (("img", picture(file, refs)), ("gt", cell), ("id", word)):
            file[f"value/{name}"] = np.array([[node.ref]], dtype=h5py.ref_dtype)
    return path


def read_first(path: Path) -> Any:
    dataset = open_dataset("imagenet-segmentation", path)
    return dataset.read(dataset.keys[0])


def test_an_entry_is_read(tmp_path):
    path = matlab73(tmp_path / "a.mat", lambda _, refs: refs.create_dataset("a", data=np.full((3, 4, 3), 7, np.uint8)))
    sample = read_first(path)
    assert (sample.image.size, sample.word, sample.mask.shape) == ((4, 3), "n0", (3, 4))


def test_chunks_that_are_declared_and_not_stored(tmp_path):
    path = matlab73(tmp_path / "a.mat", lambda _, refs: refs.create_dataset("a", (3, 4, 3), np.uint8, chunks=(1, 2, 3)))
    assert "in 6 chunks, of which 0 are stored" in refused(read_first, path)


def test_an_array_that_is_declared_and_not_stored(tmp_path):
    path = matlab73(tmp_path / "a.mat", lambda _, refs: refs.create_dataset("a", (3, 4, 3), np.uint8))
    assert "declares 36 bytes, of which 0 are stored" in refused(read_first, path)


def test_a_picture_of_gigabytes_is_refused_with_the_numbers(tmp_path):
    path = matlab73(
        tmp_path / "a.mat",
        lambda _, refs: refs.create_dataset("a", (3, 40_000, 40_000), np.uint8, chunks=(1, 100, 100)),
    )
    message = refused(read_first, path)
    assert message.startswith(f"entry 0 of {str(path)!r} would take 13.4 GiB once read")
    assert "TOKENRANK_MAX_BYTES=" in message


def test_nothing_is_read_from_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(36))
    path = matlab73(
        tmp_path / "a.mat", lambda _, refs: refs.create_dataset("a", (3, 4, 3), np.uint8, external=[(secret, 0, 36)])
    )
    assert "lies in other files" in refused(read_first, path)

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.zeros((3, 4, 3), np.uint8)

    def virtual(_: Any, refs: Any) -> Any:
        layout = h5py.VirtualLayout((3, 4, 3), np.uint8)
        layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "a", (3, 4, 3))
        return refs.create_virtual_dataset("a", layout)

    assert "lies in other files" in refused(read_first, matlab73(tmp_path / "b.mat", virtual))
    with h5py.File(tmp_path / "c.mat", "w") as file:
        file["value"] = h5py.ExternalLink(path, "/value")
    assert "is a link to elsewhere" in refused(read_first, tmp_path / "c.mat")


def test_more_entries_than_a_file_can_hold(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        for name in ("img", "gt", "id"):
            file.create_dataset(f"value/{name}", (10**9, 1), h5py.ref_dtype, chunks=(1000, 1))
    assert "declares 1,000,000,000 entries, more than" in refused(open_dataset, "imagenet-segmentation", path)


# ---------------------------------------------------------------------------------------- Parquet


def test_a_value_that_stands_in_every_row_is_held_once(tmp_path):
    stored = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(stored, "PNG")
    image = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(500, np.int32)), pyarrow.array([stored.getvalue()], pyarrow.binary())
    )
    table = pyarrow.table({"image": image, "label": [0] * 500})
    parquet.write_table(table, tmp_path / "val.parquet", store_schema=False)
    with tr.reading_budget(8 * MIB):  # the rows together are 240 MB
        assert open_dataset("parquet", tmp_path).read("val-0000499").image.size == (400, 400)


def test_a_group_of_rows_is_held_to_the_budget(tmp_path):
    table = pyarrow.table({"image": [bytes([n]) * MIB for n in range(8)], "label": [0] * 8})
    parquet.write_table(table, tmp_path / "val.parquet", compression="zstd")
    dataset = open_dataset("parquet", tmp_path)
    with tr.reading_budget(4 * MIB):
        message = refused(dataset.read, "val-0000001")
    assert "(8 rows in one group; smaller groups take less), expected 4.0 MiB at most" in message
    assert "is not a picture" in refused(dataset.read, "val-0000001")


# ----------------------------------------------------------------------------------------- sounds


def test_samples_that_are_declared_and_not_there(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(16_000, np.float32), 16_000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[22:26] = struct.pack(">I", 32_000)
    (tmp_path / "a.flac").write_bytes(data)
    assert "cannot be read as a sound" in refused(read_sound, tmp_path / "a.flac")


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_a_sound_that_is_cut_off(form, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    path.write_bytes(path.read_bytes()[:-9_000])
    assert "declares 32,0" in refused(read_sound, path)


def test_a_sound_that_was_written_to_a_pipe_is_read(tmp_path):
    """Its writer could not know how long it would be."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(data)
    assert read_sound(tmp_path / "a.wav").seconds == 1


def test_hours_of_many_channels_are_asked_first(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((200_000, 8), np.float32), 48_000)
    with tr.reading_budget(MIB // 2):
        assert "TOKENRANK_MAX_BYTES=" in refused(read_sound, tmp_path / "a.wav")


# --------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x01\xda", b"<svg ", b"%PDF-1.7\n", b"8BPS\0\x01"])
def test_formats_that_are_not_named_are_not_opened(start, tmp_path):
    (tmp_path / "a.png").write_bytes(start + bytes(600))
    message = refused(read_image, tmp_path / "a.png")
    assert "is not a picture that Pillow can read" in message or "broken or truncated" in message


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_of_the_process_apart_is_the_same(mode, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    made: PIL.Image.Image
    if mode == "I;16":
        made = PIL.Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        made = PIL.Image.fromarray(values[..., 0].astype(np.float32) / 255)
    else:
        made = PIL.Image.fromarray(values, "RGBA").convert(mode)
    made.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif")), np.asarray(read_image(made)))


def test_libtiff_says_nothing_beside_the_error(tmp_path, capfd):
    stored = io.BytesIO()
    PIL.Image.new("RGB", (64, 64)).save(stored, "TIFF", compression="tiff_lzw")
    data = bytearray(stored.getvalue())
    data[8:40] = b"\xff" * 32
    (tmp_path / "a.tif").write_bytes(data)
    refused(read_image, tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_a_png_whose_checksum_is_wrong_is_broken(tmp_path):
    stored = io.BytesIO()
    PIL.Image.new("L", (20, 20), 255).save(stored, "PNG")
    data = bytearray(stored.getvalue())
    data[data.index(b"IDAT") + 9] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    assert "is broken or truncated" in refused(read_image, tmp_path / "a.png")

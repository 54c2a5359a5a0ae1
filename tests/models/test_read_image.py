"""Pictures of every kind, made here as real files: each is read as documented or refused in one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tokenrank.errors import InputError, printable
from tokenrank.models import read_image
from tokenrank.models.images import upright_size


def gradient(height: int = 6, width: int = 10) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def refused(source: Any) -> str:
    """The message, checked to be one printable line."""
    with pytest.raises(InputError) as error:
        read_image(source)
    message = str(error.value)
    assert message.isprintable()
    message.encode("utf-8")
    assert len(message) < 900
    return message


# ------------------------------------------------------------------------------------- good files


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_paths(kind: Any, tmp_path: Path) -> None:
    PIL.Image.fromarray(gradient()).save(tmp_path / "a.png")
    image = read_image(kind(tmp_path / "a.png"))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int, tmp_path: Path) -> None:
    """Store the pixels as a camera of that orientation would; reading turns them upright again."""
    upright = PIL.Image.fromarray(gradient())
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), gradient())
    np.testing.assert_array_equal(np.asarray(read_image(PIL.Image.open(tmp_path / "a.png"))), gradient())


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_counts_as_none(tmp_path: Path) -> None:
    PIL.Image.fromarray(gradient()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*garbage", quality=100)
    assert read_image(tmp_path / "a.jpg").size == (10, 6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_greyscale_is_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 257, 1000, 32_768, 65_535]], dtype=np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    read = np.asarray(read_image(tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(read[..., 0], [[0, 1, 4, 128, 255]])
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


def test_32_bit_greyscale() -> None:
    fits = PIL.Image.fromarray(np.array([[0, 65_535]], dtype=np.int32))
    np.testing.assert_array_equal(np.asarray(read_image(fits))[..., 1], [[0, 255]])
    assert "-5 to 70000; expected 0 to 65535" in refused(PIL.Image.fromarray(np.array([[-5, 70_000]], np.int32)))


@pytest.mark.parametrize(
    ("brightest", "words"), [(200, "as 8-bit numbers: by 257"), (4095, "as 12-bit numbers: by 16")]
)
def test_numbers_of_few_bits_in_a_wide_type_are_not_read_as_nearly_black(
    brightest: int, words: str, tmp_path: Path
) -> None:
    values = np.array([[0, brightest]])
    for suffix, kind in (("tif", np.int32), ("png", np.uint16)):
        PIL.Image.fromarray(values.astype(kind)).save(tmp_path / f"a.{suffix}")
        assert f"up to {brightest} only, where white is 65535" in refused(tmp_path / f"a.{suffix}")
        assert words in refused(tmp_path / f"a.{suffix}")
    assert words in refused(values.astype(np.uint16))
    black = read_image(np.zeros((2, 2), dtype=np.uint16))
    assert black.getextrema() == ((0, 0),) * 3
    assert read_image(np.array([[0, 4096]], dtype=np.uint16)).getextrema()[0] == (0, 16)


def test_sizes_are_read_from_headers(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(gradient())
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / "a.jpg", exif=exif)
        assert upright_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").size
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[:-20])  # broken further on, of which the header knows nothing
    assert upright_size(tmp_path / "half.jpg") == (6, 10)
    (tmp_path / "words.jpg").write_text("hello")
    with pytest.raises(InputError, match="is not a picture"):
        upright_size(tmp_path / "words.jpg")


def test_float_greyscale(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif"))[..., 0], [[0, 128, 255]])
    assert "0 to 200; expected 0 to 1" in refused(PIL.Image.fromarray(np.array([[0, 200]], np.float32)))


def test_palette(tmp_path: Path) -> None:
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), [[[10, 20, 30], [200, 100, 50]]])


def test_transparent_palette_is_white(tmp_path: Path) -> None:
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), [[[255] * 3, [200, 100, 50]]])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1"])
def test_other_colour_modes(mode: str, tmp_path: Path) -> None:
    red = PIL.Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    suffix = "png" if mode in ("L", "1") else "jpg"
    red.save(tmp_path / f"a.{suffix}", quality=100)
    pixel = np.asarray(read_image(tmp_path / f"a.{suffix}"))[4, 4].astype(int)
    expected = {"L": [76, 76, 76], "1": np.asarray(red.convert("RGB"))[4, 4]}.get(mode, [254, 0, 0])
    np.testing.assert_allclose(pixel, expected, atol=3)


def test_alpha_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    PIL.Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = [[[255, 255, 255], [10, 20, 30], [204, 204, 204]]]
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), expected)
    np.testing.assert_array_equal(np.asarray(read_image(rgba)), expected)
    grey = PIL.Image.fromarray(np.array([[[0, 51]]], np.uint8), "LA")
    np.testing.assert_array_equal(np.asarray(read_image(grey)), [[[204] * 3]])


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_transparent_colour(mode: str, tmp_path: Path) -> None:
    PIL.Image.new(mode, (1, 1)).save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), [[[255] * 3]])


def test_the_first_frame_of_several(tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.gif"))[0, 0], [255, 0, 0])


@pytest.mark.parametrize("size", [(1, 1), (20_000, 20), (20, 20_000)])
def test_extreme_sizes_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    PIL.Image.new("RGB", size, "green").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == size


def test_the_source_is_left_alone() -> None:
    image = PIL.Image.fromarray(gradient())
    read = read_image(image)
    read.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), gradient())


# -------------------------------------------------------------------------------------- bad files


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"x")
    message = refused(tmp_path / "holliday.png")
    assert "no file" in message
    assert "'holiday.png'" in message
    assert "no folder" in refused(tmp_path / "nowhere" / "a.png")
    (tmp_path / "bare").mkdir()
    assert "its folder is empty" in refused(tmp_path / "bare" / "a.png")


def test_directory(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert "is empty (0 bytes)" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6])
def test_truncated(suffix: str, part: float, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(gradient(64, 64)).save(buffer, format={"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * part)])
    assert "a." in refused(path)


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    assert "is not a picture that Pillow can read (PNG, JPEG," in refused(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_never_escapes(tmp_path: Path) -> None:
    """Either a picture or an InputError, whatever bytes are flipped."""
    rng, answers = np.random.default_rng(1), []
    for suffix in ("png", "jpeg", "gif", "tiff", "webp"):
        buffer = io.BytesIO()
        PIL.Image.fromarray(gradient(16, 16)).save(buffer, format=suffix)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for at in rng.integers(0, len(data), 6):
                data[at] = rng.integers(0, 256)
            path = tmp_path / f"a.{suffix}"
            path.write_bytes(data)
            try:
                answers.append(read_image(path).mode)
            except InputError as error:
                answers.append(str(error))
    assert all(a.isprintable() for a in answers)
    assert 20 < answers.count("RGB") < 180  # neither all read nor all refused


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 100_000])
@pytest.mark.filterwarnings("error")
def test_decompression_bombs(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    message = refused(tmp_path / "bomb.png")
    assert "is too large" in message
    assert "MAX_IMAGE_PIXELS" in message


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\x1b[31m\nb.png", "naïve 猫.png".encode()])
def test_odd_file_names(name: bytes, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    path = folder + b"/" + name
    for source in (path, os.fsdecode(path)):
        assert "no file" in refused(source)
    buffer = io.BytesIO()
    PIL.Image.fromarray(gradient()).save(buffer, format="png")
    with open(path, "wb") as file:
        file.write(buffer.getvalue())
    for source in (path, os.fsdecode(path)):
        np.testing.assert_array_equal(np.asarray(read_image(source)), gradient())
    with open(path, "wb") as file:
        file.write(b"not a picture")
    assert "is not a picture" in refused(path)
    # and as the neighbour of a missing one
    assert "nearest" in refused(folder + b"/x" + name)


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, ""])
def test_impossible_file_names(name: str) -> None:
    assert refused(name)


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


def test_printable() -> None:
    assert printable("plain é.png") == "'plain é.png'"
    assert printable(b"caf\xe9") == r"'caf\udce9'"
    assert printable("a\nb\x1b[0m") == r"'a\nb\x1b[0m'"
    assert len(printable("x" * 10_000)) < 220


# ------------------------------------------------------------------------------------- from memory


@pytest.mark.parametrize("form", ["hwc", "chw", "float", "double", "tensor", "batch", "half", "uint16"])
def test_arrays_and_tensors(form: str) -> None:
    pixels = gradient()
    source = {
        "hwc": pixels,
        "chw": pixels.transpose(2, 0, 1),
        "float": pixels.astype(np.float32) / 255,
        "double": pixels / 255,
        "tensor": torch.from_numpy(pixels).permute(2, 0, 1),
        "batch": torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255,
        "half": (torch.from_numpy(pixels).permute(2, 0, 1) / 255).half(),
        "uint16": pixels.astype(np.uint16) * 257,
    }[form]
    np.testing.assert_array_equal(np.asarray(read_image(source)), pixels)


def test_grey_and_boolean_arrays() -> None:
    np.testing.assert_array_equal(np.asarray(read_image(np.array([[True, False]]))), [[[255] * 3, [0] * 3]])
    np.testing.assert_array_equal(np.asarray(read_image(np.array([[[7]]], np.uint8))), [[[7] * 3]])
    requires_grad = torch.full((1, 2, 2), 0.2, requires_grad=True)
    assert np.asarray(read_image(requires_grad)).max() == 51


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3)) + 255, "floats from 255 to 255; expected 0 to 1"),
        (np.zeros((2, 2, 3)) - 0.1, "expected 0 to 1"),
        (np.full((2, 2, 3), np.nan), "12 of 12 numbers that are NaN or infinite"),
        (np.full((2, 2), np.inf), "4 of 4 numbers that are NaN or infinite"),
        (np.zeros((2, 2, 3), np.int64), "type int64"),
        (np.zeros((2, 2, 3), complex), "type complex128"),
        (np.zeros((2, 2, 2)), r"shape (2, 2, 2)"),
        (np.zeros((0, 4, 3)), r"shape (0, 4, 3)"),
        (np.zeros(7), r"shape (7,)"),
        (np.zeros((2, 8, 8, 3)), r"shape (2, 8, 8, 3)"),
    ],
)
def test_bad_arrays(array: Any, words: str) -> None:
    assert words in refused(array)


@pytest.mark.parametrize("source", [None, 3, ["a.png"], io.BytesIO(b"x")])
def test_other_types(source: Any) -> None:
    assert "expected a path, a PIL image, a numpy array or a tensor" in refused(source)

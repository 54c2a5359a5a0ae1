"""Files and bytes → pictures as stored: formats by name, their size held to the budget before a pixel is decoded."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image
from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, UnidentifiedImageError

from ..errors import InputError, first_line, printable
from ..untrusted import check, check_regular, open_regular
from ..untrusted.apart import RefusedError, ask, of_file
from ..untrusted.regular import occupied

HERE = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM")
"""Formats whose decoders are few lines, or the most attacked there are. A JPEG may be one of several pictures (MPO)."""
APART = ("TIFF", "JPEG2000", "AVIF", "TGA", "ICO", "PCX", "SGI")
"""Formats that are decoded in a process apart. No other is: none that runs a program (EPS) or reads other files."""
PIXEL = 16
"""Bytes of memory for each pixel: four copies of four, the most that making it upright and opaque takes."""
_PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin)  # registered by import
with contextlib.suppress(ImportError):  # Pillow can be built without
    from PIL import WebPImagePlugin  # noqa: F401
_ORIENTATION = 0x0112  # of EXIF
_SCANS = 2**31  # pixels times scans of a progressive JPEG: some ten seconds
_SUPPORTED = "PNG, JPEG, WebP, GIF, BMP, TIFF, JPEG 2000 or AVIF"


@dataclass(frozen=True)
class Header:
    """What a picture says of itself.

    Attributes:
        size: width and height in pixels, as stored.
        turn: the number of its EXIF orientation, 1 where there is none.
    """

    size: tuple[int, int]
    turn: int


def decoded(source: Path | bytes, name: str) -> PIL.Image.Image:
    """A picture as stored, in memory; of several frames the first.

    Raises:
        InputError: the file is missing, no regular one, empty, of a format that is not read, broken, or it has more
            pixels than the budget (``tr.reading_budget``) or ``PIL.Image.MAX_IMAGE_PIXELS`` allows.
    """
    with _stream(source, name) as (stream, disk):
        if _is_here(stream, name):
            return _here(stream, name, disk)
    return _apart(source, name, disk)


def header(path: Path) -> Header:
    """What a file's header says; nothing is decoded, and of what is broken further on nothing is known.

    Raises:
        InputError: as ``decoded``.
    """
    name = printable(path)
    with _stream(path, name) as (stream, disk):
        if _is_here(stream, name):
            with _opened(stream, name) as picture:
                _check_pixels(picture.size, name, disk)
                turn = 1
                with contextlib.suppress(Exception):
                    turn = int(picture.getexif().get(_ORIENTATION, 1))
                return Header(picture.size, turn)
    told, _ = _asked(path, name, "header", disk)
    return Header((int(told["size"][0]), int(told["size"][1])), int(told["turn"]))


@contextlib.contextmanager
def _stream(source: Path | bytes, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """An open file, and the bytes of the disk that it takes."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), 0
        return
    with open_regular(source, "a picture") as file:
        yield file, occupied(os.fstat(file.fileno()))


def _is_here(stream: BinaryIO, name: str) -> bool:
    """Whether the first bytes are those of a format of ``HERE``."""
    start = stream.read(16)
    stream.seek(0)
    return (
        start[:4] in (b"\x89PNG", b"GIF8")
        or start[:2] in (b"\xff\xd8", b"BM")
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[:1] == b"P" and start[1:2] in b"1234567fFyP" and len(start) > 2)
    )


@contextlib.contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[PIL.Image.Image]:
    try:
        # the limit on pixels is checked below, in one place, as an error; so no warning beside it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            picture = PIL.Image.open(stream, formats=HERE)
    except UnidentifiedImageError:
        raise _unknown(name) from None
    except PIL.Image.DecompressionBombError as error:
        raise InputError(
            f"{name} is too large: {first_line(error)}; shrink it first, or raise PIL.Image.MAX_IMAGE_PIXELS if you "
            "trust the file"
        ) from None
    except Exception as error:  # decoders raise anything on broken files
        raise InputError(f"{name} cannot be opened: {first_line(error)}; check the file") from error
    with picture:
        yield picture


def _here(stream: BinaryIO, name: str, disk: int) -> PIL.Image.Image:
    with _opened(stream, name) as picture:
        _check_pixels(picture.size, name, disk)
        _check_scans(stream, picture, name)
        try:
            if picture.format == "PNG":  # what is decoded is not compared with the checksums that are stored
                picture.verify()
                stream.seek(0)
                picture = PIL.Image.open(stream, formats=("PNG",))
            picture.load()
        except Exception as error:
            raise InputError(f"{name} is broken or truncated: {first_line(error)}; fetch it again") from error
        return picture


def _apart(source: Path | bytes, name: str, disk: int) -> PIL.Image.Image:
    told, _ = _asked(source, name, "header", disk)
    told, (pixels, palette, exif) = _asked(source, name, "decode", disk)
    try:
        picture = PIL.Image.frombytes(told["mode"], (int(told["size"][0]), int(told["size"][1])), bytes(pixels))
        if palette:
            picture.putpalette(bytes(palette), "RGBA")
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is broken or truncated: {first_line(error)}; fetch it again") from error
    if exif:
        picture.info["exif"] = bytes(exif)
    if told["transparency"] is not None:
        picture.info["transparency"] = told["transparency"]
    return picture


def _asked(source: Path | bytes, name: str, question: str, disk: int) -> tuple[dict[str, Any], list[bytearray]]:
    place = {"data": source} if isinstance(source, bytes) else {"path": of_file(source)}
    if isinstance(source, Path):
        check_regular(source, "a picture")
    try:
        told, blobs = ask("picture", question, name, disk, formats=list(APART), **place)
    except RefusedError as error:
        if "cannot identify" in str(error):
            raise _unknown(name) from None
        raise InputError(f"{name} is broken or truncated: {first_line(error)}; fetch it again") from None
    _check_pixels((int(told["size"][0]), int(told["size"][1])), name, disk)
    return told, blobs


def _unknown(name: str) -> InputError:
    return InputError(f"{name} is not a picture that Pillow can read ({_SUPPORTED}); convert it to PNG or JPEG")


def _check_pixels(size: tuple[int, int], name: str, disk: int) -> None:
    pixels, most = size[0] * size[1], PIL.Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise InputError(
            f"{name} is too large: {size[0]:,} × {size[1]:,} = {pixels:,} pixels, at most {most:,}; shrink it first, "
            "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
        )
    check(PIXEL * pixels, name, f"{size[0]:,} × {size[1]:,} = {pixels:,} pixels", disk)


def _check_scans(stream: BinaryIO, picture: PIL.Image.Image, name: str) -> None:
    """A progressive JPEG goes over its pixels in every scan, and a scan of nothing takes a few bytes only."""
    if picture.format not in ("JPEG", "MPO") or not picture.info.get("progressive"):
        return
    place = stream.tell()
    stream.seek(0)
    scans = stream.read().count(b"\xff\xda")
    stream.seek(place)
    if scans * picture.width * picture.height > _SCANS:
        raise InputError(
            f"{name} has {scans:,} scans of {picture.width:,} × {picture.height:,} pixels, which would take minutes; "
            "save it as a plain JPEG"
        )

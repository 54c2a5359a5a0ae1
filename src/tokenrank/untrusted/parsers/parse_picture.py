"""Pictures of rarer formats, TIFF, JPEG 2000 and AVIF among them: Pillow, in the process apart."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

import PIL.Image

_PLUGINS = {
    "TIFF": "Tiff", "JPEG2000": "Jpeg2K", "AVIF": "Avif", "TGA": "Tga", "ICO": "Ico", "PCX": "Pcx", "SGI": "Sgi",
}  # fmt: skip
for _name in _PLUGINS.values():  # these and no others are registered
    with suppress(ImportError):
        import_module(f"PIL.{_name}ImagePlugin")

warnings.simplefilter("ignore")
PIL.Image.MAX_IMAGE_PIXELS = None  # the limit is the caller's


def header(formats: list[str], limit: int, path: str = "", data: bytes = b"") -> tuple[dict[str, Any], list[Any]]:
    """Format, size and mode of a picture, its turn by EXIF; nothing is decoded."""
    with PIL.Image.open(
        path or io.BytesIO(data), formats=[name for name in formats if name in PIL.Image.OPEN]
    ) as picture:
        turn = 1
        with suppress(Exception):
            turn = int(picture.getexif().get(0x0112, 1))
        return {"size": list(picture.size), "mode": picture.mode, "format": picture.format, "turn": turn}, []


def decode(formats: list[str], limit: int, path: str = "", data: bytes = b"") -> tuple[dict[str, Any], list[bytes]]:
    """A picture as stored: mode, size, and its bytes, palette and EXIF block."""
    with PIL.Image.open(
        path or io.BytesIO(data), formats=[name for name in formats if name in PIL.Image.OPEN]
    ) as picture:
        picture.load()
        palette = picture.getpalette("RGBA") if picture.mode == "P" else None
        exif = picture.info.get("exif", b"") if picture.format != "TIFF" else b""  # a TIFF is upright once it is loaded
        transparent = picture.info.get("transparency")
        told = {
            "size": list(picture.size),
            "mode": picture.mode,
            "format": picture.format,
            "transparency": transparent if isinstance(transparent, int) else None,
        }
        return told, [picture.tobytes(), bytes(palette or b""), exif if isinstance(exif, bytes) else b""]


def _opened(path: str, data: bytes, formats: list[str]) -> PIL.Image.Image:
    return PIL.Image.open(path or io.BytesIO(data), formats=[name for name in formats if name in PIL.Image.OPEN])

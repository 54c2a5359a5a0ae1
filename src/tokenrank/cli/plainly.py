"""Text on terminals that cannot show every character: Greek by name, signs by their likes, the rest as escapes."""

from __future__ import annotations

import codecs
import unicodedata
from typing import Any

_SIGNS = str.maketrans(
    {"×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "≤": "<=", "≥": ">=", "≈": "~", "·": ".", "ℓ": "l"}
)
_ERRORS = "tokenrank.plainly"


def write_plainly(stream: Any) -> None:
    """Make a text stream of another encoding than UTF-8 write what it can, and raise nowhere.

    A stream without an encoding of its own, such as ``io.StringIO``, takes every character and is left alone.
    """
    if _is_narrow(stream) and hasattr(stream, "reconfigure"):
        codecs.register_error(_ERRORS, _replace)
        stream.reconfigure(errors=_ERRORS)


def plainly(text: str, stream: Any) -> str:
    """What of a text the stream can show."""
    if not _is_narrow(stream):
        return text
    codecs.register_error(_ERRORS, _replace)
    return text.encode(stream.encoding, _ERRORS).decode(stream.encoding)


def _is_narrow(stream: Any) -> bool:
    encoding: str = getattr(stream, "encoding", None) or ""
    return encoding != "" and not codecs.lookup(encoding).name.startswith("utf")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    signs = character.translate(_SIGNS)
    if signs.isascii():
        return signs
    name = unicodedata.name(character, "").split()
    if name[:3] == ["GREEK", "SMALL", "LETTER"]:
        return {"LAMDA": "lambda"}.get(name[3], name[3].lower())
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or character.encode("ascii", "backslashreplace").decode()

"""What comes from outside: regular files only, one budget of bytes, and parsers that may crash in a process apart."""

from .apart import ask, installed
from .budget import allowed, check, readable, reading_budget
from .regular import check_regular, open_regular, read_bytes, read_text

__all__ = [
    "allowed",
    "ask",
    "check",
    "check_regular",
    "installed",
    "open_regular",
    "read_bytes",
    "read_text",
    "readable",
    "reading_budget",
]

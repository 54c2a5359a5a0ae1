"""Exceptions of our own that a user's model shall not break on: noted here, so that tests can fail on them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_listening: list[list[str]] = []


def note(error: Exception) -> None:
    """An exception was caught that nobody foresaw."""
    for heard in _listening:
        heard.append("".join(traceback.format_exception(error)))  # words: a traceback would keep the model alive


@contextmanager
def listening() -> Iterator[list[str]]:
    """A block whose faults are collected, in words."""
    heard: list[str] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.remove(heard)

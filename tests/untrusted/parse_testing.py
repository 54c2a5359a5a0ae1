"""A parser that misbehaves, for the process apart; imported there, never here."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any


def well(limit: int, words: str = "", data: bytes = b"") -> tuple[Any, list[bytes]]:
    return {"words": words, "limit": limit, "modules": sorted(sys.modules), "path": sys.path}, [data, b""]


def crash(limit: int) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def abort(limit: int) -> Any:
    os.abort()


def leave(limit: int) -> Any:
    os._exit(0)


def swell(limit: int) -> Any:
    return len([bytearray(1_000_000) for _ in range(1_000_000)]), []


def hang(limit: int) -> Any:
    while True:
        time.sleep(1)


def refuse(limit: int) -> Any:
    raise ValueError("it is not what it says\nand more")


def count(limit: int) -> Any:
    raise MemoryError(2 * limit, "two of everything")


def chatter(limit: int) -> Any:
    os.write(1, b"\xff" * 1000)
    os.write(2, b"TIFFReadDirectory: Warning\n")
    print("words")
    return 1, []


def too_much(limit: int) -> Any:
    return 1, [bytes(limit + 1)]


def process(limit: int) -> Any:
    return os.getpid(), []

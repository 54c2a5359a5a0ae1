"""The process apart: answers questions on standard input, under limits, until it closes.

Started as a script by ``untrusted/apart.py``. A message is its length, JSON, and then bytes. The words of whatever a
parser raises go back: a ``ValueError`` of one here is a file that cannot be used, ``MemoryError(nbytes, how)`` one that
would take too much.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

_OWN = 32 * 2**20  # bytes for the parser's own code and tables


def main() -> None:
    """Serve until the other side closes."""
    source, sink = _channels()
    first = _receive(source)
    if first is None:
        return
    sys.path[:] = [str(Path(__file__).resolve().parent), *first[0]["path"]]
    while (message := _receive(source)) is not None:
        told, blobs = _answer(*message)
        text = json.dumps({**told, "blobs": [len(blob) for blob in blobs]}).encode("ascii")
        sink.write(struct.pack("<I", len(text)) + text)
        for blob in blobs:
            sink.write(blob)
        sink.flush()


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output under other numbers, so that nothing a library prints gets between the messages."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)
    return source, sink


def _receive(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    words = json.loads(source.read(struct.unpack("<I", head)[0]))
    return words, source.read(words.get("data", 0))


def _answer(words: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[Any]]:
    arguments = words["arguments"] | ({"data": data} if data else {})
    try:
        function = getattr(import_module(f"parse_{words['parser']}"), words["question"])
        _set_limits(words["limit"], words["seconds"])
        value, blobs = function(limit=words["limit"], **arguments)
        return {"value": value}, blobs
    except MemoryError as error:
        return {"end": "memory", "needs": _needs(error)}, []
    except RecursionError:
        return {"why": "it is nested too deeply"}, []
    except Exception as error:  # parsers raise anything on broken files
        if _is_memory(error):
            return {"end": "memory", "needs": None}, []
        lines = str(error).strip().splitlines()
        return {"why": (lines[0].strip() if lines else "") or type(error).__name__}, []
    finally:
        _set_limits(None, None)


def _needs(error: MemoryError) -> Any:
    """Bytes and where the number comes from, where the parser has counted them before it tried."""
    match error.args:
        case (int(nbytes), str(how)):
            return [nbytes, how]
    return None


def _is_memory(error: BaseException) -> bool:
    """Whether a library says in its own words that it got no memory."""
    text = str(error).lower()
    return any(words in text for words in ("malloc", "memory allocation", "cannot allocate", "bad_alloc", "realloc"))


def _set_limits(limit: int | None, seconds: float | None) -> None:
    """What this process may take beyond what it has, kept by the system; where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unlimited = resource.RLIM_INFINITY
    most = used = None
    if limit is not None and (held := _held()) is not None:
        most = held + limit + _OWN
    if seconds is not None:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        used = int(spent.ru_utime + spent.ru_stime + seconds) + 1  # of the processor: ends it where nobody is left to
    for what, value in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, used)):
        with suppress(OSError, ValueError):
            hard = resource.getrlimit(what)[1]
            soft = unlimited if value is None else value
            resource.setrlimit(what, (soft if hard == unlimited else min(soft, hard) if soft >= 0 else hard, hard))


def _held() -> int | None:
    """Address space of this process in bytes; None where the system does not say (macOS, which keeps no such limit)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()

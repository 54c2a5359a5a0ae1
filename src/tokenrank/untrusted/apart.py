"""Parsers in a process apart: one that crashes, hangs or swells ends that process, and is an error here.

The process runs ``parsers/serve.py``, knows nothing of tokenrank or torch, starts when it is first asked, and stays
until this one ends. What it answers is checked, since whatever a file does to a parser it may do there: plain JSON and
bytes, no pickles.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, MissingExtraError
from .budget import allowed, check, cure, readable

SECONDS = 60.0
"""That a question may take; a picture, a group of rows or an hour of sound takes less even on a slow disk."""
_SCRIPT = Path(__file__).parent / "parsers" / "serve.py"
_MOST_WORDS = 2**24
_QUIET = {
    "MALLOC_ARENA_MAX": "1",  # threads reserve no address space of their own, which the limit would count
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",  # no filter is loaded that a file names
}


def installed(module: str, extra: str) -> None:
    """Raises MissingExtraError unless ``module`` can be imported in the process apart; it is not imported here."""
    try:
        found = find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise MissingExtraError(
            f"{module} cannot be imported (it is not installed); install it: pip install 'tokenrank[{extra}]'"
        )


def ask(parser: str, question: str, name: str, occupied: int = 0, data: bytes = b"", **arguments: Any) -> Any:
    """An answer of a parser in the process apart.

    Args:
        parser: module of ``parsers/``, without "parse_".
        question: one of its functions.
        name: of the file, as an error shows it.
        occupied: bytes of the disk that the file takes, see ``budget.allowed``.
        data: bytes for the function, where it reads no file.
        arguments: for the function; what JSON holds.

    Returns:
        What the function returned: plain values, and a list of arrays of bytes.

    Raises:
        InputError: the parser refused, crashed, took more than the budget or more than ``SECONDS``.
    """
    limit = allowed(occupied)
    with _lock:
        told, blobs = _process().ask(parser, question, arguments, data, limit)
    if "value" in told:
        return told["value"], blobs
    end = told.get("end")
    if end == "memory":
        if told.get("needs"):
            check(int(told["needs"][0]), name, str(told["needs"][1])[:400], occupied)
        raise InputError(f"{name} would take more than {readable(limit)} once read{cure(4 * limit)}")
    if end == "time":
        raise InputError(
            f"{name} was not read within {SECONDS:g} s, after which reading was ended; copy it to a fast disk, or "
            "fetch it again"
        )
    if end == "crash":
        raise InputError(f"{name} is broken: reading it ended the process that read it; fetch it again")
    raise RefusedError(str(told.get("why", "no reason given"))[:400])


class RefusedError(InputError):
    """The parser's own words."""


class _Process:
    """The running process."""

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise InputError(
                "this program was frozen into one executable, and files of this kind are read by a second Python, "
                "which it lacks; convert them, or use an installed Python"
            )
        command = [sys.executable, "-I", "-S", os.fspath(_SCRIPT)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libtiff and others write there what the error says better
            env={**os.environ, **_QUIET},
            start_new_session=os.name == "posix",  # Ctrl-C is answered here
        )
        self._late = False
        self._send({"path": [place or str(Path.cwd()) for place in sys.path]})

    def ask(
        self, parser: str, question: str, arguments: dict[str, Any], data: bytes, limit: int
    ) -> tuple[dict[str, Any], list[bytearray]]:
        """The answer, or how the process ended."""
        timer = threading.Timer(SECONDS, self._stop)
        timer.daemon = True
        timer.start()
        try:
            self._send(
                {
                    "parser": parser,
                    "question": question,
                    "arguments": arguments,
                    "limit": limit,
                    "seconds": SECONDS,
                    "data": len(data),
                },
                data,
            )
            return self._receive(limit)
        except (EOFError, OSError, ValueError, TypeError, KeyError):
            self.end()
            return {"end": "time" if self._late else "crash"}, []
        except BaseException:  # interrupted: what is half received is of no use
            self.end()
            raise
        finally:
            timer.cancel()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it and wait for its end."""
        with contextlib.suppress(OSError):
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()

    def forget(self) -> None:
        """Leave it to the process that was forked."""
        self._process.returncode = 0

    def _stop(self) -> None:
        self._late = True
        with contextlib.suppress(OSError):
            self._process.kill()

    def _send(self, words: dict[str, Any], data: bytes = b"") -> None:
        text = json.dumps(words).encode("ascii")
        sink: BinaryIO = self._process.stdin  # type: ignore[assignment]
        sink.write(struct.pack("<I", len(text)) + text)
        sink.write(data)
        sink.flush()

    def _receive(self, limit: int) -> tuple[dict[str, Any], list[bytearray]]:
        (length,) = struct.unpack("<I", self._exactly(4))
        if length > _MOST_WORDS:
            raise ValueError(length)
        told = json.loads(self._exactly(length))
        sizes = [int(size) for size in told.pop("blobs", [])]
        if min(sizes, default=0) < 0 or sum(sizes) > limit:
            raise ValueError(sizes)
        return told, [self._exactly(size) for size in sizes]

    def _exactly(self, count: int) -> bytearray:
        source: BinaryIO = self._process.stdout  # type: ignore[assignment]
        content = bytearray(count)
        place, rest = 0, memoryview(content)
        while place < count:
            found = source.readinto(rest[place:])  # type: ignore[attr-defined]
            if not found:
                raise EOFError
            place += found
        return content


_lock = threading.RLock()
_running: _Process | None = None


def _process() -> _Process:
    global _running
    if _running is None or not _running.alive:
        if _running is not None:
            _running.end()
        _running = _Process()
    return _running


def _end() -> None:
    global _running
    if _running is not None:
        _running.end()
        _running = None


def _forked() -> None:
    global _running, _lock
    _lock = threading.RLock()
    if _running is not None:
        _running.forget()
        _running = None


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def of_file(path: Path) -> str:
    """The path as the process apart is told it: absolute, since it works in the folder that it was started in."""
    return str(path.absolute())

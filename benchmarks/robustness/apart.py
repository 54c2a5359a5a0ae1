"""Functions in processes of their own, under limits of memory and time, with what became of each. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SECONDS = 5.0
SPARE = 64 * 2**20  # beside the budget: code that is loaded, tables, what malloc keeps


def peak(process: str | int = "self") -> int:
    """Most memory that a process has held since ``forget_peak``, bytes."""
    return _status("VmHWM", process)


def held(process: str | int = "self") -> int:
    """Memory that a process holds, bytes."""
    return _status("VmRSS", process)


def forget_peak(process: str | int = "self") -> None:
    """Begin anew with ``peak``."""
    with open(f"/proc/{process}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def give_back_free_memory() -> None:
    """What malloc keeps for later would otherwise be taken again unseen."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def started() -> list[int]:
    """Numbers of the processes that this one's main thread has started and that still run."""
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _status(name: str, process: str | int = "self") -> int:
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next((1024 * int(line.split()[1]) for line in file if line.startswith(name)), 0)  # 0 of one that ended


def run(
    call: Callable[[int], Any], numbers: Sequence[int], memory: int, first: Callable[[], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What becomes of ``call(number)`` for each number, in a process that is forked anew where one ends.

    Args:
        call: returns what JSON holds.
        numbers: of the calls.
        memory: bytes that the process may have beyond what it starts with.
        first: called in each new process, without limits.

    Yields:
        number and what became of it: ``value``, ``error`` (its class and words), or ``end`` (number of the signal);
        ``seconds``; ``bytes`` beyond what was held before, of this process or of one that it had started.
    """
    waiting = list(numbers)
    while waiting:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _serve(call, waiting, memory, first, writer)
        os.close(writer)
        with os.fdopen(reader, encoding="ascii") as lines:
            for line in lines:
                yield waiting.pop(0), json.loads(line)
        _, status = os.waitpid(child, 0)
        if waiting and os.WIFSIGNALED(status):
            yield waiting.pop(0), {"end": os.WTERMSIG(status)}
        elif waiting:
            yield waiting.pop(0), {"end": 256 + os.WEXITSTATUS(status)}


def _serve(
    call: Callable[[int], Any],
    numbers: Sequence[int],
    memory: int,
    first: Callable[[], object] | None,
    writer: int,
) -> None:
    try:
        faulthandler.disable()  # what ends the process is counted, not printed
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if first is not None:
            first()
        with open("/proc/self/statm", encoding="ascii") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
        with os.fdopen(writer, "w", encoding="ascii") as answers:
            for number in numbers:
                answers.write(json.dumps(_one(call, number)) + "\n")
                answers.flush()
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _one(call: Callable[[int], Any], number: int) -> dict[str, Any]:
    give_back_free_memory()
    watched = ["self", *started()]
    for process in watched:
        with contextlib.suppress(OSError):
            forget_peak(process)
    before, begin = {process: held(process) for process in watched}, time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        told = {"value": call(number)}
    except MemoryError as error:
        told = {"error": ["MemoryError", str(error)[:200]]}
    except Exception as error:
        told = {"error": [type(error).__name__, str(error)[:300]]}
    except BaseException as error:  # a panic of Rust is none of Exception
        told = {"error": [type(error).__name__, str(error)[:300]]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    taken = [peak(process) - before[process] for process in ("self", *started()) if process in before]
    return told | {"seconds": time.perf_counter() - begin, "bytes": max(taken)}

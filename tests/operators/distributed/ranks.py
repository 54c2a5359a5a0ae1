"""Processes that hold a sequence together: started once for a file of tests, each runs the same function."""

from __future__ import annotations

import datetime
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

# one process imports torch, and the ranks are its forks: seconds for all of them, not for each
SERVER = mp.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "torch", "torch.distributed.tensor", "tokenrank.distributed"])


class Ranks:
    """``size`` processes with one process group; ``run(f, *args)`` calls f(*args) in all of them at the same time."""

    def __init__(self, size: int, folder: Path) -> None:
        self.size = size
        self._pipes: list[Connection] = []
        self.processes = []
        for rank in range(size):
            here, there = SERVER.Pipe()
            process = SERVER.Process(target=_serve, args=(rank, size, str(folder / "store"), there), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self.processes.append(process)
        for pipe in self._pipes:
            assert pipe.recv() == "ready"

    def run(self, function: Callable[..., Any], *args: Any, ranks: Sequence[int] | None = None) -> list[Any]:
        """What ``function`` returns on each of the ranks; the first error, if there is one."""
        found = self.outcomes(function, *args, ranks=ranks)
        for rank, outcome in zip(range(self.size) if ranks is None else ranks, found, strict=True):
            if isinstance(outcome, Failed):
                raise AssertionError(f"rank {rank}: {outcome.trace}")
        return found

    def outcomes(self, function: Callable[..., Any], *args: Any, ranks: Sequence[int] | None = None) -> list[Any]:
        """The same with errors as ``Failed``; None for a process that has gone."""
        chosen = list(range(self.size)) if ranks is None else list(ranks)
        for rank in chosen:
            self._pipes[rank].send((function, args))
        return [self._answer(rank) for rank in chosen]

    def _answer(self, rank: int) -> Any:
        try:
            assert self._pipes[rank].poll(60), f"rank {rank} says nothing"
            return self._pipes[rank].recv()
        except EOFError:
            return None

    def stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            process.join(5)
            if process.is_alive():
                process.kill()


class Failed:
    """An error of a rank, in words."""

    def __init__(self, error: BaseException) -> None:
        self.kind, self.message = type(error).__name__, str(error)
        self.trace = "".join(traceback.format_exception(error))


@contextmanager
def started(size: int) -> Iterator[Ranks]:
    with tempfile.TemporaryDirectory() as folder:
        ranks = Ranks(size, Path(folder))
        try:
            yield ranks
        finally:
            ranks.stop()


def _serve(rank: int, size: int, store: str, pipe: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    import torch.distributed as dist

    # the group of all of them waits for nobody: rings have their own timeouts
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timeout)
    pipe.send("ready")
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            os._exit(0)  # the group's threads may still wait for others
        try:
            pipe.send(function(*args))
        except BaseException as error:
            pipe.send(Failed(error))

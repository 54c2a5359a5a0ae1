"""Block of code that a mode watches: blocks may end in any order, and each undoes what it did and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import torch
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode, _get_current_function_mode_stack

from ..errors import CaptureError
from .quiet import put_right, unnoticed_depth

_open: ContextVar[frozenset[int]] = ContextVar("open blocks", default=frozenset())
_unheard: ContextVar[int] = ContextVar("blocks that pause are those before this number", default=0)
_numbers = itertools.count()


class BlockMode(TorchFunctionMode):
    """A mode that is put on the stack and taken off by a ``Block``, and looks only at what that sees."""

    block: Block[Any] | None = None


M = TypeVar("M", bound=BlockMode)


class Block(Generic[M]):
    """A mode on this thread's stack, and ``torch.compile`` set aside for the process, from ``begin`` to ``end``.

    Generators, threads, asyncio tasks and plain context objects end in other orders than they begin: the mode is taken
    out of the stack wherever it lies there, and the compiler comes back when the last block of the process ends. A
    block that began in an asyncio task does not see other tasks, save those that it started itself.

    Args:
        mode: what watches; belongs to this block from now on.
        pauses: whether it looks away while the code of ``paused`` runs.
    """

    def __init__(self, mode: M, pauses: bool = False) -> None:
        self.mode, self.pauses = mode, pauses
        self.number = next(_numbers)
        self._at_work, self._told, self._depth = False, False, 0
        self.thread = 0
        self._task: weakref.ref[asyncio.Task[Any]] | None = None

    def begin(self) -> None:
        """Start to watch; an interrupted start is undone by ``end``."""
        task = _current_task()
        self._depth = unnoticed_depth()
        self.thread, self._task = threading.get_ident(), None if task is None else weakref.ref(task)
        self._at_work = True
        _open.set(_open.get() | {self.number})
        UNCOMPILED.hold(self)
        self.mode.block = self
        _settle([*_without_ended(), self.mode])

    def end(self) -> None:
        """Undo all that ``begin`` did, whatever happened since; a second time is free.

        Raises:
            CaptureError: this is another thread than that of ``begin``, which alone can take the mode off its stack. It
                looks at nothing from now on, and goes when the next block begins or ends there.
        """
        if not self._at_work and self.mode.block is None:
            return
        self._at_work = False
        _open.set(_open.get() - {self.number})
        UNCOMPILED.release(self)
        elsewhere = self.mode.block is not None and threading.get_ident() != self.thread
        if not elsewhere:
            put_right(self._depth)
            _settle(_without_ended())
            self.mode.block = None
        elif not self._told:
            self._told = True
            raise CaptureError(
                f"this block ends in thread {threading.current_thread().name!r}, expected the thread that it began in: "
                "only there can its mode be taken off; leave the with block where you entered it, and hand the trace on"
            )

    def sees(self) -> bool:
        """Whether the code that runs is inside of the block."""
        if not self._at_work or threading.get_ident() != self.thread or self.is_paused:
            return False
        if self._task is None or self.number in _open.get():
            return True
        own, task = self._task(), _current_task()
        # what a task that is over has begun, such as the cell of a notebook, is everybody's
        return own is None or own.done() or task is own

    @property
    def is_paused(self) -> bool:
        """Whether what runs is not to be recorded, see ``paused``."""
        return self.pauses and self.number < _unheard.get()

    @property
    def ended(self) -> bool:
        """Whether nothing is watched any more."""
        return not self._at_work


@contextmanager
def paused() -> Iterator[None]:
    """A block that no recorder sees which began before it; acts go on, and so does what begins inside of it.

    For passes of a model that are means to an end, such as those of guidance: who records the model did not ask for
    them.
    """
    token = _unheard.set(next(_numbers))
    try:
        yield
    finally:
        _unheard.reset(token)


@contextmanager
def uncompiled() -> Iterator[None]:
    """A block in which ``torch.compile`` is set aside for the process, and nothing is watched."""
    holder = Block(BlockMode())
    try:
        UNCOMPILED.hold(holder)
        yield
    finally:
        UNCOMPILED.release(holder)


class _Uncompiled:
    """``torch.compile`` set aside for the process, for as long as anybody asks for it."""

    def __init__(self) -> None:
        self._holders: set[int] = set()
        self._stance: Any = None
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        # reentrant: a generator that is collected meanwhile ends its block in this very thread
        self._lock = threading.RLock()

    def hold(self, block: Block[Any]) -> None:
        with self._lock:
            self._holders.add(block.number)
            if self._stance is None:
                self._stance = torch.compiler.set_stance("force_eager")

    def release(self, block: Block[Any]) -> None:
        with self._lock:
            self._holders.discard(block.number)
            if not self._holders and self._stance is not None:
                self._stance.__exit__(None, None, None)
                self._stance = None


UNCOMPILED = _Uncompiled()


def _without_ended() -> list[TorchFunctionMode]:
    """This thread's modes, outermost first, less those whose block is over."""
    return [m for m in _get_current_function_mode_stack() if not _is_over(m)]


def _is_over(mode: TorchFunctionMode) -> bool:
    return isinstance(mode, BlockMode) and mode.block is not None and mode.block.ended


def _settle(wanted: list[TorchFunctionMode]) -> None:
    try:
        _arrange(wanted)
    finally:
        _arrange(wanted)  # once more: the first may have been interrupted


def _arrange(wanted: list[TorchFunctionMode]) -> None:
    """Make this thread's stack of modes be ``wanted``; what both have in common from the bottom is not touched."""
    stack = _get_current_function_mode_stack()
    common = 0
    while common < min(len(stack), len(wanted)) and stack[common] is wanted[common]:
        common += 1
    for _ in stack[common:]:
        _ANY.__exit__(None, None, None)  # takes the topmost off, whichever it is
    for mode in wanted[common:]:
        TorchFunctionMode.__enter__(mode)


_ANY = BaseTorchFunctionMode()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None

"""Recorder of attention: watches one model for as long as a ``with`` block lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import InputError
from .block import Block
from .budget import Budget
from .diagnosis import Sighting, explain_empty, explain_fault, explain_unmatched
from .evidence import CONVOLUTIONS, TIMESTEPS, Evidence, Guidance, bound_inputs, small
from .journal import Journal, WantedCall
from .keep import HeadSelection, Keeper
from .lineage import Follower, Tags
from .mode import AttentionMode, ModuleNames, Observer
from .observers import Observers, OpaqueKernels, is_opaque
from .origins import NOT_FOLLOWED, Origins
from .quiet import put_right, unnoticed_depth
from .record import BRANCHES, AttentionRecord, Branch, Forward
from .selection import LayerSelection, Selection, StepSelection


class Recorder:
    """Records every softmax attention of a running model without touching the model.

    A context manager, for one use; or ``begin`` and ``end``. While it is active, a torch function mode sees PyTorch's
    functions in this thread and asyncio task (``Block``), ``torch.compile`` is set aside for the whole process, and a
    hook on the root counts forward calls. Everything is undone on any way out of the block, in any order of blocks.

    Args:
        root: the module whose attention is wanted.
        layers: see ``Selection``.
        heads: heads to keep, by number, several, or a slice; None for all.
        steps: forward calls to keep; None for all.
        device: where copies are stored; where they were by default.
        dtype: floating type of stored q, k and weights; as they were by default.
        branch: of classifier-free guidance, to keep alone; None for all.
        max_bytes: most bytes to keep; None for what the machine has.
        on_record: takes each record instead of ``records``, before anything is copied.
        follow: whether to follow patches of pictures, which proves where each token is.

    Attributes:
        records: what was kept so far, in order.
        evidence: step → what that forward showed of its tokens.
        opaque: name → calls of kernels that hide their attention.

    Raises:
        InputError: a filter or dtype that cannot be used.
    """

    def __init__(
        self,
        root: nn.Module,
        layers: LayerSelection = None,
        heads: HeadSelection = None,
        steps: StepSelection = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        branch: Branch | None = None,
        max_bytes: int | None = None,
        on_record: Callable[[AttentionRecord], None] | None = None,
        follow: bool = True,
    ) -> None:
        if branch not in (None, *BRANCHES):
            raise InputError(f"branch = {branch!r}, expected 'conditional', 'unconditional' or None for all")
        self._root = _unwrapped(root)
        self._selection = Selection(layers, steps)
        self._keeper = Keeper(heads, None if device is None else torch.device(device), dtype, Budget(max_bytes))
        self._guidance = Guidance()
        self._tags = Tags()
        self._opaque = OpaqueKernels()
        self._follower = Follower(self._tags)
        self._calls = 0
        self._fault: Exception | None = None
        self._handles: list[RemovableHandle] = []
        self._other_thread = self._other_task = self._saw_functions = False
        self._inside, self._before = False, Evidence()
        self.evidence: dict[int, Evidence] = {}
        self._origins = Origins() if follow else None
        names = ModuleNames(self._root)
        self._journal = Journal(
            names, self._selection, self._keeper, branch, on_record, partial(_traced, self._origins, self.evidence)
        )
        self.records: list[AttentionRecord] = self._journal.records
        self.opaque: dict[str, int] = self._opaque.calls
        self._block: Block[AttentionMode] | None = None
        self._depth = 0

    def begin(self) -> Recorder:
        """Start to watch; an interrupted start is undone by ``end``."""
        self._depth = unnoticed_depth()
        self._block = block = Block(self._watching(), pauses=True)
        before, after = RootHook(self._begin), RootHook(self._end)
        self._handles.append(self._root.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(self._root.register_forward_hook(after, always_call=True))
        block.begin()
        return self

    def end(self) -> None:
        """Stop watching and put everything back; a second time is free.

        Raises:
            CaptureError: in another thread than ``begin``; see ``Block.end``.
        """
        put_right(self._depth)
        try:
            while self._handles:
                self._handles[-1].remove()
                self._handles.pop()
            if self._block is not None:
                self._saw_functions = self._block.mode.saw_functions
                self._block.end()
                self._block = None  # it knows what knows this recorder
        finally:
            self._journal.settle()
            self._tags.clear()
            if self._origins is not None:
                self._origins.clear()
            self._keeper.forget()
            self._guidance.forget()

    def __enter__(self) -> Recorder:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def check(self) -> None:
        """Say what went wrong, after a block that did not raise.

        Raises:
            CaptureError: a fault of the capture itself, a filter entry that met no attention, or
                nothing recorded at all; with the reason and the cure.
        """
        if self._fault is not None:
            raise explain_fault(self._fault) from self._fault
        journal = self._journal
        unmatched = self._selection.unmatched(list(journal.seen), journal.longest) if journal.seen else []
        if unmatched:
            raise explain_unmatched(unmatched, journal.written)
        if not journal.written:
            raise explain_empty(
                Sighting(
                    model=type(self._root).__name__,
                    calls=self._calls,
                    seen=len(journal.seen),
                    outside=journal.outside,
                    other_thread=self._other_thread
                    or any(isinstance(m, nn.DataParallel) for m in self._root.modules()),
                    other_task=self._other_task,
                    cuda_graph=journal.in_cuda_graph > 0,
                    scripted=any(isinstance(m, torch.jit.ScriptModule) for m in self._root.modules()),
                    opaque=dict(self.opaque),
                    functions=self._saw_functions,
                )
            )

    def _watching(self) -> AttentionMode:
        return AttentionMode(
            {**Observers(self._journal).table(self._tags), **dict.fromkeys(CONVOLUTIONS, self._convolved)},
            self._follower.rules(),
            self._tags.entries,
            self._judge,
            self._note,
            origins=self._origins,
        )

    def _judge(self, function: Any) -> tuple[Observer | None, bool]:
        if is_opaque(function):
            return self._opaque.observer(function), False
        return self._follower.judge(function)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        block = self._block
        if block is not None and block.is_paused:
            return
        if block is None or not block.sees():
            if block is not None and threading.get_ident() == block.thread:
                self._other_task = True
            elif block is not None:
                self._other_thread = True
            return
        step, self._calls = self._calls, self._calls + 1
        try:
            forward, inputs = Forward(step), bound_inputs(module, args, kwargs)
            self._journal.begin(forward)
            self._guidance.describe(forward, inputs)
            self.evidence.pop(step, None)
            before, self._before = self._before, Evidence()  # generate() runs the vision tower ahead of the forward
            self._inside = True
            if self._selection.step(step):
                kept = small({n: v for n, v in inputs.items() if n not in TIMESTEPS})
                self.evidence[step] = Evidence(kept, before.conv_grids, before.conv_batches, {})
        except Exception as fault:
            self._note(fault)

    def _end(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._block is None or not self._block.sees():
            return
        self._inside = False
        if self._origins is not None:
            self._origins.let_go()  # a denoiser is given what it returned, as a picture that is cut anew

    def _convolved(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if (
            out.ndim in (4, 5)
            and self._journal.names.running() is not None
            and (not self._inside or self._selection.step(self._journal.forward.step))
        ):
            step = self._journal.forward.step
            evidence = self.evidence.setdefault(step, Evidence(trails={})) if self._inside else self._before
            evidence.conv_grids.append(tuple(map(int, out.shape[2:])))
            evidence.conv_batches.append(int(out.shape[0]))

    def _note(self, fault: Exception) -> None:
        self._fault = self._fault or fault


class RootHook:
    """A hook that is no part of the module: copies of the module, in memory or in files, get none that watches."""

    def __init__(self, run: Callable[..., None]) -> None:
        self._run = run

    def __call__(self, *args: Any) -> None:
        """Tell the recorder."""
        self._run(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> LeftHook:
        return LeftHook()

    def __reduce__(self) -> tuple[type[LeftHook], tuple[()]]:
        return LeftHook, ()


class LeftHook:
    """What a copy has in place of a ``RootHook``: it takes itself off when the copy first runs."""

    def __call__(self, module: nn.Module, *args: Any) -> None:
        """Go."""
        for hooks, marks in (
            (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
            (module._forward_hooks, module._forward_hooks_always_called),
        ):
            for key in [key for key, hook in hooks.items() if hook is self]:
                del hooks[key]
                marks.pop(key, None)


def _unwrapped(root: nn.Module) -> nn.Module:
    # the module that torch.compile wraps; it runs whichever of the two is called
    inner = getattr(root, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else root


def _traced(origins: Origins | None, found: dict[int, Evidence], call: WantedCall) -> None:
    """Where the tokens of a call come from; no method, so that a recorder is let go without the collector."""
    trail = NOT_FOLLOWED if origins is None else origins.latest()
    if trail is not None:
        evidence = found.setdefault(call.forward.step, Evidence(trails={}))
        if evidence.trails is not None:
            evidence.trails[call.place] = trail

"""Journal of attention calls: where each was made, whether it is kept, and what is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from .keep import Keeper
from .mode import ModuleNames
from .record import AttentionKind, AttentionRecord, Branch, Forward, branch_of
from .selection import Selection


@dataclass(frozen=True)
class WantedCall:
    """An attention call that is wanted, before anything of it is copied."""

    name: str
    module: nn.Module
    place: int
    forward: Forward
    certain: bool  # False: wanted only if few enough calls follow


@dataclass
class Journal:
    """Filters attention calls and writes down the ones that are wanted.

    Attributes:
        records: what was kept, in order.
        on_call: told of every call that is wanted, before it is copied.
        on_record: takes each record instead of ``records``; it may look at the record's tensors
            for as long as it runs, and they are no copies.
        seen: names of all attention calls under the root, kept or not, in order of first sight.
        outside: attention calls made by no module under the root.
        in_cuda_graph: calls passed over while a CUDA graph was being recorded.
        written: calls that were kept or handed to ``on_record``.
    """

    names: ModuleNames
    selection: Selection
    keeper: Keeper
    branch: Branch | None = None
    on_record: Callable[[AttentionRecord], None] | None = None
    on_call: Callable[[WantedCall], None] | None = None
    records: list[AttentionRecord] = field(default_factory=list)
    seen: dict[str, None] = field(default_factory=dict)
    outside: int = 0
    in_cuda_graph: int = 0
    written: int = 0
    forward: Forward = field(default_factory=lambda: Forward(0))
    longest: int = 0  # most attention calls in one forward
    _place: int = 0
    _undecided: deque[AttentionRecord] = field(default_factory=deque)
    _full: bool = False

    def open(self, tensor: Tensor) -> WantedCall | None:
        """The running attention call, or None where it is not wanted; ``tensor`` is one that it saw."""
        where = self.names.running()
        if where is None:
            self.outside += 1
            return None
        name, module = where
        place, self._place = self._place, self._place + 1
        self.longest = max(self.longest, self._place)
        self.seen[name] = None
        wanted = self.selection.decide(name, place, self.forward.step)
        if wanted is False or self._full or not self._in_branch():
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise CaptureError(
                f"the attention of {name!r} ran under torch.func (vmap, grad, jvp), where its tensors have no values "
                "of their own; run the model without the transform inside the capture block"
            )
        if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
            self.in_cuda_graph += 1
            return None
        call = WantedCall(name, module, place, self.forward, bool(wanted))
        if self.on_call is not None:
            self.on_call(call)
        return call

    def write_query_key(
        self,
        call: WantedCall,
        kind: AttentionKind,
        q: Tensor,
        k: Tensor,
        scale: float,
        mask: Tensor | None,
        is_causal: bool = False,
        sinks: Tensor | None = None,
    ) -> None:
        """Keep a call's q (…, H, N, d), k (…, H or a divisor, M, d), mask and sinks (H,)."""
        k = _ungrouped_once(call.module, q, k)
        self._write(call, AttentionRecord(
            call.name, type(call.module).__name__, kind, call.place, call.forward,
            q, k, float(scale), mask, is_causal, sinks,
        ))  # fmt: skip

    def write_weights(self, call: WantedCall, kind: AttentionKind, weights: Tensor) -> None:
        """Keep a call's weights (…, H, N, M)."""
        module = type(call.module).__name__
        self._write(call, AttentionRecord(call.name, module, kind, call.place, call.forward, weights=weights))

    def begin(self, forward: Forward) -> None:
        """The root module is called once more."""
        self.settle()
        self.forward = forward

    def settle(self) -> None:
        """A forward is over: places from the end can be told now."""
        kept = [r for r in self._undecided if self.selection.settle(r.index, self._place)]
        self.selection.close(self._place)
        self._undecided.clear()
        self._place = 0
        for record in kept:
            self._hand_on(record)
        if kept:
            self.records.sort(key=lambda r: (r.step, r.index))

    def _in_branch(self) -> bool:
        """Whether this forward has the branch that is wanted."""
        # the first of two calls cannot know yet that it is the conditional one
        branches = self.forward.branches or ("conditional",)
        return self.branch is None or self.branch in branches

    def _write(self, call: WantedCall, seen: AttentionRecord) -> None:
        """Choose and copy what is wanted of ``seen``, whose tensors are the model's own."""
        if self.branch is not None and len(call.forward.branches) > 1:
            seen = branch_of(seen, self.branch)
        try:
            passing = self.on_record is not None and call.certain
            record = self.keeper.chosen(seen) if passing else self.keeper.kept(seen)
        except CaptureError:
            self._full = self.keeper.full
            raise
        if call.certain:
            self._hand_on(record)
            return
        self._undecided.append(record)
        while self._undecided[0].index <= call.place - self.selection.window:
            self._undecided.popleft()

    def _hand_on(self, record: AttentionRecord) -> None:
        self.written += 1
        if self.on_record is None:
            self.records.append(record)
        else:
            self.on_record(record)


def _ungrouped_once(module: nn.Module, q: Tensor, k: Tensor) -> Tensor:
    """k with each key head once, (B, H_k, M, d), where it was repeated for its H / H_k query heads.

    A module that says how many heads share a key head is not believed: the repetitions are compared.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if not isinstance(groups, int) or groups < 2 or k.ndim != 4 or k.shape[-3] != q.shape[-3] or k.shape[-3] % groups:
        return k
    apart = k.unflatten(1, (-1, groups))
    once = apart[:, :, 0]
    if not k.is_meta and not all(torch.equal(once, apart[:, :, i]) for i in range(1, groups)):
        return k
    return once

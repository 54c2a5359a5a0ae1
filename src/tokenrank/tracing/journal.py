"""The running list of attention calls: where each was made, whether it is kept, and what is kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import CaptureError
from .forward import Forward
from .keep import Keeper
from .naming import ModuleNames
from .record import AttentionRecord, Kind
from .selection import Selection


@dataclass(frozen=True)
class Call:
    """An attention call that is wanted, before anything of it is copied."""

    name: str
    module: str
    place: int
    forward: Forward
    certain: bool  # False: wanted only if few enough calls follow


@dataclass
class Journal:
    """Filters attention calls and writes down the ones that are wanted.

    Attributes:
        records: what was kept, in order.
        seen: names of all attention calls under the root, kept or not, in order of first sight.
        outside: attention calls made by no module under the root.
        in_cuda_graph: calls passed over while a CUDA graph was being recorded.
    """

    names: ModuleNames
    selection: Selection
    keeper: Keeper
    records: list[AttentionRecord] = field(default_factory=list)
    seen: dict[str, None] = field(default_factory=dict)
    outside: int = 0
    in_cuda_graph: int = 0
    forward: Forward = field(default_factory=lambda: Forward(0))
    longest: int = 0  # most attention calls in one forward
    _place: int = 0
    _undecided: deque[AttentionRecord] = field(default_factory=deque)

    def open(self, tensor: Tensor) -> Call | None:
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
        if wanted is False:
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise CaptureError(
                f"the attention of {name!r} ran under torch.func (vmap, grad, jvp), where its tensors have no values "
                "of their own; run the model without the transform inside the capture block"
            )
        if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
            self.in_cuda_graph += 1
            return None
        return Call(name, module, place, self.forward, bool(wanted))

    def write_query_key(
        self, call: Call, kind: Kind, q: Tensor, k: Tensor, scale: float, mask: Tensor | None, is_causal: bool = False
    ) -> None:
        """Keep a call's q (…, H, N, d), k (…, H or a divisor, M, d) and mask."""
        heads = q.shape[-3] if q.ndim >= 3 else 1
        kept_q, kept_k = self.keeper.query_key(q, k)
        kept_mask = self.keeper.mask(mask, heads)
        self._write(call, AttentionRecord(
            call.name, call.module, kind, call.place, call.forward, kept_q, kept_k, float(scale), kept_mask, is_causal
        ))  # fmt: skip

    def write_weights(self, call: Call, kind: Kind, weights: Tensor) -> None:
        """Keep a call's weights (…, H, N, M)."""
        kept = self.keeper.weights(weights)
        self._write(call, AttentionRecord(call.name, call.module, kind, call.place, call.forward, weights=kept))

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
        if kept:
            self.records.extend(kept)
            self.records.sort(key=lambda r: (r.step, r.index))

    def _write(self, call: Call, record: AttentionRecord) -> None:
        if call.certain:
            self.records.append(record)
            return
        self._undecided.append(record)
        while self._undecided[0].index <= call.place - self.selection.window:
            self._undecided.popleft()

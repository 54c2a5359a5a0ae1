"""What is known of a tensor, without writing on the tensor."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .logits import Logits


@dataclass(eq=False)
class Weights:
    """The result of a softmax.

    Attributes:
        logits: where it came from; None where that is unknown.
        written: whether a record of it was considered already.
    """

    logits: Logits | None
    written: bool = False


@dataclass(frozen=True, eq=False)
class Handed:
    """A cast, reshaped, sliced or dropped-out softmax, on its way to the values."""

    weights: Weights
    source: Tensor  # the softmax's own result


Tag = Logits | Weights | Handed


class Tags:
    """Tensor → tag, for as long as the tensor lives and is not overwritten."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], int | None, Tag]] = {}

    @property
    def entries(self) -> Mapping[int, object]:
        """What is tagged now, alive; for a quick look whether that is anything."""
        return self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tensor: Tensor, writes: int = 0) -> Tag | None:
        """The tag, or None; a tensor overwritten more than ``writes`` times since has none."""
        entry = self._entries.get(id(tensor))
        if entry is None:
            return None
        reference, version, tag = entry
        if reference() is tensor and (version is None or tensor._version == version + writes):
            return tag
        del self._entries[id(tensor)]
        return None

    def put(self, tensor: Tensor, tag: Tag) -> None:
        """Tag a tensor, instead of what it had."""
        key, entries = id(tensor), self._entries

        def forget(_: object) -> None:
            entries.pop(key, None)

        # inference tensors do not count how often they were written to
        version = None if tensor.is_inference() else tensor._version
        entries[key] = (weakref.ref(tensor, forget), version, tag)

    def drop(self, tensor: Tensor) -> None:
        """Forget a tensor."""
        self._entries.pop(id(tensor), None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

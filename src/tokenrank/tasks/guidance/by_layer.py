"""Acts for some layers of a model; all others are left alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...recording import Act, Caller, FusedCall

_NONE = Act()


class ByLayer(Act):
    """Each layer its own act.

    Args:
        acts: name of the layer → what is done to its attention.
    """

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self._acts = acts

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall | None:
        """As the layer's own act."""
        return self._of(caller).fused(caller, call)

    def logits(self, caller: Caller, logits: Tensor) -> Tensor:
        """As the layer's own act."""
        return self._of(caller).logits(caller, logits)

    def weights(self, caller: Caller, weights: Tensor) -> Tensor:
        """As the layer's own act."""
        return self._of(caller).weights(caller, weights)

    def used(self, caller: Caller, weights: Tensor) -> None:
        """As the layer's own act."""
        self._of(caller).used(caller, weights)

    def met(self, caller: Caller, values: Tensor) -> None:
        """As the layer's own act."""
        self._of(caller).met(caller, values)

    def _of(self, caller: Caller) -> Act:
        return self._acts.get(caller.name, _NONE)

"""Masked keys: −∞ logits in every attention, so that nobody attends to a token any more."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import CaptureError
from ...recording import Act, Caller, FusedCall


class MaskedKeys(Act):
    """Attention over N keys gives some of them no weight.

    Fused calls get the mask beside their own; softmax by hand gets logits of −∞. Rectangular attention over the
    same keys (attention pooling) is masked likewise.

    Args:
        masked: bool (B, N), True for keys that are masked.

    Attributes:
        calls: square attention calls that were masked so far.
    """

    def __init__(self, masked: Tensor) -> None:
        self._masked, self.calls = masked, 0

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        """With the mask beside its own."""
        masked = self._for(call.shape)
        return call if masked is None else call.hiding(masked)

    def logits(self, caller: Caller, logits: Tensor) -> Tensor:
        """−∞ for masked keys."""
        masked = self._for(logits.shape)
        return logits if masked is None else logits.masked_fill(masked, -torch.inf)

    def _for(self, shape: torch.Size) -> Tensor | None:
        """The mask as it fits logits of a shape: (B, 1, 1, N) or (B · heads, 1, N); None for other keys."""
        (batch, n), queries = self._masked.shape, shape[:-1]
        if shape[-1] != n or len(queries) < 2:
            return None
        if len(queries) == 3 and queries[0] == batch:
            fitting = self._masked[:, None, None]
        elif len(queries) == 2 and queries[0] % batch == 0:
            fitting = self._masked.repeat_interleave(queries[0] // batch, 0)[:, None]
        else:
            raise CaptureError(
                f"attention over {n} keys has queries of shape {tuple(queries)} for {batch} pictures, expected "
                "(B, heads, N): keys cannot be masked in windows or joined batches; use how='remove' or 'pixels'"
            )
        self.calls += queries[-1] == n
        return fitting


def check_calls(calls: int, layers: int, name: str) -> None:
    """Whether every layer was masked.

    Raises:
        CaptureError: fewer or more attentions were met than there are layers.
    """
    if calls != layers:
        raise CaptureError(
            f"{calls} attentions of model {name!r} were masked, but {layers} layers see its picture: some compute "
            "attention in a way that cannot be masked; load the model with attention='eager', or use how='pixels'"
        )

"""Masked keys: −∞ logits in every attention, so that nobody attends to a token any more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...errors import CaptureError
from ...recording.mode import MULTI_HEAD, run_visibly

_FUSED = {
    functional.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention.default,
}
_SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}
_FUSED_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


class MaskedKeys(TorchFunctionMode):
    """While active, attention over ``num_tokens`` keys gives some of them no weight.

    Fused calls get the mask beside their own; softmax by hand gets logits of −∞. Rectangular attention over the
    same keys (attention pooling) is masked likewise.

    Args:
        masked: bool (B, N), True for keys that are masked.

    Attributes:
        calls: square attention calls that were masked so far.
    """

    def __init__(self, masked: Tensor) -> None:
        super().__init__()
        self._masked, self.calls = masked, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, with fewer keys where it is an attention."""
        kwargs = kwargs or {}
        if func in _FUSED:
            return self._fused(func, args, kwargs)
        if func in _SOFTMAX:
            return self._softmax(func, args, kwargs)
        if func is MULTI_HEAD:
            with self:
                return run_visibly(args, kwargs)
        return func(*args, **kwargs)

    def _fused(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip(_FUSED_ARGUMENTS, args, strict=False)) | kwargs
        query, key = given["query"], given["key"]
        masked = self._for(query.shape[:-1], key.shape[-2])
        if masked is None:
            return func(*args, **kwargs)
        own = given.get("attn_mask")
        if own is None and given.get("is_causal"):
            own = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
            given["is_causal"] = False
        if own is None or own.dtype == torch.bool:
            given["attn_mask"] = ~masked if own is None else own & ~masked
        else:
            given["attn_mask"] = own.masked_fill(masked, float("-inf"))
        positional = [given.pop(name) for name in _FUSED_ARGUMENTS[:3]]
        return func(*positional, **given)

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        logits = args[0] if args else kwargs["input"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        over_last = isinstance(dim, int) and dim in (-1, logits.ndim - 1)
        masked = self._for(logits.shape[:-1], logits.shape[-1]) if over_last and logits.ndim > 2 else None
        if masked is None:
            return func(*args, **kwargs)
        hidden = logits.masked_fill(masked, float("-inf"))
        return func(hidden, *args[1:], **kwargs) if args else func(**{**kwargs, "input": hidden})

    def _for(self, queries: torch.Size, keys: int) -> Tensor | None:
        """The mask as it fits logits (*queries, keys): (B, 1, 1, N) or (B · heads, 1, N); None for other keys."""
        batch, n = self._masked.shape
        if keys != n or len(queries) < 2:
            return None
        if len(queries) == 3 and queries[0] == batch:
            found = self._masked[:, None, None]
        elif len(queries) == 2 and queries[0] % batch == 0:
            found = self._masked.repeat_interleave(queries[0] // batch, 0)[:, None]
        else:
            raise CaptureError(
                f"attention over {n} keys has queries of shape {tuple(queries)} for {batch} pictures, expected "
                "(B, heads, N): keys cannot be masked in windows or joined batches; use how='remove' or 'pixels'"
            )
        self.calls += queries[-1] == n
        return found


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

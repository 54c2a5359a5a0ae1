"""A second look at the running model, to compare records with: what attention calls were given and returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tokenrank.recording import AttentionRecord
from tokenrank.recording.fused import flex_functions

SDPA = {
    functional.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention.default,
}
SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}


@dataclass(frozen=True, eq=False)
class Sighting:
    """A softmax's result (value is None), or a fused call's values and result."""

    out: Tensor
    value: Tensor | None = None


class Witness(TorchFunctionMode):
    """Copies what every fused attention call and every softmax over the last dimension returned.

    To be entered before the capture, not inside of it: attention inside of
    ``F.multi_head_attention_forward`` is then seen, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Sighting] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
        with torch._C.DisableTorchFunction():
            if func in SDPA:
                self.seen.append(Sighting(out.detach().clone(), given["value"].detach().clone()))
            elif func in flex_functions():
                self.seen.append(Sighting(out[0].detach().clone(), given["value"].detach().clone()))
            elif func in SOFTMAX:
                dim = (kwargs or {}).get("dim", args[1] if len(args) > 1 else None)
                if dim in (-1, out.ndim - 1):
                    self.seen.append(Sighting(out.detach().clone()))
        return out


def output_error(records: list[AttentionRecord], seen: list[Sighting]) -> float:
    """Greatest difference between what records say and what the calls returned, relative to the size of their outputs.

    Records and calls are in the same order; a softmax of a router or classifier between them has no record.
    """
    calls = iter(seen)
    errors = []
    for record in records:
        weights = record.to_dense(torch.float64)
        call = next((c for c in calls if _belongs(record, c)), None)
        assert call is not None, f"no attention call was seen for record {record.index} of {record.name!r}"
        if call.value is None:
            errors.append(float((weights.reshape(call.out.shape) - call.out.double()).abs().amax()))
            continue
        value = call.value.double()
        if weights.ndim > 2 and value.shape[-3] not in (1, weights.shape[-3]):
            value = value.repeat_interleave(weights.shape[-3] // value.shape[-3], -3)
        out = call.out.double()
        errors.append(float(((weights @ value).reshape(out.shape) - out).abs().amax() / out.abs().amax()))
    unmatched = [c for c in calls if c.value is not None]
    assert not unmatched, f"{len(unmatched)} fused attention calls have no record"
    return max(errors)


def _belongs(record: AttentionRecord, call: Sighting) -> bool:
    if call.value is not None:
        return True
    return (
        record.kind not in ("sdpa", "flex")
        and record.shape.numel() == call.out.numel()
        and (record.shape[-2:] == call.out.shape[-2:])
    )

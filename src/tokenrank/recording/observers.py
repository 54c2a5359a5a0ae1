"""Observers of attention: they write down what fused calls were given and what hand-written attention computed."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket

from .fused import SDPA, dense_mask, flex_arguments, flex_functions, is_identity, modified, sdpa_call
from .journal import Journal
from .lineage import Ends, Fold, HandWritten, Tags, explained
from .masks import fused_mask
from .mode import Observer, running_heads
from .quiet import Unnoticed, exact
from .record import AttentionKind


class Observers:
    """Observers of all attention that can be seen, beside what follows tensors."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def table(self, tags: Tags) -> dict[Any, Observer]:
        """Function → what to call after it, with (args, kwargs, result)."""
        return {
            **Ends(tags, self._hand_written).observers(),
            **dict.fromkeys(SDPA, self._sdpa),
            **dict.fromkeys(flex_functions(), self._flex),
        }

    def _hand_written(self, attention: HandWritten) -> None:
        """Writes q, k, scale and mask down where they explain the weights, the weights where not."""
        out, logits = attention.weights, attention.logits
        with Unnoticed():
            call = self._journal.open(out)
            if call is None:
                return
            kind: AttentionKind = "eager"
            inside = running_heads()
            if inside is not None:
                kind = "multi_head_attention"
                if out.ndim == 3 and out.shape[0] == inside[0] * inside[1]:
                    out = out.unflatten(0, inside)
                    logits = None if logits is None else logits.then(Fold(torch.Size(inside)))
            found = None if logits is None else explained(logits, out)
            if found is not None:
                self._journal.write_query_key(call, kind, found.q, found.k, found.scale, found.mask, sinks=found.sinks)
            else:
                self._journal.write_weights(call, "weights", out[..., :-1] if attention.has_sink else out)

    def _sdpa(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Writes q, k and the mask down, whatever arrangement a library chose for the kernel."""
        with Unnoticed():
            call = self._journal.open(args[0] if args else kwargs["query"])
            if call is None:
                return
            given = sdpa_call(*args, **kwargs)
            query, mask = _unpacked(call.module, given.query, given.key, given.mask)
            query, key = _one_batch(query, given.key)
            kind: AttentionKind = "sdpa" if running_heads() is None else "multi_head_attention"
            mask = fused_mask(query, key, given.scale, mask)
            self._journal.write_query_key(call, kind, query, key, given.scale, mask, given.is_causal)

    def _flex(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Writes q, k and the mask down, or the weights where the scores were modified."""
        given = flex_arguments(args, kwargs)
        q, k, scale, score_mod = given["query"], given["key"], given["scale"], given["score_mod"]
        with Unnoticed():
            call = self._journal.open(q)
        if call is None:
            return
        with Unnoticed(modes=True):
            mask = dense_mask(given["block_mask"], q, k)
            plain = is_identity(score_mod, q)
        with Unnoticed():
            sinks = _sinks(call.module, q.shape[1])
            if plain:
                hidden = mask if mask.is_meta or not mask.all() else None
                self._journal.write_query_key(call, "flex", q, k, scale, hidden, sinks=sinks)
                return
            logits = _scores(q, k, scale)
        with Unnoticed(modes=True):
            logits = modified(logits, score_mod)
        with Unnoticed():
            logits = logits.masked_fill(~mask, -torch.inf)
            if sinks is not None:
                logits = torch.cat([logits, sinks.to(logits.dtype)[:, None, None].expand(*logits.shape[:-1], 1)], -1)
            weights = logits.softmax(-1)[..., : mask.shape[-1]]
            self._journal.write_weights(call, "flex", weights)


def _one_batch(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The same batch dimensions for both; the fused call broadcasts them."""
    if q.shape[:-3] == k.shape[:-3]:
        return q, k
    batch = np.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    return q.expand(*batch, *q.shape[-3:]), k.expand(*batch, *k.shape[-3:])


def _unpacked(module: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """q and mask with one row a query, where transformers packed a decoding step's head groups.

    For one query token with a mask, transformers reshapes q (B, H, 1, d) to (B, H_k, H / H_k, d), so
    that the fused kernel reads each key head once: what looks like queries is heads. A module
    that says how many heads it has makes that certain.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if groups == 1 or q.ndim != 4 or q.shape[-2] != groups or q.shape[-3] != k.shape[-3]:
        return q, mask
    heads = _head_count(module)
    if heads is None or q.shape[-3] * groups != heads:
        return q, mask
    if mask is not None and mask.ndim == 4 and mask.shape[-3] > 1:
        mask = mask.reshape(mask.shape[0], heads, 1, mask.shape[-1])
    return q.reshape(q.shape[0], heads, 1, q.shape[-1]), mask


def _head_count(module: nn.Module) -> int | None:
    config: Any = getattr(module, "config", None)
    config = getattr(config, "get_text_config", lambda: config)()
    heads = getattr(config, "num_attention_heads", None) or getattr(module, "num_heads", None)
    return heads if isinstance(heads, int) else None


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    with exact(q.device):
        return scale * (q.float() @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).float().mT)


def _sinks(module: nn.Module, heads: int) -> Tensor | None:
    """(H,) logits of attention sinks.

    The operator knows none: transformers renormalises its result with the module's parameter of
    this name.
    """
    sinks = getattr(module, "sinks", None)
    return sinks if isinstance(sinks, nn.Parameter) and sinks.shape == (heads,) else None


_NAMES = re.compile("attn|attention|flash|sage|xformers|varlen", re.IGNORECASE)


def is_opaque(function: Any) -> bool:
    """Whether a torch function is an operator whose name says attention."""
    return isinstance(function, OpOverload | OpOverloadPacket) and _NAMES.search(str(function)) is not None


class OpaqueKernels:
    """How often each kernel was called that computes attention where nobody can look, by its name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def observer(self, function: Any) -> Any:
        """What to call after each call of ``function``."""
        name = str(function)

        def count(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self.calls[name] += 1

        return count

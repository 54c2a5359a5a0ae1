"""Caches of TransformerLens as traces: hook_q, hook_k, hook_pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, printable
from ..files.checks import as_tensor, check_query_key, check_weights
from ..layout import LayoutChoice
from ..operators.checks import ROW_TOLERANCE
from ..recording import AttentionRecord, Forward
from .trace import Trace

_HOOK = re.compile(r"(?P<name>.+)\.hook_(?P<part>rot_q|rot_k|q|k|pattern)")
_HALVES = (torch.float16, torch.bfloat16)
_SAME = 1e-4  # of single precision, which products of other order stay well within


def from_cache(cache: Any, layout: LayoutChoice = None) -> Trace:
    """A trace from an ``ActivationCache`` of TransformerLens, or a mapping with its names.

    ::

        logits, cache = model.run_with_cache(tokens)
        trace = tr.from_cache(cache)
        chain = trace["blocks.3.attn"]

    Of each layer ``hook_q`` and ``hook_k`` are taken (``hook_rot_q`` and ``hook_rot_k`` where they are
    there) where they give back ``hook_pattern``, as kind "eager"; otherwise ``hook_pattern``, as kind
    "weights": padded batches, soft-capped logits, patterns that a hook changed, positions that are added
    to scores or rotated out of sight. Without a pattern the configuration must say that there is nothing
    of that kind; padding cannot be seen then. ``hook_attn_scores`` is no substitute: some models call it
    before the causal mask.

    Args:
        cache: with ``blocks.{i}.attn.hook_…``; q and k are (batch, tokens, heads, d), the pattern is
            (batch, heads, queries, keys); the batch dimension may be missing.
        layout: which token is what; False for none.

    Raises:
        InputError: none of these hooks, q without k, or nothing that tells how scores become a pattern.
    """
    layers = _layers(cache)
    if not layers:
        raise InputError(
            f"a {type(cache).__name__} without hook_pattern, and without hook_q and hook_k; cache them: "
            "model.run_with_cache(tokens, names_filter=lambda name: '.attn.hook_' in name)"
        )
    config = getattr(getattr(cache, "model", None), "cfg", None)
    forward = Forward(0)
    return Trace([_record(n, hooks, config, i, forward) for i, (n, hooks) in enumerate(layers.items())], layout=layout)


def _layers(cache: Any) -> dict[str, dict[str, Tensor]]:
    """Hooks by name of the attention, in the order of the cache."""
    items = getattr(cache, "items", None)
    if items is None:
        raise InputError(
            f"cache is of type {type(cache).__name__}, expected an ActivationCache, or a mapping with its names; pass "
            "what model.run_with_cache returns second"
        )
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in items():
        match = _HOOK.fullmatch(str(key))
        if match:
            layers.setdefault(match["name"], {})[match["part"]] = as_tensor(value, printable(str(key)))
    return layers


def _record(name: str, hooks: Mapping[str, Tensor], config: Any, place: int, forward: Forward) -> AttentionRecord:
    what = f"attention {printable(name)}"
    pattern = hooks.get("pattern")
    q, k = (_heads_first(hooks, part, what) for part in ("q", "k"))
    if pattern is None and (q is None or k is None):
        cached = ", ".join(f"hook_{part}" for part in hooks)
        raise InputError(f"{what} has only {cached}; cache hook_q and hook_k, or hook_pattern")
    if q is not None and k is not None:
        scale = _scale(name, q.shape[-1], config)
        for is_causal in _directions(config, pattern, what):
            record = AttentionRecord(name, "", "eager", place, forward, q, k, scale, None, is_causal)
            if pattern is None:
                _refuse_unproved(name, hooks, record, config, what)
                return record
            if _reproduces(record, pattern, what):
                return record
    assert pattern is not None
    check_weights(pattern, f"hook_pattern of {what}")
    return AttentionRecord(name, "", "weights", place, forward, weights=pattern)


def _heads_first(hooks: Mapping[str, Tensor], part: str, what: str) -> Tensor | None:
    """(…, tokens, heads, d) as (…, heads, tokens, d), after rotation where that was cached."""
    tensor = hooks.get(f"rot_{part}", hooks.get(part))
    if tensor is None:
        return None
    if tensor.ndim < 3:
        raise InputError(f"hook_{part} of {what} has shape {tuple(tensor.shape)}, expected (batch, tokens, heads, d)")
    return tensor.transpose(-3, -2)


def _scale(name: str, d: int, config: Any) -> float:
    """Scores are divided by ``attn_scale``, √d where it is not positive, and some models' by the layer's number."""
    if not getattr(config, "use_attn_scale", True):
        return 1.0
    stated = getattr(config, "attn_scale", None)
    divisor = float(stated) if stated is not None and stated > 0 else d**0.5
    number = re.search(r"\.(\d+)\.", f".{name}.")
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and number:
        divisor *= int(number[1]) + 1
    return 1 / divisor


def _directions(config: Any, pattern: Tensor | None, what: str) -> tuple[bool, ...]:
    direction = getattr(config, "attention_dir", None)
    if pattern is not None:  # which tells
        return (True, False)
    if direction not in ("causal", "bidirectional"):
        raise InputError(
            f"{what} has q and k but no pattern, and nothing says whether it is causal; pass the ActivationCache "
            "itself, whose model tells, or cache hook_pattern too"
        )
    return (direction == "causal",)


def _reproduces(record: AttentionRecord, pattern: Tensor, what: str) -> bool:
    """Whether softmax(scale · q kᵀ) is the pattern, to rounding of the type that it came in."""
    assert record.q is not None
    assert record.k is not None
    try:
        check_query_key(record.q, record.k, record.scale, None, None, what)
    except InputError:
        return False
    if record.shape != pattern.shape:
        return False
    halves = [ROW_TOLERANCE[t.dtype] for t in (record.q, record.k, pattern) if t.dtype in _HALVES]
    dense = record.to_dense(torch.promote_types(record.q.dtype, torch.float32))
    # in total variation: single entries of long rows are too small to tell patterns apart
    return bool(((dense - pattern).abs().sum(-1) / 2 <= max([_SAME, *halves])).all())


def _refuse_unproved(name: str, hooks: Mapping[str, Tensor], record: AttentionRecord, config: Any, what: str) -> None:
    """Without a pattern: raise where the configuration names something that q and k do not show."""
    assert record.q is not None
    assert record.k is not None
    reasons = []
    positions = getattr(config, "positional_embedding_type", None)
    if positions == "rotary" and not {"rot_q", "rot_k"} <= hooks.keys():
        reasons.append("positions are rotated into q and k after hook_q and hook_k")
    if positions in ("alibi", "relative_positional_bias"):
        reasons.append(f"positions ({positions}) are added to the scores")
    if (getattr(config, "attn_scores_soft_cap", None) or -1) > 0:
        reasons.append("scores are soft-capped")
    if getattr(config, "use_local_attn", False) or getattr(config, "window_size", None):
        reasons.append("some layers attend to a window only")
    if record.is_causal and not record.is_square:
        reasons.append("keys of earlier tokens come from a cache")
    if reasons:
        raise InputError(f"{what} has no pattern, and {' and '.join(reasons)}; cache hook_pattern too")
    check_query_key(record.q, record.k, record.scale, None, None, what)

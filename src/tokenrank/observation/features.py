"""Features of tokens, one row a token: queries, keys and values of an attention, the output of the block around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from ..errors import CaptureError, InputError, LayoutError
from ..layout import TokenLayout
from ..recording import AttentionRecord, AttentionStates

What: TypeAlias = Literal["k", "q", "v", "h"]
"""Keys, queries, values of an attention, or hidden states: what the block around it returns."""

WHATS: tuple[What, ...] = get_args(What)

NAMES: Mapping[What, str] = {"k": "keys", "q": "queries", "v": "values", "h": "block outputs"}


def checked_what(what: object) -> What:
    """``what``, one of ``WHATS``.

    Raises:
        InputError: something else.
    """
    for known in WHATS:
        if what == known:
            return known
    listed = ", ".join(f"{letter!r} ({name})" for letter, name in NAMES.items())
    raise InputError(f"what = {what!r}, expected one of {listed}")


def check_not_in_windows(record: AttentionRecord, layer: str) -> None:
    """Raise where a layer attends within windows of the picture, or there are several inputs.

    Raises:
        CaptureError: so it is.
    """
    if record.windows is not None or record.shape[:-3].numel() != 1:
        raise CaptureError(
            f"layer {layer!r} attends within windows, {tuple(record.shape[:-3])} of them, so that its features do "
            "not lie on one grid; take another layer or model"
        )


def features_of_record(record: AttentionRecord, what: Literal["k", "q"], layer: str) -> Tensor:
    """Queries or keys of all tokens, (N, heads · d).

    Raises:
        CaptureError: only the weights were seen.
    """
    tensor = {"k": record.k, "q": record.q}[what]
    if tensor is None:
        raise CaptureError(
            f"layer {layer!r} was seen as weights alone, expected queries and keys; load the model with sdpa, or take "
            "what='h' (block outputs)"
        )
    return side_by_side(tensor)


def features_of_states(
    kept: list[AttentionStates],
    record: AttentionRecord,
    what: Literal["v", "h"],
    layer: str,
    layout: TokenLayout | None,
) -> Tensor:
    """Values (N, heads · e) or block outputs (N, d) of all tokens, from what a second forward kept.

    Args:
        kept: all attention calls of that forward, in order.
        record: the same layer in the first forward.
        layer: its name, for errors.
        layout: its tokens, for errors.

    Raises:
        CaptureError: the second forward ran differently; the values were not seen; no block was found.
        LayoutError: the block returns states of another grid than the attention's.
    """
    states = kept[record.index] if record.index < len(kept) else None
    if states is None or states.name != record.name or states.shape != tuple(record.shape[-2:]):
        found = "nothing" if states is None else f"{states.name!r} with {' × '.join(map(str, states.shape))} tokens"
        raise CaptureError(
            f"the model ran differently the second time: attention call {record.index} was {layer!r} with "
            f"{' × '.join(map(str, record.shape[-2:]))} tokens and is {found}; call module.eval(), or take what='k' or "
            "'q', which need no second forward"
        )
    if what == "h":
        return _output(states, layer, layout)
    if states.values is None:
        raise CaptureError(
            f"the values of layer {layer!r} were not seen: its weights meet them in a product that is not followed; "
            "load the model with sdpa, or take what='h' (block outputs)"
        )
    return side_by_side(_once_a_key_head(states.values, record))


def side_by_side(tensor: Tensor) -> Tensor:
    """(…, heads, N, d) of one input → (N, heads · d)."""
    return tensor.reshape(-1, *tensor.shape[-2:]).transpose(0, 1).flatten(1)


def _output(states: AttentionStates, layer: str, layout: TokenLayout | None) -> Tensor:
    if states.output is not None:
        return states.output
    cure = "take what='v', 'k' or 'q', or a layer of another network"
    count = states.shape[0]
    grid = "" if layout is None else f" ({layout})"
    for name, shapes in states.refused.items():
        if shapes:
            raise LayoutError(
                f"the block {name!r} around layer {layer!r} returns {' and '.join(str(tuple(s)) for s in shapes)}, "
                f"another grid than the attention's {count} tokens{grid}; expected (1, {count}, d); {cure}"
            )
    raise CaptureError(
        f"no block was found around layer {layer!r}: no module that holds it and a feed-forward, and no other "
        f"attention, returns the states of its {count} tokens, expected (1, {count}, d); {cure}"
    )


def _once_a_key_head(values: Tensor, record: AttentionRecord) -> Tensor:
    """Values with each key head once, where they were repeated for the query heads that share it."""
    keys = record.k.shape[-3] if record.k is not None and record.k.ndim > 2 else 0
    heads = values.shape[-3] if values.ndim > 2 else 0
    if not keys or heads <= keys or heads % keys:
        return values
    apart = values.unflatten(-3, (keys, heads // keys))
    once = apart.select(-3, 0)
    return once if bool((apart == once.unsqueeze(-3)).all()) else values

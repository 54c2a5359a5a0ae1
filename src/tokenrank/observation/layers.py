"""Layers of one input: the records of a trace by name, and as chains (heads, N, N)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ..chain import AttentionChain
from ..errors import CaptureError, LayoutError, TokenRankError
from ..layout import TokenLayout
from ..models import Modality
from ..recording import AttentionRecord
from ..trace import Trace
from ..trace.one_input import of_one_input

Seen: TypeAlias = "tuple[Mapping[str, AttentionChain], Mapping[str, str]]"

SOUND = "audio"
"""The span of a sound's frames; how long they are may be unknown."""

GIVE_ONE = (
    "give one input, a batch of one; or run the model inside tr.capture and give tr.observe one of the trace, "
    "trace.select(sample=0) or trace.select(branch=…)"
)


def square_chains(trace: Trace, expected: TokenLayout | None, modality: Modality | None, cure: str) -> Seen:
    """Name → chain (heads, N, N) of every layer that has one; and why others have none.

    Where layers look at a picture, those that do not are left out: the text of a dual encoder, a pooling head. The same
    for a sound: the decoder that writes it down.
    """
    chains: dict[str, AttentionChain] = {}
    skipped: dict[str, str] = {}
    errors: list[TokenRankError] = []
    for name, record in records_by_name(trace).items():
        try:
            chains[name] = of_one_input(trace.chain_of(record), expected, name, cure)
        except (CaptureError, LayoutError) as error:
            skipped[name] = str(error)
            errors.append(error)
    if not chains:
        raise errors[0] if errors else CaptureError("the trace is empty; run the model inside tr.capture")
    seeing = {name for name, chain in chains.items() if has_picture(chain.layout)}
    if seeing and modality != "text":
        skipped |= {name: "its tokens hold no picture" for name in chains if name not in seeing}
        chains = {name: chain for name, chain in chains.items() if name in seeing}
    hearing = {name for name, chain in chains.items() if has_sound(chain.layout)}
    if hearing and modality not in ("text", "image"):
        skipped |= {name: "its tokens hold no sound" for name in chains if name not in hearing}
        chains = {name: chain for name, chain in chains.items() if name in hearing}
    return chains, skipped


def records_by_name(trace: Trace) -> dict[str, AttentionRecord]:
    """Records by name; of layers that share one module each call is a layer."""
    calls: dict[str, int] = {}
    named: dict[str, AttentionRecord] = {}
    for record in trace.records:
        calls[record.name] = calls.get(record.name, 0) + 1
        named[record.name if calls[record.name] == 1 else f"{record.name}#{calls[record.name]}"] = record
    return named


def has_picture(layout: TokenLayout | None) -> bool:
    """Whether one picture, or one grid of another kind, is among the tokens."""
    return layout is not None and len(layout.grids) == 1


def has_sound(layout: TokenLayout | None) -> bool:
    """Whether frames of a sound are among the tokens."""
    return layout is not None and SOUND in layout.spans

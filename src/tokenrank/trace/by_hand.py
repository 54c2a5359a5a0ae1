"""Layouts given by hand: for all layers, or by name of the layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from ..errors import InputError, LayoutError, NotFoundError, nearest
from ..layout import LayoutChoice, TokenLayout
from ..models.layouts.names import in_decoder, is_cross
from ..recording import AttentionRecord
from ..recording.selection import matches_name


def checked_choice(layout: Any) -> LayoutChoice:
    """A layout given by hand.

    Raises:
        InputError: it is none.
    """
    entries = layout.values() if isinstance(layout, Mapping) else () if layout is None else (layout,)
    if any(not (one is False or isinstance(one, TokenLayout)) for one in entries):
        raise InputError(
            f"layout is {layout!r}, expected a TokenLayout, False for none, None to find it, or a mapping from names "
            "or globs of layers to layouts"
        )
    return cast("LayoutChoice", layout)


def fitting(choice: LayoutChoice, names: Sequence[str]) -> LayoutChoice:
    """The choice as it is.

    Raises:
        NotFoundError: one of its globs fits none of the layers ``names``, so that its layout would be no layer's.
    """
    for glob in choice if isinstance(choice, Mapping) and names else ():
        if not any(matches_name(glob, name) for name in names):
            raise NotFoundError(f"a layout was given for {glob!r}, which fits no layer; {nearest(glob, names)}")
    return choice


def layout_for(choice: LayoutChoice, name: str) -> TokenLayout | Literal[False] | None:
    """What a choice says of the layer ``name``; None where its layout is to be found."""
    if not isinstance(choice, Mapping):
        return choice
    return next((one for glob, one in choice.items() if matches_name(glob, name)), None)


def with_choice(record: AttentionRecord, choice: TokenLayout | Literal[False] | None) -> AttentionRecord:
    """The record with a layout given by hand: of the whole picture, or of each window; False for none of each."""
    if choice is None:
        return record
    if choice is False:
        return replace(record, layout=None, windows=None)
    if choice.num_tokens == record.shape[-1]:
        return replace(record, layout=choice, windows=None)
    return record if isinstance(record.layout, LayoutError) else replace(record, layout=choice)


def sides_by_hand(
    choice: LayoutChoice,
    record: AttentionRecord,
    names: Sequence[str],
    rows: TokenLayout | None,
    columns: TokenLayout | None,
) -> tuple[TokenLayout | None, TokenLayout | None]:
    """The sides of cross-attention, where layouts were given: its own on the side whose tokens it counts, the encoder's
    among the columns.

    Args:
        choice: given by hand.
        record: of cross-attention.
        names: of all layers of its trace.
        rows, columns: what is known without.

    Raises:
        LayoutError: a layout for this record that counts neither side.
    """
    given = layout_for(choice, record.name)
    if given is False:
        return None, None
    queries, keys = record.shape[-2:]
    encoder = [name for name in names if not is_cross(name) and not in_decoder(name)]
    others = (layout_for(choice, name) for name in encoder)
    columns = next((other for other in others if other and other.num_tokens == keys), columns)
    if given is None:
        return rows, columns
    if given.num_tokens not in (queries, keys):
        raise LayoutError(
            f"the layout given for {record.name!r} has {given.num_tokens} tokens ({given}), its cross-attention "
            f"{queries} queries and {keys} keys; give spans that cover the ones or the others"
        )
    return given if given.num_tokens == queries else rows, given if given.num_tokens == keys else columns

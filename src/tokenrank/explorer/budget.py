"""What fits into a page: which layers are stored, decided from sizes alone, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..errors import InputError
from ..select import checked_heads, head_numbers
from . import stored, weights
from .sheet import Draft, DraftLayer

LIMIT = 12_000_000
"""Bytes of a page by default."""

MOST_TOKENS = 6000
"""A page of more would need more than 144 MB for the matrix that is shown."""

CODE = 155_000
"""Bytes of a page without index and blob, not less than they are; for estimates before there is an index."""

TAG = 100  # bytes around a part

HeadChoice: TypeAlias = "int | Sequence[int] | None"
"""Which heads are stored: all, one, or several."""


@dataclass(frozen=True)
class Form:
    """How a layer would be stored.

    Attributes:
        kind: queries and keys, or weights.
        type: of the numbers.
        heads: which heads.
        shape: of queries and keys; None of weights.
        nbytes: length of the slice.
        why: what queries and keys alone would leave out; None where nothing.
    """

    kind: Literal["qk", "weights"]
    type: Literal["int16", "int8", "uint16", "uint8"]
    heads: list[int]
    shape: stored.Shape | None
    nbytes: int
    why: str | None


def form_of(layer: DraftLayer, heads: HeadChoice, small: bool) -> Form:
    """How a layer would be stored, and how large it would be."""
    operator = layer.chain.operator
    kept = heads_of(layer, heads)
    why = stored.obstacle(operator)
    if why is None:
        shape = stored.shape_of(operator, kept, "int8" if small else "int16")
        return Form("qk", shape.type, kept, shape, shape.nbytes, None)
    whole: weights.Whole = "uint8" if small else "uint16"
    return Form("weights", whole, kept, None, weights.nbytes(len(kept), operator.num_tokens, whole), why)


def heads_of(layer: DraftLayer, heads: HeadChoice) -> list[int]:
    """Heads of a layer that are stored, increasing: all for None.

    Raises:
        NotFoundError: no such head. InputError: one twice, or what is no number.
    """
    count = layer.chain.batch[-1]
    if heads is None:
        return list(range(count))
    chosen = checked_heads(heads)
    if isinstance(chosen, str):
        raise InputError(f"heads = {heads!r}, expected None for all, the number of a head, or a list of numbers")
    return sorted(head_numbers(chosen, count, layer.name))


def html_bytes(length: int) -> int:
    """Bytes that a part of the blob takes in a page: base64 and its tag."""
    return -(-length // 3) * 4 + TAG


def chosen_layers(
    drafts: Sequence[Draft], asked: Sequence[set[str] | None], heads: HeadChoice, small: bool, limit: int, rest: int
) -> list[dict[int, Form]]:
    """For every sheet: place in ``draft.layers`` → how that layer is stored.

    Args:
        drafts: the sheets.
        asked: for every sheet the names of layers that have to be there; None for as many as fit, evenly spaced and the
            last. One choice for all sheets.
        heads: see ``heads_of``.
        small: eight bits a number.
        limit: bytes of the page.
        rest: bytes of all that is not a layer.

    Raises:
        InputError: what was asked for does not fit, or not even one layer; with the numbers and the cures.
    """
    for draft in drafts:
        if draft.count > MOST_TOKENS:
            raise InputError(
                f"{draft.name!r} has {draft.count:,} tokens, expected at most {MOST_TOKENS:,}, since the page makes a "
                "matrix of all pairs of them; take a smaller size= of the picture, or a part of the text"
            )
    room = limit - rest
    if any(names is not None for names in asked):
        chosen = [_asked_of(draft, names or set(), heads, small) for draft, names in zip(drafts, asked, strict=True)]
        if _total(chosen) > room:
            raise InputError(_too_large(drafts, chosen, small, limit, rest))
        return chosen
    forms = [[form_of(layer, heads, small) for layer in draft.layers] for draft in drafts]
    counts = [0] * len(drafts)
    chosen = [{} for _ in drafts]
    small_first = sorted(range(len(drafts)), key=lambda sheet: forms[sheet][0].nbytes)
    for _ in range(max(map(len, forms))):  # one layer more of every sheet, as long as it fits
        for sheet in small_first:
            of = forms[sheet]
            places = _even(drafts[sheet], counts[sheet] + 1)
            more = {place: of[place] for place in places if html_bytes(of[place].nbytes) <= room}
            trial = [*chosen[:sheet], more, *chosen[sheet + 1 :]]
            if _total(trial) <= room:
                chosen, counts[sheet] = trial, counts[sheet] + 1
    if any(chosen):
        return chosen
    least = [dict([min(enumerate(of), key=lambda item: item[1].nbytes)]) for of in forms]
    raise InputError(_too_large(drafts, least[:1], small, limit, rest))


def _asked_of(draft: Draft, names: set[str], heads: HeadChoice, small: bool) -> dict[int, Form]:
    return {place: form_of(of, heads, small) for place, of in enumerate(draft.layers) if of.name in names}


def _even(draft: Draft, count: int) -> list[int]:
    """Places of so many layers, evenly spaced, with the last; of a denoiser the same ones at every step."""
    numbers = sorted({layer.number for layer in draft.layers})
    count = min(count, len(numbers))
    kept = {numbers[-(-len(numbers) * (place + 1) // count) - 1] for place in range(count)}
    return [place for place, layer in enumerate(draft.layers) if layer.number in kept]


def _total(chosen: Sequence[dict[int, Form]]) -> int:
    return sum(html_bytes(form.nbytes) for of in chosen for form in of.values())


def _too_large(drafts: Sequence[Draft], chosen: Sequence[dict[int, Form]], small: bool, limit: int, rest: int) -> str:
    """The error of what does not fit, in words: sizes, what is expected, and the cures."""
    needed = _total(chosen) + rest
    sizes = [
        (draft.layers[place], form) for draft, of in zip(drafts, chosen, strict=True) for place, form in of.items()
    ]
    layer, form = max(sizes, key=lambda item: item[1].nbytes)
    many = "1 layer" if len(sizes) == 1 else f"{len(sizes)} layers"
    heads = "1 head" if len(form.heads) == 1 else f"{len(form.heads)} heads"
    one = f"{layer.name!r} with {heads} of {layer.chain.num_tokens:,} tokens {_mb(html_bytes(form.nbytes))}"
    why = "" if form.why is None else f", stored as weights since {form.why}"
    cures = _cures(sizes, small, limit - rest)
    larger = f"{'or ' if cures else ''}a larger page (limit={needed:_}, --limit {math.ceil(needed / 1e6)})"
    return (
        f"{many} would make a page of {_mb(needed)} ({one}{why}), expected at most {_mb(limit)}; take "
        f"{', '.join([*cures, larger])}"
    )


def _cures(sizes: Sequence[tuple[DraftLayer, Form]], small: bool, room: int) -> list[str]:
    """What makes it fit, each by itself: fewer layers, fewer heads, eight bits, or fewer heads with eight bits."""

    def fits(heads: int, small: bool) -> bool:
        forms = [form_of(layer, form.heads[:heads], small) for layer, form in sizes]
        return sum(html_bytes(form.nbytes) for form in forms) <= room

    def fewer(small: bool) -> str | None:
        most = next((count for count in range(heads - 1, 0, -1) if fits(count, small)), 0)
        return f"at most {most} head{'s' * (most > 1)}" if most else None

    heads = max(len(form.heads) for _, form in sizes)
    several = len(sizes) > 1 and min(html_bytes(form.nbytes) for _, form in sizes) <= room
    cures = ["fewer layers (layers=, --layers)"] if several else []
    if found := fewer(small):
        cures.append(f"{found} (heads=, --heads)")
    eight = "numbers of eight bits (small=True, --small)"
    if not small and fits(heads, True):
        cures.append(eight)
    elif not small and (found := fewer(True)):
        cures.append(f"{found} with {eight}")
    return cures


def _mb(length: int) -> str:
    return f"{length / 1e6:.1f} MB"

"""Order of tokens as it was seen: which token of an attention holds which cell of which picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...errors import LayoutError
from ...layout import Grid, TokenLayout, Windows
from ...recording import Lost, Trail
from .parts import ONE_SAMPLE, joined_names, times
from .towers import Extras

PROVE = (
    "prove the order, tr.check_layout(model, inputs, grid=(rows, columns)), and give the layout, trace.layout = "
    "tr.TokenLayout(…), or none, trace.layout = False"
)


@dataclass(frozen=True)
class Seen:
    """One picture among the tokens of a sequence.

    Attributes:
        grid: (rows, columns) or (frames, rows, columns) of its cells.
        tokens: index of the token that holds each cell, row by row.
    """

    grid: Grid
    tokens: tuple[int, ...]

    @property
    def is_in_place(self) -> bool:
        """Whether its tokens follow each other row by row."""
        return self.tokens == tuple(range(self.tokens[0], self.tokens[0] + len(self.tokens)))


@dataclass(frozen=True)
class Tokens:
    """A sequence of tokens as it was seen.

    Attributes:
        num_tokens: N.
        pictures: in order of their first tokens; all other tokens hold no patch.
    """

    num_tokens: int
    pictures: tuple[Seen, ...]

    @property
    def others(self) -> list[int]:
        """Tokens that hold no patch."""
        held = {token for picture in self.pictures for token in picture.tokens}
        return [i for i in range(self.num_tokens) if i not in held]


_READ: WeakKeyDictionary[Trail, Tokens] = WeakKeyDictionary()  # the layers of a model mostly have the same trail
_CUT: WeakKeyDictionary[Trail, dict[bool, Windows | None]] = WeakKeyDictionary()


def seen_sequence(trail: Trail, num_tokens: int, name: str) -> Tokens:
    """The one sequence that all rows of a trail are.

    Raises:
        LayoutError: patches in another order in each sample; pictures of which tokens hold a part only.
    """
    if trail in _READ:
        return _READ[trail]
    which, sample, cell = trail.places
    inside = which >= 0
    base = sample.where(inside, torch.iinfo(torch.int64).max).amin(-1, keepdim=True)
    offset = (sample - base).where(inside, -1)
    for values in (which, cell, offset):
        if bool((values != values[0]).any()):
            raise LayoutError(
                f"unknown layout of {num_tokens} tokens of {name!r}: its samples, or the parts that it attends within, "
                f"have their patches in different orders; {ONE_SAMPLE}, or {PROVE}"
            )
    pictures = []
    for number, frame in dict.fromkeys(zip(which[0].tolist(), offset[0].tolist(), strict=True)):
        if number < 0:
            continue
        picture = trail.pictures[number]
        tokens = ((which[0] == number) & (offset[0] == frame)).nonzero().flatten()
        cells = cell[0][tokens]
        if sorted(cells.tolist()) != list(range(picture.area)):
            raise LayoutError(
                f"unknown layout of {num_tokens} tokens of {name!r}: {len(tokens)} of them were made of "
                f"{len(set(cells.tolist()))} of the {picture.area} patches of a picture of {times(picture.grid)}, and "
                f"the others were dropped or are elsewhere, expected each patch in one token; {PROVE}"
            )
        pictures.append(Seen(picture.grid, tuple(tokens[cells.argsort()].tolist())))
    _READ[trail] = Tokens(num_tokens, tuple(pictures))
    return _READ[trail]


def agrees(layout: TokenLayout, seen: Tokens) -> bool:
    """Whether a layout has every picture where it was seen, and says of no other tokens that they are one."""
    claimed: list[int] = []
    held = [token for picture in seen.pictures for token in picture.tokens]
    for span in layout.grids:
        claimed += layout.indices(span)
    return claimed == held if layout.grids else not held


def claims_nothing_else(layout: TokenLayout, seen: Tokens) -> bool:
    """Whether each grid of a layout is a picture that was seen there, whatever else was seen."""
    pictures = {picture.tokens for picture in seen.pictures}
    videos = {tuple(t for p in seen.pictures for t in p.tokens)}
    return all(tuple(layout.indices(span)) in pictures | videos for span in layout.grids)


def seen_layout(seen: Tokens, extras: Sequence[Extras]) -> TokenLayout:
    """The layout of what was seen; the other tokens have names where the model's parameters explain all of them."""
    runs = _runs(seen)
    if all(isinstance(run, list) or run.is_in_place for run in runs):
        return _in_sequence(runs, extras)
    spans = {"other": len(seen.others)}
    names = joined_names([_kind(p) for p in seen.pictures])
    spans |= {name: len(p.tokens) for name, p in zip(names, seen.pictures, strict=True)}
    grids = {name: p.grid for name, p in zip(names, seen.pictures, strict=True)}
    order = (*seen.others, *(token for p in seen.pictures for token in p.tokens))
    return _named(TokenLayout(spans, grids, order=order), extras)


def seen_windows(trail: Trail, with_heads: bool) -> Windows | None:
    """The windows of one picture that the rows of a trail are; None where a row is a whole picture, or no part of one.

    Args:
        trail: whose rows are the windows of one picture after the other.
        with_heads: whether the record has windows and heads in one dimension.
    """
    known = _CUT.setdefault(trail, {})
    if with_heads not in known:
        known[with_heads] = _windows(trail, with_heads)
    return known[with_heads]


def _windows(trail: Trail, with_heads: bool) -> Windows | None:
    if len(trail.leading) > 2 and trail.leading[-1] != 1:
        return None  # windows after heads
    which, sample, cell = trail.places
    rows, heads = _without_heads(torch.stack([which, sample, cell], -1))
    which, sample, cell = rows.unbind(-1)
    inside = which >= 0
    if len(trail.pictures) != 1 or not bool(inside.any(-1).all()):
        return None
    picture = trail.pictures[0]
    low = sample.where(inside, torch.iinfo(torch.int64).max).amin(-1)
    high = sample.where(inside, -1).amax(-1)
    count, rest = divmod(len(rows), picture.count)
    if rest or count < 2 or not torch.equal(low, high) or len(picture.grid) != 2:
        return None
    expected = torch.arange(picture.count).repeat_interleave(count)
    windows = cell.view(picture.count, count, -1)
    if not torch.equal(low, expected) or bool((windows != windows[0]).any()):
        return None
    index = windows[0].clone()
    held = index >= 0
    if sorted(index[held].tolist()) != list(range(picture.area)):
        return None
    index[~held] = torch.arange(picture.area, index.numel())
    layout = TokenLayout({"image": picture.area, "other": index.numel() - picture.area}, {"image": picture.grid})
    return Windows(index, layout, heads=heads if with_heads else None)


def same_windows(a: Windows, b: Windows) -> bool:
    """Whether both have the patches at the same places."""
    area = len(a.layout.indices("image"))
    if a.index.shape != b.index.shape or a.layout.grids != b.layout.grids:
        return False
    return torch.equal(a.index.clamp(max=area), b.index.clamp(max=area))


def refuse_lost(lost: Lost, num_tokens: int, name: str) -> LayoutError:
    """Patches were there, and were lost from sight."""
    return LayoutError(
        f"unknown layout of {num_tokens} tokens of {name!r}: which of them holds which patch could not be followed "
        f"({lost.why}), expected functions that move tokens or treat each alone; {PROVE}"
    )


def _without_heads(rows: Tensor) -> tuple[Tensor, int]:
    """Rows without repetitions that follow each other, and how often each was there."""
    alone, counts = torch.unique_consecutive(rows, dim=0, return_counts=True)
    if bool((counts == counts[0]).all()):
        return alone, int(counts[0])
    return rows, 1


def _kind(picture: Seen) -> str:
    return "video" if len(picture.grid) == 3 else "image"


def _runs(seen: Tokens) -> list[Seen | list[int]]:
    """Pictures and runs of other tokens as they follow each other; a picture that is torn apart is there twice."""
    runs: list[Seen | list[int]] = []
    owner = {token: picture for picture in seen.pictures for token in picture.tokens}
    for token in range(seen.num_tokens):
        picture = owner.get(token)
        if picture is not None:
            if not runs or runs[-1] is not picture:
                runs.append(picture)
        elif runs and isinstance(runs[-1], list):
            runs[-1].append(token)
        else:
            runs.append([token])
    return runs


def _in_sequence(runs: Sequence[Seen | list[int]], extras: Sequence[Extras]) -> TokenLayout:
    names = joined_names(["other" if isinstance(run, list) else _kind(run) for run in runs])
    spans = {name: len(run if isinstance(run, list) else run.tokens) for name, run in zip(names, runs, strict=True)}
    grids = {name: run.grid for name, run in zip(names, runs, strict=True) if not isinstance(run, list)}
    return _named(TokenLayout(spans, grids), extras)


def _named(layout: TokenLayout, extras: Sequence[Extras]) -> TokenLayout:
    """With the model's names for tokens before and after the one picture, where they are as many."""
    if len(layout.grids) != 1 or layout.order is not None:
        return layout
    (span, grid), tokens = next(iter(layout.grids.items())), layout.indices(layout.picture)
    before, after = tokens[0], layout.num_tokens - tokens[-1] - 1
    fitting = [e for e in extras if (sum(e.before.values()), sum(e.after.values())) == (before, after)]
    if len(fitting) != 1:
        return layout
    return TokenLayout(fitting[0].around(span, len(tokens)), {span: grid})

"""``check_layout``: change patches of a picture, see which tokens move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import Grid, TokenLayout, Windows
from ..models import Model
from ..models.layouts.order import Seen, Tokens, seen_layout
from ..models.layouts.parts import times
from ..models.layouts.towers import Structure
from ..recording import AttentionRecord, LayerSelection
from .capture import root_module
from .probe import MIXED, NONE, Moved, Probe, decoded, picture_name

Verdict = Literal["proved", "wrong", "mixed", "unchecked", "other grid", "no layout"]


@dataclass(frozen=True, repr=False)
class LayerCheck:
    """What one attention showed.

    Attributes:
        name: of its module.
        layout: what its record says; the reason where it says none.
        verdict: "proved": every patch moves the token that the layout names, and no other. "wrong": it moves another
            one alone. "mixed": tokens move with several patches, as behind convolutions that overlap, so that nothing
            is shown. "unchecked": it cannot be checked, for ``reason``, such as attention before it that could not be
            replaced. "other grid": the layout has another one than ``grid`` asks for. "no layout": there is none to
            check; ``seen`` is one, where patches have tokens of their own.
        seen: the layout that was seen, in the order in which it was seen; None where patches are mixed, are missing, or
            samples or windows differ, or queries are not known.
        tokens: (R, N) int64: the patch with which each token moves, −1 for none, −2 for several. Rows are samples, or
            windows of one sample after the other.
        reason: why it cannot be checked, or which grids there are; "" otherwise.
    """

    name: str
    layout: TokenLayout | LayoutError | None
    verdict: Verdict
    seen: TokenLayout | None
    tokens: Tensor
    reason: str = ""

    def __str__(self) -> str:
        count = int((self.tokens == MIXED).sum())
        what = {
            "proved": f"proved: {self.layout}",
            "wrong": f"WRONG: {self.layout}; seen: {self.seen or 'patches elsewhere'}",
            "mixed": f"not shown: {count} token{'s move' if count != 1 else ' moves'} with several patches",
            "unchecked": f"cannot be checked: {self.reason}",
            "other grid": f"not checked: {self.reason}",
            "no layout": f"no layout; seen: {self.seen or 'no picture as a whole'}",
        }
        return f"{self.name or 'the module itself'}: {what[self.verdict]}"

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class LayoutCheck:
    """What all attention showed; printed one line a layer.

    Attributes:
        layers: one for each self-attention, in order.
        forwards: how often the model ran.
    """

    layers: tuple[LayerCheck, ...]
    forwards: int

    @property
    def holds(self) -> bool:
        """Whether a layout was proved, and none is wrong."""
        verdicts = {layer.verdict for layer in self.layers}
        return "proved" in verdicts and "wrong" not in verdicts

    @property
    def layout(self) -> TokenLayout:
        """The one layout that was seen in all layers where patches have tokens of their own.

        Raises:
            LayoutError: none was seen, or several.
        """
        found = list(dict.fromkeys(str(layer.seen) for layer in self.layers if layer.seen is not None))
        layouts = [layer.seen for layer in self.layers if layer.seen is not None]
        if not layouts or any(one != layouts[0] for one in layouts):
            raise LayoutError(
                f"the layers have {len(layouts)} layouts that were seen ({'; '.join(found) or 'none'}), expected one; "
                "take that of a layer, check.layers[i].seen, or another grid="
            )
        return layouts[0]

    def __repr__(self) -> str:
        return "\n".join(map(str, self.layers))

    __str__ = __repr__


def check_layout(
    model: nn.Module | Model,
    inputs: Mapping[str, Any] | Tensor,
    layers: LayerSelection = None,
    grid: Grid | None = None,
    picture: str | None = None,
) -> LayoutCheck:
    """Prove on a running model which token holds which patch: change patches, see which queries move.

    Patches are changed in groups, by the digits of their numbers: 2 ⌈log₂ P⌉ + 2 forward calls for P patches; large
    models take tens of seconds on a CPU. Meanwhile every token attends to itself alone, so that a change stays where
    it was made and deeper layers are checked as well; behind attention that could not be replaced so, nothing is
    called wrong. Random numbers are the same in every call. Patches cut outside of the model cannot be checked.

    Args:
        model: the module that runs, or what ``tr.load`` returns.
        inputs: keyword arguments of its forward, or the picture alone; see ``Model.prepare``.
        layers: which attention; see ``capture``.
        grid: (rows, columns) of patches to change, (frames, rows, columns) of a video; by default those of the layouts.
        picture: the argument that is the picture, (B, channels, height, width) or (B, frames, channels, height, width);
            by default the only one of that kind.

    Returns:
        A verdict for each self-attention; ``print`` it, or ask ``.holds`` and ``.layout``.

    Raises:
        InputError: no picture among the inputs (patches cut outside of the model are none), or several; a grid that
            does not divide it; values that are not finite; a model that cannot run on its inputs.
        LayoutError: no grid is known.
        CaptureError: as for ``capture``.

    Example:
        >>> import tokenrank as tr
        >>> model = tr.load()
        >>> check = tr.check_layout(model, model.prepare(tr.samples.path("coffee"), size=64), layers=-1)
        >>> check.holds, check.forwards
        (True, 14)
        >>> print(check.layout)
        cls 1, registers 4, image 5 × 8
    """
    root = root_module(model)
    given = {"": inputs} if isinstance(inputs, Tensor) else dict(inputs)
    name = picture_name(given, picture)
    probe = Probe(root, given, name, layers)
    records, queries = probe.records(), probe.queries(probe.picture)
    if len(records) != len(queries):
        raise LayoutError(
            f"{type(root).__name__} has {len(records)} self-attentions, and {len(queries)} where every token attends "
            "to itself alone, expected as many; such a model goes where its attention leads it"
        )
    grids = [grid] if grid is not None else list(dict.fromkeys(g for r in records if (g := _grid_of(r)) is not None))
    if not grids:
        reasons = [str(r.layout) for r in records if isinstance(r.layout, LayoutError)]
        raise LayoutError(
            f"no layer of {type(root).__name__} knows a grid of patches"
            f"{f' ({reasons[0]})' if reasons else ''}, expected one; say which, grid=(rows, columns)"
        )
    found: dict[int, LayerCheck] = {}
    structure = Structure(root)
    for one in grids:
        moves = decoded(probe, records, queries, one)
        for place, (record, moved) in enumerate(zip(records, moves, strict=True)):
            own = _grid_of(record)
            if grid is not None or own == one or (own is None and place not in found):
                found[place] = _judged(record, moved, one, structure, probe.doubts[place])
    return LayoutCheck(tuple(found[place] for place in sorted(found)), probe.forwards)


def _judged(record: AttentionRecord, moved: Moved, grid: Grid, structure: Structure, doubt: str) -> LayerCheck:
    tokens, strict = (
        torch.unique_consecutive(cells, dim=0) if len(record.shape) == 3 else cells
        for cells in (moved.cells, moved.strict)
    )
    layout, own = record.layout, _grid_of(record)
    seen = None if record.q is None else _seen(tokens, grid, structure)
    verdict: Verdict = "no layout"
    reason = ""
    if isinstance(layout, TokenLayout) and own is not None:
        wrong: Verdict = "unchecked" if doubt else "wrong"
        if own != grid:
            # every patch of another grid may have a token of its own: then that is the grid
            proof = None if doubt else _seen(strict, grid, structure)
            verdict = "other grid" if proof is None else "wrong"
            reason = f"its layout has {times(own)} patches, and grid= says {times(grid)}; leave grid= out"
        elif record.q is None:
            verdict = "unchecked"
        elif _agrees(layout, record.windows, tokens):
            verdict = "proved"
        elif bool((tokens == NONE).all()):
            verdict, doubt = "unchecked", "none of its tokens moves with the picture"
        elif _agrees(layout, record.windows, strict, except_for=MIXED):
            verdict, tokens = "unchecked" if doubt else "mixed", strict
        else:
            verdict = wrong
    elif bool((tokens == MIXED).any()):
        verdict = "unchecked" if doubt else "mixed"
    if verdict != "other grid":
        reason = doubt if verdict == "unchecked" else ""
    return LayerCheck(record.name, layout, verdict, seen, tokens, reason)


def _agrees(layout: TokenLayout, windows: Windows | None, tokens: Tensor, except_for: int | None = None) -> bool:
    """Whether every token moves with the patch that the layout names."""
    expected = _expected(layout, windows)
    if len(tokens) % len(expected) == 0:
        expected = expected.repeat(len(tokens) // len(expected), 1)
    return expected.shape == tokens.shape and bool(((tokens == expected) | (tokens == except_for)).all())


def _expected(layout: TokenLayout, windows: Windows | None) -> Tensor:
    """The patch of each token (R, N) by the layout."""
    patches = layout.indices(layout.picture)
    cells = torch.full((layout.num_tokens,), NONE)
    cells[patches] = torch.arange(len(patches))
    return cells[None] if windows is None else cells[windows.index.cpu()]


def _seen(tokens: Tensor, grid: Grid, structure: Structure) -> TokenLayout | None:
    """The layout that all rows show."""
    row = tokens[0]
    held = (row >= 0).nonzero().flatten()
    if bool((tokens != row).any()) or sorted(row[held].tolist()) != list(range(math.prod(grid))):
        return None
    if bool((row == MIXED).any()):
        return None
    picture = Seen(grid, tuple(held[row[held].argsort()].tolist()))
    return seen_layout(Tokens(len(row), (picture,)), structure.extras)


def _grid_of(record: AttentionRecord) -> Grid | None:
    layout = record.layout
    return next(iter(layout.grids.values())) if isinstance(layout, TokenLayout) and len(layout.grids) == 1 else None

"""Sheets: tokens that belong together, with all layers that attend among them, before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..chain import AttentionChain
from ..errors import InputError, LayoutError, escaped
from ..layout import TokenLayout
from ..observation import Observation
from ..observation.layers import SOUND, has_sound
from ..token_text import shortened, visible
from .crop import Seen, heard_sound, seen_picture
from .tokens import special_tokens, tokens_json, words_json

Kind = Literal["picture", "text", "both"]

NAME = 80
"""Characters of a sheet's name."""


@dataclass
class DraftLayer:
    """A layer at one step.

    Attributes:
        name: of the module.
        number: its place among the layers of the model.
        step: index in the sheet's steps.
        chain: (heads, N, N), all tokens, lazily.
    """

    name: str
    number: int
    step: int
    chain: AttentionChain


@dataclass
class Draft:
    """A sheet that is to be written; ``index.build`` takes those of a denoiser beside observations.

    Attributes:
        name: of the picture, or the beginning of the text.
        kind: "picture", "text", or "both".
        count: N.
        layout: which token is what; None where that is not known.
        layers: for every step, in the order of the model.
        picture: what the model saw; None for texts.
        steps: of a denoiser.
    """

    name: str
    kind: Kind
    count: int
    layout: TokenLayout | None
    layers: list[DraftLayer]
    picture: Seen | None = None
    steps: list[dict[str, Any]] = field(default_factory=lambda: [{"step": 0, "timestep": None}])

    @property
    def start(self) -> int | None:
        """The last word, for walks that only go back; None where there are no words."""
        others = set(special_tokens(self.layout)) | (set(self.cells) if self.kind != "text" else set())
        words = [i for i in range(self.count) if i not in others]
        return words[-1] if words and self.kind != "picture" else None

    @property
    def cells(self) -> list[int]:
        """Tokens that are looked at first: patches row by row, or the content of a text."""
        if self.layout is not None and len(self.layout.grids) == 1:
            return self.layout.indices(self.layout.picture)
        special = set(special_tokens(self.layout))
        return [i for i in range(self.count) if i not in special] or list(range(self.count))

    def as_json(self) -> dict[str, Any]:
        """The ``Sheet`` of the page without picture, start and layers, which need the blob."""
        layout, special = self.layout, special_tokens(self.layout)
        tokens = None if layout is None else tokens_json(layout)
        return {
            "name": shortened(visible(self.name), NAME),
            "kind": self.kind,
            "count": self.count,
            "spans": _spans(layout, self.count),
            "grid": _grid(layout),
            "picture": None,
            "tokens": tokens,
            "words": words_json(tokens, special) if self.kind != "picture" else [],
            "special": special,
            "start": 0,
            "steps": self.steps,
            "layers": [],
        }


def drafts_of(observation: Observation, name: str) -> list[Draft]:
    """The sheets of an observation: one, or where layers have different tokens (stages of a Swin) one for each kind.

    A sound is a picture of one row, its frames over its waveform.

    Raises:
        InputError: a video, or several pictures.
    """
    groups: dict[Any, list[DraftLayer]] = {}
    for number, layer in enumerate(observation.layers):
        chain = observation.head_chains(layer, tokens="all")
        groups.setdefault(_key(chain), []).append(DraftLayer(layer, number, 0, chain))
    drafts = [_draft(observation, name, layers) for layers in groups.values()]
    if len(drafts) > 1:
        for draft in drafts:
            draft.name = f"{draft.name}, {_what(draft)}"
    return drafts


def _draft(observation: Observation, name: str, layers: list[DraftLayer]) -> Draft:
    layout, count = layers[0].chain.layout, layers[0].chain.num_tokens
    if layout is not None and layout.grids:
        grid = _checked_grid(layout, layers[0].name)
        kind: Kind = "both" if _has_text(layout) else "picture"
        return Draft(name, kind, count, layout, layers, seen_picture(observation, grid))
    if layout is not None and has_sound(layout):
        one_row = replace(layout, grids={SOUND: (1, layout.spans[SOUND])})
        return Draft(name, "picture", count, one_row, layers, heard_sound(observation.sound))
    return Draft(name, "text", count, layout, layers)


def _what(draft: Draft) -> str:
    """What tells a sheet from the others of its observation."""
    if draft.layout is None or not draft.layout.grids:
        return f"{draft.count} tokens"
    grid = " × ".join(map(str, draft.layout.grids[draft.layout.picture]))
    others = draft.count - len(draft.cells)
    return f"{grid} and {others} more" if others else grid


def _checked_grid(layout: TokenLayout, layer: str) -> tuple[int, int]:
    if len(layout.grids) > 1:
        raise InputError(
            f"{layer!r} attends among {len(layout.grids)} pictures ({', '.join(map(repr, layout.grids))}), expected "
            "one: give the model one picture, or merge them in the layout, tr.observe(…, layout=tr.TokenLayout(…))"
        )
    grid = next(iter(layout.grids.values()))
    if len(grid) != 2:
        raise LayoutError(
            f"{layer!r} attends among {grid[0]} frames of {grid[1]} × {grid[2]} patches, a video, expected one "
            "picture: give one of its frames as a picture"
        )
    return grid


def _has_text(layout: TokenLayout) -> bool:
    """Whether words stand beside the picture."""
    if layout.tokens is not None:
        return True
    return any(name.startswith(("text", "prompt", "context")) for name in layout.spans)


def _key(chain: AttentionChain) -> Any:
    layout = chain.layout
    if layout is None:
        return chain.num_tokens
    return chain.num_tokens, tuple(layout.spans.items()), tuple(layout.grids.items()), layout.order


def _spans(layout: TokenLayout | None, count: int) -> list[dict[str, Any]]:
    if layout is None:
        return [{"name": "tokens", "first": 0, "count": count}]
    first, spans = 0, []
    for name, length in layout.spans.items():
        begin = first if layout.order is None else min(layout.indices(name))
        spans.append({"name": escaped(name, NAME), "first": begin, "count": length})
        first += length
    return spans


def _grid(layout: TokenLayout | None) -> dict[str, Any] | None:
    if layout is None or len(layout.grids) != 1:
        return None
    (*_, rows, columns), cells = layout.grids[layout.picture], layout.indices(layout.picture)
    order: Sequence[int] | None = None if cells == list(range(cells[0], cells[0] + len(cells))) else cells
    return {"first": cells[0], "rows": rows, "columns": columns, "order": order}

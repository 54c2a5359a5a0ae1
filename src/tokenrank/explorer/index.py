"""Index and blob of an explorer: what every host is made of, the HTML file, the widget and the ``.trx`` of a site.

    index, parts = build(tr.observe("cat.jpg"))
    index, parts = build([one, other], layers="all", heads=[0, 3], small=True, sources=["a.jpg", "b.jpg"])

``index`` is the ``Index`` of page/types.js, plain values that ``json.dumps`` takes. ``parts`` are the blob: first the
pictures and thumbnails of all layers, then a part for every layer that is stored; offsets in the index count from the
beginning of the first, and every part begins at a multiple of 16. ``blob.as_trx(index, parts)`` is the file of both.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from .. import __version__
from ..errors import InputError, TokenRankWarning, escaped
from ..observation import Observation
from ..progress import track
from ..select import Layers, layers_of
from .blob import LINE
from .budget import LIMIT, Form, HeadChoice, chosen_layers, html_bytes
from .file import html
from .layer import Written, write_layer
from .lines import Named, cure_of, named, without_folder
from .sheet import Draft, drafts_of

BOUNCES = 20
"""Of the slider, before ∞."""


def build(
    observations: Observation | Draft | Sequence[Observation | Draft],
    *,
    layers: Layers = None,
    heads: HeadChoice = None,
    small: bool = False,
    alpha: float = 0.99,
    limit: int = LIMIT,
    sources: Sequence[Any] | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], list[bytes]]:
    """The index and the parts of the blob.

    Args:
        observations: of pictures or texts, one or several; drafts of sheets beside them.
        layers: which are stored, as in ``obs.several_layers``, or "all"; None for as many as fit, evenly spaced and the
            last. The others have their numbers and thumbnails.
        heads: which are stored: None for all, one, or several. The others have their numbers.
        small: eight bits a number in place of sixteen.
        alpha: probability of following attention in TokenRank, from 0.5 to 0.999.
        limit: most bytes of the page as HTML, base64 and code counted.
        sources: what each observation was made from, for names and for the lines that make it again.
        options: what ``tr.observe`` was given beside them.

    Raises:
        InputError: what was asked for does not fit, with the numbers and what helps; several pictures among the tokens;
            an ``alpha`` out of range; nothing at all.
        LayoutError: a video. NotFoundError: no such layer or head.
        ChainError: what would be stored is not what was recorded.

    Warns:
        TokenRankWarning: a sheet is left out, since none of its layers fits.
    """
    if not 0.5 <= alpha <= 0.999:
        raise InputError(f"alpha = {alpha!r}, expected a probability of following attention from 0.5 to 0.999")
    given = [observations] if isinstance(observations, Observation | Draft) else list(observations)
    if not given:
        raise InputError("no observation was given, expected one at least")
    names = named(given, sources, options or {})
    drafts, asked, of = _drafts(given, names, layers)
    index = _index(given, names, alpha)
    index["python"] = [line for name in of for line in name.lines]
    index["sheets"] = [draft.as_json() for draft in drafts]
    thumbs = sum(len(draft.cells) * layer.chain.batch[-1] for draft in drafts for layer in draft.layers)
    pictures = sum(len(draft.picture.jpeg) for draft in drafts if draft.picture)
    rest = len(html(index, []).encode()) + _index_bytes(drafts) + html_bytes(thumbs + pictures)
    chosen = chosen_layers(drafts, asked, heads, small, limit, rest)
    kept = _with_layers(drafts, asked, chosen)
    index["python"] = [line for i in kept for line in of[i].lines]
    index["sheets"] = [index["sheets"][i] for i in kept]
    return _written(index, [drafts[i] for i in kept], [chosen[i] for i in kept], alpha)


def _drafts(
    given: Sequence[Observation | Draft], names: Sequence[Named], layers: Layers
) -> tuple[list[Draft], list[set[str] | None], list[Named]]:
    """All sheets, which of their layers were asked for, and what made each."""
    drafts: list[Draft] = []
    asked: list[set[str] | None] = []
    of: list[Named] = []
    for one, known in zip(given, names, strict=True):
        found = [one] if isinstance(one, Draft) else drafts_of(one, known.name)
        if layers is None:
            wanted = None
        elif isinstance(layers, str) and layers == "all":
            wanted = {layer.name for draft in found for layer in draft.layers}
        else:
            wanted = set(_several(one, layers))
        drafts += found
        asked += [wanted] * len(found)
        of += [known] * len(found)
    return drafts, asked, of


def _several(one: Observation | Draft, layers: Layers) -> Sequence[str]:
    if isinstance(one, Observation):
        return one.several_layers(layers)
    return layers_of(layers, list(dict.fromkeys(layer.name for layer in one.layers)))


def _index(given: Sequence[Observation | Draft], names: Sequence[Named], alpha: float) -> dict[str, Any]:
    """The index without its sheets."""
    found = dict.fromkeys(one.name for one in given if isinstance(one, Observation))
    models = map(without_folder, found)
    return {
        "format": "TRX1",
        "generator": f"tokenrank {__version__}",
        "title": names[0].name if len(names) == 1 else f"{names[0].name} and {len(names) - 1} more",
        "model": escaped(", ".join(models), 200),
        "alpha": alpha,
        "bounces": BOUNCES,
        "python": [],
        "cure": cure_of(names),
        "sheets": [],
    }


def _index_bytes(drafts: Sequence[Draft]) -> int:
    """What layers take in the index, not too little: numbers of heads, and groups of tokens where a layer is stored."""
    heads = sum(layer.chain.batch[-1] for draft in drafts for layer in draft.layers)
    each = sum(3000 + 7 * draft.count for draft in drafts for _ in draft.layers)
    return 260 * heads + each


def _with_layers(
    drafts: Sequence[Draft], asked: Sequence[set[str] | None], chosen: Sequence[dict[int, Form]]
) -> list[int]:
    """Which sheets have a layer that is stored."""
    for draft, names, forms in zip(drafts, asked, chosen, strict=True):
        if not forms and names is None:
            warnings.warn(
                f"{draft.name!r} is left out: none of its {len(draft.layers)} layers of {draft.count:,} tokens fits; "
                "take fewer heads (heads=, --heads), eight bits (small=True, --small) or a larger page (limit=)",
                TokenRankWarning,
                stacklevel=4,
            )
    return [place for place, forms in enumerate(chosen) if forms]


def _written(
    index: dict[str, Any], drafts: Sequence[Draft], chosen: Sequence[dict[int, Form]], alpha: float
) -> tuple[dict[str, Any], list[bytes]]:
    first, slices = bytearray(), []
    work = [(sheet, place) for sheet, draft in enumerate(drafts) for place in range(len(draft.layers))]
    places: dict[bytes, int] = {}  # stages of one network share their picture
    for sheet, draft in enumerate(drafts):
        if draft.picture is not None:
            seen = draft.picture
            at = places.setdefault(seen.jpeg, len(first))
            index["sheets"][sheet]["picture"] = {
                "mime": "image/jpeg",
                "bytes": [at, len(seen.jpeg)],
                "width": seen.width,
                "height": seen.height,
                "note": seen.note,
            }
            first += seen.jpeg if at == len(first) else b""
    with torch.no_grad():
        for sheet, place in track(work, "layers of the page"):
            draft = drafts[sheet]
            form = chosen[sheet].get(place)
            written = write_layer(draft.layers[place], draft.layout, form, alpha)
            written.entry["thumbs"] = [len(first), len(written.thumbs)]
            first += written.thumbs
            if written.slice is not None:
                slices.append((written.entry, written.slice))
                index["sheets"][sheet]["start"] = _start(draft, written)
            index["sheets"][sheet]["layers"].append(written.entry)
    parts = [_padded(bytes(first))]
    at = len(parts[0])
    for entry, slice in slices:
        entry["stored"]["bytes"] = [at, len(slice)]
        parts.append(_padded(slice))
        at += len(parts[-1])
    return index, parts


def _start(draft: Draft, written: Written) -> int:
    """Where a walk starts at first: the patch, or token of the content, with the largest TokenRank.

    Walks of causal chains only go back, to where most of it is: there the last word.
    """
    if written.entry["stored"]["causal"] and draft.start is not None:
        return draft.start
    return max(draft.cells, key=lambda token: float(written.rank[token]))


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % LINE)

"""``segment``: what belongs to a point, a box, a mask, CLS or a word, by multi-bounce attention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from ..chain import AttentionChain, TokenMap
from ..chain.core import Direction
from ..chain.foreground import ForegroundRule, foreground
from ..errors import InputError
from ..layout import Point, TokenLayout
from ..markov import Bounces
from ..observation import Observation
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import HEADS, SEED_LAYER, Heads, Layer
from .concepts import ConceptReading, Refine, segment_words
from .marks import Box, Place, fractions, mark_of
from .masks import Refinement, check_refinement, grid_of, part_at, refined
from .segmentation import Segmentation
from .strength import strengths, warn_if_faint

Places: TypeAlias = "Place | list[Place] | Mapping[str, Place]"


def segment(
    source: Source,
    start: Places | None = None,
    *,
    text: str | Sequence[str] | None = None,
    words: str | Sequence[str] | None = None,
    n: Bounces | None = None,
    layer: Layer = None,
    heads: Heads | None = None,
    direction: Direction | None = None,
    rule: ForegroundRule = "mean",
    component: bool = False,
    refine: Refinement | Refine = None,
    **reading: Unpack[ConceptReading],
) -> Segmentation:
    """Cut out what a walk from somewhere reaches within a few bounces.

    ::

        tr.tasks.segment("dog.jpg", tr.at(0.4, 0.6)).save("dog.png")

    A point, patch, box or mask walks on the picture's tokens alone (rows renormalised); a span such as "cls" or a
    word walks on all tokens, and the picture's part of the answer is taken and normalised.

    Args:
        source: a picture, or anything else that ``tr.observe`` takes and that holds one.
        start: where the walk begins: ``tr.at(x, y)``; the number of a patch; a box ``(x0, y0, x1, y1)``, a tuple of
            whole numbers in pixels or of fractions; a bool mask (H, W); ``"cls"`` or another span. A list, or a
            mapping from names, gives a label for each. The centre where neither start nor text is given.
        text: words instead, for attention that joins text and picture (FLUX, SD3, vision-language models): the
            layout must have token strings. Labels get their names.
        words: words of a denoiser's prompt, whose maps divide the picture: ``concept_maps(source, words, …)``, which
            has the defaults of n, layer, heads, direction and refine then, and takes its own options here, too
            (``layers``, ``calls``, ``cut``, ``padding``, ``alpha``). ``rule`` and ``component`` are of places.
        n: bounces, or "halflife", which finds their number; 2 where None, the paper's choice for segmentation.
        layer, heads: see ``tokenrank.select``; where None the last layer, and each head by the |λ2| of its chain on the
            tokens that are walked.
        direction: "forward" follows attention, "backward" walks to those that attend to the start. Forward where
            None, except from words: there backward, from the column of the word, as the paper's FLUX recipe.
        rule: "mean" keeps what is above the mean of the map at the picture's resolution; a number p keeps the fewest
            pixels that hold the share p of its mass; None keeps all (several starts divide the whole picture).
            Nothing stands out of a constant map.
        component: keep only the 4-connected part that holds the start (a point), or the largest value.
        refine: "guided" lets the map follow the picture's edges before it is cut
            (needs ``pip install 'tokenrank[refine]'``). With ``words`` see ``concept_maps``.
        **reading: what ``tr.observe`` takes beside the source: model, size, image, …

    Returns:
        Labels from 1 in the order of the starts, in pixels of ``Observation.size``: of the picture, of what the model
        was given, or one pixel a patch, whichever is known first. Where several claim a pixel the largest value wins;
        each map has sum one over the patches. Strengths say which stand out.

    Warns:
        NothingThereWarning: a label hardly stands out (``strengths``), such as one from a point of an even surface.

    Raises:
        InputError: a picture, place or argument that cannot be used. NotFoundError: no such model, layer, span or
            word. LayoutError, CaptureError: it is unknown which tokens are the picture.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025), multi-bounce attention.
    """
    if words is not None:
        _refuse_places(start, text, rule, component)
        own = {"layers": layer, "n": n, "heads": heads, "direction": direction, "refine": refine}
        given = {name: value for name, value in own.items() if value is not None}
        return segment_words(source, words, {**given, **reading})
    observation = observe(source, **cast("Reading", reading))
    n, heads = 2 if n is None else n, HEADS if heads is None else heads
    layer = SEED_LAYER if layer is None else layer
    grid = grid_of(observation.head_chains(layer))
    picture, size = observation.picture, observation.size
    check_refinement(cast("Refinement | None", refine), picture)
    places = _named(start, text)
    towards: Direction = direction or ("backward" if text is not None else "forward")
    scores, masks = [], []
    for place in track(places.values(), "walks from starts"):
        chain = observation.chain(layer, heads, "all" if isinstance(place, str) else None)
        values = start_map(chain, place, n, towards, size).upsample(size).double().cpu().numpy()
        if refine and picture is not None:
            values = refined(values, picture, grid)
        scores.append(values)
        mask = foreground(values, rule, axes=2)
        masks.append(part_at(mask, values, _cell(place, size)) if component else mask)
    labels, names = combined(scores, masks), ("background", *places)
    caption = _caption(observation, places.values(), layer, heads, f"n = {n}, {towards}, rule {rule}")
    found = strengths(observation, labels == np.arange(1, len(names))[:, None, None])
    if found is not None and rule is not None:
        weakest = min(range(len(found)), key=found.__getitem__)
        warn_if_faint(found[weakest], f"{names[1 + weakest]!r} of segment")
    starts = tuple(mark_of(place, grid, size) for place in places.values())
    return Segmentation(labels, names, np.stack(scores).astype(np.float32), picture, caption, found, starts)


def start_map(chain: AttentionChain, place: Place, n: Bounces, direction: Direction, size: tuple[int, int]) -> TokenMap:
    """The picture's part of n bounces from a place, normalised to sum one: (P,) values.

    Args:
        chain: (N, N); the picture's tokens alone, unless ``place`` is a span or a word.
        size: (height, width) of the picture, for boxes and masks in pixels.
    """
    grid = grid_of(chain)
    given: Any = place
    if isinstance(place, tuple):
        given = box_share(place, grid, size)
    elif isinstance(place, np.ndarray | Tensor):
        given = mask_share(place, grid, size)
    elif not isinstance(place, Point | int | str) or isinstance(place, bool):
        raise InputError(
            f"start {place!r}, expected tr.at(x, y), a patch, a box (x0, y0, x1, y1), a bool mask (H, W) or a span"
        )
    bounced = chain.bounce(given, n, direction)
    values = bounced.grid().flatten().double()
    if not float(values.sum()) > 0:
        raise InputError(f"no attention reaches the picture from {place!r} in {n} bounces; try another direction or n")
    return TokenMap(values / values.sum(), TokenLayout({"image": len(values)}, {"image": grid}))


def combined(scores: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Labels (H, W): 1 + the number of the largest score whose mask holds; 0 where none does."""
    inside = np.stack(masks)
    best = np.where(inside, np.stack(scores), -np.inf).argmax(0)
    return np.where(inside.any(0), best + 1, 0)


def box_share(box: Box, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A box as a distribution over patches, (P,): each by the area of it that the box covers.

    Args:
        box: see ``Box``.
        grid: (rows, columns).
        size: (height, width) of the picture in pixels.

    Raises:
        InputError: outside the picture, or empty.
    """
    x0, y0, x1, y1 = fractions(box, size)
    shares = _overlap(y0, y1, grid[0])[:, None] * _overlap(x0, x1, grid[1])
    return (shares / shares.sum()).flatten()


def mask_share(mask: np.ndarray | Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A bool mask (H, W) as a distribution over patches, (P,): each by the share of it that is inside.

    Raises:
        InputError: another type or size than the picture's, or empty.
    """
    given = torch.as_tensor(mask)
    if given.dtype != torch.bool or tuple(given.shape) != size:
        raise InputError(
            f"the mask has shape {tuple(given.shape)} and type {given.dtype}, expected bool {size}: one entry a pixel"
        )
    if not bool(given.any()):
        raise InputError("the mask is empty, expected one pixel inside at least")
    shares = F.adaptive_avg_pool2d(given.double()[None], grid).flatten()
    return shares / shares.sum()


def _refuse_places(start: object, text: object, rule: object, component: object) -> None:
    """Raise for what goes with places where words are given."""
    given = {"start": start is not None, "text": text is not None, "rule": rule != "mean", "component": component}
    for name, is_given in given.items():
        if is_given:
            raise InputError(
                f"both words and {name} are given; with words the maps say where each is: leave {name} out, and say "
                "cut= for what counts as background (tr.tasks.concept_maps)"
            )


def _named(start: Places | None, text: str | Sequence[str] | None) -> dict[str, Place]:
    if text is not None:
        if start is not None:
            raise InputError("both start and text are given, expected one of them")
        words = [text] if isinstance(text, str) else list(text)
        if not words:
            raise InputError("no word given, expected one at least")
        return {word: word for word in words}
    if start is None:
        return {"object": Point(0.5, 0.5)}
    if isinstance(start, Mapping):
        places = {str(name): place for name, place in start.items()}
    elif isinstance(start, list):
        places = {place if isinstance(place, str) else f"object {i}": place for i, place in enumerate(start, 1)}
    else:
        places = {start if isinstance(start, str) else "object": start}
    if not places:
        raise InputError("no start given, expected one at least")
    return places


def _cell(place: Place, size: tuple[int, int]) -> tuple[int, int] | None:
    """The pixel of a point, (row, column)."""
    if not isinstance(place, Point):
        return None
    return min(int(place.y * size[0]), size[0] - 1), min(int(place.x * size[1]), size[1] - 1)


def _caption(observation: Observation, places: Collection[Place], layer: Layer, heads: Heads, choice: str) -> str:
    """What was done, in words."""
    spans = [place for place in places if isinstance(place, str)]
    alone = len(spans) == len(places)
    walked = observation.describe(layer, heads, "all" if alone else None)
    also = f" (all from {', '.join(spans)})" if spans and not alone else ""
    return f"{observation.name}, {walked}{also}, {choice}"


def _overlap(begin: float, end: float, count: int) -> Tensor:
    """How much of each of ``count`` equal parts of the unit interval lies between two fractions."""
    edges = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    return (edges[1:].clamp(max=end) - edges[:-1].clamp(min=begin)).clamp(min=0)

"""``segment``: what belongs to a point, a box, a mask, CLS or a word, by multi-bounce attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import PIL.Image
from torch import Tensor

from ..chain import AttentionChain, TokenMap
from ..chain.core import Direction
from ..errors import InputError
from ..layout import Point
from ..markov import Bounces
from ..models import ImageSource, read_image
from .masks import Segmentation
from .places import Place, box_share, mask_share
from .sources import Heads, Source, grid_of, one_chain, picture_chains, picture_part

Threshold: TypeAlias = "Literal['mean'] | float | None"
Refine: TypeAlias = Literal["guided"]
Starts: TypeAlias = "Place | list[Place] | Mapping[str, Place]"


def segment(
    image: ImageSource,
    start: Starts | None = None,
    *,
    text: str | Sequence[str] | None = None,
    model: Source = "bundled",
    n: Bounces = 2,
    layer: int | str | None = None,
    heads: Heads = "lambda2",
    direction: Direction | None = None,
    rule: Threshold = "mean",
    component: bool = False,
    refine: Refine | None = None,
    size: int | None = None,
) -> Segmentation:
    """Cut out what a walk from somewhere reaches within a few bounces.

    ::

        tr.tasks.segment("dog.jpg", tr.at(0.4, 0.6)).save("dog.png")

    Args:
        image: the picture.
        start: where the walk begins: ``tr.at(x, y)``; the number of a patch; a box ``(x0, y0, x1, y1)``, a tuple of
            whole numbers in pixels or of fractions; a bool mask (H, W); ``"cls"`` or another span. A list, or a
            mapping from names, gives a label for each. The centre where neither start nor text is given.
        text: words instead, for attention that joins text and picture (FLUX, SD3, vision-language models): the
            layout must have token strings. Labels get their names.
        model: a name for ``tr.load``, a model, or attention that was captured already: an ``Observation``, a
            ``Trace`` or a chain. These are taken as they are, with ``image`` for its size and looks.
        n: bounces, or "halflife", which finds their number; 2 is the paper's choice for segmentation.
        layer: two thirds up the stack where None.
        heads: "lambda2" (by |λ2| of the chain that is walked), "uniform", or one head.
        direction: "forward" follows attention, "backward" walks to those that attend to the start. Forward where
            None, except from words: there backward, from the column of the word, as the paper's FLUX recipe.
        rule: "mean" keeps what is above the mean of the map at the picture's resolution; a number p keeps the fewest
            pixels that hold the share p of its mass; None keeps all (several starts divide the whole picture).
        component: keep only the 4-connected part that holds the start (a point), or the largest value.
        refine: "guided" lets the map follow the picture's edges before it is cut
            (needs ``pip install 'tokenrank[refine]'``).
        size: long side in pixels that the model gets.

    Returns:
        Labels from 1 in the order of the starts. Where several claim a pixel the largest value wins; each map has
        sum one over the patches.

    Raises:
        InputError: a picture, place or argument that cannot be used. NotFoundError: no such model, layer, span or
            word. LayoutError, CaptureError: it is unknown which tokens are the picture.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025), multi-bounce attention.
    """
    picture = read_image(image)
    chains = picture_chains(model, picture, layer, size)
    return segment_chain(
        next(iter(chains.values())), picture, start, text=text, n=n, heads=heads, direction=direction, rule=rule,
        component=component, refine=refine,
    )  # fmt: skip


def segment_chain(
    chain: AttentionChain,
    image: ImageSource | tuple[int, int],
    start: Starts | None = None,
    *,
    text: str | Sequence[str] | None = None,
    n: Bounces = 2,
    heads: Heads = "lambda2",
    direction: Direction | None = None,
    rule: Threshold = "mean",
    component: bool = False,
    refine: Refine | None = None,
) -> Segmentation:
    """``segment`` for one layer's chain (heads, N, N) or (N, N), whichever model it came from.

    A point, patch, box or mask walks on the picture's tokens alone (rows renormalised); a span such as "cls" or a
    word walks on all tokens, and the picture's part of the answer is taken and normalised.

    Args:
        image: the picture, or its (height, width) in pixels where nothing needs its looks.
        start, text, n, heads, direction, rule, component, refine: as in ``segment``.
    """
    picture, shape = _picture(image)
    if refine not in (None, "guided"):
        raise InputError(f"refine = {refine!r}, expected None or 'guided'")
    if refine and picture is None:
        raise InputError("refine='guided' follows the edges of the picture, but only its size was given")
    places = _named(start, text)
    towards: Direction = direction or ("backward" if text is not None else "forward")
    walked: dict[bool, AttentionChain] = {}
    scores, masks = [], []
    for place in places.values():
        full = isinstance(place, str)
        if full not in walked:
            walked[full] = one_chain(chain if full else picture_part(chain), heads)
        values = start_map(walked[full], place, n, towards, shape).upsample(shape).double().cpu().numpy()
        if refine:
            values = _refined(picture, values, grid_of(walked[full]))
        scores.append(values)
        mask = foreground(values, rule)
        masks.append(_component(mask, values, place) if component else mask)
    return Segmentation(combined(scores, masks), ("background", *places), np.stack(scores).astype(np.float32))


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
    found = chain.bounce(given, n, direction)
    values = found.grid().flatten().double()
    if not float(values.sum()) > 0:
        raise InputError(f"no attention reaches the picture from {place!r} in {n} bounces; try another direction or n")
    layout = picture_part(chain).layout
    return TokenMap(values / values.sum(), layout)


def foreground(values: np.ndarray, rule: Threshold = "mean") -> np.ndarray:
    """bool (H, W): what belongs to the object; see ``segment``.

    Raises:
        InputError: another rule.
    """
    if rule is None:
        return np.ones(values.shape, dtype=bool)
    if rule == "mean":
        return values > values.mean()
    if isinstance(rule, bool) or not isinstance(rule, int | float) or not 0 < rule <= 1:
        raise InputError(f"rule = {rule!r}, expected 'mean', a share of the mass in (0, 1], or None for all")
    order = np.argsort(-values, axis=None, kind="stable")
    mass = np.cumsum(values.ravel()[order])
    kept = np.zeros(values.size, dtype=bool)
    kept[order[: int(np.searchsorted(mass, rule * mass[-1] * (1 - 1e-12))) + 1]] = True
    return kept.reshape(values.shape)


def combined(scores: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Labels (H, W): 1 + the number of the largest score whose mask holds; 0 where none does."""
    inside = np.stack(masks)
    best = np.where(inside, np.stack(scores), -np.inf).argmax(0)
    return np.where(inside.any(0), best + 1, 0)


def _picture(image: ImageSource | tuple[int, int]) -> tuple[PIL.Image.Image | None, tuple[int, int]]:
    if isinstance(image, tuple):
        height, width = image
        if height < 1 or width < 1:
            raise InputError(f"the picture's size is {image}, expected (height, width) in pixels")
        return None, (int(height), int(width))
    picture = read_image(image)
    return picture, (picture.height, picture.width)


def _named(start: Starts | None, text: str | Sequence[str] | None) -> dict[str, Place]:
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


def _component(mask: np.ndarray, values: np.ndarray, place: Place) -> np.ndarray:
    from ..components import component_of

    row, column = (int(i) for i in np.unravel_index(int(values.argmax()), values.shape))
    if isinstance(place, Point):
        height, width = values.shape
        at = min(int(place.y * height), height - 1), min(int(place.x * width), width - 1)
        if mask[at]:  # otherwise the walk has left the place, and the largest value stands for it
            row, column = at
    return component_of(mask, row, column)


def _refined(picture: PIL.Image.Image | None, values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    from .refine import guided

    assert picture is not None
    # a patch: as far as an upsampled map can be from the edge that it means
    radius = max(2, round(max(side / count for side, count in zip(values.shape, grid, strict=True))))
    refined = guided(picture, values, radius=radius, eps=1e-3)
    return np.clip(np.asarray(refined), 0, None)  # a local linear fit may undershoot

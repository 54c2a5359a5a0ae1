"""From a model, a trace or a chain to chains over one picture: what tasks work on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import PIL.Image

from ..analysis import find_layer
from ..chain import AttentionChain
from ..errors import CaptureError, ChainError, InputError, LayoutError
from ..models import Model, load
from ..observation import Observation
from ..trace import Trace

Source: TypeAlias = "str | os.PathLike[str] | Model | Observation | Trace | AttentionChain"
Heads: TypeAlias = Literal["lambda2", "uniform"] | int


def picture_chains(
    source: Source,
    image: PIL.Image.Image | None,
    layers: int | str | Sequence[int | str] | None = None,
    size: int | None = None,
) -> dict[str, AttentionChain]:
    """Name of the layer → its chain (heads, N, N) or (N, N) over all tokens, with a layout that has one picture.

    Args:
        source: a name for ``tr.load`` or a model, which looks at ``image``; what was captured; or one chain.
        layers: one or several; where None, two thirds up the stack.
        size: long side in pixels that a model gets.

    Raises:
        InputError: no picture for a model, or a size for what ran already.
        NotFoundError: no such model or layer. CaptureError, LayoutError: no layer with a picture.
    """
    wanted = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    if isinstance(source, str | os.PathLike):
        source = load(source)
    if isinstance(source, Model):
        if image is None:
            raise InputError(f"model {source.name!r} was given no picture, only a size; give the picture")
        source = Observation(source, source.prepare(image, size))
    elif size is not None:
        raise InputError(f"size = {size} for attention that was captured already; leave size out")
    if isinstance(source, Observation):
        names = dict.fromkeys(source.layer_name(layer) for layer in wanted)
        return {name: source.full(name) for name in names}
    if isinstance(source, AttentionChain):
        if wanted != [None]:
            raise InputError(f"layers = {layers!r} for one chain, which is of one layer; leave layers out")
        return {"": _one_picture(source, "this chain")}
    found = _of_trace(source)
    names = dict.fromkeys(list(found)[find_layer(layer, list(found))] for layer in wanted)
    return {name: found[name] for name in names}


def one_chain(chain: AttentionChain, heads: Heads) -> AttentionChain:
    """Heads mixed, or one of them; a chain without heads as it is.

    Raises:
        ChainError: more leading dimensions than heads; another ``heads``.
    """
    while len(chain.batch) > 1 and chain.batch[0] == 1:
        chain = chain[0]
    if not chain.batch:
        return chain
    if len(chain.batch) > 1:
        raise ChainError(
            f"the chain has leading dimensions {tuple(chain.batch)}, expected heads alone; index the batch first"
        )
    if isinstance(heads, bool) or not (heads in ("lambda2", "uniform") or isinstance(heads, int)):
        raise InputError(f"heads = {heads!r}, expected 'lambda2', 'uniform' or the number of a head")
    return chain[heads] if isinstance(heads, int) else chain.aggregate(heads)


def picture_part(chain: AttentionChain) -> AttentionChain:
    """The picture's tokens alone, rows renormalised.

    Raises:
        LayoutError: it is unknown which tokens they are.
    """
    layout = _one_picture(chain, "this chain").layout
    assert layout is not None
    return chain if len(layout.spans) == 1 else chain.restrict(layout.picture)


def grid_of(chain: AttentionChain) -> tuple[int, int]:
    """(rows, columns) of the picture.

    Raises:
        LayoutError: none, or a video.
    """
    layout = _one_picture(chain, "this chain").layout
    assert layout is not None
    grid = layout.grids[layout.picture]
    if len(grid) != 2:
        raise LayoutError(f"the grid is {grid}, frames of a video; expected (rows, columns) of one picture")
    return grid


def _one_picture(chain: AttentionChain, name: str) -> AttentionChain:
    if chain.layout is None:
        raise LayoutError(
            f"it is unknown which of the {chain.num_tokens} tokens of {name} are the picture; give it a layout, such "
            "as tr.TokenLayout.image(rows, columns)"
        )
    chain.layout.picture  # noqa: B018  raises where there is none
    return chain


def _of_trace(trace: Trace) -> Mapping[str, AttentionChain]:
    found: dict[str, AttentionChain] = {}
    problem: Exception | None = None
    for place, record in enumerate(trace.records):
        name = record.name if record.name not in found else f"{record.name}#{place}"
        try:
            found[name] = _one_picture(trace[place], repr(name))
        except (CaptureError, LayoutError) as error:
            problem = problem or error
    if not found:
        raise problem or CaptureError("the trace is empty; run the model inside tr.capture")
    return found

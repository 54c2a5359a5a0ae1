"""``explore``: whatever can be observed, as an explorer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InputError, NotFoundError, nearest
from ..models.texts import is_path
from ..observation import Observation
from ..reading import Source, observe
from ..select import whole_number
from ..trace import Trace, load_trace
from .budget import LIMIT
from .explorer import Explorer
from .index import build
from .sheet import Draft
from .state import ALPHAS

if TYPE_CHECKING:
    from ..select import Layers

Explored: TypeAlias = "Source | Sequence[Source]"

TRACES = (".safetensors", ".npz")
"""How the names of files end that ``tr.load_trace`` is asked to read."""
LEAST = 100_000
"""Bytes below what no page can be."""


def explore(
    source: Explored,
    *,
    layers: Layers = None,
    heads: int | Sequence[int] | None = None,
    small: bool = False,
    size: int | None = None,
    alpha: float = 0.99,
    limit: int = LIMIT,
    title: str | None = None,
    **reading: Any,
) -> Explorer:
    """Attention that walks where a reader clicks: in a notebook, as one HTML file, or on a site.

    ::

        tr.explore("cat.jpg").save("cat.html")  # opens from the disk, asks nothing of a network
        tr.explore(["cat.jpg", "dog.jpg"], layers=[8, 11])  # two sheets; in a notebook it shows itself
        tr.explore("The cat sat on the mat because it was tired")
        obs.explore(), trace.explore(), trace.select(sample=0).explore()

    The page holds queries and keys of some layers, in which a reader can walk, and of all layers |λ2|, entropy, sinks
    and TokenRank of every head, which are computed here with their certificates. How far what is stored is from what
    was recorded is measured, too.

    Args:
        source: what ``tr.observe`` takes, an ``Observation``, a ``Trace``, a chain, the path of a trace
            (``.safetensors``, ``.npz``), or a list of them, one sheet each. A trace of a denoiser may hold many steps.
        layers: those in which one can walk: a number, a name, a glob, several of them, or "all"; where None as many as
            fit, evenly spaced, the last among them.
        heads: numbers of the heads in which one can walk; all where None.
        small: store a byte a number in place of two. The error is larger, measured and told.
        size: long side of pictures in pixels that the model gets.
        alpha: probability of following attention, 0.5 to 0.999: what the page begins with, and what its numbers are
            computed with.
        limit: most bytes of the page.
        title: of the page; the names of what is in it where None.
        reading: what ``tr.observe`` takes beside the source: ``model``, ``kind``, ``inputs``, …; of a denoiser's trace
            ``steps``, ``branch``, ``words``, ``text`` or ``prompt`` and ``tokenizer`` (``explorer.denoiser.draft_of``).
            ``picture`` is another name of ``image``: what is behind a trace, or was made by a denoiser.

    Raises:
        InputError: an option or a source that cannot be used; more bytes than the limit, with the numbers and what
            helps; attention that cannot be stored as it is.
        NotFoundError: no such model, layer, head or option.
        CaptureError: a trace of several samples (take one with trace.select) or of several forward calls.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025).
    """
    _check(heads, small, alpha, limit, title)
    sources = _listed(source)
    options = dict(reading) if size is None else {"size": size, **reading}
    if "picture" in options:
        options["image"] = options.pop("picture")
    chosen = heads if heads is None or _are_numbers(heads) else [heads]
    storing: dict[str, Any] = {"layers": layers, "heads": chosen, "small": small, "limit": limit}
    found = [_read(one, options, storing) for one in sources]
    index, parts = build(found, alpha=float(alpha), sources=sources, options=options, **storing)
    if title is not None:
        index["title"] = title
    return Explorer(index, parts)


def _read(source: Any, options: Mapping[str, Any], storing: Mapping[str, Any]) -> Observation | Draft:
    """What the page is made of; see ``explore``."""
    if isinstance(source, str | os.PathLike) and os.fspath(source).lower().endswith(TRACES) and is_path(source):
        source = load_trace(source)
    if not isinstance(source, Trace) or all(record.timestep is None for record in source.records):
        return observe(source, **options)
    from .denoiser import draft_of

    known = {name for name, of in inspect.signature(draft_of).parameters.items() if of.kind is of.KEYWORD_ONLY}
    known = known - set(storing) - {"picture"} | {"image"}
    given = {name: value for name, value in options.items() if (name, value) != ("model", "bundled")}
    for name in given:
        if name not in known:
            raise NotFoundError(f"no option {name!r} of a denoiser's trace; {nearest(name, sorted(known))}")
    more = {"picture" if name == "image" else name: value for name, value in given.items()}
    return draft_of(source, **more, **storing)


def _listed(source: Any) -> list[Any]:
    if not isinstance(source, list | tuple):
        return [source]
    if not source:
        raise InputError("the source is an empty list, expected one picture, text, trace or chain at least")
    for one in source:
        if isinstance(one, list | tuple):
            raise InputError("the source is a list that holds a list, expected pictures, texts, traces or chains in it")
    return list(source)


def _check(heads: Any, small: Any, alpha: Any, limit: Any, title: Any) -> None:
    """Refuse what would fail after the model has run."""
    if not (heads is None or whole_number(heads) is not None or _are_numbers(heads)):
        raise InputError(
            f"heads = {heads!r}, expected the number of a head, a list of numbers, or None for all; how heads are "
            "mixed is chosen in the page"
        )
    if not isinstance(small, bool):
        raise InputError(f"small = {small!r}, expected True for a byte a number, or False for two")
    least, most = ALPHAS
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not least <= alpha <= most:
        raise InputError(f"alpha = {alpha!r}, expected a probability from {least} to {most}, such as 0.99")
    number = whole_number(limit)
    if number is None or number < LEAST:
        raise InputError(f"limit = {limit!r}, expected most bytes of the page, from {LEAST:_} on, such as {LIMIT:_}")
    if title is not None and (not isinstance(title, str) or not title.strip()):
        raise InputError(f"title = {title!r}, expected some words, or None for the names of what is in the page")


def _are_numbers(heads: Any) -> bool:
    several = isinstance(heads, Sequence) and not isinstance(heads, str | bytes)
    return several and bool(heads) and all(whole_number(head) is not None for head in heads)

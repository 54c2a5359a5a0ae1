"""Methods that give a map for each of several words, by name: what the protocols of concept maps compare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from ...baselines import concepts as baselines
from ...errors import InputError, NotFoundError, nearest
from ...observation import Observation
from ...tasks.concepts import ConceptMaps, concept_maps
from ..methods import option_value

MAPS = "maps"
"""The name of ``tr.tasks.concept_maps`` among the methods."""


@dataclass(frozen=True)
class ConceptMethod:
    """A method with the options that were asked for.

    Attributes:
        name: as typed, options in order.
        run: (observation, words) → maps.
        outside: whether it compares the word with words outside of the prompt, which the protocol then adds; "all"
            where the word, too, gets a stream outside of the prompt.
        asks: nothing; as for other methods.
    """

    name: str
    run: Callable[[Observation, Sequence[str]], ConceptMaps] = field(repr=False)
    outside: bool | Literal["all"] = False
    asks: str = "nothing"


def parse_concepts(text: str) -> tuple[ConceptMethod, ...]:
    """Methods from "maps:refine=bounce:n=2:layers=9+10,raw_column".

    - maps: ``tr.tasks.concept_maps`` with its options; several layers with + between them.
    - the names of ``tr.baselines.concepts``, with theirs.
    - ``outside=yes``: the map is the word's share against words outside of the prompt (background, floor, …);
      ``outside=all``: the word is taken outside of the prompt, too, as ConceptAttention does.

    Raises:
        NotFoundError: no such method. InputError: an option that it does not have; no method; a name twice.
    """
    found = tuple(_parsed(part.strip()) for part in text.split(",") if part.strip())
    names = [method.name for method in found]
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods {names}, expected one at least, and none twice; such as {MAPS}:n=1,{MAPS}:n=2")
    return found


def concept_functions() -> dict[str, Callable[..., ConceptMaps]]:
    """Name → function of a source and words."""
    return {MAPS: concept_maps, **{name: getattr(baselines, name) for name in baselines.__all__}}


def _parsed(text: str) -> ConceptMethod:
    name, *assignments = text.split(":")
    functions = concept_functions()
    if name not in functions:
        raise NotFoundError(f"no method {name!r} of concept maps; {nearest(name, functions)}")
    known = [p.name for p in inspect.signature(functions[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    options: dict[str, Any] = {}
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        if not equals or option not in (*known, "outside"):
            told = ", ".join((*known, "outside"))
            raise InputError(f"method {name!r} has no option {assignment!r}; its options: {told}")
        options[option] = option_value(value)
    outside = options.pop("outside", False)
    if not isinstance(outside, bool) and outside != "all":
        raise InputError(f"outside={outside} of method {name!r}, expected yes, no or all")
    return ConceptMethod(text, partial(functions[name], **options), outside)

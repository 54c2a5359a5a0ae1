"""A picture divided by concept maps, with strengths as every segmentation has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from ...chain import AttentionChain
from ...observation import Observation
from ...reading import Reading, Source, observe
from ..segmentation import Segmentation
from ..strength import strengths, warn_if_faint
from .aggregate import Padding
from .concept_maps import concept_maps
from .maps import Cut
from .word_blocks import Calls, ConceptSource, is_chains


class ConceptReading(Reading, total=False):
    """What ``segment`` takes with ``words`` beside its own options."""

    calls: Calls
    cut: Cut
    padding: Padding
    alpha: float


OPTIONS = frozenset({"layers", "heads", "n", "direction", "refine", "calls", "cut", "padding", "alpha"})
"""Names of what ``concept_maps`` takes itself; all else is of ``tr.observe``."""


def segment_words(source: ConceptSource, words: str | Sequence[str], options: Mapping[str, Any]) -> Segmentation:
    """The pixels of each word by ``concept_maps``, and how much each stands out, where that can be known.

    Args:
        options: of ``concept_maps`` and of ``tr.observe``.
    """
    own = {name: value for name, value in options.items() if name in OPTIONS}
    reading: dict[str, Any] = {name: value for name, value in options.items() if name not in OPTIONS}
    seen: ConceptSource = source
    if not isinstance(source, AttentionChain) and not is_chains(source):
        seen, reading = observe(cast("Source", source), **reading), {}
    maps = concept_maps(seen, words, **own, **reading)
    found = maps.segmentation()
    if not isinstance(seen, Observation):
        return found
    judged = strengths(seen, found.labels == np.arange(1, len(found.names))[:, None, None])
    if judged is not None and maps.cut not in ("softmax", None):
        weakest = min(range(len(judged)), key=judged.__getitem__)
        warn_if_faint(judged[weakest], f"{maps.words[weakest]!r} of segment")
    return maps.segmentation(judged)

"""Protocols by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ...errors import InputError, NotFoundError, nearest
from .base import Protocol
from .concepts import ConceptSegmentation, VocConcepts
from .diffseg import DiffSeg
from .imagenet_segmentation import ImageNetSegmentation, VocSingle
from .masking import Masking
from .saliency import Saliency, Seed
from .segmentation import Clustering, Regions
from .several import Several

_CLASSES = (
    Saliency, Seed, ImageNetSegmentation, VocSingle, Several, Regions, Clustering, Masking, ConceptSegmentation,
    VocConcepts, DiffSeg,
)  # fmt: skip

PROTOCOLS: dict[str, type[Protocol]] = {protocol.name: protocol for protocol in _CLASSES}
"""Name → class."""


def find(name: str, **options: Any) -> Protocol:
    """A protocol by its name.

    Args:
        name: one of ``PROTOCOLS``.
        options: its fields.

    Raises:
        NotFoundError: no such protocol. InputError: an option that it does not have, or a value that does not fit.
    """
    if name not in PROTOCOLS:
        raise NotFoundError(f"no protocol {name!r}; {nearest(name, PROTOCOLS)}")
    protocol: Any = PROTOCOLS[name]
    known = [field.name for field in fields(protocol)]
    for option in options:
        if option not in known:
            raise InputError(f"protocol {name!r} has no option {option!r}; its options: {', '.join(known)}")
    return protocol(**options)

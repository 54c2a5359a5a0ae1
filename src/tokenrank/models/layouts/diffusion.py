"""Layouts of denoisers: latent patches, text beside them, or both in one sequence."""

from __future__ import annotations

import re

from torch import nn

from ...errors import LayoutError
from ...layout import TokenLayout
from ...recording import Evidence
from ..prefix import Extras
from .denoisers import denoiser_of, embedded_text, is_cross_attention, is_of_diffusers
from .parts import Part, joined, total
from .pictures import measured_grids, picture_readings
from .towers import path
from .words import ambiguous, cure, describe

# modules that refine one of the two before they are joined
_TEXT_ONLY = re.compile(r"context_refiner|token_refiner|context_embedder|caption|text_embed")
_PICTURE_ONLY = re.compile(r"noise_refiner")


def joint_layout(model: nn.Module, num_tokens: int, evidence: Evidence, name: str) -> TokenLayout | None:
    """The layout in a denoiser whose order of picture and text is known; None for any other model.

    Raises:
        LayoutError: its arguments do not tell the picture, or nothing known has ``num_tokens``
            tokens, or several do.
    """
    denoiser = denoiser_of(model)
    if denoiser is None:
        return None
    sequences = denoiser.sequences(model, evidence)
    if sequences is None:
        raise LayoutError(
            f"unknown layout of {num_tokens} tokens of {name!r}: the arguments that were kept of "
            f"{type(model).__name__} do not tell the picture's size: {list(evidence.inputs)}; "
            f"{cure(TokenLayout({'tokens': num_tokens}))}"
        )
    kinds = ["text"] if _TEXT_ONLY.search(name) else ["picture"] if _PICTURE_ONLY.search(name) else list(sequences)
    candidates = [parts for kind in kinds for parts in sequences[kind]]
    return _only(model, num_tokens, name, candidates)


def cross_layout(model: nn.Module, num_tokens: int, evidence: Evidence, name: str) -> TokenLayout | None:
    """The layout of the rows or of the columns of cross-attention from latents to text in a model of diffusers.

    None for any other attention, and where nothing known has ``num_tokens`` tokens.

    Raises:
        LayoutError: the picture and the text have equally many tokens.
    """
    if not is_of_diffusers(model) or not is_cross_attention(path(model, name)[0], name):
        return None
    texts = [joined(parts) for parts in embedded_text(model, evidence) if total(parts) == num_tokens]
    readings = texts + picture_readings(num_tokens, measured_grids(evidence), [Extras()])
    if len(readings) > 1:
        raise ambiguous(num_tokens, readings)
    return readings[0] if readings else None


def _only(model: nn.Module, num_tokens: int, name: str, candidates: list[list[Part]]) -> TokenLayout:
    readings: list[TokenLayout] = []
    for parts in candidates:
        if total(parts) == num_tokens and (layout := joined(parts)) not in readings:
            readings.append(layout)
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise ambiguous(num_tokens, readings)
    known = "; or ".join(dict.fromkeys(f"{total(p)}: {describe(joined(p))}" for p in candidates)) or "none"
    raise LayoutError(
        f"unknown layout of {num_tokens} tokens of {name!r}: {type(model).__name__} has sequences of {known}; "
        f"{cure(TokenLayout({'tokens': num_tokens}))}"
    )

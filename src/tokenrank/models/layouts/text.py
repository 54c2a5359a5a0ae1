"""Tokens of text: how many there are, what they say, which of them are special."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import LayoutError
from ...layout import TokenLayout
from .inputs import Inputs
from .words import ONE_SAMPLE

_ENCODER = ("input_ids",)
_DECODER = ("decoder_input_ids",)


def text_layout(tokenizer: Any, input_ids: Any) -> TokenLayout:
    """The layout of one text: span "text", with its token strings and special tokens.

    Args:
        tokenizer: of transformers, or anything with ``convert_ids_to_tokens`` and
            ``all_special_ids``.
        input_ids: (N,) or (1, N) whole numbers.

    Raises:
        LayoutError: several texts, no whole numbers, or none at all.
    """
    ids = torch.as_tensor(input_ids)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise LayoutError(f"input_ids are {ids.dtype}, expected whole numbers, as the tokenizer returns them")
    if ids.ndim not in (1, 2) or (ids.ndim == 2 and ids.shape[0] != 1) or not ids.numel():
        raise LayoutError(
            f"input_ids have shape {tuple(ids.shape)}, expected one text, (N,) or (1, N); take one of "
            "them: input_ids[0]"
        )
    row = ids.flatten().tolist()
    special = set(tokenizer.all_special_ids)
    strings = [str(token) for token in tokenizer.convert_ids_to_tokens(row)]
    return TokenLayout.text(strings, [place for place, i in enumerate(row) if i in special])


def text_lengths(inputs: Inputs, name: str = "") -> dict[str, int]:
    """Argument of token ids → number of tokens, of those that the attention ``name`` can have read.

    An encoder reads ``input_ids``. A decoder reads ``decoder_input_ids`` where there are any, and
    otherwise ``input_ids``; where nothing tells the two apart, both count.
    """
    known = {n: int(inputs[n].shape[-1]) for n in (*_ENCODER, *_DECODER) if _is_ids(inputs.get(n))}
    parts = name.split(".")
    if "decoder" in parts and not known.keys().isdisjoint(_DECODER):
        return {n: known[n] for n in _DECODER}
    if "encoder" in parts and "decoder" not in parts:
        return {n: known[n] for n in _ENCODER if n in known}
    return known


def agreeing_rows(ids: Tensor, what: str) -> Tensor:
    """The first of ``ids`` (B, N), which have to be alike in all samples.

    Raises:
        LayoutError: they differ.
    """
    rows = ids.reshape(-1, ids.shape[-1])
    if bool((rows != rows[0]).any()):
        other = int((rows != rows[0]).any(-1).nonzero()[0])
        raise LayoutError(
            f"{what} differ between the samples of the batch (0 and {other}), expected the same in all; {ONE_SAMPLE}"
        )
    return rows[0]


def _is_ids(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0

"""One layer as it is written: what is known of its heads, their TokenRank as small pictures, its slice and errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import ChainError
from ..layout import TokenLayout
from . import stored, weights
from .budget import Form
from .measured import Errors, measured
from .numbers import built, chain_numbers, head_numbers, head_ranks, thumbs
from .sheet import DraftLayer

LARGEST = {"int16": 0.02, "uint16": 0.02, "int8": 0.3, "uint8": 0.3}
"""Errors of an entry from which on a layer is not written."""


@dataclass(frozen=True)
class Written:
    """A layer, but for the places of its bytes.

    Attributes:
        entry: the ``Layer`` of the page, ``thumbs`` and ``stored.bytes`` not yet known.
        thumbs: TokenRank of every head, (heads, cells or tokens) bytes.
        slice: what is stored; None for a thumbnail only.
        rank: TokenRank of the heads that are kept, by |λ2|, (N,); of all where none is.
    """

    entry: dict[str, Any]
    thumbs: bytes
    slice: bytes | None
    rank: Tensor


def write_layer(layer: DraftLayer, layout: TokenLayout | None, form: Form | None, alpha: float) -> Written:
    """Everything about one layer.

    Args:
        layer: with its chain.
        layout: of the sheet.
        form: how it is stored, None for thumbnails only.
        alpha: of TokenRank.

    Raises:
        ChainError: what was stored is not what was recorded.
    """
    chain = built(layer.chain)
    ranks = head_ranks(chain, alpha)
    lambda2 = chain.lambda2(proved=False)
    heads = head_numbers(chain, alpha=alpha, lambda2=lambda2, ranks=ranks)
    kept = list(range(len(heads))) if form is None else form.heads
    share = mixture_weights(lambda2.values, kept)
    entry: dict[str, Any] = {
        "name": layer.name,
        "number": layer.number,
        "step": layer.step,
        "heads": [{**head, "kept": form is not None and place in kept} for place, head in enumerate(heads)],
        "thumbs": None,
        "stored": None,
        "chain": None,
    }
    slice = None
    if form is not None:
        slice, entry["stored"] = write_slice(layer.chain, form, alpha, layer.name, share, ranks)
        entry["chain"] = chain_numbers(_mixed(chain, kept, share), share.tolist())
    return Written(entry, thumbs(ranks, layout).numpy().tobytes(), slice, share @ ranks.cpu())


def write_slice(
    chain: AttentionChain, form: Form, alpha: float, name: str, share: Tensor, ranks: Tensor
) -> tuple[bytes, dict[str, Any]]:
    """The slice of a layer, and the ``Stored`` of the page without its place, with the errors that were measured.

    ``share``, (heads,), is the mixture by |λ2|: it and the even one are what a reader may look at beside single heads.
    ``ranks`` are TokenRank of all heads, (heads, N).

    Raises:
        ChainError: what is read from the slice is not what was recorded.
    """
    operator = chain.operator
    mixtures = [share[form.heads], torch.full((len(form.heads),), 1 / len(form.heads), dtype=torch.float64)]
    if form.kind == "qk":
        assert form.shape is not None
        assert form.type == "int16" or form.type == "int8"
        made = stored.factors(operator, form.heads)
        slice, shape = stored.encoded(made, form.type)
        back = stored.decoded(slice, shape, made.causal)
        errors = measured(
            operator,
            form.heads,
            partial(stored.attention, back),
            alpha,
            mixtures,
            ranks,
            partial(stored.attention, made),
        )
        size, key_heads, causal = shape.size, shape.key_heads, made.causal
    else:
        assert form.type == "uint16" or form.type == "uint8"
        whole, count = form.type, len(form.heads)
        slice = weights.encoded(operator, form.heads, whole)
        n = operator.num_tokens
        read = partial(weights.decoded, slice, n, whole)
        errors = measured(operator, form.heads, read, alpha, mixtures, ranks)
        size, key_heads, causal = 0, count, operator.structure == "lower"
    _check(errors, form, name)
    return slice, {
        "kind": form.kind,
        "type": form.type,
        "bytes": None,
        "size": size,
        "heads": form.heads,
        "keyHeads": key_heads,
        "causal": causal,
        "errors": errors.as_json(),
    }


def mixture_weights(moduli: Tensor, kept: list[int]) -> Tensor:
    """What each head of a layer counts for, (heads,) in float64: by |λ2|, zero where it is not in the page."""
    share = torch.zeros(len(moduli), dtype=torch.float64)
    share[kept] = moduli.double().cpu()[kept]
    if not bool((share > 0).any()):
        share[kept] = 1.0
    return share / share.sum()


def _mixed(chain: AttentionChain, kept: list[int], share: Tensor) -> AttentionChain:
    return chain[kept[0]] if len(kept) == 1 else chain[kept].aggregate(share[kept])


def _check(errors: Errors, form: Form, name: str) -> None:
    """No page with numbers that mean nothing: so many bits have to be enough for the logits."""
    most = LARGEST[form.type]
    if math.isnan(errors.entry) or errors.entry > most:
        cure = "16 bits, small=False" if form.type.endswith("8") else "the layer left out, with layers="
        raise ChainError(
            f"the attention of {name!r} as {form.type} is off by {errors.entry:.2g} in an entry, expected at most "
            f"{most}: its logits are too large for so few bits; take {cure}"
        )

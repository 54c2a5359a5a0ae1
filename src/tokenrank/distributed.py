"""Chains of sequences that are longer than one device: queries and keys stay where they are, spread over ranks."""

from __future__ import annotations

from torch import Tensor

from .chain import AttentionChain
from .layout import TokenLayout
from .operators.distributed import Ring, from_query_key, zigzag

__all__ = ["Ring", "from_qk", "zigzag"]


def from_qk(
    q: Tensor,
    k: Tensor,
    ring: Ring,
    scale: float | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    key_mask: Tensor | None = None,
    tokens: Tensor | None = None,
    layout: TokenLayout | None = None,
) -> AttentionChain:
    """``AttentionChain.from_qk`` of a sequence that is spread over ranks; called by all of them at the same time.

    Every method of the chain is then called by all ranks, too, and gives all of them the same answer, bit by bit.
    Starts, personalizations and answers are whole on every rank, N numbers a head; queries and keys stay where they
    are, and pass from rank to rank in products. Random starts are seeded, so that ranks agree on them.

    Args:
        q: this rank's queries, (*batch, heads, n_r, d), or a DTensor that is cut along its tokens (``Shard``). The n_r
            may differ, and be zero.
        k: this rank's keys, (*batch, heads or a divisor of it, n_r, d), likewise.
        ring: the ranks, see ``Ring``.
        scale: factor of the logits; 1/√d by default.
        mask: this rank's rows of a mask, bool (True may attend) or float (added), broadcastable to
            (*batch, heads, n_r, N).
        is_causal: token i sees tokens 0 … i.
        key_mask: a mask of keys (padding), bool or float: of all, broadcastable to (*batch, heads, N) and the same on
            every rank, or of this rank's, (*batch, heads, n_r).
        tokens: which tokens this rank has, increasing indices (n_r,); by default ranks follow each other. ``zigzag``
            gives all ranks the same work where chains are causal.
        layout: which token is what, of all N tokens; optional.

    Raises:
        ChainError: on every rank, naming the ranks: shapes, precisions, scales, masks that differ, a rank's tensors
            that are no queries and keys, a fully masked row.
        DistributedError: a rank does not answer within ``ring.timeout``.

    Example:
        Under ``torchrun --nproc-per-node 4`` (``examples/long_sequence.py``):

        >>> ring = tr.distributed.Ring(timeout=60)  # doctest: +SKIP
        >>> chain = tr.distributed.from_qk(q, k, ring, is_causal=True)  # doctest: +SKIP
        >>> chain.tokenrank().certificate  # doctest: +SKIP
    """
    return AttentionChain.from_operator(from_query_key(q, k, ring, scale, mask, is_causal, key_mask, tokens), layout)

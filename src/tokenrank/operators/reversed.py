"""Reversed chains, column-normalised: who attends to me."""

from __future__ import annotations

from ..errors import ChainError, which_chain
from .base import Measure, Operator
from .checks import OTHER_SAMPLE


def reverse(operator: Operator) -> Operator:
    """B[j, i] = A[i, j] / Σ_k A[k, j], in the form that the chain itself has.

    Attention from queries and keys becomes attention from keys and queries, a mixture of heads one whose shares depend
    on the token, a product one in the other order: each kind knows how to turn round with respect to a measure
    (``Operator.turn``), and only logarithms of column sums are taken, so that none is too small.

    Raises:
        ChainError: a token that nobody may attend to has no row in the reversed chain.
    """
    turned, image = operator.turn(Measure.even(operator))
    nowhere = image.hidden()
    if nowhere is not None:
        *chain, token = nowhere.expand(operator.shape[:-1]).nonzero()[0].tolist()
        raise ChainError(
            f"token {token} of {which_chain(chain, operator.batch)} is attended to by nobody, so that the reversed "
            f"chain has no row for it; restrict the chain to the other tokens first; {OTHER_SAMPLE}"
        )
    return turned

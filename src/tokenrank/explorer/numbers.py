"""Numbers of heads and of their mixture as the page shows them: certified here, never computed in a browser.

Three questions, answered in plain values for the index (``page/types.js`` names their fields):

- ``head_numbers(chain, alpha=…, lambda2=…, ranks=…)``: for every head of a layer; cheap enough for all layers.
- ``thumbs(ranks, layout)``: TokenRank of every head as a small picture.
- ``chain_numbers(mixed, weights)``: spectrum, groups and classes of a layer's heads mixed; for layers that are stored.

``head_ranks(chain, alpha)`` is TokenRank for the first two. ``chain`` is (heads, N, N) on all tokens, as
``obs.head_chains(layer, tokens="all")`` has them, ``mixed`` one chain (N, N) of the heads that are in the page.

Three words say what a number is worth: "proved" where the library bounds its error and the bound is small, "checked"
where a residual in double precision says so, "uncertain" otherwise. Doubt is told by them and not by warnings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import ChainError
from ..layout import TokenLayout
from ..markov import Certificate, Lambda2, Spectrum, classes, entropy_rate, spectrum
from ..markov import lambda2 as modulus
from ..markov.eigen.located import ERROR
from ..markov.sinks import outshining
from ..markov.stationary import stationary
from ..markov.support.irreducible import uniqueness
from ..operators import Operator
from .groups import class_words, groups

Word = Literal["proved", "checked", "uncertain"]

LEADING = 8  # eigenvalues in the page
RANK_TOLERANCE, RANK_APPLIES = 1e-6, 5000
ENTROPY_TOLERANCE = 1e-8  # residual of π: far below the four digits that are shown
DENSE_BYTES = 256 * 2**20  # of a mixture that is built once for all questions: 5,792 tokens in float64


def head_ranks(chain: AttentionChain, alpha: float = 0.99) -> Tensor:
    """TokenRank of every head, float64 (heads, N), as ``chain.tokenrank(alpha)`` has it, without its warnings."""
    even = torch.full((chain.num_tokens,), 1 / chain.num_tokens, dtype=torch.float64, device=chain.device)
    return stationary(chain.operator, float(alpha), even, RANK_TOLERANCE, RANK_APPLIES).values.double()


def head_numbers(
    chain: AttentionChain, *, alpha: float = 0.99, lambda2: Lambda2 | None = None, ranks: Tensor | None = None
) -> list[dict[str, Any]]:
    """|λ2|, entropy rate and sinks of every head: a ``Head`` of the page each, without ``kept``.

    Args:
        chain: (heads, N, N), all tokens.
        alpha: of TokenRank.
        lambda2: of these heads, where it is known; ``chain.lambda2(proved=False)`` otherwise.
        ranks: ``head_ranks(chain, alpha)``, where it is known.

    Returns:
        For every head: ``lambda2``, its ``certificate`` (a word) and ``bound`` (a number or None); ``entropy`` in bits
        (of the walk from an even start where there are several recurrent classes); ``sinks``, tokens that hold more
        than 30 % of its TokenRank and twice an even share (``markov.sinks.outshining``), and ``held``, what they hold
        together.
    """
    found = modulus(chain.operator, proved=False) if lambda2 is None else lambda2
    ranks = head_ranks(chain, alpha) if ranks is None else ranks
    bright, entropies = outshining(ranks), _entropies(chain.operator)
    words, bounds = certificate_words(found.certificate), _bounds(found.certificate)
    return [
        {
            "lambda2": float(found.values[head]),
            "certificate": words[head],
            "bound": bounds[head],
            "entropy": entropies[head],
            "sinks": bright[head].nonzero()[:, 0].tolist(),
            "held": float(ranks[head][bright[head]].sum()),
        }
        for head in range(chain.batch[-1])
    ]


def thumbs(ranks: Tensor, layout: TokenLayout | None) -> Tensor:
    """TokenRank of heads as small pictures, uint8 (heads, cells or tokens): √(p / largest), 255 for the largest.

    A cell that outshines the others is left out of the largest, as on the board of ``tokenrank.view``, and is 255
    itself: otherwise a head with a sink has no other colour left.

    Args:
        ranks: (heads, N).
        layout: with a picture its patches are taken, row by row; otherwise all tokens.
    """
    if layout is not None and len(layout.grids) == 1:
        ranks = ranks[:, layout.indices(layout.picture)]
    bright = outshining(ranks)
    rest = ranks.masked_fill(bright, 0.0)
    largest = rest.amax(-1, keepdim=True)
    shown = torch.where(bright, 1.0, (rest / largest.clamp(min=torch.finfo(torch.float64).tiny)).sqrt())
    return (255 * shown).round().to(torch.uint8).cpu()


def chain_numbers(mixed: AttentionChain, weights: Sequence[float]) -> dict[str, Any]:
    """Everything that the page says of a layer's heads as one chain: a ``Chain`` of the page.

    Args:
        mixed: (N, N): the heads that are in the page, each by its weight, all tokens.
        weights: of every head of the layer in the mixture, zero for those that are not in the page; sum one.

    Returns:
        ``lambda2`` with its ``certificate``, ``unique``, ``spectrum``, ``groups``, ``classes``, ``mixture``.

    Raises:
        ChainError: not one chain, or weights that do not sum to one.
    """
    if mixed.batch:
        raise ChainError(f"the chain has shape {tuple(mixed.shape)}, expected one mixed chain (N, N)")
    if not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ChainError(f"the weights of the heads sum to {sum(weights):.6g}, expected one")
    exact = classes(mixed.operator)  # of the operator itself: weights that underflow are no zeros
    chain = built(mixed)
    found, slow = chain.lambda2(), spectrum(chain.operator, LEADING)
    recurrent = exact.recurrent[exact.valid]
    return {
        "lambda2": float(found.values),
        "certificate": certificate_words(found.certificate)[0],
        "unique": int(recurrent.sum()) == 1 and int(exact.period[recurrent.nonzero()[0, 0]]) == 1,
        "spectrum": _spectrum(slow),
        "groups": groups(chain, slow, float(found.values)),
        "classes": class_words(exact, mixed.is_causal),
        "mixture": {"weights": [float(weight) for weight in weights]},
    }


def certificate_words(certificate: Certificate) -> list[Word]:
    """What each of several numbers is worth, in the order of the flattened batch."""
    doubt, bounds = certificate.uncertain.reshape(-1).tolist(), _bounds(certificate)
    return [
        "uncertain" if doubted else "checked" if bound is None or bound > ERROR else "proved"
        for doubted, bound in zip(doubt, bounds, strict=True)
    ]


def _bounds(certificate: Certificate) -> list[float | None]:
    """Proved errors, None where nothing is proved."""
    if certificate.error_bound is None:
        return [None] * certificate.converged.numel()
    return [bound if math.isfinite(bound) else None for bound in certificate.error_bound.reshape(-1).tolist()]


def _entropies(operator: Operator) -> list[float]:
    """Entropy rates of heads in bits; with several recurrent classes that of the walk from an even start."""
    single = uniqueness(operator)
    nats = torch.zeros(len(single), dtype=torch.float64)
    for known in (True, False):
        some = (single == known).nonzero()[:, 0]
        if not len(some):
            continue
        part = operator if len(some) == len(single) else operator.index(some)
        if known:
            nats[some] = entropy_rate(part, ENTROPY_TOLERANCE).values.cpu()
            continue
        even = torch.full((operator.num_tokens,), 1 / operator.num_tokens, dtype=torch.float64, device=operator.device)
        ends = stationary(part, 1.0, even, ENTROPY_TOLERANCE, RANK_APPLIES).values.double()
        nats[some] = (ends * part.row_entropies(torch.float64)).sum(-1).cpu()
    bits: list[float] = (nats / math.log(2)).tolist()
    return bits


def _spectrum(slow: Spectrum) -> list[dict[str, Any]]:
    """The leading eigenvalues; one more than ``LEADING`` where a conjugate pair would be cut. λ₁ = 1 needs no proof."""
    count = int(slow.count)
    word = certificate_words(slow.certificate)[0]
    values, residuals = slow.values[:count].tolist(), slow.right_residual[:count].tolist()
    return [
        {
            "real": value.real,
            "imaginary": value.imag,
            "certificate": "proved" if place == 0 else word,
            "residual": None if place == 0 else residual,
        }
        for place, (value, residual) in enumerate(zip(values, residuals, strict=True))
    ]


def built(mixed: AttentionChain) -> AttentionChain:
    """The same chain as a matrix in double precision where that fits: several questions are asked of it."""
    if mixed.batch.numel() * mixed.num_tokens**2 * 8 > DENSE_BYTES:
        return mixed
    weights = mixed.operator.to_dense(torch.float64)
    lost = bool(((weights == 0) & mixed.operator.support()).any())  # as zeros they would make classes of their own
    return mixed if lost else AttentionChain(weights)

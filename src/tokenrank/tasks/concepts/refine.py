"""From a word to the picture: raw attention, bounces, TokenRank, metastable states, absorption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ...chain import AttentionChain
from ...chain.core import Direction
from ...errors import ChainError, InputError
from ...markov import Certificate
from ...operators import Operator
from ...operators.base import Measure
from ...select import whole_number
from .aggregate import Aggregated

Refine: TypeAlias = "Literal['bounce', 'tokenrank', 'metastable', 'absorption'] | None"
REFINES: tuple[Refine, ...] = ("bounce", "tokenrank", "metastable", "absorption", None)

FAINT = {torch.float64: 1e-280, torch.float32: 1e-25}  # column sums below which a quotient loses its digits


def refined(
    of: Aggregated, words: Sequence[str], refine: Refine, n: int, direction: Direction, alpha: float
) -> tuple[Tensor, Certificate | None]:
    """Maps of all words, float64 (W, P), and what they are worth.

    Args:
        of: the chain.
        words: their names, for errors.
        refine: see ``concept_maps``.
        n: bounces of "bounce" and "metastable".
        direction: "backward" from the column of a word, "forward" from its row.
        alpha: of "tokenrank".

    Returns:
        Distributions over the picture's tokens; of "absorption" probabilities of ending in each word.

    Raises:
        InputError: another ``refine`` or n; no attention between a word and the picture; words that share a token, or
            one word alone, for "absorption".
    """
    _check(refine, n, direction)
    start = _starts(of)
    certificate = None
    if refine == "absorption":
        return _absorbed(of, words)
    if refine == "tokenrank":
        values, certificate = _ranked(of, start, direction, alpha)
    elif refine is None:
        operator = of.chain.operator
        values = (operator.matmul(start) if direction == "backward" else operator.rmatmul(start)).double()
    else:
        values = bounced(of.chain.operator, start, n, direction, measures(of))
    maps = _distributions(values[list(of.picture)].mT, words, direction)
    if refine == "metastable":
        maps, certificate = _of_states(of.chain, of.picture, maps)
    return maps.cpu(), certificate


def bounced(operator: Operator, start: Tensor, n: int, direction: Direction, measure: Tensor | None = None) -> Tensor:
    """n bounces of several walks at once, float64 (N, W), at one apply a bounce.

    Backward bounces walk the chain reversed with respect to a measure μ, B[j, i] = μ_i A[i, j] / (μA)_j, that of
    ``chain.bounce`` where μ is even: u ← μ A (u / μA). The image μA takes one apply more. Where it is too small for
    that quotient, B is made from logarithms, which costs several applies.

    Args:
        operator: A, (N, N).
        start: distributions in the columns, (N, W), in the precision to walk in.
        measure: μ of each walk, (N, W), positive; even where None.
    """
    x = start
    if direction == "forward":
        for _ in range(n):
            x = operator.rmatmul(x)
        return x.double()
    weights = torch.ones_like(x) if measure is None else measure.to(x)
    image = operator.rmatmul(weights)
    for _ in range(n):
        if bool((image[x > 0] < FAINT[x.dtype]).any()):
            columns = zip(start.T, weights.T, strict=True)
            found = [bounced(reversed_by(operator, own), one[:, None], n, "forward") for one, own in columns]
            return torch.cat(found, -1)
        x = weights * operator.matmul(torch.where(x > 0, x / image, 0.0))
    return x.double()


def reversed_by(operator: Operator, measure: Tensor) -> Operator:
    """The chain reversed with respect to a positive measure (N,); that of ``reverse`` where it is even."""
    log = measure.double().log()
    return operator.turn(Measure(log, log.new_zeros(())))[0]


def measures(of: Aggregated) -> Tensor:
    """What each token counts for in the reversed chain of each word, (N, W): a word is one token, however cut.

    One for every token, 1/k for each of the k tokens of the word: so that a map does not depend on how the tokenizer
    cuts its word.
    """
    chain = of.chain
    counts = torch.ones(chain.num_tokens, len(of.words), dtype=chain.dtype, device=chain.device)
    for column, tokens in enumerate(of.words):
        counts[list(tokens), column] = 1 / len(tokens)
    return counts


def _starts(of: Aggregated) -> Tensor:
    """Even mass on all tokens of each word, (N, W)."""
    chain = of.chain
    start = torch.zeros(chain.num_tokens, len(of.words), dtype=chain.dtype, device=chain.device)
    for column, tokens in enumerate(of.words):
        start[list(tokens), column] = 1 / len(tokens)
    return start


def _ranked(of: Aggregated, start: Tensor, direction: Direction, alpha: float) -> tuple[Tensor, Certificate]:
    if alpha == 0:
        raise InputError(
            "alpha = 0 with refine='tokenrank': the walk never leaves the word, expected above 0 and at most 1"
        )
    chain, even = of.chain, None
    answers = []
    for column, own in zip(start.T, measures(of).T, strict=True):
        towards = chain
        if direction == "backward" and bool((own == 1).all()):
            even = even or AttentionChain.from_operator(reversed_by(chain.operator, own))
            towards = even
        elif direction == "backward":
            towards = AttentionChain.from_operator(reversed_by(chain.operator, own))
        answers.append(towards.tokenrank(alpha, personalization=column.double()))
    values = torch.stack([answer.values for answer in answers], -1)
    return values, joined([answer.certificate for answer in answers if answer.certificate is not None])


def joined(parts: Sequence[Certificate]) -> Certificate:
    """One certificate (W,) of answers that were found one after the other."""
    bounds = [part.error_bound for part in parts if part.error_bound is not None]
    return Certificate(
        torch.stack([part.converged.reshape(()) for part in parts]),
        torch.stack([part.residual.reshape(()) for part in parts]),
        torch.stack([bound.reshape(()) for bound in bounds]) if len(bounds) == len(parts) else None,
        max(part.applies for part in parts),
        parts[0].method,
        torch.stack([part.uncertain.reshape(()) for part in parts]),
        parts[0].about,
    )


def _of_states(chain: AttentionChain, picture: Sequence[int], maps: Tensor) -> tuple[Tensor, Certificate]:
    """Each patch gets what its metastable states hold of the word, by its memberships.

    With memberships χ of the picture's own chain and a word's map u: χ diag(χᵀ1)⁻¹ χᵀ u, which again sums to one.
    """
    states = chain.restrict(list(picture)).metastable()
    members = states.values[..., : int(states.count)].to(maps.device)
    held = (maps @ members) / members.sum(0)
    certificate = states.certificate
    return held @ members.mT, certificate


def _absorbed(of: Aggregated, words: Sequence[str]) -> tuple[Tensor, Certificate]:
    """Probability that a walk from each patch is on a word of each before any other, (W, P)."""
    seen: dict[int, str] = {}
    for word, tokens in zip(words, of.words, strict=True):
        for token in tokens:
            if token in seen:
                raise InputError(
                    f"words {seen[token]!r} and {word!r} share a token, expected words apart for refine='absorption': "
                    "a walk ends in one of them; leave one out, or take refine='bounce'"
                )
            seen[token] = word
    if len(words) < 2 and not of.absorbing:
        raise InputError(
            f"refine='absorption' with the word {words[0]!r} alone: every walk ends there, expected two words at "
            "least; add one for the background"
        )
    targets = {word: list(tokens) for word, tokens in zip(words, of.words, strict=True)}
    if of.absorbing:  # other words hold walks, too
        others = set(range(of.chain.num_tokens)) - set(of.picture) - set(seen)
        targets |= {f"other text {token}": [token] for token in sorted(others)}
    answer = of.chain.absorption(targets)
    return answer.values[list(of.picture), : len(words)].mT.cpu(), answer.certificate


def _distributions(maps: Tensor, words: Sequence[str], direction: Direction) -> Tensor:
    mass = maps.clamp(min=0).sum(-1, keepdim=True)
    for word, own in zip(words, mass[:, 0].tolist(), strict=True):
        if not own > 0:
            other = "backward" if direction == "forward" else "forward"
            raise InputError(
                f"no attention between {word!r} and the picture, {direction}: its map would be empty; take "
                f"direction={other!r}, or another layer"
            )
    return maps.clamp(min=0) / mass


def _check(refine: object, n: object, direction: object) -> None:
    if refine not in REFINES:
        raise InputError(f"refine = {refine!r}, expected one of {', '.join(map(repr, REFINES))}")
    number = whole_number(n)
    if number is None or number < 1:
        raise InputError(f"n = {n!r} bounces, expected a whole number from 1")
    if direction not in ("forward", "backward"):
        raise ChainError(f"direction = {direction!r}, expected 'forward' or 'backward'")

"""Stationary distributions, all of them: one for every recurrent class, and their mixtures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Dense, Operator, restrict
from .certificate import Certificate
from .classes import Classes, classes
from .engine import constants
from .engine.batching import told_groups
from .engine.refine import checked_effort
from .recurrent import ORDER, Recurrent, lost_in_rows, lost_steps, stationary_of
from .result import Result


@dataclass(frozen=True, repr=False)
class StationaryDistributions(Result):
    """The extreme stationary distributions of every chain; C is the largest number of any of them.

    Attributes:
        values: float64 (*batch, C, N): row c is the one stationary distribution on the c-th recurrent class, in
            the order of the class labels; 0 off the class, and 0 throughout beyond ``count``.
        count: number of recurrent classes, (*batch).
        certificate: ``converged`` bool, ``residual`` ‖πᵀA − πᵀ‖₁ in float64, ``error_bound`` of ‖π − exact‖₁ and
            ``uncertain``, (*batch, C); beyond ``count`` converged with residual and bound 0. The residual alone says
            nothing about a chain whose gap 1 − |λ2| is of its size: bounds are those of elimination, or of what all
            rows have in common, and inf where neither proves anything. The answer is uncertain there, unless a gap
            was seen that excludes an error beyond 1e-3.
        classes: the classes of all tokens, transient ones too.
    """

    AXES = ("class", "token")
    OVER_TOKENS = (("values", -1),)
    LABELS = (
        ("values", "π of each class"),
        ("count", "recurrent classes"),
    )

    values: Tensor
    count: Tensor
    certificate: Certificate
    classes: Classes

    @property
    def unique(self) -> Tensor:
        """Whether the chain has one stationary distribution only, bool (*batch)."""
        return self.count == 1


def stationary_distributions(
    operator: Operator, tol: float = 1e-10, max_applies: int = 5000
) -> StationaryDistributions:
    """Every stationary distribution of a chain is a mixture of these: one for each recurrent class.

    Args:
        operator: (*batch, N, N).
        tol: residual that counts as converged.
        max_applies: attention applications allowed for each class that is iterated.

    A recurrent class is a chain of its own, since no step leads out. A single token has all the mass (residual 0).
    Classes of up to 1,024 tokens are eliminated, accurate entry by entry even where the chain is nearly reducible, and
    periodic or not. Larger ones are iterated as ``stationary`` does, which takes the more applies the longer the
    period; those of up to 4,096 tokens are eliminated as well if 256 applies do not do, or prove nothing. On the device
    path only classes that are eliminated are built in double precision (8 N² bytes a head); others are iterated by
    products with the chain as it is.
    The answer takes O(C N) memory a chain.

    Raises:
        ChainError: a tolerance or a number of applies that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960); Berman and Plemmons, "Nonnegative Matrices in the
    Mathematical Sciences" (1979), chapter 8.
    """
    checked_effort(tol, max_applies)
    return extreme_distributions(operator, classes(operator), tol, max_applies)


def extreme_distributions(
    operator: Operator, found: Classes, tol: float, max_applies: int, start: Tensor | None = None
) -> StationaryDistributions:
    """``stationary_distributions``, with the classes known; iterating begins at ``start`` (*batch, N), or evenly."""
    n, device, flat = operator.num_tokens, operator.device, operator.reshape(math.prod(operator.batch))
    labels, recurrent = (t.reshape(-1, t.shape[-1]) for t in (found.values, found.recurrent))
    place = recurrent.cumsum(-1) - 1  # of a class among the recurrent ones
    width = int(found.recurrent_count.max())
    values = torch.zeros(len(labels), width, n, dtype=torch.float64, device=device)
    residual, bound = torch.zeros(2, len(labels), width, dtype=torch.float64, device=device).unbind()
    uncertain = torch.zeros(len(labels), width, dtype=torch.bool, device=device)
    size = torch.zeros_like(recurrent, dtype=torch.int64).scatter_add_(-1, labels, torch.ones_like(labels))
    head, token = (recurrent & (size == 1)).gather(-1, labels).nonzero().unbind(-1)
    values[head, place[head, labels[head, token]], token] = 1.0
    applies, method = 0, "none"
    several = (recurrent & (size > 1)).nonzero()
    if len(several):
        errors = operator.entry_error(torch.float64).reshape(-1)
        begin = None if start is None else start.expand(operator.shape[:-1]).reshape(-1, n)
        for part, group in _groups(operator):
            of_group = several[(several[:, 0] >= part.start) & (several[:, 0] < part.stop)]
            if not len(of_group):
                continue
            lost = torch.zeros(group.shape[0], dtype=torch.bool, device=device)
            if isinstance(group, Dense):
                lost = lost_steps(flat.index(part), group.weights)
            elif n <= constants.CLASS_STUBBORN:  # it may be eliminated yet
                lost = lost_in_rows(group)
            for tokens, of_class in _alike(of_group, labels):
                head, slot = of_class[:, 0], place[of_class[:, 0], of_class[:, 1]]
                asked = _Asked(errors[head], lost[head - part.start], _begin(begin, head, tokens, n))
                answer = _solve(group, head - part.start, tokens, asked, tol, max_applies)
                values[head[:, None], slot[:, None], tokens] = answer.values
                residual[head, slot], bound[head, slot] = answer.residual, answer.bound
                uncertain[head, slot] = answer.uncertain
                applies, method = max(applies, answer.applies), max(method, answer.method, key=ORDER.index)
    residual, bound, uncertain = (t.reshape(*operator.batch, width) for t in (residual, bound, uncertain))
    converged = residual <= tol
    return StationaryDistributions(
        values=values.reshape(*operator.batch, width, n),
        count=found.recurrent_count,
        certificate=Certificate(converged, residual, bound, applies, method, ~converged | uncertain, operator.source),
        classes=found,
    )


def _groups(operator: Operator) -> Iterable[tuple[slice, Operator]]:
    """Heads in groups, in double precision where they are eliminated or stay in a cache of the host.

    On the device path no head of more tokens than are eliminated at once is built: it is iterated as it is, and built
    only if that proves too little, up to ``constants.CLASS_STUBBORN`` tokens.
    """
    n = operator.num_tokens
    large = n > constants.CLASS_DIRECT
    if large and operator.path == "device":
        heads = math.prod(operator.batch)
        return [(slice(0, heads), operator.reshape(heads))]
    alone = large and operator.device.type == "cpu"
    return told_groups(operator, torch.float64, "TokenRank", constants.HEAD_BYTES if alone else None)


@dataclass(frozen=True)
class _Asked:
    """What is known of some heads before they are solved: see ``stationary_of``."""

    entry_error: Tensor
    lost: Tensor
    start: Tensor


def _begin(start: Tensor | None, heads: Tensor, tokens: Tensor, n: int) -> Tensor:
    """Where iterating begins on some tokens, (h, M); evenly where nothing is said, or no mass is on them."""
    m = len(tokens)
    even = torch.full((len(heads), m), 1 / m, dtype=torch.float64, device=heads.device)
    if start is None:
        return even
    part = start[heads][:, tokens] if m < n else start[heads]
    mass = part.sum(-1, keepdim=True)
    return torch.where(mass > 0, part / mass.clamp(min=constants.TINY), even)


def _alike(several: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Classes (k, 2) of head and label of the same tokens: these, and the classes."""
    alike = defaultdict(list)
    for row in several:
        inside = labels[row[0]] == row[1]
        alike[inside.cpu().numpy().tobytes()].append((row, inside))
    for rows in alike.values():
        yield rows[0][1].nonzero()[:, 0], torch.stack([row for row, _ in rows])


def _solve(operator: Operator, heads: Tensor, tokens: Tensor, asked: _Asked, tol: float, max_applies: int) -> Recurrent:
    n, m = operator.num_tokens, len(tokens)
    parts = []
    few = max(1, constants.DENSE_BYTES // (8 * m * m)) if m <= constants.CLASS_STUBBORN else len(heads)
    for which in torch.arange(len(heads), device=heads.device).split(few):
        some, error = heads[which], asked.entry_error[which]
        if isinstance(operator, Dense) and m < n:
            # no more than the class is copied; rows renormalised in single precision were another chain
            block = operator.weights[some[:, None, None], tokens[:, None], tokens].double()
            part: Operator = Dense(block / block.sum(-1, keepdim=True))
        else:
            part = operator if len(some) == operator.shape[0] else operator.index(some)
            part = restrict(part, tokens) if m < n else part
        # rows are divided by sums that are off as well
        error = 2 * error if m < n else error
        parts.append(stationary_of(part, error, asked.lost[which], asked.start[which], tol, max_applies))
    return Recurrent.joined(parts)

"""Stationary distributions, all of them: one for every recurrent class, and their mixtures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Dense, Operator, restrict
from .certificate import Certificate
from .classes import Classes, classes
from .engine import constants
from .engine.batching import head_groups
from .engine.elimination import try_stationary
from .engine.refine import checked_effort
from .result import Result
from .stationary import stationary

ORDER = ("none", "power", "gmres", "elimination")


@dataclass(frozen=True, repr=False)
class StationaryDistributions(Result):
    """The extreme stationary distributions of every chain; C is the largest number of any of them.

    Attributes:
        values: float64 (*batch, C, N): row c is the one stationary distribution on the c-th recurrent class, in
            the order of the class labels; 0 off the class, and 0 throughout beyond ``count``.
        count: number of recurrent classes, (*batch).
        certificate: ``converged`` bool and ``residual`` ‖πᵀA − πᵀ‖₁ in float64, (*batch, C); beyond ``count``
            converged with residual 0. No error bound: without teleport none can be proved.
        classes: the classes of all tokens, transient ones too.
    """

    AXES = ("class", "token")
    OVER_TOKENS = (("values", -1),)

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
    period; those of up to 4,096 tokens are eliminated as well if 256 applies do not do.
    The answer takes O(C N) memory a chain.

    Raises:
        ChainError: a tolerance or a number of applies that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960); Berman and Plemmons, "Nonnegative Matrices in the
    Mathematical Sciences" (1979), chapter 8.
    """
    checked_effort(tol, max_applies)
    found = classes(operator)
    n, device = operator.num_tokens, operator.device
    labels, recurrent = (t.reshape(-1, t.shape[-1]) for t in (found.values, found.recurrent))
    place = recurrent.cumsum(-1) - 1  # of a class among the recurrent ones
    width = int(found.recurrent_count.max())
    values = torch.zeros(len(labels), width, n, dtype=torch.float64, device=device)
    residual = torch.zeros(len(labels), width, dtype=torch.float64, device=device)
    size = torch.zeros_like(recurrent, dtype=torch.int64).scatter_add_(-1, labels, torch.ones_like(labels))
    head, token = (recurrent & (size == 1)).gather(-1, labels).nonzero().unbind(-1)
    values[head, place[head, labels[head, token]], token] = 1.0
    applies, method = 0, "none"
    several = (recurrent & (size > 1)).nonzero()
    if len(several):
        for part, group in head_groups(operator, torch.float64):
            of_group = several[(several[:, 0] >= part.start) & (several[:, 0] < part.stop)]
            for tokens, of_class in _alike(of_group, labels):
                head, slot = of_class[:, 0], place[of_class[:, 0], of_class[:, 1]]
                answer = _solve(group, head - part.start, tokens, tol, max_applies)
                values[head[:, None], slot[:, None], tokens] = answer.values
                residual[head, slot] = answer.residual
                applies, method = max(applies, answer.applies), max(method, answer.method, key=ORDER.index)
    residual = residual.reshape(*operator.batch, width)
    return StationaryDistributions(
        values=values.reshape(*operator.batch, width, n),
        count=found.recurrent_count,
        certificate=Certificate(residual <= tol, residual, None, applies, method),
        classes=found,
    )


@dataclass(frozen=True)
class _Solved:
    """π (h, M) on one class, ‖πᵀA − πᵀ‖₁ (h,), the applies spent and the method."""

    values: Tensor
    residual: Tensor
    applies: int
    method: str


def _alike(several: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Classes (k, 2) of head and label of the same tokens: these, and the classes."""
    alike = defaultdict(list)
    for row in several:
        inside = labels[row[0]] == row[1]
        alike[inside.cpu().numpy().tobytes()].append((row, inside))
    for rows in alike.values():
        yield rows[0][1].nonzero()[:, 0], torch.stack([row for row, _ in rows])


def _solve(operator: Operator, heads: Tensor, tokens: Tensor, tol: float, max_applies: int) -> _Solved:
    n, m = operator.num_tokens, len(tokens)
    parts = []
    few = max(1, constants.DENSE_BYTES // (8 * m * m)) if m <= constants.CLASS_STUBBORN else len(heads)
    for some in heads.split(few):
        if isinstance(operator, Dense) and m < n:
            # no more than the class is copied; rows renormalised in single precision were another chain
            block = operator.weights[some[:, None, None], tokens[:, None], tokens].double()
            part: Operator = Dense(block / block.sum(-1, keepdim=True))
        else:
            part = operator.index(some)
            part = restrict(part, tokens) if m < n else part
        parts.append(_of_class(part, tol, max_applies))
    return _Solved(
        torch.cat([p.values for p in parts]),
        torch.cat([p.residual for p in parts]),
        max(p.applies for p in parts),
        max((p.method for p in parts), key=ORDER.index),
    )


def _of_class(operator: Operator, tol: float, max_applies: int) -> _Solved:
    """π of a batch of irreducible chains (h, M, M)."""
    m = operator.num_tokens
    if m > constants.CLASS_DIRECT:
        budget = max_applies if m > constants.CLASS_STUBBORN else min(max_applies, constants.CLASS_PATIENCE)
        answer = _iterated(operator, tol, budget)
        left = (answer.residual > tol).nonzero()[:, 0]
        if not len(left) or m > constants.CLASS_STUBBORN:
            return answer
        return _replaced(answer, left, _eliminated(operator.index(left)))
    answer = _eliminated(operator)
    left = answer.residual.isinf().nonzero()[:, 0]  # float64 cannot tell: see stationary_by_elimination
    if not len(left):
        return answer
    return _replaced(answer, left, _iterated(operator.index(left), tol, max_applies))


def _eliminated(operator: Operator) -> _Solved:
    values, decided = try_stationary(operator.to_dense(torch.float64))
    return _Solved(values, torch.where(decided, _residual(operator, values), torch.inf), 1, "elimination")


def _iterated(operator: Operator, tol: float, max_applies: int) -> _Solved:
    start = torch.full(operator.shape[:-1], 1 / operator.num_tokens, dtype=torch.float64, device=operator.device)
    answer = stationary(operator, 1.0, start, tol, max_applies)
    spent = answer.certificate
    return _Solved(answer.values, _residual(operator, answer.values), spent.applies + 1, spent.method)


def _residual(operator: Operator, values: Tensor) -> Tensor:
    return (operator.T @ values - values).abs().sum(-1)


def _replaced(whole: _Solved, heads: Tensor, part: _Solved) -> _Solved:
    """The answer of some heads, where it is the better one."""
    better = part.residual < whole.residual[heads]
    heads = heads[better]
    return _Solved(
        whole.values.index_copy(0, heads, part.values[better]),
        whole.residual.index_copy(0, heads, part.residual[better]),
        whole.applies + part.applies,
        part.method if len(heads) else whole.method,
    )

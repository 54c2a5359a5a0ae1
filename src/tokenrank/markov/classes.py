"""Communicating classes: where the walk can get to, come back from, and never leave."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .result import Result
from .support.communicating import Bools, Ints, graphs
from .words import counted


@dataclass(frozen=True, repr=False)
class Classes(Result):
    """Communicating classes of every chain of a batch; C is the largest number of classes of any of them.

    Tokens i and j are in one class if the walk can go from i to j and back. A class is recurrent if no step
    leads out of it, else transient.

    Attributes:
        values: class of every token, (*batch, N), numbered 0, 1, … in the order of their smallest tokens.
        count: number of classes, (*batch).
        recurrent: bool (*batch, C); False beyond ``count``.
        period: greatest common divisor of the lengths of all cycles within a class, (*batch, C); 0 for a
            token that has no cycle (a transient token that never attends to itself), and beyond ``count``.
        threshold: ε; steps of probability ε or less were ignored.
        certificate: exact; uncertain where ε > 0: the classes are those of another graph, a reading of the chain and
            no property of it.
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1),)
    LABELS = (
        ("values", "class of every token"),
        ("count", "classes"),
        ("recurrent", "recurrent"),
        ("period", "period"),
    )

    values: Tensor
    count: Tensor
    recurrent: Tensor
    period: Tensor
    threshold: float
    certificate: Certificate

    def answer_words(self) -> str:
        """How many classes there are, and how many of them are recurrent."""
        some = " … ".join(dict.fromkeys(f"{int(n)}" for n in (self.count.min(), self.count.max())))
        kept = " … ".join(dict.fromkeys(f"{int(n)}" for n in (self.recurrent_count.min(), self.recurrent_count.max())))
        return f"{counted(some, 'class')}, {kept} recurrent"

    @property
    def valid(self) -> Tensor:
        """Which of the C places hold a class, bool (*batch, C)."""
        return torch.arange(self.recurrent.shape[-1], device=self.count.device) < self.count[..., None]

    @property
    def irreducible(self) -> Tensor:
        """Whether all tokens are in one class, bool (*batch)."""
        return self.count == 1

    @property
    def recurrent_count(self) -> Tensor:
        """Number of recurrent classes, (*batch): that of independent stationary vectors; never 0."""
        return self.recurrent.sum(-1)

    @property
    def recurrent_tokens(self) -> Tensor:
        """Whether a token is in a recurrent class, bool (*batch, N); the walk leaves the others for good."""
        return self.recurrent.gather(-1, self.values)

    @property
    def chain_period(self) -> Tensor:
        """Least common multiple of the periods of the recurrent classes, (*batch).

        The smallest d for which Aᵈⁿ converges as n → ∞; QuantEcon calls it the period of the chain.

        Raises:
            ChainError: it is beyond 2⁶³.
        """
        flat = zip(self.period.reshape(-1, self.period.shape[-1]).tolist(), self._recurrent_lists(), strict=True)
        found = [math.lcm(*(p for p, r in zip(ps, rs, strict=True) if r and p)) for ps, rs in flat]
        if max(found) >= 2**63:
            raise ChainError(
                f"the least common multiple of the periods is {max(found)}, expected less than 2⁶³; "
                "read .period, which has that of every class"
            )
        return torch.tensor(found, device=self.count.device).reshape(self.count.shape)

    def members(self, number: int, chain: int | tuple[int, ...] = ()) -> Tensor:
        """Tokens of one class, increasing, (M,).

        Args:
            number: 0 … count − 1.
            chain: index of the chain in the batch; nothing where there is no batch.

        Raises:
            ChainError: no such class, or not the index of a single chain.
        """
        index = chain if isinstance(chain, tuple) else (chain,)
        shape = tuple(self.count.shape)
        if len(index) != len(shape) or any(not -n <= i < n for i, n in zip(index, shape, strict=True)):
            raise ChainError(f"chain = {chain!r}, expected the index of one chain of the batch {shape}")
        count = int(self.count[index])
        if not 0 <= number < count:
            raise ChainError(f"class {number} does not exist, expected 0 … {count - 1}")
        return (self.values[index] == number).nonzero()[:, 0]

    def _recurrent_lists(self) -> list[list[bool]]:
        lists: list[list[bool]] = self.recurrent.reshape(-1, self.recurrent.shape[-1]).tolist()
        return lists


def classes(operator: Operator, threshold: float = 0.0) -> Classes:
    """Communicating classes of every chain of an operator (*batch, N, N), with their kind and period.

    Args:
        operator: (*batch, N, N).
        threshold: ε, 0 … 1. With 0 the answer is exact: from masks (a softmax is positive wherever it is not
            masked, also where it underflows) and from zeros of given weights. With ε > 0 it is that of the steps
            A_ij > ε, and marked uncertain: rare steps are ignored, so that nearly separate groups of tokens
            show. Nothing is proved by it, many rare steps may add up to much, and a token all of whose steps
            are ignored counts as a recurrent class of period 0.

    Softmax without masks is one class of period 1, known without looking. Triangular (causal) chains have every
    token in a class of its own. Others take O(N²) for each distinct support: depth-first search (Tarjan 1972),
    periods from breadth-first levels (Denardo 1977).

    Raises:
        ChainError: a threshold outside 0 … 1.
    """
    if not 0 <= threshold < 1:
        raise ChainError(f"threshold = {threshold!r}, expected a probability from 0 (exact) to less than 1")
    leading, parts = graphs(operator, threshold)
    width = max(len(part.recurrent) for part in parts)

    def gathered(rows: list[Bools] | list[Ints], width: int) -> Tensor:
        table = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
        return torch.from_numpy(table).to(operator.device).reshape(*leading, width).expand(*operator.batch, width)

    return Classes(
        values=gathered([part.labels for part in parts], operator.num_tokens),
        count=gathered([np.array([len(part.recurrent)]) for part in parts], 1)[..., 0],
        recurrent=gathered([part.recurrent for part in parts], width),
        period=gathered([part.period for part in parts], width),
        threshold=float(threshold),
        certificate=_certificate(operator, threshold),
    )


def _certificate(operator: Operator, threshold: float) -> Certificate:
    exact = Certificate.exact(operator.batch, operator.device, 0, "depth-first search")
    return replace(exact, uncertain=torch.full_like(exact.converged, threshold > 0))

"""One case of the campaign: a batch of chains of one family, what is asked of it, and what a check finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.operators import Dense

from .chains import Spec
from .numbers import MANY, Array, Numbers

EPS = 2.0**-52
PROMISE = 1e-6  # error of a certain answer without a bound
STATIONARY = 1e-3  # ℓ1 error of a certain stationary vector that has a residual only
MANY_BITS = 1500  # where differences are taken


@dataclass(frozen=True)
class Verdict:
    """What one check of one chain found.

    Attributes:
        head: which chain of the batch.
        what: what was checked.
        claimed: the bound, or what the documentation promises.
        true: what it is.
        bound: whether the claim is a printed error bound.
    """

    head: int
    what: str
    claimed: float
    true: float
    bound: bool = False

    @property
    def false(self) -> bool:
        return not self.true <= self.claimed


@dataclass
class Case:
    """A batch of chains.

    Attributes:
        family, index: where it comes from.
        spec: what the chains are made of.
        chain: as the library has it, (*batch, N, N).
    """

    family: str
    index: int
    spec: Spec
    chain: tr.AttentionChain
    _exact: dict[tuple[str, int], tuple[Array, Array]] = field(default_factory=dict)

    @property
    def heads(self) -> int:
        return math.prod(self.chain.batch)

    @property
    def n(self) -> int:
        return self.chain.num_tokens

    @property
    def stored(self) -> bool:
        """Whether its weights are in memory, so that they are fractions."""
        return isinstance(self.chain.operator, Dense)

    def exact(self, numbers: Numbers, bits: int = 0) -> tuple[Array, Array]:
        """The chains (h, N, N) and where steps are possible; ``bits`` more than usual of mpmath."""
        key = (numbers.name, bits)
        if key not in self._exact:
            with mpmath.workprec(bits or mpmath.mp.prec):
                a, support = self.spec.asked(numbers)
            n = self.n
            self._exact[key] = a.reshape(self.heads, n, n), np.broadcast_to(support, a.shape).reshape(self.heads, n, n)
        return self._exact[key]

    def many(self) -> tuple[Array, Array]:
        """The chains with so many bits that differences do no harm."""
        return self.exact(MANY, MANY_BITS)

    def flat(self, values: Tensor) -> Tensor:
        """(*batch, …) as (h, …)."""
        return values.reshape(self.heads, *values.shape[len(self.chain.batch) :])

    def slack(self, numbers: Numbers) -> float:
        """Relative error of the oracle's own numbers."""
        return 32 * numbers.eps * (self.n + 16 + self.spec.size)

    def rounding(self, dtype: torch.dtype) -> float:
        """ℓ1 error of a row of the chain as a product in this precision sees it: what documentation calls rounding."""
        return torch.finfo(dtype).eps * 4 * (self.n + 16 + 4 * self.spec.size)


@dataclass(frozen=True)
class Worth:
    """A certificate, flat: bool (h, …), and bounds that are inf where nothing is claimed."""

    sure: Tensor
    bound: Tensor

    @classmethod
    def of(cls, case: Case, certificate: tr.markov.Certificate) -> Worth:
        sure = case.flat(certificate.converged & ~certificate.uncertain)
        bound = certificate.error_bound
        return cls(sure, torch.full(sure.shape, torch.inf) if bound is None else case.flat(bound))

    def judge(self, head: int, what: str, true: float, promise: float, slack: float, *place: int) -> Verdict:
        """Against the bound where there is one, else against the promise where the answer is certain."""
        bound = float(self.bound[(head, *place)])
        if 0 < bound < math.inf:
            return Verdict(head, f"{what}: bound", bound * (1 + 1e-12) + slack, true, bound=True)
        claimed = promise if bool(self.sure[(head, *place)]) else math.inf
        return Verdict(head, f"{what}: certain", max(claimed, slack), true)


Asked = tuple[Any, dict[str, Any]]
Judge = Callable[[Case, Any, dict[str, Any], Numbers], list[Verdict]]


@dataclass(frozen=True)
class Call:
    """One question.

    Attributes:
        name: of the method.
        share: of the cases that are asked.
        largest: most tokens that are asked about.
        ask: the answer, and what was asked.
        judge: what is right about it, in some kind of numbers.
        refusable: whether an error in words is right here.
        rational: whether its right answer is a fraction where the chain is one.
        close: whether its bounds come near the rounding of large logits, so that right answers need many bits.
    """

    name: str
    share: float
    largest: int
    ask: Callable[[Case, np.random.Generator], Asked]
    judge: Judge
    refusable: Callable[[Case, dict[str, Any]], bool]
    rational: bool
    close: bool


CALLS: dict[str, Call] = {}


def call(
    name: str,
    ask: Callable[[Case, np.random.Generator], Asked],
    share: float = 1.0,
    largest: int = 64,
    refusable: Callable[[Case, dict[str, Any]], bool] = lambda case, how: False,
    rational: bool = False,
    close: bool = False,
) -> Callable[[Judge], Judge]:
    def register(judge: Judge) -> Judge:
        CALLS[name] = Call(name, share, largest, ask, judge, refusable, rational, close)
        return judge

    return register

"""Spectrum of the chain and how fast it forgets: |λ2|, metastable states, Kemeny's constant, mixing."""

from __future__ import annotations

from ..markov import (
    Dobrushin,
    HalfLife,
    Kemeny,
    Lambda2,
    MixingTime,
    dobrushin,
    entropy_rate,
    half_life,
    kemeny,
    lambda2,
    metastable,
    mixing_time,
    spectrum,
)
from .answers import EntropyRate, Metastable, Spectrum, placed
from .core import Core
from .starts import Start


class Spectral(Core):
    """Eigenvalues, what follows from them, and speeds of mixing."""

    def lambda2(self) -> Lambda2:
        """|λ2|, the second-largest eigenvalue modulus of every head, with its residual.

        Near one: a slow chain with metastable groups of tokens; near zero: one bounce forgets
        where it started. See ``tokenrank.markov.lambda2``.
        """
        return lambda2(self.operator)

    def spectrum(self, k: int = 8, left: bool = False) -> Spectrum:
        """The k leading complex eigenvalues of every head, with bases of the slow subspaces.

        Args:
            k: how many, λ₁ = 1 counted; a conjugate pair is never cut, so that k + 1 may come back.
            left: also the left subspace, whose first vector lies along the stationary distribution.

        See ``tokenrank.markov.spectrum``.
        """
        return placed(Spectrum, spectrum(self.operator, k, left), self.layout)

    def half_life(self, start: Start, limit: int = 64) -> HalfLife:
        """Bounces until half of what one bounce tells of its start is forgotten, for every head.

        Args:
            start: where the walk begins, as in ``bounce``.
            limit: the most bounces looked at.

        See ``tokenrank.markov.half_life``; ``bounce(n="halflife")`` uses it.
        """
        return half_life(self.operator, self._distribution(start), limit)

    def metastable(self, k: int | None = None, largest: int = 8) -> Metastable:
        """Groups of tokens that the walk rarely leaves (PCCA+): memberships, and the chain between the groups.

        Args:
            k: how many; by default chosen among 2 … ``largest`` from minChi, crispness and gap, all of which
                are reported.
            largest: the most that are tried.

        See ``tokenrank.markov.metastable``.
        """
        return placed(Metastable, metastable(self.operator, k, largest), self.layout)

    def kemeny(self) -> Kemeny:
        """Kemeny's constant Σ_{i≥2} 1/(1 − λ_i): bounces to a token drawn from π, whatever the start.

        See ``tokenrank.markov.kemeny``.
        """
        return kemeny(self.operator)

    def entropy_rate(self) -> EntropyRate:
        """Entropy of where the walk goes next in nats, averaged over π, (*batch).

        See ``tokenrank.markov.entropy_rate``.
        """
        return placed(EntropyRate, entropy_rate(self.operator), self.layout)

    def mixing_time(self, epsilon: float = 0.25) -> MixingTime:
        """Bounces until the start does not matter any more, with proved bounds.

        Args:
            epsilon: distance in total variation, in (0, ½).

        See ``tokenrank.markov.mixing_time``.
        """
        return mixing_time(self.operator, epsilon)

    def dobrushin(self) -> Dobrushin:
        """Dobrushin's coefficient: the largest distance of two walks after one step, (*batch), 0 … 1.

        Of ``tr.compose(layers)``: how much of its start a walk through all layers can remember at most.
        See ``tokenrank.markov.dobrushin``.
        """
        return dobrushin(self.operator)

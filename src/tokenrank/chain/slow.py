"""How slowly a chain forgets."""

from __future__ import annotations

from ..markov import HalfLife, Lambda2, Metastable, Spectrum, half_life, lambda2, metastable, spectrum
from .core import Core
from .starts import Start


class Slow(Core):
    """Eigenvalues and what follows from them."""

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
        return spectrum(self.operator, k, left)

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
        return metastable(self.operator, k, largest)

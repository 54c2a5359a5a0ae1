"""Spectrum of the chain and how fast it forgets: |λ2|, metastable states, Kemeny's constant, mixing."""

from __future__ import annotations

from dataclasses import replace

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
from .many_starts import Starts, start_distributions


class Spectral(Core):
    """Eigenvalues, what follows from them, and speeds of mixing."""

    def lambda2(self, proved: bool = True) -> Lambda2:
        """|λ2|, the second-largest eigenvalue modulus of every head, with its residual.

        Args:
            proved: False for values to weigh heads by: without proofs, which up to 128 tokens are most of the work.

        Near one: a slow chain with metastable groups of tokens; near zero: one bounce forgets
        where it started. See ``tokenrank.markov.lambda2``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> slow = chain.lambda2()
            >>> slow.values
            tensor(0.5000, dtype=torch.float64)
            >>> print(slow.certificate)
            converged, error ≤ 2.1e-13 (proved of the stored weights), 1 apply, eigenvalues
        """
        return replace(lambda2(self.operator, proved=proved), caption=self.caption)

    def spectrum(self, k: int = 8, left: bool = False) -> Spectrum:
        """The k leading complex eigenvalues of every head, with bases of the slow subspaces.

        Args:
            k: how many, λ₁ = 1 counted; a conjugate pair is never cut, so that k + 1 may come back.
            left: also the left subspace, whose first vector lies along the stationary distribution.

        See ``tokenrank.markov.spectrum``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.spectrum(2).values.real
            tensor([1.0000, 0.5000], dtype=torch.float64)
        """
        return placed(Spectrum, spectrum(self.operator, k, left), self)

    def half_life(self, start: Starts, limit: int = 64) -> HalfLife:
        """Bounces until half of what one bounce tells of its start is forgotten, for every head.

        Args:
            start: where the walk begins, or several starts, read as in ``bounce``.
            limit: the most bounces looked at.

        See ``tokenrank.markov.half_life``; ``bounce(n="halflife")`` uses it.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.half_life(0).values
            tensor(2)
        """
        begin = start_distributions(start, self.shape, self.layout).to(self.device)
        return replace(half_life(self.operator, begin, limit), caption=self.caption)

    def metastable(self, k: int | None = None, largest: int = 8) -> Metastable:
        """Groups of tokens that the walk rarely leaves (PCCA+): memberships, and the chain between the groups.

        Args:
            k: how many; by default chosen among 2 … ``largest`` from minChi, crispness and gap, all of which
                are reported.
            largest: the most that are tried.

        See ``tokenrank.markov.metastable``.

        Example:
            >>> import tokenrank as tr
            >>> pairs = [[0.9, 0.1, 0, 0], [0.1, 0.85, 0.05, 0], [0, 0.05, 0.85, 0.1], [0, 0, 0.1, 0.9]]
            >>> states = tr.AttentionChain(pairs).metastable()
            >>> int(states.count), states.labels.tolist()
            (2, [0, 0, 1, 1])
        """
        return placed(Metastable, metastable(self.operator, k, largest), self)

    def kemeny(self) -> Kemeny:
        """Kemeny's constant Σ_{i≥2} 1/(1 − λ_i): bounces to a token drawn from π, whatever the start.

        See ``tokenrank.markov.kemeny``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.kemeny()
            Kemeny(1 chain, 3; converged, 1 apply, elimination)
        """
        return replace(kemeny(self.operator), caption=self.caption)

    def entropy_rate(self) -> EntropyRate:
        """Entropy of where the walk goes next in nats, averaged over π, (*batch).

        See ``tokenrank.markov.entropy_rate``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.entropy_rate().values  # nats
            tensor(0.8664, dtype=torch.float64)
        """
        return placed(EntropyRate, entropy_rate(self.operator), self)

    def mixing_time(self, epsilon: float = 0.25) -> MixingTime:
        """Bounces until the start does not matter any more, with proved bounds.

        Args:
            epsilon: distance in total variation, in (0, ½).

        See ``tokenrank.markov.mixing_time``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.mixing_time().values
            tensor(1., dtype=torch.float64)
        """
        return replace(mixing_time(self.operator, epsilon), caption=self.caption)

    def dobrushin(self) -> Dobrushin:
        """Dobrushin's coefficient: the largest distance of two walks after one step, (*batch), 0 … 1.

        Of ``tr.compose(layers)``: how much of its start a walk through all layers can remember at most.
        See ``tokenrank.markov.dobrushin``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.dobrushin().values
            tensor(0.5000, dtype=torch.float64)
        """
        return replace(dobrushin(self.operator), caption=self.caption)

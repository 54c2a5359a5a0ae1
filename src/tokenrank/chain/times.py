"""When and where the walk ends, and how fast it mixes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ChainError
from ..markov import (
    Absorption,
    EntropyRate,
    FirstPassage,
    Fundamental,
    Kemeny,
    MixingTime,
    absorption,
    dobrushin,
    entropy_rate,
    fundamental,
    hitting_times,
    kemeny,
    mean_first_passage,
    mixing_time,
)
from .core import Core
from .starts import Start, start_distribution
from .token_map import TokenMap


class Times(Core):
    """Absorption, hitting times and what follows from the fundamental matrix."""

    def absorption(self, targets: Start | Mapping[str, Start], tol: float = 1e-8) -> Absorption:
        """Where the walk enters first: probabilities (*batch, N, T) for T targets, and the expected bounces.

        Args:
            targets: tokens as in ``bounce`` (indices, mask, span, word), each a target of its own; or a mapping of
                names to tokens, each a set.
            tol: bound of the error of a probability.

        With ``tr.bipartite`` and ``targets="text"`` the rows of image tokens are a soft segmentation; ``unreached``
        says which targets no token can get to. See ``tokenrank.markov.absorption``.
        """
        return absorption(self.operator, self._sets(targets), tol)

    def hitting_times(self, targets: Start, tol: float = 1e-8) -> TokenMap:
        """Expected bounces from every token until the walk is first on one of ``targets``; ∞ where it may miss them.

        See ``tokenrank.markov.hitting_times``.
        """
        found = hitting_times(self.operator, self._tokens(targets), tol)
        return TokenMap(found.values, self.layout, found.certificate)

    def mean_first_passage(self, tokens: Start | None = None) -> FirstPassage:
        """Expected bounces from every token until the walk is first on each of ``tokens``: (*batch, N, T), 0 on itself.

        Args:
            tokens: as in ``bounce``; all by default.

        See ``tokenrank.markov.mean_first_passage``.
        """
        chosen = None if tokens is None else self._tokens(tokens).nonzero()[:, 0]
        return mean_first_passage(self.operator, chosen)

    def fundamental(self, x: Tensor, tol: float = 1e-8) -> Fundamental:
        """Z x and the deviation (Z − 1πᵀ) x, with Z = (I − A + 1πᵀ)⁻¹ the fundamental matrix.

        Args:
            x: (N, c) or (*batch, N, c).
            tol: residual wanted.

        See ``tokenrank.markov.fundamental``.
        """
        if x.ndim < 2 or x.shape[-2] != self.num_tokens:
            raise ChainError(f"x has shape {tuple(x.shape)}, expected (…, {self.num_tokens}, c): one row a token")
        return fundamental(self.operator, x.to(self.device), tol)

    def kemeny(self) -> Kemeny:
        """Kemeny's constant Σ_{i≥2} 1/(1 − λ_i): bounces to a token drawn from π, whatever the start.

        See ``tokenrank.markov.kemeny``.
        """
        return kemeny(self.operator)

    def entropy_rate(self) -> EntropyRate:
        """Entropy of where the walk goes next in nats, averaged over π, (*batch).

        See ``tokenrank.markov.entropy_rate``.
        """
        return entropy_rate(self.operator)

    def mixing_time(self, epsilon: float = 0.25) -> MixingTime:
        """Bounces until the start does not matter any more, with proved bounds.

        Args:
            epsilon: distance in total variation, in (0, ½).

        See ``tokenrank.markov.mixing_time``.
        """
        return mixing_time(self.operator, epsilon)

    def dobrushin(self) -> Tensor:
        """Dobrushin's coefficient: the largest distance of two walks after one step, (*batch), 0 … 1.

        Of ``tr.compose(layers)``: how much of its start a walk through all layers can remember at most.
        See ``tokenrank.markov.dobrushin``.
        """
        return dobrushin(self.operator)

    def _tokens(self, tokens: Start) -> Tensor:
        """One set of tokens for all chains, bool (N,)."""
        return (start_distribution(tokens, torch.Size(self.shape[-2:]), self.layout) > 0).to(self.device)

    def _sets(self, targets: Start | Mapping[str, Start]) -> Tensor:
        """A column a set, bool (N, T)."""
        if isinstance(targets, Mapping):
            if not targets:
                raise ChainError("no targets given, expected at least one set of tokens")
            return torch.stack([self._tokens(tokens) for tokens in targets.values()], -1)
        chosen = self._tokens(targets).nonzero()[:, 0]
        eye = torch.eye(self.num_tokens, dtype=torch.bool, device=self.device)
        return eye[:, chosen]

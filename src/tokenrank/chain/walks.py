"""Walks: bounces and stationary distributions."""

from __future__ import annotations

import warnings
from collections import deque

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError, NotConvergedWarning, NotUniqueWarning
from ..markov import Bounces, Certificate, bounces, closed_classes, half_life, quasi_stationary, stationary
from ..operators import Operator
from .answers import QuasiStationary, placed
from .core import Core, Direction, probability
from .starts import Start, start_distribution
from .token_map import TokenMap

MAX_APPLIES = 5000  # attention applications of one TokenRank


class Walks(Core):
    """Bounces and stationary distributions."""

    def bounce(self, start: Start, n: Bounces = 1, direction: Direction = "forward", path: bool = False) -> TokenMap:
        """Multi-bounce attention from ``start``: vᵀAⁿ.

        Args:
            start: a token index, several, a bool mask, ``tr.at(x, y)``, a span's name, a word,
                or a distribution (…, N).
            n: bounces; 1 is row selection (forward) or normalised column selection (backward),
                0 the start itself. Or "halflife", the number after which half is forgotten, for every head
                its own (see ``half_life``).
            direction: "forward" follows attention; "backward" walks the column-normalised
                reversed chain, towards the tokens that attend to the start.
            path: also return the way: values (n + 1, *batch, N), entry k after k bounces. With "halflife" n is the
                largest number of any head, and a head rests after its own.

        Returns:
            TokenMap of values (*batch, N), each a distribution.

        Source: "Attention (as Discrete-Time Markov) Chains", multi-bounce attention.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.bounce(0).values  # one bounce is a row
            tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
            >>> chain.bounce(0, n=2).values
            tensor([0.3750, 0.5000, 0.1250], dtype=torch.float64)
            >>> chain.bounce(0, n=2, direction="backward").values  # who attends to token 0
            tensor([0.5556, 0.3333, 0.1111], dtype=torch.float64)
        """
        operator = self._towards(direction)
        v = start_distribution(start, self.shape, self.layout).to(self.device)
        if isinstance(n, str) and n == "halflife":
            each = half_life(operator, v).values
            most = int(each.max())
        elif isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0:
            each, most = None, int(n)
        else:
            raise ChainError(f"n = {n!r} bounces, expected a whole number ≥ 0 or 'halflife'")
        states = bounces(operator, v.to(self.dtype), most, each)
        # without the path one state at a time is held, however many bounces there are
        values = torch.stack(list(states)) if path else deque(states, maxlen=1)[0]
        certificate = Certificate.exact(values.shape[:-1], self.device, most, "bounces")
        return self._map(values, certificate, f"n = {n}, {direction}")

    def tokenrank(
        self,
        alpha: float = 0.99,
        personalization: Start | None = None,
        direction: Direction = "forward",
        tol: float = 1e-6,
        max_applies: int | None = None,
    ) -> TokenMap:
        """TokenRank: the stationary distribution, PageRank of the tokens.

        Args:
            alpha: probability of following attention; 1 − alpha jumps to ``personalization``.
            personalization: whatever ``bounce`` takes as a start; uniform by default.
            direction: "forward" says where attention arrives, "backward" where it comes from.
            tol: bound of the ℓ1 error (alpha < 1, proved) or of the residual (alpha = 1).
            max_applies: attention applications allowed; 5,000 by default.

        Returns:
            TokenMap of values (*batch, N) in float64, which the certificate is about. An answer
            that did not converge warns once. With alpha = 1 a chain of several recurrent classes has many
            stationary vectors; the limit from ``personalization`` is returned, with a ``NotUniqueWarning``.

        Source: "Attention (as Discrete-Time Markov) Chains", TokenRank; Brin and Page (1998).

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> rank = chain.tokenrank()
            >>> rank.values
            tensor([0.2508, 0.4983, 0.2508], dtype=torch.float64)
            >>> print(rank.certificate)
            converged, error ≤ ... (proved), 3 applies, power
        """
        probability("alpha", alpha)
        if not tol > 0:
            raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-6")
        max_applies = MAX_APPLIES if max_applies is None else max_applies
        if max_applies < 2:
            raise ChainError(f"max_applies = {max_applies!r}, expected at least 2: one step and one to judge it by")
        jump = self._distribution(personalization)
        operator = self._towards(direction)
        if alpha == 1:
            _warn_if_not_unique(operator)
        answer = stationary(operator, float(alpha), jump, tol, max_applies)
        if not bool(answer.certificate.converged.all()):
            open_heads = int((~answer.certificate.converged).sum())
            warnings.warn(
                f"TokenRank did not reach tol = {tol:g} in {open_heads} of {answer.certificate.converged.numel()} "
                f"chains ({answer.certificate}); raise max_applies, lower alpha, or loosen tol",
                NotConvergedWarning,
                stacklevel=2,
            )
        return self._map(answer.values, answer.certificate, f"TokenRank, alpha {alpha:g}, {direction}")

    def _map(self, values: Tensor, certificate: Certificate, what: str) -> TokenMap:
        caption = f"{self.caption}, {what}" if self.caption else what
        return TokenMap(values, self.layout, certificate, self.picture, caption)

    def quasi_stationary(self, drop: Start, alpha: float = 0.99, tol: float = 1e-8) -> QuasiStationary:
        """Where the walk is as long as it has not entered the tokens ``drop``: attention without its sink.

        Args:
            drop: tokens that end the walk, as in ``bounce``; the sink of a causal model, for example.
            alpha: probability of following attention, less than 1; a jump to a dropped token ends the walk, too.
            tol: residual that counts as converged.

        See ``tokenrank.markov.quasi_stationary``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.quasi_stationary(0).values
            tensor([0.0000, 0.5850, 0.4150], dtype=torch.float64)
        """
        ended = start_distribution(drop, torch.Size(self.shape[-2:]), self.layout) > 0
        return placed(QuasiStationary, quasi_stationary(self.operator, ended.to(self.device), float(alpha), tol), self)


def _warn_if_not_unique(operator: Operator) -> None:
    closed = closed_classes(operator)
    many = closed > 1
    if bool(many.any()):
        warnings.warn(
            f"{int(many.sum())} of {many.numel()} chains have several recurrent classes (up to {int(closed.max())}), "
            "so that without teleport the stationary vector depends on where the walk begins; take "
            "chain.stationary_distributions() for all of them, or alpha < 1",
            NotUniqueWarning,
            stacklevel=3,
        )

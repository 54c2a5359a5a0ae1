"""Walks: bounces and stationary distributions."""

from __future__ import annotations

import warnings
from collections import deque

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError, NotConvergedWarning, NotUniqueWarning
from ..markov import Bounces, Certificate, bounces, closed_classes, half_life, quasi_stationary, stationary
from ..markov.bounce import certificate_of_bounds, certificate_of_steps, certified_bounces
from ..operators import Operator
from .answers import QuasiStationary, placed
from .core import Core, Direction, probability
from .many_starts import Starts, start_distributions
from .starts import Start, TokenSet, moved, token_set
from .token_map import TokenMap

MAX_APPLIES = 5000  # attention applications of one TokenRank
WIDE = 2048  # tokens up to which bounces are taken in double precision on a CPU


class Walks(Core):
    """Bounces and stationary distributions."""

    def bounce(self, start: Starts, n: Bounces = 1, direction: Direction = "forward", path: bool = False) -> TokenMap:
        """Multi-bounce attention from ``start``, or from several at once: vᵀAⁿ.

        Args:
            start: a token index, several (each once, fewer than N), a bool mask, ``tr.at(x, y)``, a span's name, a
                word, several of these, float weights (…, N) of any scale, or ``{token or word: weight}``. Whole
                numbers that could be indices or weights, such as [0, 0, 1] of three tokens, are refused.
                Or k starts, which cost little more than one: a list of starts, [[0], [3, 4], ["cat"]], or weights or
                masks (k, N); of chains with heads (k, 1, N), since (heads, N) is one start that differs from
                head to head.
            n: bounces; 1 is row selection (forward) or normalised column selection (backward),
                0 the start itself. Or "halflife", the number after which half is forgotten, for every head
                and start its own (see ``half_life``).
            direction: "forward" follows attention; "backward" walks the column-normalised
                reversed chain, towards the tokens that attend to the start.
            path: also return the way: values (n + 1, *batch, N), entry i after i bounces. With "halflife" n is the
                largest number of any head, and a head rests after its own.

        Returns:
            TokenMap of values (*batch, N), each a distribution; (k, *batch, N) of k starts, and with ``path``
            (n + 1, k, *batch, N). Of stored weights they are exact but for the rounding
            of sums. The softmax of queries and keys is not: its certificate bounds the ℓ1 error: 1e-7 of a
            chain in single precision whose bounces are taken in double (up to 2,048 tokens on a CPU), about
            1e-3 a bounce beyond, and below 1e-6 a bounce on a GPU, whatever the number of tokens.

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
            >>> chain.bounce([[0], [1, 2]]).values  # from token 0, and from tokens 1 and 2
            tensor([[0.5000, 0.5000, 0.0000],
                    [0.1250, 0.5000, 0.3750]], dtype=torch.float64)
        """
        operator = self._towards(direction)
        v = moved(start_distributions(start, self.shape, self.layout), self.device)
        if isinstance(n, str) and n == "halflife":
            half = half_life(operator, v)
            each, most = half.values, half.certificate.applies  # no walk was followed further than its half-life
        elif isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0:
            each, most = None, int(n)
        else:
            raise ChainError(f"n = {n!r} bounces, expected a whole number ≥ 0 or 'halflife'")
        if operator.path == "device":
            walked = ((state.to(self.dtype), error) for state, error in certified_bounces(operator, v, most, each))
            kept = list(walked) if path else list(deque(walked, maxlen=1))
            values, bounds = (torch.stack(parts) if path else parts[0] for parts in zip(*kept, strict=True))
            certificate = certificate_of_bounds(operator, bounds, most, self.dtype)
        else:
            # single precision proves three digits a bounce; double costs little where a head stays in the cache
            work = torch.float64 if self.num_tokens <= WIDE else self.dtype
            states = (state.to(self.dtype) for state in bounces(operator, v.to(work), most, each))
            # without the path one state at a time is held, however many bounces there are
            values = torch.stack(list(states)) if path else deque(states, maxlen=1)[0]
            certificate = certificate_of_steps(operator, values.shape[:-1], work, most, self.dtype)
        return self._map(values, certificate, f"n = {n}, {direction}", v.expand(values.shape))

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
            personalization: whatever ``bounce`` takes as a start, by the same rule: weights of any scale and
                ``{token: weight}`` as networkx has them; uniform by default.
            direction: "forward" says where attention arrives, "backward" where it comes from.
            tol: bound of the ℓ1 error (alpha < 1, proved) or of the residual (alpha = 1).
            max_applies: attention applications allowed where the chain is iterated; 5,000 by default.

        Returns:
            TokenMap of values (*batch, N) in float64, which the certificate is about. An answer
            that did not converge warns once. With alpha = 1 a chain of several recurrent classes has many
            stationary vectors; the limit from ``personalization`` is returned, and without one that from an even
            start, with a ``NotUniqueWarning``.
            Where groups of tokens hardly attend to one another (a gap 1 − |λ2| of the size of the residual) a
            residual says nothing: up to 4,096 tokens the answer is eliminated then and its error bounded; an answer of
            which neither bound nor gap is known is ``uncertain``, and warns.

        Source: "Attention (as Discrete-Time Markov) Chains", TokenRank; Brin and Page (1998).

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> rank = chain.tokenrank()
            >>> rank.values
            tensor([0.2508, 0.4983, 0.2508], dtype=torch.float64)
            >>> print(rank.certificate)
            converged, error ≤ ... (proved of the stored weights), 1 apply, lu
        """
        probability("alpha", alpha)
        if isinstance(tol, bool) or not tol > 0:
            raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-6")
        max_applies = MAX_APPLIES if max_applies is None else max_applies
        if max_applies < 2:
            raise ChainError(f"max_applies = {max_applies!r}, expected at least 2: one step and one to judge it by")
        jump = self._distribution(personalization)
        operator = self._towards(direction)
        if alpha == 1 and personalization is None:
            _warn_if_not_unique(operator)
        answer = stationary(operator, float(alpha), jump, tol, max_applies)
        if not answer.met:
            _warn_of_doubt(answer.certificate, tol)
        return self._map(answer.values, answer.certificate, f"TokenRank, alpha {alpha:g}, {direction}")

    def _map(self, values: Tensor, certificate: Certificate, what: str, start: Tensor | None = None) -> TokenMap:
        caption = f"{self.caption}, {what}" if self.caption else what
        return TokenMap(values, self.layout, certificate, self.picture, caption, start)

    def quasi_stationary(self, drop: TokenSet, alpha: float = 0.99, tol: float = 1e-8) -> QuasiStationary:
        """Where the walk is as long as it has not entered the tokens ``drop``: attention without its sink.

        Args:
            drop: tokens that end the walk (indices, each once, mask, span, word), such as the sink of a causal model.
            alpha: probability of following attention, less than 1; a jump to a dropped token ends the walk, too.
            tol: residual that counts as converged.

        See ``tokenrank.markov.quasi_stationary``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.quasi_stationary(0).values
            tensor([0.0000, 0.5850, 0.4150], dtype=torch.float64)
        """
        ended = token_set(drop, self.num_tokens, self.layout, "drop")
        return placed(QuasiStationary, quasi_stationary(self.operator, ended.to(self.device), float(alpha), tol), self)


def _warn_of_doubt(certificate: Certificate, tol: float) -> None:
    count = certificate.converged.numel()
    missed, doubted = torch.stack([~certificate.converged.all(), certificate.uncertain.any()]).tolist()
    if missed:
        warnings.warn(
            f"TokenRank did not reach tol = {tol:g} in {int((~certificate.converged).sum())} of {count} "
            f"chains ({certificate}); raise max_applies, lower alpha, or loosen tol",
            NotConvergedWarning,
            stacklevel=3,
        )
    elif doubted:
        warnings.warn(
            f"TokenRank without teleport is uncertain in {int(certificate.uncertain.sum())} of {count} chains "
            f"({certificate}): a residual says nothing about the error where the gap 1 − |λ2| is as small; take "
            "alpha < 1, or look for groups of tokens that hardly attend to one another: chain.classes(1e-6)",
            NotConvergedWarning,
            stacklevel=3,
        )


def _warn_if_not_unique(operator: Operator) -> None:
    closed = closed_classes(operator)
    many = closed > 1
    if bool(many.any()):
        warnings.warn(
            f"{int(many.sum())} of {many.numel()} chains have several recurrent classes (up to {int(closed.max())}), "
            "so that without teleport the stationary vector depends on where the walk begins, here at all alike; say "
            "where with personalization=, take chain.stationary_distributions() for all of them, or alpha < 1",
            NotUniqueWarning,
            stacklevel=3,
        )

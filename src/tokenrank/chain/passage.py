"""Passage of the walk: classes of tokens, sinks, where it ends and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ChainError
from ..markov import (
    absorption,
    classes,
    fundamental,
    hitting_times,
    mean_first_passage,
    sinks,
    stationary_distributions,
)
from .answers import (
    Absorption,
    Classes,
    FirstPassage,
    Fundamental,
    HittingTimes,
    Sinks,
    StationaryDistributions,
    placed,
)
from .core import Core
from .starts import TokenSet, token_set


class Passage(Core):
    """Communicating classes, absorption, hitting times, the fundamental matrix."""

    def classes(self, threshold: float = 0.0) -> Classes:
        """Communicating classes of the tokens: recurrent or transient, and their periods.

        Exact from the masks: a softmax is positive wherever it is not masked, so that a chain without
        masks has one class and a causal one a class a token.

        Args:
            threshold: ε; with ε > 0 steps of probability ε or less are ignored, and the result is marked as
                the heuristic that it is.

        See ``tokenrank.markov.classes``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
            >>> found = chain.classes()
            >>> found.values.tolist(), found.recurrent.tolist()
            ([0, 1, 2], [True, False, True])
        """
        return placed(Classes, classes(self.operator, threshold), self)

    def stationary_distributions(self, tol: float = 1e-10) -> StationaryDistributions:
        """All extreme stationary distributions: one for every recurrent class; every other one is a mixture.

        Args:
            tol: residual ‖πᵀA − πᵀ‖₁ that counts as converged.

        See ``tokenrank.markov.stationary_distributions``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
            >>> chain.stationary_distributions().values
            tensor([[1., 0., 0.],
                    [0., 0., 1.]], dtype=torch.float64)
        """
        return placed(StationaryDistributions, stationary_distributions(self.operator, tol), self)

    def sinks(self, threshold: float = 0.3) -> Sinks:
        """Attention sinks of every head: tokens that take a large part of everybody's attention.

        Args:
            threshold: mean attention, over the queries that may attend to the token, above which it can be one.

        See ``tokenrank.markov.sinks``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.7, 0.1, 0.1, 0.1]] * 4)
            >>> chain.sinks().tokens
            tensor([ True, False, False, False])
        """
        return placed(Sinks, sinks(self.operator, threshold), self)

    def absorption(self, targets: TokenSet | Mapping[str, TokenSet], tol: float = 1e-8) -> Absorption:
        """Where the walk enters first: probabilities (*batch, N, T) for T targets, and the expected bounces.

        Args:
            targets: tokens (indices, each once, mask, span, word, list of spans), each a target of its own; or a
                mapping of names (strings) to tokens, each a set.
            tol: bound of the error of a probability.

        With ``tr.bipartite`` and ``targets="text"`` the rows of image tokens are a soft segmentation; ``unreached``
        says which targets no token can get to. See ``tokenrank.markov.absorption``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> found = chain.absorption([0, 2])
            >>> found.values[1]  # from the middle either end is as likely
            tensor([0.5000, 0.5000], dtype=torch.float64)
            >>> found.steps
            tensor([0., 2., 0.], dtype=torch.float64)
        """
        return placed(Absorption, absorption(self.operator, self._sets(targets), tol), self)

    def hitting_times(self, targets: TokenSet, tol: float = 1e-8) -> HittingTimes:
        """Expected bounces from every token until the walk is first on one of ``targets``; ∞ where it may miss them.

        See ``tokenrank.markov.hitting_times``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.hitting_times(0).values
            tensor([0., 6., 8.], dtype=torch.float64)
        """
        return placed(HittingTimes, hitting_times(self.operator, self._tokens(targets, "targets"), tol), self)

    def mean_first_passage(self, tokens: TokenSet | None = None) -> FirstPassage:
        """Expected bounces from every token until the walk is first on each of ``tokens``: (*batch, N, T), 0 on itself.

        Args:
            tokens: as in ``absorption``; all by default.

        See ``tokenrank.markov.mean_first_passage``.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.mean_first_passage().values
            tensor([[0., 2., 8.],
                    [6., 0., 6.],
                    [8., 2., 0.]], dtype=torch.float64)
        """
        chosen = None if tokens is None else self._tokens(tokens, "tokens").nonzero()[:, 0]
        return placed(FirstPassage, mean_first_passage(self.operator, chosen), self)

    def fundamental(self, x: Tensor, tol: float = 1e-8) -> Fundamental:
        """Z x and the deviation (Z − 1πᵀ) x, with Z = (I − A + 1πᵀ)⁻¹ the fundamental matrix.

        Args:
            x: (N, c) or (*batch, N, c).
            tol: residual wanted.

        See ``tokenrank.markov.fundamental``.
        """
        if x.ndim < 2 or x.shape[-2] != self.num_tokens:
            raise ChainError(f"x has shape {tuple(x.shape)}, expected (…, {self.num_tokens}, c): one row a token")
        return placed(Fundamental, fundamental(self.operator, x.to(self.device), tol), self)

    def _tokens(self, tokens: TokenSet, name: str) -> Tensor:
        """One set of tokens for all chains, bool (N,)."""
        return token_set(tokens, self.num_tokens, self.layout, name).to(self.device)

    def _sets(self, targets: TokenSet | Mapping[str, TokenSet]) -> Tensor:
        """A column a set, bool (N, T)."""
        if isinstance(targets, Mapping):
            if not targets:
                raise ChainError("no targets given, expected at least one set of tokens")
            for name in targets:
                if not isinstance(name, str):
                    raise ChainError(
                        f"target {name!r}: {targets[name]!r} has a name that is no string, expected {{name: tokens}}, "
                        "such as {'left': [0, 1], 'right': 5}; targets have no weights, and without names they "
                        "are a list: [*targets]"
                    )
            return torch.stack([self._tokens(tokens, f"targets[{name!r}]") for name, tokens in targets.items()], -1)
        chosen = self._tokens(targets, "targets").nonzero()[:, 0]
        eye = torch.eye(self.num_tokens, dtype=torch.bool, device=self.device)
        return eye[:, chosen]

"""What the chain looks like as a graph."""

from __future__ import annotations

from ..markov import Classes, Extreme, Sinks, classes, extreme_stationary, sinks
from .core import Core


class Structure(Core):
    """Communicating classes and what belongs to them."""

    def classes(self, threshold: float = 0.0) -> Classes:
        """Communicating classes of the tokens: recurrent or transient, and their periods.

        Exact from the masks: a softmax is positive wherever it is not masked, so that a chain without
        masks has one class and a causal one a class a token.

        Args:
            threshold: ε; with ε > 0 steps of probability ε or less are ignored, and the result is marked as
                the heuristic that it is.

        See ``tokenrank.markov.classes``.
        """
        return classes(self.operator, threshold)

    def stationary_distributions(self, tol: float = 1e-10) -> Extreme:
        """All extreme stationary distributions: one for every recurrent class; every other one is a mixture.

        Args:
            tol: residual ‖πᵀA − πᵀ‖₁ that counts as converged.

        See ``tokenrank.markov.extreme_stationary``.
        """
        return extreme_stationary(self.operator, tol)

    def sinks(self, threshold: float = 0.3) -> Sinks:
        """Attention sinks of every head: tokens that take a large part of everybody's attention.

        Args:
            threshold: mean attention, over the queries that may attend to the token, above which it can be one.

        See ``tokenrank.markov.sinks``.
        """
        return sinks(self.operator, threshold)

"""Derived chains, lazily: aggregated, restricted, with teleport, lazy, reversed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import ChainError
from ..markov import censor
from ..operators import Lazy, Mixture, Teleport, restrict, reverse
from .core import probability
from .spectral import Spectral
from .starts import Start, TokenSet, moved, token_set

if TYPE_CHECKING:
    from typing_extensions import Self


class Derived(Spectral):
    """Aggregation, restriction, teleport, reversal."""

    def aggregate(
        self,
        weights: Literal["lambda2", "uniform"] | Tensor | Sequence[float] = "lambda2",
        over: str | int = "heads",
    ) -> Self:
        """One chain from many: Σ w_h A_h with Σ w_h = 1.

        Args:
            weights: "uniform"; "lambda2" (each head by its |λ2|, as the paper weighs heads); or
                non-negative numbers, (H,) or (*batch, H), normalised here.
            over: "heads" (the last leading dimension) or the number of a leading dimension.

        Returns:
            A chain without that dimension.

        Example:
            >>> import tokenrank as tr
            >>> heads = tr.AttentionChain([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
            >>> heads.aggregate("uniform").to_dense()
            tensor([[0.7500, 0.2500],
                    [0.2500, 0.7500]], dtype=torch.float64)
            >>> heads.aggregate().to_dense()  # the second head forgets at once: |λ2| = 0
            tensor([[1., 0.],
                    [0., 1.]], dtype=torch.float64)
        """
        dim = self._dimension(over)
        last = len(self.batch) - 1
        operator = self.operator
        if dim != last:
            raise ChainError(
                f"over = {over!r} is not the last leading dimension of {tuple(self.batch)}; aggregate heads first, "
                "or index the chain"
            )
        if isinstance(weights, str):
            if weights == "uniform":
                w = torch.ones(self.batch, dtype=self.dtype, device=self.device)
            elif weights == "lambda2":
                w = self.lambda2(proved=False).values
                w = torch.where(w.sum(-1, keepdim=True) > 0, w, torch.ones_like(w))
            else:
                raise ChainError(f"weights = {weights!r}, expected 'lambda2', 'uniform' or numbers")
        else:
            try:
                w = torch.as_tensor(weights, dtype=torch.float64, device=self.device)
            except (TypeError, ValueError, RuntimeError):
                raise ChainError(f"weights = {weights!r}, expected 'lambda2', 'uniform' or numbers") from None
            if w.ndim == 0 or w.shape[-1] != self.batch[-1] or w.ndim > len(self.batch):
                raise ChainError(f"weights have shape {tuple(w.shape)}, expected (…, {self.batch[-1]}): one a head")
            if not torch.isfinite(w).all() or w.amin() < 0 or not (w.sum(-1) > 0).all():
                raise ChainError("weights must be finite, ≥ 0 and not all zero, so that the mixture is a chain")
            try:
                w = w.expand(self.batch)
            except RuntimeError:
                raise ChainError(
                    f"weights have shape {tuple(w.shape)}, expected one that broadcasts to {tuple(self.batch)}"
                ) from None
        w = w.double()  # weights rounded to single precision would not sum to one
        w = w / w.sum(-1, keepdim=True)
        return self._like(Mixture(operator, w), self.layout, "heads mixed")

    def restrict(self, tokens: TokenSet, how: Literal["renormalise", "censor"] = "renormalise") -> Self:
        """The chain on some tokens only, such as ``chain.restrict("image")``.

        Args:
            tokens: indices, each once, a bool mask (N,), a span's name or a word; the order of the
                sequence is kept.
            how: "renormalise" divides rows by their sums: the walk may not leave; for queries and keys that
                equals softmax over the kept keys alone. "censor" watches the walk only while it is on these
                tokens (stochastic complement): paths through removed tokens are kept, and the stationary
                distribution is that of the whole chain conditioned on them.

        Raises:
            ChainError: no token; a token that sends no probability to the kept ones ("renormalise"); a
                removed token that the walk gets into and never comes back from ("censor"), such as the first
                token of a causal chain: teleport first.

        Source: "censor": Meyer, "Stochastic complementation …" (1989).

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.restrict([0, 1]).to_dense()
            tensor([[0.5000, 0.5000],
                    [0.3333, 0.6667]], dtype=torch.float64)
            >>> chain.restrict([0, 1], how="censor").to_dense()  # by way of token 2 the walk comes back
            tensor([[0.5000, 0.5000],
                    [0.2500, 0.7500]], dtype=torch.float64)
        """
        if how not in ("renormalise", "censor"):
            raise ChainError(f"how = {how!r}, expected 'renormalise' or 'censor'")
        keep = moved(token_set(tokens, self.num_tokens, self.layout).nonzero()[:, 0], self.device)
        layout = None if self.layout is None else self.layout.select(keep.tolist())
        operator = restrict(self.operator, keep) if how == "renormalise" else censor(self.operator, keep)
        return self._like(operator, layout, "restricted" if how == "renormalise" else "censored")

    def teleport(self, alpha: float = 0.99, personalization: Start | None = None) -> Self:
        """alpha · A + (1 − alpha) · 1 vᵀ, the PageRank correction as a chain of its own.

        Args:
            alpha: probability of following attention.
            personalization: v, read as in ``tokenrank``; uniform by default.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.teleport(0.7).to_dense()[0]
            tensor([0.4500, 0.4500, 0.1000], dtype=torch.float64)
        """
        probability("alpha", alpha)
        jump = self._distribution(personalization)
        return self._like(Teleport(self.operator, float(alpha), jump), self.layout, f"teleport {alpha:g}")

    def lazy(self, beta: float = 0.5) -> Self:
        """(1 − beta) · I + beta · A: a step with probability beta, otherwise stay.

        Half a step (beta = 0.5) is a layer of attention rollout, and makes a periodic chain aperiodic.

        Example:
            >>> import tokenrank as tr
            >>> ring = tr.AttentionChain([[0.0, 1.0], [1.0, 0.0]])
            >>> ring.lazy().to_dense()
            tensor([[0.5000, 0.5000],
                    [0.5000, 0.5000]], dtype=torch.float64)
        """
        probability("beta", beta)
        return self._like(Lazy(self.operator, float(beta)), self.layout, f"lazy {beta:g}")

    def reverse(self) -> Self:
        """The column-normalised reversed chain: B[j, i] = A[i, j] / Σ_k A[k, j].

        In the form that the chain has, from logarithms: no column is too small for it.

        Raises:
            ChainError: a token that nobody may attend to.

        Example:
            >>> import tokenrank as tr
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
            >>> chain.reverse().to_dense()
            tensor([[0.6667, 0.3333, 0.0000],
                    [0.3333, 0.3333, 0.3333],
                    [0.0000, 0.3333, 0.6667]], dtype=torch.float64)
        """
        return self._like(reverse(self.operator), self.layout, "reversed")

    def _dimension(self, over: str | int) -> int:
        if not self.batch:
            raise ChainError("this chain has no leading dimension to aggregate over; it is one chain already")
        if over == "heads":
            return len(self.batch) - 1
        if isinstance(over, int) and not isinstance(over, bool) and -len(self.batch) <= over < len(self.batch):
            return over % len(self.batch)
        raise ChainError(f"over = {over!r}, expected 'heads' or a leading dimension of {tuple(self.batch)}")

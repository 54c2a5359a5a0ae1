"""AttentionChain: the object people hold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import ChainError, LayoutError, NotConvergedWarning
from .indexing import leading_index
from .layout import TokenLayout
from .maps import TokenMap
from .markov import Lambda2, bounce, lambda2, stationary
from .operators import Mixture, Operator, Reversed, Teleport, from_query_key, from_scores, from_weights
from .starts import Start, start_distribution

Direction = Literal["forward", "backward"]

MAX_APPLIES = 5000  # attention applications of one TokenRank


class AttentionChain:
    """Softmax attention as a batch of Markov chains; shape (*batch, heads, N, N).

    ``A[..., i, j]`` is the probability of going from query i to key j. Leading dimensions are
    kept: every result has them in front. Made from weights here, from queries and keys with
    ``from_qk`` (matrix-free), from logits with ``from_scores``, or by ``tr.capture``.

    Args:
        weights: (*batch, N, N), rows summing to one; tensor or array. Half precision is widened
            to float32. Row sums off by no more than the rounding of the given dtype are
            divided out.
        layout: which token is what; optional.

    Raises:
        ChainError: not square, empty, NaN, negative, or a row that does not sum to one.
        LayoutError: a layout of another number of tokens.
    """

    operator: Operator
    layout: TokenLayout | None

    def __init__(self, weights: Tensor | np.ndarray, layout: TokenLayout | None = None) -> None:
        self._set(from_weights(_tensor(weights)), layout)

    @classmethod
    def from_qk(
        cls,
        q: Tensor | np.ndarray,
        k: Tensor | np.ndarray,
        scale: float | None = None,
        mask: Tensor | np.ndarray | None = None,
        is_causal: bool = False,
        layout: TokenLayout | None = None,
    ) -> AttentionChain:
        """softmax(scale · q kᵀ + mask), never materialised.

        Args:
            q: (*batch, heads, N, d).
            k: (*batch, heads or a divisor of it, N, d); grouped heads as in PyTorch.
            scale: factor of the logits; 1/√d by default.
            mask: bool (True may attend) or float (added), broadcastable to (*batch, heads, N, N).
            is_causal: token i sees tokens 0 … i.
            layout: which token is what; optional.

        Raises:
            ChainError: shapes that do not fit, NaN or infinite entries, a fully masked row.
        """
        mask = None if mask is None else _tensor(mask)
        return cls.from_operator(from_query_key(_tensor(q), _tensor(k), scale, mask, is_causal), layout)

    @classmethod
    def from_scores(cls, scores: Tensor | np.ndarray, layout: TokenLayout | None = None) -> AttentionChain:
        """softmax of logits (*batch, N, N); −inf is masked.

        Raises:
            ChainError: not square, empty, NaN or +inf, or a row that is −inf throughout.
        """
        return cls.from_operator(from_scores(_tensor(scores)), layout)

    @classmethod
    def from_operator(cls, operator: Operator, layout: TokenLayout | None = None) -> AttentionChain:
        """A chain around an operator (``tokenrank.operators``) of shape (*batch, N, N)."""
        chain = cls.__new__(cls)
        chain._set(operator, layout)
        return chain

    def _set(self, operator: Operator, layout: TokenLayout | None) -> None:
        if layout is not None and layout.num_tokens != operator.num_tokens:
            raise LayoutError(
                f"the layout has {layout.num_tokens} tokens ({dict(layout.spans)}), the chain {operator.num_tokens}; "
                "give spans that cover the chain's tokens"
            )
        self.operator, self.layout = operator, layout

    @property
    def shape(self) -> torch.Size:
        """(*batch, heads, N, N)."""
        return self.operator.shape

    @property
    def batch(self) -> torch.Size:
        """The leading dimensions, heads last."""
        return self.operator.batch

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.operator.num_tokens

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the probabilities: float32 or float64."""
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        """Where results are returned."""
        return self.operator.device

    @property
    def is_causal(self) -> bool:
        """Whether no token attends to a later one."""
        return self.operator.structure == "lower"

    def to_dense(self) -> Tensor:
        """The weights, (*batch, N, N); O(N²) memory."""
        return self.operator.to_dense()

    def __getitem__(self, index: Any) -> AttentionChain:
        """Index the leading dimensions (batch, heads), never the tokens.

        Raises:
            ChainError: an index out of range or with too many entries.
        """
        entries = leading_index(index, self.batch, "tokens are selected with chain.restrict(...)")
        return AttentionChain.from_operator(self.operator.index(*entries), self.layout)

    def __repr__(self) -> str:
        kind = type(self.operator).__name__
        layout = "" if self.layout is None else f", {dict(self.layout.spans)}"
        return f"AttentionChain(shape={tuple(self.shape)}, {kind}{', causal' if self.is_causal else ''}{layout})"

    # ---- where the walk goes

    def bounce(self, start: Start, n: int = 1, direction: Direction = "forward", path: bool = False) -> TokenMap:
        """Multi-bounce attention from ``start``: vᵀAⁿ.

        Args:
            start: a token index, several, a bool mask, ``tr.at(x, y)``, a span's name, a word,
                or a distribution (…, N).
            n: bounces; 1 is row selection (forward) or normalised column selection (backward),
                0 the start itself.
            direction: "forward" follows attention; "backward" walks the column-normalised
                reversed chain, towards the tokens that attend to the start.
            path: also return the way: values (n + 1, *batch, N), entry k after k bounces.

        Returns:
            TokenMap of values (*batch, N), each a distribution.

        Source: "Attention (as Discrete-Time Markov) Chains", multi-bounce attention.
        """
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0:
            raise ChainError(f"n = {n!r} bounces, expected a whole number ≥ 0")
        operator = self._towards(direction)
        v = start_distribution(start, self.shape, self.layout).to(self.device, self.dtype)
        steps = bounce(operator, v, int(n))
        return TokenMap(steps if path else steps[-1], self.layout)

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
            that did not converge warns once.

        Source: "Attention (as Discrete-Time Markov) Chains", TokenRank; Brin and Page (1998).
        """
        _probability("alpha", alpha)
        if not tol > 0:
            raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-6")
        max_applies = MAX_APPLIES if max_applies is None else max_applies
        if max_applies < 2:
            raise ChainError(f"max_applies = {max_applies!r}, expected at least 2: one step and one to judge it by")
        jump = self._distribution(personalization)
        operator = self._towards(direction)
        answer = stationary(operator, float(alpha), jump, tol, max_applies)
        if not bool(answer.certificate.converged.all()):
            open_heads = int((~answer.certificate.converged).sum())
            warnings.warn(
                f"TokenRank did not reach tol = {tol:g} in {open_heads} of {answer.certificate.converged.numel()} "
                f"chains ({answer.certificate}); raise max_applies, lower alpha, or loosen tol",
                NotConvergedWarning,
                stacklevel=2,
            )
        return TokenMap(answer.values, self.layout, answer.certificate)

    def lambda2(self) -> Lambda2:
        """|λ2|, the second-largest eigenvalue modulus of every head, with its residual.

        Near one: a slow chain with metastable groups of tokens; near zero: one bounce forgets
        where it started. See ``tokenrank.markov.lambda2``.
        """
        return lambda2(self.operator)

    # ---- other chains

    def aggregate(
        self,
        weights: Literal["lambda2", "uniform"] | Tensor | Sequence[float] = "lambda2",
        over: str | int = "heads",
    ) -> AttentionChain:
        """One chain from many: Σ w_h A_h with Σ w_h = 1.

        Args:
            weights: "uniform"; "lambda2" (each head by its |λ2|, as the paper weighs heads); or
                non-negative numbers, (H,) or (*batch, H), normalised here.
            over: "heads" (the last leading dimension) or the number of a leading dimension.

        Returns:
            A chain without that dimension.
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
                w = self.lambda2().values
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
        return AttentionChain.from_operator(Mixture(operator, w), self.layout)

    def restrict(self, tokens: Start, how: Literal["renormalise"] = "renormalise") -> AttentionChain:
        """The chain on some tokens only, rows renormalised; such as ``chain.restrict("image")``.

        For queries and keys that equals softmax over the kept keys alone.

        Args:
            tokens: indices, a bool mask (N,), a span's name or a word; the order of the
                sequence is kept.
            how: "renormalise".

        Raises:
            ChainError: no token, or a token that sends no probability to the kept ones.
        """
        if how != "renormalise":
            raise ChainError(f"how = {how!r}, expected 'renormalise'")
        chosen = start_distribution(tokens, torch.Size(self.shape[-2:]), self.layout) > 0
        keep = chosen.nonzero()[:, 0].to(self.device)
        layout = None if self.layout is None else self.layout.select(keep.tolist())
        return AttentionChain.from_operator(self.operator.restrict(keep), layout)

    def teleport(self, alpha: float = 0.99, personalization: Start | None = None) -> AttentionChain:
        """alpha · A + (1 − alpha) · 1 vᵀ, the PageRank correction as a chain of its own."""
        _probability("alpha", alpha)
        jump = self._distribution(personalization)
        return AttentionChain.from_operator(Teleport(self.operator, float(alpha), jump), self.layout)

    def reverse(self) -> AttentionChain:
        """The column-normalised reversed chain: B[j, i] = A[i, j] / Σ_k A[k, j].

        Raises:
            ChainError: a token that nobody attends to.
        """
        return AttentionChain.from_operator(Reversed(self.operator), self.layout)

    def _towards(self, direction: Direction) -> Operator:
        if direction == "forward":
            return self.operator
        if direction == "backward":
            return Reversed(self.operator)
        raise ChainError(f"direction = {direction!r}, expected 'forward' or 'backward'")

    def _distribution(self, personalization: Start | None) -> Tensor:
        if personalization is None:
            n = self.num_tokens
            return torch.full((n,), 1 / n, dtype=torch.float64, device=self.device).expand(*self.batch, n)
        return start_distribution(personalization, self.shape, self.layout).to(self.device)

    def _dimension(self, over: str | int) -> int:
        if not self.batch:
            raise ChainError("this chain has no leading dimension to aggregate over; it is one chain already")
        if over == "heads":
            return len(self.batch) - 1
        if isinstance(over, int) and not isinstance(over, bool) and -len(self.batch) <= over < len(self.batch):
            return over % len(self.batch)
        raise ChainError(f"over = {over!r}, expected 'heads' or a leading dimension of {tuple(self.batch)}")


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    except (TypeError, ValueError) as error:
        raise ChainError(f"{type(values).__name__} is no tensor or array of numbers: {error}") from None


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ChainError(f"{name} = {value!r}, expected a probability from 0 to 1")

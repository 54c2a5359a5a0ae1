"""What the chains of the campaign are made of: built by the library, and once more in any kind of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.operators import Dense

from .numbers import Array, Numbers, UnsureError
from .oracles import complement, reverse

Support = Array
Exact = tuple[Array, Support]  # (*batch, N, N) both


class Made:
    """A chain that the library builds once."""

    @cached_property
    def chain(self) -> tr.AttentionChain:
        return self.build()

    def build(self) -> tr.AttentionChain:
        raise NotImplementedError

    def exact(self, numbers: Numbers) -> Exact:
        """What was given, in these numbers: (*batch, N, N), and where steps are possible."""
        raise NotImplementedError

    def asked(self, numbers: Numbers) -> Exact:
        """The chain that answers are about: of the stored weights where weights are stored, else of what was given."""
        if isinstance(self.chain.operator, Dense):
            stored = self.chain.operator.weights
            a = numbers.array(stored)
            return a / a.sum(-1)[..., None], (stored > 0).numpy()
        return self.exact(numbers)


@dataclass(frozen=True)
class Weights(Made):
    """Stored weights (*batch, N, N)."""

    weights: Tensor

    def build(self) -> tr.AttentionChain:
        return tr.AttentionChain(self.weights)

    def exact(self, numbers: Numbers) -> Exact:
        a = numbers.array(self.weights)
        return a / a.sum(-1)[..., None], (self.weights > 0).numpy()

    @property
    def size(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Scores(Made):
    """Logits (*batch, N, N), −inf where masked."""

    scores: Tensor

    def build(self) -> tr.AttentionChain:
        return tr.AttentionChain.from_scores(self.scores)

    def exact(self, numbers: Numbers) -> Exact:
        seen = torch.isfinite(self.scores)
        return softmax(numbers.array(torch.where(seen, self.scores, 0.0)), seen.numpy(), numbers), seen.numpy()

    @property
    def size(self) -> float:
        return float(torch.where(torch.isfinite(self.scores), self.scores, 0.0).double().abs().max())


@dataclass(frozen=True)
class QueryKey(Made):
    """softmax(scale · q kᵀ + mask) of q (*batch, N, d), k (*batch or fewer heads, N, d)."""

    q: Tensor
    k: Tensor
    scale: float
    mask: Tensor | None = None  # bool, or added; broadcasts to (*batch, N, N)
    causal: bool = False

    def build(self) -> tr.AttentionChain:
        return tr.AttentionChain.from_qk(self.q, self.k, self.scale, self.mask, self.causal)

    def exact(self, numbers: Numbers) -> Exact:
        q, k = numbers.array(self.q), numbers.array(self._keys())
        n = q.shape[-2]
        logits = numbers.zeros(*q.shape[:-1], n)
        for column in range(q.shape[-1]):
            logits = logits + q[..., :, None, column] * k[..., None, :, column]
        logits = logits * numbers.one(self.scale)
        seen = np.ones(logits.shape, dtype=bool)
        if self.mask is not None:
            allowed = self.mask if self.mask.dtype == torch.bool else torch.isfinite(self.mask)
            seen &= allowed.numpy()
            if self.mask.dtype != torch.bool:
                logits = logits + numbers.array(torch.where(allowed, self.mask, 0.0))
        if self.causal:
            seen &= np.tri(n, dtype=bool)
        return softmax(logits, seen, numbers), seen

    def _keys(self) -> Tensor:
        return (
            self.k
            if self.k.shape == self.q.shape
            else self.k.repeat_interleave(self.q.shape[-3] // self.k.shape[-3], -3)
        )

    @property
    def size(self) -> float:
        """The largest Σ_d |q_d k_d| · scale, and of what is added."""
        most = float((self.q.double().abs() @ self._keys().double().abs().mT).max()) * self.scale
        if self.mask is not None and self.mask.dtype != torch.bool:
            most += float(torch.where(torch.isfinite(self.mask), self.mask, 0.0).double().abs().max())
        return most


Leaf = Weights | Scores | QueryKey


@dataclass(frozen=True)
class Teleported(Made):
    inner: Spec
    alpha: float
    jump: Tensor | None

    def build(self) -> tr.AttentionChain:
        return self.inner.chain.teleport(self.alpha, self.jump)

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        n = a.shape[-1]
        v = numbers.array(torch.ones(n) if self.jump is None else self.jump)
        v, alpha = v / v.sum(), numbers.one(self.alpha)
        return alpha * a + (1 - alpha) * v, (support if self.alpha else support & False) | (v > 0)

    @property
    def size(self) -> float:
        return self.inner.size


@dataclass(frozen=True)
class Lazy(Made):
    inner: Spec
    beta: float

    def build(self) -> tr.AttentionChain:
        return self.inner.chain.lazy(self.beta)

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        beta, eye = numbers.one(self.beta), np.eye(a.shape[-1], dtype=int)
        return (1 - beta) * eye + beta * a, support | (eye > 0)

    @property
    def size(self) -> float:
        return self.inner.size


@dataclass(frozen=True)
class Kept(Made):
    inner: Spec
    keep: Sequence[int]
    how: Literal["renormalise", "censor"]

    def build(self) -> tr.AttentionChain:
        return self.inner.chain.restrict(list(self.keep), how=self.how)

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        keep = np.array(sorted(self.keep))
        if self.how == "renormalise":
            block = a[..., keep[:, None], keep]
            sums = block.sum(-1)
            if not (sums > 0).all():
                raise UnsureError("a row underflows")
            return block / sums[..., None], support[..., keep[:, None], keep]
        rest = np.setdiff1d(np.arange(a.shape[-1]), keep)
        flat = [complement(x, keep) for x in a.reshape(-1, *a.shape[-2:])]
        paths = support.reshape(-1, *support.shape[-2:]).copy()
        for r in rest:
            paths = paths | (paths[:, :, [r]] & paths[:, [r], :])
        shape = (*a.shape[:-2], len(keep), len(keep))
        return np.stack(flat).reshape(shape), paths[:, keep[:, None], keep].reshape(shape)

    @property
    def size(self) -> float:
        return self.inner.size


@dataclass(frozen=True)
class Reversed(Made):
    inner: Spec

    def build(self) -> tr.AttentionChain:
        return self.inner.chain.reverse()

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        flat = [reverse(x) for x in a.reshape(-1, *a.shape[-2:])]
        return np.stack(flat).reshape(a.shape), np.swapaxes(support, -1, -2)

    @property
    def size(self) -> float:
        return self.inner.size


@dataclass(frozen=True)
class Mixed(Made):
    """The last leading dimension mixed with weights (H,)."""

    inner: Spec
    weights: Sequence[float]

    def build(self) -> tr.AttentionChain:
        return self.inner.chain.aggregate(list(self.weights))

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        w = numbers.array(np.array(self.weights))
        w = w / w.sum()
        mixed = sum((w[h] * a[..., h, :, :] for h in range(len(w))), start=a[..., 0, :, :] * 0)
        return mixed, support[..., np.array(self.weights) > 0, :, :].any(-3)

    @property
    def size(self) -> float:
        return self.inner.size


@dataclass(frozen=True)
class Composed(Made):
    """Layers in the order in which they run."""

    layers: Sequence[Spec]
    residual: float

    def build(self) -> tr.AttentionChain:
        return tr.compose([layer.chain for layer in self.layers], self.residual)

    def exact(self, numbers: Numbers) -> Exact:
        share, product, possible = numbers.one(self.residual), None, None
        for layer in reversed(self.layers):
            a, support = layer.asked(numbers)
            eye = np.eye(a.shape[-1], dtype=int)
            a = share * eye + (1 - share) * a
            support = support | (eye > 0) if self.residual else support
            product = a if product is None else product @ a
            possible = support if possible is None else (possible.astype(int) @ support.astype(int)) > 0
        assert product is not None
        assert possible is not None
        return product, possible

    @property
    def size(self) -> float:
        return max(layer.size for layer in self.layers)


@dataclass(frozen=True)
class Crossed(Made):
    """Image tokens that step over to text tokens by C (*batch, N, M) and stay there, or come back at once."""

    inner: Spec
    cross: Tensor
    step: float
    how: Literal["absorb", "relay"]

    def build(self) -> tr.AttentionChain:
        return tr.bipartite(self.inner.chain, self.cross, self.step, self.how)

    def exact(self, numbers: Numbers) -> Exact:
        a, support = self.inner.asked(numbers)
        c, seen = numbers.array(self.cross), (self.cross > 0).numpy()
        c = c / c.sum(-1)[..., None]
        if self.how == "relay":
            back = np.swapaxes(c / c.sum(-2)[..., None, :], -1, -2)
            return c @ back, (seen.astype(int) @ np.swapaxes(seen, -1, -2).astype(int)) > 0
        p, n, m = numbers.one(self.step), a.shape[-1], c.shape[-1]
        joint, possible = (
            numbers.zeros(*a.shape[:-2], n + m, n + m),
            np.zeros((*a.shape[:-2], n + m, n + m), dtype=bool),
        )
        joint[..., :n, :n], joint[..., :n, n:] = (1 - p) * a, p * c
        possible[..., :n, :n], possible[..., :n, n:] = support if self.step < 1 else False, seen
        own = np.arange(n, n + m)
        joint[..., own, own], possible[..., own, own] = numbers.one(1), True
        return joint, possible

    @property
    def size(self) -> float:
        return self.inner.size


Spec = Leaf | Teleported | Lazy | Kept | Reversed | Mixed | Composed | Crossed


def softmax(logits: Array, seen: Array, numbers: Numbers) -> Array:
    """Rows of softmax over what is seen; zero elsewhere."""
    top = np.where(seen, logits, logits.min()).max(-1)
    e = np.where(seen, numbers.exp(np.where(seen, logits - top[..., None], 0 * logits)), 0 * logits)
    return e / e.sum(-1)[..., None]

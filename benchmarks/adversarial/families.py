"""Families of chains that break solvers: each a seeded function of a generator, leading dimensions and a size.

Simple ones in ``adversarial/softmaxes.py`` and ``adversarial/matrices.py``; here those that are made of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import softmaxes  # noqa: F401  # isort: skip  families register themselves, in this order
from . import matrices  # noqa: F401  # isort: skip

from .chains import Composed, Crossed, Kept, Lazy, Mixed, QueryKey, Reversed, Scores, Spec, Teleported, Weights
from .registry import FAMILIES, LARGEST, Batch, Generator, dirichlet, family, pick, tensor

SIMPLE = list(FAMILIES)


def inner(rng: Generator, batch: Batch, n: int) -> Spec:
    name = pick(rng, [name for name in SIMPLE if name not in LARGEST and name != "one state"])
    return FAMILIES[name](rng, batch, max(n, 2))


def tokens_of(spec: Spec) -> int:
    """N, which a family may have made larger."""
    if isinstance(spec, Weights):
        return spec.weights.shape[-1]
    if isinstance(spec, Scores):
        return spec.scores.shape[-1]
    if isinstance(spec, QueryKey):
        return spec.q.shape[-2]
    raise TypeError(type(spec))


@family("teleported")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    spec = inner(rng, batch, n)
    size = tokens_of(spec)
    jump = None if rng.random() < 0.5 else tensor(np.eye(size)[int(rng.integers(size))])
    return Teleported(spec, pick(rng, [0.0, 0.5, 0.9, 0.999, 1 - 1e-9]), jump)


@family("lazy")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return Lazy(inner(rng, batch, n), pick(rng, [0.5, 0.9, 1e-6]))


@family("restricted")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    spec = inner(rng, batch, max(n, 3))
    size = tokens_of(spec)
    return Kept(spec, some_tokens(rng, size), "renormalise")


@family("censored")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    spec = inner(rng, batch, max(n, 3))
    size = tokens_of(spec)
    around = Teleported(spec, pick(rng, [0.5, 0.99, 1 - 1e-9]), None) if rng.random() < 0.6 else spec
    return Kept(around, some_tokens(rng, size), "censor")


@family("reversed")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return Reversed(inner(rng, batch, n))


@family("reversed twice")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return Reversed(Reversed(inner(rng, batch, n)))


@family("mixture of heads")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    heads = 3
    return Mixed(
        inner(rng, (*batch, heads), n),
        (rng.dirichlet(np.ones(heads)) if rng.random() < 0.7 else np.array([1.0, 0, 2])).tolist(),
    )


@family("layers in a row")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    first = inner(rng, batch, n)
    size = tokens_of(first)
    others = [s for s in (inner(rng, batch, size) for _ in range(2)) if tokens_of(s) == size]
    return Composed([first, *others], pick(rng, [0.0, 0.5]))


@family("made twice")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    spec = inner(rng, batch, max(n, 3))
    size = tokens_of(spec)
    keep = some_tokens(rng, size)
    made: list[Callable[[], Spec]] = [
        lambda: Reversed(Teleported(spec, 0.9, None)),
        lambda: Kept(Reversed(Teleported(spec, 0.99, None)), keep, "censor"),
        lambda: Teleported(Kept(spec, keep, "renormalise"), 0.9, None),
        lambda: Lazy(Kept(Teleported(spec, 0.99, None), keep, "censor"), 0.5),
        lambda: Kept(Kept(Teleported(spec, 0.99, None), keep, "censor"), range(max(1, len(keep) - 1)), "renormalise"),
    ]
    return pick(rng, made)()


@family("cross-attention")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    spec = inner(rng, batch, n)
    size = tokens_of(spec)
    cross = tensor(dirichlet(rng, batch, max(size, 2), 0.3)[..., :size, : int(rng.integers(1, size + 1))] + 1e-9)
    cross = cross / cross.sum(-1, keepdim=True)
    return Crossed(spec, cross, pick(rng, [1e-6, 0.1, 1.0]), pick(rng, ["absorb", "relay"]))


def some_tokens(rng: Generator, size: int) -> list[int]:
    return sorted(rng.permutation(size)[: int(rng.integers(1, size + 1))].tolist())

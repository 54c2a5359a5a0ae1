"""|λ2|: how slowly a head forgets where the walk began."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..operators import Dense, Operator
from ..progress import track
from .certificate import Certificate
from .eigen.device_lambda2 import every_eigenvalue, on_device
from .eigen.found import MARGIN, TOLERANCE, Found, exact, larger, measured, settled
from .eigen.located import classes, largest_modulus, locate, relative_error
from .eigen.search import Search, some_heads
from .engine import constants
from .engine.batching import told_groups
from .engine.krylov import Apply, centred, quotient
from .result import Result
from .support.communicating import Graph


@dataclass(frozen=True, repr=False)
class Lambda2(Result):
    """Second-largest eigenvalue modulus of every head.

    Attributes:
        values: |λ2|, (*batch), 0 … 1.
        certificate: ``error_bound`` is proved, whatever the condition of the eigenvalue, wherever all eigenvalues were
            taken or the support alone decides; inf for heads that only iteration has seen. Their ``residual`` is
            ‖M y − λ y‖₂ of the unit Ritz vector y on the quotient in float64; 0 elsewhere. Uncertain where the bound
            is above ``ERROR``; for heads without one where the residual is above ``TOLERANCE`` · max(|λ2|, 0.1), as it
            is on rings of eigenvalues of (almost) one modulus, or its product with the condition of the
            eigenvalue above ``ERROR``. The value is then an estimate. ``method`` is the costliest that a head
            needed.
        caption: where the chain comes from, in words.
    """

    LABELS = (("values", "|λ2|"),)

    values: Tensor
    certificate: Certificate
    caption: str = field(default="", compare=False)


def lambda2(operator: Operator, seed: int = 0, proved: bool = True) -> Lambda2:
    """|λ2| of every head of an operator (*batch, N, N), without its π.

    Triangular (causal) chains have their eigenvalues on the diagonal. Others fall into their communicating classes,
    which are exact, from the support: a class of one token has the eigenvalue A_ii, a second recurrent class and a
    periodic one have |λ| = 1. Of what is left up to 128 tokens get all eigenvalues, with proved discs about them.

    Beyond that: A 1 = 1, so X ↦ A X − mean(A X) has the eigenvalues {0, λ2, λ3, …}: attend, subtract the
    mean over tokens (quotient deflation). Subspace iteration on that map and its powers for all heads at once, and
    block Arnoldi, restarted, for those that have not settled. Where eigenvalues of one modulus form a ring neither
    converges: up to 512 tokens all eigenvalues are taken, beyond that the growth of ‖Mᵏ X‖ gives an estimate, and
    ``uncertain`` is set.

    With ``proved=False`` that is done from ``constants.SUBSPACE_FEWEST`` tokens on, which saves the proofs up to 128
    tokens where values only weigh heads. They are within ``ERROR`` as residual times condition says it, and
    ``error_bound`` is inf, not known, unless classes or all eigenvalues decide.

    On the device path all heads share one Krylov space of single precision (``eigen/device_lambda2.py``), whose
    answers are measured in float64 by one product; what a value, a residual and a doubt mean is the same.

    A chain of one token has no second eigenvalue; its |λ2| is 0.
    """
    heads, n = math.prod(operator.batch), operator.num_tokens
    flat = operator.reshape(heads)
    if n == 1:
        found = Found.nothing(heads, operator.device)
        found.put(slice(None), exact(found.values, found.values))
    elif operator.structure != "full":
        values = flat.diagonal(torch.float64).topk(2, -1).values[:, 1].clamp(max=1)
        found = exact(values, values * relative_error(flat))
    elif n <= constants.ALL_EIGENVALUES and (proved or n < constants.SUBSPACE_FEWEST):
        if flat.path == "device":
            found = every_eigenvalue(flat)
        else:
            found = Found.nothing(heads, operator.device)
            for part, group in told_groups(operator, torch.float64, "|λ2|"):
                found.put(part, _all(group, classes(flat.index(part)), relative_error(flat.index(part))))
    else:
        found = on_device(flat, seed) if flat.path == "device" else _large(flat, seed)
    values = found.values.to(operator.dtype)
    bound = found.bound + (values.double() - found.values).abs()
    bound = bound + torch.finfo(torch.float64).eps * (bound > 0)
    bound = torch.where(bound < 1, bound, torch.inf)  # of a number from 0 to 1 it would say nothing
    bounded = not bool(torch.isinf(bound).all()) if found.bounded is None else found.bounded
    uncertain = found.uncertain.reshape(operator.batch)
    certificate = Certificate(
        ~uncertain,
        found.residual.reshape(operator.batch),
        bound.reshape(operator.batch) if bounded else None,
        found.applies,
        found.method,
        about=operator.source,
    )
    return Lambda2(values.reshape(operator.batch), certificate)


def _all(group: Operator, graphs: Sequence[Graph], relative: Tensor) -> Found:
    """All eigenvalues of heads (h, N, N)."""
    known = locate(group.to_dense(torch.float64), graphs, relative)
    first = known.values[:, 0].abs()
    values = torch.minimum(torch.maximum(first, known.lower), known.upper)
    return exact(values, torch.maximum(known.upper - values, values - known.lower), "eigenvalues")


def _large(flat: Operator, seed: int) -> Found:
    """More tokens than all eigenvalues are taken of at once: classes where there are several, then Krylov spaces."""
    heads, n = flat.shape[:2]
    found = Found.nothing(heads, flat.device)
    whole = torch.arange(heads, device=flat.device)
    materialised = isinstance(flat, Dense) or n * n * 8 <= constants.DENSE_BYTES
    if materialised and not _everywhere(flat):
        found_classes = classes(flat)
        alone = torch.tensor([len(g.recurrent) == 1 and int(g.period[0]) == 1 for g in found_classes])
        for head in (~alone).nonzero()[:, 0].tolist():
            found.put(slice(head, head + 1), _by_classes(flat.index(slice(head, head + 1)), found_classes[head], seed))
        whole = alone.nonzero()[:, 0].to(flat.device)
    # heads that share a Krylov space are as many as stay in the cache from one apply to the next
    size = max(1, constants.LAMBDA2_BYTES // (n * n * flat.dtype.itemsize)) if materialised else max(1, heads)
    parts = whole.split(size) if len(whole) else ()
    for some in parts if heads < 2 else track(parts, "|λ2| of heads", len(whole), counts=len):
        first, last = int(some[0]), int(some[-1])
        part = flat.index(slice(first, last + 1) if last - first + 1 == len(some) else some)
        if materialised and not isinstance(part, Dense):
            wide = Dense(part.to_dense(torch.float64))
            found.put(some, _iterated(Dense(wide.weights.to(flat.dtype)), wide, part, seed))
        else:
            found.put(some, _iterated(part, part, part, seed))
    return found


def _everywhere(flat: Operator) -> bool:
    """Whether every step is possible: N² looks."""
    return bool(flat.weights.amin() > 0) if isinstance(flat, Dense) else bool(flat.support().all())


def _by_classes(one: Operator, graph: Graph, seed: int) -> Found:
    """A head (1, N, N) that falls into several classes, or is periodic."""
    a, relative = one.to_dense(torch.float64)[0], relative_error(one)

    def entries(states: np.ndarray) -> Tensor:
        index = torch.from_numpy(states).to(a.device)
        return a[index[:, None], index]

    value, lower, upper, left = largest_modulus(a.diagonal(), entries, graph, relative[0], constants.ALL_EIGENVALUES)
    found = exact(value[None], torch.maximum(upper - value, value - lower)[None], "classes")
    for block in left:
        weights = Dense(entries(block.states)[None])
        other = _iterated(weights, weights, weights, seed, block.recurrent)
        found = larger(found, other)
    return found


def _iterated(operator: Operator, wide: Operator, source: Operator, seed: int, deflate: bool = True) -> Found:
    """Heads (h, N, N) by products with ``operator``, as far as these settle.

    Answers are measured in float64 on ``wide``, the same heads, and ``source`` is what they were made from. With
    ``deflate`` on the quotient; otherwise the heads are parts of a chain that are left, rows below one.
    """
    heads, n = operator.shape[:2]
    dense = isinstance(operator, Dense)  # whose row-major product is the faster one

    def map_of(part: Operator) -> Apply:
        if deflate:
            return quotient(part, dense)
        return part.T.__matmul__ if dense else part.__matmul__

    def project(x: Tensor) -> Tensor:
        return centred(x) if deflate else x

    generator = torch.Generator().manual_seed(seed)

    def start(columns: int) -> Tensor:
        block = torch.randn(n, columns, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
        return project(block).expand(heads, -1, -1)

    search = Search(operator, map_of, start, partial(settled, share=MARGIN))
    if isinstance(operator, Dense) and n >= constants.SUBSPACE_FEWEST:
        weights = operator.weights
        powers = n <= constants.SUBSPACE_SQUARED and deflate
        search.powers((lambda some: _centred_rows(weights[some])) if powers else None)
    method = "subspace"
    # up to so many tokens all eigenvalues are cheaper than a Krylov space
    if len(search.left) and n > constants.ALL_EIGENVALUES:
        method = "arnoldi"
        # columns are nearly free in a fused attention call; a dense product pays for each
        search.krylov(2 if dense else 8, TOLERANCE)
    values, residual = search.values, search.residual
    ready = torch.ones(heads, dtype=torch.bool, device=operator.device)
    ready[search.left] = False
    if bool(ready.any()):  # in double precision, all at once: the heads are read once more
        some = ready.nonzero()[:, 0]
        values[some], residual[some] = measured(map_of(some_heads(wide, some)), search.vectors[some])
    uncertain = ~ready | ~settled(values, residual, search.condition)
    found = Found(values, residual, torch.full_like(values, torch.inf), uncertain, search.applies + 1, method)
    doubted = uncertain.nonzero()[:, 0]
    if len(doubted) and n <= constants.LAMBDA2_STUBBORN and deflate:
        part = some_heads(source, doubted)
        found.put(doubted, _all(some_heads(wide, doubted), classes(part), relative_error(part)))
    elif len(search.left):
        values[search.left] = torch.maximum(values[search.left], search.growth(project).double())
        found.applies = search.applies + 1
    found.values = found.values.clamp(max=1)
    return found


def _centred_rows(weights: Tensor) -> Tensor:
    """The transpose of X ↦ Aᵀ X − mean: rows of A (…, N, N) less their means."""
    return weights - weights.mean(-1, keepdim=True)

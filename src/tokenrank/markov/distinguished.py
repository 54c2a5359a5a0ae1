"""Killed walks whose tokens fall into several communicating classes: which of them survives longest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..operators import Operator
from .killed import Killed
from .perron import perron
from .support.communicating import Bools, Ints, communicating

EQUAL = 1e-12  # Perron roots of classes closer than this, relatively, count as equal


def distinguished(killed: Killed, support: Tensor, tol: float, max_applies: int) -> tuple[Tensor, Tensor, int, str]:
    """A left Perron vector (h, N) of Q for α = 1, whether it is the only one (h,), the applies and the method.

    Args:
        killed: Q = A[S, S].
        support: where a step of A is possible, bool (h, N, N).
        tol, max_applies: for classes that are iterated.

    Non-negative left vectors of the largest eigenvalue θ are mixtures of those that begin in a class with Perron
    root θ that can reach no other class with that root. Such a class C has its own Perron vector v_C, and the
    tokens R that it feeds x_R (θI − Q_RR) = v_C Q_CR, an M-matrix since all roots in R are smaller.

    Source: van Doorn and Pollett (2009), for Perron vectors of reducible matrices in general Berman and Plemmons,
    "Nonnegative Matrices in the Mathematical Sciences" (1979), chapter 2.
    """
    heads, n = killed.alive.shape
    support = support.expand(heads, n, n)
    x = torch.zeros(heads, n, dtype=torch.float64, device=support.device)
    unique = torch.ones(heads, dtype=torch.bool, device=support.device)
    whole, applies, method = [], 0, "inverse iteration"
    for head in range(heads):
        kept = killed.alive[head].nonzero()[:, 0]
        possible = support[head][kept][:, kept].cpu().numpy()
        labels = communicating(possible)
        if labels.max() == 0 and (len(kept) > 1 or possible[0, 0]):
            whole.append(head)
            continue
        one = killed.index(torch.tensor([head], device=support.device))
        x[head], alone, spent = _of_classes(one, kept, possible, labels, tol, max_applies)
        unique[head], applies, method = alone, max(applies, spent), "classes"
    if whole:
        together = torch.tensor(whole, device=support.device)
        x[together], spent, how = perron(killed.index(together), tol, max_applies)
        applies, method = max(applies, spent), how if method != "classes" else method
    return x, unique, applies, method


def _of_classes(
    killed: Killed, kept: Tensor, possible: Bools, labels: Ints, tol: float, max_applies: int
) -> tuple[Tensor, bool, int]:
    """The vector (N,) of one head (batch 1), whether it is the only one, and the applies."""
    count = int(labels.max()) + 1
    members = [kept[torch.from_numpy(labels == c).to(kept.device)] for c in range(count)]
    loops = killed.operator.diagonal(torch.float64)[0].tolist()
    roots, vectors, applies = np.zeros(count), [torch.zeros(0)] * count, 0
    for c, tokens in enumerate(members):
        inside = torch.zeros_like(killed.alive).index_fill(-1, tokens, True)
        if len(tokens) == 1:
            roots[c], vectors[c] = loops[int(tokens[0])], inside[0].double()
            continue
        of_class = Killed(killed.operator, inside, 1.0)
        v, spent, _ = perron(of_class, tol, max_applies)
        roots[c], vectors[c], applies = float(of_class.image(v).sum()), v[0], max(applies, spent)
    theta = roots.max()
    candidates = roots >= theta * (1 - EQUAL)
    reach = _reach(possible, labels, count)
    beginnings = candidates & ~(reach & candidates[None] & ~np.eye(count, dtype=bool)).any(1)
    chosen = int(beginnings.argmax())
    fed = np.isin(labels, reach[chosen].nonzero()[0]) & (labels != chosen)
    v, r = vectors[chosen].to(kept.device), kept[torch.from_numpy(fed).to(kept.device)]
    if len(r):
        q = killed.operator.to_dense(torch.float64)[0]
        system = roots[chosen] * torch.eye(len(r), dtype=q.dtype, device=q.device) - q[r][:, r].mT
        v = v.index_copy(0, r, torch.linalg.solve(system, v @ q[:, r]).clamp(min=0))
    return v / v.sum(), int(beginnings.sum()) == 1, applies


def _reach(possible: Bools, labels: Ints, count: int) -> Bools:
    """Which class can get to which, (C, C); a class reaches itself.

    Source: Warshall, "A theorem on Boolean matrices" (1962).
    """
    reach = np.eye(count, dtype=bool)
    steps = possible.nonzero()
    reach[labels[steps[0]], labels[steps[1]]] = True
    for middle in range(count):
        reach[reach[:, middle]] |= reach[middle]
    return reach


def tied_alone(operator: Operator, alive: Tensor, tied: Tensor) -> Tensor:
    """Whether of the tokens ``tied`` only one reaches no other over the tokens ``alive``, (h,); A triangular (h, N, N).

    These are the tokens whose attention to themselves is the Perron root.
    """
    heads, n = alive.shape
    support = operator.support().expand(heads, n, n)
    alone = torch.zeros(heads, dtype=torch.bool, device=alive.device)
    for head in range(heads):
        possible, inside, root = (t[head].cpu().numpy() for t in (support, alive, tied))
        onward = possible & inside & ~np.eye(n, dtype=bool)
        to_root = np.zeros(n, dtype=bool)
        for token in range(n) if operator.structure == "lower" else reversed(range(n)):
            to_root[token] = (onward[token] & (root | to_root)).any()
        alone[head] = int((root & ~to_root).sum()) == 1
    return alone

"""Merging of attention maps that say the same, as in DiffSeg, a few rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

FLOOR = 1e-20  # probabilities below count as this much, so that a masked token makes no distance infinite
SHARE = 0.05  # of the pairs of anchors that "auto" calls the same
SMALLEST = 1e-9  # of distances that "auto" gives
ROWS = 256  # of maps in double precision at a time


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """½ [KL(p‖q) + KL(q‖p)] = ½ Σ (p − q)(log p − log q) of all pairs, float64.

    Every logarithm is taken once; of ``q`` no more than 256 rows are in double precision at a time.

    Args:
        p: (M, N) and q: (K, N), rows are distributions; entries below 1e-20 count as 1e-20.

    Returns:
        (M, K), ≥ 0.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), the distance of attention maps. Their code takes
    those of the first iteration in half precision, where an entry below 6e-8 is zero; here all are in double.
    """
    p = p.double().clamp(min=FLOOR)
    log_p = p.log()
    own_p = (p * log_p).sum(-1)[:, None]
    parts = []
    for rows in q.split(ROWS):
        rows = rows.double().clamp(min=FLOOR)
        log = rows.log()
        parts.append(own_p + (rows * log).sum(-1) - p @ log.mT - log_p @ rows.mT)
    return torch.cat(parts, -1).mul_(0.5).clamp_(min=0)


def merge(maps: Tensor, anchors: Tensor, tau: float, iterations: int = 3, *, distances: Tensor | None = None) -> Tensor:
    """Proposals of segments from anchors' attention maps.

    The first iteration replaces each anchor's map by the mean of all maps closer than ``tau``. Each further one goes
    through the proposals in order: one that was not yet absorbed absorbs all that are closer than ``tau`` and
    becomes their mean. What was absorbed before can be averaged in again, so the answer depends on the order of the
    anchors; sort them by what should count (``cluster`` can sort by TokenRank).

    Args:
        maps: (N, P), rows are distributions over P tokens.
        anchors: int64 (M,), rows to begin with, in order.
        tau: distance below which two maps say the same.
        iterations: 1 or more.
        distances: ``symmetric_kl(maps[anchors], maps)``, (M, N), where it is known: for several ``tau``.

    Returns:
        (K ≤ M, P) float64 proposals, rows are distributions.

    Raises:
        InputError: no anchor, or iterations below 1, or a tau that is not positive.

    Source: Tian et al. (CVPR 2024), iterative attention merging; the order as in the authors' code.
    """
    if iterations < 1 or not tau > 0 or not len(anchors):
        raise InputError(
            f"{len(anchors)} anchors, tau = {tau!r}, iterations = {iterations!r}; expected one anchor at least, a "
            "positive distance and one iteration at least"
        )
    if distances is None:
        distances = symmetric_kl(maps[anchors], maps)
    near = (distances < tau).double()
    proposals = torch.zeros(len(anchors), maps.shape[1], dtype=torch.float64, device=maps.device)
    for chosen, rows in zip(near.split(ROWS, 1), maps.split(ROWS), strict=True):
        if bool(chosen.any()):
            proposals.addmm_(chosen, rows.double())
    proposals /= near.sum(-1, keepdim=True)
    for _ in range(iterations - 1):
        proposals = absorbed(proposals, tau)
    return proposals


def absorbed(proposals: Tensor, tau: float) -> Tensor:
    """One round of merging: (M, P) → (K ≤ M, P); see ``merge``."""
    near = symmetric_kl(proposals, proposals) < tau
    near.fill_diagonal_(True)
    taken = torch.zeros(len(proposals), dtype=torch.bool, device=proposals.device)
    means = []
    for i in range(len(proposals)):
        if not bool(taken[i]):
            taken |= near[i]
            means.append(proposals[near[i]].mean(0))
    return torch.stack(means)


def auto_tau(distances: Tensor) -> float:
    """A distance from the picture itself: the one that a twentieth of all pairs of anchors keep below.

    The scale of distances differs by layer, model and number of tokens, this share less: eight segments of the four
    photographs at 192 pixels are 8 to 19 % of the pairs in layers 7 and 9 of the bundled network, 12 to 42 % in its
    last layer, and were 3 to 9 % in a network of six layers that knew no objects. So a twentieth gives more segments
    than eight; ask for ``k`` where their number is known. At least 1e-9, so that equal maps merge. The paper has fixed
    values.

    Args:
        distances: between the anchors, (M, M); the part above the diagonal is read.
    """
    i, j = torch.triu_indices(len(distances), len(distances), 1)
    values = distances[i, j].sort().values
    return max(float(values[int(SHARE * len(values))]), SMALLEST) if len(values) else SMALLEST


def tau_for(
    maps: Tensor,
    anchors: Tensor,
    k: int,
    iterations: int = 3,
    rounds: int = 24,
    *,
    distances: Tensor | None = None,
) -> float:
    """A distance at which merging leaves k proposals, or as close to k as bisection gets, fewer before more.

    The number of proposals falls with the distance, but not strictly: where k is skipped the nearest number met on
    the way is taken.

    Args:
        distances: as in ``merge``.

    Raises:
        InputError: k below 1.
    """
    if isinstance(k, bool) or k < 1:
        raise InputError(f"k = {k!r} segments, expected a whole number from 1")
    if distances is None:
        distances = symmetric_kl(maps[anchors], maps)
    low, high = 0.0, 2 * float(distances[:, anchors].max()) + 1e-9
    best = (len(anchors) + 1, True, high)
    for _ in range(rounds):
        tau = (low + high) / 2
        left = len(merge(maps, anchors, tau, iterations, distances=distances))
        best = min(best, (abs(left - k), left > k, tau))
        if left == k:
            break
        low, high = (tau, high) if left > k else (low, tau)
    return best[2]

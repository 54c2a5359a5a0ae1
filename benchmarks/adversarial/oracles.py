"""Right answers by other means: state reduction without a subtraction, on arrays of any kind of numbers.

Nothing here comes from the library. Grassmann, Taksar and Heyman (1985): every pivot is a sum of what it is made of,
so that entries keep their digits however nearly reducible a chain is. Matrices are (N, N), supports bool: where a step
is possible, also where the number underflows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from .numbers import Array, Numbers, UnsureError


def gth(a: Array) -> Array:
    """Stationary distribution of an irreducible chain."""
    a, n = a.copy(), len(a)
    for k in range(n - 1, 0, -1):
        out = a[k, :k].sum()
        if not out > 0:
            raise UnsureError("the way out of a state underflows")
        a[:k, k] = a[:k, k] / out
        a[:k, :k] += np.outer(a[:k, k], a[k, :k])
    pi = a[0, :1] * 0 + 1
    for k in range(1, n):
        pi = np.append(pi, pi @ a[:k, k])
    return pi / pi.sum()


def killed(q: Array, out: Array, b: Array) -> Array:
    """x = q x + b, for q (m, m) whose rows miss ``out`` (m,) to one, and b (m, c) ≥ 0."""
    q, out, b, m = q.copy(), out.copy(), b.copy(), len(q)
    for k in range(m - 1, -1, -1):
        leaving = q[k, :k].sum() + out[k]
        if not leaving > 0:
            raise UnsureError("the way out of a state underflows")
        q[k, :k], out[k], b[k] = q[k, :k] / leaving, out[k] / leaving, b[k] / leaving
        into = q[:k, k]
        out[:k] += into * out[k]
        b[:k] += np.outer(into, b[k])
        q[:k, :k] += np.outer(into, q[k, :k])
    for k in range(m):
        if k:
            b[k] = b[k] + q[k, :k] @ b[:k]
    return b


def strong(support: Array) -> list[Array]:
    """Communicating classes, each as sorted tokens, in the order of their smallest."""
    _, labels = connected_components(support, directed=True, connection="strong")
    order = dict.fromkeys(labels.tolist())
    return [np.flatnonzero(labels == label) for label in order]


def closed(support: Array, tokens: Array) -> bool:
    """Whether no step leads out of these tokens."""
    outside = np.ones(len(support), dtype=bool)
    outside[tokens] = False
    return not support[np.ix_(tokens, np.flatnonzero(outside))].any()


def period(support: Array, tokens: Array) -> int:
    """Greatest common divisor of the cycles within a class; 0 where there is none."""
    inside = set(tokens.tolist())
    level, found, queue = {int(tokens[0]): 0}, 0, [int(tokens[0])]
    for i in queue:
        for j in np.flatnonzero(support[i]).tolist():
            if j not in inside:
                continue
            if j in level:
                found = math.gcd(found, level[i] + 1 - level[j])
            else:
                level[j] = level[i] + 1
                queue.append(j)
    return abs(found)


def can_reach(support: Array, targets: Array, through: Array) -> Array:
    """Tokens with a path to the targets that stays, before its end, on tokens ``through``; targets count. Bool (N,)."""
    found = targets.copy()
    while True:
        more = found | (through & (support & found).any(1))
        if (more == found).all():
            return found
        found = more


def stationary_of(a: Array, tokens: Array) -> Array:
    """The stationary distribution on one recurrent class, (N,)."""
    pi = a[0] * 0
    pi[tokens] = gth(a[np.ix_(tokens, tokens)])
    return pi


def absorbing(a: Array, support: Array, targets: list[Array]) -> tuple[Array, Array, Array, Array]:
    """For sets of tokens: probabilities (N, T) to enter each first, steps (N,) where surely absorbed, and which tokens
    can get to any set, and which surely do, bool (N,)."""
    n = len(a)
    sets = np.zeros((n, len(targets)), dtype=bool)
    for t, tokens in enumerate(targets):
        sets[tokens, t] = True
    ending = sets.any(1)
    able = can_reach(support, ending, ~ending)
    surely = ~can_reach(support, ~able, ~ending) & able
    h = a[:, :1] * 0 + sets * (a[0, 0] * 0 + 1)
    steps = a[0] * 0
    walking = np.flatnonzero(able & ~ending)
    if len(walking):
        q = a[np.ix_(walking, walking)]
        others = np.setdiff1d(np.arange(n), walking)
        out = a[np.ix_(walking, others)].sum(1)
        b = np.stack([a[np.ix_(walking, np.flatnonzero(sets[:, t]))].sum(1) for t in range(len(targets))], 1)
        h[walking] = killed(q, out, b)
    sure = np.flatnonzero(surely & ~ending)
    if len(sure):
        others = np.setdiff1d(np.arange(n), sure)
        q, out = a[np.ix_(sure, sure)], a[np.ix_(sure, others)].sum(1)
        steps[sure] = killed(q, out, q[:, :1] * 0 + 1)[:, 0]
    return h, steps, able, surely


def pagerank(a: Array, support: Array, alpha: float, v: Array, numbers: Numbers) -> Array:
    """π = αAᵀπ + (1 − α)v for α < 1, as the stationary distribution of the walk with a state from which it jumps."""
    n = len(a)
    follow, jump = numbers.one(alpha), 1 - numbers.one(alpha)
    reached = can_reach(support.T, v > 0, np.ones(n, dtype=bool))
    some = np.flatnonzero(reached)
    joint = numbers.zeros(len(some) + 1, len(some) + 1)
    joint[0, 1:] = v[some]
    joint[1:, 0] = jump
    joint[1:, 1:] = follow * a[np.ix_(some, some)]
    rest = gth(joint)[1:] if alpha > 0 else v[some]
    pi = a[0] * 0
    pi[some] = rest / rest.sum()
    return pi


def limit(a: Array, support: Array, v: Array) -> Array:
    """The limit of the averages of vᵀAᵏ: every recurrent class with the probability that the walk ends there."""
    ends = [tokens for tokens in strong(support) if closed(support, tokens)]
    h = absorbing(a, support, ends)[0] if len(ends) > 1 else a[:, :1] * 0 + 1
    return sum(((v @ h[:, c]) * stationary_of(a, tokens) for c, tokens in enumerate(ends)), start=a[0] * 0)


def passage(a: Array, support: Array, target: int) -> tuple[Array, Array]:
    """Expected bounces to one token (N,), and where they are finite."""
    _, steps, _, surely = absorbing(a, support, [np.array([target])])
    return steps, surely


def kemeny(a: Array, support: Array) -> Any:
    """Σ 1/(1 − λ) over all eigenvalues but one 1, for one recurrent class: Σ_j π_j M_rj, and the time that transient
    tokens see of themselves."""
    ends = [tokens for tokens in strong(support) if closed(support, tokens)]
    tokens = ends[0]
    inside = a[np.ix_(tokens, tokens)]
    pi, free = gth(inside), support[np.ix_(tokens, tokens)]
    found = sum((pi[j] * passage(inside, free, j)[0][0] for j in range(len(tokens))), start=a[0, 0] * 0)
    rest = np.setdiff1d(np.arange(len(a)), tokens)
    if len(rest):
        q, out = a[np.ix_(rest, rest)], a[np.ix_(rest, tokens)].sum(1)
        identity = np.eye(len(rest), dtype=int) * (a[0, 0] * 0 + 1)
        found = found + killed(q, out, identity).trace()
    return found


def fundamental(a: Array, support: Array, x: Array) -> tuple[Array, Array]:
    """Z x and D x by elimination with pivots; only for numbers with bits to spare."""
    n = len(a)
    pi = next(stationary_of(a, tokens) for tokens in strong(support) if closed(support, tokens))
    one = a[0, 0] * 0 + 1
    matrix = np.eye(n, dtype=int) * one - a + pi[None]
    rows = np.concatenate([matrix, x], 1)
    for k in range(n):
        pivot = k + int(np.argmax([abs(v) for v in rows[k:, k]]))
        if rows[pivot, k] == 0:
            raise UnsureError("singular to these numbers")
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k + 1 :] = rows[k + 1 :] - np.outer(rows[k + 1 :, k] / rows[k, k], rows[k])
    z = rows[:, n:]
    for k in range(n - 1, -1, -1):
        z[k] = (z[k] - rows[k, k + 1 : n] @ z[k + 1 :]) / rows[k, k]
    return z, z - (pi @ x)[None]


def reverse(a: Array) -> Array:
    """B[j, i] = A[i, j] / Σ_k A[k, j]."""
    sums = a.sum(0)
    if not (sums > 0).all():
        raise UnsureError("a column underflows")
    return (a / sums).T.copy()


def complement(a: Array, keep: Array) -> Array:
    """The walk watched on some tokens only: A_SS + A_SR (I − A_RR)⁻¹ A_RS."""
    rest = np.setdiff1d(np.arange(len(a)), keep)
    if not len(rest):
        return a
    back = a[np.ix_(rest, keep)]
    return a[np.ix_(keep, keep)] + a[np.ix_(keep, rest)] @ killed(a[np.ix_(rest, rest)], back.sum(1), back)


def dobrushin(a: Array) -> Any:
    """½ max_{i,k} Σ_j |A_ij − A_kj|."""
    return max(abs(a - a[i]).sum(1).max() for i in range(len(a))) / 2


def perron(q: Array, doublings: int = 60) -> tuple[Any, Any, Array]:
    """Bounds of the Perron root of a positive matrix, and its left vector, from a high power (Collatz–Wielandt)."""
    power = q / q.max()
    for _ in range(doublings):
        power = power @ power
        power = power / power.max()
        v = power.sum(0)
        ratio = (v @ q) / v
        if not (v > 0).all():
            raise UnsureError("an entry underflows")
        if ratio.max() - ratio.min() <= 1e-17 * ratio.max():
            break
    return ratio.min(), ratio.max(), v / v.sum()

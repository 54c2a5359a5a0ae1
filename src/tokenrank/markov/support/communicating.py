"""Communicating classes of a support: strongly connected, open or closed, and their periods."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...operators import Operator, is_everywhere
from ..engine import constants
from ..engine.batching import head_groups

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """The classes of one boolean matrix: labels (N,) by smallest state, whether each is closed and its period, (C,)."""

    labels: Ints
    recurrent: Bools
    period: Ints


def graphs(operator: Operator, threshold: float = 0.0) -> tuple[torch.Size, list[Graph]]:
    """Classes of the steps A_ij > ε of every chain, once where chains share a support.

    Returns the leading dimensions of what was looked at, which broadcast to those of the operator, and the classes of
    each. With ε = 0 exact, from masks and not from numbers.
    """
    n = operator.num_tokens
    if threshold > 0:
        leading, matrices = operator.batch, _above(operator, threshold)
    else:
        support = operator.support()
        if is_everywhere(support):
            leading, matrices = torch.Size(), iter([np.broadcast_to(np.True_, (n, n))])
        else:
            support = once(support)
            leading, matrices = support.shape[:-2], iter(support.cpu().numpy().reshape(-1, n, n))
    known: dict[bytes, Graph] = {}
    return leading, [_graph(possible, operator.structure != "full", known) for possible in matrices]


def _graph(possible: Bools, triangular: bool, known: dict[bytes, Graph]) -> Graph:
    n = len(possible)
    if triangular:
        loops = possible.diagonal()
        return Graph(np.arange(n), possible.sum(1) == loops, loops.astype(np.int64))
    if possible.strides == (0, 0) or possible.all():
        return Graph(np.zeros(n, dtype=np.int64), np.ones(1, dtype=bool), np.ones(1, dtype=np.int64))
    key = hashlib.sha256(np.packbits(possible).tobytes()).digest()  # heads that share a mask are looked at once
    if key not in known:
        labels = communicating(possible)
        known[key] = Graph(labels, closed(possible, labels), periods(possible, labels))
    return known[key]


def once(support: Tensor) -> Tensor:
    """The support without its repetitions: leading dimensions of stride 0 become 1."""
    for dim in range(support.ndim - 2):
        if support.stride(dim) == 0:
            support = support.narrow(dim, 0, 1)
    return support


def _above(operator: Operator, threshold: float) -> Iterator[Bools]:
    for _, group in head_groups(operator, operator.dtype):
        for head in range(group.shape[0]):
            one = group.index(slice(head, head + 1))
            yield torch.cat([one.rows(*block)[0] > threshold for block in one.blocks()]).cpu().numpy()


def communicating(possible: Bools) -> Ints:
    """Labels (N,) of the strongly connected classes, numbered by their smallest state.

    Depth-first search with one look at a whole row for each step down and each step back: O(N) numpy calls of
    O(N) each, whatever the number of edges.

    Source: Tarjan, "Depth-first search and linear graph algorithms" (1972).
    """
    n = len(possible)
    if _spans(possible) and _spans(possible.T):  # all are reached from one token and reach it: one class
        return np.zeros(n, dtype=np.int64)
    order = np.full(n, n, dtype=np.int64)  # when a state was found; n: not on the stack, or not yet
    lowest = np.full(n, n, dtype=np.int64)
    labels = np.full(n, -1, dtype=np.int64)
    unseen = np.ones(n, dtype=bool)
    stack: list[int] = []  # states whose class is still open
    found = classes = 0
    for root in range(n):
        if not unseen[root]:
            continue
        path = [root]
        while path:
            state = path[-1]
            if unseen[state]:
                unseen[state] = False
                order[state] = lowest[state] = found
                found += 1
                stack.append(state)
            onward = possible[state] & unseen
            following = int(onward.argmax())
            if onward[following]:
                path.append(following)
                continue
            path.pop()
            lowest[state] = min(lowest[state], order.min(where=possible[state], initial=n))
            if path:
                lowest[path[-1]] = min(lowest[path[-1]], lowest[state])
            if lowest[state] == order[state]:
                start = len(stack) - 1
                while stack[start] != state:
                    start -= 1
                members = np.array(stack[start:])
                del stack[start:]
                labels[members], order[members] = classes, n
                classes += 1
    return by_smallest(labels)


def _spans(possible: Bools) -> bool:
    """Whether every state is reached from the first one, breadth first: each row is looked at once."""
    reached = possible[0].copy()
    reached[0] = True
    frontier = reached.copy()
    frontier[0] = False
    while frontier.any():
        frontier = possible[frontier].any(0) & ~reached
        reached |= frontier
    return bool(reached.all())


def by_smallest(labels: Ints) -> Ints:
    """The same classes, numbered in the order of their smallest states."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[first.argsort()] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def closed(possible: Bools, labels: Ints) -> Bools:
    """Whether no step leads out of a class, (C,)."""
    leaves = np.zeros(int(labels.max()) + 1, dtype=bool)
    for start in range(0, len(labels), constants.GRAPH_ROWS):
        part = slice(start, start + constants.GRAPH_ROWS)
        out = (possible[part] & (labels[part, None] != labels)).any(1)
        leaves[labels[part][out]] = True
    return ~leaves


def periods(possible: Bools, labels: Ints) -> Ints:
    """Greatest common divisor of the lengths of the cycles of every class, (C,); 0 where there is no cycle."""
    diagonal = possible.diagonal()
    count = int(labels.max()) + 1
    by_class = labels.argsort(kind="stable")
    members = np.split(by_class, np.searchsorted(labels[by_class], np.arange(1, count)))
    result = np.zeros(count, dtype=np.int64)
    for number, states in enumerate(members):
        if diagonal[states].any():
            result[number] = 1
        elif len(states) > 1:
            result[number] = _period(possible[np.ix_(states, states)])
    return result


def _period(possible: Bools) -> int:
    """Of an irreducible matrix: gcd over all steps u → v of level(u) + 1 − level(v), by breadth-first levels.

    Source: Denardo, "Periods of connected networks and powers of nonnegative matrices" (1977).
    """
    level = np.full(len(possible), -1, dtype=np.int64)
    level[0] = depth = period = 0
    frontier = np.array([0])
    while len(frontier) and period != 1:
        reached = possible[frontier].any(0)
        again = level[reached & (level >= 0)]
        if len(again):
            period = math.gcd(period, int(np.gcd.reduce(depth + 1 - again)))
        frontier = (reached & (level < 0)).nonzero()[0]
        depth += 1
        level[frontier] = depth
    return period

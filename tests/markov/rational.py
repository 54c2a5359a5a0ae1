"""Chains in exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import networkx as nx
import numpy as np

Rationals = list[list[Fraction]]


def chain(a: np.ndarray) -> Rationals:
    """The chain that subtraction-free methods see: a token stays with what its other entries leave over."""
    rows = [[Fraction(float(x)) for x in row] for row in a]
    for i, row in enumerate(rows):
        row[i] = 1 - sum(x for j, x in enumerate(row) if j != i)
    return rows


def solve(matrix: Rationals, rhs: Rationals) -> Rationals:
    """Gaussian elimination without rounding, (n, n) and (n, c)."""
    n = len(matrix)
    rows = [[*row, *b] for row, b in zip(matrix, rhs, strict=True)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[n:] for row in rows]


def killed(p: Rationals, alive: list[int], rhs: Rationals) -> dict[int, list[Fraction]]:
    """x = Qx + b on the tokens ``alive``; rhs has a row for each of them."""
    system = [[(i == j) - p[i][j] for j in alive] for i in alive]
    return dict(zip(alive, solve(system, rhs), strict=True)) if alive else {}


def graph(a: np.ndarray) -> nx.DiGraph:
    """Where steps are possible."""
    return nx.from_numpy_array(a > 0, create_using=nx.DiGraph)


def missing(a: np.ndarray, targets: set[int]) -> tuple[set[int], set[int]]:
    """Tokens that cannot get to the targets, and those that may miss them (the former among them)."""
    walk = graph(a)
    walk.remove_edges_from([(i, j) for i in targets for j in range(len(a))])
    able = set(targets).union(*(nx.ancestors(walk, t) for t in targets))
    caught = set(range(len(a))) - able
    return caught, caught.union(*(nx.ancestors(walk, c) for c in caught)) - targets

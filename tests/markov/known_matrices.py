"""Published test matrices of PCCA+ with their published numbers; facts of pyGPCCA's test suite.

msmdev/pyGPCCA 1.0.4, tests/conftest.py and tests/test_gpcca.py.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def mu_counts(x: float) -> Array:
    """Transition counts of three groups of three; x is the flow of a cycle across the groups."""
    return np.array(
        [
            [1000, 100, 100, 10, 0, 0, 0, 0, 0],
            [100, 1000, 100, 0, 0, 0, 0, 0, 0],
            [100, 100, 1000, 0, x, 0, 0, 0, 0],
            [10, 0, 0, 1000, 100, 100, 10, 0, 0],
            [0, 0, x, 100, 1000, 100, 0, 0, 0],
            [0, 0, 0, 100, 100, 1000, 0, x, 0],
            [0, 0, 0, 10, 0, 0, 1000, 100, 100],
            [0, 0, 0, 0, 0, x, 100, 1000, 100],
            [0, 0, 0, 0, 0, 0, 100, 100, 1000],
        ],
        dtype=float,
    )


def mu(x: float) -> tuple[Array, Array]:
    """The chain and the distribution of its counts, which pyGPCCA's numbers are measured in."""
    counts = mu_counts(x)
    return counts / counts.sum(1, keepdims=True), counts.sum(1) / counts.sum()


def p_2() -> Array:
    """Twelve states, irreducible: four groups of three, with three pairs of complex eigenvalues."""
    a = np.zeros((12, 12))
    a[0, [1, 2]] = 0.8, 0.2
    a[1, [0, 2, 3]] = 0.2, 0.6, 0.2
    a[2, [0, 1, 3]] = 0.6, 0.2, 0.2
    a[3, [1, 2, 4, 5]] = 0.05, 0.05, 0.6, 0.3
    a[4, [3, 5, 6, 9]] = 0.25, 0.25, 0.4, 0.1
    a[5, [3, 4, 6, 9]] = 0.25, 0.25, 0.1, 0.4
    for first in (6, 9):
        a[first, [4, 5, first + 1, first + 2]] = 0.05, 0.05, 0.7, 0.2
        a[first + 1, [first, first + 2]] = 0.2, 0.8
        a[first + 2, [first, first + 1]] = 0.8, 0.2
    return a


P_2_EIGENVALUES = np.array(
    [
        1,
        0.965542929702337,
        0.884042792993727,
        -0.482771464851169 + 0.489085740769071j,
        -0.482771464851169 - 0.489085740769071j,
        -0.49366904637718 + 0.473927878052129j,
        -0.49366904637718 - 0.473927878052129j,
        0.588536558884235,
        -0.431989621331992 + 0.390304675376906j,
        -0.431989621331992 - 0.390304675376906j,
        -0.371262016459619,
        -0.25,
    ]
)
# m → crispness and minChi, eigenvalues by modulus; 4, 6 and 9 cut a pair
P_2_CRISPNESS = {
    2: 0.741514717000221,
    3: 0.815128047451789,
    5: 0.385871540187622,
    7: 0.416280490635965,
    8: 0.417889634858996,
    10: 0.555131505008172,
    11: 0.537583662460791,
    12: 1.0,
}
P_2_MINCHI = {
    2: 0.0,
    3: 0.0,
    5: -0.9972757370249341,
    7: -0.2705117206956666,
    8: -0.3360447945215935,
    10: -0.29104047575515346,
    11: -0.42902208201892694,
    12: 0.0,
}
P_2_STATES = 3

MU_0_CRISPNESS = 0.973  # three states, to 1e-3
MU_0_WEIGHTS = [0.333909044702727, 0.333045477648636, 0.333045477648636]
MU_100_MINCHI = -0.0273094510284718  # three states
MU_1000_CRISPNESS = 0.804  # five states, to 0.0025
MU_STATES = {0: 3, 10: 3, 50: 3, 100: 3, 200: 2, 500: 2, 1000: 7}  # crispest of 2 … 7


def two_blocks() -> Array:
    """(J₄/4) ⊕ [[.9, .1], [.1, .9]]: reducible; deeptime 0.4.5 raises for two states."""
    a = np.zeros((6, 6))
    a[:4, :4] = 0.25
    a[4:, 4:] = [[0.9, 0.1], [0.1, 0.9]]
    return a

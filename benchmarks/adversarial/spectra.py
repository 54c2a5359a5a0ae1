"""Eigenvalues that can be relied on, whatever their condition.

Diagonal blocks of the communicating classes first, which are exact. A block alone by LAPACK where its eigenvectors
prove it right (Bauer–Fike), else |λ2| is enclosed by high powers in whole numbers, and all values by mpmath.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
from scipy.linalg import matrix_balance

from .numbers import Array, UnsureError, floats
from .oracles import closed, strong

GOOD = 1e-9  # radius up to which a value counts as known
SCALED = 300  # bits that balancing may move
NARROW = 1e-10  # relative width of an interval that is enough
FIRST = 27720  # 2³ 3² 5 7 11: rings of up to twelve eigenvalues have a trace there


@dataclass(frozen=True)
class Known:
    """All eigenvalues (N,) of a chain, complex; each within ``radius`` of the right one."""

    values: Array
    radius: float


def blocks(a: Array, support: Array) -> list[tuple[Array, bool]]:
    """The diagonal blocks of the communicating classes, and whether 1 is an eigenvalue of each."""
    return [(a[np.ix_(tokens, tokens)], closed(support, tokens)) for tokens in strong(support)]


def by_lapack(block: Array) -> Known:
    """All eigenvalues of one block with the radius of Bauer and Fike, for the computed eigenvectors V:
    A + E is V Λ V⁻¹ with ‖E‖ ≤ ‖AV − VΛ‖ ‖V⁻¹‖."""
    matrix = floats(block)
    n = len(matrix)
    values, v = np.linalg.eig(matrix)
    try:
        inverse = np.linalg.inv(v)
        size = np.linalg.norm(inverse, 2)
        right = np.linalg.norm(v @ inverse - np.eye(n), 2) < 0.5
    except np.linalg.LinAlgError:  # singular, or not finite
        return Known(values, math.inf)
    if not right:
        return Known(values, math.inf)
    residual = np.linalg.norm(matrix @ v - v * values, 2) + 8 * n * 2**-52 * np.linalg.norm(matrix, 2)
    with np.errstate(over="ignore"):
        return Known(values, float(4 * np.linalg.norm(v, 2) * residual * size**2))


def by_mpmath(block: Array) -> Known:
    """All eigenvalues by mpmath, with bits for a Jordan block of the whole size; the radius is from a second run."""
    n = len(block)

    def run(bits: int) -> Array:
        with mpmath.workprec(bits):
            found = mpmath.eig(mpmath.matrix(block.tolist()), left=False, right=False)
        return np.array([complex(x) for x in found])

    first, second = run(120 + 40 * n), run(80 + 30 * n)
    return Known(first, GOOD / 10 if matched(first, second) < GOOD / 10 else math.inf)


def matched(x: Array, y: Array) -> float:
    """The largest distance within the best pairs of two lists of as many values, about: nearest first."""
    left, worst = list(y), 0.0
    for value in sorted(x, key=lambda z: (-abs(z), z.real, z.imag)):
        near = min(range(len(left)), key=lambda i: abs(left[i] - value))
        worst = max(worst, abs(left.pop(near) - value))
    return worst


def known(a: Array, support: Array, most: int = 0) -> Known:
    """All eigenvalues of a chain of mpmath numbers; blocks of up to ``most`` by mpmath where LAPACK is not proved."""
    values: list[complex] = []
    radius = 0.0
    for block, _ in blocks(a, support):
        if len(block) == 1:
            values.append(complex(block[0, 0]))
            continue
        found = by_lapack(block)
        if found.radius > GOOD and len(block) <= most:
            found = by_mpmath(block)
        if not found.radius < math.inf:
            raise UnsureError("eigenvalues are ill conditioned")
        values += found.values.tolist()
        radius = max(radius, found.radius)
    return Known(np.array(values), radius)


def second(a: Array, support: Array, bits: int) -> tuple[float, float]:
    """A proved interval of |λ2| of a chain of mpmath numbers of so many bits; from 0 where no lower end was proved."""
    ones, lower, upper = 0, 0.0, 0.0
    for block, one in blocks(a, support):
        ones += one
        if len(block) == 1:
            if not one:
                low = high = float(block[0, 0])
            else:
                continue
        else:
            found = by_lapack(block)
            moduli = np.sort(abs(found.values))
            rest = moduli[:-1] if one else moduli
            if found.radius <= GOOD and (not one or abs(moduli[-1] - 1) <= found.radius):
                low, high = rest[-1] - found.radius, rest[-1] + found.radius
            else:
                low, high = by_powers(block, one, bits)
        lower, upper = max(lower, low), max(upper, high)
    if ones > 1:
        return 1.0, 1.0
    return max(0.0, lower), min(1.0, upper)


def by_powers(block: Array, one: bool, bits: int, doublings: int = 24) -> tuple[float, float]:
    """Bounds of the spectral radius of a block, without its eigenvalue 1 if it has one, from powers in whole numbers.

    (|tr Xᵐ|/n)^(1/m) ≤ ρ ≤ ‖Xᵐ‖^(1/m) for X = A − 1 aᵀ with the last row a, whose eigenvalues are those of A with 0 in
    place of 1. Whole numbers over a power of two; what is cut off is added up in ``lost``.
    """
    n = len(block)
    with mpmath.workprec(bits + 200):
        shifted = balanced(block - block[-1] if one else block)
        x = np.array([[int(mpmath.nint(mpmath.ldexp(v, bits))) for v in row] for row in shifted], dtype=object)
    # X ≈ x 2^(e − bits), entries of x off by at most the last: the block was rounded, and scaled
    state = (x, 0, 2 ** (24 + SCALED))
    low, high, m = 0.0, 1.0, FIRST
    power = _power(state, FIRST, bits)
    for _ in range(doublings):
        entries, exponent, lost = power
        size = max(sum(abs(v) for v in row) for row in entries) + n * lost
        if not size:
            return 0.0, 0.0
        high = min(high, math.exp((_log(size) + (exponent - bits) * math.log(2)) / m))
        trace = abs(sum(entries[i, i] for i in range(n))) - n * lost
        if trace <= 0 and size <= 4 * n * lost:
            break
        if trace > 0:
            low = max(low, math.exp((_log(trace) - math.log(n) + (exponent - bits) * math.log(2)) / m))
        if high - low <= NARROW * high:
            break
        power, m = _times(power, power, bits), 2 * m
    return low * (1 - 1e-12), high * (1 + 1e-12)


def balanced(x: Array) -> Array:
    """D⁻¹ X D with powers of two in D, exact, that makes rows and columns of one size: powers then lose fewer bits."""
    _, (scale, _) = matrix_balance(floats(x), permute=False, separate=True)
    exponents = np.log2(scale).round().astype(int)
    exponents = np.clip(exponents, exponents.max() - SCALED, None)
    out = x.copy()
    for i, j in np.ndindex(*x.shape):
        out[i, j] = mpmath.ldexp(x[i, j], int(exponents[j] - exponents[i]))
    return out


def _log(value: int) -> float:
    shift = max(0, value.bit_length() - 200)
    return math.log(value >> shift) + shift * math.log(2)


State = tuple[Array, int, int]


def _times(x: State, y: State, bits: int) -> State:
    (a, e, la), (b, f, lb) = x, y
    n = len(a)
    most_a, most_b = max(abs(v) for v in a.flat), max(abs(v) for v in b.flat)
    product = a.dot(b)
    lost = n * (most_a * lb + most_b * la + la * lb)
    most = max(abs(v) for v in product.flat)
    shift = max(most, lost, 1).bit_length() - bits
    if shift <= 0:
        return product << -shift if shift else product, e + f - bits + shift, lost << -shift
    return (
        np.array([[v >> shift for v in row] for row in product], dtype=object),
        e + f - bits + shift,
        (lost >> shift) + 2,
    )


def _power(x: State, exponent: int, bits: int) -> State:
    found = None
    while exponent:
        if exponent & 1:
            found = x if found is None else _times(found, x, bits)
        exponent >>= 1
        if exponent:
            x = _times(x, x, bits)
    assert found is not None
    return found

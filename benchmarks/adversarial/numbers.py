"""Kinds of numbers that the oracles of the campaign compute in: they are written once, for arrays of any of these.

``LONG``: NumPy's long double, eleven bits more than float64 on x86, and a range to 1e±4932. ``MANY``: mpmath, as many
bits as asked for and no smallest number. ``RATIONAL``: fractions, exact; no softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from torch import Tensor

Array = np.ndarray
BITS = 200
mpmath.mp.prec = BITS


class UnsureError(ArithmeticError):
    """These numbers cannot tell: something underflowed that is positive."""


@dataclass(frozen=True)
class Numbers:
    """One kind: how to make an array of a float64 tensor, the exponential, one number, and the relative rounding."""

    name: str
    make: Callable[[Array], Array]
    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    one: Callable[[float], Any]
    eps: float

    def array(self, values: Tensor | Array) -> Array:
        """The same numbers; half, single and double precision are exact in all kinds."""
        wide = values.detach().double().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)
        return self.make(wide)

    def zeros(self, *shape: int) -> Array:
        return self.make(np.zeros(shape))


def _elementwise(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    mapped = np.frompyfunc(function, 1, 1)

    def of_array(x: Array) -> Array:
        out = np.empty(np.shape(x), dtype=object)
        out[...] = mapped(x)
        return out

    return of_array


def _none(x: Array) -> Array:
    raise UnsureError("fractions have no exponential and no logarithm")


LONG = Numbers(
    "long double", lambda x: x.astype(np.longdouble), np.exp, np.log, np.longdouble, float(np.finfo(np.longdouble).eps)
)
MANY = Numbers(
    "mpmath",
    _elementwise(lambda x: mpmath.mpf(float(x))),
    _elementwise(mpmath.exp),
    _elementwise(mpmath.log),
    mpmath.mpf,
    2.0**-BITS,
)
RATIONAL = Numbers("fractions", _elementwise(lambda x: Fraction(float(x))), _none, _none, Fraction, 0.0)
FAST = LONG if LONG.eps < 1e-18 else MANY  # where a long double is a double it decides nothing


def number(x: Any) -> float:
    """Rounded to float64; what overflows is inf, of a fraction too."""
    try:
        return float(x)
    except OverflowError:
        return math.inf


def floats(x: Any) -> Array:
    """All of them rounded to float64; what underflows is 0, what overflows inf."""
    return np.vectorize(number, otypes=[np.float64])(x) if np.size(x) else np.zeros(np.shape(x))


def distance(found: Tensor, exact: Array, norm: str = "sum") -> float:
    """‖found − exact‖ over the last dimension ("sum") or over all ("max"), subtracted before rounding."""
    kind = type(exact.flat[0])
    many = exact.dtype == object
    mine = np.empty(found.shape, dtype=exact.dtype)
    wide = found.detach().double().numpy()
    mine[...] = np.frompyfunc(lambda v: kind(float(v)), 1, 1)(wide) if many else wide.astype(exact.dtype)
    gap = abs(mine - exact)
    return float(np.max(gap.sum(-1))) if norm == "sum" else float(gap.max())

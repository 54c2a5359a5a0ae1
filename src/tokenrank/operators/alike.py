"""The walk between tokens that look alike: the softmax of the cosines of their features, never built."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ChainError
from . import checks
from .build import from_query_key
from .query_key import QueryKey

SHARE = 0.5
"""The temperature in units of the spread of the cosines; chosen on development pictures (docs/evidence.md)."""

LEAST = 1e-4
"""Temperature of features that are all alike: cosines of single precision are off by a thousandth of it."""


def from_features(features: Tensor, tau: float | None = None) -> QueryKey:
    """softmax(cos(f_i, f_j) / τ) over j, as queries and keys: O(N · d) memory. A feature of zeros is alike to all.

    Args:
        features: (*batch, N, d).
        tau: temperature above 0; None for half the standard deviation of the cosines (``cosine_spread``), at least
            0.0001. In networks whose features share a large mean all cosines are near 1, so that no fixed one fits all.

    Raises:
        ChainError: another shape, NaN or infinite features, a temperature that is not a finite number above 0.
    """
    unit = _unit(features)
    if tau is None:
        spread = cosine_spread(features)
        if spread.numel() != 1:
            raise ChainError(f"tau = None for {spread.numel()} sets of features, expected one; give the temperature")
        tau = max(SHARE * float(spread), LEAST)
    number = isinstance(tau, int | float) and not isinstance(tau, bool)
    if not number or not (math.isfinite(tau) and tau > 0):
        raise ChainError(f"tau = {tau!r}, expected a temperature above 0, such as 0.1, or None")
    operator = from_query_key(unit, unit, 1 / tau, None, False)
    assert isinstance(operator, QueryKey)
    return operator


def cosine_spread(features: Tensor) -> Tensor:
    """Standard deviation of the cosines of all N² pairs of rows, (*batch,) in float64, in O(N · d²).

    mean cos = |mean f|² and mean cos² = ‖Σ f fᵀ‖² / N², with f of length one.

    Args:
        features: (*batch, N, d).
    """
    unit = _unit(features).double()
    count, width = unit.shape[-2:]
    gram = unit.mT @ unit if width < count else unit @ unit.mT
    second = (gram / count).square().sum((-2, -1))
    first = unit.mean(-2).square().sum(-1)
    return (second - first.square()).clamp(min=0).sqrt()


def _unit(features: Tensor) -> Tensor:
    if features.ndim < 2 or not features.numel():
        raise ChainError(f"features have shape {tuple(features.shape)}, expected (*batch, N, d)")
    checks.floating("features", features)
    checks.finite("feature", features)
    wide = torch.promote_types(features.dtype, torch.float32)
    return F.normalize(features.double(), dim=-1).to(wide)

"""TokenCut: the smallest normalised cut of the graph of patches whose keys are alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError, NotUniqueWarning
from ..models import Model
from ..observation import Layer, Observation
from .affinity import checked_features, similarities, smallest_cut, strongest
from .discovered import DiscoveredObject

FAINT = 1e-5
"""Weight of patches that are not alike: the graph is in one piece, whatever the picture."""


def tokencut(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    tau: float = 0.2,
    what: Literal["k", "q"] = "k",
    centre: bool = False,
) -> TokenMap:
    """TokenCut's map: the second eigenvector, positive at the seed (Wang et al., CVPR 2022).

    S = F Fᵀ of the unit keys of the last block, all heads side by side; W = 1 where S > τ, else 1e-5; (D − W) x = λ D x
    [V]. ``map.mask()`` splits at the mean of x as TokenCut does; the part around the seed is in ``tokencut_object``.
    The published numbers (DINO ViT-S/16) are for pictures at their native scale, sides rounded to multiples of 16
    and resized with LANCZOS [V]: give ``model.prepare`` the size.

    Where all keys are alike, or none, no cut is better than another: the map is zero, its mask empty, and a warning
    says so. That is the rule, not the exception, for networks whose keys share a large mean, as those of many
    supervised and rotary ones do in the last block: take another layer, a higher τ, or ``centre``.

    Args:
        model, inputs: a model and one picture, from ``model.prepare``.
        target: ignored; the method has no class and no start.
        observation: of the same inputs, to share the forward.
        layer: whose keys; the last by default.
        tau: the cosine beyond which patches are alike.
        what: "k" for keys, "q" for queries.
        centre: subtract the mean key of the picture first; not part of TokenCut [I].

    Warns:
        NotUniqueWarning: no cut is better than another.

    Raises:
        InputError: a τ beyond −1 … 1, or a picture of one patch.
        MissingExtraError: scipy is not installed.
    """
    seen = Observation.of(model, inputs, observation)
    options: dict[str, Any] = {"layer": layer, "tau": tau, "what": what, "centre": centre}
    return seen.map(tokencut_object(model, inputs, observation=seen, **options).values)


def tokencut_object(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    tau: float = 0.2,
    what: Literal["k", "q"] = "k",
    centre: bool = False,
) -> DiscoveredObject:
    """TokenCut's object: map, seed and the connected mask that holds it. Arguments as ``tokencut``."""
    seen = Observation.of(model, inputs, observation)
    name = seen.layer_name(layer)
    return seen.keep(
        ("tokencut", name, tau, what, centre),
        lambda: tokencut_from_features(seen.features(name, what), seen.grid, tau, centre),
    )


def tokencut_from_features(
    features: Tensor, grid: tuple[int, int], tau: float = 0.2, centre: bool = False
) -> DiscoveredObject:
    """TokenCut on features (P, d) of a grid (rows, columns); ``centre`` subtracts their mean first.

    Foreground is the side of the mean of x that holds the seed, the patch of largest |x| [V]; of several that agree to
    1e-9 the first in reading order, so that the answer does not hang on rounding.

    Raises:
        InputError: features that do not fit the grid or are not finite, one patch, or a τ beyond −1 … 1.
    """
    if not -1 <= tau <= 1:
        raise InputError(f"tau = {tau!r}, expected a cosine from -1 to 1")
    alike = similarities(checked_features(features, grid, centre)) > tau
    cut = smallest_cut(torch.where(alike, 1.0, FAINT).double())
    if not cut.vector.any():
        found = "all" if alike.float().mean() > 0.5 else "no"
        warnings.warn(
            f"TokenCut found no object: {found} pairs of patches have a cosine above tau = {tau}, no cut is better "
            "than another and the map is zero; take another layer or tau, or centre=True",
            NotUniqueWarning,
            stacklevel=2,
        )
        return DiscoveredObject.grown(cut.vector, cut.vector > 0, None, grid)
    return DiscoveredObject.grown(cut.vector, cut.vector > cut.vector.mean(), strongest(cut.vector), grid)

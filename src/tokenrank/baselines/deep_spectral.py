"""Deep Spectral Methods: the second eigenvector of a graph of positive similarities, and of colours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError, NotUniqueWarning
from ..models import Model
from ..observation import Layer, Observation
from .affinity import checked_features, knn_matting_affinity, similarities, smallest_cut


def deep_spectral(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    colour: float = 0.0,
    normalise: bool = True,
    what: Literal["k", "q"] = "k",
    centre: bool = False,
) -> TokenMap:
    """The second eigenvector of Deep Spectral Methods, its smaller side positive (Melas-Kyriazi et al., CVPR 2022).

    W = (F Fᵀ)⁺ + λ_color · W_knn of the last block's keys, all heads side by side; (D − W) x = λ D x; foreground is
    x > 0, negated where that is more than half of the patches [V]: ``deep_spectral_mask``. x has the D-weighted mean
    zero, so that ``map.mask()``, which splits at the plain mean, comes close to it. The published numbers crop a
    picture to whole patches instead of resizing it, and DSM + CRF refines by a dense CRF [V]; neither is done here.

    Args:
        model, inputs: a model and one picture, from ``model.prepare``.
        target: ignored; the method has no class and no start.
        observation: of the same inputs, to share the forward.
        layer: whose keys; the last by default.
        colour: λ_color, the weight of KNN matting's affinity of the picture shrunk to the grid. The published command
            line has 0, the function beneath it 10 [V].
        normalise: unit keys, and W divided by its largest entry [R].
        what: "k" for keys, "q" for queries.
        centre: subtract the mean key of the picture first; not part of the method [I].

    Warns:
        NotUniqueWarning: all cuts are alike, and the map is zero.

    Raises:
        InputError: a negative weight, a picture of one patch, or keys that are all zero.
        MissingExtraError: scipy (or scikit-learn, for colours) is not installed.
    """
    seen = Observation.of(model, inputs, observation)
    name = seen.layer_name(layer)

    def solve() -> Tensor:
        colours = grid_colours(seen) if colour else None
        return deep_spectral_from_features(seen.features(name, what), colours, colour, normalise, centre)

    return seen.map(seen.keep(("deep_spectral", name, colour, normalise, what, centre), solve))


def deep_spectral_mask(model: Model, inputs: Mapping[str, Any], target: Any = None, **options: Any) -> Tensor:
    """Deep Spectral's own mask, bool (rows, columns): x > 0. Arguments as ``deep_spectral``."""
    return deep_spectral(model, inputs, target, **options).grid() > 0


def deep_spectral_from_features(
    features: Tensor,
    colours: Tensor | None = None,
    colour: float = 0.0,
    normalise: bool = True,
    centre: bool = False,
) -> Tensor:
    """x (P,) in float64, of features (P, d): positive on at most half of the patches.

    Where exactly half are positive, the side of the strongest entry (the first of several) is. A graph in several
    pieces: the piece with the largest sum of degrees stands against all others. All cuts alike: zeros.

    Args:
        features: (P, d).
        colours: (rows, columns, 3) from 0 to 1 with rows · columns = P; needed where ``colour`` is not 0.
        colour: λ_color ≥ 0.
        normalise: unit features.
        centre: subtract the mean feature first.

    Raises:
        InputError: features or colours that cannot be used, λ_color negative or without colours, or a patch without
            weight: features of zero.
    """
    if not 0 <= colour < float("inf"):
        raise InputError(f"colour = {colour!r}, expected a weight ≥ 0")
    if colours is not None and colours.ndim != 3:
        raise InputError(f"colours have shape {tuple(colours.shape)}, expected (rows, columns, 3)")
    grid = None if colours is None else (colours.shape[0], colours.shape[1])
    features = checked_features(features, grid, centre)
    weights = similarities(features, normalise).clamp(min=0)
    weights = weights / weights.max().clamp(min=torch.finfo(torch.float64).tiny)
    if colour:
        if colours is None:
            raise InputError(f"colour = {colour} without colours; give them, (rows, columns, 3) from 0 to 1")
        weights = weights + colour * knn_matting_affinity(colours).to(weights.device)
    vector = smallest_cut(weights).vector
    if not vector.any():
        warnings.warn(
            "all patches are equally alike, so that no cut is better than another and the map is zero; take another "
            "layer",
            NotUniqueWarning,
            stacklevel=2,
        )
    return -vector if 2 * int((vector > 0).sum()) > len(vector) else vector


def grid_colours(observation: Observation) -> Tensor:
    """The picture as the model saw it, averaged over each patch: (rows, columns, 3) from 0 to 1.

    Raises:
        InputError: inputs without one picture of one or three channels.
    """
    settings = observation.model.images
    pictures = [v for v in observation.inputs.values() if isinstance(v, Tensor) and v.ndim == 4]
    if settings is None or len(pictures) != 1 or pictures[0].shape[:2] not in ((1, 1), (1, 3)):
        shapes = [tuple(p.shape) for p in pictures]
        raise InputError(f"inputs have pictures of shapes {shapes}, expected one (1, 3, H, W); use colour=0")
    pixels = pictures[0].double()
    mean, std = (torch.tensor(s, dtype=torch.float64, device=pixels.device) for s in (settings.mean, settings.std))
    colours = (pixels * std[:, None, None] + mean[:, None, None]) / (255 * settings.scale)
    pooled = F.interpolate(colours, observation.grid, mode="area")[0].clamp(0, 1)
    return pooled.permute(1, 2, 0).expand(*observation.grid, 3)

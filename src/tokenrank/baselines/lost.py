"""LOST: grow an object from the patch that resembles the fewest others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError
from ..models import Model
from ..observation import Layer, Observation
from .affinity import checked_features, similarities
from .discovered import DiscoveredObject


def lost(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    k: int = 100,
    what: Literal["k", "q"] = "k",
    centre: bool = False,
) -> TokenMap:
    """LOST's map: how much a patch resembles the grown seeds, signed (Siméoni et al., BMVC 2021).

    With A = K Kᵀ of the last block's keys, all heads side by side and not normalised: the seed is the patch of lowest
    degree; it is joined by those of the k = 100 patches of lowest degree that are positively correlated with it; a
    patch's value is the sum of its similarities to them, and LOST's foreground is where that is positive [V].
    ``map.mask()`` keeps what is above the mean instead; LOST's own mask, around the seed, is in ``lost_object``.

    Args:
        model, inputs: a model and one picture, from ``model.prepare``.
        target: ignored; the method has no class and no start.
        observation: of the same inputs, to share the forward.
        layer: whose keys; the last by default.
        k: how many patches of low degree may join the seed, itself included; at most all are taken.
        what: "k" for keys, "q" for queries.
        centre: subtract the mean key of the picture first; not part of LOST [I]. Without it a network whose keys
            share a large mean has no negative similarities, and everything is foreground.

    Raises:
        InputError: k < 1, or a picture of one patch. MissingExtraError: scipy is not installed.
    """
    seen = Observation.of(model, inputs, observation)
    options: dict[str, Any] = {"layer": layer, "k": k, "what": what, "centre": centre}
    return seen.map(lost_object(model, inputs, observation=seen, **options).values)


def lost_object(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    k: int = 100,
    what: Literal["k", "q"] = "k",
    centre: bool = False,
) -> DiscoveredObject:
    """LOST's object: map, seed, the connected mask that holds it, and its box. Arguments as ``lost``."""
    seen = Observation.of(model, inputs, observation)
    name = seen.layer_name(layer)
    return seen.keep(
        ("lost", name, k, what, centre),
        lambda: lost_from_features(seen.features(name, what), seen.grid, k, centre),
    )


def lost_from_features(features: Tensor, grid: tuple[int, int], k: int = 100, centre: bool = False) -> DiscoveredObject:
    """LOST on features (P, d) of a grid (rows, columns); ``centre`` subtracts their mean first.

    Degree is the number of non-negative similarities; patches of equal degree count in reading order. Where no
    similarity is negative (all features alike), the first patch is therefore the seed and all is foreground. Where all
    features are zero, nothing is.

    Raises:
        InputError: features that do not fit the grid or are not finite, one patch, or k < 1.
    """
    if k < 1:
        raise InputError(f"k = {k!r}, expected 1 at least: the seed itself")
    alike = similarities(checked_features(features, grid, centre), normalise=False)
    lowest = (alike >= 0).sum(-1).argsort(stable=True)[:k]
    seed = int(lowest[0])
    joined = lowest[alike[seed, lowest] > 0]
    values = alike[joined].sum(0)
    return DiscoveredObject.grown(values, values > 0, seed, grid)

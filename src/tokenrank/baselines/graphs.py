"""Graphs of patches whose features are alike, cut or grown into an object: TokenCut, LOST, Deep Spectral Methods."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from ..chain.foreground import is_constant
from ..errors import InputError, NotUniqueWarning
from ..layout import TokenLayout
from ..observation import Observation, What
from ..reading import Reading, Source, observe
from ..select import Layer
from ..tasks.masks import grid_of
from ..tasks.strength import warn_if_faint
from .affinity import checked_features, knn_matting_affinity, similarities, smallest_cut, strongest
from .objects import ForegroundMap, ObjectMap
from .registry import register

FAINT = 1e-5
"""Weight of patches that are not alike in TokenCut: the graph is in one piece, whatever the picture."""


@register("tokencut", needs=("features",))
def tokencut(
    source: Source,
    *,
    layer: Layer = None,
    tau: float = 0.2,
    what: What = "v",
    centre: bool = False,
    **reading: Unpack[Reading],
) -> ObjectMap:
    """TokenCut's map: the second eigenvector, positive at the seed (Wang et al., CVPR 2022).

    S = F Fᵀ of unit features, all heads side by side; W = 1 where S > τ, else 1e-5; (D − W) x = λ D x [V].
    ``map.foreground`` is the side of the mean of x that holds the seed, as ``map.mask()`` has it, and ``map.object``
    the part around the seed. The published numbers (DINO ViT-S/16) are for pictures at their native scale, sides
    rounded to multiples of 16 and resized with LANCZOS [V]: give ``size``.

    As published the features are the keys of the last block: ``layer=-1, what="k"``. Those are DINO's; of networks
    trained since, many have last keys that share a large mean, all of which are alike, so that nothing is found. Values
    three quarters up, the default, serve DINOv2 and the bundled model; networks that read captions (CLIP) want block
    outputs there (docs/evidence.md).

    Where all features are alike, or none, no cut is better than another: the map is zero, its mask empty, and a warning
    says so. Take another layer, other features, a higher τ, or ``centre``.

    >>> import tokenrank as tr
    >>> found = tr.baselines.tokencut(tr.samples.path("astronaut"), size=64)
    >>> found.grid().shape, found.object.mask.shape, len(found.object.box)
    (torch.Size([8, 8]), torch.Size([8, 8]), 4)

    Args:
        source, reading: see ``tr.observe``.
        layer: whose features; three quarters up where None, as published the last.
        tau: the cosine beyond which patches are alike.
        what: which features: "k" for keys, "q" for queries, "v" for values, "h" for what the block returns
            (``Observation.features``). "v" and "h" take one more forward, once for all layers.
        centre: subtract the mean feature of the picture first; not part of TokenCut [I].

    Warns:
        NotUniqueWarning: no cut is better than another.
        NothingThereWarning: the foreground hardly stands out (``tokenrank.tasks.strengths``).

    Raises:
        InputError: a τ beyond −1 … 1, a picture of one patch, or a chain alone, which has no
            features; values or block outputs of what was captured before.
        CaptureError: the layer was seen as weights alone.
        MissingExtraError: scipy is not installed.
    """
    observation = observe(source, **reading)
    name = observation.layer(layer)

    def find() -> ObjectMap:
        grid = grid_of(observation.head_chains(name))
        found = tokencut_from_features(observation.features(name, what), grid, tau, centre).judged(observation)
        found = replace(found, caption=observation.place(name))
        if found.object.seed is not None:  # otherwise it was said that there is none
            warn_if_faint(found.strength, "what TokenCut found", stacklevel=6)
        return found

    return observation.keep(("tokencut", name, tau, what, centre), find)


def tokencut_from_features(
    features: Tensor, grid: tuple[int, int], tau: float = 0.2, centre: bool = False
) -> ObjectMap:
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
        pairs = "all" if alike.float().mean() > 0.5 else "no"
        warnings.warn(
            f"TokenCut found no object: {pairs} pairs of patches have a cosine above tau = {tau}, no cut is better "
            "than another and the map is zero; take another layer or tau, or centre=True",
            NotUniqueWarning,
            stacklevel=2,
        )
        return ObjectMap.grown(cut.vector, cut.vector > 0, None, grid)
    return ObjectMap.grown(cut.vector, cut.vector > cut.vector.mean(), strongest(cut.vector), grid)


@register("lost", needs=("features",))
def lost(
    source: Source,
    *,
    layer: Layer = None,
    k: int = 100,
    what: What = "v",
    centre: bool = False,
    **reading: Unpack[Reading],
) -> ObjectMap:
    """LOST's map: how much a patch resembles the grown seeds, signed (Siméoni et al., BMVC 2021).

    With A = F Fᵀ of features, all heads side by side and not normalised: the seed is the patch of lowest
    degree; it is joined by those of the k = 100 patches of lowest degree that are positively correlated with it; a
    patch's value is the sum of its similarities to them. ``map.foreground`` is where that is positive [V], and
    ``map.object`` the part around the seed; ``map.mask()`` keeps what is above the mean instead.

    As published the features are the keys of the last block: ``layer=-1, what="k"``. Where these share a large mean, as
    DINOv2's, all is foreground; values three quarters up, the default, serve better (docs/evidence.md).

    Args:
        source, reading: see ``tr.observe``.
        layer: whose features; three quarters up where None, as published the last.
        k: how many patches of low degree may join the seed, itself included; at most all are taken.
        what: which features: "k" for keys, "q" for queries, "v" for values, "h" for what the block returns
            (``Observation.features``). "v" and "h" take one more forward, once for all layers.
        centre: subtract the mean feature of the picture first; not part of LOST [I]. Without it features that
            share a large mean have no negative similarities, and everything is foreground.

    Warns:
        NothingThereWarning: the foreground hardly stands out (``tokenrank.tasks.strengths``), or is everything.

    Raises:
        InputError: k < 1, a picture of one patch, or a chain alone, which has no
            features; values or block outputs of what was captured before.
        CaptureError: the layer was seen as weights alone.
        MissingExtraError: scipy is not installed.
    """
    observation = observe(source, **reading)
    name = observation.layer(layer)

    def find() -> ObjectMap:
        grid = grid_of(observation.head_chains(name))
        found = lost_from_features(observation.features(name, what), grid, k, centre).judged(observation)
        found = replace(found, caption=observation.place(name))
        warn_if_faint(found.strength, "what LOST found", stacklevel=6)
        return found

    return observation.keep(("lost", name, k, what, centre), find)


def lost_from_features(features: Tensor, grid: tuple[int, int], k: int = 100, centre: bool = False) -> ObjectMap:
    """LOST on features (P, d) of a grid (rows, columns); ``centre`` subtracts their mean first.

    Degree is the number of non-negative similarities; patches of equal degree count in reading order. Where no
    similarity is negative the first patch is therefore the seed and all is foreground. Where all features are equal
    the map is constant, and there is neither foreground nor seed.

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
    if bool(is_constant(values.to(features.dtype))):
        return ObjectMap.grown(values, torch.zeros_like(values, dtype=torch.bool), None, grid)
    return ObjectMap.grown(values, values > 0, seed, grid)


@register("deep_spectral", needs=("features",))
def deep_spectral(
    source: Source,
    *,
    layer: Layer = -1,
    colour: float = 0.0,
    normalise: bool = True,
    what: What = "h",
    centre: bool = False,
    **reading: Unpack[Reading],
) -> ForegroundMap:
    """The second eigenvector of Deep Spectral Methods, its smaller side positive (Melas-Kyriazi et al., CVPR 2022).

    W = (F Fᵀ)⁺ + λ_color · W_knn of features, all heads side by side; (D − W) x = λ D x. Foreground is
    x > 0, negated where that is more than half of the patches [V]: ``map.foreground``. x has the D-weighted mean zero,
    so that ``map.mask()``, which splits at the plain mean, comes close to it. The published numbers crop a picture to
    whole patches instead of resizing it, and DSM + CRF refines by a dense CRF [V]; neither is done here.

    As published the features are the keys of the last block: ``what="k"``. What that block returns, the default, serves
    better (docs/evidence.md).

    Args:
        source, reading: see ``tr.observe``.
        layer: whose features; the last by default.
        colour: λ_color, the weight of KNN matting's affinity of the picture shrunk to the grid. The published command
            line has 0, the function beneath it 10 [V].
        normalise: unit features, and W divided by its largest entry [R].
        what: which features: "k" for keys, "q" for queries, "v" for values, "h" for what the block returns
            (``Observation.features``). "v" and "h" take one more forward, once for all layers.
        centre: subtract the mean feature of the picture first; not part of the method [I].

    Warns:
        NotUniqueWarning: all cuts are alike, and the map is zero.

    Raises:
        InputError: a negative weight, a picture of one patch, features that are all zero, a chain alone, which has
            none, or colours, values or block outputs of what was captured before.
        CaptureError: the layer was seen as weights alone.
        MissingExtraError: scipy (or scikit-learn, for colours) is not installed.
    """
    observation = observe(source, **reading)
    name = observation.layer(layer)
    grid = grid_of(observation.head_chains(name))

    def solve() -> Tensor:
        colours = grid_colours(observation, grid) if colour else None
        return deep_spectral_from_features(observation.features(name, what), colours, colour, normalise, centre)

    values = observation.keep(("deep_spectral", name, colour, normalise, what, centre), solve)
    layout = TokenLayout.image(*grid, cls_tokens=0)
    found = ForegroundMap(values, layout, foreground=(values > 0).reshape(grid), caption=observation.place(name))
    return found.judged(observation)


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


def grid_colours(observation: Observation, grid: tuple[int, int]) -> Tensor:
    """The picture as the model saw it, averaged over each patch of a grid: (rows, columns, 3) from 0 to 1.

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
    pooled = F.interpolate(colours, grid, mode="area")[0].clamp(0, 1)
    return pooled.permute(1, 2, 0).expand(*grid, 3)

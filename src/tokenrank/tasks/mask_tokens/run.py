"""``mask_tokens`` and ``mask_pixels``: what a model answers when part of the picture is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from ...chain import TokenMap
from ...errors import InputError
from ...models import ImageSource, Model
from ...recording import acting
from .keys import MaskedKeys, check_calls
from .order import Order, checked_order, removed_count
from .pixels import blackened, patch_pixels
from .remove import check_removable, without_tokens
from .sites import Sites, find_sites, pixels_of, repeated

How: TypeAlias = Literal["keys", "remove", "pixels"]
Read: TypeAlias = Callable[[Any], Tensor]
Inputs: TypeAlias = Mapping[str, Any]


def mask_tokens(
    model: Model,
    inputs: Inputs | ImageSource,
    order: Order,
    ratio: float | Sequence[float],
    how: How = "keys",
    *,
    read: Read | None = None,
    batch: int = 32,
) -> Tensor:
    """What a model answers without the first ⌊ratio · P⌋ patches of ``order``.

    Nothing stays patched, and nothing is trained or approximated: the network runs anew at every ratio.

    Args:
        model: with a classifier (``tr.load(name, head=True)``), unless ``read`` is given.
        inputs: from ``model.prepare``, a batch of B pictures of one size; or one picture.
        order: indices of patches (not of tokens), row by row from 0; (k,) for all pictures or (B, k), the first
            to go first. ``removal_order(scores)`` makes it.
        ratio: share of the P patches that goes, 0 … 1; or several, which run together in batches.
        how: "keys": the patches' logits are −∞ in every attention, so that nobody sees them; their own stream goes
            on, which a head that averages patches still reads. "remove": they leave the sequence after positions
            were embedded; CLS and registers stay, and rotary positions stay with their tokens. "pixels": RGB 0
            before normalisation in whole patches.
        read: from what the module returned to a tensor (B, …); logits by default.
        batch: pictures in one forward, ratios counted.

    Returns:
        (B, classes), or what ``read`` makes; with several ratios (R, B, …) in their order.

    Raises:
        InputError: an order, a ratio or a way that cannot be used; no token left; no classifier.
        CaptureError: the model's attention cannot be masked ("keys"), or its positions do not follow its tokens
            ("remove"); the message has the reason.

    Source: the definition of "keys" and "remove" is this library's; "pixels" follows the perturbation test of
    Chefer, Gur, Wolf (CVPR 2021), in whole patches. ``mask_pixels`` does it pixel by pixel.
    """
    if how not in get_args(How):
        raise InputError(f"how = {how!r}, expected one of {', '.join(get_args(How))}")
    inputs = _prepared(model, inputs)
    sites, pixels = find_sites(model, inputs), pixels_of(inputs)[1]
    many, patches = len(pixels), len(sites.patches)
    ratios = _ratios(ratio)
    counts = [removed_count(r, patches) for r in ratios]
    indices = checked_order(order, many, patches, max(counts))
    if how != "pixels" and max(counts) == sites.num_tokens:
        raise InputError(f"all {patches} tokens would go, expected one to be left; lower the ratio {max(ratios)}")
    gone = torch.zeros(len(counts), many, patches, dtype=torch.bool)
    for place, count in enumerate(counts):
        gone[place].scatter_(1, indices[:, :count], True)
    run = {"keys": _keys, "remove": _removed, "pixels": _pixels}[how]
    if how == "remove" and any(counts):
        check_removable(model, inputs, sites)
    answers: dict[tuple[int, int], Tensor] = {}
    for group in _groups(counts, many, how, batch):
        rows = torch.tensor([picture for _, picture in group])
        masked = torch.stack([gone[place, picture] for place, picture in group])
        out = run(model, repeated(inputs, rows), sites, masked, read or model.classify)
        answers |= zip(group, out, strict=True)
    stacked = torch.stack([torch.stack([answers[place, i] for i in range(many)]) for place in range(len(counts))])
    return stacked if isinstance(ratio, Sequence) else stacked[0]


def mask_pixels(
    model: Model,
    inputs: Inputs | ImageSource,
    scores: TokenMap | Tensor | np.ndarray,
    ratio: float | Sequence[float],
    *,
    least_first: bool = False,
    read: Read | None = None,
    batch: int = 32,
) -> Tensor:
    """What a model answers when single pixels are black: the perturbation test as it is published.

    Args:
        model, inputs, ratio, read, batch: as in ``mask_tokens``; pixels are those of the prepared pictures.
        scores: a map of the patches, which is upsampled bilinearly; or one number a pixel, (H, W) or (B, H, W).
            The ⌊ratio · H · W⌋ pixels with the largest go; ties in the order of the picture.
        least_first: the smallest go.

    Returns:
        As ``mask_tokens``.

    Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), positive
    and negative perturbation: RGB 0 before normalisation at 224 × 224.
    """
    inputs = _prepared(model, inputs)
    pixels = pixels_of(inputs)[1]
    many, size = len(pixels), (pixels.shape[-2], pixels.shape[-1])
    values = scores.upsample(size) if isinstance(scores, TokenMap) else torch.as_tensor(scores)
    if values.shape[-2:] != size or values.ndim not in (2, 3) or (values.ndim == 3 and len(values) not in (1, many)):
        raise InputError(f"scores have shape {tuple(values.shape)}, expected {size} or ({many}, {size[0]}, {size[1]})")
    flat = values.reshape(-1, size[0] * size[1]).expand(many, -1)
    indices = flat.argsort(dim=-1, descending=not least_first, stable=True)
    ratios = _ratios(ratio)
    counts = [removed_count(r, flat.shape[-1]) for r in ratios]
    answers: dict[tuple[int, int], Tensor] = {}
    for group in _groups(counts, many, "pixels", batch):
        gone = torch.zeros(len(group), flat.shape[-1], dtype=torch.bool)
        for row, (place, picture) in enumerate(group):
            gone[row, indices[picture, : counts[place]]] = True
        rows = repeated(inputs, torch.tensor([picture for _, picture in group]))
        out = _read(model, blackened(model, rows, gone.reshape(-1, *size)), read or model.classify)
        answers |= zip(group, out, strict=True)
    stacked = torch.stack([torch.stack([answers[place, i] for i in range(many)]) for place in range(len(counts))])
    return stacked if isinstance(ratio, Sequence) else stacked[0]


def _prepared(model: Model, inputs: Inputs | ImageSource) -> Inputs:
    return inputs if isinstance(inputs, Mapping) else model.prepare(inputs)


def _ratios(ratio: float | Sequence[float]) -> list[float]:
    ratios = list(ratio) if isinstance(ratio, Sequence) else [ratio]
    if not ratios:
        raise InputError("no ratio given, expected one or several from 0 to 1")
    return ratios


def _groups(counts: Sequence[int], many: int, how: How, batch: int) -> list[list[tuple[int, int]]]:
    """(place of the ratio, picture) that run in one forward: of one length where tokens are removed.

    Nothing removed runs apart, exactly as the model is: a mask that masks nothing may round differently.
    """
    if batch < 1:
        raise InputError(f"batch = {batch}, expected 1 or more pictures in a forward")
    jobs: dict[int, list[tuple[int, int]]] = {}
    for place, count in enumerate(counts):
        key = count if how == "remove" else min(count, 1)
        jobs.setdefault(key, []).extend((place, picture) for picture in range(many))
    return [group[i : i + batch] for group in jobs.values() for i in range(0, len(group), batch)]


def _read(model: Model, inputs: Inputs, read: Read) -> Tensor:
    with torch.no_grad():
        return read(model.forward(inputs))


def _keys(model: Model, inputs: Inputs, sites: Sites, gone: Tensor, read: Read) -> Tensor:
    if not bool(gone.any()):
        return _read(model, inputs, read)
    masked = torch.zeros(len(gone), sites.num_tokens, dtype=torch.bool)
    masked[:, sites.patches.start : sites.patches.stop] = gone
    act = MaskedKeys(masked.to(pixels_of(inputs)[1].device))
    with acting(model.module, act):
        output = model.forward(inputs)
    check_calls(act.calls, len(sites.layers), model.name)
    with torch.no_grad():
        return read(output)


def _removed(model: Model, inputs: Inputs, sites: Sites, gone: Tensor, read: Read) -> Tensor:
    if not bool(gone.any()):
        return _read(model, inputs, read)
    kept = torch.ones(len(gone), sites.num_tokens, dtype=torch.bool)
    kept[:, sites.patches.start : sites.patches.stop] = ~gone
    keep = kept.nonzero()[:, 1].reshape(len(gone), -1)
    output = without_tokens(model, inputs, sites, keep.to(pixels_of(inputs)[1].device))
    with torch.no_grad():
        return read(output)


def _pixels(model: Model, inputs: Inputs, sites: Sites, gone: Tensor, read: Read) -> Tensor:
    pixels = pixels_of(inputs)[1]
    if not bool(gone.any()):
        return _read(model, inputs, read)
    return _read(model, blackened(model, inputs, patch_pixels(gone, sites, (pixels.shape[-2], pixels.shape[-1]))), read)

"""``mask_tokens`` and ``mask_pixels``: what a model answers when part of the picture is gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from ...chain import TokenMap
from ...errors import InputError
from ...models import Model
from ...progress import track
from ...reading import Reading, Source, observe
from ...recording import acting
from .keys import MaskedKeys, check_calls
from .remove import check_removable, without_tokens
from .sites import Sites, blackened, find_sites, patch_pixels, pixels_of, repeated

MaskingWay: TypeAlias = Literal["keys", "remove", "pixels"]
Order: TypeAlias = "Tensor | np.ndarray | Sequence[int]"
Read: TypeAlias = Callable[[Any], Tensor]
Job: TypeAlias = tuple[int, int]
"""The place of a ratio among the ratios, and of a picture in the batch."""


def mask_tokens(
    source: Source,
    order: Order,
    ratio: float | Sequence[float],
    how: MaskingWay = "keys",
    *,
    read: Read | None = None,
    batch: int = 32,
    **reading: Unpack[Reading],
) -> Tensor:
    """What a model answers without the first ⌊ratio · P⌋ patches of ``order``.

    Nothing stays patched, and nothing is trained or approximated: the network runs anew at every ratio.

    Args:
        source: a picture, or anything else that ``tr.observe`` takes and that can run again; a batch of B pictures of
            one size as ``mask_tokens(model, order, ratio, inputs=…)``. The model needs a classifier
            (``tr.load(name, head=True)``), unless ``read`` is given.
        order: indices of patches (not of tokens), row by row from 0; (k,) for all pictures or (B, k), the first
            to go first. ``removal_order(scores)`` makes it.
        ratio: share of the P patches that goes, 0 … 1; or several, which run together in batches.
        how: "keys": the patches' logits are −∞ in every attention, so that nobody sees them; their own stream goes
            on, which a head that averages patches still reads. "remove": they leave the sequence after positions
            were embedded; CLS and registers stay, and rotary positions stay with their tokens. "pixels": RGB 0
            before normalisation in whole patches.
        read: from what the module returned to a tensor (B, …); logits by default.
        batch: pictures in one forward, ratios counted.
        **reading: what ``tr.observe`` takes beside the source: model, inputs, size, …

    Returns:
        (B, classes), or what ``read`` makes; with several ratios (R, B, …) in their order.

    Raises:
        InputError: an order, a ratio or a way that cannot be used; no token left; no classifier; attention that was
            captured before, so that nothing can run again.
        CaptureError: the model's attention cannot be masked ("keys"), or its positions do not follow its tokens
            ("remove"); the message has the reason.

    Source: the definition of "keys" and "remove" is this library's; "pixels" follows the perturbation test of
    Chefer, Gur, Wolf (CVPR 2021), in whole patches. ``mask_pixels`` does it pixel by pixel.
    """
    if how not in get_args(MaskingWay):
        raise InputError(f"how = {how!r}, expected one of {', '.join(get_args(MaskingWay))}")
    observation = observe(source, **reading)
    model, inputs = observation.model, observation.inputs
    sites, many = find_sites(observation), len(pixels_of(inputs)[1])
    patches, ratios = len(sites.patches), _ratios(ratio)
    counts = [removed_count(r, patches) for r in ratios]
    indices = checked_order(order, many, patches, max(counts))
    if how != "pixels" and max(counts) == sites.num_tokens:
        raise InputError(f"all {patches} tokens would go, expected one to be left; lower the ratio {max(ratios)}")
    if how == "remove" and any(counts):
        check_removable(model, inputs, sites)
    run = {"keys": _keys, "remove": _removed, "pixels": _pixels}[how]

    def answer(group: Sequence[Job], some: Mapping[str, Any]) -> Tensor:
        return run(model, some, sites, _first_of(indices, counts, patches, group), read or model.classify)

    answers = _answers(answer, inputs, counts, how == "remove", batch)
    return answers if isinstance(ratio, Sequence) else answers[0]


def mask_pixels(
    source: Source,
    scores: TokenMap | Tensor | np.ndarray,
    ratio: float | Sequence[float],
    *,
    least_first: bool = False,
    read: Read | None = None,
    batch: int = 32,
    **reading: Unpack[Reading],
) -> Tensor:
    """What a model answers when single pixels are black: the perturbation test as it is published.

    Args:
        source, ratio, read, batch, **reading: as in ``mask_tokens``; pixels are those of the prepared pictures.
        scores: a map of the patches, which is upsampled bilinearly; or one number a pixel, (H, W) or (B, H, W).
            The ⌊ratio · H · W⌋ pixels with the largest go; ties in the order of the picture.
        least_first: the smallest go.

    Returns:
        As ``mask_tokens``.

    Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), positive
    and negative perturbation: RGB 0 before normalisation at 224 × 224.
    """
    observation = observe(source, **reading)
    model, inputs = observation.model, observation.inputs
    many, _, *size = pixels_of(inputs)[1].shape
    indices = _pixel_order(scores, many, (size[0], size[1]), least_first)
    counts = [removed_count(r, indices.shape[-1]) for r in _ratios(ratio)]

    def answer(group: Sequence[Job], some: Mapping[str, Any]) -> Tensor:
        gone = _first_of(indices, counts, indices.shape[-1], group)
        return _read(model, blackened(model, some, gone.reshape(-1, *size)), read or model.classify)

    answers = _answers(answer, inputs, counts, False, batch)
    return answers if isinstance(ratio, Sequence) else answers[0]


def _pixel_order(scores: TokenMap | Tensor | np.ndarray, many: int, size: tuple[int, int], least_first: bool) -> Tensor:
    """Pixels of each picture, the first to go first, (B, H · W)."""
    values = scores.upsample(size) if isinstance(scores, TokenMap) else torch.as_tensor(scores)
    if values.shape[-2:] != size or values.ndim not in (2, 3) or (values.ndim == 3 and len(values) not in (1, many)):
        raise InputError(f"scores have shape {tuple(values.shape)}, expected {size} or ({many}, {size[0]}, {size[1]})")
    flat = values.reshape(-1, size[0] * size[1]).expand(many, -1)
    return flat.argsort(dim=-1, descending=not least_first, stable=True)


def _ratios(ratio: float | Sequence[float]) -> list[float]:
    ratios = list(ratio) if isinstance(ratio, Sequence) else [ratio]
    if not ratios:
        raise InputError("no ratio given, expected one or several from 0 to 1")
    return ratios


def _first_of(indices: Tensor, counts: Sequence[int], size: int, group: Sequence[Job]) -> Tensor:
    """What is gone in each of a group of jobs: bool (G, size)."""
    gone = torch.zeros(len(group), size, dtype=torch.bool)
    for row, (place, picture) in enumerate(group):
        gone[row, indices[picture, : counts[place]]] = True
    return gone


def _answers(
    answer: Callable[[Sequence[Job], Mapping[str, Any]], Tensor],
    inputs: Mapping[str, Any],
    counts: Sequence[int],
    by_length: bool,
    batch: int,
) -> Tensor:
    """What the model answers to every ratio and picture, (R, B, …), a group of them in a forward."""
    many = len(pixels_of(inputs)[1])
    answers: dict[Job, Tensor] = {}
    groups = _groups(counts, many, by_length, batch)
    for group in track(groups, "masked pictures", sum(map(len, groups)), counts=len):
        rows = torch.tensor([picture for _, picture in group])
        answers |= zip(group, _checked_answer(answer(group, repeated(inputs, rows)), len(group)), strict=True)
    return torch.stack([torch.stack([answers[place, i] for i in range(many)]) for place in range(len(counts))])


def _checked_answer(answer: object, many: int) -> Tensor:
    if not isinstance(answer, Tensor) or not answer.ndim or len(answer) != many:
        found = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise InputError(
            f"what was read from the model's output is {found}, expected a tensor ({many}, …): one entry a picture; "
            "read= is a function of what the module returns"
        )
    return answer


def _groups(counts: Sequence[int], many: int, by_length: bool, batch: int) -> list[list[Job]]:
    """(place of the ratio, picture) that run in one forward: of one length where tokens are removed.

    Nothing removed runs apart, exactly as the model is: a mask that masks nothing may round differently.
    """
    if batch < 1:
        raise InputError(f"batch = {batch}, expected 1 or more pictures in a forward")
    jobs: dict[int, list[Job]] = {}
    for place, count in enumerate(counts):
        key = count if by_length else min(count, 1)
        jobs.setdefault(key, []).extend((place, picture) for picture in range(many))
    return [group[i : i + batch] for group in jobs.values() for i in range(0, len(group), batch)]


def _read(model: Model, inputs: Mapping[str, Any], read: Read) -> Tensor:
    with torch.no_grad():
        return read(model.forward(inputs))


def _keys(model: Model, inputs: Mapping[str, Any], sites: Sites, gone: Tensor, read: Read) -> Tensor:
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


def _removed(model: Model, inputs: Mapping[str, Any], sites: Sites, gone: Tensor, read: Read) -> Tensor:
    if not bool(gone.any()):
        return _read(model, inputs, read)
    kept = torch.ones(len(gone), sites.num_tokens, dtype=torch.bool)
    kept[:, sites.patches.start : sites.patches.stop] = ~gone
    keep = kept.nonzero()[:, 1].reshape(len(gone), -1)
    output = without_tokens(model, inputs, sites, keep.to(pixels_of(inputs)[1].device))
    with torch.no_grad():
        return read(output)


def _pixels(model: Model, inputs: Mapping[str, Any], sites: Sites, gone: Tensor, read: Read) -> Tensor:
    pixels = pixels_of(inputs)[1]
    if not bool(gone.any()):
        return _read(model, inputs, read)
    return _read(model, blackened(model, inputs, patch_pixels(gone, sites, (pixels.shape[-2], pixels.shape[-1]))), read)


def removal_order(scores: TokenMap | Tensor | np.ndarray, least_first: bool = False) -> Tensor:
    """Patches from the most to the least important; ties keep the order of the picture.

    Args:
        scores: one number a patch, (P,) or (B, P), larger is more important; or a ``TokenMap``, of which the
            picture's part is taken.
        least_first: the other way round.

    Returns:
        int64 indices of patches, in the shape of the scores.

    Raises:
        InputError: a score that is not finite.
    """
    if isinstance(scores, TokenMap):
        values = scores.grid().flatten(scores.values.ndim - 1) if scores.layout is not None else scores.values
    else:
        values = torch.as_tensor(scores)
    if not values.ndim or not bool(torch.isfinite(values).all()):
        raise InputError(f"scores of shape {tuple(values.shape)} are not all finite numbers, expected one a patch")
    return values.argsort(dim=-1, descending=not least_first, stable=True)


def removed_count(ratio: float, patches: int) -> int:
    """⌊ratio · patches⌋, with 0.29 · 100 = 29 though floating point says 28.999….

    Raises:
        InputError: a ratio beyond 0 … 1.
    """
    if isinstance(ratio, bool) or not 0 <= ratio <= 1:
        raise InputError(f"ratio = {ratio!r}, expected a share of the patches from 0 to 1")
    return math.floor(ratio * patches + 1e-9)


def checked_order(order: Order, batch: int, patches: int, most: int) -> Tensor:
    """The order as int64 (batch, k ≥ most).

    Raises:
        InputError: another shape, an index out of range or twice, or too few of them.
    """
    try:
        given = torch.as_tensor(order)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"order is a {type(order).__name__}, expected indices of patches, (k,) or (B, k)") from None
    if given.is_floating_point() or given.dtype == torch.bool or given.ndim not in (1, 2):
        raise InputError(
            f"order has shape {tuple(given.shape)} and type {given.dtype}, expected whole numbers (k,) or (B, k): "
            "indices of patches, the first to go first; removal_order(scores) makes them"
        )
    given = given.long().cpu()
    if given.ndim == 2 and given.shape[0] not in (1, batch):
        raise InputError(f"order has {given.shape[0]} rows for a batch of {batch} pictures, expected one a picture")
    given = given.expand(batch, -1)
    if given.numel() and (int(given.min()) < 0 or int(given.max()) >= patches):
        raise InputError(
            f"order has indices from {int(given.min())} to {int(given.max())}, expected patches 0 to {patches - 1}"
        )
    if given.shape[-1] < most:
        raise InputError(f"order has {given.shape[-1]} patches, but the largest ratio removes {most} of {patches}")
    rising = given.sort(-1).values
    if bool((rising[:, 1:] == rising[:, :-1]).any()):
        raise InputError("order names a patch twice, expected each once")
    return given

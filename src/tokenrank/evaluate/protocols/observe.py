"""From a sample to what the model sees of it, and from a method's map to numbers a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch

from ...chain import TokenMap
from ...chain.foreground import foreground, is_constant
from ...components import Mask
from ...errors import InputError
from ...layout import Point
from ...models import Model
from ...observation import Observation
from ...reading import observe
from ...tasks.strength import unjudged
from ..clock import FORWARD, spent_on
from ..metrics.checks import min_max

if TYPE_CHECKING:
    from ..methods import NamedMethod


def observe_image(model: Model, image: PIL.Image.Image, size: int | None = None, native: bool = False) -> Observation:
    """The picture as the model sees it, in its own aspect ratio.

    What is found in it is measured against a mask, so that its strength is not asked, which would cost a forward.

    Args:
        size: long side in pixels; the model's own where None.
        native: the picture's own size, each side rounded to whole patches, resized by LANCZOS: TokenCut's
            preprocessing [V]. ``size`` must be None then.
    """
    if not native:
        return unjudged(observe(image, model, size=size))
    check_native(size)
    if model.images is None:
        raise InputError(f"model {model.name!r} reads {model.kind}, expected one that reads pictures")
    lanczos = replace(model, images=replace(model.images, resample=PIL.Image.Resampling.LANCZOS))
    # a long side of the picture's own length leaves nothing but the rounding
    return unjudged(observe(image, lanczos, size=max(image.size)))


def check_native(size: int | None) -> None:
    """Raise ``InputError`` for a size beside ``native=True``."""
    if size is not None:
        raise InputError(f"size = {size} beside native=True, which takes each picture's own; leave one of the two out")


def observe_square(model: Model, image: PIL.Image.Image, side: int) -> Observation:
    """The picture squeezed to ``side`` × ``side`` pixels by bilinear interpolation, aspect ratio not kept: Chefer's
    preprocessing [V]. A side that is no multiple of the model's patch is then rounded to one.
    """
    return unjudged(observe(squeezed(image, side), model, size=side))


def squeezed(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """``image`` at ``side`` × ``side`` pixels, bilinear."""
    return image.resize((side, side), PIL.Image.Resampling.BILINEAR)


def squeezed_mask(mask: Mask, side: int) -> Mask:
    """A mask at ``side`` × ``side`` pixels, nearest neighbour, as Pillow does it."""
    picture = PIL.Image.fromarray(mask.astype(np.uint8)).resize((side, side), PIL.Image.Resampling.NEAREST)
    return np.asarray(picture).astype(np.bool_)


def forward(observation: Observation) -> None:
    """Run the model, so that its time is nobody's; methods share it."""
    with spent_on(FORWARD):
        _ = observation.layers


def maps(
    observation: Observation, methods: Sequence[NamedMethod], seed: Point | None = None, label: int | None = None
) -> list[TokenMap]:
    """Every method's map of the picture.

    Class-specific methods explain ``label``; the predicted class where None. All get the same number for what they
    draw at random, from torch's global generator, which a run seeds by image.

    Raises:
        InputError: a map with another shape than the patches, or with numbers that are not finite.
    """
    from ..methods import Query

    forward(observation)
    query = Query(seed=seed, label=label, random=int(torch.randint(2**31 - 1, ())))
    return [checked(method.run(observation, query), observation, method.name) for method in methods]


def checked(found: TokenMap, observation: Observation, method: str) -> TokenMap:
    """The map, if it has one finite number a patch."""
    bad = int((~torch.isfinite(found.values)).sum())
    if bad:
        raise InputError(f"method {method!r} gave {bad} of {found.values.numel()} values that are NaN or infinite")
    return found


def at_pixels(found: TokenMap, size: tuple[int, int]) -> np.ndarray:
    """The map at (height, width) pixels, bilinear, float64."""
    wide = TokenMap(found.values.detach().double().cpu(), found.layout)
    return wide.upsample(size).numpy()


def above_mean(values: np.ndarray) -> Mask:
    """Foreground: what is above the mean; nothing of a constant map, where only rounding could decide."""
    return foreground(np.asarray(values, dtype=np.float64), axes=values.ndim)


def scores_of(values: np.ndarray) -> np.ndarray:
    """``min_max`` of a map, 0 everywhere for a constant one; to nine decimals, so that equal scores are equal on every
    machine, which average precision depends on.
    """
    constant = bool(is_constant(values, axes=values.ndim))
    return np.zeros_like(values) if constant else np.round(min_max(values), 9)


def nearest_pixels(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask of patches at (height, width) pixels: each pixel has the value of the patch that it lies in."""
    rows, columns = mask.shape
    height, width = size
    return mask[(np.arange(height) * rows // height)[:, None], np.arange(width) * columns // width]


def list_of(values: Any) -> list[float]:
    """A vector as a column of lists."""
    return [float(value) for value in values]

"""Strength of what was found: whether its patches attend otherwise than the rest, more than their places explain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CaptureError, LayoutError, NothingThereWarning
from ..observation import Observation
from ..progress import track
from .masks import grid_of

FAINT = 0.1
"""Below this there may be nothing: chosen between pictures without structure and photographs, on three networks
(``benchmarks/nothing_there.py``)."""

COLUMNS = 64  # at a time, so that a picture of many segments needs no more memory than one


def strengths(observation: Observation, parts: np.ndarray | Tensor) -> tuple[float, ...] | None:
    """How much each part of the picture stands out, from −1 to 1; 0 is what a picture of one colour gives.

    One bounce from the patches inside ends elsewhere than one from those outside. How far apart the two are is their
    total variation distance, 0 … 1, in the attention of all layers and heads evenly. Some of it only comes from where
    the part lies: heads look around themselves, and borders look back. So the same is asked of the same model for the
    same picture in its mean colour, and taken off.

    An empty part and one that is the whole picture have strength 0: nothing stands out of nothing.

    Args:
        observation: a picture seen by a model. The model runs once more, on the mean colour of its input; the answer
            is kept, so that further questions cost no forward.
        parts: bool (K, H, W), of any size: pixels or patches.

    Returns:
        One number a part; None where it cannot be known: attention that was captured before, so that nothing can
        run again, or inputs that hold no picture (B, C, H, W).
    """
    flat = flat_twin(observation)
    if flat is None:
        return None
    masks = torch.as_tensor(parts).double()
    # the second reads a picture of one colour: two steps of one work
    found, placed = (contrasts(seen, masks) for seen in track((observation, flat), "strength of what was found"))
    return tuple((found - placed).tolist())


def contrasts(observation: Observation, parts: Tensor) -> Tensor:
    """Total variation distance between one bounce from inside and one from outside, (K,) in float64, 0 … 1.

    Attention is the even mean of all layers and heads on the picture's patches. Layers of another grid are compared by
    themselves, and count as many as they are.

    Args:
        parts: float64 (K, H, W), 1 inside and 0 outside; a patch counts by the share of it that is inside.
    """
    total = torch.zeros(len(parts), dtype=torch.float64)
    layers = observation.layers
    for grid, names in _by_grid(observation).items():
        share = F.adaptive_avg_pool2d(parts, grid).flatten(1)
        sides = torch.cat([share, 1 - share])
        mass = sides.sum(-1, keepdim=True)
        both = (mass[: len(parts), 0] > 0) & (mass[len(parts) :, 0] > 0)
        starts = sides / mass.clamp(min=torch.finfo(torch.float64).tiny)
        ends = torch.cat([_bounced(observation, names, some) for some in starts.split(COLUMNS)])
        apart = (ends[: len(parts)] - ends[len(parts) :]).abs().sum(-1) / 2
        total += torch.where(both, apart, 0.0) * (len(names) / len(layers))
    return total


def flat_twin(observation: Observation) -> Observation | None:
    """The same model before the mean colour of its input; None where it cannot run again or sees no picture."""
    return observation.keep("flat twin", lambda: _flat_twin(observation))


def unjudged(observation: Observation) -> Observation:
    """The same observation, of which no strength is asked: no forward on the mean colour, and no warning."""
    observation.keep("flat twin", lambda: None)
    return observation


def total_strength(strengths: Sequence[float], areas: Sequence[float]) -> float:
    """One number for several parts: their mean by area; 0 where none has any."""
    covered = sum(areas)
    return sum(s * a for s, a in zip(strengths, areas, strict=True)) / covered if covered > 0 else 0.0


def strength_words(found: float | None) -> str:
    """A strength as a person reads it: "strength 0.24", and of a weak one what that means."""
    if found is None:
        return "strength not known"
    return f"strength {found:.2f}" + (", may be nothing" if found < FAINT else "")


def warn_if_faint(found: float | None, what: str, stacklevel: int = 2) -> None:
    """Warn once of what hardly stands out; say nothing where that is not known."""
    if found is not None and found < FAINT:
        # no number in the text: of many pictures Python then says it once
        warnings.warn(
            f"{what} hardly stands out (strength below {FAINT:g}): its patches attend almost as in a picture of one "
            "colour, so that there may be nothing there; another layer, size or model may see more",
            NothingThereWarning,
            stacklevel=stacklevel + 1,
        )


def _flat_twin(observation: Observation) -> Observation | None:
    if not observation.can_run:
        return None
    inputs = observation.inputs
    pictures = {
        name: value.double().mean((-2, -1), keepdim=True).to(value.dtype).expand_as(value).contiguous()
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4
    }
    if not pictures:
        return None
    twin = observation.again({**inputs, **pictures})
    try:
        same = twin.layers == observation.layers and _by_grid(twin) == _by_grid(observation)
    except (CaptureError, LayoutError):  # a model whose tokens depend on what it sees
        return None
    return twin if same else None


def _by_grid(observation: Observation) -> dict[tuple[int, int], list[str]]:
    """Grid of patches → the layers that have it."""
    grids: dict[tuple[int, int], list[str]] = {}
    for name in observation.layers:
        grids.setdefault(grid_of(observation.head_chains(name)), []).append(name)
    return grids


def _bounced(observation: Observation, names: Sequence[str], starts: Tensor) -> Tensor:
    """One bounce from each start, by the mean of some layers and their heads: (K, P) → (K, P)."""
    total = torch.zeros_like(starts)
    for name in names:
        operator = observation.head_chains(name).operator
        x = starts.mT.to(operator.device, operator.dtype)
        ends = operator.rmatmul(x.expand(*operator.batch, *x.shape))
        total += ends.double().mean(tuple(range(len(operator.batch)))).mT.cpu()
    return total / len(names)

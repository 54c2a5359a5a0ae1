"""Where a walk through all layers begins: at the token from which the model's answer is read."""

from __future__ import annotations

import torch
from torch import Tensor

from ..chain import Start, start_distribution
from ..observation import Observation


def reading_distribution(observation: Observation, target: Start | None = None) -> Tensor:
    """A distribution over all tokens, (N,) in float64.

    ``target`` None: CLS; in a model without CLS all patches evenly, as it reads its answer from their mean. Otherwise a
    start among the patches, by their numbers row by row.

    Raises:
        ChainError: a patch out of range, an empty mask, or no distribution.
    """
    full, patches = observation.full(-1), observation.patches
    values = torch.zeros(full.num_tokens, dtype=torch.float64, device=full.device)
    if target is not None:
        count = len(patches)
        chosen = start_distribution(target, torch.Size((count, count)), observation.picture_layout)
        values[patches.start : patches.stop] = chosen.to(values.device)
        return values
    read = observation.layout.range("cls") if "cls" in observation.layout.spans else patches
    values[read.start : read.stop] = 1 / len(read)
    return values

"""What a (queries, keys) matrix says of the patches, seen from where the model's answer is read."""

from __future__ import annotations

from torch import Tensor

from ..observation import Observation


def patch_row(observation: Observation, matrix: Tensor) -> Tensor:
    """(…, N, N) → (…, P): the row of CLS over the patches.

    A model without CLS reads its answer from the mean of the patches, so that the rows of the patches are averaged.
    """
    patches, layout = observation.patches, observation.layout
    rows = layout.range("cls") if "cls" in layout.spans else patches
    return matrix[..., rows.start : rows.stop, patches.start : patches.stop].mean(-2)

"""COCO's format: masks as run lengths, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths of a bool mask (H, W): columns from left to right, each from top to bottom.

    Returns:
        ``{"size": [H, W], "counts": [...]}``; counts of pixels, outside and inside in turn, the first one outside
        (0 where the first pixel is inside).
    """
    flat = np.asarray(mask, dtype=bool).flatten(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def from_run_lengths(found: dict[str, Any]) -> np.ndarray:
    """The bool mask (H, W) of uncompressed run lengths."""
    counts = found["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(found["size"], order="F")


def dataset(labels: np.ndarray, names: Sequence[str], file_name: str, description: str) -> dict[str, Any]:
    """Labels (H, W) of one picture as a COCO data set: one annotation for each label above 0 that occurs.

    Args:
        names: of every label from 0 on; ids of categories are the labels.
        file_name: of the picture.
        description: for the field ``info``.
    """
    height, width = labels.shape
    annotations: list[dict[str, Any]] = []
    for label in range(1, len(names)):
        mask = labels == label
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": label,
                "segmentation": run_lengths(mask),
                "area": int(mask.sum()),
                "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
                "iscrowd": 0,
            }
        )
    return {
        "info": {"description": description},
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names) if i],
    }

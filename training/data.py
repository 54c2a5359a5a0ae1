"""Pictures from Parquet shards: columns ``image`` (JPEG bytes) and, where they are known, ``label`` (int)."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

CLASSES = 200
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
UNLABELLED = -1


def load_split(folder: Path, stem: str, side: int, workers: int = 1) -> tuple[Tensor, Tensor]:
    """A whole split in memory: uint8 pictures (M, 3, side, side) and int64 labels (M,), −1 where there is none.

    Args:
        folder: of the shards.
        stem: of their names: ``"train"`` reads every ``train*.parquet``.
        side: pixels; pictures of another size are cut to their central square and resized.
        workers: processes that decode.

    Raises:
        FileNotFoundError: no such shard.
    """
    files = sorted(folder.glob(f"{stem}*.parquet"))
    if not files:
        raise FileNotFoundError(f"no {stem}*.parquet in {folder}; expected shards with the columns image and label")
    blobs: list[bytes] = []
    labels: list[int] = []
    for file in files:
        table = pq.read_table(file)
        blobs += table["image"].to_pylist()
        labels += table["label"].to_pylist() if "label" in table.column_names else [UNLABELLED] * table.num_rows
    share = -(-len(blobs) // (4 * workers))
    parts = [blobs[i : i + share] for i in range(0, len(blobs), share)]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            decoded = list(pool.map(_decoded, parts, [side] * len(parts)))
    else:
        decoded = [_decoded(part, side) for part in parts]
    return torch.from_numpy(np.concatenate(decoded)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def normalise(pictures: Tensor) -> Tensor:
    """Float pictures in [0, 1], (B, 3, H, W), to the statistics that teacher and student expect."""
    mean, std = (torch.tensor(v, device=pictures.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pictures - mean) / std


def _decoded(blobs: list[bytes], side: int) -> np.ndarray:
    pictures = np.empty((len(blobs), side, side, 3), np.uint8)
    for place, blob in enumerate(blobs):
        picture = Image.open(io.BytesIO(blob)).convert("RGB")
        if picture.size != (side, side):
            width, height = picture.size
            short = min(width, height)
            left, top = (width - short) // 2, (height - short) // 2
            picture = picture.crop((left, top, left + short, top + short)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
        pictures[place] = np.asarray(picture)
    return pictures

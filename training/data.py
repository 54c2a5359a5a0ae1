"""Tiny-ImageNet-200 from Parquet shards (columns ``image``: JPEG bytes, ``label``: int)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

NUM_CLASSES = 200
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def load_split(folder: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a whole split into memory.

    Returns uint8 images (M, 3, 64, 64) and int64 labels (M,). ``split`` is the stem of the
    files: ``"train"`` reads every ``train*.parquet``, ``"val"`` reads ``val*.parquet``.
    """
    files = sorted(folder.glob(f"{split}*.parquet"))
    if not files:
        raise FileNotFoundError(f"no {split}*.parquet in {folder}; expected the shards of Tiny-ImageNet-200")
    images, labels = [], []
    for file in files:
        table = pq.read_table(file, columns=["image", "label"])
        images += [np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in table["image"].to_pylist()]
        labels += table["label"].to_pylist()
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Float images in [0, 1], (B, 3, H, W), to the statistics that the model expects."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images - mean) / std

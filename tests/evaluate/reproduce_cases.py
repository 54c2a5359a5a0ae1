"""Tiny models and data sets in the real formats: everything that the experiments ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from tests.evaluate.datasets.test_imagenet_segmentation import write_mat
from tests.evaluate.datasets.writing import write, write_grey
from tests.evaluate.protocol_cases import block, picture
from tokenrank.evaluate.reproduce import Experiment

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
IMAGES = 3


def save_models(root: Path) -> dict[str, Path]:
    """Hub id → a folder with the same architecture, two layers of two heads and random weights."""
    from transformers import (
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersForImageClassification,
        Dinov2WithRegistersModel,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessor,
        ViTModel,
    )

    torch.manual_seed(0)
    vit: dict[str, Any] = {**SIZES, "patch_size": 32, "image_size": 224, "num_labels": 3, "initializer_range": 0.3}
    dino: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 1, "patch_size": 28,
        "image_size": 224, "num_register_tokens": 2, "num_labels": 3, "initializer_range": 0.3,
    }  # fmt: skip
    models = {
        "google/vit-base-patch16-224": ViTForImageClassification(ViTConfig(**vit)),
        "facebook/dino-vits16": ViTModel(ViTConfig(**{**vit, "patch_size": 16, "image_size": 64})),
        "facebook/dinov2-with-registers-base": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**dino)),
        "facebook/dinov2-with-registers-base-imagenet1k-1-layer": Dinov2WithRegistersForImageClassification(
            Dinov2WithRegistersConfig(**dino)
        ),
    }
    folders = {}
    for name, model in models.items():
        folders[name] = root / name.partition("/")[2]
        model.save_pretrained(folders[name])
        ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folders[name])
    return folders


def save_data(root: Path) -> Path:
    """A folder as TOKENRANK_DATA names it: ecssd, imagenet-segmentation and imagenet, three pictures each."""
    pictures = [np.asarray(picture(64 + 16 * i, 64, i)) for i in range(IMAGES)]
    masks = [block(64, 64 + 16 * i, slice(8, 40), slice(16, 48)) for i in range(IMAGES)]
    for i, (pixels, mask) in enumerate(zip(pictures, masks, strict=True)):
        write(root / "ecssd/images" / f"{i + 1:04}.jpg", pixels)
        write_grey(root / "ecssd/ground_truth_mask" / f"{i + 1:04}.png", mask * 255)
        folder = root / "imagenet" / f"n0{i + 1}"
        folder.mkdir(parents=True)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    (root / "imagenet-segmentation").mkdir()
    ids = ["n02084071", "n01503061", "n02124075"]
    write_mat(root / "imagenet-segmentation/gtsegs_ijcv.mat", pictures, [mask.astype(np.uint8) for mask in masks], ids)
    return root


def weights(experiment: Experiment, folders: dict[str, Path]) -> list[Path]:
    return [folders[name] for name in experiment.models]

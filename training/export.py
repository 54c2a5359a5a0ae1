"""Write the trained network as a model folder: half precision, heads beside it, its figures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .data import MEAN, STD, load_split, normalise
from .network import Classifier


def export(network: Classifier, folder: Path, data: Path, facts: dict[str, object]) -> None:
    """``save_pretrained`` in float16, ``heads.safetensors``, ``preprocessor_config.json`` and
    ``training.json`` (what was done and what was reached on the validation split)."""
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    facts = facts | {"torch": torch.__version__} | validate(network, data)
    heads = {"cls": network.cls_head, "patch": network.patch_head}
    tensors = {f"{n}.{k}": v.half().contiguous() for n, h in heads.items() for k, v in h.state_dict().items()}
    network.backbone.set_attn_implementation("sdpa")
    network.backbone.half().save_pretrained(folder)
    save_file(tensors, folder / "heads.safetensors")
    processor = {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_resize": True,
        "size": {"height": 192, "width": 192},
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


@torch.no_grad()
def validate(network: Classifier, data: Path, batch: int = 250) -> dict[str, object]:
    """Top-1 accuracy on the validation split at 64 px: of CLS, and of the mean patch vote."""
    images, labels = load_split(data, "val")
    cls = patch = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        cls_logits, patch_logits = network(normalise(x.float() / 255))
        cls += int((cls_logits.argmax(-1) == y).sum())
        patch += int((patch_logits.softmax(-1).mean(1).argmax(-1) == y).sum())
    n = len(labels)
    return {"validation_images": n, "top1_cls": cls / n, "top1_patch_vote": patch / n}

"""Write the student as a model folder: half precision, classifiers beside it, what was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from .data import MEAN, STD
from .network import SIZE, Student

BICUBIC = 3  # Pillow's number


def export(student: Student, folder: Path, facts: Mapping[str, object]) -> None:
    """``save_pretrained`` in float16, ``heads.safetensors`` (``cls.*``, ``patch.*``), ``preprocessor_config.json`` and
    ``training.json`` (the facts). The student is left in half precision on the CPU.

    Raises:
        ValueError: a weight that half precision cannot hold.
    """
    student = student.cpu().half()
    beyond = [name for name, value in student.named_parameters() if not value.isfinite().all()]
    if beyond:
        raise ValueError(f"{', '.join(beyond[:3])} are not finite in float16; train with a lower rate, or longer")
    folder.mkdir(parents=True, exist_ok=True)
    student.backbone.set_attn_implementation("sdpa")
    student.backbone.save_pretrained(folder)
    heads = {"cls": student.cls_head, "patch": student.patch_head}
    held = {f"{name}.{key}": value for name, head in heads.items() for key, value in head.state_dict().items()}
    save_file(held, folder / "heads.safetensors")
    processor = {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": BICUBIC,
    }
    for name, content in (("preprocessor_config.json", processor), ("training.json", facts)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

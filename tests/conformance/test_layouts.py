"""Order of tokens of every vision model of the matrix, mostly not square: change a patch, see whose query moves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.errors import LayoutError

from .case import Case, NotAccepted
from .check import why_skipped
from .test_conformance import CASES
from .timm_models import PLAIN, built

PROVED, MIXED, UNCHECKED, NOTHING = {"proved"}, {"mixed"}, {"unchecked"}, {"no layout", "proved"}
# patches that overlap move several tokens, tokens meet in attention of fewer keys, heads that are mixed hide queries:
# there it is what was followed that counts
VERDICTS: dict[str, set[str]] = {
    "DETR": {"mixed", "unchecked", "no layout"},
    "Segformer": UNCHECKED,
    "MaxViT": MIXED,
    "LeViT": MIXED | UNCHECKED,
    "PVTv2": UNCHECKED,
    "CaiT": UNCHECKED,
    "VOLO": UNCHECKED,
    # text towers, attention over time
    "TimeSformer": NOTHING,
    "CLIP": NOTHING,
    "SigLIP": NOTHING,
    "BLIP": NOTHING,
}
REFUSED = {
    "ViT-MAE": "patches in different orders",
    "Hiera": "put in an order of its own",
    "XCiT": "is over 8 channels a head",
}
# pictures of one size, or square ones, only
SQUARE = {
    "SAM image encoder", "LLaVA", "PaliGemma", "Gemma 3, multimodal", "Idefics3", "SmolVLM", "LeViT", "VOLO", "Hiera",
}  # fmt: skip
WIDE = {
    "ViT, registers": "vit_base_patch16_reg4_gap_256",
    "DINOv2, registers": "vit_small_patch14_reg4_dinov2",
    "EVA-02": "eva02_tiny_patch14_224",
    "BEiT": "beit_base_patch16_224",
    "CaiT": "cait_xxs24_224",
}


def vision_cases() -> Iterator[Any]:
    seen: set[tuple[str, str]] = set()
    for case in CASES:
        # towers that are given patches instead of pictures have tests of their own
        if case.library not in ("transformers", "timm") or "flex" in case.variant or case.refused:
            continue
        if not (case.target in EXPECTED or case.target in VERDICTS or case.target in REFUSED):
            continue
        again = (case.library, case.target) in seen
        seen.add((case.library, case.target))
        name = f"{case.library}: {case.target}, {case.variant}"
        yield pytest.param(case, id=name, marks=[pytest.mark.slow] if again or case.target == "MaxViT" else [])


EXPECTED = {
    "ViT", "DeiT", "DINOv2", "DINOv2 with registers", "DINOv3", "CLIP vision", "SigLIP vision",
    "SigLIP vision, pooling head", "BEiT", "Swin", "Swin V2", "ViTDet", *SQUARE, *WIDE,
}  # fmt: skip


def picture_of(inputs: dict[str, Any]) -> str:
    return next(n for n, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point() and v.ndim in (4, 5))


def prepared(case: Case) -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    try:
        if case.library == "timm" and case.target in WIDE:
            model = built(WIDE[case.target], PLAIN | {"img_size": (32, 48)}, case.variant == "fused", 0.3)
        else:
            model = case.build()
    except (NotAccepted, ImportError, AttributeError) as missing:
        pytest.skip(str(missing))
    inputs = case.inputs()
    name = picture_of(inputs)
    height, width = inputs[name].shape[-2:]
    if height == width and case.target not in SQUARE and (case.library, case.target) != ("timm", "SAM image encoder"):
        inputs[name] = torch.randn(*inputs[name].shape[:-1], width * 3 // 2)
    if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters and case.target not in SQUARE:
        inputs["interpolate_pos_encoding"] = True
    return model, inputs


@pytest.mark.parametrize("case", vision_cases())
def test_each_patch_moves_the_token_that_the_layout_names(case: Case) -> None:
    if why := why_skipped(case):
        pytest.skip(why)
    model, inputs = prepared(case)
    if case.target in REFUSED:
        with pytest.raises(LayoutError, match=REFUSED[case.target]):
            tr.check_layout(model, inputs)
        return
    check = tr.check_layout(model, inputs)
    assert {layer.verdict for layer in check.layers} == VERDICTS.get(case.target, PROVED), str(check)
    shape = inputs[picture_of(inputs)].shape
    for layer in check.layers:
        if layer.verdict == "proved" and case.target not in SQUARE | {"Swin", "Swin V2"}:
            grids = dict(layer.layout.grids)  # type: ignore[union-attr]
            assert len(grids) == 1
            (rows, columns) = next(iter(grids.values()))[-2:]
            assert rows * shape[-1] == columns * shape[-2]

"""Which token stands where in a window, against each library's own partition function."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from torch import Tensor, nn

from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout, Windows
from tokenrank.models.partition import find_partition
from tokenrank.models.windows import place_windows

from .windowed import (
    hf_sam,
    hf_swin,
    hf_swin_v2,
    hf_vitdet,
    timm,
    timm_maxvit,
    timm_sam,
    timm_swin,
    torchvision_maxvit,
    torchvision_swin,
    vision,
)

GRIDS = [(8, 8), (9, 7), (5, 11), (4, 13), (12, 8), (3, 6)]


def window_index(
    model: nn.Module, name: str, num_windows: int, num_tokens: int, grids: list[tuple[int, ...]]
) -> Windows | None:
    """Where the tokens of windows stand; None where no module names windows of that many tokens."""
    partition = find_partition(model, name, num_tokens)
    return None if partition is None else place_windows(partition, name, num_windows, grids)


def picture(grid: tuple[int, int]) -> Tensor:
    return torch.arange(grid[0] * grid[1]).view(1, *grid, 1)


def padded(x: Tensor, size: int = 4) -> Tensor:
    return F.pad(x, (0, 0, 0, -x.shape[2] % size, 0, -x.shape[1] % size), value=-1)


def rolled(x: Tensor, shift: int) -> Tensor:
    return x.roll((-shift, -shift), (1, 2))


def transformers_swin(x: Tensor, shift: int) -> Tensor:
    from transformers.models.swin.modeling_swin import window_partition

    return window_partition(rolled(padded(x), shift), 4)


def timm_swin_windows(x: Tensor, shift: int) -> Tensor:
    return timm.models.swin_transformer.window_partition(padded(rolled(x, shift)), (4, 4))


def agrees(found: Windows | None, expected: Tensor, grid: tuple[int, int]) -> None:
    """Same tokens at the same places, padding left open; and every number once."""
    assert found is not None
    tokens = grid[0] * grid[1]
    index = found.index
    assert torch.equal(index.where(index < tokens, -1), expected.reshape(index.shape))
    assert torch.equal(index.flatten().sort().values, torch.arange(index.numel()))
    padding = {"padding": index.numel() - tokens}
    assert found.layout == TokenLayout({"image": tokens, **padding}, {"image": grid})


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("block", [0, 1], ids=["plain", "shifted"])
def test_swin_of_transformers_pads_and_rolls(grid: tuple[int, int], block: int) -> None:
    for model, name in ((hf_swin(), "attention"), (hf_swin_v2(), "attention.self")):
        expected = transformers_swin(picture(grid), 2 * block)
        found = window_index(model, f"encoder.layers.0.blocks.{block}.{name}", len(expected), 16, [grid])
        agrees(found, expected, grid)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("block", [0, 1], ids=["plain", "shifted"])
@pytest.mark.parametrize("name", ["SwinTransformer", "SwinTransformerV2", "SwinTransformerV2Cr"])
def test_swin_of_timm_rolls_and_pads(grid: tuple[int, int], block: int, name: str) -> None:
    stages = "stages" if name.endswith("Cr") else "layers"
    expected = timm_swin_windows(picture(grid), 2 * block)
    model = timm_swin(name, (64, 64))
    agrees(window_index(model, f"{stages}.0.blocks.{block}.attn", len(expected), 16, [grid]), expected, grid)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("block", [0, 1], ids=["plain", "shifted"])
def test_swin_of_torchvision_does_not_shift_along_an_axis_of_one_window(grid: tuple[int, int], block: int) -> None:
    x = padded(picture(grid))
    shift = [2 * block if x.shape[axis] > 4 else 0 for axis in (1, 2)]
    x = x.roll((-shift[0], -shift[1]), (1, 2))
    expected = timm.models.swin_transformer.window_partition(x, (4, 4))
    found = window_index(torchvision_swin(), f"features.1.{block}.attn", len(expected), 16, [grid])
    agrees(found, expected, grid)
    assert found is not None
    assert found.shift == tuple(shift)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_sam_and_vitdet(grid: tuple[int, int]) -> None:
    from transformers.models.vitdet.modeling_vitdet import window_partition

    marked = picture(grid) + 1.0  # the libraries pad with zeros
    sam = hf_sam()
    layer: Any = sam.get_submodule("vision_encoder.layers.0")
    for model, name, windows in (
        (sam, "vision_encoder.layers.0.attn", layer.window_partition(marked, 4)[0]),
        (hf_vitdet(), "encoder.layer.0.attention", window_partition(marked, 4)[0]),
        (timm_sam(), "blocks.0.attn", timm.models.vision_transformer_sam.window_partition(marked, 4)[0]),
    ):
        agrees(window_index(model, name, len(windows), 16, [grid, grid]), windows.long() - 1, grid)


@pytest.mark.parametrize("grid", [(8, 8), (4, 12), (16, 8)], ids=str)
def test_maxvit_of_timm(grid: tuple[int, int]) -> None:
    module = timm.models.maxxvit
    model = timm_maxvit()
    for kind, partition in (("block", module.window_partition), ("grid", module.grid_partition)):
        expected = partition(picture(grid), [2, 2])
        found = window_index(model, f"stages.0.blocks.0.attn_{kind}.attn", len(expected), 4, [(1, 1), grid])
        agrees(found, expected, grid)


@pytest.mark.parametrize("grid", [(16, 16)], ids=str)
def test_maxvit_of_torchvision(grid: tuple[int, int]) -> None:
    model = torchvision_maxvit()
    for kind in ("window", "grid"):
        name = f"blocks.0.layers.0.layers.{kind}_attention"
        layer: Any = model.get_submodule(name)
        expected = layer.partition_swap(layer.partition_op(picture(grid).permute(0, 3, 1, 2), layer.p))[0, ..., 0]
        agrees(window_index(model, f"{name}.attn_layer.1", 16, 16, [(32, 32), grid, (1, 1)]), expected, grid)


@pytest.mark.parametrize("size", [(44, 36), (30, 58), (64, 40)], ids=str)
def test_deeper_stages_have_half_the_rows_and_columns_rounded_up(size: tuple[int, int]) -> None:
    model = hf_swin(depths=[1, 1, 1, 1], num_heads=[2] * 4)
    grid = (size[0] // 2, size[1] // 2)
    for stage in range(4):
        here = tuple(math.ceil(g / 2**stage) for g in grid)
        count = math.ceil(here[0] / 4) * math.ceil(here[1] / 4)
        found = window_index(model, f"encoder.layers.{stage}.blocks.0.attention", count, 16, [grid, (1, 1)])
        assert found is not None
        assert found.layout.grids == {"image": here}


def test_no_grid_with_that_many_windows() -> None:
    message = (
        r"unknown layout of 'encoder.layers.0.blocks.0.attention': 7 windows of 4 × 4 tokens a picture, and the grids "
        r"of patches that were seen are 8 × 8 \(4 windows\); expected one with 7 windows; trace\.layout = False"
    )
    with pytest.raises(LayoutError, match=message):
        window_index(hf_swin(), "encoder.layers.0.blocks.0.attention", 7, 16, [(8, 8)])
    with pytest.raises(LayoutError, match=r"that were seen are none; expected"):
        window_index(hf_swin(), "encoder.layers.0.blocks.0.attention", 4, 16, [])


def test_two_grids_with_as_many_windows() -> None:
    with pytest.raises(LayoutError, match=r"ambiguous.* are 6 × 6 \(4 windows\) or 8 × 8 \(4 windows\); expected one"):
        window_index(hf_sam(), "vision_encoder.layers.0.attn", 4, 16, [(6, 6), (8, 8), (1, 1)])


def test_pictures_that_are_not_cut_evenly_have_no_windows_in_maxvit() -> None:
    model = timm_maxvit()
    with pytest.raises(LayoutError, match=r"7 × 8 \(0 windows\)"):
        window_index(model, "stages.0.blocks.0.attn_grid.attn", 16, 4, [(7, 8)])


class OwnSwin(nn.Module):
    """Code of nobody's library, so that whether it pads or rolls first is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.window_size, self.shift_size = 4, 2


def test_padding_and_a_shift_of_an_unknown_library() -> None:
    assert window_index(OwnSwin(), "", 4, 16, [(8, 8)]) is not None
    with pytest.raises(LayoutError, match=r"7 × 8 patches is padded to 8 × 8 and shifted by 2 × 2, and which of them"):
        window_index(OwnSwin(), "", 4, 16, [(7, 8)])


def test_windows_in_an_order_of_their_own() -> None:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    hiera = tf.HieraModel(tf.HieraConfig(image_size=[64, 64], embed_dim=8, depths=[1] * 4, num_heads=[1] * 4))
    with pytest.raises(LayoutError, match=r"HieraMaskUnitAttention\) attends within mask units.*trace\.layout"):
        find_partition(hiera, "encoder.stages.0.layers.0.attn", 64)

    config = Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4, window_size=16, out_hidden_size=16,
        fullatt_block_indexes=[1],
    )  # fmt: skip
    qwen = Qwen2_5_VisionTransformerPretrainedModel(config)
    with pytest.raises(LayoutError, match=r"makes one call a window.*its 16 tokens are those of one window"):
        find_partition(qwen, "blocks.0.attn", 16)
    assert find_partition(qwen, "blocks.1.attn", 96) is None

    video = vision.video.SwinTransformer3d([2, 2, 2], 8, depths=[2], num_heads=[2], window_size=[2, 4, 4])
    with pytest.raises(LayoutError, match=r"windows of 2 × 4 × 4 tokens of a video, expected windows of a picture"):
        find_partition(video, "features.0.1.attn", 32)

    module = timm.models.maxxvit
    parallel = module.ParallelPartitionAttention(
        8, module.MaxxVitTransformerCfg(dim_head=4, window_size=(2, 2), grid_size=(2, 2))
    )
    with pytest.raises(LayoutError, match=r"'attn_grid' is one of two kinds of windows in ParallelPartitionAttention"):
        find_partition(parallel, "attn_grid", 4)

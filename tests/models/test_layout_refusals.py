"""Where which token is what cannot be known, it is said, with the cure; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.models import find_layout
from tokenrank.recording import Evidence

from .cases import PICTURE, TINY, Seen


class Patches(nn.Module):
    """Plain code: patches, then attention, with ``extra`` tokens in front that no name explains."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.patchify = nn.Conv2d(3, 16, 8, 8)
        self.extra = nn.Parameter(torch.randn(1, extra, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patchify(x).flatten(2).mT
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), patches], 1)[:, None]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def proposes_nothing(error: LayoutError) -> None:
    """How to write a layout is said without numbers: any would look like an answer."""
    assert re.findall(r"TokenLayout\([^)]*\d", str(error)) == []
    assert "trace.layout = tr.TokenLayout({name: count, …}, {name: (rows, columns)})" in str(error)


def test_plain_code_with_patches_alone(watch: Callable[..., Seen]) -> None:
    model = Patches(0)
    seen = watch(model, x=torch.randn(2, 3, 24, 40))
    assert find_layout(model, seen.num_tokens, Evidence({}, seen.grids)) == TokenLayout.image(3, 5, cls_tokens=0)


def test_unexplained_tokens_are_not_guessed(watch: Callable[..., Seen]) -> None:
    model = Patches(2)
    seen = watch(model, x=torch.randn(2, 3, 24, 40))
    with pytest.raises(LayoutError, match=r"17 tokens.*3 × 5 = 15 patches, which leaves 2.*no extra token") as error:
        find_layout(model, seen.num_tokens, Evidence({}, seen.grids))
    assert "\n" not in str(error.value)
    proposes_nothing(error.value)


def test_attributes_against_the_measured_grid() -> None:
    model = tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**TINY, **PICTURE, num_register_tokens=4))
    with pytest.raises(LayoutError, match=r"leaves 3, and the model's parameters name 1 cls \+ 4 registers"):
        find_layout(model, 27, Evidence({}, [(4, 6)]))


def test_a_stated_prefix_without_names() -> None:
    model = Patches(3)
    model.num_prefix_tokens = 3
    assert find_layout(model, 18, Evidence({}, [(3, 5)])) == TokenLayout({"prefix": 3, "image": 15}, {"image": (3, 5)})


def test_two_grids_that_both_fit() -> None:
    with pytest.raises(LayoutError, match=r"ambiguous.*3 × 8 patches; or .*4 × 6 patches.*trace\.layout = "):
        find_layout(Patches(0), 24, Evidence({}, [(3, 8), (4, 6)]))


def test_dropped_or_merged_patches() -> None:
    model = tf.ViTModel(tf.ViTConfig(**TINY, **PICTURE))
    with pytest.raises(LayoutError, match=r"13 tokens: the coarsest grid seen is 4 × 6.*dropped or merged"):
        find_layout(model, 13, Evidence({}, [(4, 6)]))


def test_windows_of_swin_are_no_picture(watch: Callable[..., Seen]) -> None:
    config = tf.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4)
    model = tf.SwinModel(config).eval()
    grids = watch(model, pixel_values=torch.randn(1, 3, 32, 32)).grids
    with pytest.raises(LayoutError, match=r"16 tokens.*windows"):
        find_layout(model, 16, Evidence({}, grids))


def test_a_window_as_large_as_the_coarsest_grid(watch: Callable[..., Seen]) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("maxvit_pico_rw_256", img_size=64, num_classes=0).eval()
    seen = watch(model, x=torch.randn(1, 3, 64, 64))
    assert seen.num_tokens == 4  # 2 × 2 windows; the last map is 2 × 2 too
    with pytest.raises(LayoutError, match=r"2 × 2 window of the .* grid; or 4 image, 2 × 2 patches"):
        find_layout(model, 4, Evidence({}, seen.grids))


def dual_encoder(patches_side: int = 4) -> Any:
    vision = {**TINY, "image_size": 8 * patches_side, "patch_size": 8}
    return tf.CLIPModel(tf.CLIPConfig(text_config=dict(TINY, vocab_size=50), vision_config=vision)).eval()


def test_dual_encoders_are_told_apart_by_length(bound: Callable[..., dict[str, Any]]) -> None:
    inputs = bound(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.ones(1, 9, dtype=torch.long))
    model = dual_encoder()
    assert find_layout(model, 17, Evidence(inputs, [(4, 4)])) == TokenLayout.image(4, 4)
    assert find_layout(model, 9, Evidence(inputs, [(4, 4)])) == TokenLayout({"text": 9})


def test_dual_encoders_of_equal_length_are_ambiguous(bound: Callable[..., dict[str, Any]]) -> None:
    inputs = bound(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(LayoutError, match=r"ambiguous layout of 17 tokens: 1 cls \+ 16 image.*; or 17 text"):
        find_layout(dual_encoder(), 17, Evidence(inputs, [(4, 4)]))


def test_a_text_as_long_as_the_grid_is_not_the_picture(bound: Callable[..., dict[str, Any]]) -> None:
    inputs = bound(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.ones(1, 16, dtype=torch.long))
    assert find_layout(dual_encoder(), 16, Evidence(inputs, [(4, 4)])) == TokenLayout({"text": 16})


def test_text() -> None:
    ids = torch.ones(2, 12, dtype=torch.long)
    assert find_layout(nn.Identity(), 12, Evidence({"input_ids": ids}, [])) == TokenLayout({"text": 12})
    with pytest.raises(LayoutError, match=r"unknown layout of 16 tokens: input_ids has 12 tokens; say which"):
        find_layout(nn.Identity(), 16, Evidence({"input_ids": ids}, []))


def test_encoder_and_decoder_texts() -> None:
    inputs = {"input_ids": torch.ones(1, 12).long(), "decoder_input_ids": torch.ones(1, 5).long()}
    assert find_layout(nn.Identity(), 12, Evidence(inputs, [])) == TokenLayout({"text": 12})
    assert find_layout(nn.Identity(), 5, Evidence(inputs, [])) == TokenLayout({"text": 5})


@pytest.mark.parametrize("num_tokens", [16, 49, 196])
def test_no_evidence_is_none_even_for_squares(num_tokens: int) -> None:
    assert find_layout(nn.Linear(3, 3), num_tokens, Evidence({}, [])) is None
    assert find_layout(nn.Linear(3, 3), num_tokens, Evidence({"x": torch.Size([1, num_tokens, 3])}, [])) is None


def test_a_masked_autoencoder_shuffles() -> None:
    model = tf.ViTMAEModel(tf.ViTMAEConfig(**TINY, **PICTURE, mask_ratio=0.0))
    for noise in ({}, {"noise": torch.Size([1, 24])}, {"noise": torch.arange(24).flip(0)[None]}):
        with pytest.raises(LayoutError, match=r"shuffles its patches.*noise=torch\.arange"):
            find_layout(model, 25, Evidence(noise, [(4, 6)]))
    assert find_layout(model, 25, Evidence({"noise": torch.arange(24)[None]}, [(4, 6)])) == TokenLayout.image(4, 6)

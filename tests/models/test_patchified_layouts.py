"""Videos, patches without pictures and pictures of several sizes, checked against where a patch really went."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from tokenrank.errors import LayoutError
from tokenrank.layout import Point, TokenLayout, at
from tokenrank.models import find_layout
from tokenrank.recording import AttentionRecord, Evidence, Recorder

from .cases import TINY


def observed(model: nn.Module, **inputs: Any) -> tuple[list[AttentionRecord], Evidence]:
    recorder = Recorder(model)
    with torch.no_grad(), recorder:
        model(**inputs)
    return recorder.records, recorder.evidence[0]


def prepared(model: nn.Module) -> nn.Module:
    for parameter in model.eval().parameters():  # some start at zero, which would hide where a patch goes
        nn.init.normal_(parameter, std=0.2)
    return model


def moved_tokens(before: AttentionRecord, after: AttentionRecord) -> list[int]:
    assert before.q is not None
    assert after.q is not None
    return ((after.q - before.q).abs().amax((0, 1, 3)) > 1e-6).nonzero().flatten().tolist()


def videomae() -> nn.Module:
    return tf.VideoMAEModel(tf.VideoMAEConfig(**TINY, image_size=[24, 32], patch_size=8, num_frames=4, tubelet_size=2))


def vivit() -> nn.Module:
    return tf.VivitModel(tf.VivitConfig(**TINY, image_size=[24, 32], num_frames=4, tubelet_size=[2, 8, 8]))


@pytest.mark.parametrize(("build", "cls"), [(videomae, 0), (vivit, 1)])
def test_patches_of_a_video(build: Callable[[], nn.Module], cls: int) -> None:
    model, pixels = prepared(build()), torch.randn(2, 4, 3, 24, 32)
    records, evidence = observed(model, pixel_values=pixels)
    layout = find_layout(model, records[0].shape[-1], evidence, records[0].name)
    assert layout == TokenLayout.video(2, 3, 4, cls)
    changed = pixels.clone()
    changed[:, 2, :, 8:16, 16:24] += torch.randn(8, 8)
    after, _ = observed(model, pixel_values=changed)
    assert layout is not None
    assert moved_tokens(records[0], after[0]) == [layout.token_at(at(2.5 / 4, 1.5 / 3, 0.75))]


def test_space_and_time_apart() -> None:
    config = tf.TimesformerConfig(**TINY, image_size=32, patch_size=8, num_frames=3)
    model = prepared(tf.TimesformerModel(config))
    records, evidence = observed(model, pixel_values=torch.randn(2, 3, 3, 32, 32))
    found = {r.name.split(".")[-2]: find_layout(model, r.shape[-1], evidence, r.name) for r in records}
    assert found == {"temporal_attention": TokenLayout({"frames": 3}), "attention": TokenLayout.image(4, 4)}


def test_dropped_tubes_are_not_guessed() -> None:
    model = videomae().eval()
    mask = torch.zeros(1, 24, dtype=torch.bool)
    mask[:, :7] = True
    records, evidence = observed(model, pixel_values=torch.randn(1, 4, 3, 24, 32), bool_masked_pos=mask)
    with pytest.raises(LayoutError, match=r"17 tokens.*2 × 3 × 4 = 24 patches.*dropped or merged"):
        find_layout(model, records[0].shape[-1], evidence, records[0].name)


def siglip2() -> nn.Module:
    return prepared(tf.Siglip2VisionModel(tf.Siglip2VisionConfig(**TINY, patch_size=8, num_patches=64)))


def naflex(*shapes: tuple[int, int], length: int = 30) -> dict[str, Tensor]:
    mask = torch.zeros(len(shapes), length, dtype=torch.long)
    for row, (height, width) in zip(mask, shapes, strict=True):
        row[: height * width] = 1
    return {
        "pixel_values": torch.randn(len(shapes), length, 192),
        "pixel_attention_mask": mask,
        "spatial_shapes": torch.tensor(shapes),
    }


def test_patches_with_their_shapes_and_padding() -> None:
    model, inputs = siglip2(), naflex((4, 6), (4, 6))
    records, evidence = observed(model, **inputs)
    layout = find_layout(model, 30, evidence, records[0].name)
    assert layout == TokenLayout({"image": 24, "padding": 6}, {"image": (4, 6)})
    changed = inputs["pixel_values"].clone()
    changed[:, 1 * 6 + 2] += 1  # patches come row by row
    after, _ = observed(model, **inputs | {"pixel_values": changed})
    assert layout is not None
    assert moved_tokens(records[0], after[0]) == [layout.token_at(Point(2.5 / 6, 1.5 / 4))]


def test_patches_of_several_shapes_in_a_batch() -> None:
    model, inputs = siglip2(), naflex((4, 6), (5, 5))
    records, evidence = observed(model, **inputs)
    with pytest.raises(LayoutError, match=r"spatial_shapes differ .*0 and 1.*; capture one sample at a time"):
        find_layout(model, 30, evidence, records[0].name)


def pixtral() -> nn.Module:
    config = tf.PixtralVisionConfig(**TINY, image_size=64, patch_size=8, head_dim=8)
    return prepared(tf.PixtralVisionModel(config))


def test_pictures_of_several_sizes_in_one_sequence() -> None:
    model, pixels = pixtral(), torch.randn(2, 3, 40, 48)
    inputs = {"pixel_values": pixels, "image_sizes": torch.tensor([[24, 48], [40, 16]])}
    records, evidence = observed(model, **inputs)
    layout = find_layout(model, 28, evidence, records[0].name)
    assert layout == TokenLayout({"image": 18, "image_2": 10}, {"image": (3, 6), "image_2": (5, 2)})
    changed = pixels.clone()
    changed[1, :, 24:32, 8:16] += torch.randn(8, 8)
    after, _ = observed(model, **inputs | {"pixel_values": changed})
    assert layout is not None
    assert moved_tokens(records[0], after[0]) == [layout.token_at(Point(1.5 / 2, 3.5 / 5), "image_2")]


def test_pictures_of_one_size_in_one_sequence() -> None:
    model = pixtral()
    records, evidence = observed(model, pixel_values=torch.randn(2, 3, 24, 40))
    layout = find_layout(model, 30, evidence, records[0].name)
    assert layout == TokenLayout({"image": 15, "image_2": 15}, {"image": (3, 5), "image_2": (3, 5)})


def qwen_tower(merge: int) -> nn.Module:
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    config = Qwen2VLVisionConfig(depth=1, embed_dim=32, hidden_size=32, num_heads=4, patch_size=4,
                                 spatial_merge_size=merge, temporal_patch_size=2)  # fmt: skip
    return prepared(Qwen2VisionTransformerPretrainedModel._from_config(config))


def test_patches_that_are_merged_later_are_not_row_by_row() -> None:
    model = qwen_tower(2)
    records, evidence = observed(model, hidden_states=torch.randn(24, 96), grid_thw=torch.tensor([[1, 4, 6]]))
    with pytest.raises(LayoutError, match=r"blocks of 2 × 2 that it merges.*24 of its tokens have no grid"):
        find_layout(model, records[0].shape[-1], evidence, records[0].name)


def test_the_order_that_the_refusal_writes_is_that_of_the_processor() -> None:
    model, (rows, columns) = qwen_tower(2), (4, 6)
    processor = tf.Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2, do_resize=False, do_normalize=False, do_rescale=False
    )
    numbers = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    pixels = np.repeat(np.repeat(numbers, 4, 0), 4, 1)[..., None].repeat(3, -1)
    prepared_ = processor(images=[pixels], return_tensors="pt")
    patches, grids = prepared_["pixel_values"].float(), prepared_["image_grid_thw"]
    assert grids.tolist() == [[1, rows, columns]]
    held = patches.mean(1).round().long().tolist()  # the patch of each token
    records, evidence = observed(model, hidden_states=patches, grid_thw=grids)
    with pytest.raises(LayoutError, match="with order= where patches are not row by row") as refusal:
        find_layout(model, records[0].shape[-1], evidence, records[0].name)
    written = re.search(r"order=(torch.arange.*)$", str(refusal.value))
    assert written is not None
    order = eval(written[1], {"torch": torch, "rows": rows, "columns": columns})
    layout = TokenLayout({"image": rows * columns}, {"image": (rows, columns)}, order=tuple(order))
    assert [held[token] for token in layout.indices("image")] == list(range(rows * columns))


def test_patches_that_are_not_merged() -> None:
    model, patches = qwen_tower(1), torch.randn(24, 96)
    records, evidence = observed(model, hidden_states=patches, grid_thw=torch.tensor([[1, 4, 6]]))
    layout = find_layout(model, records[0].shape[-1], evidence, records[0].name)
    assert layout == TokenLayout({"image": 24}, {"image": (4, 6)})


def test_the_encoder_and_the_decoder_of_a_text_by_name() -> None:
    config = tf.BartConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, vocab_size=64,
                           decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48)  # fmt: skip
    model = tf.BartModel(config).eval()
    records, evidence = observed(
        model, input_ids=torch.arange(3, 12)[None], decoder_input_ids=torch.arange(3, 8)[None], use_cache=False
    )
    square = {r.name: r.shape[-1] for r in records if r.is_square}
    assert list(square.values()) == [9, 5]
    for name, count in square.items():
        assert find_layout(model, count, evidence, name) == TokenLayout({"text": count})
    encoder, decoder = square
    # the length of the other text is no evidence
    with pytest.raises(LayoutError, match=r"5 tokens: input_ids has 9 tokens; "):
        find_layout(model, 5, evidence, encoder)
    with pytest.raises(LayoutError, match=r"9 tokens: decoder_input_ids has 5 tokens; "):
        find_layout(model, 9, evidence, decoder)


def test_an_encoder_of_sound_has_frames_and_no_text() -> None:
    config = tf.WhisperConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, vocab_size=64,
                              decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
                              max_source_positions=10, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                              decoder_start_token_id=1)  # fmt: skip
    model = tf.WhisperModel(config).eval()
    ids = torch.arange(3, 13)[None]
    records, evidence = observed(model, input_features=torch.randn(1, 8, 20), decoder_input_ids=ids, use_cache=False)
    found = {r.name.split(".")[0]: find_layout(model, 10, evidence, r.name) for r in records if "self" in r.name}
    assert found == {"encoder": TokenLayout({"audio": 10}), "decoder": TokenLayout({"text": 10})}


def test_a_backbone_with_a_configuration_of_its_own() -> None:
    backbone = tf.Dinov2Config(**TINY, image_size=32, patch_size=8, out_indices=[1, 2], reshape_hidden_states=False)
    config = tf.DPTConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8], fusion_hidden_size=8, reassemble_factors=[1, 1],
        neck_ignore_stages=[],
    )  # fmt: skip
    model = tf.DPTForDepthEstimation(config).eval()
    records, evidence = observed(model, pixel_values=torch.randn(1, 3, 32, 48))
    assert find_layout(model, 25, evidence, records[0].name) == TokenLayout.image(4, 6)

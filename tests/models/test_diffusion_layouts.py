"""Layouts of real denoisers, at sizes that are not square, checked against where a latent patch really went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokenrank.errors import LayoutError
from tokenrank.layout import Grid, TokenLayout, at
from tokenrank.models import find_layout
from tokenrank.recording import AttentionRecord, Evidence, Recorder

diffusers = pytest.importorskip("diffusers")

ROWS, COLUMNS, TEXT = 3, 4, 7


@dataclass
class Case:
    """A tiny denoiser with its inputs and the latent patches that are changed.

    Attributes:
        latents: name of the argument with the latents.
        cells: (slices of the latents, place in the picture) of a patch.
        spans, grids: expected of ``layer``, the first attention of the joint sequence.
        others: layer → spans of other attention.
    """

    model: nn.Module
    inputs: dict[str, Any]
    latents: str
    cell: tuple[Any, ...]
    point: Any
    layer: str
    spans: dict[str, int]
    grids: dict[str, Grid]
    others: dict[str, dict[str, int]] = field(default_factory=dict)


ROW, COLUMN = 1, 2
IMAGE = {"image": (ROWS, COLUMNS)}
POINT = at((COLUMN + 0.5) / COLUMNS, (ROW + 0.5) / ROWS)
PIXELS = (..., slice(2 * ROW, 2 * ROW + 2), slice(2 * COLUMN, 2 * COLUMN + 2))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def ids_of(*pictures: tuple[int, int, int], axes: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    """Position ids of pictures (number, rows, columns), as the pipelines make them."""
    rows = [[n, r, c, 0][:axes] for n, height, width in pictures for r in range(height) for c in range(width)]
    return torch.tensor(rows, dtype=dtype)


def sd3(dual: bool = False) -> Case:
    model = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=10, out_channels=4,
        pos_embed_max_size=16, dual_attention_layers=(0,) if dual else (),
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(2, 4, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(2, TEXT, 12),
        "pooled_projections": noise(2, 10), "timestep": torch.tensor([5.0, 5.0]),
    }  # fmt: skip
    others = {"transformer_blocks.0.attn2": {"image": 12}} if dual else {}
    return Case(model, inputs, "hidden_states", PIXELS, POINT, "transformer_blocks.0.attn",
                {"image": 12, "text": TEXT}, IMAGE, others)  # fmt: skip


def packed(model: nn.Module, axes: int = 3, dtype: torch.dtype = torch.float32, **more: Any) -> Case:
    ids = ids_of((0, ROWS, COLUMNS), axes=axes, dtype=dtype)
    inputs = {
        "hidden_states": noise(2, ROWS * COLUMNS, 8), "encoder_hidden_states": noise(2, TEXT, 12),
        "timestep": torch.tensor([0.5, 0.5]), "img_ids": ids, "txt_ids": torch.zeros(TEXT, axes, dtype=dtype), **more,
    }  # fmt: skip
    cell = (slice(None), ROW * COLUMNS + COLUMN)
    spans = {"text": TEXT, "image": 12}
    return Case(model, inputs, "hidden_states", cell, POINT, "transformer_blocks.0.attn", spans, IMAGE,
                {"single_transformer_blocks.0.attn": spans})  # fmt: skip


def flux() -> Case:
    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=10, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return packed(model, pooled_projections=noise(2, 10))


def flux2() -> Case:
    model = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, axes_dims_rope=(4, 4, 4, 4), timestep_guidance_channels=16,
    )  # fmt: skip
    case = packed(model, axes=4, dtype=torch.int64, guidance=torch.ones(2))
    case.inputs["img_ids"] = case.inputs["img_ids"].expand(2, -1, -1)
    case.inputs["txt_ids"] = case.inputs["txt_ids"].expand(2, -1, -1)
    return case


def chroma() -> Case:
    model = diffusers.ChromaTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, axes_dims_rope=(4, 4, 8), approximator_hidden_dim=8, approximator_num_channels=8,
        approximator_layers=1,
    )  # fmt: skip
    return packed(model)


def qwen_image() -> Case:
    model = diffusers.QwenImageTransformer2DModel(
        patch_size=1, in_channels=8, out_channels=2, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(2, ROWS * COLUMNS, 8), "encoder_hidden_states": noise(2, TEXT, 12),
        "encoder_hidden_states_mask": torch.ones(2, TEXT, dtype=torch.long), "timestep": torch.tensor([0.5, 0.5]),
        "img_shapes": [[(1, ROWS, COLUMNS)]] * 2,
    }  # fmt: skip
    cell = (slice(None), ROW * COLUMNS + COLUMN)
    return Case(model, inputs, "hidden_states", cell, POINT, "transformer_blocks.0.attn",
                {"text": TEXT, "image": 12}, IMAGE)  # fmt: skip


def aura_flow() -> Case:
    model = diffusers.AuraFlowTransformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16,
        out_channels=4, pos_embed_max_size=64,
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(2, 4, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(2, TEXT, 12),
        "timestep": torch.tensor([0.5, 0.5]),
    }  # fmt: skip
    spans = {"registers": 8, "text": TEXT, "image": 12}
    return Case(model, inputs, "hidden_states", PIXELS, POINT, "joint_transformer_blocks.0.attn", spans, IMAGE,
                {"single_transformer_blocks.0.attn": spans})  # fmt: skip


def lumina2() -> Case:
    model = diffusers.Lumina2Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1,
        num_attention_heads=3, num_kv_heads=1, multiple_of=2, axes_dim_rope=(4, 2, 2), axes_lens=(32, 32, 32),
        cap_feat_dim=12,
    )  # fmt: skip
    mask = torch.ones(2, TEXT + 2, dtype=torch.bool)
    mask[:, TEXT:] = False
    inputs = {
        "hidden_states": noise(2, 4, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(2, TEXT + 2, 12),
        "encoder_attention_mask": mask, "timestep": torch.tensor([0.5, 0.5]),
    }  # fmt: skip
    others = {"noise_refiner.0.attn": {"image": 12}, "context_refiner.0.attn": {"text": TEXT + 2}}
    return Case(model, inputs, "hidden_states", PIXELS, POINT, "noise_refiner.0.attn", {"image": 12}, IMAGE,
                others | {"layers.0.attn": {"text": TEXT, "image": 12}})  # fmt: skip


def z_image() -> Case:
    model = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=12,
        axes_dims=[8, 4, 4], axes_lens=[128, 32, 32],
    )  # fmt: skip
    nn.init.normal_(model.x_pad_token)
    nn.init.normal_(model.cap_pad_token)
    inputs = {
        "x": [noise(4, 1, 2 * ROWS, 2 * COLUMNS)] * 2, "cap_feats": [noise(TEXT, 12)] * 2,
        "t": torch.tensor([0.5, 0.5]),
    }  # fmt: skip
    picture, text = {"image": 12, "image_padding": 20}, {"text": TEXT, "text_padding": 25}
    return Case(model, inputs, "x", PIXELS, POINT, "noise_refiner.0.attention", picture, IMAGE,
                {"context_refiner.0.attention": text, "layers.0.attention": picture | text})  # fmt: skip


def cogvideox(patch_size_t: int | None = None) -> Case:
    model = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=12, num_layers=1, sample_width=2 * COLUMNS, sample_height=2 * ROWS, sample_frames=5,
        patch_size=2, patch_size_t=patch_size_t, temporal_compression_ratio=4, max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=patch_size_t is not None,
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(1, 2 * (patch_size_t or 1), 4, 2 * ROWS, 2 * COLUMNS),
        "encoder_hidden_states": noise(1, TEXT, 12), "timestep": torch.tensor([5]),
    }  # fmt: skip
    each = patch_size_t or 1
    return Case(model, inputs, "hidden_states", (slice(None), slice(each, 2 * each), slice(None), *PIXELS[1:]),
                at(POINT.x, POINT.y, 0.75), "transformer_blocks.0.attn1", {"text": TEXT, "video": 24},
                {"video": (2, ROWS, COLUMNS)})  # fmt: skip


def wan() -> Case:
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=12, freq_dim=16, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(1, 4, 2, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(1, TEXT, 12),
        "timestep": torch.tensor([5]),
    }  # fmt: skip
    return Case(model, inputs, "hidden_states", (slice(None), slice(None), 1, *PIXELS[1:]),
                at(POINT.x, POINT.y, 0.75), "blocks.0.attn1", {"video": 24}, {"video": (2, ROWS, COLUMNS)})  # fmt: skip


def mochi() -> Case:
    model = diffusers.MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
        in_channels=4, text_embed_dim=16, time_embed_dim=4, max_sequence_length=16,
    )  # fmt: skip
    mask = torch.ones(1, TEXT + 2, dtype=torch.bool)
    mask[:, TEXT:] = False
    inputs = {
        "hidden_states": noise(1, 4, 2, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(1, TEXT + 2, 16),
        "timestep": torch.tensor([5]), "encoder_attention_mask": mask,
    }  # fmt: skip
    return Case(model, inputs, "hidden_states", (slice(None), slice(None), 1, *PIXELS[1:]),
                at(POINT.x, POINT.y, 0.75), "transformer_blocks.0.attn1", {"video": 24, "text": TEXT},
                {"video": (2, ROWS, COLUMNS)})  # fmt: skip


def hunyuan_video() -> Case:
    model = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=12, pooled_projection_dim=8, rope_axes_dim=(4, 4, 8),
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(1, 4, 2, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(1, TEXT, 12),
        "timestep": torch.tensor([5]), "encoder_attention_mask": torch.ones(1, TEXT),
        "pooled_projections": noise(1, 8), "guidance": torch.tensor([6000.0]),
    }  # fmt: skip
    spans = {"video": 24, "text": TEXT}
    return Case(model, inputs, "hidden_states", (slice(None), slice(None), 1, *PIXELS[1:]),
                at(POINT.x, POINT.y, 0.75), "transformer_blocks.0.attn", spans, {"video": (2, ROWS, COLUMNS)},
                {"single_transformer_blocks.0.attn": spans,
                 "context_embedder.token_refiner.refiner_blocks.0.attn": {"text": TEXT}})  # fmt: skip


def pixart() -> Case:
    model = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, cross_attention_dim=16, caption_channels=12, use_additional_conditions=False,
    )  # fmt: skip
    inputs = {
        "hidden_states": noise(2, 4, 2 * ROWS, 2 * COLUMNS), "encoder_hidden_states": noise(2, TEXT, 12),
        "timestep": torch.tensor([5, 5]), "added_cond_kwargs": {"aspect_ratio": None, "resolution": None},
    }  # fmt: skip
    return Case(model, inputs, "hidden_states", PIXELS, POINT, "transformer_blocks.0.attn1", {"image": 12}, IMAGE)


def dit() -> Case:
    model = diffusers.DiTTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, num_embeds_ada_norm=8, norm_type="ada_norm_zero",
    )  # fmt: skip
    inputs = {  # the library's class can put together square pictures only
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.tensor([5, 5]), "class_labels": torch.tensor([1, 2]),
    }  # fmt: skip
    point = at((COLUMN + 0.5) / 4, (ROW + 0.5) / 4)
    return Case(model, inputs, "hidden_states", PIXELS, point, "transformer_blocks.0.attn1", {"image": 16},
                {"image": (4, 4)})  # fmt: skip


CASES: dict[str, Callable[[], Case]] = {
    "SD3": sd3,
    "SD3.5 with dual attention": lambda: sd3(dual=True),
    "FLUX": flux,
    "FLUX2": flux2,
    "Chroma": chroma,
    "QwenImage": qwen_image,
    "AuraFlow": aura_flow,
    "Lumina2": lumina2,
    "Z-Image": z_image,
    "CogVideoX": cogvideox,
    "CogVideoX 1.5": lambda: cogvideox(patch_size_t=2),
    "Wan": wan,
    "Mochi": mochi,
    "HunyuanVideo": hunyuan_video,
    "PixArt": pixart,
    "DiT": dit,
}


def observed(model: nn.Module, inputs: dict[str, Any]) -> tuple[dict[str, AttentionRecord], Evidence]:
    recorder = Recorder(model)
    with torch.no_grad(), recorder:
        model(**inputs)
    return {r.name: r for r in reversed(recorder.records)}, recorder.evidence[0]


def changed(value: Any, cell: tuple[Any, ...]) -> Any:
    if isinstance(value, list):
        return [changed(v, cell) for v in value]
    value = value.clone()
    value[cell] = value[cell] + noise(*value[cell].shape)
    return value


@pytest.mark.parametrize("name", CASES)
def test_each_latent_patch_is_where_the_layout_says(name: str) -> None:
    case = CASES[name]()
    for parameter in case.model.eval().parameters():  # some start at zero, which would hide where a patch goes
        nn.init.normal_(parameter, std=0.2)
    records, evidence = observed(case.model, case.inputs)
    record = records[case.layer]
    layout = find_layout(case.model, record.shape[-1], evidence, case.layer)
    assert layout is not None
    assert layout == TokenLayout(case.spans, case.grids)
    assert list(layout.spans) == list(case.spans)  # in this order

    after, _ = observed(case.model, case.inputs | {case.latents: changed(case.inputs[case.latents], case.cell)})
    moved = (after[case.layer].q - record.q).abs().amax((0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [layout.token_at(case.point)]

    for layer, spans in case.others.items():
        assert dict(find_layout(case.model, records[layer].shape[-1], evidence, layer).spans) == spans, layer
        assert list(find_layout(case.model, records[layer].shape[-1], evidence, layer).spans) == list(spans), layer


def unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=12,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4, norm_num_groups=4,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("size", [(6, 10), (8, 4), (7, 5)], ids=str)
def test_every_level_of_a_unet(size: tuple[int, int]) -> None:
    model = unet()
    inputs = {"sample": noise(2, 4, *size), "timestep": 5, "encoder_hidden_states": noise(2, TEXT, 12)}
    records, evidence = observed(model, inputs)
    half = (-(-size[0] // 2), -(-size[1] // 2))
    seen = set()
    for name, record in records.items():
        rows = find_layout(model, record.shape[-2], evidence, name)
        grid = half if "down_blocks.1" in name or "up_blocks.0" in name or "mid_block" in name else size
        assert rows == TokenLayout({"image": grid[0] * grid[1]}, {"image": grid}), name
        if name.endswith("attn2"):
            assert find_layout(model, record.shape[-1], evidence, name) == TokenLayout({"text": TEXT}), name
        seen.add((name.split(".")[0], name.split(".")[-1]))
    assert len(seen) == 6  # both kinds, in all three parts


def test_a_text_as_long_as_the_picture_in_cross_attention() -> None:
    model = unet()
    inputs = {"sample": noise(1, 4, 6, 10), "timestep": 5, "encoder_hidden_states": noise(1, 60, 12)}
    records, evidence = observed(model, inputs)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn"
    assert records[name + "2"].is_square
    with pytest.raises(LayoutError, match=r"ambiguous layout of 60 tokens: 60 text; or 60 image, 6 × 10 patches"):
        find_layout(model, 60, evidence, name + "2")
    assert find_layout(model, 60, evidence, name + "1") == TokenLayout({"image": 60}, {"image": (6, 10)})


def test_the_middle_of_an_autoencoder() -> None:
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    records, evidence = observed(model, {"sample": noise(1, 3, 12, 20)})
    assert len(records) == 2  # of encoder and decoder
    for name, record in records.items():
        assert find_layout(model, record.shape[-1], evidence, name) == TokenLayout({"image": 60}, {"image": (6, 10)})


def test_cross_attention_of_sana() -> None:
    model = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=12,
        sample_size=8,
    ).eval()  # fmt: skip
    inputs = {
        "hidden_states": noise(1, 4, ROWS, COLUMNS), "encoder_hidden_states": noise(1, TEXT, 12),
        "timestep": torch.tensor([5]),
    }  # fmt: skip
    records, evidence = observed(model, inputs)
    assert list(records) == ["transformer_blocks.0.attn2"]
    layouts = [find_layout(model, n, evidence, "transformer_blocks.0.attn2") for n in (12, TEXT)]
    assert layouts == [TokenLayout({"image": 12}, IMAGE), TokenLayout({"text": TEXT})]


def test_reference_pictures_have_spans_of_their_own() -> None:
    case = flux()
    case.inputs["hidden_states"] = noise(2, 12 + 10, 8)
    case.inputs["img_ids"] = ids_of((0, ROWS, COLUMNS), (1, 5, 2))
    records, evidence = observed(case.model.eval(), case.inputs)
    layout = find_layout(case.model, records[case.layer].shape[-1], evidence, case.layer)
    expected = TokenLayout({"text": TEXT, "image": 12, "image_2": 10}, {"image": (ROWS, COLUMNS), "image_2": (5, 2)})
    assert layout == expected

    case = qwen_image()
    case.inputs["hidden_states"] = noise(2, 12 + 10, 8)
    case.inputs["img_shapes"] = [[(1, ROWS, COLUMNS), (1, 5, 2)]] * 2
    records, evidence = observed(case.model.eval(), case.inputs)
    assert find_layout(case.model, records[case.layer].shape[-1], evidence, case.layer) == expected


def test_positions_that_are_no_full_grid_give_no_grid() -> None:
    case = flux()
    case.inputs["img_ids"] = case.inputs["img_ids"].flip(0)  # from the last patch to the first
    records, evidence = observed(case.model.eval(), case.inputs)
    layout = find_layout(case.model, records[case.layer].shape[-1], evidence, case.layer)
    assert layout == TokenLayout({"text": TEXT, "image": 12})

    case = flux2()
    case.inputs["img_ids"] = case.inputs["img_ids"].float()  # (B, N, 4) of floats: only its shape is kept
    records, evidence = observed(case.model.eval(), case.inputs)
    layout = find_layout(case.model, records[case.layer].shape[-1], evidence, case.layer)
    assert layout == TokenLayout({"text": TEXT, "image": 12})


def test_texts_of_several_lengths_before_the_picture() -> None:
    case = lumina2()
    case.inputs["encoder_attention_mask"][1, 3:] = False
    records, evidence = observed(case.model.eval(), case.inputs)
    with pytest.raises(LayoutError, match=r"texts have \[7, 3\] tokens .*; capture one sample at a time"):
        find_layout(case.model, records["layers.0.attn"].shape[-1], evidence, "layers.0.attn")


def test_texts_of_several_lengths_in_calls_of_their_own() -> None:
    case = mochi()
    for name in ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"):
        case.inputs[name] = torch.cat([case.inputs[name]] * 2)
    case.inputs["encoder_attention_mask"][1, 3:] = False
    recorder = Recorder(case.model.eval())
    with torch.no_grad(), recorder:
        case.model(**case.inputs)
    counts = [r.shape[-1] for r in recorder.records if r.name == case.layer]
    layouts = [find_layout(case.model, n, recorder.evidence[0], case.layer) for n in counts]
    assert [dict(layout.spans) for layout in layouts] == [{"video": 24, "text": TEXT}, {"video": 24, "text": 3}]


def test_counts_that_nothing_explains() -> None:
    case = sd3()
    _, evidence = observed(case.model.eval(), case.inputs)
    expected = r"unknown layout of 18 tokens of 'x': SD3Transformer2DModel has sequences of 12: 12 image, 3 × 4 patches"
    with pytest.raises(LayoutError, match=expected):
        find_layout(case.model, 18, evidence, "x")


def test_arguments_that_do_not_tell_the_picture() -> None:
    case = z_image()
    with pytest.raises(LayoutError, match=r"64 tokens of 'layers.0'.*ZImageTransformer2DModel do not tell"):
        find_layout(case.model, 64, Evidence({"t": torch.zeros(2)}), "layers.0")
    sizes = {"x": [torch.Size([4, 1, 6, 8]), torch.Size([4, 1, 8, 8])], "cap_feats": [torch.Size([7, 12])] * 2}
    with pytest.raises(LayoutError, match=r"x of ZImage.*expected one shape for all samples; capture one sample"):
        find_layout(case.model, 64, Evidence(sizes), "layers.0")


def test_picture_and_text_of_equal_length_in_refiners() -> None:
    case = lumina2()
    case.inputs["encoder_hidden_states"] = noise(2, 12, 12)
    case.inputs["encoder_attention_mask"] = torch.ones(2, 12, dtype=torch.bool)
    _, evidence = observed(case.model.eval(), case.inputs)
    layouts = [find_layout(case.model, 12, evidence, f"{n}_refiner.0.attn") for n in ("noise", "context")]
    assert layouts == [TokenLayout({"image": 12}, IMAGE), TokenLayout({"text": 12})]
    with pytest.raises(LayoutError, match=r"ambiguous layout of 12 tokens"):
        find_layout(case.model, 12, evidence)

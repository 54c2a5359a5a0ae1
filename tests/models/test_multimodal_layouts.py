"""Language models that read pictures: image tokens between words, checked against where a patch of pixels went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout, at
from tokenrank.models import find_layout
from tokenrank.recording import AttentionRecord, Evidence, Recorder
from tokenrank.trace import capture

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
TEXT = {**TINY, "vocab_size": 64, "num_key_value_heads": 2, "head_dim": 8}
PICTURE, VIDEO, START = 50, 51, 52  # token ids


def vision(**more: Any) -> dict[str, Any]:
    return {**TINY, "image_size": 32, "patch_size": 8, **more}


def sequence(*runs: int, token: int = PICTURE) -> Tensor:
    """Token ids (1, N): runs of text and of image tokens in turn, text first."""
    ids = [torch.full((n,), token) if i % 2 else torch.arange(3, 3 + n) for i, n in enumerate(runs)]
    return torch.cat(ids)[None]


def llava(**more: Any) -> nn.Module:
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**vision()), text_config=tf.LlamaConfig(**TEXT),
        image_token_index=PICTURE, vision_feature_layer=-1, **more,
    )  # fmt: skip
    return tf.LlavaForConditionalGeneration(config)


def paligemma() -> nn.Module:
    config = tf.PaliGemmaConfig(
        vision_config=tf.SiglipVisionConfig(**vision(vision_use_head=False)), text_config=tf.GemmaConfig(**TEXT),
        image_token_index=PICTURE, projection_dim=32, hidden_size=32,
    )  # fmt: skip
    return tf.PaliGemmaForConditionalGeneration(config)


def gemma3() -> nn.Module:
    text = tf.Gemma3TextConfig(
        **TEXT, query_pre_attn_scalar=8, sliding_window=6, layer_types=["full_attention"]
    )  # fmt: skip
    config = tf.Gemma3Config(
        vision_config=tf.SiglipVisionConfig(**vision(vision_use_head=False)), text_config=text,
        image_token_index=PICTURE, mm_tokens_per_image=4,
    )  # fmt: skip
    return tf.Gemma3ForConditionalGeneration(config)


def idefics3(name: str = "Idefics3") -> nn.Module:
    config = getattr(tf, f"{name}Config")(
        vision_config=vision(), text_config=tf.LlamaConfig(**TEXT), image_token_id=PICTURE, scale_factor=2
    )
    return getattr(tf, f"{name}ForConditionalGeneration")(config)


def internvl() -> nn.Module:
    config = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(**vision(image_size=[32, 32], patch_size=[8, 8])),
        text_config=tf.Qwen2Config(**{k: v for k, v in TEXT.items() if k != "head_dim"}),
        image_token_id=PICTURE, downsample_ratio=0.5,
    )  # fmt: skip
    return tf.InternVLForConditionalGeneration(config)


def qwen(name: str = "Qwen2_5_VL") -> nn.Module:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1]}
    text = {**TEXT, "rope_parameters": rope | {"rope_theta": 1e4}, "max_position_embeddings": 128}
    sight = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 4,
             "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32}  # fmt: skip
    if name == "Qwen2_5_VL":
        sight |= {"window_size": 16, "fullatt_block_indexes": [0]}
    if name == "Qwen3VL":
        sight |= {"num_position_embeddings": 64, "deepstack_visual_indexes": []}
    config = getattr(tf, f"{name}Config")(
        vision_config=sight, text_config=text, image_token_id=PICTURE, video_token_id=VIDEO, vision_start_token_id=START
    )
    return getattr(tf, f"{name}ForConditionalGeneration")(config)


def prepared(model: nn.Module) -> nn.Module:
    """With other weights, and a vision tower in which no patch sees another, so that a patch can be followed."""
    for name, parameter in model.eval().named_parameters():
        nn.init.normal_(parameter, std=0.2)
        if any(n in name for n in ("vision", "visual")) and any(
            n in name for n in ("out_proj", "attn.proj", "projection_layer", "o_proj")
        ):
            nn.init.zeros_(parameter)
    return model


def observed(model: nn.Module, **inputs: Any) -> tuple[dict[str, list[AttentionRecord]], Evidence]:
    recorder = Recorder(model)
    with torch.no_grad(), recorder:
        model(**inputs, use_cache=False)
    records: dict[str, list[AttentionRecord]] = {}
    for record in recorder.records:
        records.setdefault(record.name, []).append(record)
    return records, recorder.evidence[0]


def language(records: dict[str, list[AttentionRecord]]) -> AttentionRecord:
    return next(r for name, (r, *_) in records.items() if "language_model" in name or "text_model" in name)


PIXELS = (1, 3, 32, 32)
MODELS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...], tuple[int, int]]] = {
    "LLaVA": (llava, 16, PIXELS, (4, 4)),
    "PaliGemma": (paligemma, 16, PIXELS, (4, 4)),
    "Gemma 3": (gemma3, 4, PIXELS, (2, 2)),
    "Idefics3": (idefics3, 4, (1, *PIXELS), (2, 2)),
    "SmolVLM": (lambda: idefics3("SmolVLM"), 4, (1, *PIXELS), (2, 2)),
    "InternVL": (internvl, 4, PIXELS, (2, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_each_patch_of_pixels_is_where_the_layout_says(name: str) -> None:
    build, count, size, (rows, columns) = MODELS[name]
    model = prepared(build())
    inputs: dict[str, Any] = {"input_ids": sequence(3, count, 4), "pixel_values": torch.randn(size)}
    if name == "PaliGemma":
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    records, evidence = observed(model, **inputs)
    record = language(records)
    layout = find_layout(model, record.shape[-1], evidence, record.name)
    assert layout is not None
    assert layout == TokenLayout({"text": 3, "image": count, "text_2": 4}, {"image": (rows, columns)})
    assert list(layout.spans) == ["text", "image", "text_2"]

    # the vision tower of the same model, told apart by its name
    tower = next(r for n, (r, *_) in records.items() if "vision" in n)
    patches = find_layout(model, tower.shape[-1], evidence, tower.name)
    assert patches is not None
    assert patches.grids == {"image": (4, 4)}

    changed = inputs["pixel_values"].clone()
    changed[..., :8, 16:24] += torch.randn(8, 8)  # the patch in row 0, column 2 of 4
    after = language(observed(model, **inputs | {"pixel_values": changed})[0])
    moved = (after.q - record.q).abs().amax((0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [layout.token_at(at(2.5 / 4, 0.5 / 4))]


@pytest.mark.parametrize("name", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_merged_patches_of_qwen(name: str) -> None:
    model = prepared(qwen(name))
    ids = torch.cat([torch.tensor([[3, 4, START]]), torch.full((1, 6), PICTURE), torch.tensor([[5, 6]])], 1)
    inputs = {
        "input_ids": ids, "pixel_values": torch.randn(24, 96), "image_grid_thw": torch.tensor([[1, 4, 6]]),
        "mm_token_type_ids": (ids == PICTURE).int(),
    }  # fmt: skip
    records, evidence = observed(model, **inputs)
    record = language(records)
    layout = find_layout(model, 11, evidence, record.name)
    assert layout == TokenLayout({"text": 3, "image": 6, "text_2": 2}, {"image": (2, 3)})

    changed = inputs["pixel_values"].clone()
    changed[4 * 4 + 1] += torch.randn(96)  # within the block of 2 × 2 patches that is fifth row by row
    after = language(observed(model, **inputs | {"pixel_values": changed})[0])
    moved = (after.q - record.q).abs().amax((0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [layout.token_at(at(1.5 / 3, 1.5 / 2))]

    tower = next(n for n in records if "visual" in n)
    with pytest.raises(LayoutError, match=r"order of the blocks of 2 × 2 that it merges.*not row by row"):
        find_layout(model, 24, evidence, tower)


def thw(model: nn.Module, ids: Tensor, **grids: list[list[int]]) -> TokenLayout | None:
    inputs = {"input_ids": ids, **{f"{kind}_grid_thw": torch.tensor(g) for kind, g in grids.items()}}
    return find_layout(model, ids.shape[-1], Evidence(inputs), "model.language_model.layers.0.self_attn")


def test_several_pictures_without_a_word_between_them() -> None:
    layout = thw(qwen(), sequence(2, 6 + 4, 1, 2), image=[[1, 4, 6], [1, 2, 8], [1, 2, 4]])
    assert layout is not None
    assert list(layout.spans.items()) == [("text", 2), ("image", 6), ("image_2", 4), ("text_2", 1), ("image_3", 2)]
    assert layout.grids == {"image": (2, 3), "image_2": (1, 4), "image_3": (1, 2)}


def test_grids_that_do_not_fill_the_runs_are_left_out() -> None:
    layout = thw(qwen(), sequence(2, 7, 1), image=[[1, 4, 6]])
    assert layout == TokenLayout({"text": 2, "image": 7, "text_2": 1})


def test_videos_whole_and_frame_by_frame() -> None:
    whole = thw(qwen(), sequence(2, 18, 1, token=VIDEO), video=[[3, 4, 6]])
    assert whole == TokenLayout({"text": 2, "video": 18, "text_2": 1}, {"video": (3, 2, 3)})
    frames = thw(qwen("Qwen3VL"), sequence(2, 6, 1, 6, 1, 6, token=VIDEO), video=[[3, 4, 6]])
    assert frames is not None
    assert frames.grids == {"video": (2, 3), "video_2": (2, 3), "video_3": (2, 3)}


def test_samples_have_to_agree() -> None:
    same = sequence(2, 6, 3).expand(2, -1)
    assert thw(qwen(), same, image=[[1, 4, 6]] * 2) == TokenLayout(
        {"text": 2, "image": 6, "text_2": 3}, {"image": (2, 3)}
    )
    with pytest.raises(LayoutError, match=r"image_grid_thw differs .*1 × 2 × 3 tokens; 1 × 3 × 2\), .*one sample"):
        thw(qwen(), same, image=[[1, 4, 6], [1, 6, 4]])
    with pytest.raises(
        LayoutError, match=r"places of image tokens in input_ids differ .*0 and 1.*one sample at a time"
    ):
        thw(qwen(), torch.cat([sequence(2, 6, 3), sequence(3, 6, 2)]), image=[[1, 4, 6]] * 2)


def test_pictures_of_llava_side_by_side() -> None:
    model = llava()
    inputs = {"input_ids": sequence(1, 32, 2, 16), "pixel_values": torch.randn(3, 3, 32, 32)}
    records, evidence = observed(model.eval(), **inputs)
    record = language(records)
    layout = find_layout(model, 51, evidence, record.name)
    assert layout is not None
    assert list(layout.spans.values()) == [1, 16, 16, 2, 16]
    assert layout.grids == dict.fromkeys(("image", "image_2", "image_3"), (4, 4))


def test_pictures_that_only_fill_up_a_batch_do_not_count() -> None:
    pixels = torch.randn(1, 3, 3, 32, 32)
    pixels[:, 2] = 0
    mask = torch.ones(1, 3, 32, 32, dtype=torch.bool)
    mask[:, 2] = False
    inputs = {"input_ids": sequence(2, 4, 1, 4), "pixel_values": pixels, "pixel_attention_mask": mask}
    model = idefics3().eval()
    records, evidence = observed(model, **inputs)
    layout = find_layout(model, 11, evidence, language(records).name)
    assert layout is not None
    assert layout.grids == {"image": (2, 2), "image_2": (2, 2)}


def test_rows_that_end_with_a_token_of_their_own_are_no_grid() -> None:
    config = tf.LlavaNextConfig(
        vision_config=tf.CLIPVisionConfig(**vision()), text_config=tf.LlamaConfig(**TEXT), image_token_index=PICTURE,
        vision_feature_layer=-1, image_grid_pinpoints=[[32, 32]],
    )  # fmt: skip
    model = tf.LlavaNextForConditionalGeneration(config).eval()
    inputs = {
        "input_ids": sequence(2, 16 + 4 * 5, 3), "pixel_values": torch.randn(1, 2, 3, 32, 32),
        "image_sizes": torch.tensor([[32, 32]]),
    }  # fmt: skip
    records, evidence = observed(model, **inputs)
    layout = find_layout(model, 41, evidence, language(records).name)
    assert layout == TokenLayout({"text": 2, "image": 36, "text_2": 3})
    # nor where tokens and patches happen to be equally many
    evidence = Evidence({**evidence.inputs, "input_ids": sequence(2, 32, 3)}, evidence.conv_grids)
    layout = find_layout(model, 37, evidence, language(records).name)
    assert layout == TokenLayout({"text": 2, "image": 32, "text_2": 3})


def test_answers_to_learned_queries_are_no_grid() -> None:
    config = tf.Blip2Config(
        vision_config=vision(), text_config=tf.OPTConfig(**TINY, ffn_dim=48, vocab_size=64, word_embed_proj_dim=32),
        qformer_config={**TINY, "encoder_hidden_size": 32}, num_query_tokens=4, image_token_index=PICTURE,
    )  # fmt: skip
    model = tf.Blip2ForConditionalGeneration(config).eval()
    inputs = {"input_ids": sequence(0, 4, 5), "pixel_values": torch.randn(PIXELS)}
    records, evidence = observed(model, **inputs)
    name = language(records).name
    assert find_layout(model, 9, evidence, name) == TokenLayout({"image": 4, "text": 5})
    queries = next(n for n in records if "qformer" in n and records[n][0].is_square)
    assert find_layout(model, 4, evidence, queries) is None


def test_a_text_without_pictures() -> None:
    model = llava()
    records, evidence = observed(model.eval(), input_ids=sequence(7))
    assert find_layout(model, 7, evidence, language(records).name) == TokenLayout({"text": 7})


def test_towers_of_equal_length_are_told_apart_by_name() -> None:
    model = tf.CLIPModel(tf.CLIPConfig(text_config=dict(TINY, vocab_size=64), vision_config=vision())).eval()
    recorder = Recorder(model)
    with torch.no_grad(), recorder:
        model(input_ids=torch.ones(1, 17, dtype=torch.long), pixel_values=torch.randn(PIXELS))
    found = {r.name.split(".")[0]: find_layout(model, 17, recorder.evidence[0], r.name) for r in recorder.records}
    assert found == {"text_model": TokenLayout({"text": 17}), "vision_model": TokenLayout.image(4, 4)}
    with pytest.raises(LayoutError, match="ambiguous layout of 17 tokens"):
        find_layout(model, 17, recorder.evidence[0])


def test_a_decoding_step_is_one_token() -> None:
    model = llava().eval()
    recorder = Recorder(model)
    ids = sequence(2, 16, 3)
    with torch.no_grad(), recorder:
        model.generate(
            input_ids=ids, pixel_values=torch.randn(PIXELS), max_new_tokens=2, min_new_tokens=2, do_sample=False
        )
    steps = [r for r in recorder.records if "language_model" in r.name]
    assert [r.is_square for r in steps] == [True, False]
    layout = find_layout(model, 21, recorder.evidence[0], steps[0].name)
    assert layout is not None
    assert list(layout.spans.items()) == [("text", 2), ("image", 16), ("text_2", 3)]
    assert layout.grids == {"image": (4, 4)}


def qwen_inputs(ids: Tensor, pictures: list[list[int]], videos: list[list[int]]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["mm_token_type_ids"] = (ids == PICTURE).int() + 2 * (ids == VIDEO).int()
    for name, pixels, grids in (("image", "pixel_values", pictures), ("video", "pixel_values_videos", videos)):
        if grids:
            inputs[pixels] = torch.randn(sum(t * r * c for t, r, c in grids), 96)
            inputs[f"{name}_grid_thw"] = torch.tensor(grids)
    return inputs


def prompt(*kinds: tuple[int, int]) -> Tensor:
    """Token ids (1, N): runs of (token id, count), with 0 for words."""
    runs = [torch.arange(3, 3 + n) if token == 0 else torch.full((n,), token) for token, n in kinds]
    return torch.cat(runs)[None]


ONE, OTHER, FILM = [1, 4, 6], [1, 8, 4], [2, 4, 6]  # patches; each block of 2 × 2 becomes one token
# what is in the prompt, pictures, videos, and the spans and grids that follow from them by hand
SCENES: dict[str, tuple[list[tuple[int, int]], list[list[int]], list[list[int]], dict[str, int], dict[str, Any]]] = {
    "a picture": (
        [(0, 2), (PICTURE, 6), (0, 3)], [ONE], [],
        {"text": 2, "image": 6, "text_2": 3}, {"image": (2, 3)},
    ),
    "a picture alone": ([(PICTURE, 6)], [ONE], [], {"image": 6}, {"image": (2, 3)}),
    "a video": (
        [(0, 2), (VIDEO, 12), (0, 3)], [], [FILM],
        {"text": 2, "video": 12, "text_2": 3}, {"video": (2, 2, 3)},
    ),
    "a video alone": ([(VIDEO, 12)], [], [FILM], {"video": 12}, {"video": (2, 2, 3)}),
    "a picture and a video": (
        [(0, 1), (PICTURE, 6), (0, 1), (VIDEO, 12), (0, 1)], [ONE], [FILM],
        {"text": 1, "image": 6, "text_2": 1, "video": 12, "text_3": 1}, {"image": (2, 3), "video": (2, 2, 3)},
    ),
    "neither": ([(0, 7)], [], [], {"text": 7}, {}),
    "two pictures of different sizes": (
        [(0, 1), (PICTURE, 6), (0, 2), (PICTURE, 8), (0, 1)], [ONE, OTHER], [],
        {"text": 1, "image": 6, "text_2": 2, "image_2": 8, "text_3": 1}, {"image": (2, 3), "image_2": (4, 2)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_every_kind_of_token_alone_and_together(name: str, scene: str) -> None:
    kinds, pictures, videos, spans, grids = SCENES[scene]
    if name == "Qwen3VL" and videos:  # its frames stand apart, with words between them
        at_video = next(i for i, (token, _) in enumerate(kinds) if token == VIDEO)
        kinds = [*kinds[:at_video], (VIDEO, 6), (0, 2), (VIDEO, 6), *kinds[at_video + 1 :]]
    ids = prompt(*kinds)
    model = prepared(qwen(name))
    with torch.no_grad(), capture(model) as trace:
        model(**qwen_inputs(ids, pictures, videos), use_cache=False)
    found = [record.layout for record in trace.records if "language_model" in record.name]
    assert len(found) == 1
    layout = found[0]
    if name == "Qwen3VL" and videos:
        assert isinstance(layout, TokenLayout)
        assert [n for span, n in layout.spans.items() if span.startswith("video")] == [6, 6]
        assert layout.grids == {**{k: g for k, g in grids.items() if k == "image"}, "video": (2, 3), "video_2": (2, 3)}
    else:
        assert layout == TokenLayout(spans, grids)
    towers = [record.layout for record in trace.records if "visual" in record.name]
    assert bool(towers) == bool(pictures or videos)
    assert all(isinstance(layout, LayoutError) and "merges" in str(layout) for layout in towers)


@pytest.mark.parametrize("name", MODELS)
def test_words_alone_a_picture_alone_and_two(name: str) -> None:
    build, count, size, (rows, columns) = MODELS[name]
    model = prepared(build())
    image = {"image": count}
    for ids, pictures, spans in (
        (sequence(7), 0, {"text": 7}),
        (sequence(0, count, 1), 1, {**image, "text": 1}),
        (sequence(1, count, 2, count, 1), 2, {"text": 1, **image, "text_2": 2, "image_2": count, "text_3": 1}),
    ):
        inputs: dict[str, Any] = {"input_ids": ids}
        if pictures:
            lead = (1, pictures) if len(size) == 5 else (pictures,)
            inputs["pixel_values"] = torch.randn(*lead, *size[-3:])
        if name == "PaliGemma":
            inputs["token_type_ids"] = torch.zeros_like(ids)
        with torch.no_grad(), capture(model) as trace:
            model(**inputs, use_cache=False)
        for record in trace.records:
            tower = "vision" in record.name
            grids = {n: (rows, columns) for n in spans if n.startswith("image")}
            expected = TokenLayout({"image": 16}, {"image": (4, 4)}) if tower else TokenLayout(spans, grids)
            if tower and name in ("LLaVA", "InternVL"):
                expected = TokenLayout.image(4, 4)
            assert record.layout == expected

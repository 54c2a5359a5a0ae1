"""Windows put together to a chain on the picture, against what the attention of real models was fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from torch import Tensor, nn

import tokenrank as tr
from tests.models.windowed import (
    SAM,
    SWIN,
    hf_sam,
    hf_sam2,
    hf_swin,
    hf_swin_v2,
    hf_vitdet,
    large_enough,
    timm,
    timm_maxvit,
    timm_sam,
    timm_swin,
    torchvision_maxvit,
    torchvision_swin,
)
from tokenrank.errors import CaptureError, LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.models.windows import find_windows
from tokenrank.operators import Blocks
from tokenrank.recording import AttentionRecord, Evidence, Recorder
from tokenrank.trace.chains import stitch


def stitched(
    record: AttentionRecord, model: nn.Module, evidence: Evidence, batch_size: int | None = None
) -> tuple[Blocks, TokenLayout] | None:
    """The chain on all tokens of the picture, and their layout; None where the attention is not over windows."""
    windows = find_windows(record, model, evidence, batch_size)
    return None if windows is None else (stitch(record, windows), windows.layout)


@dataclass
class Case:
    """A model, a picture, and modules: where attention is given windows, and where its tokens are in rows.

    Attributes:
        tokens: of a block with the attention ``name``, the module whose ``side`` has the tokens of the picture.
    """

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    tokens: Callable[[str], str]
    side: str = "output"


def above(levels: int, *below: str) -> Callable[[str], str]:
    return lambda name: ".".join((*name.split(".")[:-levels], *below))


CASES = {
    "Swin": Case(hf_swin, (44, 36), above(1, "layernorm_before")),
    "Swin, eager": Case(lambda: hf_swin(attention="eager"), (30, 58), above(1, "layernorm_before")),
    "Swin, one window": Case(lambda: hf_swin(16), (16, 16), above(1, "layernorm_before")),
    "Swin v2": Case(lambda: hf_swin_v2(48), (48, 36), above(2), "input"),
    "Donut": Case(lambda: tf.DonutSwinModel(tf.DonutSwinConfig(**SWIN)), (44, 36), above(2, "layernorm_before")),
    "SAM": Case(hf_sam, (48, 48), above(1, "layer_norm1")),
    "SAM, eager": Case(lambda: hf_sam("eager"), (48, 48), above(1, "layer_norm1")),
    "ViTDet": Case(hf_vitdet, (48, 40), above(1, "norm1")),
    "ViTDet, relative": Case(lambda: hf_vitdet(use_relative_position_embeddings=True), (48, 40), above(1, "norm1")),
    "SAM 2": Case(hf_sam2, (64, 64), above(1, "layer_norm1")),
    "timm Swin": Case(lambda: timm_swin("SwinTransformer", (44, 36)), (44, 36), above(1, "norm1")),
    "timm Swin, window of 3 × 5": Case(
        lambda: timm_swin("SwinTransformer", (44, 36), window_size=(3, 5)), (44, 36), above(1, "norm1")
    ),
    "timm Swin, any size": Case(
        lambda: timm_swin("SwinTransformer", (32, 32), strict_img_size=False), (36, 44), above(1, "norm1")
    ),
    "timm Swin v2": Case(lambda: timm_swin("SwinTransformerV2", (44, 36)), (44, 36), above(1), "input"),
    "timm Swin v2 CR": Case(lambda: timm_swin("SwinTransformerV2Cr", (44, 36)), (44, 36), above(1), "input"),
    "timm SAM": Case(timm_sam, (48, 48), above(1, "norm1")),
    "timm MaxViT": Case(timm_maxvit, (64, 64), above(1, "norm1")),
    "torchvision MaxViT": Case(torchvision_maxvit, (64, 64), above(2, "partition_op"), "input"),
}


@dataclass
class Run:
    model: nn.Module
    evidence: Evidence
    records: list[AttentionRecord]
    tokens: dict[str, Tensor]
    windows: dict[str, Tensor]


def run(model: nn.Module, pixels: Tensor, tokens: Callable[[str], str] | None = None, side: str = "output") -> Run:
    """One forward, with what went into every attention over windows, and the tokens of the picture before."""
    with torch.no_grad(), Recorder(model) as first:
        model(pixels)
    seen = Run(model, first.evidence[0], first.records, {}, {})
    for name in dict.fromkeys(r.name for r in first.records) if tokens else ():
        attention, source = model.get_submodule(name), model.get_submodule(tokens(name))
        attention.register_forward_pre_hook(
            lambda _, args, named, name=name: seen.windows.update({name: next(iter((*args, *named.values()))).clone()}),
            with_kwargs=True,
        )
        source.register_forward_hook(
            lambda _, args, out, name=name: seen.tokens.update({name: (out if side == "output" else args[0]).clone()})
        )
    with torch.no_grad():
        model(pixels)
    return seen


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_windows_hold_the_tokens_that_the_attention_was_fed(name: str, batch: int) -> None:
    case = CASES[name]
    seen = run(large_enough(case.build()), torch.randn(batch, 3, *case.size), case.tokens, case.side)
    checked = 0
    for record in seen.records:
        windows = find_windows(record, seen.model, seen.evidence)
        if windows is None:
            continue
        rows = seen.tokens[record.name]
        if "partition_op" in case.tokens(record.name):  # channels first
            rows = seen.tokens[record.name].permute(0, 2, 3, 1)
        rows = rows.reshape(batch, -1, rows.shape[-1])
        assert rows.shape[1] == len(windows.layout.range("image"))
        whole = F.pad(rows, (0, 0, 0, windows.index.numel() - rows.shape[1]))
        fed = whole[:, windows.index]
        if name == "torchvision MaxViT":
            fed = seen.model.get_submodule(record.name.removesuffix(".1") + ".0")(fed)
        assert torch.equal(fed.flatten(), seen.windows[record.name].flatten())
        checked += 1
    assert checked >= 1 + ("Swin" in name)


@pytest.mark.parametrize("size", [(44, 36), (30, 58), (8, 40)], ids=str)
def test_windows_of_torchvision_hold_the_tokens_that_queries_are_made_of(size: tuple[int, int]) -> None:
    model = large_enough(torchvision_swin())
    seen = run(model, torch.randn(2, 3, *size), above(1, "norm1"))
    for record in seen.records:
        windows = find_windows(record, model, seen.evidence)
        assert windows is not None
        rows = seen.tokens[record.name].flatten(1, 2)
        whole = F.pad(rows, (0, 0, 0, windows.index.numel() - rows.shape[1]))
        qkv: Any = model.get_submodule(record.name + ".qkv")
        queries = qkv(whole)[..., : rows.shape[-1]].unflatten(-1, (2, -1))[:, windows.index].flatten(0, 1)
        assert record.q is not None
        expected = queries.transpose(1, 2) / queries.shape[-1] ** 0.5
        torch.testing.assert_close(record.scale * record.q, expected, rtol=0, atol=1e-4)
    assert len(seen.records) == 4


CHAINS = [name for name in CASES if name not in ("SAM 2", "Swin, eager")]


@pytest.mark.parametrize("name", [*CHAINS, "torchvision Swin"])
def test_a_row_of_the_chain_is_the_records_row_in_its_window(name: str) -> None:
    build, size = (torchvision_swin, (44, 36)) if name == "torchvision Swin" else (CASES[name].build, CASES[name].size)
    seen = run(large_enough(build()), torch.randn(2, 3, *size))
    checked = 0
    for record in seen.records:
        found = stitched(record, seen.model, seen.evidence)
        if found is None:
            continue
        operator, layout = found
        index = operator.tokens
        heads = operator.shape[1]
        chain = tr.AttentionChain.from_operator(operator, layout)
        own = record.to_dense(torch.float64).reshape(2, len(index), heads, *record.shape[-2:])
        assert own.amax() > 0.2  # far from uniform
        dense = chain.operator.to_dense(torch.float64)
        assert dense.shape == (2, heads, layout.num_tokens, layout.num_tokens)
        for w in (0, len(index) // 2, len(index) - 1):
            rows = dense[:, :, index[w]]
            torch.testing.assert_close(rows[..., index[w]], own[:, w], rtol=0, atol=1e-5)
            assert not rows[..., torch.cat([index[:w], index[w + 1 :]]).flatten()].any()
        checked += 1
    assert checked


@pytest.fixture(scope="module")
def swin() -> Run:
    return run(large_enough(hf_swin()), torch.randn(2, 3, 44, 36))


def test_a_stitched_chain_answers_as_any_other(swin: Run) -> None:
    plain, moved = (
        tr.AttentionChain.from_operator(*found)
        for record in swin.records[2:]
        if (found := stitched(record, swin.model, swin.evidence)) is not None
    )
    assert plain.shape == moved.shape == (2, 2, 144, 144)
    assert plain.layout == moved.layout == TokenLayout({"image": 99, "padding": 45}, {"image": (11, 9)})
    for chain in (plain, moved):
        assert torch.equal(chain.classes().count, torch.full((2, 2), 9))
        assert bool(chain.tokenrank(alpha=0.9).certificate.converged.all())
    assert bool(tr.compose([plain, moved]).classes().irreducible.all())
    image = plain.restrict("image")
    assert image.layout == TokenLayout({"image": 99}, {"image": (11, 9)})
    assert image.tokenrank(alpha=0.9).grid().shape == (2, 2, 11, 9)


def test_heads_may_be_chosen() -> None:
    model = large_enough(hf_swin())
    pixels = torch.randn(2, 3, 44, 36)
    every = run(model, pixels)
    with torch.no_grad(), Recorder(model, heads=[1]) as recorder:
        model(pixels)
    for record, whole in zip(recorder.records, every.records, strict=True):
        found, both = (stitched(r, model, every.evidence) for r in (record, whole))
        assert found is not None
        assert both is not None
        torch.testing.assert_close(found[0].to_dense(), both[0].to_dense()[:, 1:], rtol=0, atol=1e-6)


def test_a_compiled_block_is_read_as_the_block() -> None:
    model: Any = large_enough(hf_swin())
    pixels = torch.randn(2, 3, 44, 36)
    plain = run(model, pixels)
    before = [find_windows(record, model, plain.evidence) for record in plain.records]
    model.encoder.layers[0].blocks[1] = torch.compile(model.encoder.layers[0].blocks[1])
    with torch.no_grad(), Recorder(model) as recorder:
        model(pixels)
    assert [r.name for r in recorder.records] == [r.name for r in plain.records]
    for record, expected in zip(recorder.records, before, strict=True):
        found = find_windows(record, model, plain.evidence)
        assert found is not None
        assert expected is not None
        assert torch.equal(found.index, expected.index)
        assert found.shift == expected.shift


def test_a_segmentation_head_with_grids_of_its_own_does_not_matter() -> None:
    backbone = tf.SwinConfig(
        **{**SWIN, "depths": [1] * 4, "num_heads": [2] * 4}, image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.UperNetConfig(backbone_config=backbone, hidden_size=8, use_auxiliary_head=False)
    seen = run(large_enough(tf.UperNetForSemanticSegmentation(config)), torch.randn(2, 3, 60, 52))
    assert len(set(seen.evidence.conv_grids)) > 4
    layouts = [w.layout for r in seen.records if (w := find_windows(r, seen.model, seen.evidence)) is not None]
    assert [dict(layout.grids) for layout in layouts] == [{"image": g} for g in [(30, 26), (15, 13), (8, 7), (4, 4)]]


@pytest.mark.parametrize(
    "build",
    [
        hf_sam,
        hf_vitdet,
        timm_sam,
        lambda: tf.ViTModel(tf.ViTConfig(**SAM, intermediate_size=16)),
        lambda: timm.models.beit.Beit(img_size=48, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0),
    ],
    ids=["SAM", "ViTDet", "timm SAM", "ViT", "BEiT"],
)
def test_attention_over_all_tokens_is_left_alone(build: Callable[[], nn.Module]) -> None:
    seen = run(large_enough(build()), torch.randn(2, 3, 48, 48))
    assert stitched(seen.records[1], seen.model, seen.evidence) is None


def test_how_many_pictures_has_to_be_known(swin: Run) -> None:
    record, grids = swin.records[0], swin.evidence.conv_grids
    for shapes, found in (
        ({}, "there are none"),
        ({"a": torch.Size([2, 3, 44, 36]), "b": torch.Size([5, 3, 44, 36])}, r"there are several, of \[2, 5\]"),
    ):
        evidence = Evidence(shapes, grids)
        with pytest.raises(LayoutError, match=f"how many pictures .* is not known.*{found}.*expected one; trace"):
            stitched(record, swin.model, evidence)
        given = stitched(record, swin.model, evidence, batch_size=2)
        assert given is not None
        assert given[0].shape == (2, 2, 480, 480)
    with pytest.raises(LayoutError, match=r"has 120 attention matrices, .* multiple of 14, 7 pictures × 2 heads"):
        stitched(record, swin.model, swin.evidence, batch_size=7)


def test_a_shift_that_changed_since_the_forward() -> None:
    model = large_enough(hf_swin(depths=[2], num_heads=[2]))
    seen = run(model, torch.randn(2, 3, 64, 64))
    layer: Any = model.get_submodule("encoder.layers.0.blocks.1")
    assert stitched(seen.records[1], model, seen.evidence) is not None
    with torch.no_grad():
        model(torch.randn(2, 3, 8, 8))  # transformers gives up the shift for good once a picture has one window
    assert layer.shift_size == 0
    with pytest.raises(LayoutError, match=r"shifted by 0 rows and 0 columns now, .*masked differently when it ran"):
        stitched(seen.records[1], model, seen.evidence)


def test_sinks_are_not_left_out(swin: Run) -> None:
    record = replace(swin.records[0], sinks=torch.zeros(2))
    with pytest.raises(CaptureError, match=r"'encoder.layers.0.blocks.0.attention' has windows with an attention sink"):
        stitched(record, swin.model, swin.evidence)

"""Denoisers of diffusers as sheets: what a page stores of them is what the trace holds, row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.denoisers.blocks import CROSSING, is_denoiser
from tokenrank.errors import InputError, NotFoundError
from tokenrank.explorer import stored, weights
from tokenrank.explorer.budget import CODE
from tokenrank.explorer.denoiser import draft_of
from tokenrank.explorer.index import build
from tokenrank.explorer.sheet import Draft

diffusers = pytest.importorskip("diffusers")

from tests.diffusion import pipelines  # noqa: E402

TEXT = ["a", "cat", "on", "a", "table", "<pad>", "<pad>"]


def embedded(pipe: Any, **more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    return {"prompt_embeds": torch.randn(1, 7, 16), "num_inference_steps": 3, "width": 48, "height": 32, **more}


def spoken(pipe: Any) -> dict[str, Any]:
    return {"prompt": "a cat", "negative_prompt": "blurry dog", "num_inference_steps": 3, "width": 24, "height": 16}


JOINT: dict[str, tuple[Callable[[Path], Any], Callable[[Any], dict[str, Any]], int, set[str]]] = {
    "flux": (
        lambda _: pipelines.flux(),
        partial(embedded, pooled_prompt_embeds=torch.ones(1, 16)),
        7,
        {"text", "image"},
    ),
    "sd3": (pipelines.stable_diffusion_3, spoken, 264, {"text", "image"}),
    "qwen": (
        lambda _: pipelines.qwen_image(),
        partial(embedded, width=64, prompt_embeds_mask=torch.tensor([[1, 1, 1, 1, 1, 0, 0]])),
        7,
        {"text", "image"},
    ),
    "z-image": (
        lambda _: pipelines.z_image(),
        lambda pipe: embedded(pipe) | {"prompt_embeds": [torch.ones(7, 16)], "guidance_scale": 0.0},
        7,
        {"text", "text_padding", "image"},
    ),
}


def run(pipe: Any, asked: dict[str, Any]) -> tuple[tr.Trace, Any]:
    with tr.capture(pipe) as trace:
        picture = pipe(**asked).images[0]
    return trace, picture


def read_back(index: dict[str, Any], parts: list[bytes], entry: dict[str, Any]) -> Tensor:
    """A stored layer as the page reads it: (heads, N, N)."""
    blob, made, count = b"".join(parts), entry["stored"], index["sheets"][0]["count"]
    first, length = made["bytes"]
    slice, many = blob[first : first + length], len(made["heads"])
    if made["kind"] == "weights":
        return torch.stack([weights.decoded(slice, count, made["type"], head) for head in range(many)])
    shape = stored.Shape(many, made["keyHeads"], count, made["size"], made["type"])
    back = stored.decoded(slice, shape, made["causal"])
    return torch.stack([stored.attention(back, head) for head in range(many)])


def check_page(draft: Draft, expected: Callable[[int, str], Tensor]) -> dict[str, Any]:
    """Every layer of every step is what was recorded, to a hundred-thousandth and to what the page says."""
    index, parts = build(draft)
    sheet = index["sheets"][0]
    assert len(sheet["layers"]) == len(draft.layers) > 0
    for entry in sheet["layers"]:
        off = (read_back(index, parts, entry) - expected(sheet["steps"][entry["step"]]["step"], entry["name"])).abs()
        assert float(off.max()) <= min(2e-5, entry["stored"]["errors"]["entry"] + 1e-9), entry["name"]
    return sheet


@pytest.mark.parametrize("name", JOINT)
def test_joint_attention_is_one_chain_of_words_and_picture(name: str, tmp_path: Path) -> None:
    made, asked, count, spans = JOINT[name]
    pipe = made(tmp_path)
    trace, picture = run(pipe, asked(pipe))
    assert is_denoiser(trace)
    draft = draft_of(trace, picture=picture, text=TEXT if count == 7 else None)
    part = trace.select(branch="conditional") if name == "sd3" else trace

    sheet = check_page(draft, lambda step, layer: part.select(step=step)[layer].operator.to_dense(torch.float64)[0])
    assert sheet["kind"] == "both"
    assert spans <= {span["name"] for span in sheet["spans"]}
    assert len(sheet["steps"]) == 3
    assert sheet["steps"][0]["timestep"] == part.select(step=part.records[0].step).records[0].timestep
    assert sheet["picture"]["note"].startswith("the generated picture")
    assert ("conditional branch" in sheet["picture"]["note"]) == (name == "sd3")
    if count == 7:
        text = next(span for span in sheet["spans"] if span["name"] == "text")
        assert [word["text"] for word in sheet["words"]][:5] == TEXT[:5]
        assert {text["first"] + 5, text["first"] + 6} <= set(sheet["special"])


@pytest.mark.parametrize("made", [pipelines.stable_diffusion, pipelines.stable_diffusion_xl])
def test_words_of_cross_attention_absorb_the_walk(made: Callable[[Path], Any], tmp_path: Path) -> None:
    pipe = made(tmp_path)
    trace, picture = run(pipe, spoken(pipe))
    draft = draft_of(trace, picture=picture, prompt="a cat", tokenizer=pipe.tokenizer, steps=[0, -1], layers=[0, -1])

    def expected(step: int, layer: str) -> Tensor:
        part = trace.select(step=step, branch="conditional")
        image = part[f"{layer}.attn1"].aggregate("uniform")
        cross = part.cross(f"{layer}.attn2").aggregate("uniform")
        return tr.bipartite(image, cross, step=CROSSING).operator.to_dense(torch.float64)[0]

    sheet = check_page(draft, expected)
    assert [word["text"] for word in sheet["words"]][1:3] == ["a", "cat"]
    assert [step["step"] for step in sheet["steps"]] == [0, 2]
    chain = sheet["layers"][0]["chain"]
    assert not chain["unique"]
    assert len(chain["classes"]["recurrent"]) == 8  # each word keeps who has come
    assert "joined" in sheet["picture"]["note"]

    alone = draft_of(trace, words=False, layers=[0], steps=0)
    assert alone.kind == "picture"
    inner = trace.select(step=0, branch="conditional")[alone.layers[0].name]
    assert torch.allclose(alone.layers[0].chain.to_dense(), inner.to_dense()[0])


def test_the_unconditional_branch_is_another_chain(tmp_path: Path) -> None:
    pipe = pipelines.stable_diffusion_3(tmp_path)
    trace, _ = run(pipe, spoken(pipe))
    one, other = (draft_of(trace, branch=branch, steps=0, layers=0) for branch in ("conditional", "unconditional"))
    a, b = (draft.layers[0].chain.to_dense() for draft in (one, other))
    assert float((a - b).abs().max()) > 1e-4
    assert "unconditional" in other.name


def test_steps_and_layers_are_evenly_spaced_within_the_limit() -> None:
    pipe = pipelines.flux()
    trace, _ = run(pipe, embedded(pipe, pooled_prompt_embeds=torch.ones(1, 16), num_inference_steps=9))
    whole = draft_of(trace)
    assert len(whole.steps) == 9
    assert len(whole.layers) == 18
    entry = build(draft_of(trace, steps=0, layers=0))[0]["sheets"][0]["layers"][0]["stored"]["bytes"][1]
    limit = CODE + 4 * 150_000 // 3 + 60 * 103 + 5 * (4 * entry // 3 + 6000)
    some = draft_of(trace, limit=limit)
    steps = [step["step"] for step in some.steps]
    assert 1 < len(steps) < 9
    assert (steps[0], steps[-1]) == (0, 8)
    index, _ = build(some, limit=limit)
    assert all(layer["stored"] for layer in index["sheets"][0]["layers"])
    assert [step["step"] for step in draft_of(trace, steps=[-1, 3]).steps] == [3, 8]


def test_a_trace_and_its_file_lead_there(tmp_path: Path) -> None:
    pipe = pipelines.flux()
    trace, picture = run(pipe, embedded(pipe, pooled_prompt_embeds=torch.ones(1, 16)))
    trace.save(tmp_path / "flux.safetensors")
    pages = [
        trace.explore(picture=picture, steps=[0, 2], text=TEXT),
        tr.explore(trace, image=picture, steps=[0, 2], text=TEXT),
        tr.explore(tmp_path / "flux.safetensors", picture=picture, steps=[0, 2], text=TEXT),
    ]
    sheets = [page.index["sheets"][0] for page in pages]
    assert all(sheet["steps"] == sheets[0]["steps"] and sheet["picture"] for sheet in sheets)
    assert len(sheets[0]["layers"]) == 4
    assert pages[0].index["sheets"][0]["words"] == pages[2].index["sheets"][0]["words"]
    with pytest.raises(NotFoundError, match="no option 'size' of a denoiser's trace"):
        trace.explore(size=224)


def test_what_cannot_be_shown_is_refused() -> None:
    pipe = pipelines.flux()
    trace, _ = run(pipe, embedded(pipe, pooled_prompt_embeds=torch.ones(1, 16)))
    with pytest.raises(InputError, match=r"steps = \[7\], but the forward calls in this trace are \[0, 1, 2\]"):
        draft_of(trace, steps=[7])
    with pytest.raises(InputError, match="text has 2 strings, but the denoiser saw 7 text tokens"):
        draft_of(trace, text=["a", "cat"])
    with pytest.raises(InputError, match="prompt and tokenizer go together"):
        draft_of(trace, prompt="a cat")
    with pytest.raises(NotFoundError, match="layer 7"):
        draft_of(trace, layers=7)
    video = pipelines.wan()
    asked = {"prompt_embeds": torch.ones(1, 7, 16), "negative_prompt_embeds": torch.ones(1, 7, 16), "num_frames": 5}
    with tr.capture(video) as frames:
        video(**asked, width=32, height=32, num_inference_steps=1, output_type="latent")
    with pytest.raises(InputError, match="a video of 2 × 2 × 2 patches, expected one picture"):
        draft_of(frames)


def test_layers_of_several_grids_are_named(tmp_path: Path) -> None:
    pipe = pipelines.stable_diffusion(tmp_path)
    trace, _ = run(pipe, spoken(pipe))
    assert {layer.chain.num_tokens for layer in draft_of(trace).layers} == {8 * 12 + 8}  # the finest
    middle = draft_of(trace, layers="mid_block*")
    assert middle.layout is not None
    assert middle.layout.grids == {"image": (4, 6)}
    with pytest.raises(InputError, match=r"have 2 grids .*name layers of one grid"):
        draft_of(trace, layers="*attentions.0*")


def test_the_command_takes_steps_and_the_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tokenrank.cli import main

    pipe = pipelines.flux()
    trace, picture = run(pipe, embedded(pipe, pooled_prompt_embeds=torch.ones(1, 16)))
    trace.save(tmp_path / "flux.safetensors")
    picture.save(tmp_path / "made.png")
    out = tmp_path / "page.html"
    given = ["explore", str(tmp_path / "flux.safetensors"), "--picture", str(tmp_path / "made.png"), "--out", str(out)]

    def code(steps: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*given, "--steps", steps])
        return ended.value.code

    assert code("0+-1") == 0, capfd.readouterr().err
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', out.read_text("utf-8"))
    assert found is not None
    (sheet,) = json.loads(found[1])["sheets"]
    assert [step["step"] for step in sheet["steps"]] == [0, 2]
    assert sheet["picture"]["note"] == "the generated picture"
    assert code("7") == 1
    assert "the forward calls in this trace are [0, 1, 2]" in capfd.readouterr().err
    assert code("all") == 2
    assert "steps = 'all', expected numbers of forward calls" in capfd.readouterr().err


def test_models_alone_without_their_pipelines() -> None:
    """FLUX.2; Stable Diffusion 3.5, whose first block has a second attention of the picture alone; PixArt, masked."""
    from tests.conformance.diffusers_models import DIT, pixart
    from tests.models.test_diffusion_layouts import flux2, sd3

    for case in (flux2(), sd3(dual=True)):
        with torch.no_grad(), tr.capture(case.model.eval()) as trace:
            case.model(**case.inputs)
        draft = draft_of(trace.select(sample=0), text=TEXT)
        names = {layer.name for layer in draft.layers}
        assert (draft.kind, draft.count) == ("both", 19)
        assert "transformer_blocks.0.attn2" not in names
        one = trace.select(sample=0)
        check_page(draft, lambda _, layer, one=one: one[layer].operator.to_dense(torch.float64)[0])  # type: ignore[misc]

    torch.manual_seed(0)
    config = DIT | {"cross_attention_dim": 32, "caption_channels": 16, "use_additional_conditions": False}
    model = diffusers.PixArtTransformer2DModel(**config | {"norm_num_groups": 1, "out_channels": 8}).eval()
    with torch.no_grad(), tr.capture(model) as trace:
        model(**pixart())
    second = trace.select(sample=1)
    draft = draft_of(second, layers=0, text=TEXT)
    assert draft.kind == "both"
    assert draft.layout is not None
    assert set(range(24 + 4, 24 + 7)) <= set(draft.layout.special)  # words that the mask hides

    def expected(_: int, layer: str) -> Tensor:
        image = second[f"{layer}.attn1"].aggregate("uniform")
        words = second.cross(f"{layer}.attn2").aggregate("uniform")
        return tr.bipartite(image, words, step=CROSSING).operator.to_dense(torch.float64)[0]

    check_page(draft, expected)

"""Blocks of a denoiser as chains: which layers they are, and what is special in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tokenrank.denoisers.blocks import CROSSING, block_chain, blocks_of, calls_of, cross_of, is_denoiser, of_branch
from tokenrank.errors import CaptureError, InputError, NotFoundError

pytest.importorskip("diffusers")

from tests.diffusion import families
from tokenrank.denoisers.prompt import prompt_of


def traced(name: str, folder: Path, **more: object) -> tuple[object, tr.Trace]:
    pipe = families.pipeline(name, folder)
    with tr.capture(pipe) as trace:
        families.run(pipe, name, "a cat", **more)
    return pipe, trace


@pytest.mark.parametrize("name", families.JOINT)
def test_joint_blocks_are_the_attention_over_picture_and_text(name: str, tmp_path: Path) -> None:
    pipe, trace = traced(name, tmp_path)
    found = blocks_of(trace, 0)
    assert found
    for layer, block in found.items():
        assert block.cross is None
        assert cross_of(trace, 0, block) is None
        chain = block_chain(trace, 0, block)
        assert chain.layout is not None
        assert {"text", "image"} <= set(chain.layout.spans)
        assert block.grid == chain.layout.grids["image"]
        assert torch.equal(chain.to_dense(), trace[layer].to_dense()[0])
        known = prompt_of(pipe, "a cat", chain.layout.spans["text"])
        named = block_chain(trace, 0, block, known.tokens, (*known.special, *known.padding)).layout
        assert named is not None
        text = named.indices("text")
        words = [named.tokens[i] for i in text if i not in named.special]  # type: ignore[index]
        assert "".join(words).replace("</w>", "").replace("▁", "").replace("Ġ", "") == "acat" * len(known.parts)
    alone = blocks_of(trace, 0, words=False)
    assert set(found) <= set(alone)
    assert (len(alone) > len(found)) == (name == "Z-Image")  # its refiner is over the picture alone


@pytest.mark.parametrize("name", [name for name in families.BUILD if name not in families.JOINT])
def test_blocks_with_cross_attention_step_over_to_words(name: str, tmp_path: Path) -> None:
    pipe, trace = traced(name, tmp_path)
    for layer, block in blocks_of(trace, 0).items():
        assert (block.square, block.cross) == (f"{layer}.attn1", f"{layer}.attn2")
        cross = cross_of(trace, 0, block)
        assert cross is not None
        mean = cross.weights.flatten(0, -3).double().mean(0)
        patches = block.count
        for crossing in (CROSSING, 0.4):
            dense = block_chain(trace, 0, block, crossing=crossing).to_dense().double()[0]
            torch.testing.assert_close(dense[:patches, patches:], crossing * mean, rtol=1e-5, atol=1e-7)
            assert torch.equal(dense[patches:, patches:], torch.eye(mean.shape[-1]).double())
        known = prompt_of(pipe, "a cat", mean.shape[-1])
        chain = block_chain(trace, 0, block, known.tokens, known.special)
        assert chain.layout is not None
        hidden = [patches + int(j) for j in (mean == 0).all(0).nonzero()]
        assert set(hidden) <= set(chain.layout.special)
        assert (len(hidden) > 0) == (name == "PixArt")  # whose padding is masked
        assert chain.layout.tokens is not None
        assert chain.layout.tokens[patches:] == known.tokens
        assert chain.layout.grids == {"image": block.grid}


def test_calls_and_branches(tmp_path: Path) -> None:
    _, trace = traced("Stable Diffusion 3", tmp_path, guidance_scale=4.0, num_inference_steps=3)
    assert is_denoiser(trace)
    part, guided = of_branch(trace, "conditional")
    assert guided
    assert calls_of(part) == [0, 1, 2]
    assert calls_of(part, -1) == [2]
    assert calls_of(part, [2, 0, 0]) == [0, 2]
    for wrong in (3, [], [0, -4]):
        with pytest.raises(InputError, match=r"but the forward calls in this trace are \[0, 1, 2\]"):
            calls_of(part, wrong)
    assert of_branch(part.select(step=0), "conditional")[1]
    with pytest.raises(NotFoundError, match="no unconditional branch"):
        of_branch(part, "unconditional")
    with pytest.raises(CaptureError, match="the trace is empty"):
        of_branch(tr.Trace([]), "conditional")
    block = blocks_of(part, 0)["transformer_blocks.0.attn"]
    with pytest.raises(CaptureError, match=r"leading dimensions \(2, 4\)"):
        block_chain(trace, 0, block)
    with pytest.raises(NotFoundError, match="did not run in forward call 7"):
        block_chain(part, 7, block)

"""Observations of denoisers: real pictures with noise, and traces of several steps, over picture and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

import tokenrank as tr  # noqa: E402
from tokenrank.denoisers.look import passes  # noqa: E402
from tokenrank.denoisers.streams import inputs_of  # noqa: E402
from tokenrank.errors import CaptureError, InputError, LayoutError, NotFoundError  # noqa: E402
from tokenrank.observation import Denoised  # noqa: E402

from .over_pictures import FAMILIES, SHORT, every_family, picture  # noqa: E402

SIZE = 48


def observed(name: str, folder: Path, **more: Any) -> Denoised:
    family = FAMILIES[name]
    made = tr.observe(picture(), model=family.build(folder), prompt=family.prompt, size=SIZE, call=family.call, **more)
    assert isinstance(made, Denoised)
    return made


@every_family
def test_a_real_picture_is_seen_with_the_words_of_its_prompt(name: str, tmp_path: Path):
    seen = observed(name, tmp_path, samples=2)
    assert seen.calls == (0, 1)
    assert seen.blocks
    for layer in seen.blocks:
        chain = seen.block(layer)
        layout = chain.layout
        assert layout is not None
        rows, columns = layout.grids["image"]
        assert rows * columns == layout.spans["image"]
        assert rows / columns == 32 / 48
        assert layout.num_tokens == chain.num_tokens == chain.shape[-1]
        dense = chain.to_dense()
        torch.testing.assert_close(dense.sum(-1), torch.ones_like(dense.sum(-1)))
    if FAMILIES[name].prompt is None:
        with pytest.raises(InputError, match="which token is which word is unknown"):
            seen.word("cat")
        return
    for layer in seen.blocks:
        tokens = seen.block(layer).layout.tokens
        assert tokens is not None
        for word in ("cat", "dog" if FAMILIES[name].prompt == SHORT else "shepherd"):
            places = seen.word(word, layer)
            joined = "".join(tokens[place] for place in places).replace("</w>", "").strip("▁Ġ")
            assert joined in (word, 2 * word, f"{word}▁{word}"), (joined, tokens)  # Stable Diffusion 3 reads it twice
            assert set(places) <= set(seen.text(layer)) - set(seen.special_in(layer))
        assert set(seen.padding_in(layer)) <= set(seen.special_in(layer)) <= {*seen.text(layer), *range(len(tokens))}


def test_noise_samples_are_forward_calls_of_their_own(tmp_path: Path):
    seen = observed("FLUX.1", tmp_path, samples=2, seed=5, noise=0.25)
    assert seen.timesteps == (0.25, 0.25)
    first, second = (seen.block(0, call).to_dense() for call in (0, 1))
    assert (first - second).abs().max() > 1e-4
    again = observed("FLUX.1", tmp_path, seed=6, noise=0.25)
    torch.testing.assert_close(again.block(0).to_dense(), second)
    with pytest.raises(NotFoundError, match=r"call 2 of 2, expected -2 … 1"):
        seen.block(0, 2)


def test_as_an_observation_it_is_its_last_call(tmp_path: Path):
    seen = observed("FLUX.1", tmp_path, samples=2)
    layer = seen.blocks[-1]
    whole = seen.block(layer, -1)
    expected = whole.restrict(whole.layout.indices("image"))
    torch.testing.assert_close(seen.head_chains(layer).to_dense(), expected.to_dense())
    assert seen.chain(layer).bounce(tr.at(0.5, 0.5), n=2).values.shape == (seen.grid[0] * seen.grid[1],)
    assert "2 calls" in repr(seen)
    walked = seen.chain(layer, tokens="all")
    dog = torch.zeros(walked.num_tokens)
    dog[list(seen.word("cat"))] = 1 / len(seen.word("cat"))
    torch.testing.assert_close(walked.bounce("cat").values, walked.bounce(dog).values)
    assert tr.tasks.segment(seen, text="cat", layer=layer).names == ("background", "cat")


@pytest.mark.parametrize("name", ["FLUX.1", "SD1.5"])
def test_values_and_block_outputs_are_those_of_the_last_call(name: str, tmp_path: Path):
    family = FAMILIES[name]
    pipe = family.build(tmp_path)
    seen = tr.observe(picture(), model=pipe, prompt=family.prompt, size=SIZE, call=family.call, samples=2)
    made = passes(pipe, picture(), family.prompt, size=SIZE, call=family.call, samples=2)[1]
    kept: list[torch.Tensor] = []
    part = pipe.transformer.transformer_blocks[0].attn.to_v if name == "FLUX.1" else (
        pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_v
    )  # fmt: skip
    hook = part.register_forward_hook(lambda *given: kept.append(given[-1]))
    made.denoiser(**made.inputs)
    hook.remove()
    values = seen.features(0, "v")
    assert len(kept) == 1
    torch.testing.assert_close(values, kept[0][0].detach())
    if name == "SD1.5":
        assert len(seen.features(0, "h")) == len(seen.patches)
    else:  # picture and text leave the block apart
        with pytest.raises(LayoutError, match="another grid than the attention's"):
            seen.features(0, "h")


@pytest.mark.parametrize("name", ["FLUX.1", "SD1.5"])
def test_the_steps_of_a_generation_are_its_calls(name: str, tmp_path: Path):
    """Guidance in two calls and in one batch: the branch with the prompt is kept."""
    family = FAMILIES[name]
    pipe = family.build(tmp_path)
    guided = {"negative_prompt": "", "true_cfg_scale" if name == "FLUX.1" else "guidance_scale": 3.0}
    with tr.capture(pipe) as trace, inputs_of(pipe.components["transformer" if name == "FLUX.1" else "unet"]) as calls:
        made = pipe(
            family.prompt, height=32, width=48, num_inference_steps=3, generator=torch.Generator().manual_seed(0),
            **guided, **family.call,
        ).images[0]  # fmt: skip
    seen = tr.observe(trace, model=pipe, prompt=family.prompt, image=made, inputs=calls)
    assert isinstance(seen, Denoised)
    assert len(seen.calls) == len(set(seen.timesteps)) == 3
    assert seen.picture is not None
    assert seen.picture.size == (48, 32)
    conditional = trace.select(branch="conditional")
    for place, call in enumerate(seen.calls):
        record = next(r for r in conditional.records if r.step == call)
        alone = conditional.chain_of(record)
        chain = seen.block(0, place)
        if name == "FLUX.1":
            torch.testing.assert_close(chain.to_dense(), alone.to_dense()[0])
        assert "cat" in str(chain.layout.tokens)
    assert seen.word("cat", 0)
    more = seen.with_words(["dog"])
    dog = more.word("dog", 0)
    assert dog
    assert max(dog) == more.block(0).num_tokens - 1
    torch.testing.assert_close(more.chain(0).to_dense(), seen.chain(0).to_dense())


def test_a_trace_alone_has_no_words(tmp_path: Path):
    family = FAMILIES["FLUX.1"]
    pipe = family.build(tmp_path)
    with tr.capture(pipe) as trace:
        pipe(family.prompt, height=32, width=48, num_inference_steps=2, output_type="latent", **family.call)
    seen = tr.observe(trace)
    assert isinstance(seen, Denoised)
    assert seen.pipeline is None
    assert seen.block(0).layout.tokens is None
    with pytest.raises(InputError, match=r"tr.observe\(trace, prompt=…, model=pipe\)"):
        seen.word("cat")
    with pytest.raises(InputError, match="words outside of the prompt need the pipeline"):
        seen.with_words(["dog"])
    with pytest.raises(InputError, match="needs the pipeline, whose tokenizers say"):
        tr.observe(trace, prompt="a cat")
    with pytest.raises(InputError, match="beside a trace of a denoiser, expected the pipeline that made it"):
        tr.observe(trace, prompt="a cat", model=tr.load())
    with pytest.raises(InputError, match="inputs beside a trace are a int"):
        tr.observe(trace, prompt="a cat", model=pipe, inputs=3)
    with pytest.raises(CaptureError, match="the trace is empty"):
        tr.observe(tr.Trace([]), prompt="a cat", model=pipe)


def test_words_stand_elsewhere_in_every_grid_of_a_unet(tmp_path: Path):
    from . import pipelines

    pipe = pipelines.stable_diffusion(tmp_path)
    config = dict(pipe.unet.config) | {"down_block_types": ["CrossAttnDownBlock2D"] * 2,
                                       "up_block_types": ["CrossAttnUpBlock2D"] * 2}  # fmt: skip
    pipe.unet = type(pipe.unet).from_config(config).eval()
    seen = tr.observe(picture(), model=pipe, prompt=SHORT, size=SIZE)
    assert len({seen.block(layer).num_tokens for layer in seen.blocks}) > 1
    with pytest.raises(LayoutError, match="the text stands at other places"):
        seen.word("cat")
    for layer in seen.blocks:
        assert [seen.block(layer).layout.tokens[place] for place in seen.word("cat", layer)] == ["cat</w>"]


def test_arguments_go_where_they_belong(tmp_path: Path):
    with pytest.raises(InputError, match="prompt = 'a cat' for model 'bundled', which does not denoise"):
        tr.observe(picture(), prompt="a cat")
    pipe = FAMILIES["FLUX.1"].build(tmp_path)
    with pytest.raises(InputError, match="denoises what a prompt says, and none was given"):
        tr.observe(picture(), model=pipe)
    with pytest.raises(InputError, match="said = 'x' for a pipeline of pictures"):
        tr.observe(picture(), model=pipe, prompt="a cat", said="x")
    seen: Any = tr.observe(picture(), model=pipe, prompt="a cat", size=SIZE)
    with pytest.raises(InputError, match=r"noise = 0\.5 beside"):
        tr.observe(seen, noise=0.5)
    assert tr.observe(seen) is seen

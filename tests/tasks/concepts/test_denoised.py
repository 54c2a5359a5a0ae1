"""Concept maps of pipelines of diffusers, tiny and untrained: every family, steps and samples, words outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers")

import tokenrank as tr  # noqa: E402
from tests.diffusion import pipelines  # noqa: E402
from tests.diffusion.over_pictures import FAMILIES, SHORT, picture  # noqa: E402
from tokenrank.errors import InputError, NotFoundError  # noqa: E402
from tokenrank.tasks import concept_maps, segment  # noqa: E402

from . import oracle  # noqa: E402

SPOKEN = [name for name, family in FAMILIES.items() if family.prompt is not None]
JOINT = {"FLUX.1", "FLUX.2 klein", "SD3", "SD3.5", "Qwen-Image", "Z-Image"}


def observed(name: str, folder: Path, **more: Any) -> Any:
    family = FAMILIES[name]
    return tr.observe(picture(), model=family.build(folder), prompt=family.prompt, size=48, call=family.call, **more)


@pytest.mark.parametrize("name", SPOKEN)
def test_every_family_has_maps_of_its_words(name: str, tmp_path: Path):
    seen = observed(name, tmp_path)
    words = ["cat", "dog" if FAMILIES[name].prompt == SHORT else "german shepherd"]
    layer = seen.blocks[0]
    maps = concept_maps(seen, words, layers=layer, n=1)
    chain = seen.block(layer)
    dense = chain.to_dense().double().mean(0).numpy()
    removed = set(seen.special_in(layer)) | set(chain.layout.special)
    kept = [token for token in range(len(dense)) if token not in removed]
    place = {token: rank for rank, token in enumerate(kept)}
    if name in JOINT:
        one = oracle.censored(dense, kept)
    else:
        one = dense[np.ix_(kept, kept)] / dense[np.ix_(kept, kept)].sum(-1, keepdims=True)
    for values, word in zip(maps.values, words, strict=True):
        start = [place[token] for token in seen.word(word, layer)]
        wanted = oracle.bounce(one, start, 1, "backward")[[place[token] for token in chain.layout.indices("image")]]
        np.testing.assert_allclose(values.flatten(), oracle.normal(wanted), atol=1e-5)
    assert maps.grid == chain.layout.grids["image"]
    share = dense[chain.layout.indices("image")][:, sorted(removed)].sum(-1).mean()
    assert maps.padding_mass[layer] == pytest.approx(share, abs=1e-5)
    assert segment(seen, words=words).size == (32, 48)


def test_samples_of_noise_are_averaged_and_calls_are_chosen(tmp_path: Path):
    seen = observed("FLUX.1", tmp_path, samples=2)
    last = seen.blocks[-1]
    one, other = (seen.block(last, call).to_dense().double().numpy().mean(0) for call in (0, 1))
    kept = [t for t in range(len(one)) if t not in {*seen.special_in(last), *seen.block(last).layout.special}]
    place = {token: rank for rank, token in enumerate(kept)}
    start, patches = [place[t] for t in seen.word("cat")], [place[t] for t in seen.block(last).layout.indices("image")]
    for calls, chain in ((None, (one + other) / 2), ([0], one), (-1, other)):
        maps = concept_maps(seen, "cat", layers=last, calls=calls, n=2)
        wanted = oracle.bounce(oracle.censored(chain, kept), start, 2, "backward")[patches]
        np.testing.assert_allclose(maps.values.flatten(), oracle.normal(wanted), atol=1e-5)
    assert "2 of 2 calls" in concept_maps(seen, "cat").caption
    with pytest.raises(NotFoundError, match="no call 2"):
        concept_maps(seen, "cat", calls=2)


def test_steps_of_a_generation(tmp_path: Path):
    pipe = pipelines.stable_diffusion(tmp_path)
    with tr.capture(pipe) as trace:
        made = pipe(SHORT, width=24, height=16, num_inference_steps=3).images[0]
    maps = concept_maps(tr.observe(trace, model=pipe, prompt=SHORT, image=made), ["cat", "dog"], refine="absorption")
    assert "3 of 3 calls" in maps.caption
    assert maps.picture is not None
    assert maps.picture.size == (24, 16)
    assert float(maps.values.sum(0).max()) <= 1 + 1e-6


def test_a_unet_of_several_grids_gives_maps_of_the_finest(tmp_path: Path):
    pipe = pipelines.stable_diffusion(tmp_path)
    config = dict(pipe.unet.config) | {"down_block_types": ["CrossAttnDownBlock2D"] * 2,
                                       "up_block_types": ["CrossAttnUpBlock2D"] * 2}  # fmt: skip
    pipe.unet = type(pipe.unet).from_config(config).eval()
    seen = tr.observe(picture(), model=pipe, prompt=SHORT, size=48)
    grids = {seen.block(layer).layout.grids["image"] for layer in seen.blocks}
    assert len(grids) > 1
    maps = concept_maps(seen, ["cat", "dog"])
    assert maps.grid == max(grids)
    assert f"{len(grids)} grids" in maps.caption


def test_words_outside_of_the_prompt_once_they_have_a_stream(tmp_path: Path):
    seen = observed("FLUX.1", tmp_path)
    with pytest.raises(NotFoundError, match="with_words"):
        concept_maps(seen, ["bus"])
    more = seen.with_words(["blurry"])
    maps = concept_maps(more, ["cat", "blurry"])
    torch.testing.assert_close(maps.values.sum((1, 2)), torch.ones(2))


def test_without_a_prompt_it_is_unknown_which_token_is_which_word(tmp_path: Path):
    pipe = pipelines.flux()
    embedded = {"prompt_embeds": torch.randn(1, 7, 16), "pooled_prompt_embeds": torch.randn(1, 16)}
    with tr.capture(pipe) as trace:
        pipe(**embedded, width=48, height=32, num_inference_steps=1, output_type="latent")
    with pytest.raises(InputError, match=r"have no strings.*tr\.observe\(trace, model=pipe, prompt="):
        concept_maps(trace, "cat")

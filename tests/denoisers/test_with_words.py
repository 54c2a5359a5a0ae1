"""Words outside of the prompt, by ``Denoised.with_words``."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import InputError, NotFoundError

pytest.importorskip("diffusers")

from tests.diffusion import families


@pytest.mark.parametrize("name", families.BUILD)
def test_words_that_the_prompt_does_not_hold(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    picture = PIL.Image.effect_noise((96, 64), 50).convert("RGB")
    side = 48 if name == "Stable Diffusion 3" else 96
    plain = tr.observe(picture, model=pipe, prompt="a school bus", noise=0.5, seed=1, size=side)
    layer = plain.blocks[-1]
    with pytest.raises(NotFoundError, match=r"no word 'sofa' in the prompt .*with_words"):
        plain.word("sofa", layer)
    wide = plain.with_words(["sofa", "german shepherd"])
    old, new = plain.block(layer), wide.block(layer)
    assert new.num_tokens > old.num_tokens
    assert torch.equal(new.to_dense()[..., old.layout.indices("text")[0], : old.num_tokens],
                       old.to_dense()[..., old.layout.indices("text")[0], :])  # fmt: skip
    own = wide.word("german shepherd", layer)
    spelled = "".join(new.layout.tokens[i] for i in own)
    for mark in ("</w>", "▁", "Ġ"):
        spelled = spelled.replace(mark, "")
    assert spelled == "germanshepherd" * (2 if name == "Stable Diffusion 3" else 1)
    assert not set(own) & set(wide.word("sofa", layer))
    assert wide.word("school bus", layer) == plain.word("school bus", layer)
    assert wide.padding_in(layer) == plain.padding_in(layer)
    assert not set(own) & set(new.layout.special)
    with pytest.raises(InputError, match="are in this trace already; give all of them at once"):
        wide.with_words(["cat"])

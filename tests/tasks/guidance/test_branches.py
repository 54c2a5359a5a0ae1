"""Guidance with classifier-free guidance: exact in both layouts, by comparison with runs without it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

from tests.diffusion import pipelines
from tokenrank.errors import TokenRankWarning
from tokenrank.tasks import guide

from .classic import NAMES, STEPS, Predictions, hooks, pipe_of, run

FLOWS = ("SD3", "FLUX.1", "FLUX.2", "Qwen-Image", "Z-Image")
EXACT = [name for name in NAMES if name != "Qwen-Image"]  # which gives its guided prediction another norm


def added(name: str, guided: bool, negative: bool = False, **how: Any) -> Tensor:
    """What guidance adds to the first prediction that the sampler is given."""
    pipe = pipe_of(name)
    # a flow begins with nothing but noise, which a blur does not change
    times = {"sigmas": [0.8, 0.5, 0.2]} if name in FLOWS else {}
    with Predictions(pipe) as plain:
        run(name, guided, negative, **times)
    with Predictions(pipe) as other, guide(pipe, **how):
        run(name, guided, negative, **times)
    return other[0].float() - plain[0].float()


@cache
def plain_run(name: str) -> Tensor:
    """What is made without guidance, whatever was made before."""
    return run(name)


@pytest.mark.parametrize("kind", ["blur", "identity"])
@pytest.mark.parametrize("base", ["conditional", "unconditional"])
@pytest.mark.parametrize("name", EXACT)
def test_what_is_added_is_what_is_added_without_it(name: str, base: str, kind: str) -> None:
    """p + s (base - degraded) has the same addend whether or not the base is one of two branches."""
    how: dict[str, Any] = {"kind": kind, "mask": "colsum", "scale": 0.5}
    alone = added(name, False, negative=base == "unconditional", **how)
    both = added(name, True, base=base, **how)
    assert float(alone.abs().max()) > 1e-4
    assert torch.allclose(alone, both, atol=2e-3 * float(alone.abs().max()))


@pytest.mark.parametrize("name", EXACT)
def test_the_scale_is_a_factor(name: str) -> None:
    once, twice = (added(name, True, kind="shuffle", scale=scale) for scale in (0.5, 1.0))
    assert torch.allclose(2 * once, twice, atol=2e-3 * float(twice.abs().max()))
    assert float(added(name, True, kind="shuffle", scale=0.0).abs().max()) == 0.0


@pytest.mark.filterwarnings("ignore::tokenrank.errors.TokenRankWarning")
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_denoiser_runs_once_more_a_step(name: str, guided: bool) -> None:
    pipe = pipe_of(name)
    before = hooks(pipe)
    with guide(pipe, mask="colsum") as guidance:
        run(name, guided)
    assert guidance.passes == len(guidance.masks) == len(guidance.shares) == STEPS
    assert hooks(pipe) == before
    for mask, share in zip(guidance.masks, guidance.shares, strict=True):
        assert mask.shape[:2] == (1, 1)
        assert mask.dtype == torch.bool
        assert share == pytest.approx(float(mask.float().mean()))
        assert 0 < share < 1


@pytest.mark.filterwarnings("ignore::tokenrank.errors.TokenRankWarning")
@pytest.mark.parametrize(
    "how",
    [
        {"mask": "colsum"}, {"mask": "tokenrank"}, {"mask": "bounce"}, {"mask": "all"}, {"mask": "random"},
        {"mask": "random:colsum"}, {"kind": "identity"}, {"kind": "smooth"}, {"kind": "smooth", "sigma": 1.0},
        {"kind": "shuffle"}, {"kind": "identity", "heads": 0.5}, {"kind": "shuffle", "heads": [0, -1]},
        {"kind": "smooth", "heads": 1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_has_an_effect_on_every_family(name: str, how: dict[str, Any]) -> None:
    plain = plain_run(name)
    with guide(pipe_of(name), **how) as guidance:
        changed = run(name)
        assert torch.equal(run(name), changed)  # every run begins with the seed
    assert torch.isfinite(changed).all()
    assert float((changed - plain).abs().max()) > 1e-4
    assert torch.equal(run(name), plain)
    assert guidance.passes == 2 * STEPS


@pytest.mark.parametrize("name", ["SD1.5", "SD3", "FLUX.1", "Z-Image"])
@pytest.mark.parametrize("kind", ["blur", "identity"])
def test_pictures_of_a_batch_are_guided_each_by_itself(name: str, kind: str) -> None:
    alone = []
    with guide(pipe_of(name), kind) as guidance:
        for seed in (1, 2):
            alone.append(run(name, seed=seed))
        last = list(guidance.masks)
        both = run(name, seed=[1, 2])
    assert torch.allclose(both, torch.cat(alone), atol=1e-3 * float(both.abs().max()))
    if kind == "blur":
        assert torch.equal(guidance.masks[0][1:], last[0])


def test_qwen_image_is_said_to_be_inexact_where_it_rescales() -> None:
    with (
        pytest.warns(TokenRankWarning, match="inexact with the norm that Qwen-Image gives"),
        guide(pipe_of("Qwen-Image")),
    ):
        run("Qwen-Image")


def test_qwen_image_is_exact_without() -> None:
    alone = added("Qwen-Image", False, mask="colsum")
    assert float(alone.abs().max()) > 1e-4


@pytest.mark.parametrize(
    "how", [{}, {"kind": "identity"}, {"kind": "smooth", "base": "unconditional"}, {"mask": "word:cat"}], ids=str
)
@pytest.mark.parametrize("negative", ["dog", "a dog and a cat " * 4])
def test_texts_of_z_image_may_have_several_lengths(how: dict[str, Any], negative: str) -> None:
    pipe = pipelines.z_image(True)
    lengths = {len(text[0]) for text in pipe.encode_prompt("a cat", negative_prompt=negative)}
    assert len(lengths) == 2

    def once() -> Tensor:
        made: Tensor = pipe(
            "a cat", negative_prompt=negative, width=48, height=32, num_inference_steps=2, guidance_scale=3.0,
            output_type="latent", generator=torch.Generator().manual_seed(1),
        ).images  # fmt: skip
        return made

    plain = once()
    with guide(pipe, **how) as guidance:
        changed = once()
    assert torch.isfinite(changed).all()
    assert float((changed - plain).abs().max()) > 1e-5
    assert guidance.passes == 2

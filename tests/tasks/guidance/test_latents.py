"""Latents of every kind of denoiser as pictures, and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

diffusers = pytest.importorskip("diffusers")

from tests.conformance import diffusers_models as models  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, texts  # noqa: E402
from tokenrank.denoisers.family import family_of_denoiser  # noqa: E402
from tokenrank.errors import InputError  # noqa: E402
from tokenrank.tasks.guidance.latents import Latents, prediction_in  # noqa: E402
from tokenrank.tasks.guidance.one_call import Given, by_name  # noqa: E402


def called(name: str) -> tuple[nn.Module, Given, Any]:
    """A denoiser, the arguments of a call and what came out."""
    denoiser, met = DENOISERS[name], []
    module = denoiser.build()
    module.register_forward_hook(lambda m, a, k, out: met.append(((a, k), out)), with_kwargs=True)
    with torch.no_grad():
        denoiser.call(module, torch.randn(denoiser.latents), texts()[0])
    (given, out), = met  # fmt: skip
    return module, given, out


def latents_of(module: nn.Module, inputs: dict[str, Any], output: Any) -> Latents:
    return Latents(module, family_of_denoiser(module), inputs, prediction_in(output))


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


@pytest.mark.parametrize("name", DENOISERS)
def test_there_and_back(name: str) -> None:
    module, given, out = called(name)
    inputs, argument = by_name(module, given), family_of_denoiser(module).latents
    latents = latents_of(module, inputs, out)
    picture = latents.picture(latents.raw)
    assert picture.shape == (1, 4, 8, 12)
    assert latents.picture(prediction_in(out)).shape == (1, 4, 8, 12)
    with torch.no_grad():
        again = module(**{**inputs, argument: latents.replaced(latents.raw, picture)})
    for one, other in zip(flat(prediction_in(out)), flat(prediction_in(again)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(latents.picture(latents.replaced(latents.raw, picture + 1)), picture + 1)
    assert torch.equal(latents.picture(latents.raw), picture)  # what was given is not changed


@pytest.mark.parametrize("name", ["FLUX", "FLUX.2", "Qwen-Image"])
def test_neighbours_in_the_picture_are_neighbours_in_the_pipeline(name: str) -> None:
    """The tokens of pipelines, made by themselves, are the picture that they were made of."""
    module, given, out = called(name)
    picture = torch.randn(1, 4, 8, 12)
    if name == "FLUX.2":
        pipeline = diffusers.Flux2Pipeline
        tokens = pipeline._pack_latents(pipeline._patchify_latents(picture))
    else:
        pipeline = diffusers.FluxPipeline if name == "FLUX" else diffusers.QwenImagePipeline
        tokens = pipeline._pack_latents(picture, 1, 4, 8, 12)
    latents = latents_of(module, {**by_name(module, given), "hidden_states": tokens}, out)
    assert torch.equal(latents.picture(tokens), picture)


def test_pictures_to_edit_stay() -> None:
    module, given, out = called("FLUX")
    inputs = by_name(module, given)
    ids = torch.cat([inputs["img_ids"], models.ids(1, 2, 2) + torch.tensor([1.0, 0, 0])])
    tokens = torch.randn(1, 28, 16)
    latents = latents_of(module, {**inputs, "hidden_states": tokens, "img_ids": ids}, out)
    assert latents.picture(tokens).shape == (1, 4, 8, 12)
    new = latents.replaced(tokens, torch.zeros(1, 4, 8, 12))
    assert torch.equal(new[:, 24:], tokens[:, 24:])
    assert not new[:, :24].any()


def test_channels_of_inpainting_stay() -> None:
    module = DENOISERS["SD1.5"].build()
    x = torch.randn(2, 9, 8, 12)
    latents = latents_of(module, {"sample": x}, (torch.randn(2, 4, 8, 12),))
    assert torch.equal(latents.picture(x), x[:, :4])
    new = latents.replaced(x, torch.zeros(2, 4, 8, 12))
    assert torch.equal(new[:, 4:], x[:, 4:])
    assert not new[:, :4].any()


def test_half_precision_is_kept() -> None:
    module, given, out = called("Z-Image")
    half = [one.bfloat16() for one in given[1]["x"]]
    latents = latents_of(module, {**given[1], "x": half}, out)
    assert latents.replaced(half, latents.picture(half).float())[0].dtype == torch.bfloat16


def test_what_is_no_single_picture_is_refused() -> None:
    module, given, out = called("SD3")
    with pytest.raises(InputError, match="are a video"):
        latents_of(module, {**given[1], "hidden_states": torch.randn(1, 4, 2, 8, 12)}, out)
    flux, given, out = called("FLUX")
    with pytest.raises(InputError, match="24 packed latents"):
        latents_of(flux, {name: value for name, value in given[1].items() if name != "img_ids"}, out)

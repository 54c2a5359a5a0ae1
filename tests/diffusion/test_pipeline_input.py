"""Pipelines that cannot be read, and those that can: other classes, compiled, from a folder; what is left untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

import tokenrank as tr  # noqa: E402
from tokenrank.denoisers.family import family_of  # noqa: E402
from tokenrank.denoisers.look import passes  # noqa: E402
from tokenrank.denoisers.pipeline import denoiser_of  # noqa: E402
from tokenrank.errors import CaptureError, InputError  # noqa: E402

from . import pipelines  # noqa: E402
from .over_pictures import FAMILIES, SHORT, copied, differences, every_family, picture  # noqa: E402


def flux(folder: Path) -> Any:
    return pipelines.flux(folder)


def look(pipe: Any, **more: Any) -> Any:
    return passes(pipe, picture(), SHORT, size=48, **more)[0]


def hooks(pipe: Any) -> int:
    """Forward hooks of denoiser and autoencoder; text encoders of transformers keep some of their own."""
    parts = [denoiser_of(pipe), pipe.vae]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for part in parts for m in part.modules())


@pytest.mark.parametrize(
    ("of", "name"),
    [
        (flux, "FluxImg2ImgPipeline"),
        (flux, "FluxInpaintPipeline"),
        (pipelines.stable_diffusion, "StableDiffusionImg2ImgPipeline"),
        (pipelines.stable_diffusion, "StableDiffusionInpaintPipeline"),
        (pipelines.stable_diffusion_xl, "StableDiffusionXLImg2ImgPipeline"),
        (lambda folder: pipelines.stable_diffusion_3(folder, True), "StableDiffusion3Img2ImgPipeline"),
        (lambda _: pipelines.qwen_image(True), "QwenImageImg2ImgPipeline"),
        (lambda _: pipelines.z_image(True), "ZImageImg2ImgPipeline"),
    ],
)
def test_pipelines_from_picture_to_picture_look_as_those_from_text_do(of: Any, name: str, tmp_path: Path):
    pipe = of(tmp_path)
    kind = getattr(diffusers, name)
    settings = {"requires_safety_checker": False} if "StableDiffusion" in name and "XL" not in name else {}
    parts = {key: part for key, part in pipe.components.items() if key in kind.__init__.__annotations__}
    other = kind(**parts, **(settings if "requires_safety_checker" in kind.__init__.__annotations__ else {}))
    if hasattr(pipe, "prompt_template_encode_start_idx"):
        other.prompt_template_encode_start_idx = pipe.prompt_template_encode_start_idx
    assert not differences(copied(dict(look(other).inputs)), copied(dict(look(pipe).inputs)))


@every_family
def test_the_pipeline_stays_as_it_was(name: str, tmp_path: Path):
    family = FAMILIES[name]
    pipe = family.build(tmp_path)
    pipe.scheduler.set_timesteps(7)
    before = dict(pipe.config), pipe.scheduler.timesteps.clone(), hooks(pipe), set(vars(pipe))
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    passes(pipe, picture(), family.prompt, size=48, call=family.call)
    with pytest.raises(InputError):
        passes(pipe, picture(), family.prompt, size=48, call={**family.call, "num_inference_steps": 3})
    after = dict(pipe.config), pipe.scheduler.timesteps, hooks(pipe), set(vars(pipe))
    assert after[0] == before[0]
    assert after[2:] == before[2:]
    assert torch.equal(after[1], before[1])
    assert torch.equal(torch.get_rng_state(), expected)


def test_an_error_of_the_text_encoder_leaves_no_hook(tmp_path: Path):
    pipe = flux(tmp_path)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    broken = pipe.text_encoder_2.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        look(pipe)
    broken.remove()
    assert hooks(pipe) == 0


def test_videos_are_refused_by_name():
    with pytest.raises(InputError, match=r"WanPipeline makes videos \(WanTransformer3DModel\).*FLUX\.1, FLUX\.2"):
        tr.observe(picture(), model=pipelines.wan(), prompt="a cat")


def test_other_families_are_refused_and_known_ones_listed():
    with pytest.raises(InputError, match=r"DiTPipeline is of no family whose passes are known.*Z-Image.*PixArt"):
        tr.observe(picture(), model=pipelines.dit(), prompt="a cat")


def test_modular_pipelines_are_refused_by_name(tmp_path: Path):
    blocks = pytest.importorskip("diffusers.modular_pipelines").StableDiffusionXLAutoBlocks()
    pipe = blocks.init_pipeline()
    pipe.update_components(unet=pipelines.stable_diffusion_xl(tmp_path).unet)
    with pytest.raises(InputError, match="StableDiffusionXLModularPipeline is of no family whose passes are known"):
        tr.observe(picture(), model=pipe, prompt="a cat")


def test_a_denoiser_that_takes_a_mask_beside_the_latents_is_refused(tmp_path: Path):
    pipe = pipelines.stable_diffusion(tmp_path)
    pipe.unet = type(pipe.unet).from_config(dict(pipe.unet.config) | {"in_channels": 9}).eval()
    with pytest.raises(InputError, match=r"latents \(1, 9, 16, 24\) .* expected a denoiser from text to picture"):
        look(pipe)


def test_a_hidden_attention_is_refused_with_its_cure(tmp_path: Path):
    from diffusers.models.attention_dispatch import AttentionBackendName

    pipe = flux(tmp_path)
    for module in pipe.transformer.modules():
        if hasattr(getattr(module, "processor", None), "_attention_backend"):
            module.processor._attention_backend = AttentionBackendName.SAGE
    with pytest.raises(InputError, match=r"backend 'sage'.*pipe\.transformer\.set_attention_backend\('native'\)"):
        tr.observe(picture(), model=pipe, prompt="a cat")
    pipe.transformer.set_attention_backend("native")
    assert tr.observe(picture(), model=pipe, prompt="a cat").layers


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("FLUX.1", 50, r"size = 50 is no multiple of 4, the pixels that a token of FLUX\.1 covers here; take 48 or 52"),
        ("SD1.5", 20, r"size = 20 is no multiple of 8.*take 16 or 24"),
        ("Qwen-Image", 8, r"size = 8 is no multiple of 16.*take 16$"),
    ],
)
def test_sizes_that_cut_a_token_are_refused(name: str, size: int, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        tr.observe(picture(), model=FAMILIES[name].build(tmp_path), prompt="a cat", size=size)


@pytest.mark.parametrize("noise", [0, 1.5, (4, 4), (1, 2, 3), (-1, 4), float("nan")])
def test_noise_that_does_not_exist_is_refused(noise: Any, tmp_path: Path):
    with pytest.raises(InputError, match="expected a share above 0 and at most 1, or"):
        look(flux(tmp_path), noise=noise)


def test_arguments_that_the_pipeline_does_not_know_or_that_turn_guidance_on_are_refused(tmp_path: Path):
    pipe = pipelines.stable_diffusion(tmp_path)
    with pytest.raises(InputError, match=r"no argument 'gidance'; arguments of StableDiffusionPipeline.*eta"):
        look(pipe, call={"gidance": 1})
    with pytest.raises(InputError, match="height is set by this pass"):
        look(pipe, call={"height": 64})
    with pytest.raises(InputError, match="a batch of 2, expected one prompt without guidance"):
        look(pipe, call={"guidance_scale": 7.5})
    with pytest.raises(InputError, match=r"samples = 0, expected 1 or more"):
        look(pipe, samples=0)
    with pytest.raises(InputError, match=r"FluxPipeline refuses the call: .*max_sequence_length"):
        look(flux(tmp_path), call={"max_sequence_length": 4096})


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_a_compiled_denoiser_is_seen_as_it_is(how: str, tmp_path: Path):
    pipe = flux(tmp_path)
    expected = tr.observe(picture(), model=pipe, prompt="a cat", size=48).block(0).to_dense()
    if how == "wrapped":
        pipe.transformer = torch.compile(pipe.transformer)
    else:
        pipe.transformer.compile()
    seen = tr.observe(picture(), model=pipe, prompt="a cat", size=48).block(0)
    torch.testing.assert_close(seen.to_dense(), expected)


def test_out_of_memory_says_what_would_fit(tmp_path: Path):
    """A device that holds 60 picture tokens."""
    pipe = flux(tmp_path)

    def full(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["hidden_states"].shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    pipe.transformer.register_forward_pre_hook(full, with_kwargs=True)
    seen = tr.observe(picture(), model=pipe, prompt="a cat", size=96, samples=2)
    with pytest.raises(
        CaptureError, match=r"64 × 96 pixels \(CUDA out of memory.*size=24 fits, tried just now.*fewer samples than 2"
    ):
        seen.layers  # noqa: B018
    assert tr.observe(picture(), model=pipe, prompt="a cat", size=24).layers


@pytest.mark.parametrize("name", ["FLUX.1", "SD1.5", "Z-Image"])
def test_a_saved_pipeline_is_loaded_by_its_folder(name: str, tmp_path: Path):
    family = FAMILIES[name]
    pipe = family.build(tmp_path)
    pipe.save_pretrained(tmp_path / "model")
    model = tr.load(tmp_path / "model")
    assert type(model.pipeline) is type(pipe)
    assert model.module is denoiser_of(model.pipeline)
    assert type(pipe).__name__ in model._repr_html_()
    call = {**family.call}
    ours = tr.observe(picture(), model=tmp_path / "model", prompt=family.prompt, size=48, call=call)
    theirs = tr.observe(picture(), model=pipe, prompt=family.prompt, size=48, call=call)
    torch.testing.assert_close(ours.block(0).to_dense(), theirs.block(0).to_dense())
    with tr.capture(model) as trace:
        model.forward(look(model.pipeline, call=call).inputs)
    assert trace.names
    with pytest.raises(InputError, match="needs a prompt and a noise level beside them"):
        model.prepare(picture())
    with pytest.raises(InputError, match="makes pictures, but kind='text' was asked"):
        tr.load(tmp_path / "model", kind="text")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"_class_name": "FluxPipelne"}, r"of a pipeline 'FluxPipelne'.*nearest: 'FluxPipeline'"),
        ({"_class_name": ["pipeline", "Mine"]}, r"of a pipeline \['pipeline', 'Mine'\]"),
        ({"transformer": ["evil_code", "Model"]}, r"'transformer' of model folder .* is of 'evil_code', expected"),
        (None, "is not valid JSON"),
    ],
)
def test_folders_that_name_other_code_are_refused(changed: Any, message: str, tmp_path: Path):
    flux(tmp_path).save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text("{" if changed is None else json.dumps(json.loads(index.read_text()) | changed))
    with pytest.raises(InputError, match=message):
        tr.load(tmp_path / "model")


def test_pickled_weights_are_refused(tmp_path: Path):
    flux(tmp_path).save_pretrained(tmp_path / "model", safe_serialization=False)
    with pytest.raises(InputError, match="cannot be loaded"):
        tr.load(tmp_path / "model")


def test_families_are_found_by_the_class_of_a_pipeline_above(tmp_path: Path):
    class Mine(diffusers.FluxPipeline):  # type: ignore[misc]
        pass

    pipe = flux(tmp_path)
    assert family_of(Mine(**pipe.components)).name == "FLUX.1"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"samples": 0}, "samples = 0, expected a whole number from 1"),
        ({"samples": 1.5}, "samples = 1.5, expected a whole number from 1"),
        ({"seed": "x"}, "seed = 'x', expected a whole number"),
        ({"call": 3}, "call = 3, expected arguments of the pipeline"),
        ({"prompt": ["a cat", "a dog"]}, "prompt = .*, expected one string"),
    ],
)
def test_options_that_are_none_are_refused_at_once(how: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        tr.observe(picture(), model=flux(tmp_path), **{"prompt": "a cat", "size": 48, **how})

"""The guider in modular pipelines of diffusers as they are, given by ``update_components``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.diffusion import pipelines  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, texts  # noqa: E402

STEPS, WIDTH, HEIGHT = 2, 96, 64  # without an autoencoder, a latent is 8 × 8 pixels
SETTINGS: list[dict[str, Any]] = [
    {"mask": "tokenrank"},
    {"kind": "identity", "scale": 2.0},
    {"kind": "smooth", "scale": 2.0},
    {"kind": "shuffle", "scale": 2.0},
]


def blocks(module: str, name: str, variant: str = "") -> Any:
    """Blocks of a modular pipeline of diffusers, where this version has them."""
    for file in (f"modular_blocks_{module}{variant}", "modular_blocks"):  # its name until 0.36
        with suppress(ImportError):
            found = getattr(import_module(f"diffusers.modular_pipelines.{module}.{file}"), name, None)
            if found is not None:
                return found()
    pytest.skip(f"diffusers {diffusers.__version__} has no {name}")


def embedded(*, negative: bool = True) -> dict[str, Tensor]:
    one, other = texts()
    return {"prompt_embeds": one} | ({"negative_prompt_embeds": other} if negative else {})


def stable_diffusion_3(negative: bool) -> tuple[Any, dict[str, Any], str]:
    more = {"negative_pooled_prompt_embeds": texts()[1][:, 0]} if negative else {}
    given = embedded(negative=negative) | more | {"pooled_prompt_embeds": texts()[0][:, 0]}
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    return blocks("stable_diffusion_3", "StableDiffusion3AutoCoreDenoiseStep"), given | {"latents": noise}, "SD3"


def flux_2(negative: bool) -> tuple[Any, dict[str, Any], str]:
    return blocks("flux2", "Flux2KleinBaseCoreDenoiseStep", "_klein_base"), embedded(negative=negative), "FLUX.2"


def qwen_image(negative: bool) -> tuple[Any, dict[str, Any], str]:
    names = ("prompt_embeds_mask", "negative_prompt_embeds_mask")[: 1 + negative]
    masks = {name: torch.ones(1, 7, dtype=torch.long) for name in names}
    return blocks("qwenimage", "QwenImageCoreDenoiseStep"), embedded(negative=negative) | masks, "Qwen-Image"


def z_image(negative: bool) -> tuple[Any, dict[str, Any], str]:
    listed = {name: [value[0]] for name, value in embedded(negative=negative).items()}
    return blocks("z_image", "ZImageCoreDenoiseStep"), listed, "Z-Image"


CASES: dict[str, Callable[[bool], tuple[Any, dict[str, Any], str]]] = {
    "SD3": stable_diffusion_3, "FLUX.2 klein": flux_2, "Qwen-Image": qwen_image, "Z-Image": z_image,
}  # fmt: skip


def made(case: str, guider: Any, negative: bool = True) -> tuple[Tensor, int, dict[str, int]]:
    """Latents, calls of the denoiser, and what was left at its modules."""
    steps, given, name = CASES[case](negative)
    pipe, module = steps.init_pipeline(), DENOISERS[name].build()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    if hasattr(guider, "attach"):
        guider.attach(scheduler)
    pipe.update_components(transformer=module, scheduler=scheduler, guider=guider)
    assert pipe.guider is guider
    pipe.set_progress_bar_config(disable=True)
    calls: list[int] = []
    count = module.register_forward_hook(lambda *_: calls.append(0))
    try:
        latents = pipe(
            **given, width=WIDTH, height=HEIGHT, num_inference_steps=STEPS, output="latents",
            generator=torch.Generator().manual_seed(2),
        )  # fmt: skip
    finally:
        count.remove()
    left = {
        what: sum(len(getattr(part, what)) for part in module.modules())
        for what in ("_forward_hooks", "_forward_pre_hooks")
    }
    return latents, len(calls), left | {"forward": sum("forward" in vars(part) for part in module.modules())}


NOTHING = {"_forward_hooks": 0, "_forward_pre_hooks": 0, "forward": 0}


@pytest.mark.parametrize("case", CASES)
def test_classifier_free_guidance_alone_is_that_of_diffusers(case: str) -> None:
    theirs, calls, _ = made(case, diffusers.ClassifierFreeGuidance(guidance_scale=4.0))
    own, own_calls, left = made(case, tr.tasks.Guider(guidance_scale=4.0, scale=0.0))
    assert calls == own_calls == 2 * STEPS
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)
    assert left == NOTHING


@pytest.mark.parametrize("guidance_scale", [4.0, 1.0])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_guidance_changes_what_is_made(case: str, settings: dict[str, Any], guidance_scale: float) -> None:
    plain, calls, _ = made(case, tr.tasks.Guider(guidance_scale=guidance_scale, scale=0.0))
    guided, guided_calls, left = made(case, tr.tasks.Guider(guidance_scale=guidance_scale, **settings))
    assert guided_calls == calls + STEPS
    assert bool(torch.isfinite(guided).all())
    assert (guided - plain).abs().max() > 1e-4 * plain.abs().max()
    assert left == NOTHING


@pytest.mark.parametrize("case", CASES)
def test_without_classifier_free_guidance_no_negative_prompt_is_needed(case: str) -> None:
    alone, _, _ = made(case, tr.tasks.Guider(guidance_scale=1.0), negative=False)
    beside, _, _ = made(case, tr.tasks.Guider(guidance_scale=1.0))
    assert torch.equal(alone, beside)


def test_a_whole_modular_pipeline_is_the_classic_one_with_guide(tmp_path: Path) -> None:
    """SDXL from prompt to latents, scaled inputs and all: the guider there, the context here."""
    classic = pipelines.stable_diffusion_xl(tmp_path)
    modular = blocks("stable_diffusion_xl", "StableDiffusionXLAutoBlocks").init_pipeline()
    parts = {name: part for name, part in classic.components.items() if name in modular.component_names and part}
    guider = tr.tasks.Guider(guidance_scale=4.0, mask="tokenrank").attach(classic.scheduler)
    modular.update_components(**parts, guider=guider, force_zeros_for_empty_prompt=True)
    modular.set_progress_bar_config(disable=True)
    given = {
        "prompt": "a cat", "negative_prompt": "blurry dog", "width": 24, "height": 16, "num_inference_steps": STEPS,
        "latents": torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0)),
    }  # fmt: skip
    own = modular(**given, output="latents")
    with tr.tasks.guide(classic, mask="tokenrank") as guidance:
        expected = classic(**given, guidance_scale=4.0, output_type="latent").images
    plain = classic(**given, guidance_scale=4.0, output_type="latent").images
    assert (own - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (own - plain).abs().max() > 1e-3 * expected.abs().max()
    assert guider.shares == guidance.shares


def test_saved_with_its_pipeline(tmp_path: Path) -> None:
    steps, _, _ = stable_diffusion_3(True)
    pipe = steps.init_pipeline()
    pipe.update_components(guider=tr.tasks.Guider(kind="smooth", scale=1.25))
    pipe.guider.save_pretrained(tmp_path / "guider")
    again = steps.init_pipeline()
    again.update_components(guider=tr.tasks.Guider.from_pretrained(tmp_path / "guider"))
    assert again.guider.settings == pipe.guider.settings
    assert again.get_component_spec("guider").type_hint is tr.tasks.Guider
    created = again.get_component_spec("guider").create()
    assert created.settings == pipe.guider.settings

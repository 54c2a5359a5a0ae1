"""What diffusers' own guiders do to its models today: so that it is noticed when they change.

docs/howto/guidance.md says these things. They are held to on the versions that they were found in; on another version a
difference is a reason to skip, and to read that page again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers", minversion="0.36")

from tests.diffusion import pipelines  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, Denoiser, texts  # noqa: E402

FOUND_IN = ("0.36.0", "0.42.1")


def today(claim: bool, what: str) -> None:
    """``claim`` holds in the versions that it was found in; elsewhere the opposite skips."""
    if not claim and diffusers.__version__ not in FOUND_IN:
        pytest.skip(f"diffusers {diffusers.__version__} is not {' or '.join(FOUND_IN)}: {what}")
    assert claim, what


def smoothed(stack: str) -> Any:
    from diffusers.hooks import SmoothedEnergyGuidanceConfig

    return diffusers.SmoothedEnergyGuidance(seg_guidance_config=SmoothedEnergyGuidanceConfig(indices=[0], fqn=stack))


def perturbed(stack: str) -> Any:
    layers = diffusers.LayerSkipConfig(
        indices=[0], fqn=stack, skip_attention=False, skip_attention_scores=True, skip_ff=False
    )
    return diffusers.PerturbedAttentionGuidance(
        perturbed_guidance_config=layers, perturbed_guidance_start=0.0, perturbed_guidance_stop=1.0
    )


def skipped(stack: str) -> Any:
    return diffusers.SkipLayerGuidance(
        skip_layer_config=diffusers.LayerSkipConfig(indices=[0], fqn=stack),
        skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0,
    )  # fmt: skip


def passes(guider: Any, denoiser: Denoiser) -> dict[str, Tensor]:
    """What each pass of one step predicts, in a loop such as modular pipelines have it."""
    module = denoiser.build()
    x = torch.randn(denoiser.latents, generator=torch.Generator().manual_seed(1))
    found = {}
    guider.set_state(step=5, num_inference_steps=10, timestep=torch.tensor(500.0))
    for batch in guider.prepare_inputs({"text": texts()}):
        guider.prepare_models(module)
        with torch.no_grad():
            batch.noise_pred = denoiser.call(module, x, batch.text)
        guider.cleanup_models(module)
        found[getattr(batch, "__guidance_identifier__")] = batch.noise_pred  # noqa: B009  no name of a class
    return found


def effect(guider: Callable[[str], Any], name: str) -> float:
    """Largest difference between the conditional pass and the one that is meant to be worse."""
    denoiser = DENOISERS[name]
    found = passes(guider(denoiser.stack), denoiser)
    (third,) = found.keys() - {"pred_cond", "pred_uncond"}
    return float((found["pred_cond"] - found[third]).abs().max())


@pytest.mark.parametrize("name", ["SD1.5", "SD3", "FLUX"])
def test_smoothed_energy_guidance_has_no_effect(name: str) -> None:
    largest = effect(smoothed, name)
    today(largest == 0, f"SmoothedEnergyGuidance has an effect on {name}: {largest:.2g}")


@pytest.mark.parametrize("guider", [perturbed, skipped])
def test_the_others_have_one_on_the_unet(guider: Any) -> None:
    assert effect(guider, "SD1.5") > 1e-3  # a loop that shows effects where there are some


@pytest.mark.parametrize("guider", [perturbed, skipped])
@pytest.mark.parametrize("name", ["SD3", "FLUX"])
def test_perturbed_attention_and_skipped_layers_raise_on_transformers(guider: Any, name: str) -> None:
    try:
        largest = effect(guider, name)
    except (ValueError, RuntimeError, AttributeError, TypeError):
        return
    today(False, f"{guider('x').__class__.__name__} runs on {name}: {largest:.2g}")


def test_a_copy_forgets_what_was_given_by_position() -> None:
    by_name = diffusers.ClassifierFreeGuidance(guidance_scale=5.0).new().guidance_scale
    assert by_name == 5.0
    by_position = diffusers.ClassifierFreeGuidance(5.0).new().guidance_scale
    today(by_position == 7.5, f"a guider's new() knows {by_position}, given by position")


def test_the_name_of_one_block_means_others_too(tmp_path: Path) -> None:
    pipe = pipelines.stable_diffusion_3(tmp_path)
    blocks = {**pipe.transformer.config, "num_layers": 11}
    blocks = {name: value for name, value in blocks.items() if not name.startswith("_")}
    parts = {**pipe.components, "transformer": pipelines.made("SD3Transformer2DModel", **blocks)}
    pag = pipelines.quiet(
        diffusers.StableDiffusion3PAGPipeline(
            **{name: part for name, part in parts.items() if name not in ("image_encoder", "feature_extractor")},
            pag_applied_layers=["blocks.1"],
        )
    )
    met: list[str] = []

    def look(pipe: Any, step: int, time: Any, kept: dict[str, Any]) -> dict[str, Any]:
        met.extend(
            name
            for name, module in pipe.transformer.named_modules()
            if type(getattr(module, "processor", None)).__name__.startswith("PAG")
        )
        return kept

    pag(
        "a cat", width=24, height=16, num_inference_steps=1, max_sequence_length=8, pag_scale=1.0,
        output_type="latent", callback_on_step_end=look,
    )  # fmt: skip
    assert "transformer_blocks.1.attn" in met
    today("transformer_blocks.10.attn" in met, f"'blocks.1' means {met}")

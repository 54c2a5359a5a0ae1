"""The guider in a loop such as modular pipelines have it: the published numbers, configuration, passes, traces."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.diffusion import pipelines  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, Denoiser, texts  # noqa: E402
from tokenrank.errors import CaptureError, InputError, NotFoundError  # noqa: E402

STEPS = 3


def generated(guider: Any, denoiser: Denoiser, module: nn.Module, steps: int = STEPS) -> Tensor:
    """Latents after a few steps of a flow, from the same noise each time."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    if hasattr(guider, "attach"):
        guider.attach(scheduler)
    x = torch.randn(denoiser.latents, generator=torch.Generator().manual_seed(1))
    for i, time in enumerate(scheduler.timesteps):
        guider.set_state(step=i, num_inference_steps=steps, timestep=time)
        passes = guider.prepare_inputs({"text": texts()})
        for one in passes:
            guider.prepare_models(module)
            with torch.no_grad():
                one.noise_pred = denoiser.call(module, x, one.text)
            guider.cleanup_models(module)
        x = scheduler.step(guider(passes)[0], time, x).prev_sample
    return x


def marks(module: nn.Module) -> list[tuple[str, ...]]:
    """All that a module can be changed by from outside: hooks and methods of its own, of all modules in it."""
    return [
        (name, *sorted(vars(part)), *(str(len(getattr(part, kind))) for kind in sorted(vars(part)) if "hooks" in kind))
        for name, part in module.named_modules()
    ]


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("size", [(24, 16), (32, 32), (40, 16)])
def test_colsum_is_the_pipeline_of_self_attention_guidance(
    size: tuple[int, int], prediction: str, guidance_scale: float, tmp_path: Path
) -> None:
    pipe, (width, height) = pipelines.stable_diffusion(tmp_path), size
    noise = torch.randn(1, 4, height // 2, width // 2, generator=torch.Generator().manual_seed(0))
    parts = {**pipe.components, "scheduler": None}
    del parts["image_encoder"]

    def scheduler() -> Any:
        return diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False)

    published = pipelines.quiet(
        diffusers.StableDiffusionSAGPipeline(
            **parts | {"scheduler": scheduler()}, requires_safety_checker=False
        )
    )  # fmt: skip
    expected = published(
        prompt="a cat", negative_prompt="blurry dog", height=height, width=width, num_inference_steps=STEPS,
        guidance_scale=guidance_scale, sag_scale=0.75, latents=noise.clone(), output_type="latent",
    ).images  # fmt: skip

    def own(scale: float) -> Tensor:
        conditional, unconditional = pipe.encode_prompt("a cat", "cpu", 1, True, "blurry dog")
        sampler, x = scheduler(), noise.clone()
        sampler.set_timesteps(STEPS)
        guider = tr.tasks.Guider(guidance_scale=guidance_scale, mask="colsum", scale=scale).attach(sampler)
        for i, time in enumerate(sampler.timesteps):
            guider.set_state(step=i, num_inference_steps=STEPS, timestep=time)
            passes = guider.prepare_inputs({"text": (conditional, unconditional)})
            for one in passes:
                guider.prepare_models(pipe.unet)
                with torch.no_grad():
                    one.noise_pred = pipe.unet(x, time, encoder_hidden_states=one.text, return_dict=False)[0]
                guider.cleanup_models(pipe.unet)
            x = sampler.step(guider(passes)[0], time, x).prev_sample
        return x

    assert (own(0.75) - expected).abs().max() < 1e-3
    assert (own(0.0) - expected).abs().max() > 0.1  # guidance does something here


@pytest.mark.parametrize("name", DENOISERS)
def test_without_a_second_pass_it_is_classifier_free_guidance(name: str) -> None:
    denoiser = DENOISERS[name]
    module = denoiser.build()
    for own, theirs in (
        (tr.tasks.Guider(guidance_scale=3.0, scale=0.0), diffusers.ClassifierFreeGuidance(guidance_scale=3.0)),
        (tr.tasks.Guider(guidance_scale=1.0, scale=0.0), diffusers.ClassifierFreeGuidance(guidance_scale=1.0)),
        (tr.tasks.Guider(enabled=False), diffusers.ClassifierFreeGuidance(enabled=False)),
    ):
        torch.testing.assert_close(
            generated(own, denoiser, module), generated(theirs, denoiser, module), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, ["pred_cond", "pred_uncond", "pred_degraded"]),
        ({"kind": "identity"}, ["pred_uncond", "pred_cond", "pred_degraded"]),
        ({"kind": "smooth", "base": "unconditional"}, ["pred_cond", "pred_uncond", "pred_degraded"]),
        ({"guidance_scale": 1.0}, ["pred_cond", "pred_degraded"]),
        ({"scale": 0.0}, ["pred_cond", "pred_uncond"]),
        ({"start": 0.5}, ["pred_cond", "pred_uncond"]),
        ({"enabled": False}, ["pred_cond"]),
    ],
)
def test_the_degraded_pass_comes_right_after_its_base(options: dict[str, Any], passes: list[str]) -> None:
    guider = tr.tasks.Guider(**options).attach(diffusers.DDIMScheduler())
    guider.set_state(step=0, num_inference_steps=4, timestep=torch.tensor(999))
    batches = guider.prepare_inputs({"text": texts(), "both": torch.ones(1)})
    assert [getattr(batch, "__guidance_identifier__") for batch in batches] == passes  # noqa: B009
    assert guider.num_conditions == len(passes)
    conditional, unconditional = texts()
    for batch, name in zip(batches, passes, strict=True):
        base = passes[-2] if name == "pred_degraded" else name
        assert torch.equal(batch.text, unconditional if base == "pred_uncond" else conditional)
        assert torch.equal(batch.both, torch.ones(1))


def test_both_ways_to_give_inputs_are_the_same() -> None:
    from diffusers.modular_pipelines import BlockState

    guider = tr.tasks.Guider().attach(diffusers.DDIMScheduler())
    guider.set_state(step=0, num_inference_steps=4, timestep=torch.tensor(999))
    one, other = texts()
    state = BlockState(words=one, negative_words=other, size=3)
    fields = {"text": ("words", "negative_words"), "count": "size", "missing": ("none", "none_either")}
    expected = [batch.as_dict() for batch in guider.prepare_inputs({"text": (one, other), "count": 3})]
    for found in (guider.prepare_inputs_from_block_state(state, fields), guider.prepare_inputs(state, fields)):
        assert [batch.as_dict().keys() for batch in found] == [batch.keys() for batch in expected]
        assert all(torch.equal(a.text, b["text"]) and a.count == 3 for a, b in zip(found, expected, strict=True))


def test_start_and_stop_are_of_the_second_pass_alone() -> None:
    denoiser = DENOISERS["SD3"]
    module, calls = denoiser.build(), []
    module.register_forward_pre_hook(lambda *_: calls.append(0))
    guider = tr.tasks.Guider(start=0.25, stop=0.75)
    generated(guider, denoiser, module, steps=4)
    assert len(calls) == 2 * 4 + 2
    assert len(guider.masks) == len(guider.shares) == 2
    assert all(mask.shape == (1, 1, 4, 6) and mask.dtype == torch.bool for mask in guider.masks)
    assert guider.shares == [float(mask.float().mean()) for mask in guider.masks]
    generated(guider, denoiser, module, steps=4)
    assert len(guider.masks) == 2  # of the last generation alone


@pytest.mark.parametrize("kind", ["blur", "identity", "smooth", "shuffle"])
@pytest.mark.parametrize("name", ["SD1.5", "FLUX", "Z-Image"])
def test_passes_of_guidance_are_in_no_trace(name: str, kind: str) -> None:
    denoiser = DENOISERS[name]
    module = denoiser.build()
    before = marks(module)
    with tr.capture(module) as alone:
        generated(tr.tasks.Guider(scale=0.0), denoiser, module, steps=1)
    with tr.capture(module) as guided:
        generated(tr.tasks.Guider(kind=kind), denoiser, module, steps=1)
    # the base comes last before the degraded one: the branches may change places
    told = [sorted((r.name, r.step, tuple(r.shape)) for r in trace.records) for trace in (alone, guided)]
    assert told[0] == told[1]
    assert marks(module) == before
    sums = [sorted(float(r.to_dense().double().square().sum()) for r in trace.records) for trace in (alone, guided)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def test_saved_copied_and_pickled(tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler()
    options = {"guidance_scale": 3.0, "kind": "smooth", "layers": ["*attn1"], "heads": [0, 2], "scale": 1.5, "seed": 7}
    guider = tr.tasks.Guider(**options).attach(scheduler)
    guider.save_pretrained(tmp_path)
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["_class_name"] == "Guider"
    for made in (
        tr.tasks.Guider.from_pretrained(tmp_path),
        tr.tasks.Guider.from_config(guider.config),
        guider.new(),
        copy.deepcopy(guider),
        pickle.loads(pickle.dumps(guider)),
    ):
        assert type(made) is tr.tasks.Guider
        assert made.settings == guider.settings
        assert made.guidance_scale == 3.0
    changed = guider.new(scale=0.25)
    assert (changed.settings.scale, changed.settings.kind) == (0.25, "smooth")
    assert "scale" in repr(guider)
    with pytest.raises(TypeError):
        tr.tasks.Guider(3.0)  # what is given by position is forgotten by new() of diffusers' guiders


def test_a_copy_keeps_the_scheduler_and_a_file_does_not(tmp_path: Path) -> None:
    denoiser = DENOISERS["SD3"]
    module = denoiser.build()
    guider = tr.tasks.Guider()
    expected = generated(guider, denoiser, module)
    guider.save_pretrained(tmp_path)
    loaded = tr.tasks.Guider.from_pretrained(tmp_path)
    loaded.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(999.0))
    loaded.prepare_inputs({"text": texts()})
    with pytest.raises(InputError, match=r"attach\(pipe.scheduler\)"):
        loaded.prepare_models(module)
    assert torch.equal(generated(loaded, denoiser, module), expected)
    copied = guider.new()
    copied.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(999.0))
    copied.prepare_inputs({"text": texts()})
    copied.prepare_models(module)  # knows the noise schedule
    copied.cleanup_models(module)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="no such guidance; nearest: 'blur'"):
        tr.tasks.Guider(kind="blurr")
    with pytest.raises(InputError, match="no such mask"):
        tr.tasks.Guider(mask="rank")
    guider = tr.tasks.Guider().attach(diffusers.DDIMScheduler())
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(999))
    with pytest.raises(InputError, match=r"guidance_scale=1\.0"):
        guider.prepare_inputs({"text": (texts()[0], None), "pooled": (torch.ones(1), None)})
    with pytest.raises(InputError, match="expected 3"):
        guider(guider.prepare_inputs({"text": texts()}))
    module = DENOISERS["SD3"].build()
    wrong = tr.tasks.Guider(layers="transformer_blocks.7.attn").attach(diffusers.DDIMScheduler())
    wrong.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(999))
    wrong.prepare_inputs({"text": texts()})
    with pytest.raises(NotFoundError, match=r"transformer_blocks\.1\.attn"):
        wrong.prepare_models(module)
    alien = nn.Linear(2, 2)
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(999))
    guider.prepare_inputs({"text": texts()})
    with pytest.raises(InputError, match="a Linear cannot be guided, expected one of FluxTransformer2DModel"):
        guider.prepare_models(alien)


@pytest.mark.parametrize("inside", [True, False])
def test_a_compiled_denoiser_runs_uncompiled(inside: bool) -> None:
    denoiser = DENOISERS["SD3"]
    expected = generated(tr.tasks.Guider(), denoiser, denoiser.build())
    module = denoiser.build()

    def refuse(*_: Any) -> Any:
        raise AssertionError("compiled")

    if inside:
        module.compile(backend=refuse)
    else:
        module = torch.compile(module, backend=refuse)
    assert torch.equal(generated(tr.tasks.Guider(), denoiser, module), expected)


class Hidden:
    """Attention that nobody sees: of every token to itself, without a softmax."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Any:
        return attn.to_out[0](attn.to_v(hidden_states)), attn.to_add_out(attn.add_v_proj(encoder_hidden_states))


@pytest.mark.parametrize("options", [{"kind": "identity"}, {"kind": "smooth", "heads": [0]}, {"mask": "colsum"}])
def test_attention_that_is_hidden_is_refused(options: dict[str, Any]) -> None:
    denoiser = DENOISERS["SD3"]
    module = denoiser.build()
    module.transformer_blocks[0].attn.set_processor(Hidden())
    before = marks(module)
    with pytest.raises(CaptureError, match=r"set_attention_backend\('native'\)"):
        generated(tr.tasks.Guider(layers="transformer_blocks.0.attn", **options), denoiser, module)
    gc.collect()
    assert marks(module) == before


def test_without_diffusers_that_has_guiders() -> None:
    asked = (
        "assert 'Guider' in dir(tr.tasks)\n"
        "try:\n    tr.tasks.Guider\n"
        "except tr.errors.MissingExtraError as error:\n    print(error)\n"
    )
    script = (
        "import sys\nsys.modules['diffusers'] = None\nimport tokenrank as tr\n"
        f"{asked}del sys.modules['diffusers']\nimport diffusers\ndiffusers.__version__ = '0.35.2'\n{asked}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    none, old = done.stdout.splitlines()
    assert "diffusers 0.36 or newer, which cannot be imported" in none
    assert "diffusers 0.36 or newer, found 0.35.2" in old
    for words in (none, old):
        assert "tokenrank[diffusers]" in words

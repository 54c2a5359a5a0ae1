"""Timesteps and branches of guidance: the pipelines themselves say which half of a batch is which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from tests.conformance import diffusers_models as models  # noqa: E402
from tokenrank.errors import NotFoundError  # noqa: E402
from tokenrank.recording import AttentionRecord, Branch  # noqa: E402
from tokenrank.trace import Trace, capture  # noqa: E402

from . import pipelines  # noqa: E402

UNCONDITIONAL_FIRST, CONDITIONAL_FIRST = ("unconditional", "conditional"), ("conditional", "unconditional")
IN_ORDER = (("conditional",), ("unconditional",))  # of two calls
SIZE = {"width": pipelines.WIDTH, "height": pipelines.HEIGHT}


@dataclass(frozen=True)
class Guided:
    """A pipeline, its arguments, and what turns guidance on and off."""

    build: Callable[[Path], Any]
    inputs: Callable[[], dict[str, Any]]
    on: dict[str, Any]
    off: dict[str, Any]
    branches: tuple[tuple[str, ...], ...]  # of the forward calls of one step
    output: str = "latent"


def prompts() -> dict[str, Any]:
    return {"prompt": pipelines.PROMPT, "negative_prompt": pipelines.NEGATIVE, **SIZE}


def embedded(*pooled: str) -> dict[str, Any]:
    """Texts as what their encoders would have made of them."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: torch.randn(1, 7, 16) for name in names} | {name: torch.randn(1, 16) for name in pooled} | SIZE


def masked() -> dict[str, Any]:
    masks = ("prompt_embeds_mask", "negative_prompt_embeds_mask")
    return embedded() | {name: torch.ones(1, 7, dtype=torch.long) for name in masks}


def listed() -> dict[str, Any]:
    return {name: [torch.randn(5, 16)] for name in ("prompt_embeds", "negative_prompt_embeds")} | SIZE


SCALE_ON, SCALE_OFF = {"guidance_scale": 4.0}, {"guidance_scale": 1.0}
TRUE_ON, TRUE_OFF = {"true_cfg_scale": 4.0}, {"true_cfg_scale": 1.0}
POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")

GUIDED: dict[str, Guided] = {
    "StableDiffusionPipeline": Guided(
        pipelines.stable_diffusion, prompts, SCALE_ON, SCALE_OFF, (UNCONDITIONAL_FIRST,)
    ),
    "StableDiffusionXLPipeline": Guided(
        pipelines.stable_diffusion_xl, prompts, SCALE_ON, SCALE_OFF, (UNCONDITIONAL_FIRST,)
    ),
    "StableDiffusion3Pipeline": Guided(
        pipelines.stable_diffusion_3, lambda: prompts() | {"max_sequence_length": 8}, SCALE_ON, SCALE_OFF,
        (UNCONDITIONAL_FIRST,),
    ),
    "FluxPipeline": Guided(lambda _: pipelines.flux(), lambda: embedded(*POOLED), TRUE_ON, TRUE_OFF, IN_ORDER),
    "WanPipeline": Guided(
        lambda _: pipelines.wan(), lambda: embedded() | {"width": 48, "height": 32, "num_frames": 5},
        SCALE_ON, SCALE_OFF, IN_ORDER,
    ),
    "QwenImagePipeline": Guided(lambda _: pipelines.qwen_image(), masked, TRUE_ON, TRUE_OFF, IN_ORDER),
    "DiTPipeline": Guided(
        lambda _: pipelines.dit(), lambda: {"class_labels": [3]}, SCALE_ON, SCALE_OFF, (CONDITIONAL_FIRST,), "np"
    ),
    "ZImagePipeline": Guided(
        lambda _: pipelines.z_image(), listed, SCALE_ON, {"guidance_scale": 0.0}, (CONDITIONAL_FIRST,)
    ),
}  # fmt: skip
NAMES = list(GUIDED)


def traced(name: str, folder: Path, guided: bool = True, steps: int = 2, **options: Any) -> Trace:
    """What a pipeline's denoiser attends to; the same latents and texts each time."""
    case = GUIDED[name]
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    pipe = case.build(folder)
    torch.manual_seed(3)
    inputs = case.inputs()
    with capture(pipe, **options) as trace:
        pipe(
            **inputs, **(case.on if guided else case.off), num_inference_steps=steps, output_type=case.output,
            generator=torch.Generator().manual_seed(5),
        )  # fmt: skip
    return trace


def first_step(trace: Trace) -> list[AttentionRecord]:
    time = trace.records[0].timestep
    return [record for record in trace.records if record.timestep == time]


def per_call(trace: Trace, value: Callable[[AttentionRecord], Any]) -> list[Any]:
    """``value`` of each forward call."""
    return [value(record) for record in trace.records if record.index == 0]


@pytest.mark.parametrize("name", NAMES)
def test_branches_of_every_forward_call(name: str, tmp_path: Path) -> None:
    trace = traced(name, tmp_path)
    assert per_call(trace, lambda record: record.branches) == [*GUIDED[name].branches] * 2
    # records of a call agree with one another
    assert len({(record.step, record.branches, record.timestep) for record in trace.records}) == len(
        per_call(trace, id)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_conditional_branch_is_what_runs_without_guidance(name: str, tmp_path: Path) -> None:
    alone = first_step(traced(name, tmp_path, guided=False))
    trace = traced(name, tmp_path)
    conditional, unconditional = (first_step(trace.select(branch=b)) for b in ("conditional", "unconditional"))
    assert len(conditional) == len(unconditional) == len(alone)
    for one, other in zip(conditional, alone, strict=True):
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=0, atol=1e-4)
    distances = [(a.to_dense() - b.to_dense()).abs().max() for a, b in zip(unconditional, alone, strict=True)]
    assert max(distances) > 1e-3  # the two branches can be told apart


@pytest.mark.parametrize("name", NAMES)
def test_every_call_has_the_layouts_of_the_first(name: str, tmp_path: Path) -> None:
    """What a denoiser returned comes back as latents: a picture, whatever its tokens were in the call before."""
    trace = traced(name, tmp_path, steps=3)
    calls: dict[int, list[str]] = {}
    for record in trace.records:
        calls.setdefault(record.step, []).append(f"{record.name}: {record.layout}")
    assert len(calls) > 2
    assert all(layouts == calls[0] for layouts in calls.values())
    assert not any(isinstance(record.layout, Exception) for record in trace.records)


@pytest.mark.parametrize("name", GUIDED)
def test_without_guidance_there_are_no_branches(name: str, tmp_path: Path) -> None:
    trace = traced(name, tmp_path, guided=False)
    assert {record.branches for record in trace.records} == {()}
    with pytest.raises(NotFoundError, match="no conditional branch"):
        trace.select(branch="conditional")


@pytest.mark.parametrize("name", GUIDED)
def test_timesteps_are_those_of_the_denoiser(name: str, tmp_path: Path) -> None:
    case = GUIDED[name]
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    pipe, given = case.build(tmp_path), []
    denoiser = getattr(pipe, "transformer", None) or pipe.unet

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        time = next((kwargs[n] for n in ("timestep", "t") if n in kwargs), None)
        given.append(float(torch.as_tensor(args[1] if time is None else time).flatten()[0]))

    hook = denoiser.register_forward_pre_hook(note, with_kwargs=True)
    torch.manual_seed(3)
    with capture(pipe) as trace:
        pipe(**case.inputs(), **case.on, num_inference_steps=3, output_type=case.output)
    hook.remove()
    assert len(given) == 3 * len(case.branches)
    assert len(set(given)) == 3
    assert per_call(trace, lambda record: record.timestep) == given
    for time in set(given):
        chosen = trace.select(timestep=time)
        assert {record.timestep for record in chosen.records} == {time}
        assert len(chosen.records) == len(trace.records) // 3


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
def test_a_branch_kept_alone_is_the_branch_selected(name: str, branch: Branch, tmp_path: Path) -> None:
    kept, whole = traced(name, tmp_path, branch=branch), traced(name, tmp_path)
    selected = whole.select(branch=branch)
    assert len(kept.records) == len(selected.records)
    for one, other in zip(kept.records, selected.records, strict=True):
        assert (one.name, one.step, one.timestep) == (other.name, other.step, other.timestep)
        assert torch.equal(one.to_dense(), other.to_dense())


@pytest.mark.parametrize(
    ("model", "config", "inputs"),
    [
        ("PixArtTransformer2DModel", models.PIXART, models.pixart),
        ("SanaTransformer2DModel", models.SANA, models.sana),
        ("SD3Transformer2DModel", models.SD3, models.sd3),
        ("UNet2DConditionModel", models.SDXL, models.sdxl),
    ],
)
def test_equal_latents_with_other_text_are_two_branches(
    model: str, config: dict[str, Any], inputs: Callable[[], dict[str, Any]]
) -> None:
    denoiser = pipelines.made(model, **config)
    given = inputs()
    latents = "sample" if "sample" in given else "hidden_states"
    for equal in (True, False):
        if equal:
            given[latents] = given[latents][:1].repeat(2, 1, 1, 1)
        else:
            given[latents] = torch.randn(given[latents].shape)
        with torch.no_grad(), capture(denoiser) as trace:
            denoiser(**given)
        assert {record.branches for record in trace.records} == {UNCONDITIONAL_FIRST if equal else ()}
        if equal:
            halves = [trace.select(branch=branch).records for branch in ("unconditional", "conditional")]
            for whole, first, second in zip(trace.records, *halves, strict=True):
                halved = torch.cat([first.to_dense(), second.to_dense()])
                torch.testing.assert_close(halved, whole.to_dense(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("labels", [(3, 9, 10, 10), (10, 10, 3, 9)])
def test_the_label_of_no_class_is_the_number_of_classes(labels: tuple[int, ...]) -> None:
    denoiser = pipelines.made("DiTTransformer2DModel", **models.DIT | {"num_embeds_ada_norm": 10})
    latents = torch.randn(2, 4, 8, 12).repeat(2, 1, 1, 1)
    with torch.no_grad(), capture(denoiser) as trace:
        denoiser(latents, timestep=torch.full((4,), 500), class_labels=torch.tensor(labels))
    expected = CONDITIONAL_FIRST if labels[0] < 10 else UNCONDITIONAL_FIRST
    assert {record.branches for record in trace.records} == {expected}
    half = slice(0, 2) if labels[0] < 10 else slice(2, 4)
    conditional = trace.select(branch="conditional").records[0]
    assert torch.equal(conditional.to_dense(), trace.records[0].to_dense()[half])


def at_times(*times: float) -> Trace:
    denoiser = pipelines.made("UNet2DConditionModel", **models.SD15)
    text = torch.randn(1, 7, 16)
    with torch.no_grad(), capture(denoiser, layers="*attn1") as trace:
        for time in times:
            denoiser(torch.randn(1, 4, 8, 12), time, text)
    return trace


def test_a_timestep_is_found_to_a_thousandth() -> None:
    trace = at_times(501, 1)
    assert {record.timestep for record in trace.select(timestep=501.4).records} == {501}
    for wrong in (503, 2):
        with pytest.raises(NotFoundError, match=rf"no timestep {wrong} .*501, 1"):
            trace.select(timestep=wrong)


def test_the_nearest_of_two_timesteps_is_taken() -> None:
    trace = at_times(999.5, 999.0)
    assert {record.timestep for record in trace.select(timestep=999.0).records} == {999.0}

"""A picture of a prompt: the pipeline's own, its arguments in one grammar, and what the sampler is heading for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from tests.diffusion.over_pictures import FAMILIES, every_family  # noqa: E402
from tokenrank.denoisers.decode import decoded, unpacked  # noqa: E402
from tokenrank.denoisers.encode import packed  # noqa: E402
from tokenrank.denoisers.family import family_of  # noqa: E402
from tokenrank.denoisers.generate import generate  # noqa: E402
from tokenrank.denoisers.preview import Preview  # noqa: E402
from tokenrank.denoisers.schedule import level_of, mixed  # noqa: E402
from tokenrank.errors import InputError  # noqa: E402

SIZE = (32, 48)


def pixels(picture: PIL.Image.Image) -> np.ndarray:
    return np.asarray(picture, np.int16)


def test_unpacking_undoes_packing() -> None:
    latents = torch.randn(2, 3, 6, 8)
    assert torch.equal(unpacked(packed(latents), 6, 8), latents)


@every_family
def test_decoded_latents_are_the_pipelines_picture(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    call = family.told | {"height": SIZE[0], "width": SIZE[1], "num_inference_steps": 2}
    call |= {"use_resolution_binning": False} if name.startswith("PixArt") else {}
    pipe = family.build(tmp_path)
    held: dict[str, Any] = {}

    def last(_: Any, step: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
        held["latents"] = state["latents"].clone()
        return {}

    def older(step: int, _: Any, latents: torch.Tensor) -> None:
        held["latents"] = latents.clone()

    watch = {"callback": older} if name.startswith("PixArt") else {"callback_on_step_end": last}
    theirs = pipe(**call, **watch, generator=torch.Generator().manual_seed(0), output_type="pil").images[0]
    ours = decoded(pipe, family_of(pipe), held["latents"], *SIZE)[0]
    assert ours.size == theirs.size == SIZE[::-1]
    assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0),
        diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
        diffusers.EulerDiscreteScheduler(timestep_spacing="linspace"),
        diffusers.DPMSolverMultistepScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_between_two_latents_is_the_clean_picture(scheduler: Any) -> None:
    scheduler.set_timesteps(6)
    clean, noise = torch.randn(2, 1, 4, 6, 8).unbind()
    preview = Preview(scheduler)
    for step in range(5):
        level = level_of(scheduler, scheduler.timesteps[step + 1])
        scale = level.signal if hasattr(scheduler, "is_scale_input_called") else 1.0  # what the sampler holds
        found = preview.after(step, mixed(clean, noise, level) / scale)
        assert (found is None) == (step == 0)
        if found is not None:
            assert torch.allclose(found, clean, atol=1e-3)
    assert torch.equal(preview.after(5, clean), clean)


def test_a_picture_is_the_pipelines_own(tmp_path: Path) -> None:
    family = FAMILIES["SD1.5"]
    pipe, twin = family.build(tmp_path), family.build(tmp_path)
    seen: list[tuple[int, bool]] = []
    ours = generate(
        pipe, "a cat", seed=3, steps=4, size=SIZE, cfg=3.0, negative="dog", every=2,
        watch=lambda step, picture: seen.append((step, picture is not None)),
    )  # fmt: skip
    theirs = twin(
        prompt="a cat", negative_prompt="dog", guidance_scale=3.0, height=SIZE[0], width=SIZE[1],
        num_inference_steps=4, generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    assert np.array_equal(pixels(ours), pixels(theirs))
    assert seen == [(0, False), (1, True), (2, False), (3, True)]


def test_a_flux_takes_its_true_scale_and_as_many_words_as_its_tokenizer(tmp_path: Path) -> None:
    pipe = FAMILIES["FLUX.1"].build(tmp_path)
    plain = generate(pipe, "a cat", steps=2, size=SIZE, cfg=1.0)
    guided = generate(pipe, "a cat", steps=2, size=SIZE, cfg=5.0, negative="dog")
    assert plain.size == guided.size == SIZE[::-1]
    assert np.abs(pixels(plain) - pixels(guided)).max() > 0


@pytest.mark.parametrize(("size", "words"), [((33, 48), "48 x 32|multiples"), ((0, 48), "multiples")])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(size: Any, words: str, tmp_path: Path) -> None:
    pipe = FAMILIES["SD3"].build(tmp_path)
    with pytest.raises(InputError, match=words):
        generate(pipe, "a cat", steps=1, size=size)


def test_what_has_no_guidance_says_so(tmp_path: Path) -> None:
    pipe = FAMILIES["FLUX.2"].build(tmp_path)
    with pytest.raises(InputError, match=r"FLUX\.2 has no classifier-free guidance"):
        generate(pipe, "a cat", steps=1, size=SIZE, cfg=3.0)

"""The pass over a real picture is the one that the pipeline itself makes: held to the arguments of its own calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

from tokenrank.denoisers.family import family_of  # noqa: E402
from tokenrank.denoisers.look import passes  # noqa: E402

from .over_pictures import (  # noqa: E402
    FAMILIES,
    SIZES,
    STEP,
    STEPS,
    arguments,
    copied,
    differences,
    every_family,
    in_the_samplers_scale,
    picture,
    run,
)


@pytest.mark.parametrize("size", SIZES, ids=["wide", "tall"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@every_family
def test_the_pass_is_the_one_that_the_pipeline_makes(
    name: str, dtype: torch.dtype, size: tuple[int, int], tmp_path: Path
):
    family = FAMILIES[name]
    pipe = family.build(tmp_path).to(dtype)
    told = {key: [v.to(dtype) for v in x] if isinstance(x, list) else x.to(dtype) if isinstance(x, Tensor) else x
            for key, x in family.told.items()}  # fmt: skip
    call = {key: value for key, value in told.items() if key != "prompt"}
    made = passes(pipe, picture(size), family.prompt, noise=(STEP, STEPS), size=48, call=call)[0]

    height, width = 48 * size[1] // max(size), 48 * size[0] // max(size)
    latents = in_the_samplers_scale(pipe, made)
    alone = dict(family_of(pipe).alone)
    with arguments(pipe) as seen:
        run(pipe, told | {"width": width, "height": height}, latents, STEP, output_type="latent", **alone)
    assert len(seen) == STEPS
    given = copied(dict(made.inputs))
    if dtype == torch.bfloat16:  # the sampler's latents are rounded before they are scaled
        name_of = family_of(pipe).latents
        ours, theirs = given.pop(name_of), seen[STEP].pop(name_of)
        pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) else [(ours, theirs)]
        assert all(float((a.float() - b.float()).abs().max()) <= 2.0**-7 * float(a.abs().max()) for a, b in pairs)
    assert not differences(given, seen[STEP])
    with torch.no_grad():
        output = made.denoiser(**made.inputs)[0]
    parts = output if isinstance(output, list) else [output]
    assert all(bool(part.isfinite().all()) and part.dtype == dtype for part in parts)


@every_family
def test_the_pipeline_makes_of_the_latents_what_its_autoencoder_keeps_of_the_picture(name: str, tmp_path: Path):
    family = FAMILIES[name]
    pipe = family.build(tmp_path)
    width, height = SIZES[0]
    made = passes(pipe, picture(), family.prompt, size=48, call=family.call)[0]
    painted = run(
        pipe, family.told | {"width": width, "height": height}, made.clean, STEPS, output_type="np",
        **dict(family_of(pipe).alone),
    ).images[0]  # fmt: skip

    pixels = pipe.image_processor.preprocess(picture(), height=height, width=width)
    frames = name == "Qwen-Image"
    with torch.no_grad():
        code = pipe.vae.encode(pixels[:, :, None] if frames else pixels).latent_dist.mode()
        kept = pipe.vae.decode(code).sample
    expected = ((kept[:, :, 0] if frames else kept)[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1)
    np.testing.assert_allclose(painted, expected.numpy(), atol=1e-4)
    assert expected.std() > 1e-3

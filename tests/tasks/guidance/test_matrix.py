"""Every guidance has an effect on every denoiser: what diffusers' own guiders cannot say of themselves.

See ``test_diffusers_guiders.py`` for those.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers", minversion="0.36")

import tokenrank as tr  # noqa: E402
from tests.conformance import diffusers_models as models  # noqa: E402
from tests.diffusion.denoisers import DENOISERS, texts  # noqa: E402
from tests.diffusion.pipelines import made  # noqa: E402
from tokenrank.tasks.guidance.layers import layers_of  # noqa: E402

KINDS: list[dict[str, Any]] = [
    *({"mask": mask} for mask in ("colsum", "tokenrank", "bounce", "all", "random")),
    *({"kind": kind} for kind in ("identity", "smooth", "shuffle")),
    *({"kind": kind, "heads": [1]} for kind in ("identity", "smooth", "shuffle")),
    {"kind": "identity", "heads": 0.5},
    {"kind": "smooth", "sigma": 1.0},
]
"""Masks of the blur, perturbations of all heads, of one, of those of largest |λ2|."""
STRENGTHS = (0.5, 0.9)
"""Share of noise; a blur of nothing but noise says little."""


def step(name: str, module: Any, share: float, **options: Any) -> tuple[dict[str, Tensor], Any]:
    """What the passes of one step predict, and the guider."""
    denoiser = DENOISERS[name]
    scheduler = diffusers.DDIMScheduler() if name in ("SD1.5", "SDXL") else diffusers.FlowMatchEulerDiscreteScheduler()
    guider = tr.tasks.Guider(**options).attach(scheduler)
    x = torch.randn(denoiser.latents, generator=torch.Generator().manual_seed(1))
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(1000 * share).round())
    found: dict[str, Tensor] = {}
    for one in guider.prepare_inputs({"text": texts()}):
        guider.prepare_models(module)
        with torch.no_grad():
            found[one.as_dict()["__guidance_identifier__"]] = denoiser.call(module, x, one.text)
        guider.cleanup_models(module)
    return found, guider


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("name", DENOISERS)
def test_every_guidance_has_an_effect(name: str, options: dict[str, Any]) -> None:
    module = DENOISERS[name].build()
    base = "pred_cond" if "kind" in options else "pred_uncond"
    for share in STRENGTHS:
        found, guider = step(name, module, share, **options)
        worse = found["pred_degraded"]
        assert bool(torch.isfinite(worse).all())
        effect = (found[base] - worse).abs().max()
        assert effect > 1e-4 * found[base].abs().max()
        if "mask" in options:
            (part,) = guider.shares
            assert part == 1.0 if options["mask"] == "all" else 0.0 < part < 1.0


@pytest.mark.parametrize("kind", ["identity", "smooth", "shuffle"])
@pytest.mark.parametrize("name", DENOISERS)
def test_fewer_heads_are_another_effect(name: str, kind: str) -> None:
    module = DENOISERS[name].build()
    every, one, other = (
        step(name, module, 0.5, kind=kind, heads=heads)[0]["pred_degraded"] for heads in (None, [0], [1])
    )
    assert not torch.allclose(every, one, atol=1e-6)
    assert not torch.allclose(one, other, atol=1e-6)
    several = step(name, module, 0.5, kind=kind, heads=[0, 1, 2, 3])[0]["pred_degraded"]
    torch.testing.assert_close(several, every, rtol=1e-5, atol=1e-5 * float(every.abs().max()))


@pytest.mark.parametrize("name", DENOISERS)
def test_more_layers_are_another_effect(name: str) -> None:
    module = DENOISERS[name].build()
    default = step(name, module, 0.5, kind="identity")[0]["pred_degraded"]
    every = step(name, module, 0.5, kind="identity", layers=DENOISERS[name].layers)[0]["pred_degraded"]
    assert not torch.allclose(default, every, atol=1e-6)


def test_the_name_of_one_block_means_no_other() -> None:
    """Unlike that of diffusers' pipelines, in which "blocks.1" means "blocks.10" too."""
    module = made("SD3Transformer2DModel", **models.SD3 | {"num_layers": 11})
    for asked in ("transformer_blocks.1", "transformer_blocks.1.attn"):
        assert layers_of(module, asked) == ("transformer_blocks.1.attn",)

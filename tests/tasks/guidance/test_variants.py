"""Pipelines beside those from text to picture: from pictures, inside masks, with ControlNet, with references."""

from __future__ import annotations

from typing import Any

import PIL.Image
import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from tests.diffusion import pipelines  # noqa: E402
from tokenrank.tasks import guide  # noqa: E402

from .classic import FAMILIES, denoiser_of, hooks, pipe_of  # noqa: E402

SIZE = (pipelines.WIDTH, pipelines.HEIGHT)
PICTURE = PIL.Image.radial_gradient("L").resize(SIZE).convert("RGB")
MASK = PIL.Image.linear_gradient("L").resize(SIZE)


def other(name: str, kind: str, **parts: Any) -> Any:
    """A pipeline of another class with the parts of a family's."""
    components = pipe_of(name).components | parts
    more = {"requires_safety_checker": False} if name == "SD1.5" else {}
    return pipelines.quiet(getattr(diffusers, kind)(**components, **more))


def stable(kind: str, **given: Any) -> tuple[Any, dict[str, Any]]:
    return other("SD1.5", kind), {"prompt": "a cat", "strength": 0.7, "num_inference_steps": 4} | given


def inpainting_unet() -> tuple[Any, dict[str, Any]]:
    config = dict(denoiser_of(pipe_of("SD1.5")).config) | {"in_channels": 9}  # type: ignore[call-overload]
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel.from_config(config).eval()
    return other("SD1.5", "StableDiffusionInpaintPipeline", unet=unet), {
        "prompt": "a cat", "image": PICTURE, "mask_image": MASK, "num_inference_steps": 3, "height": SIZE[1],
        "width": SIZE[0],
    }  # fmt: skip


def control_net() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    net = diffusers.ControlNetModel.from_unet(
        denoiser_of(pipe_of("SD1.5")), conditioning_embedding_out_channels=(16, 16)
    ).eval()
    for weights in net.parameters():  # it begins with zeros, which say nothing
        torch.nn.init.normal_(weights, std=0.1)
    pipe = other("SD1.5", "StableDiffusionControlNetPipeline", controlnet=net)
    return pipe, {"prompt": "a cat", "image": PICTURE, "num_inference_steps": 3}


def embedded(name: str) -> dict[str, Any]:
    first, second = FAMILIES[name].texts()
    return first | {f"negative_{key}": value for key, value in second.items()}


VARIANTS: dict[str, Any] = {
    "SD1.5 from a picture": lambda: stable("StableDiffusionImg2ImgPipeline", image=PICTURE),
    "SD1.5 in a mask": lambda: stable(
        "StableDiffusionInpaintPipeline", image=PICTURE, mask_image=MASK, height=SIZE[1], width=SIZE[0]
    ),
    "SD1.5 with a UNet for masks": inpainting_unet,
    "SD1.5 with ControlNet": control_net,
    "SD3 from a picture": lambda: (
        other("SD3", "StableDiffusion3Img2ImgPipeline"),
        {"prompt": "a cat", "image": PICTURE, "strength": 0.7, "num_inference_steps": 4, "max_sequence_length": 8,
         "height": SIZE[1], "width": SIZE[0]},
    ),
    "FLUX.1 from a picture": lambda: (
        other("FLUX.1", "FluxImg2ImgPipeline"),
        embedded("FLUX.1") | {"image": PICTURE, "strength": 0.7, "num_inference_steps": 4, "true_cfg_scale": 3.0,
                              "height": SIZE[1], "width": SIZE[0]},
    ),
    "FLUX.2 with a reference": lambda: (
        pipe_of("FLUX.2"),
        embedded("FLUX.2") | {"image": PICTURE.resize((64, 64)), "num_inference_steps": 3, "height": SIZE[1],
                              "width": SIZE[0]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(VARIANTS))
def test_they_are_guided(name: str) -> None:
    pipe, given = VARIANTS[name]()

    def made() -> torch.Tensor:
        out: torch.Tensor = pipe(**given, output_type="latent", generator=torch.Generator().manual_seed(2)).images
        return out

    plain = made()
    for how in ({"mask": "tokenrank"}, {"kind": "identity"}):
        with guide(pipe, **how) as guidance:
            changed = made()
        assert torch.isfinite(changed).all()
        assert float((changed - plain).abs().max()) > 1e-5
        assert guidance.passes >= 2
    assert hooks(pipe) == 0
    assert torch.equal(made(), plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["SD1.5", "FLUX.1"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    pipe = FAMILIES[name].build()
    pipe.to(dtype)
    first, _ = FAMILIES[name].texts()
    given = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in first.items()}
    more = dict(FAMILIES[name].size) | {"num_inference_steps": 3, "output_type": "latent"}
    with guide(pipe) as guidance:
        made = pipe(**given, **more).images
    assert torch.isfinite(made).all()
    assert made.dtype == dtype
    assert guidance.passes == 3

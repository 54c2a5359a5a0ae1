"""DiffSeg's protocol with its own network: the self-attention of a denoiser on the picture without noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import PIL.Image
import torch

from ...denoisers.family import family_of
from ...denoisers.look import passes
from ...errors import InputError
from ...models import Model
from ...observation import Observation
from ...reading import observe
from ...tasks.strength import unjudged
from ...trace import capture
from .segmentation import Clustering

TIMESTEP = 300
"""Of the time embedding, though the picture has no noise [V]."""


@dataclass(frozen=True)
class DiffSeg(Clustering):
    """``Clustering`` on the trace of a denoiser that is given the picture without noise, an empty prompt and one time.

    Args:
        classes, pixels: see ``Clustering``; the pipeline gets the square at ``size``, 512 where None.
        timestep: that the denoiser is told.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), the authors' code.
    """

    name: ClassVar[str] = "diffseg"

    timestep: int = TIMESTEP

    def _observed(self, model: Model, image: PIL.Image.Image) -> Observation:
        if model.pipeline is None:
            raise InputError(f"model {model.name!r} is no denoiser, expected a pipeline of diffusers: its folder")
        return unjudged(observe_clean(model, image, self.timestep, self.size or self.pixels))


def observe_clean(model: Model, image: PIL.Image.Image, timestep: int, size: int) -> Observation:
    """One forward call of a denoiser on the latents of a picture as they are.

    Args:
        model: of a pipeline.
        timestep: that it is told.
        size: long side in pixels.
    """
    (made,) = passes(model.pipeline, image, "", noise=0.5, size=size)
    family = family_of(model.pipeline)
    time = made.inputs[family.timestep]
    told = family.told(torch.tensor(float(timestep))).to(time).reshape(time.shape)
    inputs = {**made.inputs, family.latents: made.clean.to(made.inputs[family.latents].dtype), family.timestep: told}
    with capture(made.denoiser) as trace, torch.no_grad():
        made.denoiser(**inputs)
    return observe(trace, model=model, prompt="", image=image)

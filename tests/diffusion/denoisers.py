"""Tiny denoisers with random weights, each with one call of it, for tests of guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance import diffusers_models as models
from tests.conformance.transformers_shared import peaky
from tests.diffusion.pipelines import made

Z_IMAGE: dict[str, Any] = {
    "in_channels": 4, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4,
    "cap_feat_dim": 16, "axes_dims": [4, 2, 2], "axes_lens": [128, 32, 32],
}  # fmt: skip
FLUX1: dict[str, Any] = models.MMDIT | {
    "patch_size": 1,
    "in_channels": 16,
    "num_single_layers": 2,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (2, 2, 4),
}
FLUX2: dict[str, Any] = models.MMDIT | {
    "patch_size": 1, "in_channels": 16, "num_single_layers": 2, "axes_dims_rope": (2, 2, 2, 2),
    "timestep_guidance_channels": 16, "guidance_embeds": False,
}  # fmt: skip
QWEN: dict[str, Any] = models.MMDIT | {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "axes_dims_rope": (2, 2, 4),
}


GRIDS = {24: (4, 6), 40: (8, 5)}
"""Tokens → rows and columns of them."""


LATENTS, TOKENS = ((1, 4, 8, 12), (1, 4, 16, 10)), ((1, 24, 16), (1, 40, 16))


@dataclass(frozen=True)
class Denoiser:
    """A denoiser of diffusers.

    Attributes:
        name: of its class.
        config: what it is made of.
        call: from the module, latents and text to what it predicts, at half of the noise.
        sizes: shapes of latents, one sample: 8 × 12 of them, and 16 × 10, or as many as tokens.
        layers: glob of the attention of pictures.
        stack: name of the list of blocks, as diffusers' guiders ask for it.
    """

    name: str
    config: dict[str, Any]
    call: Callable[[nn.Module, Tensor, Tensor], Tensor]
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    layers: str
    stack: str

    @property
    def latents(self) -> tuple[int, ...]:
        """Shape of 8 × 12 latents."""
        return self.sizes[0]

    @property
    def tall(self) -> tuple[int, ...]:
        """Shape of 16 × 10 latents."""
        return self.sizes[1]

    def build(self) -> nn.Module:
        """The same weights every time, large enough that attention is not even."""
        return peaky(made(self.name, **self.config), 0.2)


def _unet(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    out: Tensor = module(x, torch.tensor(500), encoder_hidden_states=text, return_dict=False)[0]
    return out


def _sdxl(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    more = {"text_embeds": text[:, 0], "time_ids": torch.ones(len(x), 6)}
    out: Tensor = module(
        x, torch.tensor(500), encoder_hidden_states=text, added_cond_kwargs=more, return_dict=False
    )[0]  # fmt: skip
    return out


def _sd3(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    out: Tensor = module(
        hidden_states=x, encoder_hidden_states=text, pooled_projections=text[:, 0],
        timestep=torch.full((len(x),), 500.0), return_dict=False,
    )[0]  # fmt: skip
    return out


def _flux(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    out: Tensor = module(
        hidden_states=x, encoder_hidden_states=text, pooled_projections=text[:, 0],
        timestep=torch.full((len(x),), 0.5), img_ids=models.ids(1, *GRIDS[x.shape[1]]),
        txt_ids=torch.zeros(text.shape[1], 3), return_dict=False,
    )[0]  # fmt: skip
    return out


def _flux2(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    words = torch.zeros(text.shape[1], 4)
    words[:, 3] = torch.arange(text.shape[1])
    out: Tensor = module(
        hidden_states=x, encoder_hidden_states=text, timestep=torch.full((len(x),), 0.5),
        img_ids=models.ids(1, *GRIDS[x.shape[1]], 1), txt_ids=words, guidance=None, return_dict=False,
    )[0]  # fmt: skip
    return out


def _qwen(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    out: Tensor = module(
        hidden_states=x, encoder_hidden_states=text, timestep=torch.full((len(x),), 0.5),
        encoder_hidden_states_mask=torch.ones(text.shape[:2], dtype=torch.bool),
        img_shapes=[[(1, *GRIDS[x.shape[1]])]] * len(x),
        return_dict=False,
    )[0]  # fmt: skip
    return out


def _z_image(module: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    out = module(
        x=list(x.unsqueeze(2)), t=torch.full((len(x),), 0.5), cap_feats=list(text), return_dict=False
    )[0]  # fmt: skip
    return torch.stack(out).squeeze(2)


DENOISERS = {
    "SD1.5": Denoiser(
        "UNet2DConditionModel", models.SD15, _unet, LATENTS, "*attn1", "mid_block.attentions.0.transformer_blocks"
    ),
    "SDXL": Denoiser(
        "UNet2DConditionModel", models.SDXL | {"projection_class_embeddings_input_dim": 64}, _sdxl, LATENTS,
        "*attn1", "mid_block.attentions.0.transformer_blocks",
    ),
    "SD3": Denoiser("SD3Transformer2DModel", models.SD3, _sd3, LATENTS, "*attn", "transformer_blocks"),
    "FLUX": Denoiser("FluxTransformer2DModel", FLUX1, _flux, TOKENS, "*attn", "transformer_blocks"),
    "FLUX.2": Denoiser("Flux2Transformer2DModel", FLUX2, _flux2, TOKENS, "*attn", "transformer_blocks"),
    "Qwen-Image": Denoiser("QwenImageTransformer2DModel", QWEN, _qwen, TOKENS, "*attn", "transformer_blocks"),
    "Z-Image": Denoiser("ZImageTransformer2DModel", Z_IMAGE, _z_image, LATENTS, "layers.*", "layers"),
}  # fmt: skip


def texts(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Text with meaning and text without, (1, 7, 16) each."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, 1, 7, 16, generator=generator).unbind()
    return one, other

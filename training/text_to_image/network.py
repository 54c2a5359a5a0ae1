"""A FLUX of diffusers with 2.9 million parameters and a text encoder of one layer, as one module."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from .pictures import CELL
from .words import LENGTH

HEADS, HEAD = 6, 24
TEXT, POOLED = 96, 16
CHANNELS = 3 * CELL**2


class Painter(nn.Module):
    """Denoiser and text encoder. The pooled vector is zero: what it knows of words comes through attention."""

    def __init__(self, vocabulary: int, dual: int = 2, single: int = 4) -> None:
        super().__init__()
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=vocabulary, d_model=TEXT, d_kv=TEXT // 4, d_ff=2 * TEXT, num_layers=1, num_heads=4,
                dropout_rate=0.0, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
                decoder_start_token_id=0, relative_attention_num_buckets=16,
            )
        )  # fmt: skip
        self.denoiser: Any = FluxTransformer2DModel(
            patch_size=1, in_channels=4 * CHANNELS, num_layers=dual, num_single_layers=single, attention_head_dim=HEAD,
            num_attention_heads=HEADS, joint_attention_dim=TEXT, pooled_projection_dim=POOLED, guidance_embeds=False,
            axes_dims_rope=(HEAD - 2 * (HEAD // 3), HEAD // 3, HEAD // 3),
        )  # fmt: skip
        for name, module in self.denoiser.named_modules():
            gate = isinstance(module, nn.Linear) and (".norm" in name or name.startswith("norm_out"))
            if gate or name == "proj_out":  # every block begins as the identity (Peebles and Xie 2023)
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, latents: Tensor, noise: Tensor, ids: Tensor) -> Tensor:
        """The flow, noise minus picture: (B, 12, h, w) latents at shares of noise (B,), captions (B, LENGTH)."""
        rows, columns = latents.shape[-2] // 2, latents.shape[-1] // 2
        words = self.text_encoder(input_ids=ids).last_hidden_state  # padding is attended to, as in FLUX
        found = self.denoiser(
            hidden_states=pack(latents), encoder_hidden_states=words, timestep=noise,
            pooled_projections=words.new_zeros(len(words), POOLED), img_ids=places(rows, columns),
            txt_ids=torch.zeros(LENGTH, 3), return_dict=False,
        )[0]  # fmt: skip
        return unpack(found, rows, columns)


def places(rows: int, columns: int) -> Tensor:
    """(rows · columns, 3): what FLUX's rotary positions are given."""
    return torch.cartesian_prod(torch.zeros(1), torch.arange(float(rows)), torch.arange(float(columns)))


def pack(latents: Tensor) -> Tensor:
    """Two by two cells to a token, in the order of FLUX's pipeline."""
    rows, columns = latents.shape[-2] // 2, latents.shape[-1] // 2
    cells = latents.unflatten(2, (rows, 2)).unflatten(4, (columns, 2))
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(len(latents), rows * columns, -1)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """``pack`` undone."""
    cells = tokens.reshape(len(tokens), rows, columns, -1, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, 2 * rows, 2 * columns)


def flow_loss(painter: nn.Module, latents: Tensor, ids: Tensor) -> Tensor:
    """Squared error of the flow at shares of noise drawn logit-normally (Esser et al. 2024)."""
    share, fresh = torch.sigmoid(torch.randn(len(latents))), torch.randn_like(latents)
    mixed = share.view(-1, 1, 1, 1)
    return F.mse_loss(painter((1 - mixed) * latents + mixed * fresh, share, ids), fresh - latents)

"""The autoencoder of the pipeline: an encoder that only moves pixels, and a decoder that was trained to move them back.

    python -m training.text_to_image.autoencoder DATA OUT --minutes 8

FLUX's pipeline wants an autoencoder of diffusers. The encoder is written down, not trained: its latents are the four
pixels of a cell side by side, so that the denoiser works on pixels. The decoder of that class repeats each cell before
its last convolutions, which cannot undo the encoder by weights alone (they do not see which quarter of a cell they are
at); it is trained, and its error is printed.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from ..data import load_split
from .network import CHANNELS
from .pictures import CELL, SIDE, single, to_latents

WIDTH = 48
BATCH, RATE, NOISE = 32, 2e-3, 0.03  # noise: what a denoiser leaves


def make_autoencoder() -> Any:
    """``AutoencoderTiny`` with one halving and the encoder that moves pixels; its decoder is not trained."""
    torch.manual_seed(0)
    made: Any = AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS, CHANNELS), decoder_block_out_channels=(WIDTH, WIDTH),
        latent_channels=CHANNELS, num_encoder_blocks=(0, 0), num_decoder_blocks=(3, 1),
    )  # fmt: skip
    first, halving, last = (layer for layer in made.encoder.layers if isinstance(layer, nn.Conv2d))
    for weight in made.encoder.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        for colour in range(3):
            first.weight[colour, colour, 1, 1] = 1
            for down in range(CELL):
                for right in range(CELL):
                    halving.weight[CELL**2 * colour + CELL * down + right, colour, 1 + down, 1 + right] = 1
        for channel in range(CHANNELS):
            last.weight[channel, channel, 1, 1] = 2  # the class hands over values from 0 to 1
        last.bias.fill_(-1)
    return made


def load_small(data: Path, stem: str) -> Tensor:
    """All pictures (M, 3, 32, 32) from −1 to 1."""
    pictures, _ = load_split(data, stem, 2 * SIDE)
    return torch.cat([single(part.float() / 127.5 - 1) for part in pictures.split(1000)])


def decibels(autoencoder: Any, pictures: Tensor) -> float:
    """Peak signal to noise of pictures that were encoded and decoded."""
    with torch.no_grad():
        error = F.mse_loss(autoencoder.decode(to_latents(pictures)).sample, pictures)
    return float(10 * torch.log10(4 / error))


def train(data: Path, minutes: float) -> Any:
    """The autoencoder, its decoder trained for some minutes."""
    autoencoder, pictures = make_autoencoder(), load_small(data, "train")
    held = load_small(data, "val")[:256]
    with torch.no_grad():
        gap = float((autoencoder.encode(held).latents - to_latents(held)).abs().max())
    if gap > 1e-5:
        raise ValueError(f"the encoder is {gap:.1e} from moving pixels, expected nothing")
    optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), RATE, betas=(0.9, 0.98))
    began, step = time.monotonic(), 0
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress))
        chosen = pictures[torch.randint(len(pictures), (BATCH,))]
        latents = to_latents(chosen)
        loss = F.mse_loss(autoencoder.decode(latents + NOISE * torch.randn_like(latents)).sample, chosen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step}, {60 * minutes * progress:.0f} s, {decibels(autoencoder, held):.2f} dB", flush=True)
    print(f"{step} steps, {decibels(autoencoder, held):.2f} dB on held-out pictures")
    return autoencoder.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    given = parser.parse_args()
    train(given.data, given.minutes).save_pretrained(given.out)


if __name__ == "__main__":
    main()

"""Where is a word? Follow its attention, or trace attention back to it: measured on a denoiser that was trained here.

    python benchmarks/word_direction.py train --minutes 5      # again and again; goes on from what there is
    python benchmarks/word_direction.py measure                # benchmarks/results/word_direction.json
    python benchmarks/word_direction.py page --out word.html   # the explorer of one more scene

Trained weights of FLUX are not to be had offline, and random ones bind no word to a place. So a FLUX of diffusers with
0.47 million parameters learns scenes of two shapes ("red disc and blue bar") by flow matching, on a CPU. Where a thing
stands is known exactly: of the map of the word of its colour, on the picture, the area under the ROC curve against
the thing is taken (0.5 is chance), for noised scenes that were not trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenrank as tr

CELLS, PATCH, WORDS = 12, 4, 8
SIDE = CELLS * PATCH
COLOURS = {
    "red": (0.9, 0.15, 0.15), "green": (0.15, 0.7, 0.25), "blue": (0.2, 0.3, 0.95), "yellow": (0.95, 0.85, 0.2),
    "white": (0.95, 0.95, 0.95), "violet": (0.6, 0.2, 0.8),
}  # fmt: skip
SHAPES = ("disc", "square", "bar")
VOCABULARY = ("<pad>", "and", *COLOURS, *SHAPES)
PLACES = {0: 0, 3: 1}  # tokens of the two colours: which thing each is of
BATCH, RATE, LONGEST = 32, 2e-3, 800
HELD_OUT = 7
RESULT = Path(__file__).parent / "results" / "word_direction.json"


class Painter(nn.Module):
    """A FLUX with embeddings for eleven words; it is told of the words through attention alone."""

    def __init__(self) -> None:
        import diffusers

        super().__init__()
        torch.manual_seed(0)
        self.flux = diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=3 * PATCH**2, num_layers=2, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=4, joint_attention_dim=32, pooled_projection_dim=8, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        self.words = nn.Embedding(len(VOCABULARY), 32)
        self.places = nn.Parameter(torch.randn(WORDS, 32) / 2)

    def forward(self, tokens: Tensor, words: Tensor, noise: Tensor) -> Tensor:
        """Flow (B, cells, channels) of noised scenes at shares of noise (B,)."""
        cells = torch.cartesian_prod(torch.zeros(1), *[torch.arange(float(CELLS))] * 2)
        return self.flux(
            hidden_states=tokens, encoder_hidden_states=self.words(words) + self.places, timestep=noise,
            pooled_projections=torch.zeros(len(tokens), 8), img_ids=cells, txt_ids=torch.zeros(WORDS, 3),
        ).sample  # fmt: skip


def scenes(count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, side, side) from −1 to 1, words (B, 8), and where the two things stand, (B, 2, side, side)."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    colours = torch.stack([torch.randperm(len(COLOURS), generator=random)[:2] for _ in range(count)])
    kinds = torch.randint(len(SHAPES), (count, 2), generator=random)
    radius, turn, swap = 6.5 + 3 * uniform(count, 2), uniform(count) < 0.5, uniform(count) < 0.5
    near = 6 * uniform(count, 2)
    across = torch.stack([11 + near[:, 0], SIDE - 11 - near[:, 1]], 1)
    centre = torch.stack([across, 11 + (SIDE - 22) * uniform(count, 2)], -1)
    centre = torch.where(turn[:, None, None], centre.flip(-1), centre)
    centre = torch.where(swap[:, None, None], centre.flip(1), centre)
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    dx, dy, r = x - centre[..., 0, None, None], y - centre[..., 1, None, None], radius[..., None, None]
    inside = torch.stack([
        dx**2 + dy**2 < r**2,
        (dx.abs() < 0.9 * r) & (dy.abs() < 0.9 * r),
        (dx.abs() < 1.25 * r) & (dy.abs() < 0.5 * r),
    ])  # fmt: skip
    masks = inside.gather(0, kinds[None, :, :, None, None].expand(1, -1, -1, SIDE, SIDE))[0]
    pictures = torch.full((count, 3, SIDE, SIDE), 0.32)
    palette = torch.tensor(list(COLOURS.values()))
    for thing in range(2):
        pictures = torch.where(masks[:, thing, None], palette[colours[:, thing]][..., None, None], pictures)
    pictures = pictures + 0.03 * torch.randn(pictures.shape, generator=random)
    words = torch.zeros(count, WORDS, dtype=torch.long)
    words[:, [0, 3]], words[:, 2] = 2 + colours, 1
    words[:, [1, 4]] = 2 + len(COLOURS) + kinds
    return 2 * pictures - 1, words, masks


def packed(pictures: Tensor) -> Tensor:
    """Pictures as tokens, cell by cell."""
    cells = pictures.reshape(-1, 3, CELLS, PATCH, CELLS, PATCH).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(-1, CELLS**2, 3 * PATCH**2)


def train(path: Path, minutes: float) -> None:
    """Go on with training for some minutes, to ``LONGEST`` steps at most."""
    model, steps = Painter(), 0
    optimiser = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.01)
    if path.exists():
        kept = torch.load(path, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        steps = kept["steps"]
    random, began, losses = torch.Generator().manual_seed(1000 + steps), time.monotonic(), [0.0]
    while steps < LONGEST and time.monotonic() - began < 60 * minutes:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (steps + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * steps / LONGEST))
        pictures, words, _ = scenes(BATCH, random)
        noise = torch.sigmoid(torch.randn(BATCH, generator=random) + 0.3)
        clean, fresh = packed(pictures), torch.randn(BATCH, CELLS**2, 3 * PATCH**2, generator=random)
        share = noise[:, None, None]
        loss = (model((1 - share) * clean + share * fresh, words, noise) - (fresh - clean)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        steps, losses = steps + 1, [*losses[-49:], loss.item()]
        if steps % 50 == 0:
            print(f"step {steps}, loss {np.mean(losses):.4f}, {time.monotonic() - began:.0f} s", flush=True)
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "steps": steps}, path)


def trained(path: Path) -> tuple[Painter, int]:
    """The network, and after how many steps."""
    kept, model = torch.load(path, weights_only=True), Painter()
    model.load_state_dict(kept["model"])
    return model.eval(), kept["steps"]


def area(values: Tensor, inside: Tensor) -> float:
    """Area under the ROC curve of values (cells,) against a bool mask."""
    ranks = values.argsort().argsort().double() + 1
    many = int(inside.sum())
    return float((ranks[inside].sum() - many * (many + 1) / 2) / (many * (len(values) - many)))


def maps(trace: tr.Trace, layer: str) -> Iterator[tuple[str, int, Tensor]]:
    """Direction, bounces and maps (scenes, colours, cells) of the words of colours; heads evenly."""
    forward = trace[layer].operator.to_dense(torch.float64).mean(1)
    backward = (forward / forward.sum(-2, keepdim=True)).mT
    for direction, step in (("forward", forward), ("backward", backward)):
        at = torch.eye(forward.shape[-1], dtype=torch.float64)[list(PLACES)].expand(len(forward), -1, -1)
        for bounces in (1, 2, 3):
            at = at @ step
            yield direction, bounces, at[..., WORDS:]


def measure(path: Path, count: int) -> dict[str, Any]:
    """Mean area under the curve, by share of noise, layer, direction and bounces."""
    model, steps = trained(path)
    random = torch.Generator().manual_seed(HELD_OUT)
    pictures, words, masks = scenes(count, random)
    inside = F.avg_pool2d(masks.float(), PATCH).flatten(2) > 0.5
    rows = []
    for noise in (0.9, 0.7, 0.5):
        tokens = (1 - noise) * packed(pictures)
        tokens = tokens + noise * torch.randn(tokens.shape, generator=random)
        with torch.no_grad(), tr.capture(model.flux) as trace:
            model(tokens, words, torch.full((count,), noise))
        for layer in trace:
            for direction, bounces, found in maps(trace, layer):
                areas = [
                    area(found[i, j], inside[i, thing]) for i in range(count) for j, thing in enumerate(PLACES.values())
                ]
                rows.append({"noise": noise, "layer": layer, "direction": direction, "bounces": bounces,
                             "auc": round(float(np.mean(areas)), 3)})  # fmt: skip
    return {"steps": steps, "scenes": count, "rows": rows}


def page(path: Path, out: Path) -> None:
    """A scene that was not trained on, at four shares of noise, as an explorer."""
    model, _ = trained(path)
    random = torch.Generator().manual_seed(HELD_OUT)
    pictures, words, _ = scenes(1, random)
    with torch.no_grad(), tr.capture(model.flux) as trace:
        for noise in (0.9, 0.7, 0.5, 0.3):
            fresh = torch.randn(1, CELLS**2, 3 * PATCH**2, generator=random)
            model((1 - noise) * packed(pictures) + noise * fresh, words, torch.full((1,), noise))
    pixels = ((pictures[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).byte().numpy()
    picture = PIL.Image.fromarray(pixels).resize((480, 480), PIL.Image.Resampling.BICUBIC)
    text = [VOCABULARY[word] for word in words[0]]
    trace.explore(picture=picture, text=text, title="a small FLUX, trained on scenes of two shapes").save(out)


def main() -> None:
    """Train, measure, or make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure", "page"])
    parser.add_argument("--weights", type=Path, default=Path("word_direction.pt"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "train":
        train(given.weights, given.minutes)
    elif given.what == "measure":
        found = measure(given.weights, given.scenes)
        (given.out or RESULT).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        for row in found["rows"]:
            print(*row.values())
    else:
        page(given.weights, given.out or Path("word_direction.html"))


if __name__ == "__main__":
    main()

"""Train the bundled model.

    python -m training.train DATA OUT --minutes 85

DATA holds the Parquet shards of Tiny-ImageNet-200. OUT receives ``checkpoint.pt`` every few
minutes (a second start with the same OUT continues from it), ``log.jsonl`` and at the end
the model folder. The resolution grows with the time spent: rotary positions carry over, and
at 32 pixels an image costs a third of what it costs at 64.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from .data import load_split
from .export import export
from .network import PATCH, Classifier
from .objective import mix, token_cutmix_loss
from .optim import make_optimizers, set_rates

PHASES = ((0.0, 32), (0.2, 48), (0.6, 64))  # (share of the time from which, pixels)
SAVE_EVERY_SECONDS = 240.0


def resolution(progress: float) -> int:
    return max(size for start, size in PHASES if progress >= start)


def train(data: Path, out: Path, minutes: float, width: int, layers: int, heads: int, batch: int, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    images, labels = load_split(data, "train")
    network = Classifier(width, layers, heads)
    optimizers = make_optimizers(network)
    step, seen, before = 0, 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, seen, before = state["step"], state["seen"], state["elapsed"]
    forward = torch.compile(network, dynamic=False)
    start, saved_at = time.monotonic(), time.monotonic()
    with open(out / "log.jsonl", "a") as log:
        while (elapsed := before + time.monotonic() - start) < 60 * minutes:
            progress = elapsed / (60 * minutes)
            size = resolution(progress)
            set_rates(optimizers, step, progress)
            chosen = torch.randint(0, len(images), (batch,))
            mixed = mix(images[chosen], labels[chosen], size, PATCH)
            with torch.autocast("cpu", torch.bfloat16):
                cls_logits, patch_logits = forward(mixed.pixels)
            loss, patches = token_cutmix_loss(cls_logits, patch_logits, mixed)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            step, seen = step + 1, seen + batch
            if step % 25 == 0:
                row = {"minutes": elapsed / 60, "step": step, "seen": seen, "pixels": size}
                row |= {"loss": loss.item(), "patch_loss": patches.item()}
                print(json.dumps(row), file=log, flush=True)
            if time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                saved_at = time.monotonic()
                state = {"network": network.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
                state |= {"step": step, "seen": seen, "elapsed": elapsed}
                torch.save(state, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").rename(checkpoint)
    facts = {"samples": seen, "steps": step, "minutes": minutes, "seed": seed, "batch": batch}
    export(network, out / "model", data, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=85)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

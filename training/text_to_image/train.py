"""Train the small FLUX on labelled pictures and mosaics of two of them, in the time that is given.

    python -m training.text_to_image.train DATA OUT --minutes 90

DATA holds ``train*.parquet`` (``image``: JPEG bytes of 64 × 64 pixels, ``label``) and ``classes.txt`` (number, wnid,
names; a tab between). OUT receives ``checkpoint.pt`` now and then, from which a second start goes on, and
``log.jsonl``. ``training.text_to_image.export`` makes a pipeline of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .network import Painter, flow_loss
from .pictures import draw, load_classes, to_latents
from .words import Captions, class_names, make_tokenizer

CLASSES = (196, 44, 22, 41, 116, 52, 42, 55, 188, 8, 2, 15, 94, 11, 109, 34, 60, 175, 16, 4)
"""Of the 60 that the bundled classifier knows best at 32 × 32 pixels, 20 of which no two look alike."""

LOG_EVERY, SAVE_EVERY = 50, 120.0  # steps, seconds
WARMUP, FALL = 100, 0.35  # steps; the share of the time in which rates fall to nothing
MUON_RATE, ADAMW_RATE = 0.02, 2e-3
AVERAGE = 0.9985


@dataclass(frozen=True)
class Recipe:
    """What is done.

    Args:
        minutes: of training.
        batch: pictures a step.
        mosaics: share of a batch that are two pictures.
        drop: share of captions that are emptied, for guidance.
        seed: of everything random.
    """

    minutes: float = 90
    batch: int = 64
    mosaics: float = 0.35
    drop: float = 0.1
    seed: int = 0


class Run:
    """A network under way: what a checkpoint holds, and one step."""

    def __init__(self, data: Path, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        names = [class_names(data / "classes.txt")[number] for number in CLASSES]
        vocabulary = make_tokenizer(names).get_vocab()
        self.recipe, self.captions = recipe, Captions(names, vocabulary)
        self.pictures, self.labels = load_classes(data, "train", CLASSES)
        self.painter, self.average = Painter(len(vocabulary)), Painter(len(vocabulary)).requires_grad_(False)
        self.average.load_state_dict(self.painter.state_dict())
        self.optimizers = make_optimizers(self.painter)
        self.steps, self.elapsed = 0, 0.0

    def step(self) -> Tensor:
        """One batch; its loss."""
        mixed, first, second, both = draw(self.pictures, self.labels, self.recipe.batch, self.recipe.mosaics)
        loss = flow_loss(self.painter, to_latents(mixed), self.captions(first, second, both, self.recipe.drop))
        loss.backward()
        nn.utils.clip_grad_norm_(self.painter.parameters(), 1.0)
        progress = self.elapsed / (60 * self.recipe.minutes)
        rate = min(1.0, (self.steps + 1) / WARMUP, max(0.0, (1 - progress) / FALL) + 0.01)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        keep = min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.painter.parameters()), 1 - keep)
        self.steps += 1
        return loss.detach()

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        state = {
            "painter": self.painter.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": torch.get_rng_state(),
            "counts": (self.steps, self.elapsed),
            "recipe": asdict(self.recipe),
        }
        torch.save(state, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def restore(self, file: Path) -> None:
        """Go on from a checkpoint."""
        state: dict[str, Any] = torch.load(file, weights_only=True)
        self.painter.load_state_dict(state["painter"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        torch.set_rng_state(state["random"])
        self.steps, self.elapsed = state["counts"]


def make_optimizers(painter: Painter) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside of blocks, AdamW for the rest."""
    named = [(name, weight) for name, weight in painter.denoiser.named_parameters()]
    inner = [w for name, w in named if w.ndim == 2 and "transformer_blocks" in name and ".norm" not in name]
    chosen = {id(weight) for weight in inner}
    rest = [weight for weight in painter.parameters() if id(weight) not in chosen]
    groups = [
        {"params": [w for w in rest if w.ndim > 1], "weight_decay": 0.01},
        {"params": [w for w in rest if w.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inner, lr=MUON_RATE, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(groups, lr=ADAMW_RATE, betas=(0.9, 0.95)),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return optimizers


def train(data: Path, out: Path, recipe: Recipe, clock: Callable[[], float] = time.monotonic) -> Run:
    """Train until the time is used up, with a checkpoint now and then."""
    out.mkdir(parents=True, exist_ok=True)
    run, checkpoint = Run(data, recipe), out / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    print(f"{len(run.pictures)} pictures, {sum(w.numel() for w in run.painter.parameters()) / 1e6:.2f} M weights")
    before, saved, mean = clock(), 0.0, None
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        while run.elapsed < 60 * recipe.minutes:
            loss = run.step()
            if not bool(loss.isfinite()):
                raise ValueError(f"the loss is not finite at step {run.steps}; train with lower rates")
            mean = loss if mean is None else mean.lerp(loss, 0.02)
            now = clock()
            run.elapsed, before, saved = run.elapsed + now - before, now, saved + now - before
            if run.steps % LOG_EVERY == 0:
                row = {"step": run.steps, "seconds": round(run.elapsed), "loss": round(float(mean), 4)}
                print(json.dumps(row), file=log, flush=True)
            if saved > SAVE_EVERY:
                run.save(checkpoint)
                saved = 0.0
    run.save(checkpoint)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    given = parser.parse_args()
    train(given.data, given.out, Recipe(minutes=given.minutes, batch=given.batch, seed=given.seed))


if __name__ == "__main__":
    main()

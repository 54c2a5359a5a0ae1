"""Distil a vision transformer into the small one that is bundled, in the time that is given.

    python -m training.train TEACHER DATA OUT --seconds 350

TEACHER is a folder of transformers (DINOv2-small: ``python -m benchmarks.networks dinov2-small TEACHER``). DATA holds
the shards ``train*.parquet`` (64 × 64, labelled), ``val.parquet`` and, where there are any, ``extra*.parquet`` (sharp
pictures, unlabelled). OUT receives ``checkpoint.pt`` now and then (a second start with the same OUT continues from it),
``log.jsonl`` and at the end the model folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .augment import Crops
from .data import load_split
from .export import export
from .match import losses
from .network import PATCH, Student
from .optim import make_optimizers, set_rates
from .teacher import Teacher
from .validate import SIDE, SIZES, validate, whole_numbers

EXTRA_SIDE = 256
SAVE_EVERY = 60.0  # seconds
LOG_EVERY = 25  # steps


@dataclass(frozen=True)
class Recipe:
    """What is done, beside teacher and data.

    Args:
        seconds: of training; loading and validation come on top.
        batch: pictures of 16 × 16 patches at a time; of other grids as many as have as many patches.
        grids: patches a side, in turn.
        width: of the student.
        attention: layers whose attention is compared; None for all. (The bundled network was made with 2, 5 and 7 to
            11; layers 4 and 6, which nothing held, came out odd.)
        sizes: pixels at which the result is validated.
        seed: of everything random.
        workers: processes that decode pictures.
    """

    seconds: float = 350
    batch: int = 256
    grids: tuple[int, ...] = (16, 12, 16, 20)
    width: int = 192
    attention: tuple[int, ...] | None = None
    sizes: tuple[int, ...] = SIZES
    seed: int = 0
    workers: int = 4

    def pictures(self, grid: int) -> int:
        """How many pictures of grid × grid patches come at a time, a multiple of 16 where there are so many."""
        count = self.batch * 256 // grid**2
        return max(1, count // 16 * 16 if count >= 16 else count)


@dataclass
class Pictures:
    """Labelled small pictures and sharp ones without labels, in memory, on the device."""

    small: Tensor
    labels: Tensor
    sharp: Tensor

    def draw(self, step: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Some at random; every third time sharp ones, where there are any."""
        if len(self.sharp) and step % 3 == 2:
            return self.sharp[torch.randint(0, len(self.sharp), (count,), device=self.sharp.device)], None
        chosen = torch.randint(0, len(self.small), (count,), device=self.small.device)
        return self.small[chosen], self.labels[chosen]


class Run:
    """A student under way: what a checkpoint holds, and one step."""

    def __init__(self, teacher: Teacher, pictures: Pictures, recipe: Recipe, device: torch.device) -> None:
        self.teacher, self.pictures, self.recipe, self.device = teacher, pictures, recipe, device
        self.layers = tuple(range(teacher.layers)) if recipe.attention is None else recipe.attention
        self.student = Student(recipe.width, teacher.layers, teacher.heads, teacher.width).to(device).train()
        self.optimizers = make_optimizers(self.student, muon=device.type == "cuda")
        self.steps = self.seen = 0
        self.elapsed = 0.0

    def step(self) -> dict[str, float] | None:
        """One batch; the parts of the loss now and then."""
        grid = self.recipe.grids[self.steps % len(self.recipe.grids)]
        drawn, labels = self.pictures.draw(self.steps, self.recipe.pictures(grid))
        crops = Crops(drawn)
        taught = self.teacher.look(crops.at(self.teacher.patch * grid))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            said = self.student(crops.at(PATCH * grid))
        parts = losses(self.student, said, taught, labels, self.layers, self.teacher.prefix)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        set_rates(self.optimizers, self.steps, self.elapsed / self.recipe.seconds)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps, self.seen = self.steps + 1, self.seen + len(drawn)
        return {name: part.item() for name, part in parts.items()} if self.steps % LOG_EVERY == 1 else None

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "statistics": self.teacher.statistics,
            "random": torch.get_rng_state(),
            "counts": (self.steps, self.seen, self.elapsed),
        }
        torch.save(state, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)

    def resume(self, file: Path) -> None:
        """Go on where a checkpoint was written."""
        state = torch.load(file, weights_only=True, map_location=self.device)
        self.student.load_state_dict(state["student"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.teacher.statistics = state["statistics"]
        torch.set_rng_state(state["random"].cpu())
        self.steps, self.seen, self.elapsed = state["counts"]


def train(
    teacher: Path, data: Path, out: Path, recipe: Recipe, clock: Callable[[], float] = time.monotonic
) -> dict[str, object]:
    """Train, validate, export to ``out / "model"``; returns the facts that stand in its ``training.json``.

    Args:
        teacher, data, out: folders; see above.
        recipe: what is done.
        clock: seconds since whenever.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures = _pictures(data, recipe.workers, device)
    run = Run(Teacher(teacher, device), pictures, recipe, device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        run.resume(checkpoint)
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        for row in _rows(run, checkpoint, clock):
            print(json.dumps(row), file=log, flush=True)
            print(row, flush=True)
    facts: dict[str, object] = {
        "teacher": run.teacher.name,
        "attention_layers": list(run.layers),
        "steps": run.steps,
        "seen": run.seen,
        "seconds": recipe.seconds,
        "images": len(pictures.small),
        "sharp": len(pictures.sharp),
        "seed": recipe.seed,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    export(run.student, out / "model", facts)
    # measured on what was written, as anybody can measure it again
    found = validate(out / "model", data, recipe.sizes)
    facts |= {f"top1_{kind}": {size: rates[kind] for size, rates in found.items()} for kind in ("cls", "patch_vote")}
    (out / "model" / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def _pictures(data: Path, workers: int, device: torch.device) -> Pictures:
    small, labels = load_split(data, "train", SIDE, workers)
    sharp = torch.empty(0, 3, EXTRA_SIDE, EXTRA_SIDE, dtype=torch.uint8)
    if any(data.glob("extra*.parquet")):
        sharp, _ = load_split(data, "extra", EXTRA_SIDE, workers)
    return Pictures(small.to(device), labels.to(device), sharp.to(device))


def _rows(run: Run, checkpoint: Path, clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Steps until the time is up, a checkpoint now and then; what is to be logged."""
    before, start = run.elapsed, clock()
    saved = run.elapsed
    while run.elapsed < run.recipe.seconds:
        parts = run.step()
        run.elapsed = before + clock() - start
        if parts is not None:
            yield {"seconds": round(run.elapsed, 1), "step": run.steps, "seen": run.seen, **parts}
        if run.elapsed - saved > SAVE_EVERY:
            saved = run.elapsed
            run.save(checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="folder of a network of transformers")
    parser.add_argument("data", type=Path, help="folder of Parquet shards")
    parser.add_argument("out", type=Path)
    default = Recipe()
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--batch", type=int, default=default.batch, help="pictures of 16 × 16 patches at a time")
    parser.add_argument("--grids", type=whole_numbers, default=default.grids, help="patches a side, in turn")
    parser.add_argument("--width", type=int, default=default.width)
    parser.add_argument("--attention", type=whole_numbers, help="layers compared, such as 2,5,7,8; all by default")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--workers", type=int, default=default.workers)
    given = vars(parser.parse_args())
    folders = [given.pop(name) for name in ("teacher", "data", "out")]
    train(*folders, replace(default, **given))


if __name__ == "__main__":
    main()

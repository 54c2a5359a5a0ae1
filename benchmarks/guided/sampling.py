"""Pictures of every arm on the same seeds and prompts, kept in parts, so that a run that stops goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenrank as tr
from tokenrank.writing import write_whole

ARMS = ("none", "colsum", "tokenrank", "bounce", "all", "random")
"""Without guidance; by the mask of the column sum, TokenRank, two bounces; everything blurred; as many tokens as
TokenRank masks in the same picture at the same step, drawn."""

PART = 100
"""Pictures in a file, which run as one batch."""

SIDE, TEXT = 32, 12  # pixels, text tokens


@dataclass(frozen=True)
class Plan:
    """What is made of a network.

    Args:
        model: folder of a FluxPipeline.
        prompts: prompt i is that of seeds i, i + len(prompts), …
        steps: of the sampler.
        scale: of the guidance.
        sigma, kernel: of the blur, in cells of the latents.
        layers: whose attention makes the masks; the default of ``tr.tasks.guide`` where None.
    """

    model: Path
    prompts: tuple[str, ...]
    steps: int = 12
    scale: float = 0.75
    sigma: float = 1.0
    kernel: int = 9
    layers: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        """Of everything that the pictures depend on, the weights included."""
        weights = hashlib.blake2b(digest_size=8)
        for file in sorted(self.model.rglob("*.safetensors")):
            weights.update(file.read_bytes())
        settings = (self.prompts, self.steps, self.scale, self.sigma, self.kernel, self.layers)
        return hashlib.blake2b(f"{weights.hexdigest()} {settings}".encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Part:
    """Pictures of one arm: ``seeds`` one after the other, at one strength of classifier-free guidance (1: none)."""

    arm: str
    cfg: float
    begin: int
    count: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.cfg:g}-{self.begin:06d}-{self.count}.npz"


def parts(arms: Sequence[str], strengths: Sequence[float], first: int, seeds: int) -> list[Part]:
    """All arms of the first seeds before the next seeds, so that a run that is cut short has all arms of some seeds."""
    return [
        Part(arm, cfg, begin, min(PART, first + seeds - begin))
        for cfg in strengths
        for begin in range(first, first + seeds, PART)
        for arm in arms
    ]


def sample_all(plan: Plan, wanted: Sequence[Part], folder: Path, processes: int) -> float:
    """Make the parts that are not in ``folder``; seconds of the processes together."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in wanted if not (folder / part.name).exists()]
    return sum(in_processes(sample_part, [(plan, part, folder) for part in missing], processes))


def in_processes(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], processes: int) -> list[Any]:
    """``function(*job)`` of every job, in their order; each process has one thread."""
    if processes < 2 or len(jobs) < 2:
        return [function(*job) for job in jobs]
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(function, *zip(*jobs, strict=True)))


def sample_part(plan: Plan, part: Part, folder: Path) -> float:
    """Make one part and store it; seconds."""
    pipe = pipeline(plan.model)
    begin = time.perf_counter()
    pictures, shares = sample(pipe, plan, part)
    took = time.perf_counter() - begin
    write_whole(folder / part.name, lambda path: _save(path, pictures, shares, took))
    print(f"{part.name}: {took:.1f} s, {part.count / took:.1f} pictures/s", flush=True)
    return took


def _save(path: Path, pictures: np.ndarray, shares: np.ndarray, took: float) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, pictures=pictures, shares=shares, seconds=took)


@lru_cache(maxsize=1)
def pipeline(model: Path) -> Any:
    """The FluxPipeline of a folder, in float32."""
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: Any, plan: Plan, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (B, 32, 32, 3), and the share of each that was masked, (steps, B); (0, B) for "none"."""
    seeds = range(part.begin, part.begin + part.count)
    options: dict[str, Any] = {
        "prompt": [plan.prompts[seed % len(plan.prompts)] for seed in seeds],
        "height": SIDE,
        "width": SIDE,
        "num_inference_steps": plan.steps,
        "max_sequence_length": TEXT,
        "latents": noise(seeds),
        "output_type": "np",
    }
    if part.cfg > 1:
        options |= {"true_cfg_scale": part.cfg, "negative_prompt": [""] * part.count}
    shares = np.zeros((0, part.count))
    if part.arm == "none":
        made = pipe(**options).images
    else:
        with tr.tasks.guide(
            pipe, kind="blur", mask=part.arm, scale=plan.scale, sigma=plan.sigma, kernel=plan.kernel,
            layers=None if plan.layers is None else list(plan.layers), seed=part.begin,
        ) as guidance:  # fmt: skip
            made = pipe(**options).images
        shares = np.stack([mask.float().flatten(1).mean(1).numpy() for mask in guidance.masks])
    return np.round(np.asarray(made) * 255).astype(np.uint8), shares


def noise(seeds: Sequence[int]) -> torch.Tensor:
    """(B, 64, 48): the latents of each seed, packed as FLUX has them, whatever the batch."""
    tokens, channels = (SIDE // 4) ** 2, 48
    return torch.stack([torch.randn(tokens, channels, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def load_pictures(folder: Path, wanted: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 32, 32, 3) of the parts one after the other, and shares (steps, N)."""
    stored = [np.load(folder / part.name) for part in wanted]
    return np.concatenate([one["pictures"] for one in stored]), np.concatenate([one["shares"] for one in stored], 1)

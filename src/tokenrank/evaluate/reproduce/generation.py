"""Experiments that make pictures: the same seeds under several kinds of guidance, and the quality of each set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError, NotFoundError, printable
from ...progress import track
from ...tasks.guidance import guide
from ...writing import write_whole
from ..datasets.folder import IMAGES, listing
from ..quality import inception, measure
from ..quality.inception import FILE

REFERENCE = "reference"
"""Folder of real pictures beside Inception's weights; without it the Inception Score alone is measured."""


@dataclass(frozen=True)
class Generation:
    """What is generated.

    Attributes:
        arms: name → arguments of ``tr.tasks.guide``; None for no guidance.
        prompt: the same for all pictures.
        options: of the pipeline's call, such as num_inference_steps.
        splits: of the Inception Score.
    """

    arms: Mapping[str, Mapping[str, Any] | None]
    prompt: str = ""
    options: Mapping[str, Any] | None = None
    splits: int = 10


def check_data(folder: Path) -> Path:
    """The file of Inception's weights in a folder.

    Raises:
        NotFoundError: it is not there.
    """
    file = folder / FILE
    if not file.is_file():
        raise NotFoundError(
            f"{printable(folder)} lacks {FILE}, Inception's weights of torch-fidelity's release 0.2.0; put the file "
            f"there, and real pictures, for distances, in its folder {REFERENCE}"
        )
    return file


def generate(pipe: Any, generation: Generation, arm: str, seeds: range, folder: Path, batch: int) -> list[Path]:
    """Pictures of the seeds as ``000000.png`` …; those that are there stay as they are.

    Args:
        pipe: of diffusers.
        generation, arm: what is generated.
        seeds: a picture each.
        folder: of the arm.
        batch: pictures that run together.

    Raises:
        InputError: no such arm, or the folder holds other pictures.
    """
    if arm not in generation.arms:
        raise InputError(f"no arm {arm!r}, expected one of {', '.join(generation.arms)}")
    folder.mkdir(parents=True, exist_ok=True)
    files = {seed: folder / f"{seed:06d}.png" for seed in seeds}
    others = set(listing(folder, IMAGES)) - set(files.values())
    if others:
        raise InputError(
            f"{printable(folder)} holds {len(others)} pictures of other seeds, such as {printable(min(others).name)}; "
            "remove them, or give another --out"
        )
    missing = [seed for seed, file in files.items() if not file.exists()]
    for begin in track(range(0, len(missing), batch), f"pictures of {arm}"):
        some = missing[begin : begin + batch]
        for seed, picture in zip(some, _pictures(pipe, generation, arm, some), strict=True):
            write_whole(files[seed], lambda path, made=picture: made.save(path, format="PNG"))  # type: ignore[misc]
    return list(files.values())


def _pictures(pipe: Any, generation: Generation, arm: str, seeds: list[int]) -> list[Any]:
    settings = generation.arms[arm]
    options = {
        "prompt": [generation.prompt] * len(seeds),
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        **(generation.options or {}),
    }
    if settings is None:
        return list(pipe(**options).images)
    with guide(pipe, **settings):
        return list(pipe(**options).images)


def measured(generation: Generation, folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Arm → figures of its pictures: inception_score, and fid, kid, precision, recall where there are real pictures.

    Raises:
        MissingExtraError: torch-fidelity is not installed. InputError: pictures or weights that cannot be read.
    """
    network, real = inception(check_data(data)), data / REFERENCE
    return {
        arm: measure(
            folder / arm,
            real if real.is_dir() else None,
            [network],
            store=folder / "features",
            splits=generation.splits,
        ).values
        for arm in generation.arms
    }

"""Functions and work that workers can import, and pictures for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tokenrank.workers import Done

ROOT = Path(__file__).parents[2]
CRASH = "crash"
"""In the name of a picture: whoever reads it in a worker dies."""


def write_pictures(folder: Path, count: int) -> list[str]:
    """Pictures of eight pixels by eight, each of its own."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    paths = [folder / f"{i:05}.png" for i in range(count)]
    for path in paths:
        PIL.Image.fromarray(noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path, compress_level=0)
    return [str(path) for path in paths]


def brightness(path: str) -> dict[str, Any]:
    """A fast function of a picture, with random numbers: what it is, and where."""
    if CRASH in path and in_worker():
        os._exit(1)
    with PIL.Image.open(path) as picture:
        pixels = np.asarray(picture, dtype=np.float64)
    return {"mean": pixels.mean(), "spread": pixels.std(), "drawn": float(torch.rand(())), "curve": pixels[0, 0] / 3}


def slow_brightness(path: str) -> dict[str, Any]:
    """As long as a small network on a GPU takes: time enough for something to die."""
    time.sleep(0.002)
    return brightness(path)


def in_worker() -> bool:
    """Whether this is a worker of Ray's."""
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


class Hungry:
    """Work that takes far more memory for several items than for one; more than there is for ``whales``."""

    def __init__(self, whales: Sequence[str] = ()) -> None:
        self.whales = whales

    def __call__(self, items: Sequence[str]) -> Done:
        huge = len(items) > 1 or any(item in self.whales for item in items)
        torch.empty(1 << (50 if huge else 10))
        return Done(tuple(items), tuple({"key": item, "process": os.getpid()} for item in items))

    def key(self, item: str) -> str:
        return item

    def on(self, device: str) -> Hungry:
        return self


@contextmanager
def ray_alone() -> Iterator[Any]:
    """Ray, its files in a folder of their own; stopped in the end. What else it obeys is set by conftest.py."""
    with TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        variables = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
        paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        for name, value in (variables | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}).items():
            patch.setenv(name, value)
        import ray

        try:
            yield ray
        finally:
            ray.shutdown()

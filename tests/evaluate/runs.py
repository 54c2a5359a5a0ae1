"""A data set, a protocol and methods that are small and real, for the tests of runs and reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from torch import nn

from tokenrank import TokenLayout, TokenMap
from tokenrank.baselines import Method
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Dataset, Sample
from tokenrank.evaluate.methods import NamedMethod
from tokenrank.evaluate.protocols.base import Protocol
from tokenrank.evaluate.runner import Run, run
from tokenrank.models import Model

if TYPE_CHECKING:
    import pandas as pd

LAYOUT = TokenLayout({"image": 4}, {"image": (2, 2)})


class Pictures(Dataset):
    """Two pixels by two, of one grey each; ``broken`` ones cannot be read."""

    name = "pictures"

    def __init__(self, keys: Sequence[str] | int = 12, broken: Mapping[str, str] | None = None) -> None:
        self.keys = tuple(f"image {i:02}" for i in range(keys)) if isinstance(keys, int) else tuple(keys)
        self.problems = {"lost": "has no mask"}
        self.broken = dict(broken or {})
        self.reads: list[str] = []

    def read(self, key: str) -> Sample:
        self.reads.append(key)
        if key in self.broken:
            raise InputError(self.broken[key])
        grey = 20 * self.keys.index(key) % 256
        return Sample(key, PIL.Image.new("RGB", (2, 2), (grey,) * 3), np.array([[True, False], [False, False]]))


class Brightness(Protocol):
    """Scores of every kind of column: an integer, a float, a list, random numbers of all three generators."""

    name = "brightness"
    headline = "score"

    def __init__(self, scale: float = 1.0, pause: float = 0.0, before: Callable[[str], None] | None = None) -> None:
        self.scale, self.pause, self.before = scale, pause, before

    @property
    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale, "sizes": (2, 2)}

    def check(self, dataset: Dataset) -> None:
        if not dataset.keys:
            raise InputError("no images")

    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        if self.before is not None:
            self.before(sample.key)
        time.sleep(self.pause)
        grey = float(np.asarray(sample.image).mean())
        return [
            {
                "method": method.name,
                "score": self.scale * grey / (place + 1) + float(torch.rand(())),
                "pixels": np.int64(4),
                "curve": np.random.rand(3),
                "counts": [place, int(grey)],
                "whole": place if grey < 100 else grey / 3,
            }
            for place, method in enumerate(methods)
        ]

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        grouped = rows.groupby("method", sort=False)
        return grouped.agg(score=("score", "mean"), pixels=("pixels", "sum")).reset_index()


def method(name: str) -> NamedMethod:
    return NamedMethod(name, Method("even", (), lambda observation: TokenMap(torch.ones(4), LAYOUT), {}))


METHODS = (method("tokenrank:layer=3"), method("rollout"), method("raw"))


def model(seed: int = 0, name: str = "tiny") -> Model:
    torch.manual_seed(seed)
    return Model(name, nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "image")


def run_pictures(folder: Path, dataset: Dataset | None = None, protocol: Protocol | None = None, **options: Any) -> Run:
    seen = options.pop("model", None)
    return run(
        Brightness() if protocol is None else protocol,
        Pictures() if dataset is None else dataset,
        model() if seen is None else seen,
        options.pop("methods", METHODS),
        folder,
        **{"batch": 5, **options},
    )


def same(first: Run, second: Run) -> bool:
    """Whether two runs have exactly the same rows."""
    a, b = first.rows(), second.rows()
    return list(a.columns) == list(b.columns) and a.map(_plain).equals(b.map(_plain))


def _plain(value: Any) -> Any:
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value

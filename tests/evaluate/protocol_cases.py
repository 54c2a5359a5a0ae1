"""Samples, methods and a data set that are small and real, for the tests of protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch

from tokenrank.baselines import Method
from tokenrank.chain import TokenMap
from tokenrank.evaluate.datasets.sample import Dataset, Sample
from tokenrank.evaluate.methods import NamedMethod, Query
from tokenrank.evaluate.protocols import Protocol
from tokenrank.models import Model
from tokenrank.observation import Observation

if TYPE_CHECKING:
    import pandas as pd


class Listed(Dataset):
    """Samples from memory."""

    name = "listed"
    problems = {}  # noqa: RUF012  (the contract's attribute)

    def __init__(self, *samples: Sample, classes: Sequence[str] = ()) -> None:
        self.samples = {sample.key: sample for sample in samples}
        self.keys, self.classes = tuple(self.samples), tuple(classes)

    def read(self, key: str) -> Sample:
        return self.samples[key]


def picture(width: int = 64, height: int = 48, seed: int = 0) -> PIL.Image.Image:
    """Smooth noise: no two places are alike, and neighbours are similar."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def block(height: int = 48, width: int = 64, rows: slice = slice(8, 32), columns: slice = slice(16, 40)) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[rows, columns] = True
    return mask


def gives(name: str, values: Any) -> NamedMethod:
    """A method that gives the same map whatever it sees; values in the shape of the grid, or (P,)."""
    flat = torch.as_tensor(np.asarray(values)).flatten()
    return NamedMethod(name, Method(name, (), lambda observation: observation.map(flat), {}))


def tells(asks: Any, heard: list[Query]) -> NamedMethod:
    """A method that keeps what it was told."""

    def listening(observation: Observation, *, start: Any = None, target: Any = None, random: int = 0) -> TokenMap:
        heard.append(Query(start, target, random))
        return observation.map(torch.arange(len(observation.patches)).double())

    return NamedMethod("tells", Method.of("tells", listening, ("random",) if asks == "nothing" else (asks, "random")))


def rows_of(protocol: Protocol, model: Model, samples: Sequence[Sample], methods: Sequence[Any]) -> pd.DataFrame:
    """Rows as a run stores them."""
    import pandas

    return pandas.DataFrame(
        [{"key": sample.key, **row} for sample in samples for row in protocol.rows(model, sample, methods)]
    )

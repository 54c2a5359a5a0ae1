"""Held-out mosaics of two pictures: their words, and which patches belong to each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.text_to_image.pictures import SIDE, load_classes, mosaic
from training.text_to_image.train import CLASSES
from training.text_to_image.words import class_names

KINDS = (0, 0, 1, 1, 2, 3, 4, 5)
"""Side by side, one above the other, a quarter; as often as in training."""


@dataclass(frozen=True)
class Mosaics:
    """Pictures of two things each, in random order of the words.

    Attributes:
        pictures: (M, 3, 32, 32), −1 to 1.
        words: of each the words in the order of the prompt.
        truth: bool (M, 2, rows, columns), the patches of each word; together they are all of them.
        development: bool (M,), the half that choices are made on; no picture is in both halves.
    """

    pictures: Tensor
    words: list[tuple[str, str]]
    truth: Tensor
    development: Tensor

    def __len__(self) -> int:
        return len(self.words)

    def prompt(self, place: int, turned: bool = False) -> str:
        """ "a X and a Y", or the words the other way round."""
        first, second = self.words[place][::-1] if turned else self.words[place]
        return f"a {first} and a {second}"


def draw(data: Path, count: int, seed: int = 0, patch: int = 4) -> Mosaics:
    """Mosaics of the pictures in ``val*.parquet`` of the 20 classes, the first half of them for development.

    Args:
        data: folder with ``val*.parquet`` and ``classes.txt``.
        count: of mosaics, even.
        patch: pixels of a patch's side; parts of a mosaic end at its edges.
    """
    names = [class_names(data / "classes.txt")[number] for number in CLASSES]
    pictures, labels = load_classes(data, "val", CLASSES)
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pictures), generator=random)
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    ones, twos = (
        torch.cat(part) for part in zip(*(_pairs(h, labels, count // 2, random) for h in halves), strict=True)
    )
    kinds = torch.tensor(KINDS)[torch.randint(len(KINDS), (count,), generator=random)]
    mixed, inside = mosaic(pictures[ones], pictures[twos], kinds)
    mixed = mixed.add(1).mul(127.5).round().div(127.5).sub(1)  # as files of pictures hold them
    turned = torch.rand(count, generator=random) < 0.5
    spellings = torch.randint(2, (count, 2), generator=random).tolist()
    truth = F.avg_pool2d(inside[:, None].float(), patch)[:, 0] > 0.5
    both = torch.stack([~truth, truth], 1)
    words = []
    for place in range(count):
        pair = (labels[ones[place]], labels[twos[place]])
        a, b = (names[int(n)][s % len(names[int(n)])] for n, s in zip(pair, spellings[place], strict=True))
        words.append((b, a) if turned[place] else (a, b))
    both = torch.where(turned[:, None, None, None], both.flip(1), both)
    assert mixed.shape[-1] == SIDE
    return Mosaics(mixed, words, both, torch.arange(count) < count // 2)


def _pairs(places: Tensor, labels: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two pictures of different classes, ``count`` times."""
    ones = places[torch.randint(len(places), (count,), generator=random)]
    twos = places[torch.randint(len(places), (count,), generator=random)]
    while bool((same := labels[ones] == labels[twos]).any()):
        again = torch.randint(len(places), (int(same.sum()),), generator=random)
        twos[same] = places[again]
    return ones, twos

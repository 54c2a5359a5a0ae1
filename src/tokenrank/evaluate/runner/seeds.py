"""Random numbers that depend on the run's seed and the image, not on what ran before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def digest_of(parts: Iterable[str]) -> bytes:
    """32 bytes that differ where any of the strings, or their order, does."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


def image_seed(seed: int, key: str) -> int:
    """The seed of one image, 0 … 2³¹ − 1, from the run's seed and the image's key."""
    return int.from_bytes(digest_of([str(seed), key])[:4], "little") % 2**31


def subset(keys: Sequence[str], limit: int | None, seed: int) -> tuple[str, ...]:
    """``limit`` of the keys, drawn by the seed, in the order that they have; all of them where there are no more.

    A larger limit keeps those of a smaller one. Drawn, since data sets are sorted: the first hundred images would be
    those of the first classes.
    """
    if limit is None or limit >= len(keys):
        return tuple(keys)
    drawn = set(sorted(keys, key=lambda key: digest_of(["subset", str(seed), key]))[:limit])
    return tuple(key for key in keys if key in drawn)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators start from ``seed`` inside the block; after it they go on."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

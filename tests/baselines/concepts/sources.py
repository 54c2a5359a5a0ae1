"""Sources of concept maps: random chains over picture and text, and a tiny FLUX that a picture was observed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

import tokenrank as tr

WORDS = ("cat", "german shepherd")
TOKENS = ("a", "cat", "and", "german", "shepherd", "</s>", "<pad>", "<pad>")
ROWS, COLUMNS, HEADS = 3, 4, 2
TEXT = len(TOKENS)
COUNT = TEXT + ROWS * COLUMNS
PLACES = {"cat": [1], "german shepherd": [3, 4]}
SPECIAL = (5, 6, 7)


def weights(seed: int = 0, heads: int = HEADS) -> np.ndarray:
    """(heads, N, N), rows sum to one."""
    made = np.random.default_rng(seed).dirichlet(np.full(COUNT, 0.3), (heads, COUNT)) + 1e-6
    return made / made.sum(-1, keepdims=True)


def layout() -> tr.TokenLayout:
    strings = (*TOKENS, *[""] * (ROWS * COLUMNS))
    return tr.TokenLayout(
        {"text": TEXT, "image": ROWS * COLUMNS}, {"image": (ROWS, COLUMNS)}, tokens=strings, special=SPECIAL
    )


def chains(count: int = 4) -> dict[str, tr.AttentionChain]:
    """Layers by name, of seeds 0, 1, …."""
    return {f"blocks.{seed}": tr.AttentionChain(weights(seed), layout()) for seed in range(count)}


def photograph(width: int = 32, height: int = 24) -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.Image.fromarray(pixels)


def observed(folder: Path, samples: int = 1) -> Any:
    """A picture through a tiny FLUX of random weights, with "a cat and a german shepherd"."""
    from tests.diffusion import pipelines

    torch.manual_seed(0)
    pipe = pipelines.flux(folder)
    prompt = f"a {WORDS[0]} and a {WORDS[1]}"
    return tr.observe(
        photograph(), model=pipe, prompt=prompt, noise=0.5, samples=samples, call={"max_sequence_length": 16}
    )

"""What is done with a batch of mosaics: every noise with heads alike, what takes longer at one noise, words turned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .methods import (
    ALREADY_SHARES,
    Maps,
    Scene,
    averaged_over,
    by_lambda2,
    chains_of,
    of_iseg,
    of_ncut,
    of_others,
    of_walks,
    random_maps,
    shares,
    uniform,
)
from .mosaics import Mosaics
from .passes import Prompts, encoded, latents_of, run
from .scores import scored
from .summary import MEAN
from .variants import Variant
from .walks import PADDINGS, censored

BATCH = 64
LENGTH = 12  # text tokens
Scores = dict[tuple[Variant, str], np.ndarray]


class Bench:
    """A pipeline and its mosaics, in batches of prompts of one length."""

    def __init__(self, pipe: Any, mosaics: Mosaics, batch: int = BATCH, length: int = LENGTH) -> None:
        self.pipe, self.mosaics, self.length = pipe, mosaics, length
        with torch.inference_mode():
            self.clean = latents_of(pipe, mosaics.pictures)
        lengths = [len(mosaics.prompt(place).split()) for place in range(len(mosaics))]
        groups = [[p for p, count in enumerate(lengths) if count == size] for size in sorted(set(lengths))]
        self.batches = [group[i : i + batch] for group in groups for i in range(0, len(group), batch)]

    def prompts(self, places: Sequence[int], turned: bool = False) -> Prompts:
        with torch.inference_mode():
            return encoded(self.pipe, [self.mosaics.prompt(p, turned) for p in places], self.length)

    def scene(self, places: Sequence[int], prompts: Prompts, noise: float) -> Scene:
        """Attention of some mosaics at a share of noise; fresh noise of each has its own seed."""
        seeds = [1000 * place + round(100 * noise) for place in places]
        made = run(self.pipe, self.clean[list(places)], prompts, noise, seeds)
        return Scene.of(made, prompts.tokens, [self.mosaics.words[p] for p in places])

    def truth(self, places: Sequence[int]) -> np.ndarray:
        return self.mosaics.truth[list(places)].flatten(2).numpy()


def swept(bench: Bench, places: Sequence[int], levels: Sequence[float]) -> Scores:
    """Scores of a batch at every noise, heads alike, and of the mean over all noises."""
    prompts, truth = bench.prompts(places), bench.truth(places)
    scores: Scores = {}
    chains: dict[str, list[dict[str, Tensor]]] = {padding: [] for padding in ("keep", "drop")}
    maps: dict[Variant, Tensor] = {}
    for noise in levels:
        scene = bench.scene(places, prompts, noise)
        for padding, known in chains.items():
            known.append(chains_of(scene, uniform(scene), padding))
        others = dict(of_others(scene))
        for variant, found in others.items():
            maps[variant] = maps.get(variant, 0) + found / len(levels)
        here = {padding: known[-1] for padding, known in chains.items()}
        scores |= _scored(chain(others.items(), _on_chains(scene, here)), f"{noise}", truth)
    means = {padding: averaged_over(known) for padding, known in chains.items()}
    over_all = chain(maps.items(), _on_chains(scene, means), random_maps(scene, places))
    return scores | _scored(over_all, MEAN, truth)


def _on_chains(scene: Scene, chains: dict[str, dict[str, Tensor]]) -> Maps:
    """Walks with padding in three ways, and iterated refinement."""
    watched = {name: censored(one, scene.special) for name, one in chains["keep"].items()}
    for padding, found in {**chains, "censor": watched}.items():
        yield from of_walks(scene, found, "uniform", padding)
    yield from of_iseg(scene, chains["keep"])


def _scored(maps: Maps | chain[tuple[Variant, Tensor]], noise: str, truth: np.ndarray) -> Scores:
    """Scores of maps as they are, and of a word's shares among the words, where they are not that already."""
    scores: Scores = {}
    for variant, found in maps:
        scores[variant, noise] = scored(found.numpy(), truth)
        if variant.method not in ALREADY_SHARES:
            scores[variant.with_option("cut", "softmax"), noise] = scored(shares(found).numpy(), truth)
    return scores


def closer(bench: Bench, places: Sequence[int], noise: float) -> Scores:
    """What takes longer, at one share of noise: heads by |λ2|, and recursive cuts."""
    truth = bench.truth(places)
    scene = bench.scene(places, bench.prompts(places), noise)
    scores = _scored(of_ncut(scene, chains_of(scene, uniform(scene), "keep")), f"{noise}", truth)
    weights = by_lambda2(scene)
    for padding in PADDINGS:
        chains = chains_of(scene, weights, padding)
        scores |= _scored(of_walks(scene, chains, "lambda2", padding), f"{noise}", truth)
    return scores


def turned(bench: Bench, places: Sequence[int], key: tuple[Variant, str]) -> dict[str, np.ndarray]:
    """Words the other way round in the prompt, the same picture and noise: what becomes of the maps of a walk.

    Returns:
        "ap" and "ap_turned" (B, 2) of each word with either prompt, "ap_wrong" (B, 2) of its map against the other's
        patches; "same" and "other" (B,), the mean correlation of a word's map with its own and with the other word's
        map in the turned prompt; "apart" (B,), whether the first word's map less the second's is larger on the first's
        patches than on the second's.
    """
    variant, noise = key
    truth = bench.truth(places)
    made = []
    for way in (False, True):
        scene = bench.scene(places, bench.prompts(places, way), float(noise))
        padding = variant.settings["padding"]
        chains = {variant.layer: chains_of(scene, uniform(scene), padding)[variant.layer]}
        found = next(maps for name, maps in of_walks(scene, chains, "uniform", padding) if name == variant)
        made.append(found.numpy().astype(np.float64))
    plain, changed = made
    centred = [m - m.mean(-1, keepdims=True) for m in made]
    unit = [c / np.maximum(np.linalg.norm(c, axis=-1, keepdims=True), 1e-300) for c in centred]
    first = _scaled(plain[:, 0]) - _scaled(plain[:, 1])
    on, off = truth[:, 0], truth[:, 1]
    return {
        "ap": scored(plain, truth)[..., 0],
        "ap_turned": scored(changed, truth)[..., 0],
        "ap_wrong": scored(plain, truth[:, ::-1])[..., 0],
        "same": (unit[0] * unit[1]).sum(-1).mean(1),
        "other": (unit[0] * unit[1][:, ::-1]).sum(-1).mean(1),
        "apart": (first * on).sum(-1) / on.sum(-1) > (first * off).sum(-1) / off.sum(-1),
    }


def padding_mass(bench: Bench, noise: float) -> dict[str, float]:
    """Layer → the share of the patches' attention that goes to padding and special tokens, the mean of all mosaics."""
    total: dict[str, float] = defaultdict(float)
    for places in bench.batches:
        scene = bench.scene(places, bench.prompts(places), noise)
        for name, heads in scene.heads.items():
            share = heads[:, :, scene.picture][..., list(scene.special)].sum(-1).mean()
            total[name] += float(share) * len(places) / len(bench.mosaics)
    return dict(total)


def _scaled(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min(-1, keepdims=True), maps.max(-1, keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, 1e-300))

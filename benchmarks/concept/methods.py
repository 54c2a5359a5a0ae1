"""Every method on a batch of passes: maps (B, W, P) and their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenrank.baselines.concepts import automatic, by_outputs, cross, cuts, iterated

from .passes import Pass
from .variants import EVERY, Variant
from .walks import censored, staying, walks, without

ITERATIONS, ENTROPIES = (1, 3, 10), (0.0, 0.1, 0.3)
STEPS, THRESHOLDS = (1, 2, 4), (0.5, 0.8)

ALREADY_SHARES = ("random", "concept_attention", "absorption")
"""Methods whose maps are shares of the words as they are, or nothing."""

Maps = Iterator[tuple[Variant, Tensor]]


@dataclass(frozen=True)
class Scene:
    """Attention of a batch, its heads mixed or not.

    Attributes:
        heads: layer → (B, heads, N, N), float64.
        values: layer → (B, heads, N, e).
        words: (B, W, N), the mass of each word's tokens.
        picture: (P,), indices of the patches.
        special: indices of padding and of the prompt's end, the same in the whole batch.
    """

    heads: dict[str, Tensor]
    values: dict[str, Tensor]
    words: Tensor
    picture: Tensor
    special: tuple[int, ...]

    @classmethod
    def of(cls, made: Pass, tokens: Sequence[Sequence[str]], words: Sequence[Sequence[str]]) -> Scene:
        """The scene of a pass.

        Args:
            made: of the denoiser.
            tokens: strings of the text tokens of each prompt.
            words: of each prompt.
        """
        count = made.text + len(made.picture)
        masses = torch.stack(
            [
                masses_of([places_of(word, row) for word in group], count)
                for row, group in zip(tokens, words, strict=True)
            ]
        )
        special = {tuple(i for i, token in enumerate(row) if token in ("<pad>", "</s>")) for row in tokens}
        if len(special) != 1:
            raise ValueError(f"prompts of {len(special)} lengths in one batch, expected one")
        heads = {name: weights.double() for name, weights in made.weights.items()}
        return cls(heads, made.values, masses, made.picture, special.pop())

    @property
    def count(self) -> int:
        """N."""
        return self.words.shape[-1]


def masses_of(words: Sequence[Sequence[int]], count: int) -> Tensor:
    """Equal mass on all tokens of each word, (W, count), float64."""
    masses = torch.zeros(len(words), count, dtype=torch.float64)
    for row, places in zip(masses, words, strict=True):
        row[list(places)] = 1 / len(places)
    return masses


def places_of(word: str, tokens: Sequence[str]) -> list[int]:
    """Where a word of whole-word tokens stands, all of it."""
    parts = word.split()
    for begin in range(len(tokens) - len(parts) + 1):
        if list(tokens[begin : begin + len(parts)]) == parts:
            return [*range(begin, begin + len(parts))]
    raise ValueError(f"no {word!r} among {list(tokens)}")


def shares(maps: Tensor) -> Tensor:
    """Of each patch the share of each word, m_w / Σ m, where each map sums to one over the patches first."""
    whole = maps / maps.sum(-1, keepdim=True).clamp_min(1e-300)
    return whole / whole.sum(-2, keepdim=True).clamp_min(1e-300)


def random_maps(scene: Scene, seeds: Sequence[int]) -> Maps:
    """Chance: maps of noise."""
    count, words = len(scene.picture), scene.words.shape[1]
    made = [torch.rand(words, count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    yield Variant.of("random", "none"), torch.stack(made)


def uniform(scene: Scene) -> dict[str, Tensor]:
    """Layer → (B, heads), all alike."""
    return {name: torch.full(heads.shape[:2], 1 / heads.shape[1]).double() for name, heads in scene.heads.items()}


def by_lambda2(scene: Scene) -> dict[str, Tensor]:
    """Layer → (B, heads), by |λ2| of each head on words and picture alone."""
    found = {}
    for name, heads in scene.heads.items():
        stay = staying(heads.shape[-1], scene.special, "drop")
        kept = heads[..., stay, :][..., stay]
        kept = kept / kept.sum(-1, keepdim=True)
        second = torch.linalg.eigvals(kept).abs().sort(-1).values[..., -2]
        found[name] = second / second.sum(-1, keepdim=True)
    return found


def chains_of(scene: Scene, weights: dict[str, Tensor], padding: str) -> dict[str, Tensor]:
    """Layer → (B, N', N'), and the mean of all layers."""
    if padding == "censor":
        kept = chains_of(scene, weights, "keep")
        return {name: censored(chain, scene.special) for name, chain in kept.items()}
    found = {name: without(heads, weights[name], scene.special, padding) for name, heads in scene.heads.items()}
    return {**found, EVERY: torch.stack([*found.values()]).mean(0)}


def of_walks(scene: Scene, chains: dict[str, Tensor], heads: str, padding: str) -> Maps:
    """Walks on each layer's chain and on the mean of all."""
    stay = staying(scene.count, scene.special, padding)
    picture = (stay[:, None] == scene.picture).any(1).nonzero()[:, 0]
    for layer, chain in chains.items():
        for method, options, maps in walks(chain, scene.words[..., stay], picture):
            yield Variant.of(method, layer, heads=heads, padding=padding, **options), maps


def averaged_over(levels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of chains layer by layer."""
    return {name: torch.stack([level[name] for level in levels]).mean(0) for name in levels[0]}


def of_others(scene: Scene) -> Maps:
    """Methods of others, in each layer and over all."""
    columns: dict[str, Tensor] = {}
    compared: dict[str, Tensor] = {}
    weighed: dict[bool, list[Tensor]] = {True: [], False: []}
    scaled: list[Tensor] = []
    for layer, heads in scene.heads.items():
        columns[layer] = cross.columns(heads, scene.words, scene.picture)
        yield Variant.of("raw_column", layer), columns[layer]
        scaled.append(cross.expert(heads, scene.words, scene.picture))
        yield Variant.of("expert_layer", layer), scaled[-1]
        values = scene.values[layer].double()
        compared[layer] = by_outputs.compared(by_outputs.outputs(heads, values), scene.words, scene.picture)
        yield Variant.of("concept_attention", layer), compared[layer]
        chain = automatic.mixed(heads, automatic.output_shares(heads, values, scene.picture))
        plain = scene.words @ chain[:, scene.picture].mT
        special = chain[:, scene.picture][..., list(scene.special)].sum(-1)
        for rescale, maps in ((False, plain), (True, automatic.rescaled(plain, special))):
            weighed[rescale].append(maps)
            yield Variant.of("automatic_heads", layer, rescale=rescale), maps
    yield Variant.of("daam", EVERY), torch.stack([*columns.values()]).sum(0)
    yield Variant.of("concept_attention", EVERY), torch.stack([*compared.values()]).mean(0)
    for rescale, several in weighed.items():
        yield Variant.of("automatic_heads", EVERY, rescale=rescale), torch.stack(several).mean(0)


def of_iseg(scene: Scene, chains: dict[str, Tensor]) -> Maps:
    """Iterated refinement, in each layer and on the mean of all."""
    for layer, chain in chains.items():
        seen = cross.columns(chain[:, None], scene.words, scene.picture)
        attention = chain[:, scene.picture][:, :, scene.picture]
        for entropy in ENTROPIES:
            for turned in (False, True):
                sharp = iterated.sharpened(attention, entropy, turned)
                for iterations in ITERATIONS:
                    options = {"iterations": iterations, "entropy": entropy, "turned": turned}
                    yield Variant.of("iseg", layer, **options), iterated.refined(seen, sharp, iterations)


def of_ncut(scene: Scene, chains: dict[str, Tensor]) -> Maps:
    """Columns averaged over the segments of recursive cuts."""
    for layer, chain in chains.items():
        seen = cross.columns(chain[:, None], scene.words, scene.picture)
        attention = chain[:, scene.picture][:, :, scene.picture]
        attention = attention / attention.sum(-1, keepdim=True)
        for steps in STEPS:
            powers = cuts.walked(attention, steps)
            for threshold in THRESHOLDS:
                labels = [cuts.segments(power, threshold) for power in powers]
                maps = [cuts.averaged(c, label) for c, label in zip(seen, labels, strict=True)]
                yield Variant.of("walked_ncut", layer, k=steps, threshold=threshold), torch.stack(maps)

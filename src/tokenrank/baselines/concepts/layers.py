"""What a method is given of a denoiser's layers: chains, words, patches, and the values on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...chain import AttentionChain
from ...errors import CaptureError, InputError
from ...observation.denoised import Denoised
from ...reading import observe
from ...select import Layer, Layers, default_layer
from ...tasks.concepts import ConceptMaps
from ...tasks.concepts.word_blocks import Block, Blocks, Calls, blocks_of, checked_words, places


@dataclass(frozen=True)
class SeenLayer:
    """One layer in one forward call.

    Attributes:
        name: of the layer.
        chain: (heads, N, N) over picture and text; where words are attended to by cross-attention its heads were
            averaged, and its columns are those of the cross-attention but for one factor.
        words: (W, N), equal mass on all tokens of a word.
        picture: (P,), indices of the patches.
        special: (N,), 1 on padding and other text tokens that are no words.
        grid: (rows, columns) of the patches.
    """

    name: str
    chain: AttentionChain
    words: Tensor
    picture: Tensor
    special: Tensor
    grid: tuple[int, int]

    @classmethod
    def of(cls, block: Block, words: Sequence[str]) -> SeenLayer:
        """A block and words of its prompt.

        Raises:
            NotFoundError: the prompt does not hold a word.
        """
        chain = block.make()
        masses = torch.zeros(len(words), chain.num_tokens, dtype=torch.float64)
        for row, word in zip(masses, words, strict=True):
            tokens = list(block.word(word))
            row[tokens] = 1 / len(tokens)
        special = torch.zeros(chain.num_tokens, dtype=torch.float64)
        special[list(block.special)] = 1
        return cls(block.name, chain, masses, torch.tensor(block.picture), special, block.grid)

    def applied(self, columns: Tensor) -> Tensor:
        """A x of each head for x (N, c) or (heads, N, c): (heads, N, c), float64; nothing N × N is made."""
        heads = self.chain.batch[-1]
        if columns.ndim == 2:
            columns = columns.expand(heads, -1, -1)
        return (self.chain.operator @ columns.contiguous().to(self.chain.device)).double().cpu()

    def attended(self, masses: Tensor) -> Tensor:
        """What each patch attends to of masses on tokens, head by head: (c, N) to (heads, c, P)."""
        return self.applied(masses.mT)[:, self.picture].mT

    def among_patches(self) -> Tensor:
        """Attention among the patches, heads averaged, (P, P), rows to sum one, float64."""
        weights = self.chain.aggregate("uniform").to_dense().double().cpu()[self.picture][:, self.picture]
        return weights / weights.sum(-1, keepdim=True)


def one_layer(
    source: Any, words: str | Sequence[str], layer: Layer, call: int, reading: dict[str, Any]
) -> tuple[Blocks, SeenLayer, tuple[str, ...]]:
    """What a source is, one of its layers (three quarters up where None), and the words.

    Raises:
        InputError, NotFoundError: see ``tasks.concepts.word_blocks.blocks_of``.
    """
    named = checked_words(words)
    blocks = blocks_of(source, layer, call, **reading)
    place = default_layer(len(blocks.every)) if layer is None else 0
    if layer is not None and len(blocks.every) > 1:
        listed = ", ".join(repr(block.name) for block in blocks.every[:3])
        raise InputError(f"layer = {layer!r} fits {len(blocks.every)} layers ({listed} …), expected one; name it")
    return blocks, SeenLayer.of(blocks.every[place], named), named


def many_layers(
    source: Any, words: str | Sequence[str], layers: Layers, calls: Calls, reading: dict[str, Any]
) -> tuple[Blocks, list[SeenLayer], tuple[str, ...]]:
    """What a source is, several of its layers and calls (all where None), and the words.

    Raises:
        InputError, NotFoundError: see ``tasks.concepts.word_blocks.blocks_of``.
    """
    named = checked_words(words)
    blocks = blocks_of(source, layers, calls, **reading)
    return blocks, [SeenLayer.of(block, named) for block in blocks.every], named


def of_one_grid(layers: Sequence[SeenLayer]) -> list[SeenLayer]:
    """Layers of the finest grid among them, which are those that can be averaged."""
    finest = max(layer.grid[0] * layer.grid[1] for layer in layers)
    return [layer for layer in layers if layer.grid[0] * layer.grid[1] == finest]


def with_values(
    source: Any, words: str | Sequence[str], layers: Layers, calls: Calls, reading: dict[str, Any]
) -> tuple[Denoised, list[tuple[SeenLayer, Tensor]], tuple[str, ...]]:
    """Layers of joint attention with what attention gives each head's tokens, A v, (heads, N, e), float64.

    Words outside of the prompt (``Denoised.with_words``) are given what their stream attends to; the picture and the
    prompt what the model gives them, which has no part of those words. One more forward of each call, two with them.

    Raises:
        InputError: no denoiser saw the source, the inputs of its calls are not known, or its words are attended to by
            cross-attention. CaptureError: attention that is no fused call. NotFoundError: no such layer, call or word.
    """
    found = source if isinstance(source, Denoised) else observe(source, **reading)
    if not isinstance(found, Denoised):
        raise InputError(
            "values of attention need another forward of the denoiser, but the source is no denoiser's; observe a "
            "picture with its pipeline: tr.observe(picture, model=pipe, prompt='a cat and a dog')"
        )
    named = checked_words(words)
    made = []
    for call in places(calls, len(found.calls)):
        values = found.values(call)
        for block in blocks_of(found, layers, call).every:
            if found.cross(block.name, call) is not None:
                raise InputError(
                    f"{block.name!r} gives its words nothing: they are attended to by cross-attention; take a model "
                    "with joint attention (FLUX, Stable Diffusion 3, Qwen-Image, Z-Image), or daam"
                )
            layer = SeenLayer.of(block, named)
            held = _of_layer(values, layer)
            given = layer.applied(held)
            if found.without_words is not found:
                (own,) = blocks_of(found.without_words, block.name, call).every
                model = SeenLayer.of(own, ())
                count = model.chain.num_tokens  # the words are the last tokens
                given[:, :count] = model.applied(held[:, :count])
            made.append((layer, given))
    return found, made, named


def _of_layer(values: Mapping[str, Tensor], layer: SeenLayer) -> Tensor:
    held, heads = values.get(layer.name), layer.chain.batch[-1]
    if held is None:
        raise CaptureError(
            f"the values of {layer.name!r} were not seen; let the denoiser take scaled_dot_product_attention: "
            "pipe.transformer.set_attention_backend('native')"
        )
    if held.shape[:-3].numel() != 1 or held.shape[-2] != layer.chain.num_tokens:
        raise CaptureError(
            f"the values of {layer.name!r} have shape {tuple(held.shape)}, expected those of one input and "
            f"{layer.chain.num_tokens} tokens; observe one picture without guidance"
        )
    one = held.reshape(-1, *held.shape[-2:]).double()
    return one if len(one) == heads else one.repeat_interleave(heads // len(one), 0)


def answered(
    of: Blocks | Denoised, words: tuple[str, ...], values: Tensor, grid: tuple[int, int], told: str
) -> ConceptMaps:
    """Maps (W, P) or (W, rows, columns) as ``ConceptMaps``."""
    return ConceptMaps(values.reshape(len(words), *grid), words, of.picture, ", ".join(filter(None, [of.name, told])))

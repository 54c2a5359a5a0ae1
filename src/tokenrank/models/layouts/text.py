"""Texts: how many tokens, what they say, which are special, and the pictures between words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LayoutError
from ...layout import Grid, TokenLayout
from ...recording import Evidence
from .names import in_decoder, in_encoder
from .parts import ONE_SAMPLE, Inputs, Part, agreeing_rows, joined, shape, times, whole_numbers
from .pictures import measured_grids

Shape = tuple[int, int, int]  # frames, rows, columns of tokens
_ENCODER = ("input_ids",)
_DECODER = ("decoder_input_ids",)
_TOKENS = {"image": ("image_token_id", "image_token_index"), "video": ("video_token_id", "video_token_index")}
_QUERIES = ("query", "queries", "query_tokens", "latents", "latent_query")
_REORDERED = re.compile(r"Resampler|Perceiver|Q[Ff]ormer|Abstractor")


def text_layout(tokenizer: Any, input_ids: Any) -> TokenLayout:
    """The layout of one text: span "text", with its token strings and special tokens.

    Args:
        tokenizer: of transformers, or anything with ``convert_ids_to_tokens`` and
            ``all_special_ids``.
        input_ids: (N,) or (1, N) whole numbers.

    Raises:
        LayoutError: several texts, no whole numbers, or none at all.
    """
    ids = torch.as_tensor(input_ids)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise LayoutError(f"input_ids are {ids.dtype}, expected whole numbers, as the tokenizer returns them")
    if ids.ndim not in (1, 2) or (ids.ndim == 2 and ids.shape[0] != 1) or not ids.numel():
        raise LayoutError(
            f"input_ids have shape {tuple(ids.shape)}, expected one text, (N,) or (1, N); take one of "
            "them: input_ids[0]"
        )
    return text_layouts(tokenizer, ids)[0]


def text_layouts(tokenizer: Any, ids: Tensor) -> tuple[TokenLayout, ...]:
    """The layout of every text of a batch of token ids (B, N), or of one, (N,)."""
    special = _added(tokenizer)
    return tuple(_spelled(tokenizer, row, special) for row in ids.reshape(-1, ids.shape[-1]).tolist())


def _added(tokenizer: Any) -> set[int]:
    """Ids of special tokens but those that stand for words of the text: unknown ones, and masked ones."""
    ends = {getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos", "pad")}
    words = {getattr(tokenizer, f"{name}_token_id", None) for name in ("unk", "mask")}
    return set(tokenizer.all_special_ids) - (words - ends)


def _spelled(tokenizer: Any, ids: list[int], special: set[int]) -> TokenLayout:
    strings = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    return TokenLayout.text(strings, [place for place, i in enumerate(ids) if i in special])


def text_lengths(inputs: Inputs, name: str = "") -> dict[str, int]:
    """Argument of token ids → number of tokens, of those that the attention ``name`` can have read.

    An encoder reads ``input_ids``. A decoder reads ``decoder_input_ids`` where there are any, and
    otherwise ``input_ids``; where nothing tells the two apart, both count.
    """
    known = {n: int(inputs[n].shape[-1]) for n in (*_ENCODER, *_DECODER) if _is_ids(inputs.get(n))}
    if in_decoder(name) and not known.keys().isdisjoint(_DECODER):
        return {n: known[n] for n in _DECODER}
    if in_encoder(name):
        return {n: known[n] for n in _ENCODER if n in known}
    return known


def _is_ids(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def multimodal_layout(model: nn.Module, num_tokens: int, evidence: Evidence) -> TokenLayout | None:
    """The layout of ``input_ids`` with image or video tokens among them.

    Runs of these tokens are the spans "image", "image_2", …, "video", …; what is between them "text".
    "text_2", …. Grids: ``image_grid_thw`` and ``video_grid_thw`` over the model's
    ``spatial_merge_size``; or else the grid of the vision tower's patches, where the number of
    pictures shows how many tokens each of them has. Pictures whose tokens follow each other are told
    apart by the same.

    Returns:
        None where ``input_ids`` has another length or no such tokens.

    Raises:
        LayoutError: the samples of the batch differ.
    """
    ids = whole_numbers(evidence.inputs, "input_ids")
    if ids is None or ids.ndim == 0 or ids.shape[-1] != num_tokens:
        return None
    kinds = _kinds(model, ids)
    if not bool((kinds > 0).any()):
        return None
    samples = kinds.reshape(-1, num_tokens).shape[0]
    row = agreeing_rows(kinds, "the places of image tokens in input_ids")
    there = [kind for mark, kind in enumerate(_TOKENS, 1) if bool((row == mark).any())]
    shapes = {kind: _shapes(model, evidence, kind, kinds, samples) for kind in there}
    runs = [(_name(mark), len(list(run))) for mark, run in groupby(row.tolist())]
    return joined(_placed(runs, shapes))


def _name(mark: int) -> str:
    return ("text", *_TOKENS)[mark]


def _kinds(model: nn.Module, ids: Tensor) -> Tensor:
    """0 for text, 1 for image tokens, 2 for video tokens."""
    config = getattr(model, "config", None)
    kinds = torch.zeros_like(ids)
    for mark, names in enumerate(_TOKENS.values(), 1):
        token = next((t for n in names if isinstance(t := getattr(config, n, None), int)), None)
        if token is not None:
            kinds[ids == token] = mark
    return kinds


def _placed(runs: Sequence[tuple[str, int]], shapes: dict[str, list[Shape] | None]) -> Iterator[Part]:
    """Runs cut into pictures; a kind whose pictures do not fill its runs exactly has no grids."""
    cuts = {kind: _cut([n for name, n in runs if name == kind], known) for kind, known in shapes.items()}
    iterators = {kind: iter(cut) for kind, cut in cuts.items() if cut is not None}
    for kind, count in runs:
        if kind in iterators:
            for t, r, c in next(iterators[kind]):
                yield Part(kind, t * r * c, (r, c) if t == 1 else (t, r, c))
        else:
            yield Part(kind, count)


def _cut(runs: Sequence[int], shapes: list[Shape] | None) -> list[list[Shape]] | None:
    """For every run the pictures that fill it, in order; videos whole, or else frame by frame."""
    if shapes is None:
        return None
    frames = [(1, r, c) for t, r, c in shapes for _ in range(t)]
    return _filled(runs, shapes) or _filled(runs, frames)


def _filled(runs: Sequence[int], shapes: Sequence[Shape]) -> list[list[Shape]] | None:
    left, cut = list(shapes), []
    for count in runs:
        inside: list[Shape] = []
        while left and sum(map(math.prod, inside)) < count:
            inside.append(left.pop(0))
        if sum(map(math.prod, inside)) != count:
            return None
        cut.append(inside)
    return None if left else cut


def _shapes(model: nn.Module, evidence: Evidence, kind: str, kinds: Tensor, samples: int) -> list[Shape] | None:
    """The pictures of one sample, in order; None where they are not known."""
    stated = whole_numbers(evidence.inputs, f"{kind}_grid_thw")
    if stated is not None:
        return _of_sample(_merged(model, stated), samples, kind)
    if kind != "image" or not _keeps_order(model):
        return None
    count, pictures = int((kinds == 1).sum()), _count_pictures(evidence)
    if not pictures or count % pictures or pictures % samples:
        return None
    grid = _pooled(measured_grids(evidence), count // pictures)
    return None if grid is None else [(1, *grid)] * (pictures // samples)


def _merged(model: nn.Module, grids: Tensor) -> list[Shape] | None:
    """Grids of patches (pictures, 3) as grids of tokens: so many patches side by side become one."""
    config = getattr(model, "config", None)
    owners = (getattr(config, "vision_config", None), config)
    merge = next((m for o in owners if isinstance(m := getattr(o, "spatial_merge_size", None), int)), None)
    if merge is None or grids.ndim != 2 or grids.shape[-1] != 3:
        return None
    return [(t, r // merge, c // merge) for t, r, c in grids.tolist()]


def _of_sample(shapes: list[Shape] | None, samples: int, kind: str) -> list[Shape] | None:
    if shapes is None or len(shapes) % samples:
        return None
    each = len(shapes) // samples
    groups = [shapes[i * each : (i + 1) * each] for i in range(samples)]
    differing = next((g for g in groups if g != groups[0]), None)
    if differing is not None:
        one, other = (" and ".join(times(s) for s in g) for g in (groups[0], differing))
        raise LayoutError(
            f"{kind}_grid_thw differs between the samples of the batch ({one} tokens; {other}), expected the same "
            f"in all; {ONE_SAMPLE}"
        )
    return groups[0]


def _count_pictures(evidence: Evidence) -> int | None:
    """Pictures (or tiles of them) that went through the vision tower."""
    inputs = evidence.inputs
    pixels, mask = shape(inputs, "pixel_values"), _known(inputs.get("pixel_attention_mask"))
    if pixels is None:  # generate() runs the tower ahead of the forward
        counts = set(evidence.conv_batches)
        return counts.pop() if len(counts) == 1 else None
    if len(pixels) not in (4, 5):
        return None
    if mask is not None and mask.ndim == 4:  # pictures that only fill up the batch are masked
        return int((mask != 0).flatten(2).any(-1).sum())
    return math.prod(pixels[:-3])


def _known(value: Any) -> Tensor | None:
    """A mask whose entries are known."""
    return value.detach().cpu() if isinstance(value, Tensor) and not value.is_meta else None


def _pooled(grids: Sequence[Grid], count: int) -> tuple[int, int] | None:
    """The one grid of ``count`` tokens that squares of patches make.

    Pixel shuffles and pools take the picture for square, and so mix up the patches of any other.
    """
    pooled = set()
    for grid in grids:
        rows, columns = grid[-2:]
        side = math.isqrt(rows * columns // count)
        if len(grid) != 2 or side < 1 or count * side**2 != rows * columns:
            continue
        if side == 1 or (rows == columns and rows % side == 0):
            pooled.add((rows // side, columns // side))
    return pooled.pop() if len(pooled) == 1 else None


def _keeps_order(model: nn.Module) -> bool:
    """Whether the tokens of a picture are its patches row by row.

    Not where they are answers to learned queries, or rows end with a token of their own.
    """
    for module in model.modules():
        newline = module._parameters.get("image_newline", module.__dict__.get("image_newline"))
        if _REORDERED.search(type(module).__name__) or isinstance(newline, Tensor):
            return False
        if any(module._parameters.get(name) is not None for name in _QUERIES):
            return False
    return True

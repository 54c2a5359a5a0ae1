"""Parts of records: forward calls at a timestep, branches of guidance, samples of a batch without their padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..attention_mask import allowed
from ..errors import LayoutError, NotFoundError
from ..layout import TokenLayout
from ..recording import AttentionRecord, Branch
from ..recording.record import branch_of, part

_SAME_TIME = 1e-3  # relative: timesteps as people type them


def at_timestep(records: Sequence[AttentionRecord], timestep: float) -> list[AttentionRecord]:
    """The records whose forward call was given ``timestep``, or the nearest to it to a thousandth.

    Raises:
        NotFoundError: there are none.
    """
    times = list(dict.fromkeys(r.timestep for r in records if r.timestep is not None))
    nearest_one = min(times, key=lambda t: abs(t - timestep), default=None)
    if nearest_one is None or abs(nearest_one - timestep) > _SAME_TIME * abs(timestep):
        listed = ", ".join(f"{t:g}" for t in times[:8]) + (" …" if len(times) > 8 else "")
        raise NotFoundError(f"no timestep {timestep:g} in this trace; the timesteps here are {listed or 'none'}")
    return [r for r in records if r.timestep == nearest_one]


def of_branch(records: Sequence[AttentionRecord], branch: Branch) -> list[AttentionRecord]:
    """The part of each record that is one branch of guidance; records without that branch are left out.

    Raises:
        NotFoundError: no record has it.
        CaptureError: a batch that does not divide into its branches.
    """
    kept = []
    for record in records:
        if record.branches == (branch,):
            kept.append(record)
        elif branch in record.branches:
            kept.append(respelled(branch_of(record, branch)))
    if not kept:
        others = sorted({", ".join(r.branches) or "none" for r in records})
        raise NotFoundError(
            f"no {branch} branch in this trace; branches of its forward calls: {'; '.join(others)} (guidance shows "
            "in a denoiser's timestep and in latents that are given twice)"
        )
    return kept


def of_sample(records: Sequence[AttentionRecord], sample: int) -> list[AttentionRecord]:
    """One sample of each record (negative from the last), without its padding.

    A record that does not know its batch is taken to have the smallest one that any record shows.

    Raises:
        NotFoundError: no such sample.
        CaptureError: a batch that does not divide into its samples.
    """
    smallest = min((record.shape[0] for record in records if len(record.shape) > 3), default=1)
    kept = []
    for record in records:
        count = record.batch_size or smallest
        if not -count <= sample < count:
            raise NotFoundError(f"sample {sample} of a batch of {count}, expected {-count} … {count - 1}")
        one = respelled(_sample(record, sample % count, count))
        keep = seen_keys(one) if one.is_square and one.windows is None else None
        kept.append(one if keep is None else with_tokens(one, keep))
    return kept


def _sample(record: AttentionRecord, sample: int, count: int) -> AttentionRecord:
    if len(record.shape) > 3:
        return part(record, sample, count)
    return replace(record, texts=record.texts[sample : sample + 1]) if len(record.texts) == count else record


def respelled(record: AttentionRecord) -> AttentionRecord:
    """The record with the strings of its texts in its layout, where they are known now."""
    return replace(record, layout=spelled(record.layout, record.texts))


def spelled(layout: TokenLayout | LayoutError | None, texts: Sequence[TokenLayout]) -> TokenLayout | LayoutError | None:
    """``layout`` with the strings and special tokens of ``texts``, where these fit it and are alike in all samples."""
    if not texts or not isinstance(layout, TokenLayout) or layout.tokens is not None:
        return layout
    first, *others = texts
    if first.num_tokens != layout.num_tokens or any(text != first for text in others):
        return layout
    return replace(layout, tokens=first.tokens, special=first.special)


def seen_keys(record: AttentionRecord) -> list[int] | None:
    """The keys that some query of some head may attend to; None where that is all of them."""
    if record.mask is None:
        return None
    seen = allowed(record.mask)
    seen = seen.flatten(0, -2).any(0) if seen.ndim > 1 else seen
    if seen.numel() == 1 or bool(seen.all()):
        return None
    return [int(i) for i in seen.nonzero()]


def with_tokens(record: AttentionRecord, keep: Sequence[int]) -> AttentionRecord:
    """The square record on the tokens ``keep`` alone; exact where the others are attended to by none of them."""

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.index_select(-2, index.to(tensor.device))

    index = torch.tensor(keep)
    mask, weights = record.mask, record.weights
    if mask is not None:
        mask = mask.index_select(-1, index.to(mask.device))
        mask = rows(mask) if mask.ndim > 1 and mask.shape[-2] > 1 else mask
    if weights is not None:
        weights = weights.index_select(-1, index.to(weights.device)).index_select(-2, index.to(weights.device))
    layout = record.layout.select(keep) if isinstance(record.layout, TokenLayout) else record.layout
    texts = tuple(text.select(keep) for text in record.texts)
    return replace(record, q=rows(record.q), k=rows(record.k), mask=mask, weights=weights, layout=layout, texts=texts)

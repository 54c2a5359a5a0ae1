"""Parts of records: forward calls at a timestep, branches of guidance, samples of a batch without their padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attention_mask import allowed
from ..errors import LayoutError, NotFoundError
from ..layout import TokenLayout
from ..recording import AttentionRecord, Branch
from ..recording.record import branch_of, part
from .padding import padding_rows

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

    A record that does not know its batch is taken to have the smallest one that any record shows. Where calls on a
    cache follow, they lose the keys of the padding, too.

    Raises:
        NotFoundError: no such sample.
        CaptureError: a batch that does not divide into its samples.
    """
    smallest = min((record.shape[0] for record in records if len(record.shape) > 3), default=1)
    kept: list[AttentionRecord] = []
    texts: dict[tuple[str, int], _Padding] = {}
    for record in records:
        count = record.batch_size or smallest
        if not -count <= sample < count:
            raise NotFoundError(f"sample {sample} of a batch of {count}, expected {-count} … {count - 1}")
        one = respelled(_sample(record, sample % count, count))
        key = record.name, record.index
        if not one.is_square:
            kept.append(texts[key].dropped_from(one) if key in texts else one)
            continue
        keep = seen_keys(one) if one.windows is None else None
        kept.append(one if keep is None else with_tokens(one, keep))
        texts[key] = _Padding(() if keep is None else tuple(set(range(one.shape[-1])) - set(keep)), one.shape[-1])
    return kept


@dataclass
class _Padding:
    """Tokens of a text that were dropped, and how many tokens it has so far, with them."""

    tokens: Sequence[int]
    total: int

    def dropped_from(self, call: AttentionRecord) -> AttentionRecord:
        """A further call without their keys, where it attends to none of them."""
        self.total += call.shape[-2]
        keys = call.shape[-1]
        gone = {token + keys - self.total for token in self.tokens} & set(range(keys))
        if not gone or keys > self.total:
            return call
        seen = _seen_by_mask(call.mask) if call.weights is None else (call.weights != 0).flatten(0, -2).any(0)
        if seen is None or bool(seen[sorted(gone)].any()):
            return call
        keep = [i for i in range(keys) if i not in gone]
        return replace(
            call,
            k=_taken(call.k, -2, keep),
            mask=_taken(call.mask, -1, keep),
            weights=_taken(call.weights, -1, keep),
        )


def _taken(tensor: Tensor | None, dim: int, keep: Sequence[int]) -> Tensor | None:
    """Some places of a dimension, as a view where they follow each other: keys of a cache share their memory."""
    if tensor is None:
        return None
    if keep and list(keep) == list(range(keep[0], keep[-1] + 1)):
        return tensor.narrow(dim, keep[0], len(keep))
    return tensor.index_select(dim, torch.tensor(keep, device=tensor.device))


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
    seen = _seen_by_weights(record.weights) if record.weights is not None else _seen_by_mask(record.mask)
    if seen is None or bool(seen.all()):
        return None
    return [int(i) for i in seen.nonzero()]


def _seen_by_mask(mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    seen = allowed(mask)
    seen = seen.flatten(0, -2).any(0) if seen.ndim > 1 else seen
    return None if seen.numel() == 1 else seen


def _seen_by_weights(weights: Tensor) -> Tensor:
    """Keys (N,) that have weight in some row; rows of padding do not count."""
    rows = weights.flatten(0, -3) if weights.ndim > 2 else weights[None]
    return (rows != 0).any(0)[~padding_rows(rows)].any(0)


def blind_tokens(record: AttentionRecord) -> Tensor | None:
    """Tokens (…, N) of a square record that may attend to nothing; None where it has neither mask nor weights.

    Without windows a uniform row of padding is one of them (``padding_rows``).
    """
    if record.weights is not None:
        weights, sums = record.weights, record.weights.sum(-1)
        blind = sums.isnan() | (sums == 0)
        if record.windows is not None:
            return blind
        samples = weights.flatten(0, -4) if weights.ndim > 3 else weights.reshape(1, -1, *weights.shape[-2:])
        padding = torch.stack([padding_rows(sample) for sample in samples])
        return blind | (padding[0] if weights.ndim < 4 else padding.reshape(*weights.shape[:-3], 1, -1))
    if record.mask is None:
        return None
    seen = allowed(record.mask)
    if record.is_causal:
        n = record.shape[-1]
        seen = seen & torch.ones(n, n, dtype=torch.bool, device=seen.device).tril()
    return ~seen.any(-1)


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

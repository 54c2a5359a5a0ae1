"""How far the attention of one network is from another's, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

LONGEST = 64  # pieces; longer sentences are cut


def batches(tokenizer: Tokenizer, texts: Sequence[str], size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and mask (B, N), texts of like length together."""
    rows = sorted((encoded.ids[:LONGEST] for encoded in tokenizer.encode_batch(list(texts))), key=len)
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        ids, mask = torch.zeros(len(part), len(part[-1]), dtype=torch.long), torch.zeros(len(part), len(part[-1]))
        for place, row in enumerate(part):
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        yield ids, mask


@torch.no_grad()
def distances(
    whole: BertModel, small: BertModel, kept: Sequence[int], tokenizer: Tokenizer, texts: Sequence[str]
) -> list[dict[str, float]]:
    """Mean KL divergence (nats) and total variation of the rows of attention, a layer; what CLS and SEP get of it.

    Args:
        whole: the network, with all its pieces, attention "eager".
        small: the one that is compared, attention "eager".
        kept: id of ``small`` → id of ``whole``.
        tokenizer: of ``small``; both see the same pieces.
        texts: one row of numbers is one query of one head in one of them.
    """
    ids_of = torch.as_tensor(kept)
    sums = torch.zeros(small.config.num_hidden_layers, 3, dtype=torch.float64)
    rows = 0.0
    for ids, mask in batches(tokenizer, texts):
        told = whole(ids_of[ids], mask, output_attentions=True).attentions
        found = small(ids, mask, output_attentions=True).attentions
        rows += float(mask.sum()) * small.config.num_attention_heads
        ends = torch.zeros_like(mask)
        ends[:, 0] = ends[torch.arange(len(mask)), mask.sum(1).long() - 1] = 1
        for layer, (a, b) in enumerate(zip(told, found, strict=True)):
            queries = mask[:, None, :].double()
            kl = (a * (a.clamp_min(1e-9).log() - b.clamp_min(1e-9).log())).sum(-1)
            special = (a * ends[:, None, None, :]).sum(-1)
            for column, value in enumerate((kl, (a - b).abs().sum(-1) / 2, special)):
                sums[layer, column] += (value.double() * queries).sum()
    return [{"kl": kl, "total_variation": tv, "on_cls_and_sep": ends} for kl, tv, ends in (sums / rows).tolist()]


def token_costs(whole: Tokenizer, small: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """What the smaller vocabulary costs: more tokens (a share), unknown ones, and texts split as before (a share)."""
    before = whole.encode_batch(list(texts), add_special_tokens=False)
    after = small.encode_batch(list(texts), add_special_tokens=False)
    return {
        "more": sum(len(e.ids) for e in after) / sum(len(e.ids) for e in before) - 1,
        "unknown": sum(e.tokens.count("[UNK]") for e in after),
        "texts_unchanged": sum(a.tokens == b.tokens for a, b in zip(before, after, strict=True)) / len(texts),
    }

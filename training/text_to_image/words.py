"""Captions: whole words, a stock tokenizer of transformers, and the ids of many captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LENGTH = 12
"""Text tokens: "a golden retriever and a school bus", its end, and padding."""

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
FUNCTION_WORDS = ("a", "and", "of", "photo")
NAMES = 2  # of a class that captions use
WIDEST = 3  # words of a name


def class_names(file: Path) -> list[list[str]]:
    """Names of each class, in lower case and of up to three words, from lines "number, wnid, names"."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            plain = line.split("\t")[-1].lower().replace("-", " ").replace("'s", "").replace("'", "")
            names = [" ".join(name.split()) for name in plain.split(",")]
            found.append([name for name in names if len(name.split()) <= WIDEST][:NAMES] or [names[0]])
    return found


def make_tokenizer(names: Sequence[Sequence[str]]) -> Any:
    """A fast tokenizer of transformers: one token a word, ``</s>`` at the end, ``<pad>`` up to ``LENGTH``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = sorted({word for group in names for name in group for word in name.split()} | set(FUNCTION_WORDS))
    vocabulary = {word: number for number, word in enumerate([PAD, END, UNKNOWN, *known])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, vocabulary[END])])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=LENGTH
    )


class Captions:
    """Ids of "a X" and "a X and a Y", (B, LENGTH), without a tokenizer in the loop.

    Args:
        names: of each class.
        vocabulary: word → id.
    """

    def __init__(self, names: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> None:
        self.pad, self.end, self.link = vocabulary[PAD], vocabulary[END], vocabulary["and"]
        self.names = torch.full((len(names), NAMES, 1 + WIDEST), self.pad)
        for number, group in enumerate(names):
            for k in range(NAMES):
                ids = [vocabulary[word] for word in ("a", *group[k % len(group)].split())]
                self.names[number, k, : len(ids)] = torch.tensor(ids)

    def __call__(self, first: Tensor, second: Tensor, both: Tensor, drop: float = 0.0) -> Tensor:
        """Captions of classes ``first`` and, where ``both``, ``second``, in either order; emptied with ``drop``."""
        count = len(first)
        one, two = (self.names[label, torch.randint(NAMES, (count,))] for label in (first, second))
        turned = ((torch.rand(count) < 0.5) & both)[:, None]
        one, two = torch.where(turned, two, one), torch.where(turned, one, two)
        more = torch.cat([torch.full((count, 1), self.link), two], 1)
        ids = torch.cat([one, torch.where(both[:, None], more, self.pad)], 1)
        ids = F.pad(ids, (0, LENGTH - ids.shape[1]), value=self.pad)
        ids = ids.gather(1, (ids == self.pad).byte().argsort(dim=1, stable=True))  # words first, in order
        ids = torch.where((torch.rand(count) < drop)[:, None], self.pad, ids)
        return ids.scatter(1, (ids != self.pad).sum(1, keepdim=True), self.end)

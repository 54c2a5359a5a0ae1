"""The frequent pieces of a WordPiece tokenizer, which falls back on shorter pieces for the rest."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHUNK = 2000


def piece_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each piece's id occurs."""
    counts: Counter[int] = Counter()
    waiting = iter(texts)
    while chunk := list(islice(waiting, _CHUNK)):
        for encoded in tokenizer.encode_batch(chunk, add_special_tokens=False):
            counts.update(encoded.ids)
    return counts


def frequent(vocabulary: Mapping[str, int], counts: Counter[int], size: int) -> list[int]:
    """Ids of the pieces that stay, at their new places: special tokens, single signs, then the most frequent.

    ASCII characters stay, alone and inside of a word, and so do all punctuation marks and signs: no English word is
    unknown.

    Raises:
        ValueError: fewer pieces than that were asked for, or more than there are.
    """
    signs = [i for piece, i in vocabulary.items() if _is_sign(piece)]
    kept = dict.fromkeys([*(vocabulary[name] for name in SPECIAL), *signs])
    rest = [*(i for i, _ in counts.most_common()), *vocabulary.values()]
    if not len(kept) <= size <= len(vocabulary):
        raise ValueError(f"size = {size}, expected {len(kept)} to {len(vocabulary)} pieces")
    for i in rest:
        if len(kept) == size:
            break
        kept.setdefault(i)
    return list(kept)


def cut_tokenizer(told: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """``tokenizer.json`` with the pieces ``kept`` alone, numbered anew, without padding and truncation."""
    cut = copy.deepcopy(dict(told))
    place = {old: new for new, old in enumerate(kept)}
    pieces = {i: piece for piece, i in told["model"]["vocab"].items()}
    cut["model"]["vocab"] = {pieces[old]: new for old, new in place.items()}
    cut["padding"] = cut["truncation"] = None
    for token in cut["added_tokens"]:
        token["id"] = place[token["id"]]
    post = cut["post_processor"]
    for entry in post.get("special_tokens", {}).values():
        entry["ids"] = [place[i] for i in entry["ids"]]
    for name in ("cls", "sep"):
        if name in post:
            post[name][1] = place[post[name][1]]
    Tokenizer.from_str(json.dumps(cut))  # raises where it is none
    return cut


def _is_sign(piece: str) -> bool:
    bare = piece.removeprefix("##")
    return len(bare) == 1 and (bare.isascii() or (bare == piece and unicodedata.category(bare)[0] in "PS"))

"""What TokenRank names in a text, layer by layer: words that say something, or the most frequent ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import tokenrank as tr

SHORTEST = 10  # tokens, special ones left out
TOP = 5  # a fifth of the tokens is named first


def frequent_on_top(folder: Path, texts: Sequence[str], frequent: Collection[str]) -> dict[str, list[float] | float]:
    """Share of ``frequent`` tokens among the fifth that TokenRank puts first, a layer; and among all tokens.

    Args:
        folder: of the network.
        texts: those of fewer than ten tokens are left out.
        frequent: token strings, such as "the", "of" and ",".
    """
    model = tr.load(folder)
    shares: list[list[float]] = []
    everywhere: list[float] = []
    for text in texts:
        seen = tr.observe(text, model, kind="text")
        for layer in seen.layers:
            ranked = seen.chain(layer).tokenrank()
            tokens = () if ranked.layout is None else ranked.layout.tokens or ()
            if len(tokens) < SHORTEST:
                break
            order = ranked.values.argsort(descending=True)[: len(tokens) // TOP].tolist()
            if layer == seen.layers[0]:
                everywhere.append(_share(tokens, frequent))
                shares.append([])
            shares[-1].append(_share([tokens[i] for i in order], frequent))
    layers = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    return {"texts": len(shares), "all_tokens": sum(everywhere) / len(everywhere), "top_fifth": layers}


def _share(tokens: Sequence[str], frequent: Collection[str]) -> float:
    return sum(token in frequent for token in tokens) / len(tokens)

"""Tables of answers for a notebook: numbers as they are where they are few, from where to where they go where not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..html import note, table
from .words import number_words, range_words

CHAINS = 16  # rows of a table that has one a chain
FEW = 12  # numbers of a chain that are written out


def answer_table(fields: Mapping[str, Tensor], batch: torch.Size, labels: Mapping[str, str]) -> str:
    """An answer's fields: a row each for a single chain, a column each for several, where they are short enough.

    Args:
        fields: name → (*batch, …).
        batch: the leading dimensions.
        labels: name → what it is called.
    """
    count = batch.numel()
    names = {name: labels.get(name, name.replace("_", " ")) for name in fields}
    if count <= 1:
        single = {name: value.reshape(value.shape[len(batch) :]) for name, value in fields.items()}
        return table([(names[name], numbers(value)) for name, value in single.items()])
    short = {name: value for name, value in fields.items() if value[(0,) * len(batch)].numel() <= 1}
    places = [tuple(place.tolist()) for place in torch.ones(batch).nonzero()[:CHAINS]]
    rows = [(f"[{', '.join(map(str, at))}]", *(numbers(value[at]) for value in short.values())) for at in places]
    long = [(names[name], _extent(value)) for name, value in fields.items() if name not in short]
    parts = [table(rows, ("", *(names[name] for name in short)))] if short else []
    parts += [note(f"… and {count - len(rows):,} more chains")] if short and count > len(rows) else []
    return "".join([*parts, table(long) if long else ""])


def numbers(value: Tensor) -> str:
    """The numbers of one chain: written out where they are few, rows of a small matrix with a bar between."""
    if value.numel() > FEW or value.ndim > 2 or not value.numel():
        return _extent(value)
    if value.ndim == 2:
        return " | ".join(numbers(row) for row in value)
    return ", ".join(map(_one, value.reshape(-1)))


def _one(value: Tensor) -> str:
    if value.dtype == torch.bool:
        return "yes" if bool(value) else "no"
    if value.is_complex():
        real, imag = float(value.real), float(value.imag)
        return (
            number_words(real)
            if imag == 0 or real != real
            else f"{real:.4g} {'+' if imag > 0 else '−'} {abs(imag):.4g}i"
        )
    return range_words(value)


def _extent(value: Tensor) -> str:
    if value.dtype == torch.bool:
        return f"{int(value.sum()):,} of {value.numel():,}"
    shape = " × ".join(map(str, value.shape))
    return f"{shape}: {range_words(value)}" if shape else range_words(value)

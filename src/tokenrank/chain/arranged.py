"""Chains of models that keep their tokens in an order of their own, read in the order of their layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from ..operators import Blocks
from .core import Core

C = TypeVar("C", bound=Core)


def arranged(chain: C) -> C:
    """The same chain with its tokens one span after the other, pictures row by row; itself where they are so."""
    layout = chain.layout
    if layout is None or layout.order is None:
        return chain
    order = torch.tensor(layout.order, device=chain.operator.device)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    batch = chain.batch if chain.batch else torch.Size((1,))
    inner = chain.operator.reshape(*batch[:-1], 1, batch[-1])  # one window, which holds all tokens
    operator = Blocks(inner, place[None]).reshape(*chain.batch)
    tokens = None if layout.tokens is None else tuple(layout.tokens[i] for i in layout.order)
    special = tuple(sorted(int(place[i]) for i in layout.special))
    plain = replace(layout, tokens=tokens, special=special, order=None)
    return type(chain).from_operator(operator, plain, chain.picture, chain.caption)

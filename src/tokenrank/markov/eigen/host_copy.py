"""Chains of few tokens copied to the host: small dense problems that a device takes one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...operators import Dense, Operator, everywhere, is_everywhere
from ..engine.transfer import brought
from ..support.communicating import once


class HostCopy(Dense):
    """A (h, N, N) in float64 in the memory of the host, with the support and the errors of what it was made from.

    Args:
        weights: A.
        like: the chain that it is a copy of, on its device.
    """

    def __init__(self, weights: Tensor, like: Operator, support: Tensor, error: Tensor) -> None:
        super().__init__(weights, like.structure, "host")
        self._like, self._support, self._error = like, support, error

    @classmethod
    def of(cls, flat: Operator) -> HostCopy:
        """Of a chain (h, N, N), by blocks of rows, in one copy where there is one."""
        support, n, error = flat.support(), flat.num_tokens, flat.entry_error(torch.float64)
        first, *others = flat.blocks(torch.float64)
        if is_everywhere(support):
            rows, error = brought(flat.rows(*first, torch.float64), error)
            seen = everywhere(n, n, torch.device("cpu"))
        else:
            rows, error, seen = brought(flat.rows(*first, torch.float64), error, once(support))
        blocks = [rows, *(flat.rows(*block, torch.float64).cpu() for block in others)]
        return cls(torch.cat(blocks, -2), flat, seen.expand(flat.shape), error)

    @property
    def source(self) -> str:
        """What the chain was made from, and not how it was copied."""
        return self._like.source

    def support(self) -> Tensor:
        """Where a step is possible, also where its weight is no number that a copy could hold."""
        return self._support

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        """That of the entries that were copied, in float64."""
        return self._error

    def index(self, *index: Any) -> HostCopy:
        """The chains that ``index`` selects."""
        return HostCopy(self.weights[index], self._like, self._support[index], self._error[index])

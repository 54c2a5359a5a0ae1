"""One factor for each token, by its logarithm: as good as the precision that it is asked for in needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ChainError


class Factors:
    """Factors of tokens, computed when they are first asked for in a precision.

    Args:
        at: their logarithms for products in a dtype, (*batch, N) in float64; −∞ for none.
        error: a proved bound of what each of these is off by, (*batch,) in float64.
        hidden: which are zero, bool (*batch or less, N), or None where none is; whatever the precision.
    """

    def __init__(
        self,
        at: Callable[[torch.dtype], Tensor],
        error: Callable[[torch.dtype], Tensor],
        hidden: Callable[[], Tensor | None],
    ) -> None:
        self._at, self._error, self._hidden = at, error, hidden
        self._found: dict[torch.dtype, Tensor] = {}
        self._errors: dict[torch.dtype, Tensor] = {}
        self._hides: tuple[Tensor | None] | None = None

    @classmethod
    def given(cls, log: Tensor, error: Tensor | None = None, hidden: tuple[Tensor | None] | None = None) -> Factors:
        """Of logarithms that are known, the same in every precision; and which are −∞ where that is known already."""
        off = torch.zeros(log.shape[:-1], dtype=torch.float64, device=log.device) if error is None else error
        new = cls(partial(_known, log), partial(_known, off), partial(_missing, log))
        new._hides = hidden
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Factors that are computed hold functions of the chain that they came from, which no pickle can keep."""
        if not isinstance(self._at, partial):
            raise ChainError(
                "a chain that was turned round cannot be pickled: it computes its factors when they are asked for; "
                "pickle the chain as it was before, or AttentionChain(chain.to_dense(), chain.layout)"
            )
        return {**self.__dict__, "_found": {}, "_errors": {}}

    def at(self, dtype: torch.dtype) -> Tensor:
        """The logarithms as products in ``dtype`` take them, (*batch, N) in float64."""
        if dtype not in self._found:
            self._found[dtype] = self._at(dtype)
        return self._found[dtype]

    def error(self, dtype: torch.dtype) -> Tensor:
        """What each of ``at(dtype)`` may be off by, (*batch,)."""
        if dtype not in self._errors:
            self._errors[dtype] = self._error(dtype)
        return self._errors[dtype]

    def hidden(self) -> Tensor | None:
        """Which factors are zero, bool (*batch or less, N); None where none is."""
        if self._hides is None:
            self._hides = (self._hidden(),)
        return self._hides[0]

    def part(self, part: Callable[[Tensor], Tensor], whole: bool = False) -> Factors:
        """Those of a part of the batch, or with ``whole`` of other leading dimensions."""

        def hidden() -> Tensor | None:
            hidden = self.hidden()
            if hidden is None or hidden.ndim == 1:
                return hidden
            return part(hidden) if whole else some(part(hidden))

        return Factors(lambda dtype: part(self.at(dtype)), lambda dtype: part(self.error(dtype)), hidden)

    def on(self, keep: Tensor) -> Factors:
        """Those of the tokens ``keep`` alone."""

        def hidden() -> Tensor | None:
            hidden = self.hidden()
            return None if hidden is None else some(hidden.index_select(-1, keep))

        return Factors(lambda dtype: self.at(dtype).index_select(-1, keep), self.error, hidden)


def _known(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value


def _missing(log: Tensor) -> Tensor | None:
    return some(log == -torch.inf)


def some(hidden: Tensor) -> Tensor | None:
    """The same, (N,) where all chains agree, None where nothing is hidden."""
    return chosen(hidden, *facts(hidden).tolist())


def facts(hidden: Tensor) -> Tensor:
    """Whether something is hidden, and whether all chains agree: bool (2,), on the device."""
    return torch.stack([hidden.any(), (hidden == _first(hidden)).all()])


def chosen(hidden: Tensor, there: bool, alike: bool) -> Tensor | None:
    """What ``some`` gives, by these two."""
    return None if not there else _first(hidden) if alike else hidden


def _first(hidden: Tensor) -> Tensor:
    return hidden.reshape(-1, hidden.shape[-1])[0]

"""Weights in memory seen from the other side, by plain quotients wherever those can be told from nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .base import OPPOSITE, Measure, Operator, Structure
from .choice import shares
from .device.path import Path
from .factors import Factors
from .rounding import MARGIN, WEIGHTS, few, half_eps, narrowing

if TYPE_CHECKING:
    from typing_extensions import Self

FAINT = {torch.float64: 1e-280, torch.float32: 1e-25}  # sums of a row below which what underflows would be missed
LEAST = 800.0  # nats: as far down as weights reach


class Weights(Protocol):
    """Weights in memory, (*batch, N, N), as ``Dense`` holds them."""

    weights: Tensor
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    structure: Structure

    @property
    def path(self) -> Path:
        """How products are taken."""

    def product(self, x: Tensor, transposed: bool) -> Tensor:
        """The weights or their transpose times x (*batch, N, c), in the dtype of x."""

    def reshape(self, *batch: int) -> Self:
        """The same with other leading dimensions."""

    def index(self, *index: Any) -> Self:
        """Those that ``index`` selects from the batch."""


@dataclass
class Quotients:
    """A[i, j] = M_ij h_j / Σ_k M_ik h_k in one precision, of which h has 1 as its largest.

    Attributes:
        factors, sums: h_j and Σ_k M_ik h_k, (*batch, N, 1); a sum is infinite where the row is among the faint.
        faint: tokens of which some chain of the batch has too small a sum, (m,).
        rows: these rows, (*batch, m, N), from logarithms.
        log_sums: log Σ_k M_ik h_k with h as given, (*batch, N).
    """

    factors: Tensor
    sums: Tensor
    faint: Tensor
    rows: Tensor | None
    log_sums: Tensor

    def part(self, part: Callable[[Tensor], Tensor]) -> Quotients:
        """Those of a part of the batch, or of other leading dimensions."""
        rows = None if self.rows is None else part(self.rows)
        return Quotients(part(self.factors), part(self.sums), self.faint, rows, part(self.log_sums))


class Reweighted(Operator):
    """A[i, j] = M_ij h_j / Σ_k M_ik h_k, M the weights or their transpose.

    Nothing N × N is made but for rows whose sum is too small for a quotient: those are kept, from logarithms. Single
    precision makes do with sums in single precision where all are large enough for that.

    Args:
        dense: the weights, W.
        transposed: whether M is Wᵀ.
        log: log h.
    """

    def __init__(self, dense: Weights, transposed: bool, log: Factors) -> None:
        self.dense, self.transposed, self.log = dense, transposed, log
        self.shape, self.dtype, self.device, self._path = dense.shape, dense.dtype, dense.device, dense.path
        self.structure = OPPOSITE[dense.structure] if transposed else dense.structure
        self._found: dict[torch.dtype, Quotients] = {}

    def image(self) -> Measure:
        """log Σ_k M_ik h_k."""
        return Measure(
            lambda: self.quotients(torch.float64).log_sums,
            lambda: self.log.error(torch.float64) + self._rounding(),
            self._nowhere,
        )

    def matmul(self, x: Tensor) -> Tensor:
        by = self.quotients(x.dtype)
        y = self.dense.product(by.factors * x.to(by.sums.dtype), self.transposed)
        y = (y / by.sums).to(x.dtype)
        return y if by.rows is None else y.index_copy(-2, by.faint, by.rows.to(x.dtype) @ x)

    def rmatmul(self, x: Tensor) -> Tensor:
        by = self.quotients(x.dtype)
        y = self.dense.product(x.to(by.sums.dtype) / by.sums, not self.transposed)
        y = (by.factors * y).to(x.dtype)
        return y if by.rows is None else y + by.rows.to(x.dtype).mT @ x.index_select(-2, by.faint)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        by, weights = self.quotients(dtype or self.dtype), self.dense.weights
        # in the order in which the weights lie in memory
        if self.transposed:
            block = weights[..., start:stop].to(by.sums.dtype) * by.factors
            rows = block.div_(by.sums[..., start:stop, :].mT).mT
        else:
            rows = (weights[..., start:stop, :].to(by.sums.dtype) * by.factors.mT).div_(by.sums[..., start:stop, :])
        if by.rows is not None:
            within = (by.faint >= start) & (by.faint < stop)
            rows = rows.index_copy(-2, by.faint[within] - start, by.rows[..., within, :])
        return rows.to(dtype or self.dtype)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        by, weights = self.quotients(dtype or self.dtype), self.dense.weights
        columns = weights[..., start:stop, :].mT if self.transposed else weights[..., start:stop]
        columns = (columns.to(by.sums.dtype) * by.factors[..., start:stop, :].mT).div_(by.sums)
        if by.rows is not None:
            columns = columns.index_copy(-2, by.faint, by.rows[..., start:stop])
        return columns.to(dtype or self.dtype)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        by = self.quotients(dtype or self.dtype)
        diagonal = self.dense.weights.diagonal(dim1=-2, dim2=-1).to(by.sums.dtype)
        diagonal = diagonal * by.factors[..., 0] / by.sums[..., 0]
        if by.rows is not None:
            own = by.rows.gather(-1, by.faint[:, None].expand(*by.rows.shape[:-1], 1))[..., 0]
            diagonal = diagonal.index_copy(-1, by.faint, own)
        return diagonal.to(dtype or self.dtype)

    def support(self) -> Tensor:
        possible = self.dense.weights > 0
        hidden = self.log.hidden()
        possible = possible.mT if self.transposed else possible
        return possible if hidden is None else possible & ~hidden[..., None, :]

    @property
    def source(self) -> str:
        return WEIGHTS

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        error = self.log.error(dtype) + narrowing(self.dtype, dtype) + 4 * narrowing(torch.float64, dtype)
        if dtype == self.dtype and dtype != torch.float64 and self._ordinary(dtype):
            # sums of N products, and what underflows in them
            lost = self.num_tokens * torch.finfo(dtype).tiny / FAINT[dtype]
            return 2 * error + 2 * (MARGIN * (self.num_tokens + 8) * half_eps(dtype) + lost)
        return 2 * error + 2 * self._rounding()

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        sums = self.quotients(torch.float64).log_sums
        log = torch.where(sums > -torch.inf, measure.log - sums, -torch.inf)
        own = self.log.error(torch.float64)
        error = measure.error + own + self._rounding() + few(2, log)
        turned = Reweighted(self.dense, not self.transposed, Factors.given(log, error))
        image = turned.image().times(self.log.at(torch.float64), own + self._rounding())
        return turned, image

    def reshape(self, *batch: int) -> Reweighted:
        kept = len(self.batch)
        return self._like(self.dense.reshape(*batch), lambda t: t.reshape((*batch, *t.shape[kept:])))

    def index(self, *index: Any) -> Reweighted:
        return self._like(self.dense.index(*index), lambda t: t[index])

    def quotients(self, dtype: torch.dtype) -> Quotients:
        """What products in ``dtype`` take, in that precision or, where a sum is too small for it, in double."""
        if dtype not in self._found:
            double = dtype == torch.float64
            self._found[dtype] = self._in_double() if double else self._in_single(dtype)
        return self._found[dtype]

    def _ordinary(self, dtype: torch.dtype) -> bool:
        return self.quotients(dtype).sums.dtype == dtype

    def _in_single(self, dtype: torch.dtype) -> Quotients:
        by = self.quotients(torch.float64) if self.dtype == torch.float64 else self._plain(dtype)
        if bool(by.sums.amin() > FAINT[dtype]) and by.rows is None:
            return by.part(lambda t: t.to(dtype))
        return self.quotients(torch.float64)

    def _plain(self, dtype: torch.dtype) -> Quotients:
        log = self.log.at(dtype)
        top = log.amax(-1, keepdim=True)
        top = torch.where(top > -torch.inf, top, 0.0)
        factors = (log - top).exp().to(dtype)[..., None]
        sums = self.dense.product(factors, self.transposed)
        return Quotients(factors, sums, self._no_tokens(), None, sums[..., 0].double().log() + top)

    def _in_double(self) -> Quotients:
        by = self._plain(torch.float64)
        if bool(by.sums.amin() > FAINT[torch.float64]):
            return by
        small = ~(by.sums[..., 0] > FAINT[torch.float64])
        by.faint = small.reshape(-1, self.num_tokens).any(0).nonzero()[:, 0]
        weights = self.dense.weights
        rows = weights.index_select(-1, by.faint).mT if self.transposed else weights.index_select(-2, by.faint)
        logs = rows.double().log() + self.log.at(torch.float64)[..., None, :]
        by.rows = shares(logs, -1)
        by.log_sums[..., by.faint] = logs.logsumexp(-1)
        by.sums = by.sums.index_fill(-2, by.faint, torch.inf)
        return by

    def _no_tokens(self) -> Tensor:
        return torch.empty(0, dtype=torch.long, device=self.device)

    def _rounding(self) -> Tensor:
        """Of logarithms in double precision, (*batch,)."""
        by, log = self.quotients(torch.float64), self.log.at(torch.float64)
        # weights may be as small as numbers can be: their logarithms count where these are taken
        smallest = torch.full_like(log[..., :1], 0.0 if by.rows is None else -LEAST)
        return few(self.num_tokens, torch.cat([log, by.log_sums, smallest], -1))

    def _nowhere(self) -> Tensor | None:
        if self.quotients(self.dtype).rows is None:
            return None
        return self.quotients(torch.float64).log_sums == -torch.inf

    def _like(self, dense: Weights, part: Callable[[Tensor], Tensor]) -> Reweighted:
        new = Reweighted(dense, self.transposed, self.log.part(part))
        new._found = {dtype: by.part(part) for dtype, by in self._found.items()}
        return new

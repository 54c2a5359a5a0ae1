"""What every operator has to do. Inherit, supply ``make``, and get all of these tests.

``make(batch, dtype)`` returns an operator with these leading dimensions and precision, and the
float64 matrices (*batch, N, N) that it stands for.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.operators import QUERIES, WEIGHTS, Operator, base, restrict, reverse
from tokenrank.operators.base import Measure

from . import oracles

BATCHES: list[tuple[int, ...]] = [(), (3,), (2, 1, 3)]
DTYPES = (torch.float32, torch.float64)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal to 1e-5 in float32 and 1e-10 in float64, of the largest entry where that exceeds one."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).abs().max().item()
    allowed = TOLERANCE[dtype] * max(1.0, expected.abs().max().item())
    assert error <= allowed, f"off by {error:.2e}, allowed {allowed:.2e}"


class OperatorConformance:
    """Inherit as ``class TestMine(OperatorConformance)``."""

    structure = "full"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        raise AssertionError(f"{type(self).__name__} has to supply make()")

    @pytest.fixture(params=BATCHES, ids=lambda b: "x".join(map(str, b)) or "single")
    def batch(self, request: pytest.FixtureRequest) -> tuple[int, ...]:
        return request.param

    @pytest.fixture
    def dtype(self, batch: tuple[int, ...]) -> torch.dtype:
        """In turns: every operator in every batch and in both precisions, every batch in both, half of all three."""
        turn = sum(type(self).__name__.encode())
        return DTYPES[(BATCHES.index(batch) + turn) % 2]

    @pytest.fixture
    def case(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        operator, dense = self.make(batch, dtype)
        assert dense.dtype == torch.float64
        return operator, dense

    @pytest.fixture
    def operator(self, case: tuple[Operator, Tensor]) -> Operator:
        return case[0]

    @pytest.fixture
    def dense(self, case: tuple[Operator, Tensor]) -> Tensor:
        return case[1]

    @pytest.fixture
    def x(self, dense: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.randn(*dense.shape[:-1], 3, dtype=dtype)

    def test_declares_itself(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        assert operator.shape == dense.shape
        assert operator.batch == dense.shape[:-2]
        assert operator.num_tokens == dense.shape[-1]
        assert operator.dtype == dtype
        assert operator.device == dense.device
        assert operator.structure == self.structure

    def test_support(self, operator: Operator, dense: Tensor) -> None:
        """No step where there is no probability; exact zeros are masks in all the cases here."""
        possible = operator.support()
        assert possible.dtype == torch.bool
        assert torch.equal(possible.expand(dense.shape), dense > 0)

    def test_row_entropies(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        expected = torch.special.entr(dense).sum(-1)
        found = operator.row_entropies()
        assert found.dtype == dtype
        assert found.amin() >= 0
        assert_close(found, expected, dtype)
        assert_close(operator.row_entropies(torch.float64), expected, torch.float64)

    def test_structure_is_true(self, operator: Operator, dense: Tensor) -> None:
        if operator.structure == "lower":
            assert not dense.triu(1).any()
        if operator.structure == "upper":
            assert not dense.tril(-1).any()

    def test_matmul(self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor) -> None:
        y = operator.matmul(x)
        assert y.dtype == dtype
        assert_close(y, dense @ x.double(), dtype)

    def test_rmatmul(self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor) -> None:
        y = operator.rmatmul(x)
        assert y.dtype == dtype
        assert_close(y, dense.mT @ x.double(), dtype)

    def test_vectors_and_columns_by_the_at_sign(
        self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor
    ) -> None:
        """A @ x and Aᵀ @ x, in the precision of the operator and in both others that are asked for."""
        for precision in (dtype, torch.float32, torch.float64):
            v, columns = x[..., 0].to(precision), x.to(precision)
            wide = columns.double()
            ahead, back = operator @ v, operator.T @ v
            assert ahead.dtype == back.dtype == (operator @ columns).dtype == precision
            assert_close(ahead, (dense @ wide)[..., 0], precision)
            assert_close(back, (dense.mT @ wide)[..., 0], precision)
            assert_close(operator @ columns, dense @ wide, precision)
            assert_close(operator.T @ columns, dense.mT @ wide, precision)
        assert operator.T.T is operator

    def test_products_refuse_what_does_not_fit(self, operator: Operator, x: Tensor) -> None:
        """Leading dimensions are never broadcast, so that a vector is never taken for columns."""
        for wrong in (x[..., :-1, 0], x[..., :-1, :], x[None], x.mT):
            for side in (operator, operator.T):
                with pytest.raises(ChainError, match=r"x has shape .* expected .*a vector a chain"):
                    side @ wrong

    def test_one_column(self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor) -> None:
        assert_close(operator.matmul(x[..., :1]), dense @ x[..., :1].double(), dtype)
        assert_close(operator.rmatmul(x[..., :1]), dense.mT @ x[..., :1].double(), dtype)

    def test_more_columns_than_tokens_and_head_dimensions(
        self, operator: Operator, dense: Tensor, dtype: torch.dtype
    ) -> None:
        x = torch.randn(*dense.shape[:-1], 150, dtype=dtype)
        assert_close(operator.matmul(x), dense @ x.double(), dtype)
        assert_close(operator.rmatmul(x), dense.mT @ x.double(), dtype)

    def test_double_precision_on_request(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        """What certificates rest on: applied to float64, the chain is exact to float64."""
        x = torch.randn(*dense.shape[:-1], 2, dtype=torch.float64)
        assert operator.matmul(x).dtype == operator.rmatmul(x).dtype == torch.float64
        assert_close(operator.matmul(x), dense @ x, torch.float64)
        assert_close(operator.rmatmul(x), dense.mT @ x, torch.float64)
        assert_close(operator.to_dense(torch.float64), dense, torch.float64)
        assert_close(operator.diagonal(torch.float64), dense.diagonal(dim1=-2, dim2=-1), torch.float64)
        assert_close(operator.column_sums(torch.float64), dense.sum(-2), torch.float64)

    def test_single_precision_on_request(self, operator: Operator, dense: Tensor, x: Tensor) -> None:
        x = x.float()
        assert operator.matmul(x).dtype == operator.rmatmul(x).dtype == torch.float32
        assert_close(operator.matmul(x), dense @ x.double(), torch.float32)
        assert_close(operator.rmatmul(x), dense.mT @ x.double(), torch.float32)

    def test_adjoint(self, operator: Operator, dtype: torch.dtype, x: Tensor) -> None:
        y = torch.randn_like(x)
        ahead, back = (y * operator.matmul(x)).sum(-2), (operator.rmatmul(y) * x).sum(-2)
        assert_close(ahead, back, dtype)

    def test_rows_sum_to_one(self, operator: Operator, dtype: torch.dtype) -> None:
        ones = torch.ones(*operator.shape[:-1], 1, dtype=dtype)
        assert_close(operator.matmul(ones), ones, dtype)
        assert_close(operator.to_dense().sum(-1), ones[..., 0], dtype)

    def test_to_dense(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        a = operator.to_dense()
        assert a.dtype == dtype
        assert a.amin() >= 0
        assert_close(a, dense, dtype)

    def test_in_blocks_of_rows(
        self, operator: Operator, dense: Tensor, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(base, "BLOCK_BYTES", 1)
        monkeypatch.setattr(base, "BLOCK_ROWS", 3)
        assert len(list(operator.blocks())) == -(-dense.shape[-1] // 3)
        x = torch.randn(*dense.shape[:-1], 2, dtype=torch.float64)
        assert_close(operator.to_dense(), dense, dtype)
        assert_close(operator.diagonal(), dense.diagonal(dim1=-2, dim2=-1), dtype)
        assert_close(operator.matmul(x), dense @ x, torch.float64)
        assert_close(operator.rmatmul(x), dense.mT @ x, torch.float64)

    def test_rows(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        rows = operator.rows(2, 5)
        assert rows.dtype == dtype
        assert_close(rows, dense[..., 2:5, :], dtype)
        assert_close(operator.rows(0, 1, torch.float64), dense[..., :1, :], torch.float64)

    def test_columns(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        columns = operator.columns(1, 5)
        assert columns.dtype == dtype
        assert_close(columns, dense[..., 1:5], dtype)
        last = dense.shape[-1]
        assert_close(operator.columns(last - 1, last, torch.float64), dense[..., last - 1 :], torch.float64)

    def test_diagonal(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        diagonal = operator.diagonal()
        assert diagonal.dtype == dtype
        assert_close(diagonal, dense.diagonal(dim1=-2, dim2=-1), dtype)

    def test_column_sums(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        sums = operator.column_sums()
        assert sums.dtype == dtype
        assert_close(sums, dense.sum(-2), dtype)

    def test_reshape(self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor) -> None:
        heads = dense.shape[:-2].numel()
        for batch in ((heads,), (1, heads), (heads, 1, 1)):
            flat = operator.reshape(*batch)
            assert flat.shape == (*batch, *dense.shape[-2:])
            assert flat.structure == operator.structure
            a, v = dense.reshape(flat.shape), x.reshape(*batch, *x.shape[-2:])
            assert_close(flat.matmul(v), a @ v.double(), dtype)
            assert_close(flat.rmatmul(v), a.mT @ v.double(), dtype)
            assert_close(flat.to_dense(torch.float64), a, torch.float64)

    def test_reshape_after_use(self, operator: Operator, dense: Tensor, x: Tensor) -> None:
        """What was computed and kept for one shape fits the other."""
        operator.rmatmul(x)
        operator.matmul(x.double())
        back = operator.reshape(dense.shape[:-2].numel()).reshape(*operator.batch)
        assert_close(back.rmatmul(x.double()), dense.mT @ x.double(), torch.float64)
        assert_close(back.matmul(x.double()), dense @ x.double(), torch.float64)

    def test_index(self, operator: Operator, dense: Tensor, dtype: torch.dtype, x: Tensor) -> None:
        indices: list[tuple[object, ...]] = [()]
        if dense.ndim > 2:
            every = [slice(None)] * (dense.ndim - 3)
            heads = dense.shape[-3]
            indices += [
                (0,),
                (-1,),
                (*every, heads - 1),
                (*every, slice(1, None)),
                (*every, torch.tensor([heads - 1, 0])),
                (*every, torch.arange(heads) != 1),
            ]
        for index in indices:
            part = operator.index(*index)
            a, v = dense[index], x[index]
            assert part.shape == a.shape
            assert part.structure == operator.structure
            assert_close(part.matmul(v), a @ v.double(), dtype)
            assert_close(part.rmatmul(v), a.mT @ v.double(), dtype)
            assert_close(part.diagonal(), a.diagonal(dim1=-2, dim2=-1), dtype)

    def test_restrict(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        keep = torch.tensor([0, 1, 3, 4, 6])
        part = restrict(operator, keep)
        block = dense[..., keep, :][..., keep]
        a = block / block.sum(-1, keepdim=True)
        x = torch.randn(*a.shape[:-1], 2, dtype=dtype)
        assert part.shape == a.shape
        assert_close(part.matmul(x), a @ x.double(), dtype)
        assert_close(part.rmatmul(x), a.mT @ x.double(), dtype)
        assert_close(part.to_dense(torch.float64), a, dtype)  # a dense block is stored renormalised
        if operator.structure != "full":
            assert part.structure == operator.structure

    def test_reversed(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        """Who attends to me, in this operator's own form; twice with respect to the image it is the chain again."""
        if (dense.sum(-2) == 0).any():
            with pytest.raises(ChainError, match="attended to by nobody"):
                reverse(operator)
        else:
            back, expected = reverse(operator), oracles.reverse(dense)
            assert back.dtype == dtype
            assert_close(back.to_dense(), expected, dtype)
            assert_close(back.to_dense(torch.float64), expected, torch.float64)
            assert back.source == operator.source
        turned, image = operator.turn(Measure.even(operator))
        assert_close(image.log.exp(), dense.sum(-2), torch.float64)
        assert torch.equal(image.nowhere.expand(dense.shape[:-1]), dense.sum(-2) == 0)
        again, _ = turned.turn(image)
        assert_close(again.to_dense(torch.float64), dense, torch.float64)

    def test_error_of_rows_and_mass(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        n = operator.num_tokens
        units = torch.eye(n, dtype=dtype).expand(*operator.batch, n, n)
        rounding = 4 * n * torch.finfo(dtype).eps
        bound = operator.row_error(dtype)
        assert bound.shape == operator.batch
        assert bound.amax() < TOLERANCE[dtype] * 1000
        for rows in (operator.matmul(units), operator.rmatmul(units).mT, operator.rows(0, n, dtype)):
            off = (rows.double() - dense).abs().sum(-1).amax(-1)
            assert (off <= bound + rounding).all()
            assert (rows.double().sum(-1) - 1).abs().max() <= 16 * math.sqrt(n) * torch.finfo(dtype).eps
        assert operator.source in (QUERIES, WEIGHTS)

    def test_expanded_input(self, operator: Operator, dense: Tensor, dtype: torch.dtype) -> None:
        """One block for all heads, without copies: strides of zero."""
        x = torch.randn(dense.shape[-1], 2, dtype=dtype).expand(*dense.shape[:-1], 2)
        assert_close(operator.matmul(x), dense @ x.double(), dtype)
        assert_close(operator.rmatmul(x), dense.mT @ x.double(), dtype)
